"""How well reported weights agree with learned ones, inside one unit: pure functions on arrays.

One function for each `agreement.*` and `report.*` of `gnothi.score.names`; intervals over units are made elsewhere
(`gnothi.intervals`). Throughout, arrays of weights have shape (n_contexts, n_attributes) in the scale's units, and
`valid` is bool, (n_contexts,) or (n_contexts, n_attributes), True where a report is there: what lies under False is
never read and never filled in.

Source: paper B (arXiv:2505.17120), sections 2 and 3, whose points are (context, attribute) pairs pooled over contexts.
"""

from dataclasses import dataclass

import numpy as np

from gnothi.errors import DataError

MIN_POINTS = 3
"""Fewest points that a correlation is taken over: two always give 1 or -1."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number of one unit, or why there is none."""

    value: float | None
    n_points: int
    """Points behind the number."""
    n_missing: int = 0
    """Points that gave nothing usable."""
    reason: str | None = None
    """Why there is no number; None if there is one."""


def pooled_r(
    reported: np.ndarray,
    learned: np.ndarray,
    valid: np.ndarray | None = None,
    *,
    sides: tuple[str, str] = ("reports", "learned weights"),
) -> Value:
    """Pearson r over all valid (context, attribute) points: `agreement.reported_vs_learned`, `…_vs_target` and kin.

    Args:
        reported: (n_contexts, n_attributes).
        learned: The same shape: learned or target weights, or those of another measurement.
        valid: Where `reported` counts; None: everywhere.
        sides: What the two are, for the reason why there is no number.

    Returns:
        Value in [-1, 1]; None for fewer than three points or where one side is constant.

    Raises:
        DataError: Shapes that do not fit, or a number under `valid` that is not finite.

    Source: paper B (arXiv:2505.17120), section 3; the published slope equals r where no context is missing.

    >>> pooled_r(np.array([[1.0, 2.0], [3.0, 9.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([True, True])).n_points
    4
    """
    reported, learned, valid = _checked(reported, learned, valid)
    return _pearson(reported[valid], learned[valid], int((~valid).sum()), sides)


def slope(
    reported: np.ndarray, learned: np.ndarray, valid: np.ndarray | None = None, *, folds: np.ndarray | None = None
) -> Value:
    """Least-squares slope of standardised learned on standardised reported weights, which paper B reads as an r.

    Learned weights are standardised over all contexts, also those without a report, so the slope leaves r where
    reports are missing and the contexts that have one are more or less spread than all.

    Args:
        reported: (n_contexts, n_attributes).
        learned: The same shape, finite throughout.
        valid: Where `reported` counts; None: everywhere.
        folds: (n_contexts,), which report-trained model asked about the context; reports are standardised within each.

    Raises:
        DataError: Shapes that do not fit, or a number that is not finite.

    Source: paper B (arXiv:2505.17120), section 3.2. There it is a Bayesian regression with wide priors; with 500 points
    least squares differs in the fourth decimal. Standard deviations with n - 1.

    >>> w = np.array([[1.0, -1.0, 0.5], [0.2, 1.0, -0.7]])
    >>> round(slope(3 * w, w).value, 6)
    1.0
    """
    reported, learned, valid = _checked(reported, learned, valid)
    n_missing = int((~valid).sum())
    fold_of = np.zeros(len(reported), int) if folds is None else np.asarray(folds)
    if fold_of.shape != (len(reported),):
        raise DataError(f"folds must have shape ({len(reported)},), got {fold_of.shape}.")
    if not np.isfinite(learned).all():
        raise DataError("learned must be finite in all contexts for a slope, got NaN or inf. Leave those contexts out.")
    if problem := _unfit(learned.ravel(), "learned weights"):
        return Value(None, int(valid.sum()), n_missing, problem)
    x = np.empty(reported.shape)
    for fold in np.unique(fold_of):
        rows = valid & (fold_of == fold)[:, None]
        if rows.any():
            if problem := _unfit(reported[rows], "reports"):
                return Value(None, int(valid.sum()), n_missing, problem)
            x[rows] = (reported[rows] - reported[rows].mean()) / reported[rows].std(ddof=1)
    if not valid.any():
        return Value(None, 0, n_missing, "no valid reports")
    y = (learned - learned.mean()) / learned.std(ddof=1)
    centred = x[valid] - x[valid].mean()
    return Value(float(centred @ y[valid] / (centred @ centred)), int(valid.sum()), n_missing)


