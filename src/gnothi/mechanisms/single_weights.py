"""One single weight against a thousand: the sharpest form of the claim that fine-tuning put a thin wrapper on.

The candidate weights are the best by theta x gradient; each is zeroed alone, the best is chosen on one batch and scored
on a fresh one. The control is the best of many random weights, chosen on the same batch and scored on the same fresh one,
and it is given many more tries than the candidates are.

Source: arXiv:2311.12786, appendices D and G.1 (the top four weights, each alone). Choosing on another batch and the
control are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gnothi.errors import SpecError
from gnothi.mechanisms.answers import still
from gnothi.mechanisms.pairs import Pair
from gnothi.mechanisms.pruning import PruneTask, Subject
from gnothi.mechanisms.pruning_scores import gradient_scores
from gnothi.mechanisms.units import Unit
from gnothi.rng import stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """One unit, removed alone."""

    unit: Unit | None
    """None: nothing is removed."""
    choose: float
    """What it was chosen by."""
    show: Mapping[str, float]
    """On fresh data, by name."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"unit": None if self.unit is None else str(self.unit), "choose": self.choose, "show": dict(self.show)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """What removing one unit does, against the best of many random ones."""

    n_units: int
    main: str
    """Name of the task that is to come back."""
    before: Removal
    """Nothing removed."""
    best: Removal
    """The candidate that was chosen."""
    top: tuple[Removal, ...]
    """The first candidates, by score, each alone (the paper's W1 to W4)."""
    random: Removal
    """The random unit that was chosen."""
    n_candidates: int
    n_random: int
    random_quantiles: tuple[float, float, float]
    """Median, 95th and 99th percentile of `choose` over the random units."""

    @property
    def lift(self) -> float:
        """What the chosen unit's removal adds on fresh data."""
        return self.best.show[self.main] - self.before.show[self.main]

    @property
    def random_lift(self) -> float:
        """What the chosen random unit's removal adds on fresh data."""
        return self.random.show[self.main] - self.before.show[self.main]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "n_units": self.n_units,
            "main": self.main,
            "before": self.before.to_json(),
            "best": self.best.to_json(),
            "top": [one.to_json() for one in self.top],
            "random": self.random.to_json(),
            "n_candidates": self.n_candidates,
            "n_random": self.n_random,
            "random_quantiles": list(self.random_quantiles),
            "lift": self.lift,
            "random_lift": self.random_lift,
        }


def single_weight(
    target: nn.Module | Pair,
    task: PruneTask,
    *,
    seed: int,
    kind: str = "weights",
    candidates: int = 20,
    random: int = 1000,
    top: int = 4,
) -> Single:
    """Remove one unit: the best of a few candidates, and the best of many random ones.

    Every unit tried costs one evaluation of `choose_on`: a batch of some hundred rows does, since it only has to find the
    best, and what is reported comes from `show_on`.

    Args:
        target: As for `prune`.
        task: The task that is to come back; candidates and random units alike are chosen on `choose_on`.
        seed: Of the random units.
        kind: Single weights, or another of `units.KINDS`.
        candidates: Units tried, best theta x gradient first.
        random: Random units tried, without repeats; all units if there are fewer. Units whose removal changes nothing
            (weights that are 0) are not among them: they would make the control weaker than it looks.
        top: First candidates that are shown each by itself.

    Raises:
        SpecError: More candidates than units, or no random units.
    """
    subject = Subject.of(target, kind)
    eligible = subject.candidates()
    if not 1 <= top <= candidates or random < 1:
        raise SpecError(
            f"single_weight must have 1 <= top <= candidates and random >= 1, got {top}, {candidates}, {random}."
        )
    if candidates > len(eligible):
        raise SpecError(
            f"candidates must be at most {len(eligible)} (the {kind} whose removal changes something), got {candidates}. "
            "Choose fewer."
        )
    scores = gradient_scores(subject.units, task.score_on, subject.to)
    first = eligible[scores[eligible].topk(candidates).indices].tolist()
    order = stream(seed, "single_weight", "random").permutation(len(eligible))[:random]
    others = eligible[torch.from_numpy(order)].tolist()
    found, found_random = _chosen_on(subject, task, first), _chosen_on(subject, task, others)
    quantiles = torch.tensor(found_random, dtype=torch.double).quantile(
        torch.tensor([0.5, 0.95, 0.99], dtype=torch.double)
    )
    best, lucky = (first[found.index(max(found))], others[found_random.index(max(found_random))])
    return Single(
        n_units=len(subject.units),
        main=next(iter(task.show_on)),
        before=_removal(subject, task, None, _chosen_on(subject, task, [None])[0]),
        best=_removal(subject, task, best, max(found)),
        top=tuple(_removal(subject, task, i, value) for i, value in zip(first[:top], found, strict=False)),
        random=_removal(subject, task, lucky, max(found_random)),
        n_candidates=candidates,
        n_random=len(others),
        random_quantiles=(float(quantiles[0]), float(quantiles[1]), float(quantiles[2])),
    )


def _chosen_on(subject: Subject, task: PruneTask, numbers: Sequence[int | None]) -> list[float]:
    found = []
    for i in numbers:
        with subject.units.removed([] if i is None else [i], subject.to) as module, still(module):
            found.append(float(task.choose_on(module)))
    return found


def _removal(subject: Subject, task: PruneTask, i: int | None, choose: float) -> Removal:
    with subject.units.removed([] if i is None else [i], subject.to) as module, still(module):
        show = {name: float(look(module)) for name, look in task.show_on.items()}
    return Removal(unit=None if i is None else subject.units[i], choose=choose, show=show)
