"""Run as a script, this file prints the coverage table of docs/statistics.md."""

import math
import sys
from dataclasses import asdict

import numpy as np
import pytest

from gnothi.errors import DataError
from gnothi.intervals import missing, over_units, paired, wilson, within_unit
from gnothi.rng import stream

LABELS = {"name": "agreement.reported_vs_learned", "arm": "tuned"}


def pearson_draws(rho, n, rng):
    """Sample correlations of n normal pairs each, one for each entry of rho (by the Bartlett decomposition)."""
    z, first, second = rng.standard_normal(rho.shape), rng.chisquare(n - 1, rho.shape), rng.chisquare(n - 2, rho.shape)
    a = rho * np.sqrt(first) + np.sqrt(1 - rho**2) * z
    return a / np.sqrt(a**2 + (1 - rho**2) * second)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def correlation_experiments(r, spread, n_points, n_units, n_simulations, rng):
    """Units whose true z spreads around atanh(r); truth is r."""
    units = np.tanh(np.arctanh(r) + spread * rng.standard_normal((n_simulations, n_units)))
    return pearson_draws(units, n_points, rng), r


def share_experiments(p, spread, n_points, n_units, n_simulations, rng):
    """Units whose true log-odds spread around logit(p); truth is the mean true share of such units."""
    centre = math.log(p / (1 - p))
    units = logistic(centre + spread * rng.standard_normal((n_simulations, n_units)))
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(40)
    truth = float(logistic(centre + spread * nodes) @ node_weights / node_weights.sum())
    return rng.binomial(n_points, units) / n_points, truth


def coverage(kind, centre, spread, n_points, n_units, n_simulations=2000):
    rng = stream(0, "coverage", kind, str(centre), str(spread), n_points, n_units)
    if kind in ("correlation", "paired r"):
        values, truth = correlation_experiments(centre, spread, n_points, n_units, n_simulations, rng)
    elif kind == "share":
        values, truth = share_experiments(centre, spread, n_points, n_units, n_simulations, rng)
    else:
        values, truth = centre + spread * rng.standard_normal((n_simulations, n_units)), centre
    if kind == "paired r":  # parent and child share the unit's own level; the gain spreads too
        gain = 0.2 + 0.3 * spread * rng.standard_normal(values.shape)
        estimates = [
            paired(list(v + g), list(v), **LABELS, n_points=n_points * n_units)
            for v, g in zip(values, gain, strict=True)
        ]
        truth = 0.2
    else:
        estimates = [over_units(list(v), **LABELS, kind=kind, n_points=n_points * n_units) for v in values]
    return float(np.mean([e.low <= truth <= e.high for e in estimates]))


CASES = [
    ("mean", 12.0, 4.0, 144),
    *[("correlation", r, s, n) for r in (0.0, 0.5, 0.9) for s, n in ((0.1, 144), (0.3, 240))],
    *[("share", p, s, n) for p in (0.5, 0.8, 0.95, 0.98) for s, n in ((0.35, 240), (0.5, 144))],
    ("paired r", 0.5, 0.2, 144),
]


@pytest.mark.parametrize("kind, centre, spread, n_points", CASES)
@pytest.mark.parametrize("n_units", [3, 5, 10])
def test_intervals_over_units_cover_the_truth_at_93_to_97_percent(kind, centre, spread, n_points, n_units):
    assert 0.93 <= coverage(kind, centre, spread, n_points, n_units) <= 0.975


@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("n", [144, 240])
def test_wilson_covers_a_share_of_independent_answers(p, n):
    from scipy.stats import binom

    k = np.arange(n + 1)
    estimates = [wilson(int(i), n, name="report.validity", arm="tuned") for i in k]
    hit = np.array([e.low <= p <= e.high for e in estimates])
    assert 0.93 <= float(binom.pmf(k, n, p) @ hit) <= 0.975  # exact, not simulated


def agents(r, shared, n_agents, rng, n_attributes=6):
    """Reported and learned weights of one unit, shape (n_agents, n_attributes) each, with errors shared by agent."""
    learned = rng.uniform(-1, 1, (n_agents, n_attributes))
    learned /= np.abs(learned).max(axis=1, keepdims=True)
    error = math.sqrt(shared) * rng.standard_normal((n_agents, 1))
    error = error + math.sqrt(1 - shared) * rng.standard_normal((n_agents, n_attributes))
    return r * learned / 0.634 + math.sqrt(1 - r * r) * error, learned


def pooled(reported, learned):
    """Pearson r of the agents asked for, from sums by agent (fast enough for a simulation)."""
    sums = np.stack([np.ones_like(reported), reported, learned, reported**2, learned**2, reported * learned]).sum(
        axis=2
    )

    def statistic(rows):
        n, x, y, xx, yy, xy = sums[:, rows].sum(axis=1)
        return float((xy - x * y / n) / math.sqrt((xx - x * x / n) * (yy - y * y / n)))

    return statistic


