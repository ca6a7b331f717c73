"""Weights that a model's choices reveal: one small logistic regression per context, all contexts at once.

Knows arrays only: no item, no model, no file.

Source: paper B (arXiv:2505.17120), section 2. The paper samples the posterior with Stan and takes its mean; we take the
posterior's mode, which needs no sampler and after rescaling lies within 3 points of 100 of the published weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from gnothi.errors import DataError

Prior = Literal["student_t", "flat"]

T_DF, T_SCALE = 3.0, 2.5
"""Student-t prior of the intercept: what brms gives a logistic intercept when nothing is said."""
MAX_STEPS, MAX_HALVINGS = 60, 30
GRADIENT_TOLERANCE = 1e-8
BLOCK = 60_000
"""Numbers in a block of contexts: what fits into a processor's cache is fitted half again as fast as all at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitFit:
    """Posterior modes of n contexts, each with k attributes."""

    slopes: np.ndarray
    """(n, k), change of the log-odds of choosing A per unit of normalised difference."""
    intercepts: np.ndarray
    """(n,), log-odds of A between equal options: the lean towards a letter."""
    covariance: np.ndarray
    """(n, k + 1, k + 1), inverse curvature at the mode (Laplace); slopes first, the intercept last."""
    converged: np.ndarray
    """(n,) bool. False: no finite mode (flat intercept and a single answer throughout) or too many steps."""
    n_trials: np.ndarray
    """(n,) int, trials used."""

    def intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return (low, high) of the slopes, each (n, k), from the Laplace approximation.

        Args:
            level: In (0, 1).
        """
        if not 0 < level < 1:
            raise DataError(f"level must be in (0, 1), got {level}.")
        k = self.slopes.shape[1]
        half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2)[:, :k])
        return self.slopes - half, self.slopes + half


def fit_map_logit(
    differences: np.ndarray,
    chose_a: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    prior: Prior = "student_t",
    slope_sd: float = 1.0,
    context_ids: Sequence[str] | None = None,
) -> LogitFit:
    """Fit one logistic regression with an intercept per context, by Newton's method on all contexts together.

    The normal prior on the slopes keeps separable choices finite: a model that always follows its weights gets slopes
    that grow slowly with the number of trials. Only ratios of slopes are meant to be read; see `scale_weights`.

    Args:
        differences: (n_contexts, n_trials, n_attributes), normalised differences (A - B) / (high - low).
        chose_a: (n_contexts, n_trials), whether A was chosen: bool, or the probability of A in [0, 1].
        mask: (n_contexts, n_trials) bool, True where a trial counts; None: all do. What lies under False is not read.
        prior: Of the intercept. `student_t`: 3 degrees of freedom, scale 2.5, as in the paper. `flat`: none, which
            with `slope_sd=1` is scikit-learn's L2 penalty with C = 1.
        slope_sd: Standard deviation of the normal prior on each slope, > 0; 1 in the paper.
        context_ids: Names for error messages; None: positions.

    Returns:
        LogitFit. Check `converged`.

    Raises:
        DataError: Shapes that do not fit, a value that is not finite, a choice outside [0, 1], a context without a
            trial, `slope_sd` that is not positive, or an unknown `prior`.

    Source: paper B (arXiv:2505.17120), section 2: Bernoulli with a logit link, normal(0, 1) on five slopes, brms
    defaults elsewhere, each context by itself. Ours: mode instead of mean; Laplace instead of posterior draws.

    >>> d = np.array([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]] * 5])
    >>> fit = fit_map_logit(d, np.array([[True, False, False, True] * 5]))
    >>> scale_weights(fit.slopes, maximum=100).tolist(), bool(fit.converged[0])
    ([[100.0, -100.0]], True)
    """
    x, y, used = _checked(differences, chose_a, mask, prior, slope_sd, context_ids)
    rows = max(1, BLOCK // (x.shape[1] * (x.shape[2] + 1)))
    blocks = (slice(i, i + rows) for i in range(0, len(x), rows))
    found = [_newton(_Problem.build(x[b], y[b], used[b], prior, slope_sd)) for b in blocks]
    theta, covariance, converged = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if prior == "flat":  # one answer throughout: no finite intercept, Newton only stopped where it became flat
        lowest, highest = np.where(used, y, 1.0).min(axis=1), np.where(used, y, 0.0).max(axis=1)
        converged &= (lowest < 1) & (highest > 0)
    return LogitFit(
        slopes=theta[:, :-1],
        intercepts=theta[:, -1],
        covariance=covariance,
        converged=converged,
        n_trials=used.sum(axis=1),
    )


def scale_weights(slopes: np.ndarray, *, maximum: float, decimals: int = 0) -> np.ndarray:
    """Stretch each context's slopes so that the largest absolute one is `maximum`, then round; signs stay.

    Halves go to the even neighbour, as in numpy, in Python's `round` and in R's, so 0.5 gives 0 and 1.5 gives 2. With
    `decimals` > 0 numpy rounds `slope * 10**decimals` while Python and R look at the exact binary value, so the last
    digit of a tie may differ from theirs. A small negative slope gives 0, never -0.

    Args:
        slopes: (n_contexts, n_attributes), finite, at least one of each context not 0.
        maximum: The scale's end, > 0: 100 in the paper.
        decimals: Digits after the point, >= 0.

    Raises:
        DataError: A context whose slopes are all 0 or not finite, `maximum` that is not positive, `decimals` < 0.

    Source: paper B (arXiv:2505.17120), section 2 and appendix D.

    >>> scale_weights(np.array([[0.2, -0.8, 0.0]]), maximum=100).tolist()
    [[25.0, -100.0, 0.0]]
    """
    slopes = np.asarray(slopes, float)
    if slopes.ndim != 2:
        raise DataError(f"slopes must have shape (n_contexts, n_attributes), got shape {slopes.shape}.")
    if not (maximum > 0 and decimals >= 0):
        raise DataError(f"maximum must be > 0 and decimals >= 0, got {maximum} and {decimals}.")
    largest = np.abs(slopes).max(axis=1)
    if (bad := np.flatnonzero(~(np.isfinite(largest) & (largest > 0)))).size:
        raise DataError(f"slopes must be finite and not all 0, got such in context {bad[0]}. Leave that context out.")
    return np.round(slopes / largest[:, None] * maximum, decimals) + 0.0  # + 0.0 turns -0 into 0


def _checked(
    differences: np.ndarray,
    chose_a: np.ndarray,
    mask: np.ndarray | None,
    prior: str,
    slope_sd: float,
    context_ids: Sequence[str] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (x, y, used), zeros in x and y where a trial does not count; refuse what cannot be fitted."""
    x, y = np.asarray(differences, float), np.asarray(chose_a, float)
    if x.ndim != 3 or 0 in x.shape:
        raise DataError(f"differences must have shape (n_contexts, n_trials, n_attributes), got shape {x.shape}.")
    if y.shape != x.shape[:2]:
        raise DataError(f"chose_a must have shape {x.shape[:2]} like differences, got shape {y.shape}.")
    used = np.ones(y.shape, bool) if mask is None else np.asarray(mask)
    if used.dtype != bool or used.shape != y.shape:
        raise DataError(f"mask must be bool with shape {y.shape}, got {used.dtype} with shape {used.shape}.")
    if prior not in ("student_t", "flat"):
        raise DataError(f"prior must be 'student_t' or 'flat', got {prior!r}.")
    if not (np.isfinite(slope_sd) and slope_sd > 0):
        raise DataError(f"slope_sd must be finite and > 0, got {slope_sd}.")
    if context_ids is not None and len(context_ids) != len(x):
        raise DataError(f"context_ids must name each of the {len(x)} contexts, got {len(context_ids)}.")
    x, y = np.where(used[:, :, None], x, 0.0), np.where(used, y, 0.0)
    for good, rule, found, fix in (
        (np.isfinite(x).all(axis=(1, 2)), "differences must be finite", "NaN or inf", "Mask those trials."),
        (((y >= 0) & (y <= 1)).all(axis=1), "chose_a must be in [0, 1]", "another value", "Mask trials without one."),
        (used.any(axis=1), "mask must leave each context a trial", "none", "Leave that context out."),
    ):
        if (bad := np.flatnonzero(~good)).size:
            name = bad[0] if context_ids is None else repr(context_ids[bad[0]])
            raise DataError(f"{rule}, got {found} in context {name}. {fix}")
    return x, y, used


