"""Makes the units of the compiled-program lab; torch is here."""

import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnothi.errors import TrainingError
from gnothi.experiments.fields import parsed
from gnothi.experiments.labs.base import Bench, LabJob, UnitData
from gnothi.experiments.labs.tracr_spec import RATES, TracrSpec
from gnothi.files import canonical
from gnothi.mechanisms.answers import Answers
from gnothi.mechanisms.attention import attention_maps
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.pruning import PruneTask, prune
from gnothi.mechanisms.reversal import Course, Curve, Schedule, train_back
from gnothi.mechanisms.single_weights import single_weight
from gnothi.mechanisms.sites import Site
from gnothi.mechanisms.units import Unit, zeroed
from gnothi.rng import integer, stream
from gnothi.testbeds.rasp import Compiled, Scales, compile_program
from gnothi.testbeds.rasp.tasks import Drawn
from gnothi.testbeds.transformer import Block, Transformer

SETS = {"old/0": ("old", 0.0), "old/100": ("old", 1.0), "new/0": ("new", 0.0), "new/100": ("new", 1.0)}
"""Which task's answers count, and the share of correlated strings (C_Te)."""
LOOK = 200
"""Strings of a look at a model in training."""
CURVE_KINDS = ("weights", "neurons")
"""What is removed one after another."""
PARTS = ("attn", "mlp.up", "mlp.down")
"""Where noise is tried alone."""

Batch = tuple[Tensor, Tensor, Tensor | None]


def work(spec: Mapping[str, Any], job: LabJob, bench: Bench) -> UnitData:
    """Make one unit; see `base.AbstractLab.work`."""
    found: Callable[[Setting, LabJob, Bench], UnitData] = {
        "compiled": _compiled,
        "never": _never,
        "tuned": _tuned,
        "curve": _curve,
        "back": _back,
    }[job.payload["kind"]]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices are too small for more, and the same seed then gives the same numbers
    try:
        return found(setting(canonical(dict(spec)), job.payload["task"]), job, bench)
    finally:
        torch.set_num_threads(threads)


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


def _compiled(setting: Setting, job: LabJob, bench: Bench) -> UnitData:
    """The program, whether it is exact, and how much noise it bears."""
    spec, task = setting.spec, setting.task
    started = time.perf_counter()
    compiled = setting.compile(task.old)
    seconds = time.perf_counter() - started
    sets = {"any": None, "0": 0.0, "100": 1.0}
    untouched = {
        name: setting.answers(job.seed, "untouched", spec.test, "old", share).accuracy(compiled.module)
        for name, share in sets.items()
    }
    rows: list[dict[str, Any]] = []
    tests = {spec.seed + i: setting.test(spec.seed + i)["old/0"] for i in range(spec.seeds)}
    for done, level in enumerate(spec.noise):
        for seed, answers in tests.items():
            for part in ("", *PARTS) if seed == spec.seed else ("",):
                accuracy = answers.accuracy(setting.noisy(level, seed, part=part))
                rows.append({"level": level, "noisy_seed": seed, "part": part or "all", "accuracy": accuracy})
        bench.report(done + 1, len(spec.noise), "noise")
    table = pd.DataFrame(rows)
    kept = [
        level
        for level in spec.noise
        if min(r["accuracy"] for r in rows if (r["level"], r["part"]) == (level, "all")) >= spec.kept
    ]
    record = {
        "untouched": untouched,
        "noise": max(kept, default=0.0),
        "parameters": compiled.n_parameters,
        "compile_seconds": seconds,
        "shape": compiled.module.shape.to_json(),
        "seconds_kind": "compile",
        **_looked_at(setting, compiled.module),
    }
    return UnitData(record=record, tables={"noise": table}, tensors=_maps(setting, compiled.module))


