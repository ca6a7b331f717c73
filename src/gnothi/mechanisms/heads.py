"""Direct effects: what each head, MLP and the embedding write straight onto a difference of two logits.

The residual stream is a sum, and with the factor of the final norm frozen at this input so are the logits. What a part does
through later parts is left out: a head may carry a decision and write none of it.

Source: direct logit attribution (Elhage et al. 2021, "A mathematical framework for transformer circuits").
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError
from gnothi.mechanisms.anatomy import Anatomy, BlockParts, anatomy
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.sites import Site

Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class DirectEffects:
    """Parts of a logit difference at one position; they add up to it.

    Attributes:
        heads: (n_blocks, H, B).
        mlps: (n_blocks, B).
        start: (B,) of the embedding, with positions where they are added to it.
        rest: (B,) of biases: the output matrices', the norms', the head's.
        whole: (B,) the difference, before a soft cap on logits if there is one.
    """

    heads: Tensor
    mlps: Tensor
    start: Tensor
    rest: Tensor
    whole: Tensor


def direct_effect(
    module: nn.Module,
    ids: Tensor,
    right: int | Tensor,
    wrong: int | Tensor,
    at: int | Tensor,
    *,
    mask: Tensor | None = None,
) -> DirectEffects:
    """Take the logit difference of two tokens apart.

    Args:
        module: A model that `anatomy` can read.
        ids: (B, T) token ids.
        right: The token whose logit counts positively, one for all rows or (B,).
        wrong: The other.
        at: Position whose logits are read, one for all rows or (B,).
        mask: As in `Anatomy.logits`.

    Returns:
        The parts, float32.

    Raises:
        ModelError: A norm that is neither LayerNorm nor a root-mean-square norm nor none.
    """
    body = anatomy(module)
    rows, place = torch.arange(len(ids), device=ids.device), torch.as_tensor(at, device=ids.device)

    def chosen(logits: Tensor) -> Tensor:
        columns = (torch.as_tensor(t, device=logits.device).expand(len(logits)) for t in (right, wrong))
        first, second = (logits.gather(-1, c[:, None])[:, 0] for c in columns)
        return first - second

    inputs = [Site("heads", i) for i in range(body.n_blocks)]
    outputs = [Site(kind, i) for i in range(body.n_blocks) for kind in ("attn", "mlp")]
    ends = [Site("resid", 0), Site("resid", body.n_blocks)]
    before_norm: dict[int, Tensor] = {}
    handles = [
        parts.attn.register_forward_hook(lambda _, args, out, i=i: before_norm.update({i: _first(out)}))
        for i, parts in enumerate(body.blocks)
    ]
    try:
        _, kept = capture(module, ids, [*inputs, *outputs, *ends], mask, at=0)
    finally:
        for handle in handles:
            handle.remove()
    at_place = {site: value[rows, place] for site, value in kept.items()}
    with torch.no_grad():
        final = frozen(body.norm, at_place[ends[1]])
        zero = torch.zeros_like(at_place[ends[1]])

        def onto(direction: Tensor) -> Tensor:
            """Of what is added to the stream, (B, width) to (B,): linear, so that parts add up."""
            return chosen(body.head(final(direction))).float() - chosen(body.head(zero)).float()

        heads = torch.stack(
            [
                _heads(body, parts, at_place[Site("heads", i)], before_norm[i][rows, place], onto)
                for i, parts in enumerate(body.blocks)
            ]
        )
        mlps = torch.stack([onto(at_place[Site("mlp", i)]) for i in range(body.n_blocks)])
        start = onto(at_place[ends[0]])
        whole = chosen(body.head(body.norm(at_place[ends[1]]))).float()
    rest = whole - start - heads.sum((0, 1)) - mlps.sum(0)
    return DirectEffects(heads=heads, mlps=mlps, start=start, rest=rest, whole=whole)


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _heads(body: Anatomy, parts: BlockParts, z: Tensor, joined: Tensor, onto: Linear) -> Tensor:
    """(H, B): each head alone through the output matrix, and through the norm after attention where there is one."""
    after = frozen(parts.attn_writes, joined) if parts.attn_writes is not parts.attn else None
    bias = parts.o(torch.zeros_like(z))
    found = []
    for h in range(body.n_heads):
        alone = torch.zeros_like(z)
        part = slice(h * body.head_width, (h + 1) * body.head_width)
        alone[:, part] = z[:, part]
        written = parts.o(alone) - bias
        found.append(onto(written if after is None else after(written)))
    return torch.stack(found)


def frozen(norm: nn.Module, x: Tensor) -> Linear:
    """A norm with its scale fixed at one input, without its bias: a linear map of (B, width).

    Args:
        norm: LayerNorm, a root-mean-square norm of any make, or Identity.
        x: (B, width) the input.

    Raises:
        ModelError: The norm is none of these, as trying it on `x` shows.
    """
    if isinstance(norm, nn.Identity):
        return lambda v: v
    with torch.no_grad():
        if isinstance(norm, nn.LayerNorm):
            scale = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
            gain = torch.ones_like(x[0]) if norm.weight is None else norm.weight
            bias = torch.zeros_like(x[0]) if norm.bias is None else norm.bias

            def centred(v: Tensor) -> Tensor:
                return (v - v.mean(-1, keepdim=True)) * scale * gain

            expected, found = norm(x), centred(x) + bias
        else:
            small = getattr(norm, "variance_epsilon", getattr(norm, "eps", None)) or torch.finfo(x.dtype).eps
            gain = norm(torch.ones_like(x[:1]))[0] * (1 + small) ** 0.5
            scale = (x.square().mean(-1, keepdim=True) + small).rsqrt()

            def centred(v: Tensor) -> Tensor:
                return v * scale * gain

            expected, found = norm(x), centred(x)
        if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
            raise ModelError(f"norm must be LayerNorm or a root-mean-square norm, got {type(norm).__name__}.")
    return centred
