"""Where in a causal language model an adapter goes: its embedding, its head, its linear layers; and what starts there."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError, SpecError

ALL_LINEAR = ("all",)
"""`targets` that stand for every linear layer but the head."""


def embedding(module: nn.Module) -> nn.Embedding:
    """The input embedding of a causal language model."""
    table = module.get_input_embeddings()  # type: ignore[operator]
    if not isinstance(table, nn.Embedding):
        raise ModelError(f"input embedding must be an nn.Embedding, got {type(table).__name__}. Tune with 'lora'.")
    return table


def head(module: nn.Module) -> nn.Linear | None:
    """The output head of a causal language model, if it has one."""
    found = module.get_output_embeddings()  # type: ignore[operator]
    return found if isinstance(found, nn.Linear) else None


def module_name(module: nn.Module, part: nn.Module) -> str:
    """The dotted name of a part of a module."""
    return next(name for name, candidate in module.named_modules() if candidate is part)


def is_tied(module: nn.Module) -> bool:
    """Whether embedding and head are one parameter."""
    out = head(module)
    return out is not None and out.weight is embedding(module).weight


def target_modules(module: nn.Module, targets: Sequence[str]) -> list[str]:
    """Names of the linear layers that `targets` means, in the module's order.

    Raises:
        SpecError: A target that matches no linear layer.
    """
    out = head(module)
    linear = [n for n, m in module.named_modules() if isinstance(m, nn.Linear) and m is not out]
    if tuple(targets) == ALL_LINEAR and linear:
        return linear
    unmatched = [t for t in targets if not any(n == t or n.endswith(f".{t}") for n in linear)]
    if unmatched:
        known = sorted({n.rsplit(".", 1)[-1] for n in linear})
        raise SpecError(f"targets must name linear layers ({', '.join(known)}), got {unmatched}.")
    return [n for n in linear if any(n == t or n.endswith(f".{t}") for t in targets)]


def new_lora(module: nn.Module, names: Sequence[str], rank: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Fresh LoRA pairs: A uniform in +-1/sqrt(in) (PEFT's default), B zero, so that nothing changes yet."""
    generator = torch.Generator().manual_seed(seed)
    layers = dict(module.named_modules())
    pairs = {}
    for name in names:
        layer = layers[name]
        assert isinstance(layer, nn.Linear)
        bound = 1 / math.sqrt(layer.in_features)
        a = (torch.rand(rank, layer.in_features, generator=generator) * 2 - 1) * bound
        pairs[name] = (a, torch.zeros(layer.out_features, rank))
    return pairs
