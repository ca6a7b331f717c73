import csv
import os
from pathlib import Path

import numpy as np
import pytest

from gnothi.errors import DataError
from gnothi.measure.learned_weights import fit_map_logit, scale_weights
from gnothi.rng import stream

PUBLISHED = Path(
    os.environ.get("GNOTHI_PUBLISHED", Path(__file__).parents[2].parent / "shared" / "published"),
    "self-interpretability",
)


def simulated(n_contexts=20, n_trials=50, n_attributes=5, strength=4.0, name="sim"):
    rng = stream(0, "test_learned_weights", name)
    x = rng.uniform(0, 1, (n_contexts, n_trials, n_attributes)) - rng.uniform(
        0, 1, (n_contexts, n_trials, n_attributes)
    )
    weights = rng.uniform(-1, 1, (n_contexts, n_attributes))
    log_odds = strength * np.einsum("ctk,ck->ct", x, weights) + 0.3
    return x, rng.random((n_contexts, n_trials)) < 1 / (1 + np.exp(-log_odds)), weights


def by_scipy(x, y, *, slope_sd=1.0, student_t=True):
    """One context, straight from the definition of the posterior."""
    from scipy import optimize, stats

    def negative_log_posterior(theta):
        eta = x @ theta[:-1] + theta[-1]
        loss = np.sum(np.logaddexp(0, eta) - y * eta) - stats.norm.logpdf(theta[:-1], scale=slope_sd).sum()
        return loss - (stats.t.logpdf(theta[-1], df=3, scale=2.5) if student_t else 0.0)

    return optimize.minimize(negative_log_posterior, np.zeros(x.shape[1] + 1), method="BFGS", options={"gtol": 1e-9}).x


@pytest.mark.parametrize("slope_sd", [0.5, 1.0, 3.0])
def test_the_mode_is_the_one_that_scipy_finds(slope_sd):
    x, y, _ = simulated(8)
    fit = fit_map_logit(x, y, slope_sd=slope_sd)
    expected = np.array([by_scipy(x[i], y[i], slope_sd=slope_sd) for i in range(8)])
    np.testing.assert_allclose(np.c_[fit.slopes, fit.intercepts], expected, atol=1e-6)
    assert fit.converged.all()


def test_probabilities_of_a_can_stand_in_for_choices():
    x, y, _ = simulated(4)
    soft = 0.1 + 0.8 * y
    expected = np.array([by_scipy(x[i], soft[i]) for i in range(4)])
    fit = fit_map_logit(x, soft)
    np.testing.assert_allclose(np.c_[fit.slopes, fit.intercepts], expected, atol=1e-6)


def test_with_a_flat_intercept_it_is_scikit_learns_regression_with_c_1():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y, _ = simulated(20)
    fit = fit_map_logit(x, y, prior="flat")
    for i in range(20):
        peer = linear_model.LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x[i], y[i])
        np.testing.assert_allclose([*fit.slopes[i], fit.intercepts[i]], [*peer.coef_[0], peer.intercept_[0]], atol=1e-4)


def test_masked_trials_are_as_if_absent_whatever_they_hold():
    x, y, _ = simulated(5)
    mask = stream(0, "mask").random(y.shape) < 0.7
    dirty_x, dirty_y = np.where(mask[..., None], x, np.nan), np.where(mask, y, np.nan)
    fit = fit_map_logit(dirty_x, dirty_y, mask=mask)
    for i in range(5):
        alone = fit_map_logit(x[i : i + 1, mask[i]], y[i : i + 1, mask[i]])
        np.testing.assert_allclose(fit.slopes[i], alone.slopes[0], atol=1e-9)
        np.testing.assert_allclose(fit.covariance[i], alone.covariance[0], atol=1e-9)
    assert fit.n_trials.tolist() == mask.sum(axis=1).tolist()


def test_swapping_the_options_turns_the_intercept_only():
    x, y, _ = simulated(5)
    fit, swapped = fit_map_logit(x, y), fit_map_logit(-x, ~y)
    np.testing.assert_allclose(fit.slopes, swapped.slopes, atol=1e-8)
    np.testing.assert_allclose(fit.intercepts, -swapped.intercepts, atol=1e-8)


