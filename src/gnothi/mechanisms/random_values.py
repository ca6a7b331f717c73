"""A model of the same shape with random values: what a site holds before anything was learnt."""

import copy
from typing import Any

import torch
from torch import nn

from gnothi.rng import integer


def reinitialised(module: nn.Module, seed: int, *, std: float = 0.02) -> nn.Module:
    """A copy with random values: matrices normal with one s.d., biases 0, norms that only normalise.

    Args:
        module: Left as it is.
        seed: Of the values.
        std: Standard deviation of every matrix and embedding; GPT-2's, and what most recipes start from.
    """
    fresh = copy.deepcopy(module)
    draws = torch.Generator().manual_seed(integer(seed, "reinitialised"))
    with torch.no_grad():
        for part in fresh.modules():
            for name, values in part.named_parameters(recurse=False):
                if values.dim() >= 2:
                    drawn = torch.empty(values.shape).normal_(0.0, std, generator=draws)
                    values.copy_(drawn.to(values))
                else:
                    values.fill_(0.0 if name == "bias" or _adds_one(part) else 1.0)
    return fresh


def _adds_one(norm: nn.Module) -> bool:
    """Whether a norm multiplies by 1 + weight (Gemma's) and not by weight."""
    weight: Any = norm.weight
    bias: Any = getattr(norm, "bias", None)
    kept = weight.data
    weight.data = torch.zeros_like(kept)
    try:
        found = norm(torch.linspace(-1.0, 1.0, len(kept), dtype=kept.dtype, device=kept.device))
        return bool((found if bias is None else found - bias).abs().max() > 0)
    finally:
        weight.data = kept
