"""Whether a few units stand between a tuned model and a task that it no longer does: curves over the number removed.

Three sets of data keep the answer honest: units are scored on the first, their number K is chosen on the second, and the
curve is shown on the third. Beside every curve stand its controls: random units, the largest and the smallest, the same
procedure on the untouched model, and on a model that never had the task. A task that comes back there too was not hidden.

Source: arXiv:2311.12786, appendix D, algorithm 3. Scoring again after each removal, K chosen on other data, undoing
instead of zeroing, and all controls are ours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnothi.errors import DataError, SpecError
from gnothi.mechanisms.answers import Answers, still
from gnothi.mechanisms.pairs import Pair
from gnothi.mechanisms.pruning_record import PruneCurve, Pruning
from gnothi.mechanisms.pruning_scores import Losses, gradient_scores, leave_one_out, magnitudes
from gnothi.mechanisms.units import Catalogue, Values, values_of
from gnothi.rng import stream

__all__ = ["ORDERS", "PruneCurve", "PruneTask", "Pruning", "Subject", "prune"]

ORDERS = ("gradient", "again", "leave_one_out")
"""How units are put in order: by theta x gradient once, the same with scores anew after each removal, exactly."""

Evaluate = Callable[[nn.Module], float]


@dataclass(frozen=True, eq=False, kw_only=True)
class PruneTask:
    """The task that is to come back, on three sets of data."""

    score_on: Losses
    """Loss of a module, with gradient: what units are scored by."""
    choose_on: Evaluate
    """Higher is better: what K is chosen by. On other data than `score_on`."""
    show_on: Mapping[str, Evaluate]
    """What is reported, by name; the first is the task that is to come back. On data that neither of the others saw."""

    def __post_init__(self) -> None:
        if not self.show_on:
            raise SpecError("PruneTask.show_on must hold at least one evaluation, got none.")

    @classmethod
    def of_answers(cls, score_on: Answers, choose_on: Answers, show_on: Mapping[str, Answers]) -> "PruneTask":
        """Cross-entropy to score by, accuracy to choose and show by.

        Raises:
            DataError: Prompts that are shown are also chosen on: all of them, or the same tensor.
        """
        for name, shown in show_on.items():
            for other, where in ((choose_on, "choose_on"), (score_on, "score_on")):
                if shown.ids is other.ids or (
                    shown.ids.shape == other.ids.shape and bool((shown.ids == other.ids).all())
                ):
                    raise DataError(
                        f"PruneTask.show_on[{name!r}] must be other data than {where}, got the same prompts."
                    )
        shows = {name: answers.accuracy for name, answers in show_on.items()}
        return cls(score_on=score_on.losses, choose_on=choose_on.accuracy, show_on=shows)


@dataclass(frozen=True, eq=False)
class Subject:
    """A module with its units, and what is written into those that are removed."""

    module: nn.Module
    units: Catalogue
    to: Values | None
    """None for zeros."""

    @classmethod
    def of(cls, target: nn.Module | Pair, kind: str) -> "Subject":
        """A module, whose units are zeroed, or a pair, whose tuned member's units are put back to the base's."""
        module = target.tuned if isinstance(target, Pair) else target
        to = values_of(target.base, like=module) if isinstance(target, Pair) else None
        return cls(module, Catalogue(module, kind), to)

    def candidates(self) -> Tensor:
        """Numbers of the units whose removal changes anything."""
        return magnitudes(self.units, self.to).nonzero()[:, 0]


def prune(
    target: nn.Module | Pair,
    task: PruneTask,
    kind: str,
    *,
    most: int,
    untouched: nn.Module | None = None,
    never: nn.Module | Pair | None = None,
    orders: Sequence[str] = ("gradient", "again"),
    step: int = 1,
    counts: Sequence[int] | None = None,
    draws: int = 3,
    tried: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Pruning:
    """Remove units in several orders, with every control.

    Args:
        target: The tuned model, whose units are zeroed; or a pair, whose tuned member's units get the base's values.
        task: The task that is to come back.
        kind: One of `units.KINDS`.
        most: Largest number of units removed.
        untouched: The model before fine-tuning; needed where `target` is a module. For a pair it is the base, on which
            there is nothing to undo, so that it has one point.
        never: A model that never had the task, where there is one (a pair if `target` is one).
        orders: Among `ORDERS`.
        step: Units removed between two scorings of `again`.
        counts: Numbers of units at which curves are evaluated; None for all from 0 to `most`.
        draws: Random orders, at least 3.
        tried: Units that `leave_one_out` tries, best theta x gradient first; None for all. Each costs a pass.
        seed: Of the random orders.
        progress: Called after each curve with curves done and in all.

    Returns:
        All curves. The module is as it was.

    Raises:
        SpecError: An unknown kind or order, fewer than 3 draws, no untouched model, or more units than there are.
    """
    subject = Subject.of(target, kind)
    undo = isinstance(target, Pair)
    base = target.base if isinstance(target, Pair) else untouched
    _check(orders, draws, step, base)
    if tried is not None and tried < most:
        raise SpecError(f"tried must be at least most ({most}), got {tried}. Units that are not tried have no order.")
    if never is not None and isinstance(never, Pair) != undo:
        raise SpecError("never must be a pair where target is one, and a module where it is not, got the other.")
    subject.units.check_count(most)
    ks = tuple(sorted({0, *(range(most + 1) if counts is None else counts)}))
    if ks[0] < 0 or ks[-1] > most:
        raise SpecError(f"counts must lie from 0 to most ({most}), got {ks[0]} to {ks[-1]}.")
    plans: list[tuple[str, str, int, Subject]] = [("tuned", how, 0, subject) for how in orders]
    plans += [("tuned", how, 0, subject) for how in ("largest", "smallest")]
    plans += [("tuned", "random", draw, subject) for draw in range(draws)]
    assert base is not None
    before = Subject(base, Catalogue(base, kind), values_of(base) if undo else None)
    plans += [("untouched", how, 0, before) for how in orders]
    if never is not None:
        plans += [("never_had_it", how, 0, Subject.of(never, kind)) for how in orders]
    curves = []
    for who, how, draw, one in plans:
        order = list(_order(one, task, how, most, step, seed, draw, tried))
        curves.append(_curve(one, task, who, how, draw, order, ks))
        if progress is not None:
            progress(len(curves), len(plans))
    return Pruning(
        kind=kind, n_units=len(subject.units), undo=undo, main=next(iter(task.show_on)), curves=tuple(curves)
    )


def _check(orders: Sequence[str], draws: int, step: int, base: nn.Module | None) -> None:
    wrong = [how for how in orders if how not in ORDERS]
    if wrong or not orders:
        raise SpecError(f"orders must be among {', '.join(ORDERS)}, got {wrong or 'none'}.")
    if draws < 3 or step < 1:
        raise SpecError(
            f"draws must be at least 3 and step at least 1, got {draws} and {step}. One draw has no spread."
        )
    if base is None:
        raise SpecError("untouched must be the model before fine-tuning where a module is pruned, got None.")


def _order(
    subject: Subject, task: PruneTask, how: str, most: int, step: int, seed: int, draw: int, tried: int | None
) -> Iterator[int]:
    """Numbers of at most `most` units, first to be removed first; only units whose removal changes something."""
    units, to, eligible = subject.units, subject.to, subject.candidates()
    most = min(most, len(eligible))
    if how == "random":
        # numbers, not units, are drawn: the same ones in a model that lacks none of them
        picked = stream(seed, "prune", "random", draw).permutation(len(eligible))[:most]
        yield from eligible[torch.from_numpy(picked)].tolist()
    elif how in ("largest", "smallest"):
        sizes = magnitudes(units, to)[eligible]
        yield from eligible[sizes.argsort(descending=how == "largest", stable=True)[:most]].tolist()
    elif how == "leave_one_out":
        among = eligible
        if tried is not None and tried < len(eligible):
            among = eligible[gradient_scores(units, task.score_on, to)[eligible].topk(tried).indices]
        scores = leave_one_out(units, lambda module: _total(task, module), to, among.tolist())
        yield from scores.argsort(descending=True, stable=True)[:most].tolist()
    else:
        removed: list[int] = []
        while len(removed) < most:
            with units.removed(removed, to):
                scores = gradient_scores(units, task.score_on, to)
            kept = torch.full_like(scores, -torch.inf)
            kept[eligible] = scores[eligible]
            kept[removed] = -torch.inf
            size = most if how == "gradient" else min(step, most - len(removed))
            found = kept.topk(size).indices.tolist()
            removed += found
            yield from found


def _total(task: PruneTask, module: nn.Module) -> float:
    parts = task.score_on(module)
    return float(parts) if isinstance(parts, Tensor) else float(sum(float(part) for part in parts))


def _curve(
    subject: Subject, task: PruneTask, who: str, how: str, draw: int, order: Sequence[int], counts: Sequence[int]
) -> PruneCurve:
    ks = [k for k in counts if k <= len(order)]
    choose: list[float] = []
    show: dict[str, list[float]] = {name: [] for name in task.show_on}
    for k in ks:
        with subject.units.removed(order[:k], subject.to) as module, still(module):
            choose.append(float(task.choose_on(module)))
            for name, look in task.show_on.items():
                show[name].append(float(look(module)))
    return PruneCurve(
        who=who,
        how=how,
        draw=draw,
        counts=tuple(ks),
        choose=tuple(choose),
        show={name: tuple(values) for name, values in show.items()},
        units=tuple(subject.units[i] for i in order),
    )
