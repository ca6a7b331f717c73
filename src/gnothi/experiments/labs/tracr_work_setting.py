"""What the units of one task of the compiled-program lab share: its programs, its strings, how they are trained."""

import copy
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnothi.experiments.fields import parsed
from gnothi.experiments.labs.base import Bench, LabJob
from gnothi.experiments.labs.tracr_spec import RATES, TracrSpec
from gnothi.mechanisms.answers import Answers
from gnothi.mechanisms.reversal import Course, Curve, Schedule, train_back
from gnothi.rng import integer, stream
from gnothi.testbeds.rasp import Compiled, Scales, compile_program
from gnothi.testbeds.rasp.tasks import Drawn
from gnothi.testbeds.transformer import Block, Transformer

SETS = {"old/0": ("old", 0.0), "old/100": ("old", 1.0), "new/0": ("new", 0.0), "new/100": ("new", 1.0)}
"""Which task's answers count, and the share of correlated strings (C_Te)."""
LOOK = 200
"""Strings of a look at a model in training."""

Batch = tuple[Tensor, Tensor, Tensor | None]


@lru_cache(maxsize=4)
def setting(spec: str, task: str) -> "Setting":
    """The setting of a task in a specification in JSON."""
    return Setting(parsed(TracrSpec, json.loads(spec)), task)


class Setting:
    """What the units of one task share: its programs and how they are trained.

    Args:
        spec: The specification.
        task: `counter` or `max`.
    """

    def __init__(self, spec: TracrSpec, task: str) -> None:
        self.spec, self.task = spec, spec.task(task)
        self.compiled = self.compile(self.task.old)

    def compile(self, operand: int) -> Compiled:
        """The program of one operand."""
        task, spec = self.task, self.spec
        ramp = spec.ramp if task.name == "counter" else spec.max_ramp
        scales = Scales(sharpness=spec.sharpness, gain=spec.gain, ramp=ramp, hidden=spec.hidden)
        return compile_program(task.program(operand), task.vocabulary, task.positions, scales=scales, logit=spec.logit)

    def noisy(self, level: float, seed: int, *, never: bool = False, part: str = "") -> nn.Module:
        """A compiled model with noise on what is trained.

        Args:
            level: Its s.d.
            seed: Of the noise.
            never: Whether the program is that of the new task: a model that never had the old one.
            part: Only parameters with this in their name.
        """
        module = copy.deepcopy(self.compile(self.task.new).module if never else self.compiled.module)
        draws = torch.Generator().manual_seed(integer(seed, "tracr", self.task.name, "noise"))
        with torch.no_grad():
            for name, values in trained(module).items():
                noise = torch.randn(values.shape, generator=draws)
                if part in name:
                    values += level * noise
        return module

    def drawn(self, seed: int, use: str, n: int, correlated: float | None) -> Drawn:
        """Strings for one use."""
        return self.task.draw(stream(seed, "tracr", self.task.name, use), n, correlated)

    def answers(self, seed: int, use: str, n: int, which: str, correlated: float | None) -> Answers:
        """Strings for one use with one task's answers; both tasks see the same strings."""
        ids, labels, mask = self.batch(self.drawn(seed, f"{use}/{correlated}", n, correlated), which)
        return Answers(ids=ids, labels=labels, mask=mask, at=self.task.answer_row)

    def batch(self, drawn: Drawn, which: str) -> Batch:
        """Tokens, answers and mask."""
        ids = torch.from_numpy(drawn.ids)
        mask = self.compiled.mask(ids)
        return ids, torch.from_numpy(drawn.new if which == "new" else drawn.old), None if bool(mask.all()) else mask

    def test(self, seed: int, use: str = "test", n: int = 0) -> dict[str, Answers]:
        """The four test sets."""
        return {k: self.answers(seed, use, n or self.spec.test, which, c) for k, (which, c) in SETS.items()}

    def batches(self, seed: int, use: str, which: str, correlated: float | None) -> Iterator[Batch]:
        """Endless training batches."""
        rng = stream(seed, "tracr", self.task.name, use)
        while True:
            yield self.batch(self.task.draw(rng, self.spec.batch, correlated), which)

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of the answer, nats."""
        ids, labels, mask = batch
        return F.cross_entropy(answer_logits(module, ids, mask, self.task.answer_row), labels)

    def train(self, module: nn.Module, rate: str, batches: Iterator[Batch], job: LabJob, bench: Bench) -> Curve:
        """Train in place; what is looked at are the four test sets, on fewer strings."""
        spec, looks = self.spec, self.test(job.seed, "look", LOOK)
        course = Course(
            steps=spec.steps,
            every=max(1, spec.steps // 20),
            lr=RATES[rate],
            optimiser="sgd",
            schedule=Schedule(warmup=spec.warmup, end=spec.end),
            momentum=spec.momentum,
            clip=spec.clip,
            keep_every=1000,
        )
        return train_back(
            module,
            batches,
            self.loss,
            looks["old/0"].accuracy,
            course,
            seed=job.seed,
            also={name: looks[name].accuracy for name in SETS if name != "old/0"},
            parameters=trained(module),
            folder=bench.checkpoints,
            key=job.name,
            progress=lambda done, total, _: bench.report(done, total, "training") if done % 50 == 0 else None,
        )


def answer_logits(module: nn.Module, ids: Tensor, mask: Tensor | None, row: int) -> Tensor:
    """(B, outputs) logits at one row: those of `module(ids, mask, at=row)`, the last block computed only there."""
    model = cast(Transformer, module)
    seen = None if mask is None else mask[:, None, None, :]
    x = model.embed(ids) + model.positions.weight[: ids.shape[1]]
    *blocks, last = cast(list[Block], list(model.blocks))
    for block in blocks:
        x = block(x, seen)
    attn = last.attn
    here = x[:, row : row + 1]
    q, k, v = (
        part(of).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for part, of in ((attn.q, here), (attn.k, x), (attn.v, x))
    )
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    here = here + attn.o(found.transpose(1, 2).flatten(2))
    return model.head((here + last.mlp(here))[:, 0])


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """What noise is added to and what is trained: the matrices of attention and MLPs, which can be pruned, too."""
    return {name: values for name, values in module.named_parameters() if name.startswith("blocks.")}
