"""One forward pass of a causal language model over a forest, with the head at wanted places only.

What a mask of one's own must look like differs by architecture: a table says it for those that are tested, and another
one is tried once, against single sequences; where trees do not give the same there, sequences go one by one.
"""

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError
from gnothi.models import local_attention, local_llama
from gnothi.models.adapters import AdapterStack, head
from gnothi.models.forest import Forest, as_forest, rows_of

STYLES = {
    "llama": "tensor",
    "mistral": "tensor",
    "phi": "tensor",
    "phi3": "tensor",
    "qwen2": "mapping",
    "qwen3": "mapping",
    "gemma2": "mapping",
    "gemma3_text": "mapping",
}
"""Model type -> whether its layers take one mask, or one by the kind of layer."""

WIDEST = 2048
"""Tokens of a row of trees at most."""
ATTENTION_SHARE = 0.2
"""What attention within a row may cost at most, as a share of the rest of the pass: it grows with the row's width."""

_tried: "weakref.WeakKeyDictionary[nn.Module, str | None]" = weakref.WeakKeyDictionary()


def style(module: nn.Module) -> str | None:
    """How the module takes a mask of one's own: `tensor`, `mapping`, or None where it cannot."""
    config: Any = module.config
    text = config.get_text_config()
    if text._attn_implementation not in ("sdpa", "eager", local_attention.NAME):
        return None
    if text.model_type in STYLES:
        return STYLES[text.model_type]
    if module not in _tried:
        _tried[module] = _found_style(module, text)
    return _tried[module]


def _found_style(module: nn.Module, config: Any) -> str | None:
    if getattr(config, "sliding_window", None) is not None:
        return None  # the short trial would not see the window
    sequences = [(1, 2, 3, 2), (1, 2, 1), (2, 3, 1)]
    device = next(module.parameters()).device
    with torch.inference_mode():
        alone = torch.stack([module(input_ids=torch.tensor([s], device=device)).logits[0, -1] for s in sequences])
        forest = as_forest(rows_of(sequences, width=WIDEST), device)
        last = {i: (row, int(path[-1])) for i, row, path in forest.members}
        rows = torch.tensor([last[i][0] for i in range(3)], device=device)
        places = torch.tensor([last[i][1] for i in range(3)], device=device)
        for candidate in ("tensor", "mapping"):
            with contextlib.suppress(Exception):  # an unknown architecture may refuse in any way
                found = _through_module(module, forest, rows, places, candidate)
                if torch.allclose(found.float(), alone.float(), rtol=1e-4, atol=1e-4 * float(alone.abs().max())):
                    return candidate
    return None


def row_width(module: nn.Module, *, gradient: bool = True) -> int:
    """How many tokens a row of trees may have, so that attention over it stays cheap; 0 where trees are not possible.

    Twice as many where a branch is not held against the others (`local_attention`, on a CPU without gradient): on Gemma 3 270M
    12 A/B items of two agents take 5.4 s in rows of 544 tokens, 4.7 s in rows of 900 and 4.9 s in rows of 1,100.

    Args:
        module: A causal language model.
        gradient: Whether the pass will record one.
    """
    if style(module) is None:
        return 0
    text: Any = module.config.get_text_config()  # type: ignore[union-attr]
    table = module.get_input_embeddings()  # type: ignore[operator]
    body = sum(p.numel() for p in module.parameters() if p.ndim == 2 and p is not table.weight)
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_token = 2 * text.num_hidden_layers * text.num_attention_heads * size
    first = next(module.parameters())
    by_parts = first.device.type == "cpu" and first.dtype == torch.float32 and text._attn_implementation != "eager"
    share = ATTENTION_SHARE * (2 if by_parts and not gradient else 1)
    return int(min(WIDEST, max(64, share * body / per_token)))


def forest_logits(
    module: nn.Module, forest: Forest, rows: Tensor, places: Tensor, *, stack: AdapterStack | None = None
) -> Tensor:
    """Logits at some places of a forest; with gradient where the caller records one.

    Args:
        module: A causal language model, with `stack` on it if there is one.
        forest: What it reads.
        rows: (n,) row of each place.
        places: (n,) place in its row.
        stack: The adapters on the module; each row goes through the adapter of its owner.

    Returns:
        (n, d_vocab), in the module's type.

    Raises:
        ModelError: The module cannot take trees, and the forest has some.
    """
    if stack is not None and stack.k > 1:
        owners = torch.tensor(forest.owners, device=forest.ids.device)
        stack.use(owners)
        stack.head_index = owners[rows]
    try:
        ours = stack.hook_ids if stack is not None else ()
        if not torch.is_autocast_enabled(forest.ids.device.type) and local_llama.applies(module, ours):
            return local_llama.forest_logits(module, forest, rows, places)
        found = None if forest.ends is None else style(module)
        if forest.ends is not None and found is None:
            raise ModelError("module must take a mask of its own for trees, got one that does not. Lay out chains.")
        return _through_module(module, forest, rows, places, found)
    finally:
        if stack is not None:
            stack.head_index = None


def _through_module(module: nn.Module, forest: Forest, rows: Tensor, places: Tensor, found: str | None) -> Tensor:
    config: Any = module.config
    config = config.get_text_config()
    extra: dict[str, Any] = {"use_cache": False}
    if forest.ends is not None:
        extra["position_ids"] = forest.depths
        extra["attention_mask"] = _masks(module, forest, config, found)
    with _gathered(module, rows, places):
        return module(input_ids=forest.ids, **extra).logits[0]


def _masks(module: nn.Module, forest: Forest, config: Any, found: str | None) -> Tensor | Mapping[str, Tensor]:
    window = getattr(config, "sliding_window", None)
    dtype = next(module.parameters()).dtype
    if torch.is_autocast_enabled(forest.ids.device.type):
        dtype = torch.float32
    additive = config._attn_implementation == "eager"

    def form(mask: Tensor) -> Tensor:
        if not additive:
            return mask
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)

    if found == "tensor":
        return form(forest.mask(window))
    masks = {"full_attention": form(forest.mask())}
    if window is not None:
        masks["sliding_attention"] = form(forest.mask(window))
    return masks


@contextlib.contextmanager
def _gathered(module: nn.Module, rows: Tensor, places: Tensor) -> Iterator[None]:
    """The head sees (1, n, d_model) instead of every position; what comes after it (scaling, capping) is the module's."""
    out = head(module)
    if out is None:
        raise ModelError("model must have an output head that is a linear layer, got none. Is it a causal model?")
    handle = out.register_forward_pre_hook(lambda _, args: (args[0][rows, places][None],))
    try:
        yield
    finally:
        handle.remove()
