"""From numbers to estimates: intervals over fine-tuned models, over agents inside one model, and for counts.

The fine-tuned model (the unit) is what would be drawn anew if the experiment were repeated, so an interval over units
sees one number per unit and never the points inside. docs/statistics.md holds the simulated coverage of each method.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Literal, TypedDict, Unpack

import numpy as np

from gnothi.errors import DataError
from gnothi.records import Estimate

Kind = Literal["mean", "correlation", "share"]


class Labels(TypedDict, total=False):
    """What an estimate carries along unchanged."""

    n_missing: int
    """Points that gave nothing usable; 0 if left out."""
    against: str
    """What the number is scored against."""
    gate: str | None
    """`passed`, `not instilled`, `damaged`, or None."""


MIN_UNITS = 3
"""Fewest units that get an interval: with two, a t interval is 13 standard errors wide on either side."""
NEARLY_ONE = 1 - 1e-9
"""Correlations from here on are averaged as they are, without Fisher's z."""


def over_units(
    values: Sequence[float | None],
    *,
    name: str,
    arm: str,
    kind: Kind,
    n_points: int,
    level: float = 0.95,
    **labels: Unpack[Labels],
) -> Estimate:
    """Estimate over fine-tuned models from one value per model, every model weighing the same.

    `mean`: Student's t. `correlation`: Student's t on Fisher's z, turned back; the value is the turned-back mean of z.
    `share`: Wilson's interval with the variance between units in place of the binomial one and the t quantile in place
    of the normal; it stays inside [0, 1] and keeps a width where all units agree, for which it needs `n_points`.

    Args:
        values: One number per unit, in any unit of measure; None for a unit that gave nothing usable, which is left
            out and counted in `reason` or `method`.
        name: The estimate's fixed word.
        arm: The arm.
        kind: What the values are. Correlations lie in [-1, 1], shares in [0, 1].
        n_points: Points inside the usable units, all together.
        level: In (0, 1).
        **labels: See `Labels`.

    Returns:
        Estimate; `n` counts usable units. With fewer than three, or where units agree to the last digit (means and
        correlations), the bounds are None and `reason` says so; with none, the value too.

    Raises:
        DataError: A value that is not finite or out of range, an unknown `kind`, a `level` outside (0, 1), or shares
            without points.

    Source: one summary per cluster, then Student's t; on clustered evaluations see arXiv:2411.00640. The effective
    sample size inside Wilson's interval is how surveys treat clustered shares (Franco et al. 2019).

    >>> e = over_units([0.5, 0.6, 0.7, None], name="agreement.within_context_r", arm="tuned", kind="mean", n_points=300)
    >>> e.value, round(e.low, 3), round(e.high, 3), e.n, e.method
    (0.6, 0.352, 0.848, 3, 't over 3 of 4 units, 95%')
    """
    where = f"over_units({name}/{arm})"
    _check_level(where, level)
    lowest = _lowest(where, kind)
    usable = np.array([v for v in values if v is not None], float)
    _check_values(where, usable, kind, lowest)
    if kind == "share" and len(usable) and n_points <= 0:
        raise DataError(f"{where}: n_points must be > 0 for shares, got {n_points}. Count the points behind them.")
    n, of = len(usable), f"{len(values)} units"
    if n < len(values):
        of = f"{n} of {of}"
    if not n:
        reason = f"none of {len(values)} units gave a usable value"
        return missing(name, arm, reason, n_points=n_points, **labels)
    on_z = kind == "correlation" and bool((np.abs(usable) < NEARLY_ONE).all())  # z of 1 is infinite
    scaled = np.arctanh(usable) if on_z else usable
    mean, error = float(scaled.mean()), float(scaled.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    value = math.tanh(mean) if on_z else mean
    low = high = reason = None
    method = {"mean": "t", "correlation": "t on Fisher z" if on_z else "t", "share": "Wilson with t and spread"}[kind]
    if n < MIN_UNITS:
        reason = f"{n} usable unit{'s' if n != 1 else ''} of {len(values)}, an interval needs {MIN_UNITS}"
    elif kind == "share":
        low, high = _wilson(value, _t(level, n - 1) ** 2 * error**2, n_points, level)
    elif error < 1e-12 * max(1.0, abs(mean)):
        reason = f"{of} gave the same number, so there is no spread to make an interval from"
    else:
        half = _t(level, n - 1) * error
        low, high = mean - half, mean + half
        if on_z:
            low, high = math.tanh(low), math.tanh(high)
        elif kind == "correlation":
            low, high = max(low, -1.0), min(high, 1.0)
    return Estimate(
        name=name,
        arm=arm,
        value=value,
        low=low,
        high=high,
        n=n,
        n_points=n_points,
        method=f"{method} over {of}, {_percent(level)}",
        reason=reason,
        **labels,
    )


def paired(
    a: Sequence[float | None],
    b: Sequence[float | None],
    *,
    name: str,
    arm: str,
    n_points: int,
    level: float = 0.95,
    **labels: Unpack[Labels],
) -> Estimate:
    """Mean of a - b over units, each unit with itself, with Student's t on the differences.

    Differences of correlations stay differences of r, as readers know them: no Fisher z.

    Args:
        a: One number per unit; None where it gave nothing usable.
        b: The same units in the same order. A unit counts only if both are there.
        name: The estimate's fixed word.
        arm: The arm.
        n_points: Points inside the usable units.
        level: In (0, 1).
        **labels: See `Labels`.

    Returns:
        Estimate as from `over_units` with kind `mean`.

    Raises:
        DataError: Different lengths, a value that is not finite, or a `level` outside (0, 1).

    >>> e = paired([0.7, 0.8, 0.6], [0.4, 0.4, 0.4], name="agreement.gain", arm="introspection", n_points=360)
    >>> round(e.value, 3), round(e.low, 3), e.method
    (0.3, 0.052, 't on differences by unit over 3 units, 95%')
    """
    if len(a) != len(b):
        raise DataError(f"paired({name}/{arm}): a and b must be of the same units, got {len(a)} and {len(b)} values.")
    differences = [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]
    estimate = over_units(
        differences,
        name=name,
        arm=arm,
        kind="mean",
        n_points=n_points,
        level=level,
        **labels,
    )
    return replace(estimate, method=estimate.method.replace("t over", "t on differences by unit over", 1))


def wilson(
    k: int,
    n: int,
    *,
    name: str,
    arm: str,
    units: int = 1,
    level: float = 0.95,
    **labels: Unpack[Labels],
) -> Estimate:
    """Share k/n of independent answers, with Wilson's interval. It knows nothing of other units: say so where shown.

    Args:
        k: Answers that count, 0 to n.
        n: Answers asked for, >= 0. With 0 the value is None.
        name: The estimate's fixed word.
        arm: The arm.
        units: Fine-tuned models that gave the answers.
        level: In (0, 1).
        **labels: See `Labels`.

    Raises:
        DataError: k outside [0, n], or a `level` outside (0, 1).

    Source: Wilson 1927, the score interval.

    >>> e = wilson(9, 10, name="report.validity", arm="tuned")
    >>> e.value, round(e.low, 3), round(e.high, 3)
    (0.9, 0.596, 0.982)
    """
    where = f"wilson({name}/{arm})"
    _check_level(where, level)
    if not 0 <= k <= n:
        raise DataError(f"{where}: k must be in [0, n], got {k} of {n}.")
    if n == 0:
        return missing(name, arm, "no answers", **labels)
    low, high = _wilson(k / n, None, n, level)
    return Estimate(
        name=name,
        arm=arm,
        value=k / n,
        low=low,
        high=high,
        n=units,
        n_points=n,
        method=f"Wilson over answers, {_percent(level)}",
        **labels,
    )


def within_unit(
    statistic: Callable[[np.ndarray], float | None],
    n_clusters: int,
    rng: np.random.Generator,
    *,
    name: str,
    arm: str,
    kind: Kind,
    n_points: int,
    level: float = 0.95,
    n_resamples: int = 400,
    **labels: Unpack[Labels],
) -> Estimate:
    """Estimate inside ONE fine-tuned model, by a bootstrap over its agents. Says nothing of the next fine-tune.

    The standard error comes from whole agents drawn with replacement, on Fisher's z for correlations; the interval is
    Student's t with `n_clusters - 1` degrees of freedom around the value, or Wilson's with that error for shares. The
    percentile and BCa bootstraps cover too rarely with 24 to 48 agents (docs/statistics.md).

    Args:
        statistic: Called with agents' positions, shape (n_clusters,), repeats included; returns the number, or None
            where it is undefined. It must treat a repeated agent as two.
        n_clusters: Agents.
        rng: Where the resamples come from.
        name: The estimate's fixed word.
        arm: The arm.
        kind: What `statistic` returns.
        n_points: Points inside the unit.
        level: In (0, 1).
        n_resamples: Bootstrap draws, at least 50; they only serve a standard error.
        **labels: See `Labels`.

    Returns:
        Estimate with n = 1. Bounds are None, with a reason, with fewer than 3 agents, where more than a tenth of the
        resamples are undefined, or where they do not vary (means and correlations).

    Raises:
        DataError: A statistic that is not finite or out of range, too few resamples, a `level` outside (0, 1), or
            shares without points.

    Source: Cameron, Gelbach and Miller 2008 on few clusters: resample clusters, correct by C/(C - 1), use t.
    """
    where = f"within_unit({name}/{arm})"
    _check_level(where, level)
    lowest = _lowest(where, kind)
    if n_resamples < 50 or n_clusters < 1:
        raise DataError(f"{where}: n_resamples must be >= 50 and n_clusters >= 1, got {n_resamples} and {n_clusters}.")
    value = statistic(np.arange(n_clusters))
    if value is None:
        reason = "undefined in this unit"
        return missing(name, arm, reason, n=1, n_points=n_points, **labels)
    _check_values(where, checked := np.array([value], float), kind, lowest)
    value = float(checked[0])
    if kind == "share" and n_points <= 0:
        raise DataError(f"{where}: n_points must be > 0 for shares, got {n_points}. Count the points behind them.")
    low = high = reason = None
    if n_clusters < MIN_UNITS:
        reason = f"{n_clusters} agents, an interval needs {MIN_UNITS}"
    else:
        drawn = [statistic(rows) for rows in rng.integers(n_clusters, size=(n_resamples, n_clusters))]
        resampled = np.array([v for v in drawn if v is not None], float)
        _check_values(where, resampled, kind, lowest)
        on_z = kind == "correlation" and abs(value) < NEARLY_ONE
        if on_z:  # a resample of few agents may hit 1 exactly
            resampled = np.arctanh(np.clip(resampled, -NEARLY_ONE, NEARLY_ONE))
        if len(resampled) < 0.9 * n_resamples:
            reason = f"{n_resamples - len(resampled)} of {n_resamples} resamples of agents are undefined"
        else:
            # Drawing agents with replacement understates the variance of their mean by (C - 1)/C.
            error = float(resampled.std(ddof=1)) * math.sqrt(n_clusters / (n_clusters - 1))
            half = _t(level, n_clusters - 1) * error
            if kind == "share":
                low, high = _wilson(value, half**2, n_points, level)
            elif error < 1e-12 * max(1.0, abs(value)):
                reason = "all resamples of agents gave the same number, so there is no spread to make an interval from"
            elif on_z:
                low, high = math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)
            else:
                low, high = max(value - half, lowest), value + half
                high = min(high, 1.0) if kind == "correlation" else high
    return Estimate(
        name=name,
        arm=arm,
        value=value,
        low=low,
        high=high,
        n=1,
        n_points=n_points,
        method=f"within one unit: bootstrap over {n_clusters} agents, {_percent(level)}",
        reason=reason,
        **labels,
    )