def test_the_order_of_attributes_does_not_matter():
    x, y, _ = simulated(5)
    order = [3, 0, 4, 1, 2]
    np.testing.assert_allclose(fit_map_logit(x[..., order], y).slopes, fit_map_logit(x, y).slopes[:, order], atol=1e-8)


@pytest.mark.parametrize("answer", [True, False])
def test_a_constant_answer_converges_under_the_t_prior_and_is_flagged_without_it(answer):
    x, _, _ = simulated(3)
    y = np.full(x.shape[:2], answer)
    fit, flat = fit_map_logit(x, y), fit_map_logit(x, y, prior="flat")
    assert fit.converged.all() and not flat.converged.any()
    np.testing.assert_allclose(np.r_[fit.slopes[0], fit.intercepts[0]], by_scipy(x[0], y[0]), atol=1e-5)
    assert np.isfinite(flat.covariance).all() and (np.sign(fit.intercepts) == (1 if answer else -1)).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("slope_sd", [0.1, 1.0, 100.0])
def test_separable_choices_never_make_it_diverge(scale, slope_sd):
    x, _, weights = simulated(30, n_trials=12)
    y = np.einsum("ctk,ck->ct", x, weights) > 0
    fit = fit_map_logit(scale * x, y, slope_sd=slope_sd)
    assert np.isfinite(fit.slopes).all() and np.isfinite(fit.covariance).all() and fit.converged.all()


def test_a_perfect_chooser_gives_its_weights_back_at_97_hundredths():
    rng = stream(0, "perfect")
    weights = scale_weights(rng.uniform(-100, 100, (2000, 5)), maximum=100)
    x = rng.random((2000, 50, 5)) - rng.random((2000, 50, 5))
    fit = fit_map_logit(x, np.einsum("ctk,ck->ct", x, weights) > 0)
    r = np.corrcoef(scale_weights(fit.slopes, maximum=100).ravel(), weights.ravel())[0, 1]
    assert r == pytest.approx(0.969, abs=0.003)


def test_nothing_comes_back_where_choices_are_coin_flips():
    rng = stream(0, "coins")
    weights = rng.uniform(-1, 1, (500, 5))
    x = rng.random((500, 50, 5)) - rng.random((500, 50, 5))
    slopes = fit_map_logit(x, rng.random((500, 50)) < 0.5).slopes
    assert abs(np.corrcoef(slopes.ravel(), weights.ravel())[0, 1]) < 3.3 / np.sqrt(2500)


def test_laplace_intervals_cover_slopes_drawn_from_the_prior():
    rng = stream(0, "laplace")
    slopes = rng.standard_normal((1500, 5))
    x = rng.random((1500, 100, 5)) - rng.random((1500, 100, 5))
    y = rng.random((1500, 100)) < 1 / (1 + np.exp(-np.einsum("ctk,ck->ct", x, slopes)))
    low, high = fit_map_logit(x, y).intervals(0.95)
    assert 0.93 < np.mean((low < slopes) & (slopes < high)) < 0.97


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the authors' data is not here: GNOTHI_PUBLISHED")
@pytest.mark.parametrize("kind, trials", [("instilled_selections", 50), ("instilled_latent_selections", 100)])
def test_the_published_weights_come_back_within_3_points(kind, trials):
    stem = PUBLISHED / "results-gpt-4o-mini" / "gpt-4o-mini-2024-07-18_"
    ranges = {
        row["scenario"]: np.array([[float(row[f"attr{i}_{end}"]) for i in range(1, 6)] for end in ("min", "max")])
        for row in read(PUBLISHED / "inputs" / "scenarios.csv")
    }
    by_scenario: dict[str, list] = {}
    for row in read(f"{stem}{kind}.csv"):
        low, high = ranges[row["scenario"]]
        a, b = (np.array([float(row[f"{o}_attribute_{i}"]) for i in range(1, 6)]) for o in "AB")
        by_scenario.setdefault(row["scenario"], []).append(((a - b) / (high - low), row["selection"] == "A"))
    file = "regression_results" if kind == "instilled_selections" else "latent_regression_results"
    published = {r["scenario"]: [float(r[f"b_attr{i}"]) for i in range(1, 6)] for r in read(f"{stem}{file}.csv")}
    assert {len(v) for v in by_scenario.values()} == {trials} and by_scenario.keys() == published.keys()
    x = np.array([[d for d, _ in rows] for rows in by_scenario.values()])
    y = np.array([[c for _, c in rows] for rows in by_scenario.values()])
    ours = scale_weights(fit_map_logit(x, y).slopes, maximum=100)
    theirs = np.array([published[name] for name in by_scenario])
    assert np.abs(ours - theirs).max() <= 3
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9999


