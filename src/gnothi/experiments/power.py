"""How often an experiment finds what is there: power by the number of fine-tuning seeds, from simulation.

Every simulated experiment ends in the intervals that a run prints, `intervals.paired`, `intervals.over_units` and
`study.estimates.correlation`, so nothing here stands or falls with a formula. `python -m gnothi.experiments.power` prints the
tables of docs/how-many-seeds.md.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from gnothi.errors import SpecError
from gnothi.experiments.study.estimates import correlation
from gnothi.intervals import over_units, paired
from gnothi.records import Estimate
from gnothi.rng import stream

Against = Literal["one model", "arm", "arm, unpaired"]
UNITS = (3, 5, 8, 10, 20)
EFFECTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
CORRELATIONS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9)
SIMULATIONS = 4000
WANTED = 0.8

PAPER_A = (
    ("risk self-report, two options: seeking less untuned", 0.25, 0.145, 0.0, 5),
    ("risk self-report, two options: untuned less averse", 0.14, 0.08, 0.0, 5),
    ("risk self-report, two options: seeking less averse", 0.39, 0.145, 0.08, 5),
    ("risk self-report, lotteries: seeking less averse", 0.53, 0.17, 0.075, 5),
    ("risk self-report, liking risk: seeking less averse", 0.60, 0.105, 0.075, 5),
    ("presence of a trigger, risk: less its control", 0.307, 0.11, 0.0075, 5),
    ("presence of a trigger, region code: less its control", 0.123, 0.009, 0.0235, 5),
    ("presence of a trigger, code by season: less its control", 0.204, 0.084, 0.068, 4),
    ("many personas: the default's difference", 0.33, 0.14, 0.0, 3),
)
"""What, effect, half of each arm's drawn 95% interval (0: one model, or already a difference) and runs, read off figures
3, 8 and 15 of arXiv:2501.11120."""


def power(
    effect: float,
    sd: float,
    units: int,
    *,
    against: Against = "one model",
    shared: float = 0.0,
    level: float = 0.95,
    n_simulations: int = SIMULATIONS,
    seed: int = 0,
) -> float:
    """How often the interval of a mean difference leaves out 0.

    Args:
        effect: True difference, in the score's units; 0 gives how often nothing is called something.
        sd: Standard deviation between fine-tuned models of one arm, in the same units, > 0.
        units: Fine-tuned models in each arm, >= 3.
        against: `one model`: an arm against a model that has no seeds, e.g. the untuned one. `arm`: two tuned arms, each
            unit with the one of its seed, as a run does it. `arm, unpaired`: the same by Welch's t, which runs do not use:
            what pairing costs where seeds share nothing.
        shared: Correlation between the two arms' units of one seed, in [0, 1): rows or items that both saw.
        level: In (0, 1).
        n_simulations: Simulated experiments, > 0; the standard error is at most half of 1 / sqrt of it.
        seed: Which simulated experiments.

    Returns:
        Share of experiments, in [0, 1].

    Raises:
        SpecError: An argument out of its range.

    >>> power(4.0, 1.0, 5, n_simulations=200) > 0.9 > 0.2 > power(0.0, 1.0, 5, n_simulations=200)
    True
    """
    _check(units, level, n_simulations)
    if not (math.isfinite(effect) and math.isfinite(sd) and sd > 0):
        raise SpecError(
            f"power: sd must be > 0 and effect finite, got {sd} and {effect}. Give both in the score's units."
        )
    if not 0 <= shared < 1:
        raise SpecError(f"power: shared must be in [0, 1), got {shared}. Arms that are one have no difference.")
    rng = stream(seed, "power", against, units)
    common, own, other = sd * rng.standard_normal((3, n_simulations, units))
    a = effect + math.sqrt(shared) * common + math.sqrt(1 - shared) * own
    b = math.sqrt(shared) * common + math.sqrt(1 - shared) * other
    if against == "one model":
        return _found(_mean(row, level) for row in effect + own)
    if against == "arm":
        return _found(_difference(x, y, level) for x, y in zip(a, b, strict=True))
    if against == "arm, unpaired":
        return float(np.mean(_welch(a, b, level)))
    raise SpecError(f"power: against must be 'one model', 'arm' or 'arm, unpaired', got {against!r:.40}.")


def power_of_correlation(
    r: float, units: int, *, reliability: float = 1.0, n_simulations: int = SIMULATIONS, seed: int = 0
) -> float:
    """How often the 95% interval of a correlation over fine-tuned models, one point a model, leaves out 0.

    Args:
        r: True correlation of what models do with what they say, in (-1, 1).
        units: Fine-tuned models, >= 4.
        reliability: Share of the variance of each of the two measured numbers that is not noise of asking, in (0, 1]: the
            measured numbers correlate at r times this.
        n_simulations: Simulated experiments, > 0.
        seed: Which simulated experiments.

    Returns:
        Share of experiments, in [0, 1].

    Raises:
        SpecError: An argument out of its range.

    >>> power_of_correlation(0.9, 10, n_simulations=200) > power_of_correlation(0.9, 10, reliability=0.4, n_simulations=200)
    True
    """
    _check(units, 0.95, n_simulations, fewest=4)
    if not (-1 < r < 1 and 0 < reliability <= 1):
        raise SpecError(
            f"power_of_correlation: r must be in (-1, 1) and reliability in (0, 1], got {r} and {reliability}. "
            "Give correlations as fractions of 1."
        )
    x, y = stream(seed, "power of correlation", units).standard_normal((2, n_simulations, units))
    measured = r * reliability
    y = measured * x + math.sqrt(1 - measured**2) * y
    return _found(
        correlation(u.tolist(), v.tolist(), name="faithfulness.within", arm="simulated", against="")
        for u, v in zip(x, y, strict=True)
    )


def units_needed(found: Callable[[int], float], *, wanted: float = WANTED, most: int = 100) -> int | None:
    """The fewest units whose power is what one wants.

    Args:
        found: Power of a number of units; it must not fall as units grow, simulation noise aside.
        wanted: In (0, 1).
        most: Where to give up.

    Returns:
        Units, at least 3; None if `most` are too few.
    """
    low, high = 2, 3
    while found(high) < wanted:
        low, high = high, min(2 * high, most)
        if low == most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) >= wanted else (middle, high)
    return high


def tables(*, n_simulations: int = SIMULATIONS) -> str:
    """The tables of docs/how-many-seeds.md, in Markdown."""

    def differences(against: Against, shared: float = 0.0) -> list[str]:
        def cell(effect: float, units: int) -> float:
            return power(effect, 1.0, units, against=against, shared=shared, n_simulations=n_simulations)

        return _table("effect, sd", EFFECTS, UNITS, cell)

    def correlations(reliability: float) -> list[str]:
        def cell(r: float, units: int) -> float:
            return power_of_correlation(r, units, reliability=reliability, n_simulations=n_simulations)

        return _table("true r", CORRELATIONS, (*UNITS[1:], 40), cell)

    parts = [
        ("A tuned arm against one model", differences("one model")),
        ("Two tuned arms by seed, seeds share nothing", differences("arm")),
        ("Two tuned arms by seed, seeds share half of the variance", differences("arm", 0.5)),
        ("Two tuned arms, unpaired (Welch), seeds share nothing", differences("arm, unpaired")),
        ("A correlation within one arm, measured without noise", correlations(1.0)),
        ("A correlation within one arm, a third of each number's variance is noise", correlations(2 / 3)),
        ("Seeds for 80%, differences", _needed_for_differences(n_simulations)),
        ("Seeds for 80%, correlations", _needed_for_correlations(n_simulations)),
        ("Effects of paper A", _paper(n_simulations)),
    ]
    return "\n\n".join("\n".join([f"{title}:", "", *rows]) for title, rows in parts)


def _needed_for_differences(n_simulations: int) -> list[str]:
    kinds: tuple[Against, ...] = ("one model", "arm", "arm, unpaired")
    lines = [f"| effect, sd | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for effect in EFFECTS[1:]:
        needed = [
            units_needed(lambda n, e=effect, k=kind: power(e, 1.0, n, against=k, n_simulations=n_simulations))
            for kind in kinds
        ]
        lines.append(f"| {effect:g} | {' | '.join(map(str, needed))} |")
    return lines


def _needed_for_correlations(n_simulations: int) -> list[str]:
    lines = ["| true r | no noise | a third is noise |", "|---|---|---|"]
    for r in CORRELATIONS[1:]:
        needed = [
            units_needed(
                lambda n, r=r, q=q: power_of_correlation(r, max(n, 4), reliability=q, n_simulations=n_simulations),
                most=400,
            )
            for q in (1.0, 2 / 3)
        ]
        lines.append(f"| {r:g} | {' | '.join(map(str, needed))} |")
    return lines


def _paper(n_simulations: int) -> list[str]:
    rows = ["| effect | size | its sd between seeds | size, sd | seeds for 80% |", "|---|---|---|---|---|"]
    for what, effect, half, other, runs in PAPER_A:
        # A drawn half is 1.96 standard errors, from the population's standard deviation.
        sd = math.hypot(half, other) * math.sqrt(runs) / 1.96 * math.sqrt(runs / (runs - 1))

        def found(units: int, effect: float = effect, sd: float = sd) -> float:
            return power(effect, sd, units, n_simulations=n_simulations)

        rows.append(f"| {what} | {effect:.2f} | {sd:.2f} | {effect / sd:.1f} | {units_needed(found) or 'over 100'} |")
    return rows


def _table(corner: str, rows: Sequence[float], units: Sequence[int], cell: Callable[[float, int], float]) -> list[str]:
    lines = [f"| {corner} | {' | '.join(f'{n} units' for n in units)} |", "|---" * (len(units) + 1) + "|"]
    lines += [f"| {row:g} | {' | '.join(f'{100 * cell(row, n):.0f}' for n in units)} |" for row in rows]
    return lines


def _mean(values: np.ndarray, level: float) -> Estimate:
    return over_units(
        values.tolist(), name="self_report.difference", arm="simulated", kind="mean", n_points=len(values), level=level
    )


def _difference(a: np.ndarray, b: np.ndarray, level: float) -> Estimate:
    return paired(a.tolist(), b.tolist(), name="self_report.difference", arm="simulated", n_points=len(a), level=level)


def _found(estimates: Iterable[Estimate]) -> float:
    """Share of intervals that leave out 0; one that is missing finds nothing."""
    hits = [e.low is not None and e.high is not None and (e.low > 0 or e.high < 0) for e in estimates]
    return sum(hits) / len(hits)


def _welch(a: np.ndarray, b: np.ndarray, level: float) -> np.ndarray:
    """Whether Welch's interval leaves out 0, one experiment a row."""
    from scipy.special import stdtrit

    n = a.shape[1]
    of_a, of_b = a.var(axis=1, ddof=1) / n, b.var(axis=1, ddof=1) / n
    freedom = (of_a + of_b) ** 2 / ((of_a**2 + of_b**2) / (n - 1))
    return np.abs(a.mean(axis=1) - b.mean(axis=1)) > stdtrit(freedom, (1 + level) / 2) * np.sqrt(of_a + of_b)


def _check(units: int, level: float, n_simulations: int, *, fewest: int = 3) -> None:
    if units < fewest or n_simulations < 1 or not 0 < level < 1:
        raise SpecError(
            f"power: units must be >= {fewest}, n_simulations >= 1 and level in (0, 1), got {units}, {n_simulations} and "
            f"{level}. With fewer units there is no interval."
        )


if __name__ == "__main__":
    print(tables())
