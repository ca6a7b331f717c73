"""Model names: what `--model` can be, where it lies, and the digest that a run is tied to.

No torch here, but where a GGUF file is converted for the first time or an adapter is part of the model.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnothi.errors import ModelError, SpecError
from gnothi.models import sources
from gnothi.models.model_cache import folder_digest
from gnothi.models.model_files import check_model, wording
from gnothi.models.organism import organism_folder, shipped_folders

__all__ = ["ORGANISMS", "SCRIPTS", "ModelInfo", "check_device", "folder_digest", "resolve"]

ORGANISMS = ("organism", "organism/1", "organism-weak")
_VERSIONS = ("1", "1-weak", "2")
SCRIPTS = ("oracle", "constant-a", "nonsense", "guess")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model that can be opened."""

    name: str
    family: str
    """`organism`, `hf` or `scripted`."""
    digest: str
    """sha256 over the files that decide its answers (for `scripted`, over its name)."""
    folder: Path | None = None
    """The base model's folder; None for a script."""
    adapter: Path | None = None
    """Folder of the adapter that is part of the model: what is asked has it on, and training goes on from it."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Short texts that belong on a page: where it comes from, its licence, how it is spoken to."""


def resolve(name: str, *, digest: str | None = None, step: sources.Step | None = None) -> ModelInfo:
    """Find a model by name, without opening it; what has to be fetched or converted once, is.

    Args:
        name: `organism`, `organism-weak`, `organism/<folder>`, `gemma-3-270m`, `hf/<folder or id>`, `gguf/<file>`, a folder,
            or `scripted/<oracle|constant-a|nonsense|guess>`; a shipped organism's version can be named, as in
            `organism/1`, and a revision of the hub's, as in `hf/<id>@<revision>`.
        digest: What a run was started with. If `name` now means a later one, and the earlier one with this digest is
            still here, that is found, so that the run goes on.
        step: Told steps done, steps in all, and what comes next, where something is made first.

    Raises:
        SpecError: No such kind of name.
        ModelError: Nothing there that could be opened.
        StoreError: The cache cannot be written, or what lies in it was altered.
    """
    sources.check_name(name)
    kind, _, rest = name.partition("/")
    if name in ORGANISMS or (kind == "organism" and rest in _VERSIONS):
        folder = organism_folder(name)
        found = folder_digest(folder)
        if name == "organism" and digest not in (None, found):
            for earlier in shipped_folders():
                if folder_digest(earlier) == digest:
                    folder, found = earlier, digest
        return ModelInfo(name=name, family="organism", digest=found, folder=folder, provenance=wording(folder))
    if kind == "organism" and rest:
        folder = Path(rest)
        check_model(f"--model {name}", folder)
        if not (folder / "organism.json").is_file():
            raise ModelError(
                f"--model {name} must be an organism's folder, got one without organism.json. Use hf/{rest}."
            )
        digest = folder_digest(folder)
        return ModelInfo(name=name, family="organism", digest=digest, folder=folder, provenance=wording(folder))
    if kind == "scripted":
        if rest not in SCRIPTS:
            raise SpecError(f"--model scripted/… must be one of {', '.join(SCRIPTS)}, got {rest!r}.")
        return ModelInfo(name=name, family="scripted", digest=hashlib.sha256(name.encode()).hexdigest())
    source = sources.find(name, digest=digest, step=step)
    if source is None:
        raise SpecError(
            "--model must be organism, organism-weak, organism/<folder>, gemma-3-270m, hf/<folder or id>, gguf/<file>, a "
            f"folder's path or scripted/<script>, got {name!r}. `gnothi models list` shows what is here."
        )
    base = folder_digest(source.folder)
    return ModelInfo(
        name=name,
        family="hf",
        digest=base if source.adapter is None else _with_adapter(base, source.adapter),
        folder=source.folder,
        adapter=source.adapter,
        provenance=dict(source.facts),
    )


def _with_adapter(base: str, folder: Path) -> str:
    """The digest of a model with an adapter on it, as `LocalModel` states it."""
    from gnothi.models.adapter_files import load_adapter

    return hashlib.sha256(f"{base}+{load_adapter(folder).digest}".encode()).hexdigest()


def check_device(device: str) -> None:
    """Refuse a device that is not here, before anything is written; torch is asked about others than `cpu` alone.

    Raises:
        SpecError: No device of that name, or not on this machine.
    """
    if device != "cpu":
        from gnothi.models import local_files

        local_files.check_device(device)
