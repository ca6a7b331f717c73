import numpy as np
import pytest

from gnothi.measure.gate import Gate, a_rate, choice_agreement
from gnothi.rng import stream

RNG = stream(0, "gate")
DIFFERENCES = RNG.uniform(-1, 1, (4, 500, 6))
WEIGHTS = RNG.integers(-9, 10, (4, 6)).astype(float)
TARGET = np.einsum("ctk,ck->ct", DIFFERENCES, WEIGHTS) > 0
ALL = np.ones((4, 500), bool)


def test_agreement_is_what_was_planted():
    assert choice_agreement(DIFFERENCES, TARGET, ALL, WEIGHTS) == (1.0, 2000)
    assert choice_agreement(DIFFERENCES, ~TARGET, ALL, WEIGHTS)[0] == 0.0
    flipped = TARGET ^ (np.arange(500) < 100)
    assert choice_agreement(DIFFERENCES, flipped, ALL, WEIGHTS)[0] == pytest.approx(0.8)


def test_chance_agreement_is_a_half():
    guesses = stream(1, "guess").random((4, 500)) < 0.5
    assert abs(choice_agreement(DIFFERENCES, guesses, ALL, WEIGHTS)[0] - 0.5) < 4 * 0.5 / 2000**0.5


def test_a_choice_that_was_not_made_disagrees():
    mask = ALL.copy()
    mask[:, :250] = False
    assert choice_agreement(DIFFERENCES, TARGET, mask, WEIGHTS) == (0.5, 2000)


def test_the_share_of_a_is_over_choices_that_were_made():
    chose = np.array([[True, True, False, False]])
    assert a_rate(chose, np.array([[True, True, True, False]])) == pytest.approx(2 / 3)
    assert a_rate(chose, np.zeros((1, 4), bool)) is None


@pytest.mark.parametrize(
    ("agreement", "rate", "passed", "reason"),
    [
        (0.75, 0.5, True, None),
        (0.7499, 0.5, False, "agree with the target in 75%, below 75%"),
        (0.5, 0.2, False, "50%, below 75%"),
        (0.9, 0.2, True, None),
        (0.9, 0.81, False, "A is chosen in 81%.*constant answer"),
        (0.9, 0.0, False, "A is chosen in 0%"),
    ],
)
def test_the_gate_says_why_it_is_closed(agreement, rate, passed, reason):
    import re

    found, said = Gate().check(agreement, rate)
    assert found is passed and (said is None if reason is None else re.search(reason, said))
