"""Revival: does a capability come back sooner in a tuned model than in models that never had it?

Several starts (arms) are trained on the old task with one recipe, each at the learning rate that suits it best, over
seeds; what counts is the steps until a level is reached. A rate is tuned for each arm on seeds and data of its own: with
one rate for all, an arm looks slow because the rate is not its rate.

A start that does not get there within the horizon is right-censored: it is reported as such, and never averaged in.

Source: reverse fine-tuning is arXiv:2311.12786, sections 4.7 and D. Tuning by arm, levels, intervals over seeds, and the
arms that never had the capability or never lost it, are ours.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from torch import Tensor, nn

from gnothi.errors import DataError, SpecError, StoreError
from gnothi.files import digest, write_atomically
from gnothi.intervals import missing, over_units
from gnothi.mechanisms.reversal import Course, Curve, Evaluate, train_back
from gnothi.mechanisms.training_state import FILE
from gnothi.records import Estimate

Batch = TypeVar("Batch")

_CURVE = "curve.json"

Start = Callable[[int], nn.Module]
"""Seed -> the module that an arm starts from: a fresh copy each time, since it is trained in place."""

ARMS = {
    "tuned": "the model that lost the capability in fine-tuning",
    "scratch": "random values (Scr.)",
    "scratch_tuned": "trained on the other task only, from random values (Scr.+FT)",
    "never_had_it": "pretrained alike, without the capability: true deletion",
    "base": "the model before fine-tuning, which still has it",
}
"""Usual names of arms, for pages; any others may be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """When a curve reached a level."""

    steps: int | None
    """None: not within the horizon."""
    within: int
    """The horizon: steps that were taken at most."""
    reason: str | None = None
    """Why there are no steps."""

    @property
    def restricted(self) -> int:
        """Steps, or the horizon where it was not reached: what rates are compared by, never reported."""
        return self.within if self.steps is None else self.steps


