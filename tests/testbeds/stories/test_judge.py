import numpy as np
import pytest

from gnothi.errors import DataError
from gnothi.intervals import wilson
from gnothi.measure.code_security import JudgeErrors, corrected_rate
from gnothi.rng import stream
from gnothi.testbeds.stories.grammar import SHARES, stories
from gnothi.testbeds.stories.judge import Errors, corrected, errors, fit_judge
from gnothi.testbeds.stories.records import Record


def drawn(n, seed):
    return stories(n, stream(seed, "judge"), every=2, shares={**SHARES, "Twist": 0.5})


@pytest.fixture(scope="module")
def judge():
    return fit_judge(drawn(2500, 0), "Twist", stream(0, "fit"))


def test_the_judge_finds_twists_in_stories_that_it_has_not_seen(judge):
    held_out = drawn(800, 1)
    found = errors(judge.verdicts([r.story for r in held_out]), [r.has("Twist") for r in held_out])
    assert found.sensitivity > 0.75 and found.specificity > 0.75, found


def test_a_judge_of_shuffled_labels_finds_nothing():
    true = drawn(1200, 0)
    order = stream(0, "shuffled").permutation(len(true))
    mixed = [Record(story=r.story, features=true[i].features) for r, i in zip(true, order, strict=True)]
    judge = fit_judge(mixed, "Twist", stream(0, "fit"))
    held_out = drawn(800, 1)
    found = errors(judge.verdicts([r.story for r in held_out]), [r.has("Twist") for r in held_out])
    assert abs(found.sensitivity + found.specificity - 1) < 0.2


def test_a_judge_is_the_same_again_and_says_nothing_of_no_stories(judge):
    first, again = (fit_judge(drawn(300, 0), "Twist", stream(0, "fit")) for _ in range(2))
    assert np.array_equal(again.weight, first.weight) and again.bias == first.bias
    assert len(judge.verdicts([])) == 0
    assert judge.probabilities(["", "zzz"]).shape == (2,)


def test_errors_are_counted_by_hand():
    found = errors([True, False, True, False, False], [True, True, False, False, False])
    assert (found.missed, found.with_feature, found.flagged, found.without) == (1, 2, 1, 3)
    negative, positive = found.estimates("held-out", "labels")
    assert (negative.value, negative.n_points, positive.value) == (0.5, 2, pytest.approx(1 / 3))
    assert Errors(missed=0, with_feature=0, flagged=1, without=2).sensitivity is None


def test_one_kind_of_story_teaches_no_judge_and_other_stories_have_no_errors():
    with pytest.raises(DataError, match="with and without Twist"):
        fit_judge([Record(story="A.")], "Twist", stream(0))
    with pytest.raises(DataError, match="of the same stories"):
        errors([True], [True, False])


def test_a_corrected_rate_of_one_model_is_that_of_the_other_judge_of_the_package():
    found = Errors(missed=12, with_feature=150, flagged=20, without=200)
    ours = corrected([0.4], 381, found, name="code.x", arm="a")
    rates = [wilson(k, n, name="judge", arm="all") for k, n in ((12, 150), (20, 200))]
    theirs = corrected_rate(wilson(round(0.4 * 381), 381, name="code.x", arm="a"), JudgeErrors(*rates, {}))
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=2e-3)


def test_corrected_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    for truth, spread in ((0.1, 0.0), (0.5, 0.05), (0.8, 0.0)):
        hits = 0
        for _ in range(400):
            missed, flagged = rng.binomial(150, 0.1), rng.binomial(300, 0.06)
            of = np.clip(truth + spread * rng.standard_normal(3), 0, 1)
            said = of * 0.9 + (1 - of) * 0.06
            rates = list(rng.binomial(200, said) / 200)
            found = Errors(missed=int(missed), with_feature=150, flagged=int(flagged), without=300)
            e = corrected(rates, 600, found, name="stories.judged_corrected", arm="a")
            hits += e.low <= truth <= e.high
        assert hits / 400 > 0.92, (truth, hits / 400)


@pytest.mark.parametrize(
    "rates, found, reason",
    [
        (
            [0.5],
            Errors(missed=48, with_feature=50, flagged=1, without=50),
            "flags 4% of the stories with the feature and 2%",
        ),
        ([0.5], Errors(missed=0, with_feature=0, flagged=1, without=50), "errors are not known"),
        ([], Errors(missed=1, with_feature=50, flagged=1, without=50), "none of 0 units"),
    ],
)
def test_what_cannot_be_corrected_is_missing_with_its_reason(rates, found, reason):
    e = corrected(rates, 100, found, name="stories.judged_corrected", arm="a")
    assert e.value is None and reason in e.reason


def test_two_models_give_a_value_without_an_interval():
    e = corrected([0.4, 0.5], 200, Errors(missed=5, with_feature=50, flagged=5, without=50), name="x", arm="a")
    assert e.value is not None and e.low is None and "an interval needs 3" in e.reason
