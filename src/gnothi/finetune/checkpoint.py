"""Training that was cut off goes on where it was: one file with what is trained, the optimiser's state and how far it is.

The file is whole or not there (written under another name and renamed), and says what it belongs to.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gnothi.errors import StoreError
from gnothi.files import cannot_write, replacing

SECONDS = 60.0
"""Of training between two checkpoints, where a recipe names no number of steps."""
SECONDS_AT_END = 10.0
"""Of training since the last checkpoint, from which on the end is written too: measuring comes after it."""


@dataclass(slots=True)
class Checkpoint:
    """The last checkpoint of one fleet.

    Attributes:
        path: Its file, in a folder that is made when it is needed; None keeps nothing.
        key: Digest of everything that decides the training.
        every: Steps between two checkpoints; None for about one a minute, 0 for none.
    """

    path: Path | None
    key: str
    every: int | None
    _last: float = 0.0

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was kept: tensors and facts; None where there is nothing yet.

        Raises:
            StoreError: A file that is cut off, or one of another training.
        """
        self._last = time.monotonic()
        if self.path is None or not self.path.is_file():
            return None
        again = f"Delete {self.path} to train from the start."
        try:
            with safe_open(self.path, "pt") as file:
                facts = json.loads((file.metadata() or {})["facts"])
                found = file.keys()
                tensors = {name: file.get_tensor(name) for name in found}
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise StoreError(
                f"checkpoint must be a whole file of ours, got one that cannot be read. {again}"
            ) from error
        if facts.pop("key", None) != self.key:
            raise StoreError(f"checkpoint must be of this model, recipe and rows, got one of another training. {again}")
        return tensors, facts

    def due(self, done: int, total: int) -> bool:
        """Whether one is to be written after `done` of `total` steps."""
        if self.path is None or self.every == 0:
            return False
        if self.every is not None:
            return done % self.every == 0 or done == total
        waited = time.monotonic() - self._last
        return waited >= SECONDS or (done == total and waited >= SECONDS_AT_END)

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace the last checkpoint.

        Raises:
            StoreError: The disk is full or the folder cannot be written.
        """
        assert self.path is not None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as temporary:
                kept = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
                save_file(kept, temporary, metadata={"facts": json.dumps({**facts, "key": self.key})})
        except (OSError, SafetensorError) as error:
            if isinstance(error, StoreError):
                raise
            raise cannot_write(self.path, error) from error
        self._last = time.monotonic()
