"""From the effects of all parts to the name of one, or of none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gnothi.errors import DataError
from gnothi.mechanisms.localise_parts import Part

LEAST = 4.75
"""Score from which a part is named."""
REST, SHARED = 1.5, 0.25
"""Score and share of a block's effect from which what lies outside a smaller part speaks against it."""


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
        Nothing where the largest score is under `LEAST`. Else the smallest part of that block that reaches `LEAST` itself
        and leaves nothing of note to the rest of the block, or the block.

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
    name, reason = _chosen(parts, effects, score, top)
    above = float((nulls[~still] >= score[top]).mean()) if (~still).any() else 1.0
    return Localised(
        method=method, name=name, score=float(score[top]), above=above, n=n, shift=shift, reason=reason, table=table
    )


def _chosen(parts: Sequence[Part], effects: np.ndarray, score: np.ndarray, top: int) -> tuple[str | None, str]:
    """The smallest part of the block with the largest score that leaves nothing of note outside it."""
    if score[top] < LEAST:
        return None, f"largest score {score[top]:.1f} ({parts[top].name}) is under {LEAST}"
    reason = f"score {score[top]:.1f} ({parts[top].name})"
    if parts[top].level == "end":
        return parts[top].name, reason
    block = next(j for j, p in enumerate(parts) if p.level == "block" and p.block == parts[top].block)
    for level in ("head", "half"):
        inside = [j for j, p in enumerate(parts) if p.level == level and p.block == parts[top].block]
        for j in sorted(inside, key=lambda j: -score[j]):
            rest = effects[block] - effects[j]
            size = np.sqrt((rest[1:] ** 2).mean())
            is_shared = rest[0] >= REST * size and rest[0] >= SHARED * effects[block, 0]
            if score[j] >= LEAST and not is_shared:
                share = rest[0] / effects[block, 0] if effects[block, 0] > 0 else 0.0
                return parts[j].name, f"{reason}; the rest of block {parts[j].block} has {share:.0%} of its effect"
    return parts[block].name, f"{reason}; no smaller part of the block has nearly all of it"