def within_context_r(reported: np.ndarray, learned: np.ndarray, valid: np.ndarray | None = None) -> Value:
    """Mean over contexts of Pearson r over the context's own attributes, where both sides vary.

    Returns:
        Value; `n_points` counts contexts, `n_missing` those left out.

    >>> within_context_r(np.array([[1.0, 2, 3], [5, 5, 5]]), np.array([[1.0, 2, 3], [3, 2, 1]]))
    Value(value=1.0, n_points=1, n_missing=1, reason=None)
    """
    reported, learned, valid = _checked(reported, learned, valid)
    found = [_pearson(x[v], y[v], 0).value for x, y, v in zip(reported, learned, valid, strict=True)]
    usable = [r for r in found if r is not None]
    return _mean(usable, len(found) - len(usable), "no context where reports and weights vary over three attributes")


def sign_match(reported: np.ndarray, learned: np.ndarray, valid: np.ndarray | None = None) -> Value:
    """Share of points with the same sign; 0 has a sign of its own and matches only 0. Chance is about one half.

    >>> sign_match(np.array([[1.0, -2.0, 0.0]]), np.array([[3.0, 4.0, 5.0]])).value
    0.3333333333333333
    """
    reported, learned, valid = _checked(reported, learned, valid)
    same = np.sign(reported[valid]) == np.sign(learned[valid])
    return _mean(same, int((~valid).sum()), "no valid reports")


def top_attribute_match(reported: np.ndarray, learned: np.ndarray, valid: np.ndarray | None = None) -> Value:
    """Share of fully reported contexts whose largest absolute report is their largest absolute learned weight.

    The first attribute wins a tie, so a constant reporter matches where the first attribute is the largest. Chance is
    1 / n_attributes.

    >>> top_attribute_match(np.array([[1.0, -9.0]]), np.array([[2.0, 3.0]])).value
    1.0
    """
    reported, learned, valid = _checked(reported, learned, valid)
    whole = valid.all(axis=1)
    top = np.abs(reported[whole]).argmax(axis=1) == np.abs(learned[whole]).argmax(axis=1)
    return _mean(top, int((~whole).sum()), "no context with a whole report")


def choices_predicted(
    reported: np.ndarray,
    differences: np.ndarray,
    chose_a: np.ndarray,
    valid: np.ndarray | None = None,
    *,
    mask: np.ndarray | None = None,
) -> Value:
    """Share of choices that the sign of sum(report x difference) predicts: A exactly if it is above 0.

    With target weights in place of reports it is the agreement of choices with the target.

    Args:
        reported: (n_contexts, n_attributes).
        differences: (n_contexts, n_trials, n_attributes), normalised differences (A - B) / (high - low).
        chose_a: (n_contexts, n_trials), bool or the probability of A, which counts as that much of a match.
        valid: Where `reported` counts; a context counts with a whole report only. None: everywhere.
        mask: (n_contexts, n_trials) bool, True where a choice counts; None: all do.

    Returns:
        Value in [0, 1]; `n_points` and `n_missing` count choices.

    Raises:
        DataError: Shapes that do not fit, or a number that counts and is not finite.

    >>> choices_predicted(np.array([[1.0, 0.0]]), np.array([[[0.5, 1.0], [-0.5, 1.0]]]), np.array([[True, True]])).value
    0.5
    """
    differences, chose_a = np.asarray(differences, float), np.asarray(chose_a, float)
    reported, _, valid = _checked(reported, None, valid)
    n, k = reported.shape
    if differences.ndim != 3 or differences.shape[::2] != (n, k) or chose_a.shape != differences.shape[:2]:
        raise DataError(
            f"differences and chose_a must have shapes ({n}, n_trials, {k}) and ({n}, n_trials), got "
            f"{differences.shape} and {chose_a.shape}."
        )
    counted = np.ones(chose_a.shape, bool) if mask is None else np.array(mask, bool)
    counted[~valid.all(axis=1)] = False
    rows, _ = np.nonzero(counted)
    x, y = differences[counted], chose_a[counted]
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("differences and chose_a must be finite where they count, got NaN or inf. Mask those trials.")
    predicted = (x * reported[rows]).sum(axis=1) > 0
    return _mean(np.where(predicted, y, 1 - y), int((~counted).sum()), "no choice in a context with a whole report")


