"""A thousand contexts' learned weights: our batched Newton against a loop of scikit-learn's logistic regression.

Same data, same objective (L2 with C = 1, flat intercept), one thread each, repeats taken in turns. The peer runs its
fastest solver for this size, without its input checks, at its default tolerance; ours checks its input and goes on to a
gradient below 1e-8. `max_abs_diff` compares slopes with the peer run to a tolerance of 1e-10.
"""

import time
from typing import Any

import numpy as np

from gnothi.measure.learned_weights import fit_map_logit
from gnothi.rng import stream

N_CONTEXTS = 1000
SOLVERS = ("newton-cholesky", "lbfgs")
SHAPES = ((50, 5), (100, 5), (24, 6))
"""Trials and attributes: paper B's trained and untrained agents, and the organism's."""


def simulated(n_trials: int, n_attributes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return differences and choices of models that mostly follow their weights, with both letters in each context."""
    rng = stream(0, "benchmarks", "logit", n_trials, n_attributes)
    shape = (N_CONTEXTS, n_trials, n_attributes)
    differences = rng.random(shape) - rng.random(shape)
    weights = 5 * rng.uniform(-1, 1, (N_CONTEXTS, n_attributes))
    log_odds = (differences @ weights[:, :, None])[:, :, 0]
    chose_a = rng.random(log_odds.shape) < 1 / (1 + np.exp(-log_odds))
    chose_a[:, 0], chose_a[:, 1] = True, False  # scikit-learn refuses a single class
    return differences, chose_a


def by_scikit_learn(differences: np.ndarray, chose_a: np.ndarray, solver: str, tol: float = 1e-4) -> np.ndarray:
    """Return slopes, (N_CONTEXTS, n_attributes), one fit after the other."""
    import sklearn
    from sklearn.linear_model import LogisticRegression

    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        model = LogisticRegression(C=1.0, solver=solver, tol=tol, max_iter=1000)
        return np.array([model.fit(x, y).coef_[0] for x, y in zip(differences, chose_a, strict=True)])


def flops(n_trials: int, n_attributes: int, steps: int = 6) -> int:
    """Return multiply-adds, times two, of the matrix products of a fit with the usual number of Newton steps."""
    k = n_attributes + 1
    per_trial = 2 * k + 2 * k + k + 2 * k * k  # log-odds, gradient, weighting, curvature
    return N_CONTEXTS * steps * (n_trials * per_trial + 2 * k**3 // 3)


def run(repeats: int = 5) -> list[dict[str, Any]]:
    """Return one row a shape and peer; the first is the headline."""
    import sklearn
    from threadpoolctl import threadpool_limits

    rows = []
    with threadpool_limits(1):
        for n_trials, n_attributes in SHAPES:
            differences, chose_a = simulated(n_trials, n_attributes)
            reference = by_scikit_learn(differences, chose_a, "newton-cholesky", tol=1e-10)
            fit = fit_map_logit(differences, chose_a, prior="flat")
            difference = float(np.abs(fit.slopes - reference).max())
            ours, theirs = [], {solver: [] for solver in SOLVERS}
            for _ in range(repeats):
                start = time.perf_counter()
                fit_map_logit(differences, chose_a, prior="flat")
                ours.append(time.perf_counter() - start)
                for solver in SOLVERS:
                    start = time.perf_counter()
                    by_scikit_learn(differences, chose_a, solver)
                    theirs[solver].append(time.perf_counter() - start)
            for solver in sorted(SOLVERS, key=lambda s: np.median(theirs[s])):
                mine, peer = float(np.median(ours)), float(np.median(theirs[solver]))
                rows.append(
                    {
                        "name": f"logit/{N_CONTEXTS}x{n_trials}x{n_attributes}",
                        "ours": mine,
                        "peer": peer,
                        "ratio": peer / mine,
                        "unit": "s",
                        "peer_name": f"scikit-learn, a loop of LogisticRegression({solver})",
                        "peer_version": sklearn.__version__,
                        "repeats_s": {"ours": ours, "peer": theirs[solver]},
                        "max_abs_diff": difference,
                        "flops": flops(n_trials, n_attributes),
                        "headline": not rows,
                    }
                )
    return rows
