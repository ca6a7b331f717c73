"""Curves of trainings that were looked at as they went, and the steps at which they reach a level. No torch here.

A curve that does not get there within its horizon is right-censored: it is reported as such, and never averaged in.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from gnothi.errors import DataError, SpecError
from gnothi.intervals import missing, over_units
from gnothi.records import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a training was found to do, by step."""

    steps: tuple[int, ...]
    """Steps done at each look, from 0."""
    values: tuple[float, ...]
    """What `evaluate` said at each."""
    others: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Further evaluations, by name."""
    losses: tuple[float, ...] = ()
    """Loss of each step, before its update."""
    horizon: int
    """Steps that it was to take."""
    ended: str = "whole"
    """`whole`, `reached` (what it was to be trained until) or `broke` (a loss that is no number)."""

    @property
    def area(self) -> float:
        """Mean of `values` over the horizon, by trapezoids; after an end before it, the last value counts on.

        >>> Curve(steps=(0, 10), values=(0.0, 1.0), horizon=20, ended="reached").area
        0.75
        """
        total = 0.0
        for i in range(1, len(self.steps)):
            total += (self.steps[i] - self.steps[i - 1]) * (self.values[i] + self.values[i - 1]) / 2
        return (total + (self.horizon - self.steps[-1]) * self.values[-1]) / self.horizon

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "steps": list(self.steps),
            "values": list(self.values),
            "others": {name: list(values) for name, values in self.others.items()},
            "losses": list(self.losses),
            "horizon": self.horizon,
            "ended": self.ended,
        }

    @classmethod
    def of_json(cls, plain: Mapping[str, Any]) -> "Curve":
        """The inverse of `to_json`."""
        return cls(
            steps=tuple(plain["steps"]),
            values=tuple(plain["values"]),
            others={name: tuple(values) for name, values in plain["others"].items()},
            losses=tuple(plain["losses"]),
            horizon=plain["horizon"],
            ended=plain["ended"],
        )


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
