"""Norms with frozen factors in few passes over memory.

transformers' root-mean-square norms are a dozen passes over their input, and twice that with gradient; on a CPU that is a
tenth of a training step. They are recognised by what they compute.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Norm = tuple[nn.Module, Tensor, float]
"""A norm, its factor and its epsilon."""


def norms_of(module: nn.Module) -> list[Norm]:
    """The root-mean-square norms of a module on a CPU whose factors have no gradient.

    Args:
        module: Any module; its parameters must stay as they are for as long as the result is used.
    """
    if next(module.parameters()).device.type != "cpu":
        return []
    found = ((part, _factor(part), _epsilon(part)) for part in module.modules())
    return [(part, factor, epsilon) for part, factor, epsilon in found if factor is not None]


@contextlib.contextmanager
def quick_norms(norms: Sequence[Norm]) -> Iterator[None]:
    """Exchange norms for the length of a `with` block."""
    try:
        for part, factor, epsilon in norms:
            part.__dict__["forward"] = _forward(factor, epsilon)
        yield
    finally:
        for part, _, _ in norms:
            part.__dict__.pop("forward", None)


def _epsilon(part: nn.Module) -> float:
    found: Any = getattr(part, "variance_epsilon", getattr(part, "eps", None))
    return float(found) if found is not None else 0.0


def _factor(part: nn.Module) -> Tensor | None:
    """The factor of a root-mean-square norm, or None if the module is none, as a trial on one vector shows."""
    weight = getattr(part, "weight", None)
    if not type(part).__name__.endswith("RMSNorm") or "forward" in part.__dict__ or not isinstance(weight, Tensor):
        return None
    if weight.ndim != 1 or weight.requires_grad or not _epsilon(part):
        return None
    weight = weight.detach()
    with torch.inference_mode():
        trial = torch.linspace(-2, 3, len(weight), dtype=torch.float32).to(weight.dtype)[None]
        expected = part(trial).float()
    for factor in (weight.float(), 1 + weight.float()):
        scaled = nn.functional.rms_norm(trial.float(), weight.shape, None, _epsilon(part)) * factor
        if torch.allclose(expected, scaled, rtol=2e-2 if weight.dtype != torch.float32 else 1e-5, atol=1e-6):
            return factor
    return None


def _forward(factor: Tensor, epsilon: float) -> Any:
    def forward(x: Tensor) -> Tensor:
        return _Norm.apply(x, factor, epsilon)  # type: ignore[return-value]

    return forward


class _Norm(torch.autograd.Function):
    """x / rms(x) times a frozen factor, in float32 inside and in the type of x outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        length = torch.linalg.vector_norm(x, 2, -1, keepdim=True, dtype=torch.float32)
        scale = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x.float() * scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        grad, wide = grads[0] * weight, x.float()
        along = torch.linalg.vecdot(grad, wide)[..., None]
        along = along.mul_(scale).mul_(scale).div_(-x.shape[-1])
        return torch.addcmul(grad, wide, along).mul_(scale).to(x.dtype), None, None
