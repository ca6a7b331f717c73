"""What a fine-tune changed in activations and predictions, on the same inputs."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gnothi.errors import DataError
from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.cka import linear_cka
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.pairs import Pair
from gnothi.mechanisms.sites import Site

MOST_TOKENS = 1024
"""Of `cka`, whose kernels grow with the square."""


def activation_difference(
    pair: Pair,
    ids: Tensor,
    sites: Sequence[Site | str],
    mask: Tensor | None = None,
    *,
    by_position: bool = False,
) -> pd.DataFrame:
    """How far activations of tuned lie from base's, on the same inputs.

    Args:
        pair: Base and tuned.
        ids: (B, T) token ids.
        sites: Where to look.
        mask: (B, T) True at tokens, as in `Anatomy.logits`.
        by_position: One row a site and position, not one a site.

    Returns:
        `site`, `position` (with `by_position`), `difference` (mean over tokens of the norm of tuned minus base, over the
        mean norm of base), `cosine` (mean over tokens, of tuned with base) and `n` tokens.

    Raises:
        ModelError: A site that the model has not.
    """
    rows = []
    seen = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    for site, before, after in _activations(pair, ids, sites, mask):
        apart, size = (after - before).norm(dim=-1), before.norm(dim=-1)
        cosine = nn.functional.cosine_similarity(after, before, dim=-1)
        places = [(p, seen[:, p]) for p in range(ids.shape[1])] if by_position else [(None, seen)]
        for position, chosen in places:
            a, s, c = ((v[:, position] if position is not None else v)[chosen] for v in (apart, size, cosine))
            if len(a):
                place = {} if position is None else {"position": position}
                whole = float(s.mean())
                difference = float(a.mean()) / whole if whole else None
                rows.append(
                    {"site": str(site), **place, "difference": difference, "cosine": float(c.mean()), "n": len(a)}
                )
    return pd.DataFrame(rows)


def cka(
    pair: Pair, ids: Tensor, sites: Sequence[Site | str], mask: Tensor | None = None, *, debiased: bool = True
) -> pd.DataFrame:
    """Likeness of base's and tuned's representations up to rotation and size, by site; see `cka.linear_cka`.

    Args:
        pair: Base and tuned.
        ids: (B, T) token ids; the first 1024 tokens are used. Tokens of one text resemble each other, so many short texts
            say more than a long one.
        sites: Where to look.
        mask: As in `activation_difference`.
        debiased: Whether HSIC is estimated without bias; otherwise few tokens against the width give values near 1.

    Returns:
        `site`, `cka` (None where activations do not vary), `n` tokens, `width`.

    Raises:
        ModelError: A site that the model has not.
        DataError: Fewer than 4 tokens.
    """
    seen = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    rows = []
    for site, before, after in _activations(pair, ids, sites, mask):
        x, y = (value[seen][:MOST_TOKENS] for value in (before, after))
        rows.append(
            {"site": str(site), "cka": linear_cka(x, y, debiased=debiased), "n": len(x), "width": before.shape[-1]}
        )
    return pd.DataFrame(rows)


def _activations(
    pair: Pair, ids: Tensor, sites: Sequence[Site | str], mask: Tensor | None
) -> Iterator[tuple[Site, Tensor, Tensor]]:
    """Site after site: the site, base's and tuned's activations (B, T, d) in float32."""
    for site in sites:
        found = [capture(module, ids, [site], mask, at=0)[1] for module in (pair.base, pair.tuned)]
        key = next(iter(found[0]))
        yield key, found[0][key].float(), found[1][key].float()


def kl_by_position(
    pair: Pair, ids: Tensor, mask: Tensor | None = None, *, answer: int | Tensor | None = None, rows: int = 8
) -> pd.DataFrame:
    """KL(tuned ‖ base) of the next token at each position, nats.

    Args:
        pair: Base and tuned.
        ids: (B, T) token ids.
        mask: (B, T) True at tokens.
        answer: Position whose prediction is the answer: one for all rows, or (B,), and then positions are counted from
            each row's own answer.
        rows: Rows of one forward pass; a large vocabulary asks for few.

    Returns:
        `position` (from the start, or from the answer), `kl` (mean over rows), `error` (standard error; None for one row),
        `n` rows, `is_answer`.

    Raises:
        DataError: Answer positions that do not fit the rows.
    """
    if isinstance(answer, Tensor) and answer.shape != (len(ids),):
        raise DataError(f"answer must be one position or one a row ({len(ids)},), got {tuple(answer.shape)}.")
    bodies, parts = [anatomy(module) for module in (pair.base, pair.tuned)], []
    with torch.no_grad():
        for start in range(0, len(ids), rows):
            some = slice(start, start + rows)
            base, tuned = (
                b.logits(ids[some], None if mask is None else mask[some]).float().log_softmax(-1) for b in bodies
            )
            parts.append((tuned.exp() * (tuned - base)).sum(-1))
    kl = torch.cat(parts).double().cpu().numpy()
    length = ids.shape[1]
    places = np.broadcast_to(np.arange(length), kl.shape)
    seen = np.ones(kl.shape, bool) if mask is None else mask.bool().cpu().numpy()
    marked = answer % length if isinstance(answer, int) else 0
    if isinstance(answer, Tensor):
        places = places - (answer % length).cpu().numpy()[:, None]
    found = []
    for position in np.unique(places[seen]):
        values = kl[seen & (places == position)]
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        is_answer = answer is not None and int(position) == marked
        found.append(
            {"position": int(position), "kl": values.mean(), "error": error, "n": len(values), "is_answer": is_answer}
        )
    return pd.DataFrame(found)