def within_coverage(r, shared, n_agents, n_simulations):
    rng = stream(0, "within", str(r), str(shared), n_agents)
    truth = float(np.corrcoef(*[a.ravel() for a in agents(r, shared, 200_000, rng)])[0, 1])
    hits = 0
    for _ in range(n_simulations):
        e = within_unit(
            pooled(*agents(r, shared, n_agents, rng)),
            n_agents,
            rng,
            **LABELS,
            kind="correlation",
            n_points=6 * n_agents,
            n_resamples=100,
        )
        hits += e.low <= truth <= e.high
    return hits / n_simulations


@pytest.mark.parametrize("r, shared", [(0.0, 0.3), (0.5, 0.0), (0.9, 0.3)])
def test_the_bootstrap_over_agents_covers_the_truth_inside_one_unit(r, shared):
    assert 0.91 <= within_coverage(r, shared, 24, 500) <= 0.98  # 500 draws: two standard errors are 2 points


def test_t_over_units_is_the_textbooks():
    # by hand: mean 0.63333, standard error 0.08819, t(0.975, 2) = 4.302653
    e = over_units([0.5, 0.6, 0.8], **LABELS, kind="mean", n_points=9)
    assert (e.low, e.value, e.high) == pytest.approx((0.25388, 0.63333, 1.01279), abs=1e-4)
    from scipy import stats

    low, high = stats.t.interval(0.9, 2, loc=np.mean([0.5, 0.6, 0.8]), scale=stats.sem([0.5, 0.6, 0.8]))
    e = over_units([0.5, 0.6, 0.8], **LABELS, kind="mean", n_points=9, level=0.9)
    assert (e.low, e.high) == pytest.approx((low, high))
    assert e.method == "t over 3 units, 90%"


def test_correlations_are_averaged_on_fishers_z():
    e = over_units([0.2, 0.5, 0.9], **LABELS, kind="correlation", n_points=30)
    assert e.value == pytest.approx(math.tanh(np.mean(np.arctanh([0.2, 0.5, 0.9]))))
    assert -1 < e.low < e.value < e.high < 1 and "Fisher z" in e.method


def test_a_correlation_of_exactly_1_does_not_become_infinite():
    e = over_units([1.0, 0.9, 0.8], **LABELS, kind="correlation", n_points=30)
    assert e.value == pytest.approx(0.9) and e.low is not None and e.low < 0.9 and e.high == 1.0
    assert e.method == "t over 3 units, 95%"


def test_units_that_agree_to_the_last_digit_get_no_interval_and_a_reason():
    e = over_units([1.0, 1.0, 1.0], **LABELS, kind="correlation", n_points=30)
    assert (e.value, e.low, e.high) == (1.0, None, None) and "same number" in e.reason


def test_shares_of_1_throughout_keep_a_width():
    e = over_units([1.0, 1.0, 1.0], **LABELS, kind="share", n_points=432)
    assert e.value == e.high == 1.0 and 0.985 < e.low < 1
    assert e.low == pytest.approx(wilson(432, 432, name="x", arm="y").low)


def test_shares_stay_between_0_and_1_around_their_mean():
    e = over_units([0.97, 1.0, 0.88], **LABELS, kind="share", n_points=432)
    assert 0 < e.low < e.value < e.high < 1 and e.value == pytest.approx(0.95)


def test_wilson_is_scipys():
    from scipy.stats import binomtest

    e = wilson(45, 50, name="report.validity", arm="tuned", n_missing=2)
    expected = binomtest(45, 50).proportion_ci(method="wilson")
    assert (e.low, e.high) == pytest.approx((expected.low, expected.high))
    assert (e.n, e.n_points, e.n_missing) == (1, 50, 2)


@pytest.mark.parametrize("values, n", [([0.4], 1), ([0.3, 0.5], 2), ([0.3, None, 0.5], 2)])
def test_fewer_than_three_units_give_the_mean_without_an_interval(values, n):
    e = over_units(values, **LABELS, kind="mean", n_points=10)
    assert (e.value, e.low, e.high, e.n) == (pytest.approx(0.4), None, None, n)
    assert "an interval needs 3" in e.reason


@pytest.mark.parametrize("values", [[], [None, None, None]])
def test_no_usable_unit_gives_no_number(values):
    e = over_units(values, **LABELS, kind="share", n_points=0, n_missing=7, against="target", gate="passed")
    assert (e.value, e.low, e.n, e.n_missing, e.against, e.gate) == (None, None, 0, 7, "target", "passed")
    assert "usable" in e.reason


def test_missing_units_are_left_out_and_said():
    with_none = over_units([0.2, None, 0.4, 0.9], **LABELS, kind="correlation", n_points=9)
    without = over_units([0.2, 0.4, 0.9], **LABELS, kind="correlation", n_points=9)
    assert {**asdict(with_none), "method": ""} == {**asdict(without), "method": ""}
    assert "3 of 4 units" in with_none.method


