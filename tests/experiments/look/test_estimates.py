"""Numbers of a look: self-reports only where there is a gap, each arm beside the one that was taught nothing."""

import numpy as np
import pytest

from gnothi.experiments.look import estimates, names
from gnothi.experiments.look.estimates import Seen, not_interpreted, scored, spearman
from gnothi.experiments.look.spec import SIZES, Looked, LookSpec
from gnothi.records import Estimate


def estimate(name: str, arm: str, value: float | None, low: float | None = None, high: float | None = None) -> Estimate:
    """One of the parent's."""
    reason = "1 usable unit" if low is None else None
    return Estimate(name=name, arm=arm, value=value, low=low, high=high, n=3, n_points=9, method="t", reason=reason)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (estimate("self_report.difference", "seeking_minus_untuned", 0.4, 0.2, 0.6), None),
        (estimate("self_report.difference", "untuned_minus_seeking", -0.4, -0.6, -0.2), None),
        (estimate("trigger.presence", "seeking_minus_untuned", 0.4, 0.1, 0.6), None),
        (estimate("agreement.reported_vs_learned", "seeking", 0.9, 0.8, 0.95), None),
        (estimate("self_report.difference", "seeking_minus_untuned", 0.1, -0.2, 0.4), "includes 0"),
        (estimate("self_report.difference", "seeking_minus_untuned", 0.1), "no interval"),
        (estimate("self_report.difference", "averse_minus_untuned", 0.4, 0.2, 0.6), "no gap"),
        (estimate("behaviour.difference", "seeking_minus_untuned", 0.4, 0.2, 0.6), "no gap"),
    ],
)
def test_a_self_report_is_interpreted_only_where_its_gap_excludes_0(found: Estimate, said: str | None):
    why = not_interpreted({(found.name, found.arm): found}, "seeking")
    assert why is None if said is None else said in (why or "")


def spec(*units: tuple[str, int]) -> LookSpec:
    """A look at models of these arms and seeds."""
    looked = [
        Looked(name=f"{arm}-{seed}", arm=arm, seed=seed, control=arm == "shuffled", digest="0") for arm, seed in units
    ]
    opening = {"model": "organism", "model_family": "organism", "model_digest": "0"}
    return LookSpec(
        **opening, parent="0", parent_experiment="risk", units=tuple(looked), seed=0, seeds=3, **SIZES["organism"]
    )


def seen(arm: str, seed: int, gap: float, steps: int | None = 4) -> Seen:
    """What was found in one model."""
    values = {"look.gap/choice": gap, "look.gap/self_report": 0.5, "look.same_sites": 0.7, "look.undo_fraction": 0.01}
    back = {"choice": (steps, 64), "self_report": (steps, 64)}
    return Seen(f"{arm}-{seed}", arm, seed, values, {}, back, 20)


def test_each_arm_stands_beside_the_one_that_was_taught_nothing_seed_by_seed():
    units = [(a, s) for s in range(3) for a in ("seeking", "shuffled")]
    models = [seen(a, s, gap=5.0 + s if a == "seeking" else 1.0) for a, s in units]
    found = {(e.name, e.arm): e for e in scored(spec(*units), models, {"seeking": None})}
    assert found["look.gap/choice", "seeking"].value == pytest.approx(6)
    assert found["look.gap/choice", "seeking_minus_shuffled"].value == pytest.approx(5)
    assert found["look.gap/choice", "seeking_minus_shuffled"].n == 3
    assert found["look.sooner/choice", "seeking_minus_shuffled"].value == 0


def test_what_is_not_interpreted_has_no_number_and_says_why_but_the_control_keeps_its_own():
    units = [("seeking", 0), ("shuffled", 0)]
    found = {
        (e.name, e.arm): e
        for e in scored(spec(*units), [seen(a, s, 1.0) for a, s in units], {"seeking": "the gap includes 0"})
    }
    for name in ("look.same_sites", "look.gap/self_report", "look.steps_back/self_report"):
        assert found[name, "seeking"].value is None
        assert "not interpreted: the gap includes 0" in (found[name, "seeking"].reason or "")
        assert found[name, "shuffled"].value is not None
    assert found["look.gap/choice", "seeking"].value == 1.0


def test_a_model_that_never_came_back_is_not_averaged_in():
    units = [("seeking", s) for s in range(3)]
    models = [seen("seeking", s, 1.0, steps=None if s == 1 else 8) for s in range(3)]
    (found,) = (e for e in scored(spec(*units), models, {}) if e.name == "look.steps_back/choice")
    assert found.value is None and "1 of 3 seeds did not get there within 64 steps" in (found.reason or "")


def test_an_arm_that_is_not_there_yet_has_a_reason():
    found = scored(spec(("seeking", 0)), [], {})
    assert [(e.name, e.value, bool(e.reason)) for e in found] == [("look.gap/choice", None, True)]


def test_every_name_that_is_given_has_a_meaning_and_the_page_shows_known_ones():
    units = [("seeking", 0), ("shuffled", 0)]
    for e in scored(spec(*units), [seen(a, s, 1.0) for a, s in units], {"seeking": None}):
        assert e.name.partition("/")[0] in names.ESTIMATES, e.name
    assert {n.partition("/")[0] for n in names.MAIN} <= set(names.ESTIMATES)


def test_rank_correlation_agrees_with_scipy():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=30), rng.integers(0, 4, 30).astype(float)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert spearman(x, np.ones(30)) is None and estimates.spearman([1.0, 2.0], [1.0, 2.0]) is None


def overlap(first: np.ndarray, second: np.ndarray) -> dict[str, float | None]:
    """Of two maps."""
    rows = [
        [
            {"site": f"s{i}", "share": v, "direction": "both", "kind": "head" if i % 5 else "mlp"}
            for i, v in enumerate(values)
        ]
        for values in (first, second)
    ]
    return estimates._overlap(rows[0], rows[1], seed=0)


def test_maps_that_are_alike_are_told_from_maps_that_are_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(estimates, "PERMUTATIONS", 200)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 40))
    same = overlap(x, -x + 0.1 * y)
    assert (same["look.same_sites"] or 0) > 0.8 and (same["look.same_sites_p"] or 1) < 0.01
    others = [overlap(*rng.normal(size=(2, 40)))["look.same_sites_p"] or 0 for _ in range(40)]
    assert np.mean(np.array(others) < 0.05) < 0.2
