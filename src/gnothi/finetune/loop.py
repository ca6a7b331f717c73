"""The one training loop: embedding rows, LoRA, both or every parameter; one adapter, or a fleet of them at once.

The loss is the cross-entropy of answer tokens only, in nats, a mean over the step's answer tokens in which a row counts
by its weight. Only gradients that are needed are computed, and the head is applied at answer positions only. The base
model is as it was afterwards, whatever happens. Knows nothing of behaviours.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from gnothi.errors import ModelError, SpecError, TrainingError
from gnothi.files import digest
from gnothi.finetune.batches import encode_rows, n_steps, plan
from gnothi.finetune.checkpoint import Checkpoint, Kept
from gnothi.finetune.passes import Passes
from gnothi.finetune.recipes import Recipe
from gnothi.finetune.trainable import Member, Trainable, fold
from gnothi.models.adapter_files import load_adapter, save_adapter
from gnothi.models.adapters import Adapter, AdapterSpec
from gnothi.models.local import LocalModel
from gnothi.records import TrainRow

__all__ = ["Gate", "Progress", "TrainJob", "TrainRow", "Trained", "train"]

Progress = Callable[[int, int, float], None]
"""Called after every step with steps done, steps in all, and the mean loss over jobs in nats."""

Gate = Callable[[int, str, LocalModel], bool]
"""Called with steps done, the job's name and the model as tuned so far; True stops that job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """One model to be tuned; what is None is the recipe's."""

    name: str
    rows: Sequence[TrainRow]
    seed: int
    """Decides the order of the rows and where LoRA starts."""
    parent: Path | None = None
    """Folder of the adapter that training goes on from; what the recipe does not tune stays as it is there."""
    row_words: tuple[str, ...] = ()
    """Words whose embedding rows are tuned, one token each; the groups of `rows` if empty."""
    lr: float | None = None
    row_lr: float | None = None
    rank: int | None = None
    alpha: float | None = None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A tuned model's adapter and how it came about."""

    name: str
    adapter: Adapter
    losses: list[float]
    """Mean loss of each step, nats per answer token, before that step's update."""
    tokens_seen: int
    """Tokens of the rows that were trained on, prompts included, however often each went through the model."""
    answer_tokens_seen: int
    """Those that the loss was on."""
    steps: int
    seconds: float
    """Wall time of the fleet divided by its number of jobs, of all its parts if it was interrupted."""
    stopped_early: bool
    """Whether the gate stopped it."""
    module: nn.Module = field(repr=False)
    """The base module."""

    @property
    def digest(self) -> str:
        """The adapter's digest."""
        return self.adapter.digest

    def save(self, folder: Path) -> None:
        """Write the adapter as a new folder; see `models.adapter_files.save_adapter`."""
        save_adapter(self.adapter, Path(folder), self.module)


def train(
    model: LocalModel,
    jobs: Sequence[TrainJob],
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    gate: Gate | None = None,
    together: bool = True,
    checkpoint: Path | None = None,
) -> list[Trained]:
    """Tune a model on rows, once for each job.

    Jobs with parents of one shape are trained together as one fleet on one module, which gives each what it would have
    got alone, up to rounding; jobs of kind `full` are trained in turn.

    Args:
        model: The model that is tuned. Its own adapter, if it has one, is the parent of jobs that name none.
        jobs: What to tune; names are unique.
        recipe: How.
        progress: Called after every step.
        gate: Called every `recipe.gate_every` steps for each job.
        together: False trains the jobs one by one; `fleet.choose` measures which is faster.
        checkpoint: A folder to keep the last checkpoint in, and to go on from if there is one. The caller removes it.

    Returns:
        One result a job, in order. On a CPU in float32 with one thread, bit for bit the same for the same arguments,
        interrupted or not.

    Raises:
        SpecError: Jobs, a recipe and a parent that do not fit together.
        ModelError: A parent of another base model, a row word that is not one token, or too little memory for one row.
        TrainingError: No rows, a word to tune that no row contains, or a loss that is not finite.
        StoreError: A checkpoint of another training, or one that cannot be written.
    """
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        raise SpecError(f"jobs must have unique names, got {names}.")
    if recipe.kind == "full" and model.dtype != "float32":
        raise ModelError(
            f"model must be float32 for kind 'full', got {model.dtype}: small updates would be lost. Load it in float32."
        )
    fleets: dict[tuple[object, ...], list[tuple[int, Member]]] = {}
    for i, job in enumerate(jobs):
        found = member(model, job, recipe)
        alone = recipe.kind == "full" or (found.parent is not None and bool(found.parent.full)) or not together
        layers = () if found.parent is None else tuple(sorted(found.parent.lora))
        fleets.setdefault((layers, i if alone else -1), []).append((i, found))
    done: dict[int, Trained] = {}
    for number, fleet in enumerate(fleets.values()):
        # neighbours of one rate and length share the optimiser's call
        fleet.sort(key=lambda pair: (pair[1].steps, pair[1].lr, pair[1].row_lr))
        members = [m for _, m in fleet]
        path = None if checkpoint is None else checkpoint / f"fleet-{number}.safetensors"
        keys = [_key(model, m, recipe) if path else "" for m in members]
        kept = Checkpoint(path, keys, recipe.checkpoint_every)
        results = _Fleet(model, members, recipe).train(progress, gate, kept)
        done.update(zip((i for i, _ in fleet), results, strict=True))
    return [done[i] for i in range(len(jobs))]


