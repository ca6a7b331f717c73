import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gnothi.errors import DataError
from gnothi.rng import stream
from gnothi.score import agreement as ag

PUBLISHED = Path(
    os.environ.get("GNOTHI_PUBLISHED", Path(__file__).parents[2].parent / "shared" / "published"),
    "self-interpretability",
)
MODEL = "gpt-4o-mini-2024-07-18"

LEARNED = np.array([[100.0, -50, 20, 0, 5], [10, -100, 30, 80, -5], [60, 40, -100, 20, 0]])
PAIRED = [
    ag.pooled_r,
    ag.slope,
    ag.within_context_r,
    ag.sign_match,
    ag.top_attribute_match,
    ag.absolute_r,
    lambda r, w, v=None: ag.without_extremes(r, w, v, maximum=100),
]


@pytest.mark.parametrize("function", PAIRED)
def test_a_reporter_that_states_its_weights_scores_1(function):
    assert function(LEARNED, LEARNED).value == pytest.approx(1.0)


@pytest.mark.parametrize("function", PAIRED)
def test_what_lies_under_an_invalid_mark_is_never_read(function):
    valid = np.array([True, False, True])
    dirty = LEARNED.copy()
    dirty[1] = np.nan
    got = function(dirty, LEARNED, valid)
    assert got.value is not None and got.n_missing > 0
    if function is not ag.slope:  # which standardises learned weights over all contexts, as the paper does
        assert got.value == pytest.approx(function(LEARNED[valid], LEARNED[valid]).value)


@pytest.mark.parametrize("function", PAIRED)
def test_no_valid_report_is_a_reason_and_no_number(function):
    got = function(np.full_like(LEARNED, np.nan), LEARNED, np.zeros(3, bool))
    assert got.value is None and got.reason and got.n_points == 0


@pytest.mark.parametrize("function", [ag.pooled_r, ag.slope, ag.within_context_r, ag.absolute_r])
def test_a_constant_reporter_has_no_correlation_and_a_reason(function):
    got = function(np.full_like(LEARNED, 7.0), LEARNED)
    assert got.value is None and ("constant" in got.reason or "vary" in got.reason)


@given(arrays(float, (6, 4), elements=st.integers(-100, 100).map(float)), st.permutations(range(6)))
def test_the_order_of_contexts_does_not_matter(reported, order):
    learned = stream(0, "order").uniform(-100, 100, (6, 4))
    for function in PAIRED:
        one, two = function(reported, learned), function(reported[order], learned[order])
        assert (one.value is None) == (two.value is None) and one.n_points == two.n_points
        assert one.value is None or one.value == pytest.approx(two.value, abs=1e-9)


def test_pooled_r_is_numpys():
    reported = LEARNED + stream(0, "noise").normal(0, 60, LEARNED.shape)
    assert ag.pooled_r(reported, LEARNED).value == pytest.approx(np.corrcoef(reported.ravel(), LEARNED.ravel())[0, 1])
    assert ag.slope(reported, LEARNED).value == pytest.approx(ag.pooled_r(reported, LEARNED).value)


def test_two_points_are_too_few_for_a_correlation():
    got = ag.pooled_r(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]))
    assert got.value is None and got.reason == "reports: 2 points, a correlation needs 3"


def test_slope_standardises_reports_within_each_fold():
    reported = np.r_[LEARNED, 3 * LEARNED + 40]
    learned = np.r_[LEARNED, LEARNED]
    assert ag.slope(reported, learned).value < 0.95
    by_fold = ag.slope(reported, learned, folds=np.array([0, 0, 0, 1, 1, 1])).value
    assert by_fold == pytest.approx(np.sqrt((29 / 30) / (14 / 15)))  # n - 1 of all 30 points against 15 a fold


def test_the_sign_of_zero_matches_only_zero():
    got = ag.sign_match(np.array([[0.0, 0.0, -1.0, 2.0]]), np.array([[0.0, 5.0, -9.0, -1.0]]))
    assert got == ag.Value(0.5, 4)


def test_the_first_attribute_wins_a_tie_for_the_top():
    tied = np.array([[50.0, -50.0, 1.0]])
    assert ag.top_attribute_match(tied, np.array([[9.0, 1.0, 1.0]])).value == 1.0
    assert ag.top_attribute_match(tied, np.array([[1.0, 9.0, 1.0]])).value == 0.0


def test_a_context_counts_for_the_top_only_if_reported_whole():
    valid = np.ones(LEARNED.shape, bool)
    valid[0, 3] = False
    assert ag.top_attribute_match(LEARNED, LEARNED, valid) == ag.Value(1.0, 2, 1)