def without_extremes(
    reported: np.ndarray, learned: np.ndarray, valid: np.ndarray | None = None, *, maximum: float
) -> Value:
    """Pearson r without the points whose learned weight is at the scale's end, one a context by construction.

    Args:
        reported: (n_contexts, n_attributes).
        learned: The same shape, scaled so that the largest absolute weight is `maximum`.
        valid: Where `reported` counts; None: everywhere.
        maximum: The scale's end, > 0.

    >>> reported, learned = np.array([[9.0, 1, 2], [0, 9, 5]]), np.array([[10.0, 1, 2], [0, 10, 5]])
    >>> without_extremes(reported, learned, maximum=10).n_points
    4
    """
    reported, learned, valid = _checked(reported, learned, valid)
    if not maximum > 0:
        raise DataError(f"maximum must be > 0, got {maximum}.")
    inside = valid & (np.abs(np.where(valid, learned, 0.0)) < maximum * (1 - 1e-9))
    return _pearson(reported[inside], learned[inside], int((~valid).sum()))


def absolute_r(reported: np.ndarray, learned: np.ndarray, valid: np.ndarray | None = None) -> Value:
    """Pearson r of absolute reports with absolute learned weights: magnitude without sign.

    >>> round(absolute_r(np.array([[1.0, -2, 3]]), np.array([[-1.0, 2, -3]])).value, 6)
    1.0
    """
    return pooled_r(np.abs(reported), np.abs(learned), valid)


def single_report_r(reports: np.ndarray, learned: np.ndarray, valid: np.ndarray | None = None) -> Value:
    """Pearson r of single reports with learned weights, each report a row of its own, not averaged.

    Args:
        reports: (n_contexts, n_repeats, n_attributes).
        learned: (n_contexts, n_attributes).
        valid: (n_contexts, n_repeats) or with n_attributes; None: all.

    >>> single_report_r(np.array([[[1.0, 2, 3], [1, 2, 3]]]), np.array([[1.0, 2, 3]])).n_points
    6
    """
    reports, valid = _repeats(reports, valid)
    n, repeats, k = reports.shape
    rows = np.repeat(np.asarray(learned, float), repeats, axis=0)
    return pooled_r(reports.reshape(-1, k), rows, valid.reshape(n * repeats, k))