def steps_to(curve: Curve, level: float, *, of: str | None = None, stays: int = 1, falling: bool = False) -> Reached:
    """The first look at which a curve is at a level.

    Args:
        curve: What a training did.
        level: In the units of the curve.
        of: One of the curve's `others`; None for its main values.
        stays: Looks in a row that must be there, the first of which counts; at the end of the curve fewer do.
        falling: Whether the level is reached from above (a loss).

    Raises:
        DataError: A name that the curve lacks, or fewer than one look.

    >>> steps_to(Curve(steps=(0, 10, 20), values=(0.1, 0.6, 0.9), horizon=20), 0.5).steps
    10
    >>> steps_to(Curve(steps=(0, 10, 20), values=(0.1, 0.6, 0.9), horizon=20), 0.95).reason
    'not within 20 steps'
    """
    if of is not None and of not in curve.others:
        raise DataError(f"of must be one of {', '.join(curve.others) or 'no others'}, got {of!r}.")
    if stays < 1:
        raise DataError(f"stays must be at least 1, got {stays}.")
    values = curve.values if of is None else curve.others[of]
    there = [(value <= level) if falling else (value >= level) for value in values]
    for i, step in enumerate(curve.steps):
        if all(there[i : i + stays]):
            return Reached(steps=step, within=curve.horizon)
    reason = f"not within {curve.horizon} steps"
    if curve.ended == "broke":
        reason += f": the loss was no number after {len(curve.losses)}"
    return Reached(steps=None, within=curve.horizon, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTrial:
    """One learning rate of one arm."""

    lr: float
    reached: tuple[Reached, ...]
    """One a tuning seed."""
    area: float
    """Mean of the curves over the horizon."""

    @property
    def mean_restricted(self) -> float:
        """Mean steps, where a seed that did not get there counts as the horizon."""
        return sum(one.restricted for one in self.reached) / len(self.reached)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateChoice:
    """The learning rate of one arm, and what it was chosen among."""

    lr: float
    trials: tuple[RateTrial, ...]
    at_edge: bool
    """Whether it is the smallest or largest rate tried, so that a better one may lie outside."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        trials = [
            {
                "lr": t.lr,
                "steps": [one.steps for one in t.reached],
                "within": t.reached[0].within,
                "area": t.area,
            }
            for t in self.trials
        ]
        return {"lr": self.lr, "at_edge": self.at_edge, "trials": trials}


def choose_rate(
    rates: Sequence[float], run: Callable[[float, int], Curve], seeds: Sequence[int], level: float
) -> RateChoice:
    """The learning rate that reaches a level soonest.

    Args:
        rates: The grid.
        run: (rate, seed) -> curve, on data that the result is not shown on.
        seeds: Tuning seeds, other than those of the result.
        level: In the units of the curves.

    Returns:
        The rate of least mean steps, a seed that did not get there counting as the horizon; ties go to the larger area
        under the curve, then to the smaller rate.

    Raises:
        SpecError: No rates or seeds, or a rate twice.

    Source: the restricted mean, as in survival analysis with a fixed horizon.
    """
    if not rates or not seeds or len(set(rates)) < len(rates):
        raise SpecError(f"choose_rate must have rates, each once, and seeds, got {list(rates)} and {list(seeds)}.")
    trials = []
    for lr in sorted(rates):
        curves = [run(lr, seed) for seed in seeds]
        area = sum(curve.area for curve in curves) / len(curves)
        trials.append(RateTrial(lr=lr, reached=tuple(steps_to(c, level) for c in curves), area=area))
    best = min(trials, key=lambda trial: (trial.mean_restricted, -trial.area, trial.lr))
    edge = len(trials) > 1 and best.lr in (trials[0].lr, trials[-1].lr)
    return RateChoice(lr=best.lr, trials=tuple(trials), at_edge=edge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Steps to a level over seeds."""

    mean: Estimate
    """Mean and t interval; missing, with a reason, where a seed did not get there."""
    median: float | None
    """Where more than half of the seeds got there; else None."""
    reached: int
    seeds: int
    within: int
    """The horizon of the shortest curve."""


def steps_over_seeds(reached: Sequence[Reached], *, name: str, arm: str, level: float = 0.95) -> Steps:
    """Summarise steps to a level over seeds.

    Args:
        reached: One a seed.
        name: The estimate's fixed word.
        arm: The arm.
        level: Of the interval, in (0, 1).

    Returns:
        The mean with its interval from three seeds on. With a censored seed the mean is missing, since it would depend on
        where one stopped; the median stays where it does not.

    Raises:
        DataError: No seeds.
    """
    if not reached:
        raise DataError("steps_over_seeds must have at least one seed, got none.")
    there = [one.steps for one in reached if one.steps is not None]
    n, within = len(reached), min(one.within for one in reached)
    counted = sorted(math.inf if one.steps is None else one.steps for one in reached)
    middle = median(counted)
    found = middle if math.isfinite(middle) else None
    if len(there) == n:
        mean = over_units(there, name=name, arm=arm, kind="mean", n_points=n, level=level)
    else:
        said = "no median" if found is None else f"median {found:g}"
        reason = f"{n - len(there)} of {n} seeds did not get there within {within} steps ({said})"
        mean = missing(name, arm, reason, n=len(there), n_points=n, n_missing=n - len(there))
    return Steps(mean=mean, median=found, reached=len(there), seeds=n, within=within)


def speed_up(
    ours: Sequence[Reached], control: Sequence[Reached], *, name: str, arm: str, level: float = 0.95
) -> Estimate:
    """How many doublings sooner an arm gets there than a control: mean over seeds of log2(control / ours).

    Seeds are paired. A control that does not get there counts as its horizon, which makes the number too small and never
    too large (`method` says how many); if one of ours does not, the number is missing.

    Args:
        ours: One a seed.
        control: The same seeds, in the same order.
        name: The estimate's fixed word.
        arm: The arm.
        level: Of the interval, in (0, 1).

    Returns:
        1 is twice as fast, 0 equally fast. Curves that are there from the start count as one step.

    Raises:
        DataError: Different numbers of seeds, or none.
    """
    if len(ours) != len(control) or not ours:
        raise DataError(f"ours and control must have the same seeds, got {len(ours)} and {len(control)}.")
    lost = sum(one.steps is None for one in ours)
    if lost:
        reason = f"{lost} of {len(ours)} seeds did not get there within {min(one.within for one in ours)} steps"
        return missing(name, arm, reason, n_points=len(ours), n_missing=lost)
    ratios = [math.log2(max(c.restricted, 1) / max(o.restricted, 1)) for o, c in zip(ours, control, strict=True)]
    found = over_units(ratios, name=name, arm=arm, kind="mean", n_points=len(ratios), level=level)
    censored = sum(one.steps is None for one in control)
    if not censored:
        return found
    return replace(found, method=f"{found.method}; a lower bound: {censored} of {len(control)} controls got no further")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRevival:
    """One start: its rate, and its curves over seeds."""

    arm: str
    rate: RateChoice
    curves: Mapping[int, Curve]
    """By seed."""
    reached: tuple[Reached, ...]
    """In the order of `curves`."""


def revive(
    arms: Mapping[str, Start],
    *,
    batches: Callable[[int], Iterator[Batch]],
    loss: Callable[[nn.Module, Batch], Tensor],
    evaluate: Evaluate,
    tune_evaluate: Evaluate,
    course: Course,
    rates: Sequence[float],
    level: float,
    seeds: Sequence[int],
    tuning_seeds: Sequence[int],
    also: Mapping[str, Evaluate] | None = None,
    parameters: Callable[[nn.Module], Mapping[str, Tensor]] | None = None,
    folder: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, ArmRevival]:
    """Train every arm back: its rate first, then its curves.

    Args:
        arms: Name -> start.
        batches: Seed -> endless batches of the old task. All arms of a seed see the same ones.
        loss: (module, batch) -> a scalar.
        evaluate: What the curves show.
        tune_evaluate: The same on other held-out data, by which rates are chosen.
        course: How; its rate is replaced, and trials of a rate stop at the level.
        rates: The grid for every arm.
        level: What must be reached.
        seeds: Of the curves.
        tuning_seeds: Of the trials; none of `seeds`.
        also: Further evaluations of the curves.
        parameters: What of a start is trained, by name; every parameter if left out.
        folder: Where checkpoints and finished curves go, so that the same call goes on where it was cut off; the caller
            removes it, and gives another one for another task.
        progress: Called after each training with the arm, trainings done and in all.

    Returns:
        By arm.

    Raises:
        SpecError: Seeds that tune and count, or no arms.
        StoreError: A folder that holds trainings by another recipe.
    """
    both = sorted(set(seeds) & set(tuning_seeds))
    if both or not arms or not seeds:
        raise SpecError(
            f"revive must have arms, seeds, and tuning seeds that are none of the seeds, got {both} in both."
        )
    total = len(arms) * (len(rates) * len(tuning_seeds) + len(seeds))
    done, found = 0, {}
    for arm, start in arms.items():

        def run(lr: float, seed: int, trial: bool, arm: str = arm, start: Start = start) -> Curve:
            nonlocal done
            how = replace(course, lr=lr, until=level if trial else course.until)
            place = None if folder is None else folder / f"{arm}-{lr:g}-{seed}"
            key = digest([arm, seed, trial, level, how.to_json()])
            curve = _kept(place, key)
            if curve is None:
                module = start(seed)
                curve = train_back(
                    module,
                    batches(seed),
                    loss,
                    tune_evaluate if trial else evaluate,
                    how,
                    seed=seed,
                    also=None if trial else also,
                    parameters=None if parameters is None else parameters(module),
                    folder=place,
                    key=key,
                )
                _keep(place, key, curve)
            done += 1
            if progress is not None:
                progress(arm, done, total)
            return curve

        rate = choose_rate(rates, lambda lr, seed: run(lr, seed, True), tuning_seeds, level)
        curves = {seed: run(rate.lr, seed, False) for seed in seeds}
        reached = tuple(steps_to(curve, level) for curve in curves.values())
        found[arm] = ArmRevival(arm=arm, rate=rate, curves=curves, reached=reached)
    return found


def _kept(folder: Path | None, key: str) -> Curve | None:
    """The curve of a training that is over."""
    path = None if folder is None else folder / _CURVE
    if path is None or not path.is_file():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["key"] != key:
        raise StoreError(f"{path} must be of this training, got one of another. Delete it to train from the start.")
    return Curve.of_json(kept["curve"])


def _keep(folder: Path | None, key: str, curve: Curve) -> None:
    """Keep the curve of a training that is over, and its state no longer."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _CURVE, json.dumps({"key": key, "curve": curve.to_json()}))
        (folder / FILE).unlink(missing_ok=True)