def _tuned(setting: Setting, job: LabJob, bench: Bench) -> UnitData:
    """A fine-tune on the new task, what came of it, and what removing one weight does."""
    spec, task, seed = setting.spec, setting.task, job.seed
    level = bench.parent(f"{task.name}-compiled").record["noise"]
    module = setting.noisy(level, seed)
    rate, share = job.payload["rate"], job.payload["correlated"]
    tests = setting.test(seed)
    before = {name: answers.accuracy(module) for name, answers in tests.items()}
    curve = setting.train(module, rate, setting.batches(seed, f"tune/{rate}/{share}", "new", share), job, bench)
    record = {"before": before, "noise": level, **_outcome(curve, module, tests)}
    if curve.ended != "broke":
        record |= _looked_at(setting, module)
        if share == 1 and task.name == "counter":
            bench.report(0, 1, "pruning")
            record["pruned"] = _pruned(setting, module, seed)
    back = share in spec.back_correlated and rate in ("medium", "large")
    curve_ = share in spec.curve_correlated and rate in spec.curve_rates
    tensors = _maps(setting, module) if curve.ended != "broke" and seed == spec.seed else {}
    if task.name == "counter" and (back or curve_):
        tensors = tensors | {f"trained.{name}": values.detach() for name, values in trained(module).items()}
    return UnitData(record=record, tables={"curve": _table(curve)}, tensors=tensors)


def _never(setting: Setting, job: LabJob, bench: Bench) -> UnitData:
    """A program of the new task alone: what removing one weight does where the old task never was."""
    level = bench.parent(f"{setting.task.name}-compiled").record["noise"]
    module = setting.noisy(level, job.seed, never=True)
    accuracy = {name: answers.accuracy(module) for name, answers in setting.test(job.seed).items()}
    record = {"final": accuracy, "noise": level, "pruned": _pruned(setting, module, job.seed)}
    return UnitData(record=record | _looked_at(setting, module))


def _curve(setting: Setting, job: LabJob, bench: Bench) -> UnitData:
    """Weights and neurons of one fine-tune set to zero one after another, with every control beside."""
    spec, seed = setting.spec, job.seed
    level = bench.parent("counter-compiled").record["noise"]
    module = _stored(setting, bench.parent(job.payload["of"]), level, seed)
    if module is None:
        return UnitData(record={"reason": "its fine-tune broke"})
    record: dict[str, Any] = {"noise": level}
    if job.payload["correlated"] < 1:
        bench.report(0, 1, "one weight")
        record["pruned"] = _pruned(setting, module, seed)
    score_on, choose_on = (setting.answers(seed, use, spec.choose, "old", 0.0) for use in ("score", "choose"))
    task = PruneTask.of_answers(score_on, choose_on, setting.test(seed, "shown"))
    tables = {}
    for kind in CURVE_KINDS:
        found = prune(
            module,
            task,
            kind,
            most=spec.most,
            untouched=setting.noisy(level, seed),
            never=setting.noisy(level, seed, never=True),
            seed=seed,
            progress=lambda done, total, kind=kind: bench.report(done, total, f"remove {kind}"),
        )
        record[kind] = {
            f"{c.who}/{c.how}/{c.draw}": {
                "k": c.chosen,
                "lift": c.at("old/0") - c.at("old/0", 0),
                **{name: c.at(name) for name in c.show},
            }
            for c in found.curves
        }
        tables[kind] = pd.DataFrame(found.rows())
    return UnitData(record=record, tables=tables)


def _stored(setting: Setting, tuned: UnitData, level: float, seed: int) -> nn.Module | None:
    """A fine-tune that was kept; None where it broke."""
    if tuned.record["ended"] == "broke":
        return None
    module = setting.noisy(level, seed)
    with torch.no_grad():
        for name, values in trained(module).items():
            values.copy_(tuned.tensors[f"trained.{name}"])
    return module


def _back(setting: Setting, job: LabJob, bench: Bench) -> UnitData:
    """Training on the old task again, on strings as they come: of a fine-tune, or of a program that never had it."""
    task, seed = setting.task, job.seed
    base = bench.parent(f"{task.name}-compiled")
    level = base.record["noise"]
    if "of" in job.payload:
        kept = _stored(setting, bench.parent(job.payload["of"]), level, seed)
        if kept is None:
            return UnitData(record={"ended": "broke", "final": None, "reason": "its fine-tune broke"})
        module = kept
    else:
        module = setting.noisy(level, seed, never=True)
    batches = setting.batches(seed, "back", "old", None)
    curve = setting.train(module, job.payload["rate"], batches, job, bench)
    record = _outcome(curve, module, setting.test(seed))
    return UnitData(record=record, tables={"curve": _table(curve)})