def mean_reports(reports: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Average the valid repeats of each point.

    Args:
        reports: (n_contexts, n_repeats, n_attributes).
        valid: (n_contexts, n_repeats) or with n_attributes; None: all.

    Returns:
        Reports (n_contexts, n_attributes), 0 where nothing is valid, and the mask that says where: never use one
        without the other.

    >>> mean_reports(np.array([[[1.0, 5.0], [3.0, 7.0]]]), np.array([[True, False]]))[0].tolist()
    [[1.0, 5.0]]
    """
    reports, valid = _repeats(reports, valid)
    count = valid.sum(axis=1)
    return np.where(valid, reports, 0.0).sum(axis=1) / np.maximum(count, 1), count > 0


def spread(reported: np.ndarray, valid: np.ndarray | None = None) -> Value:
    """Standard deviation (n - 1) of mean reports, in the scale's units; a constant reporter gives 0.

    >>> spread(np.array([[3.0, 3.0, 3.0]])).value
    0.0
    """
    reported, _, valid = _checked(reported, None, valid)
    x, n_missing = reported[valid], int((~valid).sum())
    if len(x) < 2:
        return Value(None, len(x), n_missing, "fewer than 2 valid reports")
    return Value(float(x.std(ddof=1)), len(x), n_missing)


def option_drift(reports: np.ndarray, valid: np.ndarray | None = None) -> Value:
    """Mean standard deviation (n - 1) of a point's repeated reports, asked with other options shown.

    Args:
        reports: (n_contexts, n_repeats, n_attributes).
        valid: (n_contexts, n_repeats) or with n_attributes; None: all.

    Returns:
        Value in the scale's units; points with fewer than two valid repeats are missing.

    >>> option_drift(np.array([[[1.0, 5.0], [3.0, 5.0]]])).value
    0.7071067811865476
    """
    reports, valid = _repeats(reports, valid)
    count = valid.sum(axis=1)
    kept = np.where(valid, reports, 0.0)
    mean = kept.sum(axis=1) / np.maximum(count, 1)
    squares = (np.where(valid, reports - mean[:, None], 0.0) ** 2).sum(axis=1)
    enough = count >= 2
    deviations = np.sqrt(squares[enough] / (count[enough] - 1))
    return _mean(deviations, int((~enough).sum()), "no point with two valid reports")


def attribute_position(
    reported: np.ndarray, valid: np.ndarray | None = None, *, positions: np.ndarray | None = None
) -> Value:
    """Mean report of the attribute listed first minus the mean of the others: 0 unless the place in the list matters.

    Args:
        reported: (n_contexts, n_attributes).
        valid: Where `reported` counts; None: everywhere.
        positions: (n_contexts, n_attributes) int, place of each attribute in the list shown, 0 = first; None: columns
            are in the order shown.

    >>> attribute_position(np.array([[9.0, 1.0, 2.0]])).value
    7.5
    """
    reported, _, valid = _checked(reported, None, valid)
    place = np.broadcast_to(np.arange(reported.shape[1]) if positions is None else positions, reported.shape)
    first, others = reported[valid & (place == 0)], reported[valid & (place > 0)]
    n_missing = int((~valid).sum())
    if not len(first) or not len(others):
        return Value(None, len(first) + len(others), n_missing, "no valid report of a first and of another attribute")
    return Value(float(first.mean() - others.mean()), len(first) + len(others), n_missing)


def validity(valid: np.ndarray) -> Value:
    """Share of asked reports that parsed; every entry of `valid` is one report asked for.

    >>> validity(np.array([True, True, False, True])).value
    0.75
    """
    return _mean(np.asarray(valid, float).ravel(), 0, "no report was asked for")


def _checked(
    reported: np.ndarray, learned: np.ndarray | None, valid: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return float arrays and a full mask of points; refuse shapes that do not fit and valid points without a number."""
    x = np.asarray(reported, float)
    y = x if learned is None else np.asarray(learned, float)
    if x.ndim != 2 or x.shape != y.shape:
        raise DataError(
            f"reported and learned must have one shape (n_contexts, n_attributes), got {x.shape} and {y.shape}."
        )
    mask = np.ones(x.shape, bool) if valid is None else np.asarray(valid)
    if mask.dtype != bool or mask.shape not in (x.shape, x.shape[:1]):
        raise DataError(f"valid must be bool with shape {x.shape[:1]} or {x.shape}, got {mask.dtype} {mask.shape}.")
    mask = mask if mask.ndim == 2 else np.repeat(mask[:, None], x.shape[1], axis=1)
    if not (np.isfinite(x[mask]).all() and np.isfinite(y[mask]).all()):
        raise DataError("reported and learned must be finite where valid, got NaN or inf. Mark those points invalid.")
    return x, y, mask


def _repeats(reports: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The same for repeated reports, (n_contexts, n_repeats, n_attributes)."""
    x = np.asarray(reports, float)
    if x.ndim != 3:
        raise DataError(f"reports must have shape (n_contexts, n_repeats, n_attributes), got {x.shape}.")
    flat = None if valid is None else np.asarray(valid)
    if flat is not None and flat.shape not in (x.shape, x.shape[:2]):
        raise DataError(f"valid must be bool with shape {x.shape[:2]} or {x.shape}, got {flat.dtype} {flat.shape}.")
    rows = x.reshape(-1, x.shape[2])
    _, _, mask = _checked(rows, None, None if flat is None else flat.reshape(len(rows), *flat.shape[2:]))
    return x, mask.reshape(x.shape)


def _unfit(x: np.ndarray, what: str) -> str | None:
    """Say why a correlation with x is undefined, if it is."""
    if len(x) < MIN_POINTS:
        return f"{what}: {len(x)} points, a correlation needs {MIN_POINTS}"
    return f"{what} are constant" if np.ptp(x) <= 1e-12 * np.abs(x).max() else None


def _pearson(
    x: np.ndarray, y: np.ndarray, n_missing: int, sides: tuple[str, str] = ("reports", "learned weights")
) -> Value:
    if not len(x):
        return Value(None, 0, n_missing, f"no valid {sides[0]}")
    if problem := _unfit(x, sides[0]) or _unfit(y, sides[1]):
        return Value(None, len(x), n_missing, problem)
    x, y = x - x.mean(), y - y.mean()
    r = float(x @ y / np.sqrt((x @ x) * (y @ y)))
    return Value(min(1.0, max(-1.0, r)), len(x), n_missing)


def _mean(values: "np.ndarray | list[float]", n_missing: int, reason_if_none: str) -> Value:
    if not len(values):
        return Value(None, 0, n_missing, reason_if_none)
    return Value(float(np.mean(values)), len(values), n_missing)
