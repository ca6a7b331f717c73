"""Weights learned from choices, with room for contexts where nothing could be learned."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gnothi.measure.choices import as_arrays
from gnothi.measure.learned_weights import fit_map_logit, scale_weights
from gnothi.records import Context, Sample


def decimals(maximum: int) -> int:
    """Digits that learned weights are kept with: whole numbers on paper B's scale, two digits on shorter ones."""
    return 0 if maximum >= 100 else 2


def learn(
    differences: np.ndarray, chose_a: np.ndarray, mask: np.ndarray | None = None, *, maximum: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Fit every context that has something to fit.

    Args:
        differences: (n_contexts, n_trials, n_attributes), normalised.
        chose_a: (n_contexts, n_trials) bool.
        mask: (n_contexts, n_trials) bool, True where a trial counts; None: all do.
        maximum: The scale's end, > 0.

    Returns:
        Learned weights (n_contexts, n_attributes) in the scale's units, NaN for a context without a valid choice or
        whose choices lean towards nothing (all slopes 0); and, in the same shape, the `slopes` with `low` and `high`
        (95%, in the scale's units), and `converged` (n_contexts,), False where nothing was fitted.
    """
    n, _, k = differences.shape
    used = np.ones(chose_a.shape, bool) if mask is None else mask
    learned, slopes, low, high = (np.full((n, k), np.nan) for _ in range(4))
    converged = np.zeros(n, bool)
    more = {"slopes": slopes, "low": low, "high": high, "converged": converged}
    rows = np.flatnonzero(used.any(axis=1))
    if not len(rows):
        return learned, more
    fit = fit_map_logit(differences[rows], chose_a[rows], mask=used[rows])
    top = np.abs(fit.slopes).max(axis=1)
    leaning = top > 0
    rows, unit = rows[leaning], maximum / top[leaning, None]
    if len(rows):
        learned[rows] = scale_weights(fit.slopes[leaning], maximum=maximum, decimals=decimals(maximum))
        below, above = fit.intervals()
        slopes[rows], converged[rows] = fit.slopes[leaning], fit.converged[leaning]
        low[rows], high[rows] = below[leaning] * unit, above[leaning] * unit
    return learned, more


def learned_rows(
    choices: Sequence[Sample], contexts: Sequence[Context], *, maximum: int, scope: str
) -> list[dict[str, Any]]:
    """Weights learned from choices, one row a (context, attribute).

    Returns:
        `learned` in the scale's units with its 95% interval, and `odd` and `even`, learned from every second trial.
        None throughout where nothing could be learned: see `learn`.
    """
    differences, chose_a, mask = as_arrays(choices, contexts)
    learned, more = learn(differences, chose_a, mask, maximum=maximum)
    odd, even = (learn(differences[:, s::2], chose_a[:, s::2], mask[:, s::2], maximum=maximum)[0] for s in (0, 1))
    return [
        {
            "scope": scope,
            "context_id": context.context_id,
            "attribute": attribute.name,
            "position": j,
            "learned": _number(learned[i, j]),
            "low": _number(more["low"][i, j]),
            "high": _number(more["high"][i, j]),
            "slope": _number(more["slopes"][i, j]),
            "odd": _number(odd[i, j]),
            "even": _number(even[i, j]),
            "converged": bool(more["converged"][i]),
        }
        for i, context in enumerate(contexts)
        for j, attribute in enumerate(context.choice_type.attributes)
    ]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
