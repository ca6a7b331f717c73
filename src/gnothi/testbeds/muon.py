"""Muon for a tiny network: momentum, made orthogonal, for matrices; Adam for the rest is torch's own.

All matrices of one shape are stacked and orthogonalised in one batched product: the network has few parameters and
many of them, so calling overhead would otherwise cost more than the arithmetic.

Source: K. Jordan et al., Muon (2024): Nesterov momentum, then five quintic Newton-Schulz steps. We stack by shape,
treat wide and tall matrices alike by transposing, work in fp32 and scale by sqrt(max(1, out / in)).
"""

import math
from collections.abc import Mapping, Sequence

import torch

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the polynomial that drives singular values into about [0.7, 1.2]


def orthogonalise(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Replace each matrix's singular values by about 1.

    Args:
        matrices: Shape (batch, rows, cols) with rows <= cols.
        steps: Newton-Schulz steps.

    Returns:
        The same shape.
    """
    x = matrices / matrices.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None]
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C) @ x
    return x


class Muon:
    """Updates a list of matrices in place."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], *, momentum: float = 0.95) -> None:
        """Group the matrices by shape.

        Args:
            parameters: Matrices (out, in).
            momentum: Decay of the running gradient, in [0, 1).
        """
        self._momentum = momentum
        self._groups: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
        for p in parameters:
            self._groups.setdefault((min(p.shape), max(p.shape)), []).append(p)
        self._buffers = {s: torch.zeros(len(ps), *s, device=ps[0].device) for s, ps in self._groups.items()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """The running gradients, by shape: what a checkpoint needs."""
        return {f"{rows}x{columns}": buffer for (rows, columns), buffer in self._buffers.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from what `tensors` gave."""
        for name, buffer in self.tensors().items():
            buffer.copy_(tensors[name])

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take one step of size `rate` along the orthogonalised momentum; gradients must be there."""
        for shape, parameters in self._groups.items():
            grads = torch.stack([_wide(p.grad) for p in parameters if p.grad is not None])
            buffer = self._buffers[shape].mul_(self._momentum).add_(grads)
            updates = orthogonalise(grads.add_(buffer, alpha=self._momentum))
            for p, update in zip(parameters, updates, strict=True):
                scale = math.sqrt(max(1.0, p.shape[0] / p.shape[1]))
                p.add_(update if p.shape == update.shape else update.mT, alpha=-rate * scale)


def _wide(matrix: torch.Tensor) -> torch.Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
