"""Attention on a CPU, block by block: rows of trees are blocks on the diagonal, and between them nothing is computed.

Without gradient it goes further: a stretch of places is held against what any of them sees, so that a branch of a tree meets
its beginning and not the other branches.

PyTorch's attention on CPUs takes three times as long in bfloat16 as the products that it is made of (measured on 4 query
heads of 256 and 107 positions: 31 ms against 9 ms, forward and backward), and computes the whole square of a mask. Here
those products are taken for each block, scores and softmax in float32. transformers calls it by its name.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

NAME = "gnothi"
"""Among transformers' implementations."""

LONGEST = 512
"""Positions of a block up to which its scores are kept whole; PyTorch's attention keeps none and is used beyond."""


@contextlib.contextmanager
def by_blocks(module: nn.Module) -> Iterator[None]:
    """Use this attention where PyTorch's would be used, for the length of a `with` block; nothing off a CPU.

    Args:
        module: A causal language model of transformers.
    """
    config: Any = module.config
    if next(module.parameters()).device.type != "cpu" or config._attn_implementation != "sdpa":
        yield
        return
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"


class Block(NamedTuple):
    """Places that see each other and nothing else."""

    rows: slice
    places: slice
    added: Tensor | None
    """(1 or rows, pos, pos) float32, 0 where a place is seen and -inf where not; None where each sees itself alone."""


class Part(NamedTuple):
    """A stretch of places of one row, and what any of them sees."""

    row: int
    places: slice
    keys: Tensor
    """(key,) places."""
    added: Tensor
    """(pos, key) float32, 0 where a place is seen and -inf where not."""


_known: Any = WeakTensorKeyDictionary()
_parts: Any = WeakTensorKeyDictionary()
LEAST, MOST = 32, 128
"""Places of a part, where branches are long enough."""


def blocks_of(seen: Tensor) -> list[Block]:
    """The blocks on the diagonal of a mask.

    Args:
        seen: (row, pos, pos) boolean; every place sees itself and none sees a later one.
    """
    found = []
    for row, mask in enumerate(seen):
        starts = (mask.sum(-1) == 1).nonzero()[:, 0].tolist()
        edges = [*starts, len(mask)]
        for start, end in itertools.pairwise(edges):
            one = slice(row, row + 1)
            if end > start + 1:
                part = mask[start:end, start:end]
                added = torch.zeros(part.shape, device=mask.device).masked_fill_(~part, -torch.inf)
                found.append(Block(one, slice(start, end), added[None]))
            elif found and found[-1].rows == one and found[-1].added is None and found[-1].places.stop == start:
                found[-1] = Block(one, slice(found[-1].places.start, end), None)
            else:
                found.append(Block(one, slice(start, end), None))
    return found


