"""Model names: what `--model` can be, where it lies, and the digest that a run is tied to. No torch here."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from gnothi.errors import ModelError, SpecError
from gnothi.files import file_digest
from gnothi.models.organism import organism_folder, shipped_folders

ORGANISMS = ("organism", "organism/1", "organism-weak")
_VERSIONS = ("1", "1-weak", "2")
SCRIPTS = ("oracle", "constant-a", "nonsense", "guess")
_DECIDES = ("*.safetensors", "config.json", "generation_config.json", "tokenizer*", "*.jinja")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model that can be opened."""

    name: str
    family: str
    """`organism`, `hf` or `scripted`."""
    digest: str
    """sha256 over the files that decide its answers (for `scripted`, over its name)."""
    folder: Path | None = None


def folder_digest(folder: Path) -> str:
    """sha256 over the names and contents of parameters, configuration, tokenizer and template: what decides answers.

    An organism's card is left out, since it states this digest.
    """
    total = hashlib.sha256()
    for path in sorted({p for pattern in _DECIDES for p in folder.glob(pattern)}):
        total.update(f"{path.name}\0{file_digest(path)}\n".encode())
    return total.hexdigest()


def resolve(name: str, *, digest: str | None = None) -> ModelInfo:
    """Find a model by name, without opening it.

    Args:
        name: `organism`, `organism-weak`, `organism/<folder>`, `hf/<folder>`, or `scripted/<oracle|constant-a|nonsense|guess>`;
            a shipped organism's version can be named, as in `organism/1`.
        digest: What a run was started with. If `name` now means a later shipped organism and an earlier one has this
            digest, that one is found, so that the run goes on.

    Raises:
        SpecError: No such kind of name.
        ModelError: Nothing there that could be opened.
    """
    if not name.isprintable():
        raise SpecError(f"--model must be a printable name, got {name!r}. `gnothi models list` shows what is here.")
    kind, _, rest = name.partition("/")
    if name in ORGANISMS or (kind == "organism" and rest in _VERSIONS):
        folder = organism_folder(name)
        found = folder_digest(folder)
        if name == "organism" and digest not in (None, found):
            for earlier in shipped_folders():
                if folder_digest(earlier) == digest:
                    folder, found = earlier, digest
        return ModelInfo(name=name, family="organism", digest=found, folder=folder)
    if kind == "organism" and rest:
        folder = _model_folder(name, Path(rest))
        if not (folder / "organism.json").is_file():
            raise ModelError(
                f"--model {name} must be an organism's folder, got one without organism.json. Use hf/{rest}."
            )
        return ModelInfo(name=name, family="organism", digest=folder_digest(folder), folder=folder)
    if kind == "hf" and rest:
        folder = _model_folder(name, Path(rest))
        return ModelInfo(name=name, family="hf", digest=folder_digest(folder), folder=folder)
    if kind == "scripted":
        if rest not in SCRIPTS:
            raise SpecError(f"--model scripted/… must be one of {', '.join(SCRIPTS)}, got {rest!r}.")
        return ModelInfo(name=name, family="scripted", digest=hashlib.sha256(name.encode()).hexdigest())
    raise SpecError(
        f"--model must be organism, organism-weak, organism/<folder>, hf/<folder> or scripted/<script>, got {name!r}. "
        "`gnothi models list` shows what is here."
    )


def _model_folder(name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise ModelError(f"--model {name} must name a folder, got {folder}, which does not exist. Give a path to one.")
    if not (folder / "config.json").is_file():
        raise ModelError(f"--model {name} must hold config.json, got none in {folder}. Save it with save_pretrained.")
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"--model {name} must hold a config.json that parses, got {error}. Fetch it again.") from error
    if not list(folder.glob("*.safetensors")):
        pickled = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        found = f"pickled parameters only ({pickled[0].name})" if pickled else "none"
        raise ModelError(
            f"--model {name} must hold *.safetensors, got {found} in {folder}. "
            "Convert it with save_pretrained (safetensors is its default); pickles are not opened."
        )
    return folder
