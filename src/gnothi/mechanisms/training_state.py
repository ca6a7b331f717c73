"""A training that was cut off goes on bit for bit: parameters, optimisers and random streams, in one file of a folder.

The file is whole or not there. Numbers are safetensors, everything else is JSON in its header.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gnothi.errors import StoreError
from gnothi.files import cannot_write, replacing

FILE = "state.safetensors"

Streams = Mapping[str, torch.Generator | np.random.Generator]
"""Random streams by name; `torch.default_generator` is one of them."""


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once (a tied head is its embedding)."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def save_state(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    optimisers: Sequence[torch.optim.Optimizer] = (),
    streams: Streams | None = None,
    facts: Mapping[str, Any] | None = None,
    key: str = "",
) -> None:
    """Keep a training as it is now; what was kept before is replaced.

    Args:
        folder: Where; made if it is not there.
        tensors: What is trained, by name, e.g. `tensors_of(module)`.
        optimisers: Their moments are kept, not their settings, which the caller makes anew.
        streams: Random streams that the training draws from.
        facts: Plain values, such as how far it is.
        key: Says what decides the training; `load_state` refuses another.

    Raises:
        StoreError: The disk is full or the folder cannot be written.
    """
    kept = {f"tensor/{name}": tensor.detach() for name, tensor in tensors.items()}
    plain: dict[str, Any] = {}
    for i, optimiser in enumerate(optimisers):
        for j, values in optimiser.state_dict()["state"].items():
            for name, value in values.items():
                where = f"optimiser/{i}/{j}/{name}"
                (kept if isinstance(value, Tensor) else plain)[where] = value
    numpy_streams = {}
    for name, generator in (streams or {}).items():
        if isinstance(generator, torch.Generator):
            kept[f"stream/{name}"] = generator.get_state()
        else:
            numpy_streams[name] = generator.bit_generator.state
    about = {"key": key, "facts": dict(facts or {}), "plain": plain, "streams": numpy_streams}
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            flat = {name: tensor.cpu().contiguous().clone() for name, tensor in kept.items()}
            save_file(flat, temporary, metadata={"state": json.dumps(about)})
    except (OSError, SafetensorError) as error:
        if isinstance(error, StoreError):
            raise
        raise cannot_write(path, error) from error


def load_state(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    optimisers: Sequence[torch.optim.Optimizer] = (),
    streams: Streams | None = None,
    key: str = "",
) -> dict[str, Any] | None:
    """Put a training back, in place.

    Args:
        folder: Where it was kept.
        tensors: As for `save_state`, of the same names and shapes.
        optimisers: Fresh ones over the same parameters.
        streams: The same names.
        key: As for `save_state`.

    Returns:
        The facts; None where nothing was kept.

    Raises:
        StoreError: A file that is cut off, or one of another training.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    again = f"Delete {path} to train from the start."
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["state"])
            names = file.keys()
            kept = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"the state of a training must be a whole file of ours, got one that cannot be read. {again}"
        ) from error
    mine = {f"tensor/{name}": tuple(t.shape) for name, t in tensors.items()}
    theirs = {name: tuple(t.shape) for name, t in kept.items() if name.startswith("tensor/")}
    if about["key"] != key or mine != theirs:
        raise StoreError(f"the state of a training must be of this training, got one of another. {again}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(kept[f"tensor/{name}"])
    for i, optimiser in enumerate(optimisers):
        whole = optimiser.state_dict()
        state: dict[int, dict[str, Any]] = {}
        for where, value in (*kept.items(), *about["plain"].items()):
            if where.startswith(f"optimiser/{i}/"):
                _, _, j, name = where.split("/", 3)
                state.setdefault(int(j), {})[name] = value
        optimiser.load_state_dict({**whole, "state": state})
    for name, generator in (streams or {}).items():
        if isinstance(generator, torch.Generator):
            generator.set_state(kept[f"stream/{name}"])
        else:
            generator.bit_generator.state = about["streams"][name]
    return about["facts"]