@dataclass(frozen=True, slots=True)
class _Problem:
    """The negative log posterior of n contexts; parameters are (n, k + 1), slopes first, the intercept last."""

    x: np.ndarray  # (n, k + 1, n_trials), trials last: every product below is then one pass over memory
    y: np.ndarray  # (n, n_trials)
    used: np.ndarray  # (n, n_trials), 0.0 or 1.0
    penalty: np.ndarray  # (k + 1,), inverse variance of the normal prior; 0 for the intercept
    prior: str

    @classmethod
    def build(cls, x: np.ndarray, y: np.ndarray, used: np.ndarray, prior: str, slope_sd: float) -> "_Problem":
        n, n_trials, k = x.shape
        design = np.empty((n, k + 1, n_trials))
        design[:, :k], design[:, k] = x.transpose(0, 2, 1), used  # all 0 where a trial does not count
        penalty = np.full(k + 1, slope_sd**-2.0)
        penalty[-1] = 0.0
        return cls(design, y, used.astype(float), penalty, prior)

    def take(self, keep: np.ndarray) -> "_Problem":
        return _Problem(self.x[keep], self.y[keep], self.used[keep], self.penalty, self.prior)

    def log_odds(self, theta: np.ndarray) -> np.ndarray:
        return (theta[:, None, :] @ self.x)[:, 0]

    def objective(self, theta: np.ndarray, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (value (n,), probability of A (n, n_trials)), without overflow."""
        small = np.exp(-np.abs(eta))
        value = np.vecdot(np.maximum(eta, 0.0) + np.log1p(small) - self.y * eta, self.used)
        value += 0.5 * (theta * theta) @ self.penalty
        if self.prior == "student_t":
            value += 0.5 * (T_DF + 1) * np.log1p(theta[:, -1] ** 2 / (T_DF * T_SCALE**2))
        return value, np.where(eta >= 0, 1.0, small) / (1.0 + small)

    def gradient(self, theta: np.ndarray, p: np.ndarray) -> np.ndarray:
        out = (self.x @ (p - self.y)[:, :, None])[:, :, 0] + self.penalty * theta
        if self.prior == "student_t":
            out[:, -1] += (T_DF + 1) * theta[:, -1] / (T_DF * T_SCALE**2 + theta[:, -1] ** 2)
        return out

    def curvature(self, theta: np.ndarray, p: np.ndarray) -> np.ndarray:
        """Return (n, k + 1, k + 1), positive definite."""
        size = theta.shape[1]
        out = (self.x * (p * (1 - p))[:, None, :]) @ self.x.transpose(0, 2, 1)
        out[:, np.arange(size), np.arange(size)] += self.penalty
        if self.prior == "student_t":  # not log-concave far out; 0 there keeps every step downhill
            square = theta[:, -1] ** 2
            out[:, -1, -1] += (
                (T_DF + 1) * np.maximum(T_DF * T_SCALE**2 - square, 0.0) / (T_DF * T_SCALE**2 + square) ** 2
            )
        out[:, -1, -1] += 1e-12  # felt only where every probability is 0 or 1 to the last digit
        return out


def _newton(problem: _Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return modes (n, k + 1), covariances (n, k + 1, k + 1) and which contexts converged (n,)."""
    n, size, _ = problem.x.shape
    theta, converged = np.zeros((n, size)), np.zeros(n, bool)
    live, left, eta = np.arange(n), problem, np.zeros_like(problem.y)  # contexts still moving, and their log-odds
    for _ in range(MAX_STEPS):
        value, p = left.objective(theta[live], eta)
        gradient = left.gradient(theta[live], p)
        done = np.abs(gradient).max(axis=1) < GRADIENT_TOLERANCE
        if done.any():
            converged[live[done]] = True
            live, left, eta = live[~done], left.take(~done), eta[~done]
            value, p, gradient = value[~done], p[~done], gradient[~done]
        if not len(live):
            break
        step = -np.linalg.solve(left.curvature(theta[live], p), gradient[:, :, None])[:, :, 0]
        eta_step = left.log_odds(step)
        length = _step_sizes(left, theta[live], step, eta, eta_step, value, np.vecdot(gradient, step))[:, None]
        theta[live] += length * step
        eta = eta + length * eta_step
    _, p = problem.objective(theta, problem.log_odds(theta))
    return theta, np.linalg.inv(problem.curvature(theta, p)), converged


def _step_sizes(
    problem: _Problem,
    theta: np.ndarray,
    step: np.ndarray,
    eta: np.ndarray,
    eta_step: np.ndarray,
    value: np.ndarray,
    slope: np.ndarray,
) -> np.ndarray:
    """Return per context the largest of 1, 1/2, 1/4, … that lowers the objective (Armijo): Newton never diverges.

    `slope` is the objective's derivative along the step, < 0.
    """
    size = np.ones(len(value))
    trial, _ = problem.objective(theta + step, eta + eta_step)
    for _ in range(MAX_HALVINGS):
        # The last term lets a step pass that is as good as arithmetic can tell.
        short = np.flatnonzero(~(trial <= value + 1e-4 * size * slope + 1e-12 * (1 + np.abs(value))))
        if not len(short):
            break
        size[short] *= 0.5
        factor = size[short, None]
        moved = theta[short] + factor * step[short], eta[short] + factor * eta_step[short]
        trial[short], _ = problem.take(short).objective(*moved)
    return size
