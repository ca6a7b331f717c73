import numpy as np
import pytest

from gnothi.errors import DataError
from gnothi.measure.learned_weights import fit_map_logit, scale_weights
from gnothi.rng import stream
from gnothi.score.agreement import Value
from gnothi.score.reliability import odd_and_even, perfect_chooser, spearman_brown, split_half


def fit(differences, chose_a, mask=None):
    return scale_weights(fit_map_logit(differences, chose_a, mask=mask).slopes, maximum=100)


def items(n_contexts, n_trials, name):
    rng = stream(0, "test_reliability", name)
    differences = rng.random((n_contexts, n_trials, 5)) - rng.random((n_contexts, n_trials, 5))
    return differences, scale_weights(rng.uniform(-1, 1, (n_contexts, 5)), maximum=100), rng


# Uniform items; with paper B's own ranges, rounding and targets (100 agents, 20 draws) the means are the same.
@pytest.mark.parametrize("n_trials, ceiling", [(50, 0.969), (100, 0.987), (200, 0.995)])
def test_a_perfect_chooser_gives_back_its_target_up_to_a_ceiling(n_trials, ceiling):
    differences, target, _ = items(800, n_trials, "ceiling")
    assert perfect_chooser(target, differences, fit).value == pytest.approx(ceiling, abs=0.004)


def test_masked_trials_lower_the_ceiling():
    differences, target, rng = items(400, 100, "mask")
    mask = rng.random((400, 100)) < 0.2
    assert perfect_chooser(target, differences, fit, mask=mask).value < perfect_chooser(target, differences, fit).value


def test_stepping_up_the_half_tests_predicts_a_repeated_measurement():
    differences, target, rng = items(800, 100, "halves")
    log_odds = 0.02 * (differences @ target[:, :, None])[..., 0]
    choose = lambda: rng.random(log_odds.shape) < 1 / (1 + np.exp(-log_odds))  # noqa: E731
    chose_a, again = choose(), choose()
    odd, even = (fit(differences[:, rows], chose_a[:, rows]) for rows in odd_and_even(100))
    half = split_half(odd, even)
    whole = np.corrcoef(fit(differences, chose_a).ravel(), fit(differences, again).ravel())[0, 1]
    assert half.value < whole - 0.05
    assert spearman_brown(half).value == pytest.approx(whole, abs=0.03)


def test_coin_flips_have_no_reliability():
    differences, _, rng = items(800, 100, "coins")
    chose_a = rng.random((800, 100)) < 0.5
    odd, even = (fit(differences[:, rows], chose_a[:, rows]) for rows in odd_and_even(100))
    assert abs(split_half(odd, even).value) < 3.3 / np.sqrt(4000)


def test_spearman_brown_is_the_textbooks_and_stays_in_range():
    assert spearman_brown(Value(0.5, 9)).value == pytest.approx(2 / 3)
    assert spearman_brown(Value(-1 / 3, 9)).value == pytest.approx(-1)
    assert "too negative to be stepped up" in spearman_brown(Value(-0.5, 9)).reason
    assert spearman_brown(Value(None, 0, 0, "no")).reason == "no"


def test_constant_weights_say_which_half():
    assert split_half(np.ones((2, 3)), np.ones((2, 3))).reason == "weights from odd trials are constant"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: odd_and_even(1), "n_trials must be >= 2 to be split in halves, got 1"),
        (
            lambda: perfect_chooser(np.ones((2, 3)), np.ones((2, 9, 4)), fit),
            r"differences must have shape \(n_contexts, n_trials, n_attributes\) for target .* got \(2, 9, 4\)",
        ),
    ],
)
def test_what_cannot_be_split_or_simulated_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()
