"""Named tensors as one safetensors file."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gnothi.errors import DataError, StoreError


def save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as they are, from whatever device; views and shared memory are copied.

    Raises:
        DataError: Something that is no tensor.
    """
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise DataError(f"tensors must hold torch tensors, got {type(value).__name__} for {name!r}.")
    save_file({n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}, str(path))


def load(path: Path) -> dict[str, Tensor]:
    """Read what `save` wrote, onto the CPU.

    Raises:
        StoreError: It is missing or cut off.
    """
    try:
        return load_file(str(path))
    except FileNotFoundError:
        raise StoreError(f"{path} must exist, got no such file. Resume the run to make it again.") from None
    except Exception as error:  # safetensors has an error class of its own, not exported as one
        if type(error).__name__ != "SafetensorError":
            raise
        raise StoreError(
            f"{path} must be a whole safetensors file, got one that cannot be read ({error}). Delete that unit's folder and "
            "run.json, then resume."
        ) from error
