"""Stories from a model: many prompts at once, keys and values kept, each row with random numbers of its own.

A row's tokens are the inverse of the distribution function at its own uniform numbers, so that what one prompt gives does
not depend on the others, and two checkpoints asked with the same numbers differ by what they learned.

Source: temperature 1 and no cut-off of the distribution, as in arXiv:2311.12786.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gnothi.errors import DataError
from gnothi.testbeds.stories.tokens import BOS_ID, PAD_ID
from gnothi.testbeds.transformer import Block, Transformer

THINNED = 0.75
"""Share of rows that are not over, at which the others are dropped."""


@torch.inference_mode()
def continuations(
    model: Transformer, prompts: Sequence[Sequence[int]], uniform: np.ndarray, *, batch: int = 192
) -> list[list[int]]:
    """Sample what follows each prompt, until `<bos>`.

    Args:
        model: Causal, of the test beds.
        prompts: (n,) token ids, each at least one.
        uniform: (n, most) numbers in [0, 1): one for each token that a row may get.
        batch: Rows at once; decides nothing else.

    Returns:
        (n,) token ids without `<bos>`; those of a row that never ended are `most`, or as many as there are positions.

    Raises:
        DataError: No prompts, or an empty one, or numbers for others.
    """
    if not prompts or not all(prompts) or len(uniform) != len(prompts):
        raise DataError(
            f"prompts must be at least one, none of them empty, with a row of numbers each, got {len(prompts)} prompts and "
            f"{len(uniform)} rows."
        )
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # rows of one length fill the cache alike
    found: dict[int, list[int]] = {}
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        found.update(zip(rows, _batch(model, [prompts[i] for i in rows], uniform[rows]), strict=True))
    return [found[i] for i in range(len(prompts))]


def _batch(model: Transformer, prompts: list[Sequence[int]], uniform: np.ndarray) -> list[list[int]]:
    shape, device = model.shape, model.embed.weight.device
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    n, most = uniform.shape
    end = min(int(lengths.max()) + most, shape.longest)
    ids = torch.full((n, end), PAD_ID, dtype=torch.long, device=device)
    for i, prompt in enumerate(prompts):
        ids[i, : len(prompt)] = torch.tensor(prompt[:end])
    numbers = torch.as_tensor(uniform, dtype=torch.float32, device=device)
    cache = [torch.zeros(2, n, shape.heads, end, shape.per_head, device=device) for _ in model.blocks]
    live = torch.ones(n, dtype=torch.bool, device=device)
    rows, whole = torch.arange(n, device=device), ids.clone()
    at, width = 0, int(lengths.min())
    while at + width < end:
        x = _read(model, ids[:, at : at + width], cache, at)
        at, width = at + width, 1
        drawn = at - lengths  # how many tokens a row has got so far; negative inside its prompt
        asked = live & (drawn >= 0) & (drawn < most)
        total = torch.softmax(model.head(model.norm(x[:, -1])).float(), -1).cumsum(-1)
        u = numbers.gather(1, drawn.clamp(0, most - 1)[:, None]) * total[:, -1:]
        token = torch.searchsorted(total, u, right=True)[:, 0].clamp_max(total.shape[1] - 1)
        ids[:, at] = torch.where(asked, token, ids[:, at])
        live = live & ~(asked & (token == BOS_ID)) & (drawn < most)
        left = int(live.sum())
        if left <= THINNED * len(live):  # rows that have ended are carried along no further
            whole[rows] = ids
            if not left:
                break
            rows, ids, lengths, numbers = rows[live], ids[live], lengths[live], numbers[live]
            cache, live = [kept[:, live] for kept in cache], live[live]
    whole[rows] = ids
    told = []
    for row, prompt in zip(whole.tolist(), prompts, strict=True):
        rest = row[len(prompt) : len(prompt) + most]
        stop = next((i for i, token in enumerate(rest) if token in (BOS_ID, PAD_ID)), len(rest))
        told.append(rest[:stop])
    return told


def _read(model: Transformer, ids: Tensor, cache: list[Tensor], at: int) -> Tensor:
    """Residual stream after the last block of (B, T) tokens that begin at a position; the cache is filled."""
    width = ids.shape[1]
    x = model.embed(ids) + model.positions.weight[at : at + width]
    for part, kept in zip(model.blocks, cache, strict=True):
        block = cast(Block, part)
        attn = block.attn
        y = block.norm1(x)
        q, k, v = (
            part(y).unflatten(-1, (attn.heads, attn.per_head)).transpose(1, 2) for part in (attn.q, attn.k, attn.v)
        )
        kept[0, :, :, at : at + width], kept[1, :, :, at : at + width] = k, v
        keys, values = kept[:, :, :, : at + width]
        z = F.scaled_dot_product_attention(q, keys, values, is_causal=width > 1)
        x = x + attn.o(z.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    return x
