import re

import numpy as np
import pytest

from gnothi.errors import DataError
from gnothi.measure.learned_weights import fit_map_logit, scale_weights
from gnothi.rng import stream
from gnothi.score.agreement import Value
from gnothi.score.reliability import perfect_chooser, spearman_brown, split_half


def fit(differences, chose_a):
    return scale_weights(fit_map_logit(differences, chose_a).slopes, maximum=100)


def halves(differences, chose_a):
    return [fit(differences[:, start::2], chose_a[:, start::2]) for start in (0, 1)]


def items(n_contexts, n_trials, name):
    rng = stream(0, "test_reliability", name)
    differences = rng.random((n_contexts, n_trials, 5)) - rng.random((n_contexts, n_trials, 5))
    return differences, scale_weights(rng.uniform(-1, 1, (n_contexts, 5)), maximum=100), rng


# Uniform items; with paper B's own ranges, rounding and targets (100 agents, 20 draws) the means are the same.
@pytest.mark.parametrize("n_trials, ceiling", [(50, 0.969), (100, 0.987), (200, 0.995)])
def test_a_perfect_chooser_gives_back_its_target_up_to_a_ceiling(n_trials, ceiling):
    differences, target, _ = items(800, n_trials, "ceiling")
    wanted = np.einsum("ctk,ck->ct", differences, target) > 0
    assert perfect_chooser(target, differences, wanted, fit).value == pytest.approx(ceiling, abs=0.004)


def test_a_rule_that_is_no_sum_of_weights_lowers_the_ceiling():
    differences, target, _ = items(400, 100, "rule")
    summed = np.einsum("ctk,ck->ct", differences, target) > 0
    first = np.abs(target).argmax(axis=1)[:, None, None]
    alone = (np.take_along_axis(differences, first, 2) * np.take_along_axis(target[:, None], first, 2))[..., 0] > 0
    ceilings = [perfect_chooser(target, differences, wanted, fit).value for wanted in (summed, alone)]
    assert ceilings[1] < ceilings[0] - 0.1


def test_contexts_that_teach_nothing_are_missing():
    differences, target, _ = items(20, 50, "nothing")
    wanted = np.einsum("ctk,ck->ct", differences, target) > 0
    holes = lambda x, y: np.where(np.arange(20)[:, None] < 2, np.nan, fit(x, y))  # noqa: E731
    found = perfect_chooser(target, differences, wanted, holes)
    assert (found.n_points, found.n_missing) == (90, 10) and found.value > 0.9
    half = split_half(holes(differences, wanted), fit(differences, wanted))
    assert (half.n_points, half.n_missing) == (90, 10)


def test_stepping_up_the_half_tests_predicts_a_repeated_measurement():
    differences, target, rng = items(800, 100, "halves")
    log_odds = 0.02 * (differences @ target[:, :, None])[..., 0]
    choose = lambda: rng.random(log_odds.shape) < 1 / (1 + np.exp(-log_odds))  # noqa: E731
    chose_a, again = choose(), choose()
    half = split_half(*halves(differences, chose_a))
    whole = np.corrcoef(fit(differences, chose_a).ravel(), fit(differences, again).ravel())[0, 1]
    assert half.value < whole - 0.05
    assert spearman_brown(half).value == pytest.approx(whole, abs=0.03)


def test_coin_flips_have_no_reliability():
    differences, _, rng = items(800, 100, "coins")
    chose_a = rng.random((800, 100)) < 0.5
    assert abs(split_half(*halves(differences, chose_a)).value) < 3.3 / np.sqrt(4000)


def test_spearman_brown_is_the_textbooks_and_stays_in_range():
    assert spearman_brown(Value(0.5, 9)).value == pytest.approx(2 / 3)
    assert spearman_brown(Value(-1 / 3, 9)).value == pytest.approx(-1)
    assert "too negative to be stepped up" in spearman_brown(Value(-0.5, 9)).reason
    assert spearman_brown(Value(None, 0, 0, "no")).reason == "no"


def test_constant_weights_say_which_half():
    assert split_half(np.ones((2, 3)), np.ones((2, 3))).reason == "weights from odd trials are constant"


@pytest.mark.parametrize("differences, chose_a", [((2, 9, 4), (2, 9)), ((2, 9, 3), (2, 8))])
def test_shapes_that_do_not_fit_are_refused(differences, chose_a):
    message = re.escape(f"for target weights of shape (2, 3), got {differences} and {chose_a}")
    with pytest.raises(DataError, match=message):
        perfect_chooser(np.ones((2, 3)), np.ones(differences), np.ones(chose_a, bool), fit)
