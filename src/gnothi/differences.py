"""Differences between two runs: fine-tuned models in pairs of one seed, or two groups that have nothing in common.

Pairs are `intervals.paired`; this module adds Welch's t for groups that cannot be paired, and what a run must give to be
compared. It knows no experiment.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Unpack

import numpy as np

from gnothi.errors import DataError
from gnothi.intervals import MIN_UNITS, Labels, missing, paired
from gnothi.records import Estimate

Key = tuple[str, str]
"""Name and arm of an estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """One estimate taken apart: the number of each fine-tuned model behind it."""

    values: Mapping[int, float | None]
    """By training seed, counted from 0; None for a model that gave nothing usable."""
    n_points: int = 0
    n_missing: int = 0
    span: float = math.inf
    """The largest size that a difference of two such numbers can have: 1 for shares, 2 for correlations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One estimate in two runs, on what both have: the same seeds, items and answers that can be used."""

    pairs: Mapping[int, tuple[float | None, float | None]] = field(default_factory=dict)
    """By training seed: the first run's number and the second's."""
    within: Estimate | None = None
    """Where each run has one model and the same agents: the difference with an interval over these agents."""
    n_points: int = 0
    """Points that both have."""


def unpaired(
    a: Sequence[float | None],
    b: Sequence[float | None],
    *,
    name: str,
    arm: str,
    n_points: int,
    level: float = 0.95,
    **labels: Unpack[Labels],
) -> Estimate:
    """Mean of a less mean of b, two groups of fine-tuned models that have nothing in common: Welch's t.

    Args:
        a: One number per unit, in any unit of measure; None where it gave nothing usable.
        b: The same for other units, any number of them.
        name: The estimate's fixed word.
        arm: The arm.
        n_points: Points inside the usable units of both groups.
        level: In (0, 1).
        **labels: See `intervals.Labels`.

    Returns:
        Estimate; `n` counts the usable units of both groups. With fewer than three in either, or no spread in both, the
        bounds are None and `reason` says so; with none in either, the value too.

    Raises:
        DataError: A value that is not finite, or a `level` outside (0, 1).

    Source: Welch 1947; degrees of freedom by Satterthwaite.

    >>> e = unpaired([0.5, 0.6, 0.7], [0.2, 0.4, 0.3], name="self_report.score", arm="plus", n_points=60)
    >>> round(e.value, 3), round(e.low, 3), round(e.high, 3), e.n
    (0.3, 0.073, 0.527, 6)
    """
    from scipy.special import stdtrit

    where = f"unpaired({name}/{arm})"
    if not 0 < level < 1:
        raise DataError(f"{where}: level must be in (0, 1), got {level}.")
    x, y = (np.array([v for v in side if v is not None], float) for side in (a, b))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(f"{where}: values must be finite, got {[*a, *b]!s:.80}. Pass None for a missing one.")
    n = len(x) + len(y)
    if not (len(x) and len(y)):
        return missing(name, arm, "one side has no usable unit", n=n, n_points=n_points, **labels)
    value, low, high, reason = float(x.mean() - y.mean()), None, None, None
    if min(len(x), len(y)) < MIN_UNITS:
        reason = f"{len(x)} and {len(y)} usable units, an interval needs {MIN_UNITS} on each side"
    else:
        parts = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
        error = math.sqrt(float(parts.sum()))
        if error < 1e-12 * max(1.0, abs(value)):
            reason = "the units of each side gave the same number, so there is no spread to make an interval from"
        else:
            freedom = float(parts.sum() ** 2 / (parts**2 / (np.array([len(x), len(y)]) - 1)).sum())
            half = float(stdtrit(freedom, (1 + level) / 2)) * error
            low, high = value - half, value + half
    return Estimate(
        name=name,
        arm=arm,
        value=value,
        low=low,
        high=high,
        n=n,
        n_points=n_points,
        method=f"Welch's t over {len(x)} and {len(y)} units, {100 * level:.4g}%",
        reason=reason,
        **labels,
    )


def difference(key: Key, first: Numbers, second: Numbers, shared: Shared | None = None) -> Estimate:
    """The second run's number less the first's: in pairs where there are any, else between two groups.

    Args:
        key: Name and arm.
        first: The first run's units.
        second: The second run's.
        shared: What the two have in common; None if they can't be paired.

    Returns:
        Estimate; its `method` says which of the two it is. Bounds beyond what a difference can be are cut.
    """
    name, arm = key
    if shared is not None and shared.within is not None:
        return shared.within
    if shared is not None and shared.pairs:
        columns = [[pair[i] for pair in shared.pairs.values()] for i in (0, 1)]
        found = paired(columns[1], columns[0], name=name, arm=arm, n_points=shared.n_points)
        found = replace(found, method=found.method.replace("differences by unit", "differences between runs by unit"))
    else:
        sides = [list(side.values.values()) for side in (second, first)]
        found = unpaired(*sides, name=name, arm=arm, n_points=first.n_points + second.n_points)
    most = min(first.span, second.span)
    if found.low is not None and found.high is not None and (found.low < -most or found.high > most):
        cut = f"{found.method}, cut to what a difference can be"
        found = replace(found, low=max(found.low, -most), high=min(found.high, most), method=cut)
    return found