def member(model: LocalModel, job: TrainJob, recipe: Recipe) -> Member:
    """A job with its rows as tokens, its parent, and what it leaves to the recipe.

    Raises:
        SpecError: A value that the recipe has no use for, or an impossible one.
    """
    tuned = {"lr": recipe.kind != "rows", "row_lr": "rows" in recipe.kind}
    tuned |= {"rank": "lora" in recipe.kind, "alpha": "lora" in recipe.kind}
    values = {name: getattr(job, name) for name in tuned}
    for name, value in values.items():
        if value is not None and not tuned[name]:
            raise SpecError(f"job {job.name!r} must leave {name} to a recipe of kind {recipe.kind!r}, got {value!r}.")
        if value is not None and not (0 < value < math.inf):
            raise SpecError(f"{name} of job {job.name!r} must be above 0, got {value!r}.")
    values = {name: getattr(recipe, name) if value is None else value for name, value in values.items()}
    rows = encode_rows(model.codec, job.rows, recipe.end_of_answer)
    parent = model.adapter if job.parent is None else load_adapter(job.parent)
    if parent is not None and job.parent is not None:
        parent.check(model.with_adapter(None).module, model.base_digest)
    steps = n_steps([r.group for r in rows], recipe)
    return Member(job=job, rows=rows, parent=parent, steps=steps, **values)


def _key(model: LocalModel, found: Member, recipe: Recipe) -> str:
    """Digest of what decides a job's training."""
    how = {name: value for name, value in recipe.to_json().items() if name not in ("checkpoint_every", "source")}
    job = {
        "name": found.job.name,
        "seed": found.job.seed,
        "words": found.job.row_words,
        "parent": None if found.parent is None else found.parent.digest,
        "own": [found.lr, found.row_lr, found.rank, found.alpha],
        "rows": [[row.ids, row.start, row.weight, row.group] for row in found.rows],
    }
    return digest([model.base_digest, model.dtype, model.device.type, how, job])


@dataclass(slots=True)
class _Course:
    """How far a fleet is."""

    losses: list[list[float]]
    tokens: list[int]
    answer_tokens: list[int]
    micro_tokens: int
    stopped: list[int] = field(default_factory=list)
    """Jobs that the gate stopped."""
    step: int = 0
    seconds: float = 0.0