def test_the_order_of_units_does_not_matter():
    one, two = ([0.1, 0.5, 0.3, 0.8], [0.8, 0.3, 0.5, 0.1])
    a, b = (over_units(v, **LABELS, kind="correlation", n_points=9) for v in (one, two))
    assert (a.low, a.high) == pytest.approx((b.low, b.high))


def test_pairs_take_out_what_units_have_in_common():
    level = np.array([0.0, 0.3, 0.6, 0.1])
    e = paired(list(level + np.array([0.20, 0.21, 0.19, 0.20])), list(level), **LABELS, n_points=40)
    assert e.value == pytest.approx(0.2) and e.high - e.low < 0.05
    assert paired([0.5, None, 0.7], [0.1, 0.2, None], **LABELS, n_points=9).n == 1


def test_within_one_unit_says_so_and_repeats_under_the_same_stream():
    statistic = pooled(*agents(0.5, 0.0, 24, stream(0, "a")))
    one, two = (
        within_unit(statistic, 24, stream(0, "b"), **LABELS, kind="correlation", n_points=144) for _ in range(2)
    )
    assert one == two and one.n == 1
    assert one.method == "within one unit: bootstrap over 24 agents, 95%"


def test_within_one_unit_there_may_be_nothing_to_say():
    options = {**LABELS, "kind": "mean", "n_points": 9}
    rng = stream(0, "nothing")
    assert within_unit(lambda rows: None, 9, rng, **options).reason == "undefined in this unit"
    assert "2 agents, an interval needs 3" in within_unit(lambda rows: 0.5, 2, rng, **options).reason
    assert "no spread" in within_unit(lambda rows: 0.5, 9, rng, **options).reason
    e = within_unit(lambda rows: 0.5 if len(set(rows)) > 6 else None, 9, rng, **options)
    assert e.value == 0.5 and e.low is None and "resamples of agents are undefined" in e.reason
    share = within_unit(lambda rows: float(rows.mean() / 8), 9, rng, **{**options, "kind": "share"})
    assert 0 < share.low < 0.5 < share.high < 1


def test_missing_keeps_its_row_and_its_reason():
    e = missing("agreement.gain", "introspection", "no unit was report-trained", n_missing=3, against="learned")
    assert (e.value, e.reason, e.n_missing, e.against) == (None, "no unit was report-trained", 3, "learned")


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: over_units([0.1], **LABELS, kind="median", n_points=1), "kind must be mean, .* got 'median'"),
        (lambda: over_units([0.1], **LABELS, kind="mean", n_points=1, level=95), r"level must be in \(0, 1\), got 95"),
        (
            lambda: over_units([math.nan], **LABELS, kind="mean", n_points=1),
            r"values must be finite, got \[nan\]. Pass",
        ),
        (lambda: over_units([1.2], **LABELS, kind="share", n_points=1), r"a share must be in \[0, 1\], got \[1.2\]"),
        (lambda: over_units([-2.0], **LABELS, kind="correlation", n_points=1), r"a correlation must be in \[-1, 1\]"),
        (
            lambda: over_units([0.5], **LABELS, kind="share", n_points=0),
            "n_points must be > 0 for shares, got 0. Count",
        ),
        (lambda: paired([0.1], [], **LABELS, n_points=1), "a and b must be of the same units, got 1 and 0 values"),
        (lambda: wilson(3, 2, name="a", arm="b"), r"k must be in \[0, n\], got 3 of 2"),
        (lambda: wilson(1, 2, name="a", arm="b", level=0.0), r"level must be in \(0, 1\), got 0.0"),
        (
            lambda: within_unit(len, 9, stream(0), **LABELS, kind="mean", n_points=1, n_resamples=10),
            "n_resamples must be >= 50 and n_clusters >= 1, got 10 and 9",
        ),
        (
            lambda: within_unit(lambda rows: 0.5, 9, stream(0), **LABELS, kind="share", n_points=0),
            "n_points must be > 0 for shares, got 0",
        ),
    ],
)
def test_what_cannot_be_an_interval_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


def print_table(n_simulations=20_000):
    print("| method | truth | spread between units | points a unit | 3 units | 5 units | 10 units |")
    print("|---|---|---|---|---|---|---|")
    for kind, centre, spread, n_points in CASES:
        row = [coverage(kind, centre, spread, n_points, n, n_simulations) for n in (3, 5, 10)]
        print(f"| {kind} | {centre:g} | {spread:g} | {n_points} |", " | ".join(f"{100 * c:.1f}" for c in row), "|")
    print(
        "\n| within one unit | true r | share of error that an agent's points have in common | 24 agents | 48 agents |"
    )
    print("|---|---|---|---|---|")
    for r in (0.0, 0.5, 0.9):
        for shared in (0.0, 0.3):
            row = [within_coverage(r, shared, n, 2000) for n in (24, 48)]
            print(f"| bootstrap, t | {r:g} | {shared:g} |", " | ".join(f"{100 * c:.1f}" for c in row), "|", flush=True)


if __name__ == "__main__":
    print_table(*map(int, sys.argv[1:]))
