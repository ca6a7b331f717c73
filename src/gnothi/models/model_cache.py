"""Gnothi's own folder of models (`GNOTHI_CACHE`): what is made once lies there, with digests that are not computed twice."""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gnothi.errors import GnothiError, StoreError
from gnothi.files import file_digest, write_atomically

SOURCE = "gnothi_source.json"
"""Beside a model that was made here: where it comes from, and the digests of its files."""

_DECIDES = ("*.safetensors", "config.json", "generation_config.json", "tokenizer*", "*.jinja", "*.model", "*.tiktoken")
_DECIDES += ("chat_template.json", "tekken.json", "vocab.*", "merges.txt", "special_tokens_map.json")
_LARGE = 8_000_000
"""Bytes from which on a digest is worth remembering."""
_SETTLED = 2.0
"""Seconds since a file was written, before its digest is remembered: a second write could bear the same time."""
_MOST = 1000


def cache_folder() -> Path:
    """Where models are kept: `models` in `GNOTHI_CACHE`, or in `~/.cache/gnothi`. It need not exist."""
    return _root() / "models"


def _root() -> Path:
    given = os.environ.get("GNOTHI_CACHE", "")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "gnothi"


def offline() -> bool:
    """Whether `GNOTHI_OFFLINE` or `HF_HUB_OFFLINE` forbids the network."""
    return any(is_set(name) for name in ("GNOTHI_OFFLINE", "HF_HUB_OFFLINE"))


def is_set(name: str) -> bool:
    """Whether a switch in the environment is on."""
    return os.environ.get(name, "").strip().lower() not in ("", "0", "false", "no", "off")


def folder_digest(folder: Path) -> str:
    """sha256 over the names and contents of parameters, configuration, tokenizer and template: what decides answers.

    An organism's card is left out, since it states this digest; Python files count where the configuration names code.
    """
    patterns = _DECIDES + (("*.py",) if own_code(folder) else ())
    total = hashlib.sha256()
    for path in sorted({p for pattern in patterns for p in folder.glob(pattern)}):
        total.update(f"{path.name}\0{remembered_digest(path)}\n".encode())
    return total.hexdigest()


def own_code(folder: Path) -> dict[str, Any]:
    """The classes for which a folder's configuration brings its own code; they are used only when asked for."""
    found = [read_json(folder / name).get("auto_map") for name in ("config.json", "tokenizer_config.json")]
    return {k: v for one in found if isinstance(one, dict) for k, v in one.items()}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file; empty where there is none, or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remembered_digest(path: Path) -> str:
    """sha256 of a file; that of a large one is computed again only where its size or time of change differ."""
    path = path.resolve()
    state = path.stat()
    if state.st_size < _LARGE:
        return file_digest(path)
    book = _root() / "digests.json"
    known, key, now = read_json(book), str(path), [state.st_size, state.st_mtime_ns]
    entry = known.get(key)
    if isinstance(entry, list) and entry[:2] == now and len(entry) == 3:
        return str(entry[2])
    found = file_digest(path)
    if time.time() - state.st_mtime > _SETTLED:
        known = dict(list(known.items())[-_MOST:]) | {key: [*now, found]}
        with contextlib.suppress(GnothiError, OSError):  # a cache that cannot be written costs time and nothing else
            book.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(book, json.dumps(known, indent=0))
    return found


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder` to fill; on leaving it takes its place, on failure nothing is left.

    Raises:
        StoreError: The cache cannot be written, or the disk is full.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():  # whoever has its files open keeps them
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(folder)
    except OSError as error:
        if isinstance(error, GnothiError):
            raise
        raise StoreError(
            f"{folder} must be writable, got {error.strerror or error}. "
            "Free space, or set GNOTHI_CACHE to another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_source(folder: Path, facts: dict[str, Any]) -> None:
    """State where a model comes from, with the digests of its parameters, beside them."""
    files = {p.name: file_digest(p) for p in sorted(folder.glob("*.safetensors"))}
    (folder / SOURCE).write_text(json.dumps({"format": 1, **facts, "files": files}, indent=1) + "\n", encoding="utf-8")


def read_source(folder: Path) -> dict[str, Any] | None:
    """What `write_source` stated, once the files are found to be as they were; None where it stated nothing.

    Raises:
        StoreError: A file that is missing or no longer what it was.
    """
    stated = read_json(folder / SOURCE)
    files = stated.pop("files", None)
    if not isinstance(files, dict) or not files:
        return None
    for name, digest in files.items():
        path = folder / Path(name).name
        found = remembered_digest(path) if path.is_file() else "nothing"
        if found != digest:
            raise StoreError(
                f"{path} must be as it was when it was made (sha256 {str(digest)[:12]}), got {found[:12]}. "
                f"Remove the folder and fetch it again with `gnothi models fetch {stated.get('model', 'NAME')}`."
            )
    stated.pop("format", None)
    return stated


def made_here() -> list[tuple[Path, dict[str, Any]]]:
    """Folder and source of every model that was made into the cache."""
    above = cache_folder()
    folders = sorted(p for p in above.iterdir() if p.is_dir()) if above.is_dir() else []
    return [(p, said) for p in folders if not p.name.startswith(".") and (said := read_json(p / SOURCE))]
