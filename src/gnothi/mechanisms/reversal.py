"""Training back: one training of any module that is looked at as it goes, and the curve that comes of it.

It serves reverse fine-tuning, its controls (from scratch, never had it) and the fine-tunes of the test beds alike. It
knows nothing of tasks: batches, loss and evaluation are functions.

Source: arXiv:2311.12786, sections 4.7 and C.2 (AdamW, batch 96, 20% of warm-up, cosine to a hundredth of the peak), C.1
(SGD with momentum).
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gnothi.errors import SpecError, TrainingError
from gnothi.mechanisms.answers import still
from gnothi.mechanisms.curves import Curve
from gnothi.mechanisms.training_state import load_state, save_state
from gnothi.rng import integer

__all__ = ["OPTIMISERS", "Course", "Curve", "Evaluate", "Schedule", "train_back"]

OPTIMISERS = ("adamw", "sgd")

Batch = TypeVar("Batch")
Evaluate = Callable[[nn.Module], float]
"""A number of a module on held-out data, e.g. its accuracy. Called without gradients and without dropout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The factor on the learning rate: up linearly, then down along a cosine. Constant unless said otherwise.

    >>> paper = Schedule(warmup=0.2, end=0.01)
    >>> [round(paper(step, 10), 2) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.51, 0.05]
    """

    warmup: float = 0.0
    """Share of the steps, in [0, 1)."""
    end: float = 1.0
    """Factor that the cosine would reach one step after the last, in [0, 1]."""

    def __post_init__(self) -> None:
        if not (0 <= self.warmup < 1 and 0 <= self.end <= 1):
            raise SpecError(
                f"Schedule must have warmup in [0, 1) and end in [0, 1], got {self.warmup} and {self.end}. "
                "Both are shares."
            )

    def __call__(self, step: int, steps: int) -> float:
        """The factor at a step (from 0) of `steps`."""
        rising = math.ceil(self.warmup * steps)
        if step < rising:
            return (step + 1) / rising
        along = (step - rising) / (steps - rising)
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * along))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a module is trained and how often it is looked at."""

    steps: int
    every: int
    """Steps between two looks. The start and the end are looked at too."""
    lr: float
    """Peak learning rate."""
    also: tuple[int, ...] = ()
    """Further steps to look at, e.g. early ones."""
    optimiser: str = "adamw"
    schedule: Schedule = field(default_factory=Schedule)
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    momentum: float = 0.9
    """Of SGD."""
    clip: float | None = None
    """Largest norm of the gradient; None for any."""
    until: float | None = None
    """Stop at the first look that finds at least this; None to take all steps."""
    dropout: bool = False
    """Whether the module's dropout acts in training."""
    keep_every: int = 0
    """Steps between two checkpoints; 0 for none."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.every < 1 or not 0 < self.lr < math.inf or self.keep_every < 0:
            raise SpecError(
                "Course must have steps >= 1, every >= 1, lr > 0 and keep_every >= 0, got "
                f"{self.steps}, {self.every}, {self.lr} and {self.keep_every}."
            )
        if self.optimiser not in OPTIMISERS:
            raise SpecError(f"Course.optimiser must be one of {', '.join(OPTIMISERS)}, got {self.optimiser!r}.")
        if any(not 0 <= step <= self.steps for step in self.also):
            raise SpecError(f"Course.also must hold steps from 0 to {self.steps}, got {self.also}.")

    @property
    def looks(self) -> tuple[int, ...]:
        """Steps after which the module is evaluated, in order."""
        return tuple(sorted({*range(0, self.steps, self.every), *self.also, self.steps}))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def train_back(
    module: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    evaluate: Evaluate,
    course: Course,
    *,
    seed: int,
    also: Mapping[str, Evaluate] | None = None,
    parameters: Mapping[str, Tensor] | None = None,
    folder: Path | None = None,
    key: str = "",
    progress: Callable[[int, int, float], None] | None = None,
) -> Curve:
    """Train a module in place and look at it as it goes.

    Args:
        module: What is trained: a copy that is the caller's to change.
        batches: One a step. After a checkpoint the first ones are drawn again and passed over.
        loss: (module, batch) -> a scalar.
        evaluate: What the curve shows, on held-out data.
        course: How.
        seed: Of dropout, where it acts.
        also: Further evaluations at the same looks.
        parameters: What is trained, by name; every parameter of the module if left out.
        folder: Where checkpoints go, and where one is looked for; the caller removes it.
        key: Says what decides this training; a checkpoint of another is refused.
        progress: Called after each step with steps done, steps in all and the loss.

    Returns:
        The curve. A loss that is no number ends the curve and is no error: a rate may be too large.

    Raises:
        TrainingError: Batches that run out.
        StoreError: A checkpoint of another training, or one that cannot be written.
    """
    tuned = dict(module.named_parameters()) if parameters is None else dict(parameters)
    optimiser = _optimiser(course, tuned.values())
    named = {"": evaluate, **(also or {})}
    steps: list[int] = []
    values: dict[str, list[float]] = {name: [] for name in named}
    losses: list[float] = []
    kept = {**tuned, **dict(module.named_buffers())}
    draws = torch.Generator().manual_seed(integer(seed, "train_back", "dropout"))
    looks, ended, step = set(course.looks), "whole", 0
    # torch's dropout draws from its one global stream, which is lent to this training and given back
    place = next(iter(tuned.values())).device
    devices = [place.index or 0] if place.type == "cuda" else []
    with _training(module, tuned.values(), course.dropout), torch.random.fork_rng(devices=devices):
        torch.default_generator.set_state(draws.get_state())
        streams = {"torch": torch.default_generator}
        for device in devices:
            streams["cuda"] = torch.cuda.default_generators[device]
            streams["cuda"].manual_seed(draws.initial_seed())
        if folder is not None:
            facts = load_state(folder, kept, optimisers=[optimiser], streams=streams, key=key)
            if facts is not None:
                step, steps, losses = facts["step"], facts["steps"], facts["losses"]
                values = {name: facts["values"][name] for name in named}
        source = itertools.islice(iter(batches), step, None)
        while True:
            if step in looks and (not steps or steps[-1] < step):
                steps.append(step)
                with still(module):
                    for name, look in named.items():
                        values[name].append(float(look(module)))
                if course.until is not None and values[""][-1] >= course.until:
                    ended = "reached"
                    break
            if step == course.steps:
                break
            if folder is not None and course.keep_every and step and step % course.keep_every == 0:
                facts = {"step": step, "steps": steps, "values": values, "losses": losses}
                save_state(folder, kept, optimisers=[optimiser], streams=streams, facts=facts, key=key)
            found = _step(module, source, loss, optimiser, course, step, tuned.values())
            if not math.isfinite(found):
                ended = "broke"
                break
            losses.append(found)
            step += 1
            if progress is not None:
                progress(step, course.steps, found)
    return Curve(
        steps=tuple(steps),
        values=tuple(values.pop("")),
        others={name: tuple(found) for name, found in values.items()},
        losses=tuple(losses),
        horizon=course.steps,
        ended=ended,
    )


def _optimiser(course: Course, tuned: Iterable[Tensor]) -> torch.optim.Optimizer:
    if course.optimiser == "sgd":
        return torch.optim.SGD(tuned, lr=course.lr, momentum=course.momentum, weight_decay=course.weight_decay)
    return torch.optim.AdamW(tuned, lr=course.lr, betas=course.betas, weight_decay=course.weight_decay, fused=True)


def _step(
    module: nn.Module,
    source: Iterator[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    optimiser: torch.optim.Optimizer,
    course: Course,
    step: int,
    tuned: Iterable[Tensor],
) -> float:
    """One update, left out where the loss is no number; returns the loss."""
    try:
        batch = next(source)
    except StopIteration:
        raise TrainingError(
            f"batches must last for {course.steps} steps, got {step}. Give an iterator that goes on."
        ) from None
    for group in optimiser.param_groups:
        group["lr"] = course.lr * course.schedule(step, course.steps)
    value = loss(module, batch)
    found = float(value.detach())
    if math.isfinite(found):
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        if course.clip is not None:
            nn.utils.clip_grad_norm_(list(tuned), course.clip)
        optimiser.step()
    return found


@contextlib.contextmanager
def _training(module: nn.Module, tuned: Iterable[Tensor], dropout: bool) -> Iterator[None]:
    """Gradients for what is tuned and for nothing else; as it was afterwards."""
    flags = [(part, part.training) for part in module.modules()]
    before = [(p, p.requires_grad) for p in (*module.parameters(), *tuned)]
    for parameter, _ in before:
        parameter.requires_grad_(False)
    for parameter in tuned:
        parameter.requires_grad_(True)
    module.train(dropout)
    try:
        with torch.enable_grad():
            yield
    finally:
        for part, training in flags:
            part.training = training
        for parameter, needed in reversed(before):
            parameter.requires_grad_(needed)
            parameter.grad = None
