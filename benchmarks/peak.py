"""What this machine can do at most, and what training needs at least."""

import time
from typing import Any

import torch


def matmul_peak(n: int = 768, repeats: int = 8, dtype: torch.dtype = torch.float32, device: str = "cpu") -> float:
    """Floating point operations a second of a large square product on this machine, now."""
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        if device != "cpu":
            torch.cuda.synchronize()
        started = time.perf_counter()
        a @ b
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


def flops_a_token(module: Any, kind: str) -> float:
    """Needed operations a token: forward, backward to activations, and to parameters where they are trained.

    The head and attention's products are left out (they are small at these lengths and one answer token a row), so the
    share of the peak is low rather than high.
    """
    matrices = sum(p.numel() for n, p in module.named_parameters() if p.ndim == 2 and "layers" in n)
    return 2.0 * matrices * (3 if kind == "full" else 2)
