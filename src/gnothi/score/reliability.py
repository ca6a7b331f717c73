"""How far learned weights can be trusted, and how well a perfect reporter could score against them.

A report cannot agree with learned weights better than these agree with themselves.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gnothi.errors import DataError
from gnothi.score.agreement import Value, pooled_r

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
"""(differences, chose_a, mask) -> learned weights, (n_contexts, n_attributes)."""


def odd_and_even(n_trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the first, third, … and of the second, fourth, … trial.

    >>> [rows.tolist() for rows in odd_and_even(5)]
    [[0, 2, 4], [1, 3]]
    """
    if n_trials < 2:
        raise DataError(f"n_trials must be >= 2 to be split in halves, got {n_trials}.")
    return np.arange(0, n_trials, 2), np.arange(1, n_trials, 2)


def split_half(odd: np.ndarray, even: np.ndarray) -> Value:
    """Pearson r of weights learned from odd with weights learned from even trials, pooled over points.

    Args:
        odd: (n_contexts, n_attributes), scaled as the learned weights are.
        even: The same shape.

    Returns:
        Value in [-1, 1]: reliability of HALF the trials; see `spearman_brown`.

    >>> split_half(np.array([[1.0, 2, 3]]), np.array([[1.0, 2, 3]])).value
    1.0
    """
    return pooled_r(odd, even, sides=("weights from odd trials", "weights from even trials"))


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


def perfect_chooser(target: np.ndarray, differences: np.ndarray, fit: Fit, *, mask: np.ndarray | None = None) -> Value:
    """Pearson r of target with learned weights for a chooser that follows its target exactly on these very items.

    This is the ceiling of `agreement.learned_vs_target`: what is left under 1 is due to the number of trials, the prior
    and the rounding, not to the model.

    Args:
        target: (n_contexts, n_attributes).
        differences: (n_contexts, n_trials, n_attributes) of the items that the model chose between.
        fit: The estimator that made the learned weights, scaling included.
        mask: (n_contexts, n_trials) bool, True where a trial counts; None: all do.

    Returns:
        Value in [-1, 1]; about .97 for 5 attributes and 50 trials, .99 for 100 (paper B's numbers of trials).

    Raises:
        DataError: Shapes that do not fit.
    """
    target, differences = np.asarray(target, float), np.asarray(differences, float)
    if differences.ndim != 3 or differences.shape[::2] != target.shape:
        raise DataError(
            f"differences must have shape (n_contexts, n_trials, n_attributes) for target weights of shape "
            f"{target.shape}, got {differences.shape}."
        )
    chose_a = (differences @ target[:, :, None])[:, :, 0] > 0  # ties go to B, as in the training labels
    return pooled_r(fit(differences, chose_a, mask), target, sides=("learned weights", "target weights"))
