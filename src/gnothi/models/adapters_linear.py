"""A frozen linear layer with LoRA beside it, as one step of the computation, in a type of its own if wanted.

Left to autograd, LoRA costs two more outputs of the layer's size and the sums of them, forward and backward, and on a CPU
those are mostly waiting for memory. Here the low-rank product is added into the layer's own output, and the backward
pass computes what a frozen matrix needs and nothing else. In a lower type the frozen matrix is cast once, not once a
pass as autocast does it for parameters without gradient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor, float | Tensor]
"""A (k, rank, in), B (k, out, rank), and the factor on B A: one for all, or (k,)."""


@dataclass
class LoraStack:
    """LoRA pairs of k adapters: A (k, rank, in) and B (k, out, rank) for each module name.

    Adapters of smaller rank have zeros up to the largest: a zero row of A and a zero column of B give nothing, and get no
    gradient, so training leaves them as they are.
    """

    pairs: dict[str, tuple[Tensor, Tensor]]
    scale: float | Tensor
    """The factor on B A: one for all adapters, or (k,)."""
    scales: tuple[float, ...] = ()
    """The same for each adapter, not rounded; `scale` for all if empty."""
    ranks: tuple[int, ...] = ()
    """Rank of each adapter; that of the tensors for all if empty."""

    def __post_init__(self) -> None:
        k, rank = next(iter(self.pairs.values()))[0].shape[:2]
        self.ranks = self.ranks or (rank,) * k
        self.scales = self.scales or (float(self.scale),) * k

    @classmethod
    def of(cls, each: Sequence[tuple[Mapping[str, tuple[Tensor, Tensor]], float]], device: torch.device) -> "LoraStack":
        """Stack the LoRA of k adapters; layers that one of them lacks are zero.

        Args:
            each: For each adapter its pairs by module name, and the factor on B A.
            device: Where they go.
        """
        ranks = tuple(max((len(a) for a, _ in pairs.values()), default=0) for pairs, _ in each)
        stacked: dict[str, tuple[Tensor, Tensor]] = {}
        for name in dict.fromkeys(n for pairs, _ in each for n in pairs):
            a, b = next(pairs[name] for pairs, _ in each if name in pairs)
            all_a = torch.zeros(len(each), max(ranks), a.shape[1])
            all_b = torch.zeros(len(each), b.shape[0], max(ranks))
            for j, (pairs, _) in enumerate(each):
                if name in pairs:
                    a, b = pairs[name]
                    all_a[j, : len(a)], all_b[j, :, : len(a)] = a, b
            stacked[name] = (all_a.to(device), all_b.to(device))
        scales = tuple(scale for _, scale in each)
        common = scales[0] if len(set(scales)) == 1 else torch.tensor(scales, device=device)
        return cls(stacked, common, scales, ranks)


def lora_linear(x: Tensor, weight: Tensor, bias: Tensor | None, pairs: Sequence[Pair], owners: Tensor | None) -> Tensor:
    """W x + b + scale B A x, each example with its own A and B.

    Args:
        x: (batch, …, in); the examples of one adapter are neighbours unless `owners` says whose they are.
        weight: (out, in), frozen; what is computed in and returned is its type.
        bias: (out,) of the same type, frozen.
        pairs: LoRA of k adapters each; several are summed.
        owners: (batch,) adapter of each example; None where the batch is k equal parts, in order.

    Returns:
        (batch, …, out).
    """
    flat = [t for a, b, _ in pairs for t in (a, b)]
    return _LoraLinear.apply(x, weight, bias, owners, [scale for _, _, scale in pairs], *flat)  # type: ignore[return-value]


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        owners: Tensor | None,
        scales: Sequence[float | Tensor],
        *flat: Tensor,
    ) -> Tensor:
        width, dtype = x.shape[-1], weight.dtype
        inputs = x.to(dtype).reshape(-1, width)
        output = inputs @ weight.mT if bias is None else torch.addmm(bias, inputs, weight.mT)
        saved = [inputs, weight]
        parts = 1 if not flat else len(flat[0]) if owners is None else len(owners)
        for a, b, scale in zip(flat[::2], flat[1::2], scales, strict=True):
            a, b = _of_rows(a.to(dtype), owners), _of_rows(_scaled(b, scale).to(dtype), owners)
            inner = _product(inputs, a.mT, parts)  # (tokens, rank)
            _add_product(output, inner, b.mT, parts)
            saved += [a, b, inner]
        ctx.save_for_backward(*saved, *([] if owners is None else [owners]))
        ctx.has_owners, ctx.scales, ctx.parts = owners is not None, scales, parts
        ctx.shape, ctx.type, ctx.k = x.shape, x.dtype, len(flat[0]) if flat else 1
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        saved = list(ctx.saved_tensors)
        owners = saved.pop() if ctx.has_owners else None
        inputs, weight, *rest = saved
        grad = grads[0].to(weight.dtype).reshape(-1, weight.shape[0])
        needs, parts = ctx.needs_input_grad, ctx.parts
        to_input = grad @ weight if needs[0] else None
        found: list[Tensor | None] = []
        for n, scale in enumerate(ctx.scales):
            a, b, inner = rest[3 * n : 3 * n + 3]
            trained = needs[5 + 2 * n]
            if to_input is None and not trained:
                found += [None, None]
                continue
            outer = _product(grad, b, parts)  # (tokens, rank), with the scale in b
            if to_input is not None:
                _add_product(to_input, outer, a, parts)
            if not trained:
                found += [None, None]
                continue
            to_a = _inner(outer, inputs, parts)
            to_b = _inner(inner, grad, parts).mT
            found += [_of_adapters(to_a, owners, ctx.k), _scaled(_of_adapters(to_b, owners, ctx.k), scale)]
        if to_input is not None:
            to_input = to_input.view(ctx.shape).to(ctx.type)
        return (to_input, None, None, None, None, *found)


def _of_rows(stacked: Tensor, owners: Tensor | None) -> Tensor:
    return stacked if owners is None else stacked[owners]


def _of_adapters(of_rows: Tensor, owners: Tensor | None, k: int) -> Tensor:
    """Sum over the rows of each adapter, in float32."""
    of_rows = of_rows.float()
    if owners is None:
        return of_rows
    return of_rows.new_zeros(k, *of_rows.shape[1:]).index_add_(0, owners, of_rows)


def _scaled(stacked: Tensor, scale: float | Tensor) -> Tensor:
    return stacked * (scale.view(-1, 1, 1) if isinstance(scale, Tensor) else scale)


def _product(flat: Tensor, matrices: Tensor, parts: int) -> Tensor:
    """(tokens, n) times (parts, n, m): every part of the tokens with its own matrix."""
    if parts == 1:
        return flat @ matrices[0]
    return torch.bmm(flat.view(parts, -1, flat.shape[-1]), matrices).view(len(flat), -1)


def _add_product(output: Tensor, flat: Tensor, matrices: Tensor, parts: int) -> None:
    """The same, added to (tokens, m) in place."""
    if parts == 1:
        output.addmm_(flat, matrices[0])
    else:
        output.view(parts, -1, output.shape[-1]).baddbmm_(flat.view(parts, -1, flat.shape[-1]), matrices)


def _inner(left: Tensor, right: Tensor, parts: int) -> Tensor:
    """(tokens, n) and (tokens, m) to (parts, n, m), summed over the tokens of each part."""
    if parts == 1:
        return (left.mT @ right)[None]
    return torch.bmm(left.view(parts, -1, left.shape[-1]).mT, right.view(parts, -1, right.shape[-1]))
