"""Where models come from: folders, adapters on a base, the hub, GGUF files, the packaged Gemma. No torch until one is converted.

Whatever a name stands for, what comes out is a folder of safetensors on this disk, with an adapter's folder if it has
one, and the facts about it that belong beside every number.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnothi.errors import ModelError, SpecError
from gnothi.models import gemma, hub
from gnothi.models.model_cache import (
    cache_folder,
    folder_digest,
    made_here,
    new_folder,
    read_json,
    read_source,
    remembered_digest,
    write_source,
)
from gnothi.models.model_files import ADAPTER, OWN_ADAPTER, check_model, is_adapter, plain, wording
from gnothi.models.organism import organism_folder, shipped_folders

Step = Callable[[int, int, str], None]
"""Told steps done, steps in all, and what comes next, where something has to be made first."""

_SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_SHORT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model's files."""

    folder: Path
    """The base model: configuration, safetensors, tokenizer."""
    adapter: Path | None = None
    """Folder of the adapter that is part of the model."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from and how it is spoken to, as short texts."""


def gemma_folder() -> Path:
    """The folder of Gemma 3 270M; made now if its terms were accepted before (or `GNOTHI_ACCEPT_GEMMA_TERMS=1` is set).

    Raises:
        ModelError: Its package is missing, or its terms were not accepted.
    """
    return gemma.fetch()


def is_named_folder(name: str) -> bool:
    """Whether a name without a kind before it is a model's folder here: it has a separator or a dot, and holds one."""
    looks = os.sep in name or "." in name
    folder = Path(name).expanduser()
    return looks and folder.is_dir() and ((folder / "config.json").is_file() or is_adapter(folder))


def find(name: str, *, digest: str | None = None, step: Step | None = None) -> Source | None:
    """Find a model's files, and make or fetch them if that has to be done once.

    Args:
        name: `hf/<folder or id>`, `hf/<id>@<revision>`, `gguf/<file>`, `gemma-3-270m`, or a folder.
        digest: Of the base model that is meant, where the hub's cache holds several revisions.
        step: Told what is done, where that takes long.

    Returns:
        The files; None for a name of another kind.

    Raises:
        SpecError: A name that can mean no model.
        ModelError: Nothing there, or nothing that can be opened.
        StoreError: The cache cannot be written, or something in it was altered.
    """
    kind, _, rest = name.partition("/")
    if name == gemma.NAME:
        return _made(gemma.fetch(step))
    if kind == "hf" and rest:
        folder = Path(rest).expanduser()
        return _folder(name, folder) if folder.exists() or _is_path(rest) else _hub(name, rest, digest)
    if kind == "gguf" and rest:
        return _gguf(name, Path(rest).expanduser(), step)
    return _folder(name, Path(name).expanduser()) if is_named_folder(name) else None


def _is_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or hub.parse(text) is None


def _folder(name: str, folder: Path, **facts: Any) -> Source:
    if is_adapter(folder):
        return _adapter(name, folder, facts)
    check_model(f"--model {name}", folder)
    made = read_source(folder) or {}
    made.pop("model", None)
    return Source(folder=folder, facts={**made, **facts, **wording(folder)})


def _made(folder: Path) -> Source:
    """A folder of the cache."""
    check_model(f"--model {folder.name}", folder)
    facts = read_source(folder) or {}
    facts.pop("model", None)
    return Source(folder=folder, facts={**facts, **wording(folder)})


def _hub(name: str, text: str, digest: str | None) -> Source:
    repository, revision = hub.check_id(text)
    folder = hub.cached(repository, revision)
    if digest is not None and (folder is None or folder_digest(folder) != digest):
        whole = [found for s in hub.snapshots(repository) if (found := hub.cached(repository, s.name)) is not None]
        folder = next((s for s in whole if folder_digest(s) == digest), folder)
    if folder is None:
        folder = hub.fetch(repository, revision)
    commit = hub.id_of(folder)
    return _folder(
        name,
        folder,
        repository=repository,
        revision=commit[1] if commit else revision,
        licence=plain(hub.licence_of(folder)),
    )