def test_scaling_sets_the_largest_to_the_end_of_the_scale_and_keeps_signs():
    out = scale_weights(np.array([[0.02, -0.5, -0.001], [3.0, 1.5, -3.0]]), maximum=100)
    assert out.tolist() == [[4, -100, 0], [100, 50, -100]]
    assert not np.signbit(out[0, 2])
    assert scale_weights(np.array([[1.0, -0.126]]), maximum=9, decimals=1).tolist() == [[9.0, -1.1]]


GOOD_X, GOOD_Y = np.zeros((2, 3, 2)), np.zeros((2, 3))
NAN_X, NAN_Y, BIG_Y = GOOD_X.copy(), GOOD_Y.copy(), GOOD_Y.copy()
NAN_X[1, 0, 0], NAN_Y[1, 2], BIG_Y[0, 0] = np.inf, np.nan, 2
EMPTY = np.array([[True] * 3, [False] * 3])


@pytest.mark.parametrize(
    "x, y, options, message",
    [
        (GOOD_Y, GOOD_Y, {}, r"differences must have shape .* got shape \(2, 3\)"),
        (GOOD_X[:, :0], GOOD_Y[:, :0], {}, r"differences must have shape .* got shape \(2, 0, 2\)"),
        (GOOD_X, GOOD_Y.T, {}, r"chose_a must have shape \(2, 3\) like differences, got shape \(3, 2\)"),
        (GOOD_X, GOOD_Y, {"mask": GOOD_Y}, r"mask must be bool with shape \(2, 3\), got float64"),
        (GOOD_X, GOOD_Y, {"prior": "normal"}, "prior must be 'student_t' or 'flat', got 'normal'"),
        (GOOD_X, GOOD_Y, {"slope_sd": 0.0}, r"slope_sd must be finite and > 0, got 0\.0"),
        (GOOD_X, GOOD_Y, {"context_ids": ["a"]}, "context_ids must name each of the 2 contexts, got 1"),
        (NAN_X, GOOD_Y, {}, "differences must be finite, got NaN or inf in context 1. Mask those trials"),
        (NAN_X, GOOD_Y, {"context_ids": ["a", "Hera"]}, "got NaN or inf in context 'Hera'"),
        (GOOD_X, NAN_Y, {}, r"chose_a must be in \[0, 1\], got another value in context 1"),
        (GOOD_X, BIG_Y, {}, r"chose_a must be in \[0, 1\], got another value in context 0"),
        (GOOD_X, GOOD_Y, {"mask": EMPTY}, "mask must leave each context a trial, got none in context 1"),
    ],
)
def test_choices_that_cannot_be_fitted_are_refused(x, y, options, message):
    with pytest.raises(DataError, match=message):
        fit_map_logit(x, y, **options)


@pytest.mark.parametrize(
    "slopes, options, message",
    [
        ([1.0, 2.0], {"maximum": 100}, r"slopes must have shape \(n_contexts, n_attributes\), got shape \(2,\)"),
        ([[1.0]], {"maximum": 0}, "maximum must be > 0 and decimals >= 0, got 0 and 0"),
        ([[1.0], [0.0]], {"maximum": 1}, "slopes must be finite and not all 0, got such in context 1"),
        ([[np.nan, 1.0]], {"maximum": 1}, "slopes must be finite and not all 0, got such in context 0"),
    ],
)
def test_slopes_that_cannot_be_scaled_are_refused(slopes, options, message):
    with pytest.raises(DataError, match=message):
        scale_weights(np.array(slopes), **options)


def test_an_impossible_level_is_refused():
    with pytest.raises(DataError, match=r"level must be in \(0, 1\), got 95"):
        fit_map_logit(GOOD_X, GOOD_Y).intervals(95)
