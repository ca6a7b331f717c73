"""How far learned weights can be trusted, and how near they would come to the target for a chooser without a fault.

A report that knows everything but the noise of the measurement agrees with learned weights at the square root of their
reliability (`spearman_brown`), not at 1.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gnothi.errors import DataError
from gnothi.score.agreement import Value, pooled_r

Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(differences, chose_a) -> learned weights, (n_contexts, n_attributes), NaN where nothing was learned."""


def split_half(odd: np.ndarray, even: np.ndarray) -> Value:
    """Pearson r of weights learned from odd with weights learned from even trials, pooled over points.

    Args:
        odd: (n_contexts, n_attributes), scaled as the learned weights are; NaN where none were learned.
        even: The same shape.

    Returns:
        Value in [-1, 1]: reliability of HALF the trials; see `spearman_brown`.

    >>> split_half(np.array([[1.0, 2, 3]]), np.array([[1.0, 2, 3]])).value
    1.0
    """
    return between_learned(odd, even, ("weights from odd trials", "weights from even trials"))


def spearman_brown(half: Value) -> Value:
    """Step split-half reliability up to all trials: 2r / (1 + r).

    Returns:
        Value in [-1, 1]; None below r = -1/3, where the formula leaves the range of a correlation.

    Source: Spearman 1910 and Brown 1910.

    >>> round(spearman_brown(Value(0.85, 500)).value, 2)
    0.92
    """
    if half.value is None:
        return half
    if half.value < -1 / 3:
        return replace(half, value=None, reason=f"split-half r of {half.value:.2f} is too negative to be stepped up")
    return replace(half, value=2 * half.value / (1 + half.value))


def perfect_chooser(target: np.ndarray, differences: np.ndarray, chose_a: np.ndarray, fit: Fit) -> Value:
    """Pearson r of target with learned weights for a chooser that does exactly what is wanted on these very items.

    This is the ceiling of `agreement.learned_vs_target`: what is left under 1 is due to the number of trials, the prior
    and the rounding, not to the model.

    Args:
        target: (n_contexts, n_attributes).
        differences: (n_contexts, n_trials, n_attributes) of the items that the model chose between.
        chose_a: (n_contexts, n_trials) bool, whether the behaviour wants A.
        fit: The estimator that made the learned weights, scaling included.

    Returns:
        Value in [-1, 1]; about .97 for 5 attributes and 50 trials, .99 for 100 (paper B's numbers of trials). A point
        from whose trials nothing is learned is missing.

    Raises:
        DataError: Shapes that do not fit.
    """
    target, differences, chose_a = np.asarray(target, float), np.asarray(differences, float), np.asarray(chose_a)
    if differences.ndim != 3 or differences.shape[::2] != target.shape or chose_a.shape != differences.shape[:2]:
        raise DataError(
            f"differences and chose_a must have shapes (n_contexts, n_trials, n_attributes) and (n_contexts, n_trials) "
            f"for target weights of shape {target.shape}, got {differences.shape} and {chose_a.shape}."
        )
    return between_learned(fit(differences, chose_a), target, ("learned weights", "target weights"))


def between_learned(x: np.ndarray, y: np.ndarray, sides: tuple[str, str]) -> Value:
    """Pearson r of two sets of weights, (n_contexts, n_attributes) each, over the points that both have.

    Args:
        x: Weights; NaN where none were learned.
        y: The same shape.
        sides: What the two are, for the reason why there is no number.

    >>> between_learned(np.array([[1.0, 2, 3, np.nan]]), np.array([[1.0, 2, 3, 4]]), ("before", "after")).n_missing
    1
    """
    return pooled_r(x, y, np.isfinite(x) & np.isfinite(y), sides=sides)
