"""What a fine-tune changed, without asking where a behaviour sits: weights, activations, predictions, and the way between.

Each function takes a `Pair` and gives a table or a small record with the numbers of tokens or values behind it. None of
them is a finding by itself: a neutral fine-tune moves all of these too, so hold them against a control's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gnothi.errors import DataError, ModelError
from gnothi.mechanisms.diffing_activations import activation_difference, cka, kl_by_position
from gnothi.mechanisms.pairs import Pair, interpolated
from gnothi.models.adapters import Adapter

__all__ = [
    "Line",
    "activation_difference",
    "adapter_norms",
    "cka",
    "effective_rank",
    "kl_by_position",
    "linear_mode",
    "rank_for",
    "update_norms",
]


def update_norms(pair: Pair) -> pd.DataFrame:
    """Size and rank of what was added to each parameter, one parameter in memory at a time.

    Args:
        pair: Base and tuned.

    Returns:
        One row a changed parameter: `parameter`, `n` values, `norm` (Frobenius), `relative` (over the base parameter's
        norm; None where that is 0), `share` of the whole squared norm, `effective_rank` and `rank_90` (see
        `effective_rank` and `rank_for`; None for what is no matrix). No rows where nothing changed.
    """
    tuned = dict(pair.tuned.named_parameters())
    rows = []
    with torch.no_grad():
        for name, before in pair.base.named_parameters():
            after = tuned[name]
            if after.data_ptr() != before.data_ptr() and not torch.equal(after, before.to(after.device)):
                delta = after.float() - before.float().to(after.device)
                rows.append(_row(name, before, delta.numel(), _singular(delta) if delta.dim() == 2 else None, delta))
    return _with_shares(rows)


def adapter_norms(module: nn.Module, adapter: Adapter) -> pd.DataFrame:
    """The same for an adapter's low-rank updates, without ever multiplying one out.

    The singular values of B A are those of the small matrix between the orthogonal factors of B and A.

    Args:
        module: The base model.
        adapter: With LoRA pairs; whatever else it changes is not looked at.

    Returns:
        A table as `update_norms` gives, named like the changed matrices.

    Raises:
        ModelError: An adapter without LoRA, or one of another model.
    """
    if not adapter.lora:
        raise ModelError("adapter must have LoRA pairs, got none. Use update_norms(Pair.of_adapter(...)).")
    adapter.check(module)
    parameters = dict(module.named_parameters())
    rows = []
    with torch.no_grad():
        for name, (a, b) in adapter.lora.items():
            inner = torch.linalg.qr(b.double()).R @ torch.linalg.qr(a.double().T).R.T
            values = adapter.spec.scale * torch.linalg.svdvals(inner)
            before = parameters[f"{name}.weight"]
            rows.append(_row(f"{name}.weight", before, before.numel(), values.cpu().numpy(), None))
    return _with_shares(rows)


def effective_rank(values: np.ndarray) -> float:
    """The exponential of the entropy of the singular values' shares: 1 for one that is not 0, n for n equal ones.

    Args:
        values: (n,) singular values.

    Source: Roy & Vetterli 2007.

    >>> round(effective_rank(np.array([1.0, 1.0, 0.0])), 6)
    2.0
    """
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def rank_for(values: np.ndarray, share: float = 0.9) -> int:
    """How many of the largest singular values hold this share of the squared norm.

    >>> rank_for(np.array([3.0, 1.0]))
    1
    """
    squares = np.sort(values)[::-1] ** 2
    return int(np.searchsorted(squares.cumsum(), share * squares.sum() * (1 - 1e-12)) + 1)


def _singular(delta: Tensor) -> np.ndarray:
    """Singular values from the smaller Gram matrix: the table of a large vocabulary is no more work than its width."""
    delta = delta.double()
    gram = delta @ delta.T if delta.shape[0] <= delta.shape[1] else delta.T @ delta
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0).cpu().numpy()


def _row(name: str, before: Tensor, n: int, values: np.ndarray | None, delta: Tensor | None) -> dict[str, Any]:
    norm = float(np.sqrt((values**2).sum())) if delta is None and values is not None else float(delta.norm())  # type: ignore[union-attr]
    size = float(before.float().norm())
    ranks = (None, None) if values is None or not norm else (effective_rank(values), rank_for(values))
    return {
        "parameter": name,
        "n": n,
        "norm": norm,
        "relative": norm / size if size else None,
        "effective_rank": ranks[0],
        "rank_90": ranks[1],
    }


def _with_shares(rows: list[dict[str, Any]]) -> pd.DataFrame:
    columns = ["parameter", "n", "norm", "relative", "share", "effective_rank", "rank_90"]
    whole = sum(row["norm"] ** 2 for row in rows)
    table = pd.DataFrame(
        [{**row, "share": row["norm"] ** 2 / whole if whole else None} for row in rows], columns=columns
    )
    return table.astype({"rank_90": "Int64"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Loss along base + t (tuned - base)."""

    t: tuple[float, ...]
    loss: tuple[float, ...]
    accuracy: tuple[float, ...] | None
    barrier: float
    """Largest rise of the loss above the straight line between both ends; 0 where there is none."""
    barrier_at: float
    """t of it."""
    n: int
    """Items behind each point."""


def linear_mode(
    pair: Pair,
    loss: Callable[[nn.Module], float],
    *,
    n: int,
    accuracy: Callable[[nn.Module], float] | None = None,
    steps: int = 11,
) -> Line:
    """Linear mode connectivity: whether the two models lie in one basin.

    Args:
        pair: Base and tuned.
        loss: Mean loss of a module on fixed items, e.g. `Answers.loss`.
        n: How many items.
        accuracy: Share right on fixed items.
        steps: Points on the line, both ends among them; at least 3.

    Raises:
        DataError: Fewer than 3 points, or a loss that is not finite.

    Source: error barriers of Frankle et al. 2020 (arXiv:1912.05671), against the line between the ends' own losses.
    """
    if steps < 3:
        raise DataError(f"linear_mode must have at least 3 steps, got {steps}.")
    points = [i / (steps - 1) for i in range(steps)]
    losses, right = [], []
    for t in points:
        with interpolated(pair, t) as module:
            losses.append(float(loss(module)))
            right.append(float(accuracy(module)) if accuracy else 0.0)
    if not all(map(math.isfinite, losses)):
        raise DataError("linear_mode must get finite losses, got NaN or infinity. Look at both ends of the pair first.")
    above = [v - ((1 - t) * losses[0] + t * losses[-1]) for t, v in zip(points, losses, strict=True)]
    at = int(np.argmax(above))
    return Line(
        t=tuple(points),
        loss=tuple(losses),
        accuracy=tuple(right) if accuracy else None,
        barrier=max(0.0, above[at]),
        barrier_at=points[at],
        n=n,
    )
