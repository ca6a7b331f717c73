"""How large a forward pass may be: measured once for a model and a device, and then kept."""

import weakref
from typing import Any

import torch
from torch import nn

CPU_TOKENS = 2048
"""Tokens of one forward pass without gradient on a CPU, which is fastest on what its cache holds: measured on Gemma 3 270M
and on the organism, where 1024 to 4096 differ by less than 5%."""

ELSEWHERE_TOKENS = 16384
"""The same on a device whose memory cannot be asked for."""

SHARE = 0.5
"""Of the memory that is free after the parameters were loaded."""

_measured: "weakref.WeakKeyDictionary[nn.Module, int]" = weakref.WeakKeyDictionary()


def largest_pass(module: nn.Module) -> int:
    """Tokens of a forward pass without gradient, padding included.

    On CUDA two probes of different length are run and the memory between them is divided by their tokens; the answer
    depends on the card and the model alone, so that every process of a run batches alike.

    Args:
        module: A causal language model.
    """
    if module not in _measured:
        device = next(module.parameters()).device
        if device.type == "cpu":
            _measured[module] = CPU_TOKENS
        elif device.type == "cuda":
            _measured[module] = _probe(module, device)
        else:
            _measured[module] = ELSEWHERE_TOKENS
    return _measured[module]


def _probe(module: nn.Module, device: torch.device) -> int:
    peaks = []
    sizes = (256, 1024)
    for tokens in sizes:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with torch.inference_mode():
            extra: dict[str, Any] = {"logits_to_keep": 1, "use_cache": False}
            module(input_ids=torch.zeros(tokens // 128, 128, dtype=torch.long, device=device), **extra)
        peaks.append(torch.cuda.max_memory_allocated(device) - before)
    each = max(1.0, (peaks[1] - peaks[0]) / (sizes[1] - sizes[0]))
    parameters = sum(p.numel() * p.element_size() for p in module.parameters())
    free = torch.cuda.get_device_properties(device).total_memory - parameters
    tokens = int(SHARE * free / each)
    return max(512, min(2 ** (tokens.bit_length() - 1), 2**17))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, on a CPU as on a GPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "out of memory" in str(error))
