"""One token from each distribution: the inverse of the distribution function at a given uniform number.

The order of tokens is part of the result, since it decides which token a number means. Vocabularies below
`SORTED_BELOW` are in order of falling probability (ties by token id), larger ones in order of token id: sorting 262,144
tokens a row costs more than the rest of a small model. Both orders depend on one row alone, so that a sample does not
depend, but for rounding, on what is drawn beside it.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gnothi.errors import ModelError
from gnothi.models.base import Sampling

SORTED_BELOW = 4096
"""Vocabularies of fewer tokens are sorted."""

BLOCK = 512
"""Tokens that are summed before the place within them is looked for."""

CHUNK = {"cpu": 2**21}
"""Probabilities that are looked at together, by kind of device: on a CPU what its cache holds."""

ELSEWHERE_CHUNK = 2**24
"""The same on any other kind of device."""

FEW = 1024
"""Likeliest tokens that top-p looks at first: mostly its share is reached there, and nothing is sorted whole."""

Find = Callable[[Tensor, Tensor], Tensor]


def pick(logits: Tensor, sampling: Sampling, rows: np.ndarray, uniform: np.ndarray | None) -> np.ndarray:
    """Draw the next token of each sample.

    Args:
        logits: (n_rows, d_vocab).
        sampling: Temperature, top-k and top-p. Both cut the distribution over the whole vocabulary: top-p is not
            measured anew within the top k.
        rows: (n_samples,) row of each sample.
        uniform: (n_samples,) numbers in [0, 1); None takes the likeliest token, of equals the one with the lowest id.

    Returns:
        (n_samples,) token ids.

    Raises:
        ModelError: A row without a distribution (NaN or infinite logits).
    """
    if uniform is None:
        return logits.argmax(-1).cpu().numpy()[rows]
    chunk = max(1, CHUNK.get(logits.device.type, ELSEWHERE_CHUNK) // logits.shape[1])
    tokens = np.empty(len(rows), dtype=np.int64)
    order = np.argsort(rows, kind="stable")
    for first in range(0, len(logits), chunk):
        part = order[slice(*np.searchsorted(rows[order], (first, first + chunk)))]
        if not len(part):
            continue
        scaled = logits[first : first + chunk].float()
        if sampling.temperature != 1:
            scaled = scaled / sampling.temperature
        find = _sorted(scaled, sampling) if logits.shape[1] < SORTED_BELOW else _by_id(scaled, sampling)
        for start in range(0, len(part), chunk):
            some = part[start : start + chunk]
            own, at = (torch.from_numpy(x).to(logits.device) for x in (rows[some] - first, uniform[some]))
            tokens[some] = find(own, at).cpu().numpy()
    return tokens


def _sorted(scaled: Tensor, sampling: Sampling) -> Find:
    """Tokens in order of falling probability."""
    probabilities, order = torch.softmax(scaled, -1).sort(dim=-1, stable=True, descending=True)
    if sampling.top_k > 0:
        probabilities[:, sampling.top_k :] = 0
    if sampling.top_p < 1:
        before = probabilities.cumsum(-1) - probabilities  # the token that crosses top_p is kept
        probabilities = probabilities * (before < sampling.top_p)
    total = probabilities.double().cumsum(-1)
    _check(total[:, -1])
    # rounding must not choose a token whose probability was set to 0
    last = (probabilities > 0).sum(-1, keepdim=True) - 1

    def find(rows: Tensor, uniform: Tensor) -> Tensor:
        place = torch.searchsorted(total[rows], uniform[:, None] * total[rows, -1:], right=True)
        return order[rows].gather(-1, place.minimum(last[rows]))[:, 0]

    return find


def _by_id(scaled: Tensor, sampling: Sampling) -> Find:
    """Tokens in order of their ids."""
    return inverse(narrowed(torch.softmax(scaled, -1), sampling.top_k, sampling.top_p))


def inverse(weights: Tensor) -> Find:
    """The inverse of distribution functions, without a sum over everything in order.

    Sums of blocks say in which block a number falls, and only that block is summed up token by token.

    Args:
        weights: (n_rows, d_vocab) >= 0, any positive sum.

    Returns:
        A function of (n,) rows and (n,) numbers in [0, 1), which gives (n,) token ids: the first whose cumulated share
        is above the number, in float64.

    Raises:
        ModelError: A row whose sum is 0, infinite or NaN.
    """
    size = weights.shape[1]
    blocks = functional.pad(weights, (0, -size % BLOCK)).unflatten(-1, (-1, BLOCK))
    sums = blocks.sum(-1, dtype=torch.float64)
    ends = sums.cumsum(-1)
    total = ends[:, -1]
    _check(total)
    highest = torch.nextafter(total, torch.zeros_like(total))  # a product that rounds up must stay below the total

    def find(rows: Tensor, uniform: Tensor) -> Tensor:
        at = (uniform * total[rows]).minimum(highest[rows])[:, None]
        block = torch.searchsorted(ends[rows], at, right=True)
        before = functional.pad(ends, (1, 0))[rows].gather(-1, block)
        inside = blocks[rows, block[:, 0]].double()  # (n, BLOCK)
        place = torch.searchsorted(before + inside.cumsum(-1), at, right=True)
        # sums in another order may differ in the last digit: stay at tokens that have a probability
        last = (torch.arange(BLOCK, device=inside.device) * (inside > 0)).amax(-1, keepdim=True)
        return (block * BLOCK + place.minimum(last))[:, 0]

    return find


def narrowed(weights: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set to 0 what top-k and top-p leave out; of equal weights at the edge, those with the lowest ids stay.

    Args:
        weights: (n_rows, d_vocab) >= 0; changed in place.
        top_k: How many tokens stay; 0 for all.
        top_p: The likeliest tokens stay until their share reaches this, the one that crosses it included.
    """
    size = weights.shape[1]
    top_k = min(top_k, size)
    if top_k <= 0 and top_p >= 1:
        return weights
    share = top_p * weights.sum(-1, dtype=torch.float64)[:, None] if top_p < 1 else torch.inf
    several = top_k or min(FEW, size)
    while True:  # values alone: where they are equal, topk's order is not defined
        values = weights.topk(several, sorted=True).values.double()
        kept = (values.cumsum(-1) - values < share).sum(-1, keepdim=True)
        if top_k or several == size or bool((kept < several).all()):
            break
        several = min(8 * several, size)
    edge = values.gather(-1, kept - 1).to(weights.dtype)
    equal = weights == edge
    room = kept - (weights > edge).sum(-1, keepdim=True)
    if bool((equal.sum(-1, keepdim=True) > room).any()):
        equal &= equal.cumsum(-1) <= room
    return weights.mul_((weights > edge) | equal)


def _check(totals: Tensor) -> None:
    if not bool((totals.isfinite() & (totals > 0)).all()):
        raise ModelError(
            "logits must be numbers to sample from, got NaN or infinity. The model's parameters may be damaged, or "
            "its type too narrow for it: try --set dtype=float32."
        )
