"""Training that was cut off goes on where it was: one file with what is trained, the optimiser's state and how far it is.

When training is over, the file holds the adapters instead, so that whatever comes after it may be cut off too. It is whole
or not there (written under another name and renamed), and says what it belongs to.
"""

import json
import time
from collections.abc import Mapping, Sequence
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
"""Of training since the last checkpoint, from which on the adapters of a single job are kept too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a checkpoint holds."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    keys: list[str]
    """Of the jobs, in their order."""
    over: bool
    """Whether these are the adapters of a training that is over."""


@dataclass(slots=True)
class Checkpoint:
    """The last checkpoint of one fleet.

    Attributes:
        path: Its file, in a folder that is made when it is needed; None keeps nothing.
        keys: For each job of the fleet a digest of everything that decides its training.
        every: Steps between two checkpoints; None for about one a minute, 0 for none.
    """

    path: Path | None
    keys: Sequence[str]
    every: int | None
    _last: float = 0.0

    def load(self) -> Kept | None:
        """What was kept of these jobs, or of a fleet that they were part of and that is trained; None where nothing was.

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
                names = file.keys()
                kept = Kept(tensors={name: file.get_tensor(name) for name in names}, **facts)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"checkpoint must be a whole file of ours, got one that cannot be read. {again}"
            ) from error
        if not (set(self.keys) <= set(kept.keys) if kept.over else kept.keys == list(self.keys)):
            raise StoreError(f"checkpoint must be of this model, recipe and rows, got one of another training. {again}")
        return kept

    def due(self, done: int) -> bool:
        """Whether one is to be written after `done` steps, with steps left."""
        if self.path is None or self.every == 0:
            return False
        return done % self.every == 0 if self.every is not None else time.monotonic() - self._last >= SECONDS

    def due_at_end(self) -> bool:
        """Whether the adapters are to be written: always for a fleet, which without some of its jobs would round anew."""
        if self.path is None or self.every == 0:
            return False
        waited = self.every is not None or time.monotonic() - self._last >= SECONDS_AT_END
        return waited or len(self.keys) > 1

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, over: bool = False) -> None:
        """Replace the last checkpoint.

        Args:
            tensors: What is to be kept, by name.
            facts: Plain values that belong to it.
            over: Whether these are the adapters of a training that is over.

        Raises:
            StoreError: The disk is full or the folder cannot be written.
        """
        assert self.path is not None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as temporary:
                kept = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
                about = {"facts": facts, "keys": list(self.keys), "over": over}
                save_file(kept, temporary, metadata={"facts": json.dumps(about)})
        except (OSError, SafetensorError) as error:
            if isinstance(error, StoreError):
                raise
            raise cannot_write(self.path, error) from error
        self._last = time.monotonic()
