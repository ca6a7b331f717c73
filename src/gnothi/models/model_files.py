"""A model's folder before it is opened: what must lie in it, whether each file is whole, and how it will be spoken to.

No torch here, so that a run is refused before anything is written.
"""

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

from gnothi.errors import ModelError
from gnothi.models.local_text import PLAIN, thinking_state
from gnothi.models.model_cache import read_json

ADAPTER, OWN_ADAPTER = "adapter_config.json", "gnothi_adapter.json"
INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt", "tekken.json")
_MOST_HEADER = 100_000_000


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, PEFT's or ours, and not a model."""
    return (folder / ADAPTER).is_file() or (folder / OWN_ADAPTER).is_file()


def check_model(where: str, folder: Path) -> None:
    """Check that a folder holds a model that can be opened.

    Args:
        where: How the message names it, e.g. `--model hf/mine`.
        folder: The folder.

    Raises:
        ModelError: No such folder; no configuration; no safetensors, or pickles alone; a file that is missing or cut off;
            no tokenizer.
    """
    if folder.is_file():
        raise ModelError(f"{where} must name a folder, got {folder}, which is a file. A GGUF file is gguf/<file>.")
    if not folder.is_dir():
        raise ModelError(f"{where} must name a folder, got {folder}, which does not exist. Give a path to one.")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{where} must hold config.json, got none in {folder}. Save it with save_pretrained.")
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{where} must hold a config.json that parses, got {error}. Fetch it again.") from error
    for path in _parameters(where, folder):
        check_whole(path)
    if not any((folder / t).is_file() for t in TOKENIZERS) and not list(folder.glob("*.tiktoken")):
        raise ModelError(
            f"{where} must hold a tokenizer, got no tokenizer.json in {folder}. "
            "Save the tokenizer there with save_pretrained."
        )


def _parameters(where: str, folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        what = f"pickled parameters only ({pickled[0]})" if pickled else "none"
        raise ModelError(
            f"{where} must hold *.safetensors, got {what} in {folder}. "
            "Convert it with save_pretrained (safetensors is its default); pickles are not opened."
        )
    if not (folder / INDEX).is_file():
        if not (folder / "model.safetensors").is_file():
            raise ModelError(
                f"{where} must hold model.safetensors or {INDEX}, got {found[0].name} in {folder}. Fetch it again."
            )
        return [folder / "model.safetensors"]
    stated = read_json(folder / INDEX).get("weight_map")
    if not isinstance(stated, dict) or not stated:
        raise ModelError(f"{INDEX} must map parameters to files, got an unreadable one in {folder}. Fetch it again.")
    files = [folder / Path(str(file)).name for file in sorted(set(map(str, stated.values())))]
    if absent := [p.name for p in files if not p.is_file()]:
        raise ModelError(f"{where} must have all of its files, got no {absent[0]} in {folder}. Fetch it again.")
    return files


def check_whole(path: Path) -> None:
    """Check a safetensors file's length against what its header states.

    Raises:
        ModelError: It is cut off, or no safetensors file.
    """
    start, tensors = _header(path)
    expected = start + max((int(t["data_offsets"][1]) for t in tensors.values()), default=0)
    found = path.stat().st_size
    if found != expected:
        raise ModelError(
            f"model file must be whole, got {found} of {expected} bytes of {path.name} in {path.parent}. "
            "Fetch or copy it again."
        )


def n_parameters(folder: Path) -> int:
    """Parameters that a model's folder holds, by the headers of its files; tied ones count once.

    Raises:
        ModelError: A file that is no safetensors file.
    """
    tensors = [t for path in _parameters(f"model {folder}", folder) for t in _header(path)[1].values()]
    return sum(math.prod(t["shape"]) for t in tensors)


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where a safetensors file's tensors begin, and what it states of each."""
    try:
        with path.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            if length > _MOST_HEADER:
                raise ValueError("its header is too long")
            tensors = json.loads(handle.read(length))
        found = {name: t for name, t in tensors.items() if name != "__metadata__"}
        _ = [(int(t["data_offsets"][1]), math.prod(map(int, t["shape"]))) for t in found.values()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, struct.error) as error:
        raise ModelError(
            f"model file must be whole, got {path.name} in {path.parent} with a header that cannot be read "
            f"({error!s:.80}). Fetch or copy it again."
        ) from error
    return 8 + length, found


def wording(folder: Path) -> dict[str, str]:
    """How a model's conversations will be written: renderer, and whether a thinking model is told not to think.

    `Codec` decides it; this reads the same from the files, without loading the tokenizer.
    """
    template = _template(folder)
    state = thinking_state(template)
    return {"renderer": "template" if template else PLAIN} | ({"thinking": state} if state else {})


def _template(folder: Path) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        found: Any = read_json(folder / name).get("chat_template")
        if isinstance(found, list):  # several, by name
            by_name = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
            found = by_name.get("default") or next(iter(by_name.values()), None)
        if isinstance(found, str) and found:
            return found
    return ""


def plain(text: Any, most: int = 120) -> str:
    r"""What a file says, short enough to show and without what could move a cursor.

    >>> plain("a\x1b[2Jb" * 100, 8)
    'a[2Jba[2'
    """
    return "".join(re.findall(r"[^\x00-\x1f\x7f-\x9f]", str(text)))[:most]