def _gguf(name: str, path: Path, step: Step | None) -> Source:
    if not path.is_file():
        raise ModelError(f"--model {name} must name a GGUF file, got {path}, which does not exist. Give a path to one.")
    if _SHARD.search(path.name):
        raise ModelError(
            f"--model {name} must be one file, got a part of several. Join them with `llama-gguf-split --merge`."
        )
    with path.open("rb") as handle:
        if (magic := handle.read(4)) != b"GGUF":
            raise ModelError(f"--model {name} must be a GGUF file, got one that begins with {magic!r}. Fetch it again.")
    sha256 = remembered_digest(path)
    folder = cache_folder() / f"gguf-{sha256[:_SHORT]}"
    if read_source(folder) is None:
        from gnothi.models.local_convert import convert

        with new_folder(folder) as temporary:
            said = convert(path, temporary, step=step)
            facts = {
                "about": f"dequantised from GGUF ({plain(said['file_type'] or 'type not stated')})",
                "file": plain(path.name),
                "sha256": sha256,
                "licence": plain(said["license"] or "not stated"),
                "says_it_is": plain(said["name"] or "no name stated"),
            }
            write_source(temporary, {"model": name, **facts})
    return _made(folder)


def _adapter(name: str, folder: Path, facts: Mapping[str, Any]) -> Source:
    """An adapter's folder: find the model that it was trained on, and check that it is that one."""
    ours, theirs = read_json(folder / OWN_ADAPTER), read_json(folder / ADAPTER)
    digest = str(ours.get("base_digest") or "")
    stated = ours.get("base") or theirs.get("base_model_name_or_path")
    revision = theirs.get("revision")
    base = _base(stated, revision, digest, folder) if isinstance(stated, str) and stated else None
    base = base or _by_digest(digest)
    if base is None:
        raise ModelError(
            f"--model {name} must name the model that it was trained on, got {plain(stated or 'none')!r} in {folder}, "
            "which is not here. Name the model with --model and this folder with --adapter."
        )
    if base.adapter is not None:
        raise ModelError(f"--model {name} must be an adapter on a model, got one on another adapter: {plain(stated)}.")
    found = folder_digest(base.folder)
    if digest and digest != found:
        raise ModelError(
            f"--model {name} must be on the model that it was trained on (digest {digest[:12]}), got {plain(stated)} with "
            f"digest {found[:12]}. Put that model back, or train the adapter again."
        )
    return Source(
        folder=base.folder,
        adapter=folder,
        facts={**base.facts, "base": plain(stated or base.folder.name), "adapter": str(folder), **facts},
    )


def _base(stated: str, revision: Any, digest: str, folder: Path) -> Source | None:
    """What an adapter's file calls its base: a name of ours, a path (also from the adapter's folder), a hub's id."""
    if stated.startswith("organism") and "/" not in stated.removeprefix("organism/"):
        try:
            return Source(folder=organism_folder(stated))
        except ModelError:
            return None
    for path in (Path(stated).expanduser(), folder / stated):
        if path.is_dir() and path.resolve() != folder.resolve():
            return _folder(f"hf/{path}", path)
    if stated == gemma.NAME or stated.startswith(("hf/", "gguf/")):
        try:
            return find(stated, digest=digest or None)
        except ModelError:
            if digest and (other := _by_digest(digest)) is not None:
                return other
            raise
    if hub.parse(stated) is None or (digest and _by_digest(digest) is not None):
        return None
    at = f"@{revision}" if isinstance(revision, str) and revision else ""
    return find(f"hf/{stated}{at}", digest=digest or None)


def _by_digest(digest: str) -> Source | None:
    """The shipped or fetched model of a digest: a path that an adapter names may be another machine's."""
    if not digest:
        return None
    for folder in (*shipped_folders(), *(made for made, _ in made_here())):
        if folder_digest(folder) == digest:
            return _made(folder)
    return None


def check_name(name: str) -> None:
    """Refuse what could not be printed or be a path.

    Raises:
        SpecError: Such a name.
    """
    if not name.isprintable():
        raise SpecError(f"--model must be a printable name, got {name!r}. `gnothi models list` shows what is here.")