def parts_of(seen: Tensor) -> list[Part]:
    """Stretches of places with what they see, in order.

    Args:
        seen: (row, pos, pos) boolean; every place sees itself and none sees a later one.
    """
    found = []
    for row, mask in enumerate(seen):
        length = len(mask)
        follows = torch.diagonal(mask, -1).tolist()  # whether place i + 1 sees place i: if not, a branch begins
        edges, start = [0], 0
        for i in range(1, length):
            if i - start >= MOST or (not follows[i - 1] and i - start >= LEAST):
                edges.append(start := i)
        for first, last in itertools.pairwise([*edges, length]):
            part = mask[first:last]
            keys = part.any(0).nonzero()[:, 0]
            added = torch.zeros((last - first, len(keys)), device=mask.device)
            found.append(Part(row, slice(first, last), keys, added.masked_fill_(~part[:, keys], -torch.inf)))
    return found


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; see `transformers.modeling_utils.AttentionInterface`.

    Args:
        module: The attention layer.
        query: (batch, head, pos, d_head).
        key: (batch, key head, pos, d_head).
        value: (batch, key head, pos, d_head); its type is what is computed in and returned.
        attention_mask: (batch, 1, pos, pos) boolean; None for causal.
        scaling: Factor on the scores.
        more: What else transformers gives; handed on where its own attention is used.

    Returns:
        (batch, pos, head, d_head), and None for the weights.
    """
    batch, _, length, _ = query.shape
    plain = length == key.shape[2] and not more.get("dropout") and more.get("position_bias") is None
    plain = plain and scaling is not None and more.get("is_causal") is not False and more.get("softcap") is None
    if plain and not torch.is_grad_enabled() and query.dtype == torch.float32:
        if attention_mask is None or attention_mask.dtype != torch.bool:
            return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **more)
        if attention_mask not in _parts:
            _parts[attention_mask] = parts_of(attention_mask[:, 0].expand(batch, -1, -1))
        return _by_parts(query, key, value, _parts[attention_mask], float(scaling or 0.0)), None
    blocks: list[Block] = []
    if plain and attention_mask is None:
        added = torch.full((1, length, length), -torch.inf, device=query.device).triu_(1)
        blocks = [Block(slice(0, batch), slice(0, length), added)]
    elif plain and attention_mask is not None and attention_mask.dtype == torch.bool:
        if attention_mask not in _known:
            _known[attention_mask] = blocks_of(attention_mask[:, 0].expand(batch, -1, -1))
        blocks = _known[attention_mask]
    if not blocks or any(b.places.stop - b.places.start > LONGEST for b in blocks if b.added is not None):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **more)
    return _Attention.apply(query, key, value, blocks, scaling), None  # type: ignore[return-value]


def _by_parts(query: Tensor, key: Tensor, value: Tensor, parts: Sequence[Part], scaling: float) -> Tensor:
    """(batch, pos, head, d_head): for each stretch the softmax of its scores times values, over what it sees alone."""
    batch, heads, length, size = query.shape
    n_keys = key.shape[1]
    output = value.new_empty(batch, length, heads, size)
    for row, places, keys, added in parts:
        q = query[row, :, places].reshape(n_keys, -1, size)
        k, v = key[row][:, keys], value[row][:, keys]
        scores = torch.bmm(q, k.mT).view(n_keys, -1, *added.shape)
        weights = torch.softmax(scores.mul_(scaling).add_(added), -1).view(n_keys, -1, added.shape[1])
        output[row, places] = torch.bmm(weights, v).view(heads, -1, size).transpose(0, 1)
    return output


class _Attention(torch.autograd.Function):
    """Softmax of scores times values; heads that share a key are one matrix, so that no key is repeated."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, blocks: Sequence[Block], scaling: float) -> Tensor:
        batch, heads, length, size = query.shape
        n_keys = key.shape[1]
        output = value.new_empty(batch, length, heads, size)
        saved = []
        with torch.autocast(query.device.type, enabled=False):
            for rows, places, added in blocks:
                if added is None:
                    spread = value[rows, :, places].repeat_interleave(heads // n_keys, 1)
                    output[rows, places] = spread.transpose(1, 2)
                    continue
                q, k, v = (_flat(t[rows, :, places], n_keys) for t in (query, key, value))
                scores = torch.bmm(q.float(), k.float().mT).view(-1, n_keys * (heads // n_keys), *added.shape[1:])
                weights = torch.softmax(scores.mul_(scaling).add_(added[:, None]), -1)
                weights = weights.to(v.dtype).view(len(q), -1, added.shape[-1])
                found = torch.bmm(weights, v).view(-1, heads, added.shape[-1], size)
                output[rows, places] = found.transpose(1, 2)
                saved += [q.to(v.dtype), k.to(v.dtype), v, weights]
        ctx.save_for_backward(*saved)
        ctx.blocks, ctx.scaling, ctx.like = blocks, scaling, [(t.shape, t.dtype) for t in (query, key, value)]
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0].transpose(1, 2)  # (batch, head, pos, d_head)
        found = [grad.new_empty(shape, dtype=dtype) for shape, dtype in ctx.like]
        to_query, to_key, to_value = found
        n_keys = to_key.shape[1]
        saved = iter(ctx.saved_tensors)
        for rows, places, added in ctx.blocks:
            of_grad = grad[rows, :, places]
            if added is None:
                to_query[rows, :, places], to_key[rows, :, places] = 0, 0
                shape = to_value[rows, :, places].shape
                to_value[rows, :, places] = of_grad.reshape(*shape[:2], -1, *shape[2:]).sum(2)
                continue
            q, k, v, weights = (next(saved) for _ in range(4))
            g = _flat(of_grad, n_keys).to(v.dtype)
            to_value[rows, :, places] = torch.bmm(weights.mT, g).view(to_value[rows, :, places].shape)
            wide = weights.float()
            to_scores = torch.bmm(g, v.mT).float().mul_(wide)
            to_scores = torch.addcmul(to_scores, wide, to_scores.sum(-1, keepdim=True), value=-1)
            to_scores = to_scores.mul_(ctx.scaling).to(v.dtype)
            to_query[rows, :, places] = torch.bmm(to_scores, k).view(to_query[rows, :, places].shape)
            to_key[rows, :, places] = torch.bmm(to_scores.mT, q).view(to_key[rows, :, places].shape)
        return to_query, to_key, to_value, None, None


def _flat(states: Tensor, n_keys: int) -> Tensor:
    """(batch, head, pos, d_head) to (batch x key head, heads of one key x pos, d_head)."""
    return states.reshape(len(states) * n_keys, -1, states.shape[-1])


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