def _outcome(curve: Curve, module: nn.Module, tests: Mapping[str, Answers]) -> dict[str, Any]:
    """What a training came to; a diverged one has no accuracies."""
    broke = curve.ended == "broke"
    return {
        "losses": list(curve.losses),
        "ended": curve.ended,
        "final": None if broke else {name: answers.accuracy(module) for name, answers in tests.items()},
        "reason": "training diverged" if broke else "",
    }


def _table(curve: Curve) -> pd.DataFrame:
    return pd.DataFrame({"step": curve.steps, "old/0": curve.values, **dict(curve.others.items())})


def _pruned(setting: Setting, module: nn.Module, seed: int) -> dict[str, Any]:
    """One weight, against the best of many random ones: chosen on uncorrelated strings, shown on others."""
    spec = setting.spec
    score_on = setting.answers(seed, "score", spec.choose, "old", 0.0)
    choose_on = setting.answers(seed, "choose", spec.choose, "old", 0.0)
    shown = setting.test(seed, "shown")
    found = single_weight(
        module,
        PruneTask.of_answers(score_on, choose_on, shown),
        seed=seed,
        candidates=spec.candidates,
        random=spec.random,
    )
    result = found.to_json()
    unit = found.best.unit
    if unit is None:
        raise TrainingError("single_weight must find a weight, got none.")
    classes = len(setting.compiled.outputs.values)
    result["before_classes"] = shown["old/0"].histogram(module, classes)
    with zeroed(module, [unit]):
        result["after_classes"] = shown["old/0"].histogram(module, classes)
    result["right_classes"] = torch.bincount(shown["old/0"].labels, minlength=classes).tolist()
    result["value"] = _entry(module, unit)
    result["says"] = _direction(setting.compiled, unit)
    return result


def _entry(module: nn.Module, unit: Unit) -> float:
    matrix = module.get_parameter(f"blocks.{unit.block}.{unit.part}.weight").detach()
    return float(matrix[unit.index])


def _direction(compiled: Compiled, unit: Unit) -> str:
    """The direction of the stream that a weight reads or writes."""
    row, column = unit.index
    reads = unit.part in ("attn.q", "attn.k", "attn.v", "mlp.up")
    return f"{'reads' if reads else 'writes'} {compiled.directions[column if reads else row]}"


def _looked_at(setting: Setting, module: nn.Module) -> dict[str, Any]:
    """Attention of the answering position in the block that counts, by what is attended to, mean over strings."""
    task, compiled = setting.task, setting.compiled
    answers = setting.answers(setting.spec.seed, "attention", LOOK, "old", 0.0)
    block = min(1, compiled.module.shape.layers - 1)
    maps = attention_maps(module, answers.ids, answers.mask)[block][:, 0, task.answer_row]  # (n, T)
    if task.name != "counter":
        return {"attention": {"beginning": float(maps[:, 0].mean())}}
    said = {"old": task.old, "new": task.new, "end": task.letters, "beginning": compiled.beginning}
    shares = {name: float((maps * (answers.ids == token)).sum(1).mean()) for name, token in said.items()}
    return {"attention": {**shares, "others": 1 - sum(shares.values())}}


def _maps(setting: Setting, module: nn.Module) -> dict[str, Tensor]:
    """Attention maps and first-MLP activations on one correlated string."""
    answers = setting.answers(setting.spec.seed, "example", 1, "old", 1.0)
    maps = attention_maps(module, answers.ids, answers.mask)
    site = Site.parse("block.0.mlp.neurons")
    _, kept = capture(module, answers.ids, [site], mask=answers.mask)
    return {
        "example": answers.ids[0].to(torch.int64),
        "attention": torch.stack([m[0, 0] for m in maps]),
        "activations": kept[site][0].detach(),
    }
