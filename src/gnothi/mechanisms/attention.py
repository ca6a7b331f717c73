"""Attention maps: for each head how much each position takes from each other one, as the model itself weighs them.

Hugging Face's models are run with their plain ("eager") attention for this one pass, which gives its weights away, with
windows, soft caps and masks of the model's own; our own model's weights are computed again from its queries and keys.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError
from gnothi.mechanisms.anatomy import Anatomy, anatomy


def attention_maps(module: nn.Module, ids: Tensor, mask: Tensor | None = None) -> list[Tensor]:
    """Attention weights of every block; inside `hooks.intervened`, those after the interventions.

    Args:
        module: A model that `anatomy` can read, in evaluation mode.
        ids: (B, T) token ids.
        mask: As in `Anatomy.logits`; rows of padding mean nothing.

    Returns:
        For each block (B, H, T, T): row i is what position i takes from each position, and sums to 1.

    Raises:
        ModelError: A layout that is not known, or a model without plain attention.
    """
    body = anatomy(module)
    kept: dict[int, Tensor] = {}
    with contextlib.ExitStack() as guard:
        guard.enter_context(torch.no_grad())
        theirs = hasattr(module, "config")
        if theirs:
            guard.enter_context(_eager(module))
        for i in range(body.n_blocks):
            keep = _given(kept, i) if theirs else _computed(body, kept, i, guard)
            guard.callback(body.block(i).attn.register_forward_hook(keep, with_kwargs=True).remove)
        body.logits(ids, mask, at=0)
    if len(kept) < body.n_blocks:
        raise ModelError(f"module must give its attention weights away, got none from {type(module).__name__}.")
    return [kept[i] for i in range(body.n_blocks)]


@contextlib.contextmanager
def _eager(module: nn.Module) -> Iterator[None]:
    """Plain attention, for the length of a `with` block."""
    whole: Any = module.config
    configs = {id(config): config for config in (whole, whole.get_text_config())}.values()
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = "eager"
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


def _given(kept: dict[int, Tensor], i: int) -> Callable[..., None]:
    def keep(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if isinstance(output, tuple) and isinstance(output[1], Tensor):
            kept[i] = output[1]

    return keep


def _computed(body: Anatomy, kept: dict[int, Tensor], i: int, guard: contextlib.ExitStack) -> Callable[..., None]:
    """Softmax of the products of what the query and key layers gave in this pass."""
    parts, given = body.block(i), {}
    for name in ("q", "k"):
        layer: Any = getattr(parts, name)

        def hold(_: nn.Module, args: Any, output: Tensor, name: str = name) -> None:
            given[name] = output.unflatten(-1, (body.n_heads, -1)).transpose(1, 2)

        guard.callback(layer.register_forward_hook(hold).remove)

    def keep(attn: Any, args: Any, kwargs: Any, output: Any) -> None:
        seen = args[1] if len(args) > 1 else kwargs.get("mask")
        scores = given["q"] @ given["k"].mT / body.head_width**0.5
        if seen is None and attn.causal:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        kept[i] = torch.softmax(scores if seen is None else scores.masked_fill(~seen, -torch.inf), -1)

    return keep