def missing(
    name: str,
    arm: str,
    reason: str,
    *,
    n: int = 0,
    n_points: int = 0,
    **labels: Unpack[Labels],
) -> Estimate:
    """Estimate without a number: it keeps its row and says why.

    >>> missing("agreement.gain", "introspection", "no unit was report-trained").value is None
    True
    """
    return Estimate(
        name=name,
        arm=arm,
        value=None,
        low=None,
        high=None,
        n=n,
        n_points=n_points,
        method="none",
        reason=reason,
        **labels,
    )


def _check_level(where: str, level: float) -> None:
    if not 0 < level < 1:
        raise DataError(f"{where}: level must be in (0, 1), got {level}.")


def _lowest(where: str, kind: str) -> float:
    """Lower end of the range of a kind of number."""
    bounds = {"mean": -math.inf, "correlation": -1.0, "share": 0.0}
    if kind not in bounds:
        raise DataError(f"{where}: kind must be mean, correlation or share, got {kind!r}.")
    return bounds[kind]


def _check_values(where: str, values: np.ndarray, kind: str, lowest: float) -> None:
    """Refuse NaN, inf and what lies out of range (by more than rounding, which is cut off in place)."""
    if not np.isfinite(values).all():
        raise DataError(f"{where}: values must be finite, got {values.tolist()!s:.80}. Pass None for a missing one.")
    if kind != "mean":
        if ((values < lowest - 1e-9) | (values > 1 + 1e-9)).any():
            raise DataError(f"{where}: a {kind} must be in [{lowest:.0f}, 1], got {values.tolist()!s:.80}.")
        np.clip(values, lowest, 1.0, out=values)


def _t(level: float, df: int) -> float:
    """Two-sided quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))


def _wilson(p: float, half_squared: float | None, n_points: int, level: float) -> tuple[float, float]:
    """Wilson's interval around p where `half_squared` is the squared half-width of a plain interval (None: binomial).

    It is never narrower than one binomial standard error of `n_points` answers (where p is 0 or 1, than the usual
    interval of that many), so that units which agree by luck do not shrink it to nothing.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    variance = p * (1 - p)
    c = z * z / n_points
    if half_squared is not None and variance > 1e-12:
        c = max(half_squared / variance, 1 / n_points)
    middle = (p + c / 2) / (1 + c)
    half = math.sqrt(c * variance + c * c / 4) / (1 + c)
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))


def _percent(level: float) -> str:
    return f"{100 * level:.4g}%"
