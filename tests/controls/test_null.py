"""What must come out at chance does: null experiments are called significant as often as their level says.

Each simulated experiment goes through the real chain: choices, learned weights, agreement inside each unit, interval
over units. It is as lumpy as the real thing: a unit leans towards some attributes whoever the agent is, reports have
favourites that all units share, and the reports about one agent lean together. Reports know nothing of the weights.
"""

import numpy as np
import pytest

from gnothi.intervals import over_units
from gnothi.measure.learned_weights import fit_map_logit, scale_weights
from gnothi.rng import stream
from gnothi.score.agreement import choices_predicted, pooled_r, sign_match, top_attribute_match

N_EXPERIMENTS, N_UNITS, N_AGENTS, N_ATTRIBUTES, N_TRIALS = 1000, 5, 24, 6, 16


def units(rng, n_units, n_agents=N_AGENTS, n_trials=N_TRIALS):
    """Return (learned, differences, chose_a), each (n_units, n_agents, …), of units with tables of their own."""
    target = rng.uniform(-1, 1, (n_units, n_agents, N_ATTRIBUTES)) + 0.3 * rng.standard_normal(
        (n_units, 1, N_ATTRIBUTES)
    )
    shape = (n_units, n_agents, n_trials, N_ATTRIBUTES)
    differences = rng.random(shape) - rng.random(shape)
    log_odds = 5 * (differences @ target[..., None])[..., 0] + 0.5 * rng.standard_normal((n_units, 1, 1))
    chose_a = rng.random(log_odds.shape) < 1 / (1 + np.exp(-log_odds))
    fit = fit_map_logit(differences.reshape(-1, n_trials, N_ATTRIBUTES), chose_a.reshape(-1, n_trials))
    assert fit.converged.all()
    return scale_weights(fit.slopes, maximum=9, decimals=2).reshape(target.shape), differences, chose_a


@pytest.fixture(scope="module")
def learned():
    """Learned weights of every experiment, (N_EXPERIMENTS, N_UNITS, N_AGENTS, N_ATTRIBUTES)."""
    rng = stream(0, "null", "units")
    batches = [units(rng, 20 * N_UNITS)[0] for _ in range(N_EXPERIMENTS // 20)]  # 20 at a time stay in the cache
    return np.concatenate(batches).reshape(N_EXPERIMENTS, N_UNITS, N_AGENTS, N_ATTRIBUTES)


def shared_leanings(rng, learned):
    """Reports without knowledge: favourites that all units share, a lean for each unit and agent, and noise."""
    n_units, n_agents, k = learned.shape
    favourites = 3 * rng.standard_normal((1, 1, k))
    lean = rng.standard_normal((n_units, 1, 1)) + 2 * rng.standard_normal((n_units, n_agents, 1))
    return np.clip(np.round(favourites + lean + 2 * rng.standard_normal(learned.shape)), -9, 9)


def at_random(rng, learned):
    """Any number of the scale."""
    return rng.integers(-9, 10, learned.shape).astype(float)


def knows_a_little(rng, learned):
    """Reports that share a tenth of their variance with the weights."""
    return learned + 3 * learned.std() * rng.standard_normal(learned.shape)


def estimates(learned, reporter, n_units):
    """One estimate over the first `n_units` units of each experiment."""
    rng, found = stream(0, "null", reporter.__name__, n_units), []
    for weights in learned[:, :n_units]:
        rs = [pooled_r(x, w) for x, w in zip(reporter(rng, weights), weights, strict=True)]
        found.append(
            over_units(
                [r.value for r in rs],
                name="agreement.reported_vs_learned",
                arm="untuned",
                kind="correlation",
                n_points=sum(r.n_points for r in rs),
            )
        )
    return found


@pytest.mark.parametrize("reporter", [shared_leanings, at_random])
@pytest.mark.parametrize("n_units", [3, 5])
def test_reports_without_knowledge_are_called_significant_in_3_to_7_percent(learned, reporter, n_units):
    found = estimates(learned, reporter, n_units)
    assert 0.03 <= np.mean([not e.low <= 0 <= e.high for e in found]) <= 0.07
    assert abs(np.mean([e.value for e in found])) < 0.01


def test_taking_every_point_as_independent_would_call_the_same_null_far_too_often(learned):
    rng, called = stream(0, "null", "points"), 0
    for weights in learned:
        r = pooled_r(shared_leanings(rng, weights).reshape(-1, N_ATTRIBUTES), weights.reshape(-1, N_ATTRIBUTES))
        called += abs(np.arctanh(r.value)) > 1.96 / np.sqrt(r.n_points - 3)
    assert called / N_EXPERIMENTS > 0.15


def test_a_little_knowledge_is_found(learned):
    found = estimates(learned[:100], knows_a_little, 5)
    assert np.mean([e.low > 0 for e in found]) > 0.95
    assert np.mean([e.value for e in found]) == pytest.approx(1 / np.sqrt(10), abs=0.02)


def test_a_planted_truth_comes_back_whole():
    weights, differences, chose_a = units(stream(0, "truth"), 3)
    labels = {"name": "agreement.reported_vs_learned", "arm": "tuned", "n_points": weights.size}
    e = over_units([pooled_r(w, w).value for w in weights], kind="correlation", **labels)
    assert e.value == pytest.approx(1.0)
    predicted = [choices_predicted(*unit).value for unit in zip(weights, differences, chose_a, strict=True)]
    assert over_units(predicted, kind="share", **labels).low > 0.7


@pytest.mark.parametrize("score, chance", [(sign_match, 0.5), (top_attribute_match, 1 / N_ATTRIBUTES)])
def test_shares_of_random_reporters_lie_at_chance(score, chance):
    """At 99.9%, so that a right answer fails once in a thousand seeds."""
    rng = stream(0, "chance", score.__name__)
    weights, *_ = units(rng, 10, n_agents=100)
    weights[weights == 0] = 0.01  # 0 has a sign of its own
    reported = at_random(rng, weights)
    reported[reported == 0] = 1.0
    got = [score(x, w) for x, w in zip(reported, weights, strict=True)]
    e = over_units(
        [v.value for v in got],
        name="agreement.sign_match",
        arm="untuned",
        kind="share",
        n_points=sum(v.n_points for v in got),
        level=0.999,
    )
    assert e.low <= chance <= e.high
