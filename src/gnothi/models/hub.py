"""Models of the Hugging Face hub: what lies in its cache, and fetching what does not. Its library is loaded to fetch only.

What lies in the cache is used as it is and never looked up again, so that a name means the same model until somebody
fetches another. The library itself reads `HF_TOKEN`; nothing of it is kept here.
"""

import os
import re
from pathlib import Path

from gnothi.errors import GnothiError, ModelError, SpecError
from gnothi.models.model_cache import is_set, offline
from gnothi.models.model_files import check_model, is_adapter

WANTED = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt", "*.py", "README.md", "LICENSE*")
"""What is fetched: never pickles, and of code only what `trust_remote_code` would need."""
UNWANTED = ("*/*", "consolidated*")
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def parse(text: str) -> tuple[str, str] | None:
    """Id and revision of `org/name` or `org/name@revision`; None where that is no model's id.

    >>> parse("Qwen/Qwen2.5-0.5B"), parse("Qwen/Qwen2.5-0.5B@v1"), parse("./models/mine")
    (('Qwen/Qwen2.5-0.5B', 'main'), ('Qwen/Qwen2.5-0.5B', 'v1'), None)
    """
    name, _, revision = text.partition("@")
    revision = revision or "main"
    if not _ID.fullmatch(name) or not _REVISION.fullmatch(revision) or ".." in name + revision:
        return None
    return name, revision


def hub_cache() -> Path:
    """Where the hub's library keeps what it fetched."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    above = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(above).expanduser() / "huggingface" / "hub"


def _store(name: str) -> Path:
    return hub_cache() / f"models--{name.replace('/', '--')}"


def snapshots(name: str) -> list[Path]:
    """Every revision of a model in the cache, whole or not; the folders' names are commits."""
    above = _store(name) / "snapshots"
    return sorted(p for p in above.iterdir() if p.is_dir()) if above.is_dir() else []


def cached(name: str, revision: str = "main") -> Path | None:
    """The snapshot of a revision in the cache, if all that a model needs lies there."""
    try:
        commit = revision if _COMMIT.fullmatch(revision) else (_store(name) / "refs" / revision).read_text().strip()
    except OSError:
        return None
    folder = _store(name) / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not folder.is_dir():
        return None
    try:
        if not is_adapter(folder):
            check_model(f"hf/{name}", folder)
    except GnothiError:
        return None
    return folder if any(folder.glob("*.safetensors")) else None


def id_of(folder: Path) -> tuple[str, str] | None:
    """Id and commit of a snapshot's folder; None for any other folder.

    >>> id_of(Path("hub/models--Qwen--Qwen2.5-0.5B/snapshots/" + 40 * "a"))
    ('Qwen/Qwen2.5-0.5B', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')
    """
    store = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not store.startswith("models--") or not _COMMIT.fullmatch(folder.name):
        return None
    return store.removeprefix("models--").replace("--", "/"), folder.name


def in_cache() -> list[tuple[str, Path]]:
    """Id and folder of every model in the cache whose main revision can be opened."""
    above = hub_cache()
    names = sorted(p.name for p in above.glob("models--*")) if above.is_dir() else []
    ids = [n.removeprefix("models--").replace("--", "/") for n in names]
    return [(name, folder) for name in ids if (folder := cached(name)) is not None]


def fetch(name: str, revision: str = "main") -> Path:
    """Fetch a model into the hub's cache; what lies there already is not fetched again.

    Raises:
        ModelError: The network is forbidden or does not answer; no such model; one that asks for a licence or a token; one
            without safetensors.
    """
    shown = f"--model hf/{name}" + ("" if revision == "main" else f"@{revision}")
    if offline():
        switch = "GNOTHI_OFFLINE" if is_set("GNOTHI_OFFLINE") else "HF_HUB_OFFLINE"
        raise ModelError(
            f"{shown} must be a folder or lie in the hub's cache while {switch} is set, got neither (cache: {hub_cache()}). "
            f"Run `gnothi models fetch hf/{name}` without it, or give a folder."
        )
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=hub_cache(),
                endpoint=os.environ.get("HF_ENDPOINT") or None,
                allow_patterns=list(WANTED),
                ignore_patterns=list(UNWANTED),
            )
        )
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{shown} must be open to you, got a model that asks for its licence to be accepted. "
            f"Accept it on the model's page of the hub, then set HF_TOKEN to a token of yours."
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ModelError(
            f"{shown} must be a folder or a model of the hub, got neither. "
            "Check the name and the revision; for a private model set HF_TOKEN."
        ) from error
    except (OSError, ValueError, RuntimeError, errors.HfHubHTTPError) as error:
        raise ModelError(
            f"{shown} must be fetched whole, got {type(error).__name__} ({error!s:.120}). "
            "Try again, what came is kept; or give a folder that lies here."
        ) from error
    if not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"{shown} must hold *.safetensors, got none on the hub: pickles are not fetched. "
            "Look for a converted revision; a GGUF file is opened as gguf/<file>."
        )
    return folder


def check_id(text: str) -> tuple[str, str]:
    """As `parse`.

    Raises:
        SpecError: That is no model's id.
    """
    found = parse(text)
    if found is None:
        raise SpecError(f"--model hf/… must be a folder or a model's id like org/name, got {text!r:.120}.")
    return found


def licence_of(folder: Path) -> str:
    """The licence that a model's card states, or `its own`."""
    try:
        head = (folder / "README.md").read_text(encoding="utf-8", errors="replace")[:4000]
    except OSError:
        return "its own"
    found = re.search(r"^license:\s*([\w.-]{1,40})\s*$", head, re.MULTILINE) if head.startswith("---") else None
    return found[1] if found else "its own"
