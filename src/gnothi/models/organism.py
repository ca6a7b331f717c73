"""Where the shipped organisms lie, and what their cards say. Needs no torch.

An organism is an ordinary model folder (config, safetensors, tokenizer) plus `organism.json`, its card.
"""

import json
from pathlib import Path
from typing import Any

from gnothi.errors import ModelError, StoreError

CARD = "organism.json"
"""File name of the card: name, seed, recipe, digest and the traits of known agents."""

_FOLDERS = Path(__file__).parent / "folders"
_SHIPPED = {
    "organism": "organism-2",
    "organism/2": "organism-2",
    "organism/1": "organism-1",
    "organism-weak": "organism-1-weak",
    "organism/1-weak": "organism-1-weak",
}


def organism_folder(name: str) -> Path:
    """The folder of a shipped organism.

    Args:
        name: `organism` is `organism/2`, and `organism-weak` is `organism/1-weak`; `organism/1` is the one before.

    Raises:
        ModelError: No organism of that name is shipped.

    >>> organism_folder("organism").name
    'organism-2'
    """
    if name not in _SHIPPED:
        raise ModelError(
            f"organism_folder: name must be one of {', '.join(_SHIPPED)}, got {name!r}. "
            "`gnothi organism train` makes one of your own; give its folder as organism/<folder>."
        )
    return _FOLDERS / _SHIPPED[name]


def shipped_folders() -> tuple[Path, ...]:
    """All shipped organisms, each once."""
    return tuple(_FOLDERS / folder for folder in dict.fromkeys(_SHIPPED.values()))


def read_card(folder: Path) -> dict[str, Any]:
    """Read an organism's card.

    Raises:
        StoreError: The folder has no card, or one that is not JSON.
    """
    path = Path(folder) / CARD
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise StoreError(
            f"read_card: {path} must be a JSON file written by organism training, got {type(error).__name__}. "
            "Give the folder of an organism."
        ) from error