def test_reports_predict_choices_a_exactly_above_zero():
    differences = np.array([[[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]])
    chose_a = np.array([[True, True, False, False]])
    assert ag.choices_predicted(np.array([[2.0, 1.0]]), differences, chose_a).value == 0.5
    mask = np.array([[True, False, True, False]])
    assert ag.choices_predicted(np.array([[2.0, 1.0]]), differences, chose_a, mask=mask) == ag.Value(1.0, 2, 2)
    soft = ag.choices_predicted(np.array([[2.0, 1.0]]), differences, np.full((1, 4), 0.75))
    assert soft.value == pytest.approx((0.75 + 0.25 + 0.25 + 0.75) / 4)


def test_choices_of_contexts_without_a_report_are_missing():
    differences = np.ones((2, 3, 2))
    reported = np.array([[1.0, 1.0], [np.nan, np.nan]])
    got = ag.choices_predicted(reported, differences, np.ones((2, 3)), np.array([True, False]))
    assert got == ag.Value(1.0, 3, 3)


def test_the_magnitude_counts_alone_in_absolute_r():
    flipped = LEARNED * np.array([1, -1, 1, -1, 1])
    assert ag.absolute_r(flipped, LEARNED).value == pytest.approx(1.0)
    assert ag.pooled_r(flipped, LEARNED).value < 0.9


def test_extremes_are_left_out_by_the_learned_weight():
    got = ag.without_extremes(LEARNED, LEARNED, maximum=100)
    assert got.n_points == 12 and got.n_missing == 0


def test_repeats_are_averaged_over_the_valid_ones():
    reports = np.array([[[0.0, 4.0], [2.0, 8.0], [99.0, 99.0]], [[np.nan] * 2] * 3])
    valid = np.array([[True, True, False], [False] * 3])
    mean, there = ag.mean_reports(reports, valid)
    assert mean.tolist() == [[1.0, 6.0], [0.0, 0.0]] and there.tolist() == [[True, True], [False, False]]
    drift = ag.option_drift(reports, valid)
    assert drift.value == pytest.approx((np.sqrt(2) + np.sqrt(8)) / 2) and drift.n_missing == 2


def test_single_reports_are_noisier_than_their_mean():
    rng = stream(0, "single")
    learned = rng.uniform(-1, 1, (200, 5))
    reports = learned[:, None] + rng.normal(0, 1, (200, 10, 5))
    single, mean = ag.single_report_r(reports, learned), ag.pooled_r(ag.mean_reports(reports)[0], learned)
    assert single.n_points == 10_000 and 0.4 < single.value < 0.6 < 0.8 < mean.value


def test_one_repeat_has_no_drift_and_says_so():
    assert ag.option_drift(np.ones((2, 1, 3))).reason == "no point with two valid reports"


def test_a_reporter_that_favours_the_first_in_the_list_shows_it():
    rng = stream(0, "position")
    positions = np.argsort(rng.random((100, 5)), axis=1)
    reported = rng.normal(0, 1, (100, 5)) + 20 * (positions == 0)
    assert ag.attribute_position(reported, positions=positions).value == pytest.approx(20, abs=0.6)
    assert abs(ag.attribute_position(reported).value) < 5


def test_a_constant_reporter_has_no_spread():
    assert ag.spread(np.full((2, 3), 4.0)) == ag.Value(0.0, 6)
    assert ag.spread(np.ones((1, 1))).reason == "fewer than 2 valid reports"


def test_validity_counts_reports():
    assert ag.validity(np.array([[True, False], [True, True]])) == ag.Value(0.75, 4)
    assert ag.validity(np.array([])).reason == "no report was asked for"


NAN = np.array([[np.nan, 1.0]])
ONE = np.ones((1, 2))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: ag.pooled_r(np.ones(3), np.ones(3)), r"must have one shape \(n_contexts, .* got \(3,\) and \(3,\)"),
        (lambda: ag.pooled_r(ONE, np.ones((2, 2))), r"must have one shape .* got \(1, 2\) and \(2, 2\)"),
        (lambda: ag.pooled_r(ONE, ONE, np.ones(1)), r"valid must be bool with shape \(1,\) or \(1, 2\), got float64"),
        (lambda: ag.pooled_r(NAN, ONE), "must be finite where valid, got NaN or inf. Mark those points invalid"),
        (lambda: ag.slope(ONE, ONE, folds=np.zeros(3)), r"folds must have shape \(1,\), got \(3,\)"),
        (lambda: ag.slope(ONE, NAN, np.array([False])), "learned must be finite in all contexts for a slope"),
        (lambda: ag.without_extremes(ONE, ONE, maximum=0), "maximum must be > 0, got 0"),
        (
            lambda: ag.choices_predicted(ONE, np.ones((1, 3, 3)), np.ones((1, 3))),
            r"must have shapes \(1, n_trials, 2\) and \(1, n_trials\), got \(1, 3, 3\) and \(1, 3\)",
        ),
        (
            lambda: ag.choices_predicted(ONE, np.full((1, 3, 2), np.nan), np.ones((1, 3))),
            "differences and chose_a must be finite where they count, got NaN or inf. Mask those trials",
        ),
        (
            lambda: ag.option_drift(ONE),
            r"reports must have shape \(n_contexts, n_repeats, n_attributes\), got \(1, 2\)",
        ),
        (lambda: ag.option_drift(np.ones((1, 2, 2)), np.ones(2, bool)), r"valid must be bool with shape \(1, 2\) or"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbers(row, stem):
    return [float(row[f"{stem}{i}"]) for i in range(1, 6)]


def published(kind, report_files):
    """Mean reports, learned weights, mask, folds and choices of one condition, from the authors' files."""
    folder = PUBLISHED / f"results-{MODEL.removesuffix('-2024-07-18')}"
    prefix = "latent_" if kind == "native" else ""
    learned = {r["scenario"]: numbers(r, "b_attr") for r in read(folder / f"{MODEL}_{prefix}regression_results.csv")}
    ids = list(learned)
    reports, folds = np.zeros((len(ids), 10, 5)), np.zeros(len(ids), int)
    valid, used = np.zeros((len(ids), 10), bool), dict.fromkeys(ids, 0)
    for fold, file in enumerate(report_files):
        for row in read(folder / f"{MODEL}_{file}.csv"):
            i, k = ids.index(row["scenario"]), used[row["scenario"]]
            reports[i, k], valid[i, k], folds[i] = numbers(row, "report_attr"), True, fold
            used[row["scenario"]] += 1
    ranges = {r["scenario"]: r for r in read(PUBLISHED / "inputs" / "scenarios.csv")}
    trials: dict[str, list] = {c: [] for c in ids}
    file = "instilled_latent_selections" if kind == "native" else "instilled_selections"
    for row in read(folder / f"{MODEL}_{file}.csv"):
        r = ranges[row["scenario"]]
        a, b = np.array(numbers(row, "A_attribute_")), np.array(numbers(row, "B_attribute_"))
        width = [float(r[f"attr{i}_max"]) - float(r[f"attr{i}_min"]) for i in range(1, 6)]
        trials[row["scenario"]].append([*((a - b) / width), row["selection"] == "A"])
    packed = np.array([trials[c] for c in ids], float)
    return reports, valid, np.array([learned[c] for c in ids]), folds, packed[..., :5], packed[..., 5]


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the authors' data is not here: GNOTHI_PUBLISHED")
@pytest.mark.parametrize(
    "condition, files",
    [
        ("off_the_shelf", ["weight_reports"]),
        ("weight_trained", ["instilled_weight_reports"]),
        (
            "introspection_trained",
            ["itrained_first_50_of_100_50ex_weight_reports", "itrained_last_50_of_100_50ex_weight_reports"],
        ),
    ],
)
def test_the_published_reports_score_as_published(condition, files):
    golden = json.loads((PUBLISHED / "derived" / "golden_values.json").read_text())["instilled"]["gpt-4o-mini"]
    reports, valid, learned, folds, differences, chose_a = published("instilled", files)
    mean, there = ag.mean_reports(reports, valid)
    r = ag.pooled_r(mean, learned, there)
    assert r.n_points == golden["n_points"][condition]
    got = {
        "report_vs_measured_r": r,
        "slope": ag.slope(mean, learned, there, folds=folds),
        "sign_match": ag.sign_match(mean, learned, there),
        "mean_within_context_r": ag.within_context_r(mean, learned, there),
        "choice_prediction_accuracy_from_reports": ag.choices_predicted(mean, differences, chose_a, there),
    }
    for key, value in got.items():
        assert value.value == pytest.approx(golden[key][condition], abs=0.00051), key
    top = ag.top_attribute_match(mean, learned, there)
    assert top.value == pytest.approx(golden["top_attribute_match"][condition], abs=0.0051)
    if condition == "weight_trained":
        single = ag.single_report_r(reports, learned, valid)
        assert single.value == pytest.approx(golden["single_report_r"][condition], abs=0.00051)