class _Fleet:
    """Jobs that are trained together."""

    def __init__(self, model: LocalModel, members: Sequence[Member], recipe: Recipe):
        self.model, self.members, self.recipe = model, members, recipe
        k = len(members)
        self.plans = [plan([r.group for r in m.rows], recipe, m.job.seed) for m in members]
        self.steps = max(m.steps for m in members)
        self.course = _Course([[] for _ in range(k)], [0] * k, [0] * k, recipe.micro_tokens)

    def train(self, progress: Progress | None, gate: Gate | None, kept: Checkpoint) -> list[Trained]:
        """Every step from the first, or from the checkpoint, to the last."""
        started, recipe, found = time.perf_counter(), self.recipe, kept.load()
        with self.model.with_adapter(None).bare() as module:
            if found is not None and found.over:
                return self._done(found, kept.keys, module)
            trainable = Trainable(self.model, module, self.members, recipe)
            with trainable.on():
                if found is not None:
                    self.course = _Course(**found.facts)
                    trainable.optimiser.restore(found.tensors, self.course.stopped)
                course, before = self.course, self.course.seconds
                passes = Passes(module, trainable.stack, trainable.optimiser, recipe, course.micro_tokens)
                while live := self._live():
                    with passes.on():
                        self._step(live, trainable, passes)
                    if progress is not None:
                        progress(course.step, self.steps, sum(course.losses[j][-1] for j in live) / len(live))
                    if gate is not None and recipe.gate_every and course.step % recipe.gate_every == 0:
                        self._ask(gate, trainable)
                    course.seconds = before + time.perf_counter() - started
                    if kept.due(course.step):
                        kept.save(trainable.optimiser.tensors(), dataclasses.asdict(course))
                adapters = [trainable.adapter(j) for j in range(len(self.members))]
            adapters = [fold(a, module) if a.full and (a.lora or a.rows is not None) else a for a in adapters]
        course.seconds = before + time.perf_counter() - started
        if kept.due_at_end():
            tensors = {f"{j}.{name}": t for j, a in enumerate(adapters) for name, t in a.tensors().items()}
            specs = [dataclasses.asdict(a.spec) for a in adapters]
            kept.save(tensors, {"course": dataclasses.asdict(course), "specs": specs}, over=True)
        return [self._trained(m.job.name, course, j, adapters[j], module) for j, m in enumerate(self.members)]

    def _done(self, found: Kept, keys: Sequence[str], module: nn.Module) -> list[Trained]:
        """What was trained before, these jobs or a fleet that they were part of."""
        course = _Course(**found.facts["course"])
        results = []
        for member, key in zip(self.members, keys, strict=True):
            j = found.keys.index(key)
            tensors = {n.removeprefix(f"{j}."): t for n, t in found.tensors.items() if n.startswith(f"{j}.")}
            spec: dict[str, Any] = found.facts["specs"][j]
            spec |= {name: tuple(value) for name, value in spec.items() if isinstance(value, list)}
            adapter = Adapter.of_tensors(AdapterSpec(**spec), tensors, self.model.base_digest)
            results.append(self._trained(member.job.name, course, j, adapter, module))
        return results

    def _live(self) -> list[int]:
        """Jobs that have steps left."""
        course = self.course
        return [j for j, m in enumerate(self.members) if j not in course.stopped and course.step < m.steps]

    def _step(self, live: Sequence[int], trainable: Trainable, passes: Passes) -> None:
        course = self.course
        taken = [(j, self.members[j].rows[i]) for j in live for i in self.plans[j][course.step]]
        by_job = passes.gradients(taken)
        for j in live:
            if not math.isfinite(by_job[j]):
                raise TrainingError(
                    f"loss of job {self.members[j].job.name!r} must be finite, got {by_job[j]} at step {course.step}. "
                    "Lower the learning rate or set clip."
                )
            course.losses[j].append(by_job[j])
        for j, row in taken:
            course.tokens[j] += len(row.ids) - 1
            course.answer_tokens[j] += row.n_answer
        trainable.optimiser.clip()
        trainable.optimiser.step(course.step)
        course.step, course.micro_tokens = course.step + 1, passes.micro_tokens

    def _ask(self, gate: Gate, trainable: Trainable) -> None:
        """Let the gate stop jobs that have steps left."""
        for j in self._live():
            view = self.model.with_adapter(trainable.adapter(j))
            if gate(self.course.step, self.members[j].job.name, view):
                self.course.stopped.append(j)
                trainable.optimiser.freeze(j)
        self.model._base.switch(trainable.stack)  # the gate may have left another one on

    def _trained(self, name: str, course: _Course, j: int, adapter: Adapter, module: nn.Module) -> Trained:
        return Trained(
            name=name,
            adapter=adapter,
            losses=course.losses[j],
            tokens_seen=course.tokens[j],
            answer_tokens_seen=course.answer_tokens[j],
            steps=len(course.losses[j]),
            seconds=course.seconds / len(course.losses),
            stopped_early=j in course.stopped,
            module=module,
        )
