"""From the effects of all parts to the name of one, or of none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gnothi.errors import DataError
from gnothi.mechanisms.localise_parts import Part

LEAST = 4.75
"""Score from which a part is named."""
SIBLING = 3.5
"""Score from which a sibling shares in the change, if its effect is also at least `SHARED` of the named part's."""
SHARED = 0.3
MOST = 0.75
"""Share of a part's effect from which a smaller part inside it is named in its place."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Localised:
    """What one method says."""

    method: str
    """`update`, `reversal` or `patching`."""
    name: str | None
    """The part that carries the change; None where none stands out."""
    score: float
    """Largest score of any part."""
    above: float
    """Share of all control effects, each over its part's scale, that are as large as `score`."""
    n: int
    """Inputs."""
    shift: float
    """Mean metric of tuned minus base."""
    reason: str
    """Why this part, or why none."""
    table: pd.DataFrame
    """One row a part: part, level, effect (unit of the metric), scale (rms of its control effects), score."""


def named(method: str, parts: Sequence[Part], effects: np.ndarray, *, n: int, shift: float) -> Localised:
    """Name a part from the effects of all parts.

    Args:
        method: What the result is called.
        parts: P of them, as from `parts_of`.
        effects: (P, 1 + controls) mean effect on the metric, then on each control.
        n: Inputs.
        shift: Of the metric between base and tuned.

    Returns:
        The part with the largest score from `LEAST` on, or what holds it and its siblings that share in the change.

    Raises:
        DataError: An effect that is not finite.
    """
    if not np.isfinite(effects).all():
        raise DataError(f"localise({method}) must get finite metrics, got NaN or infinity. Look at the tuned model.")
    scale = np.sqrt((effects[:, 1:] ** 2).mean(1))
    still = scale <= 1e-9 * max(1e-30, float(np.abs(effects).max()))  # a part that did not change
    score = np.divide(effects[:, 0], scale, out=np.zeros(len(parts)), where=~still)
    nulls = np.divide(effects[:, 1:], scale[:, None], out=np.zeros_like(effects[:, 1:]), where=~still[:, None])
    columns = {"part": [p.name for p in parts], "level": [p.level for p in parts]}
    table = pd.DataFrame({**columns, "effect": effects[:, 0], "scale": scale, "score": score})
    top = int(score.argmax())
    name, reason = _chosen(parts, effects[:, 0], score, top)
    above = float((nulls[~still] >= score[top]).mean()) if (~still).any() else 1.0
    return Localised(
        method=method, name=name, score=float(score[top]), above=above, n=n, shift=shift, reason=reason, table=table
    )


def _chosen(parts: Sequence[Part], effect: np.ndarray, score: np.ndarray, top: int) -> tuple[str | None, str]:
    """The part with the largest score, or the smaller part that has most of it, or the larger one that shares it."""
    if score[top] < LEAST:
        return None, f"largest score {score[top]:.1f} ({parts[top].name}) is under {LEAST}"
    at, reason = top, f"score {score[top]:.1f} ({parts[top].name})"
    while inside := [j for j in _children(parts, at) if score[j] >= LEAST and effect[j] >= MOST * effect[at]]:
        at = max(inside, key=lambda j: score[j])
        reason += f", {effect[at] / effect[top]:.0%} of it in {parts[at].name}"
    while (whole := _parent(parts, at)) is not None:
        shares = [
            j for j in _children(parts, whole) if j != at and score[j] >= SIBLING and effect[j] >= SHARED * effect[at]
        ]
        if not shares:
            break
        at = whole
        reason += f", shared by {' and '.join(parts[j].name for j in shares)}"
    return parts[at].name, reason


def _children(parts: Sequence[Part], at: int) -> list[int]:
    return [j for j in range(len(parts)) if _parent(parts, j) == at]


def _parent(parts: Sequence[Part], at: int) -> int | None:
    part = parts[at]
    if part.level not in ("half", "head"):
        return None
    name = f"block.{part.block}" + (".attn.out" if part.level == "head" else "")
    return next(j for j, p in enumerate(parts) if p.name == name)
