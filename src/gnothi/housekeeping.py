"""Runs as things on a disk: list, remove; and the models that can be named."""

import shutil
from pathlib import Path
from typing import Any

from gnothi.errors import GnothiError, StoreError
from gnothi.models import gemma, hub
from gnothi.models.model_cache import made_here
from gnothi.models.model_files import plain
from gnothi.models.registry import ORGANISMS, SCRIPTS, resolve
from gnothi.store import RunFolder


def size_of(path: Path) -> int:
    """Bytes that a run takes.

    Raises:
        StoreError: There is no run at `path`.
    """
    RunFolder.open(path)
    return sum(p.lstat().st_size for p in path.rglob("*") if p.is_file())


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """One row a run folder directly under `folder`, oldest first."""
    if not folder.is_dir():
        raise StoreError(f"FOLDER must hold runs, got {folder}, which does not exist. `gnothi run` makes runs/.")
    rows = []
    for path in sorted(folder.iterdir(), key=lambda p: p.lstat().st_mtime):
        if not (path / "spec.json").is_file():
            continue
        try:
            run = RunFolder.open(path)
            what = run.spec["model"] if "model" in run.spec else f"size {run.spec['size']}"
            names = {"experiment": str(run.spec["experiment"]), "model": str(what)}
        except (GnothiError, LookupError):
            rows.append(
                {"run": str(path), "experiment": "", "model": "", "units": None, "state": "damaged", "MB": None}
            )
            continue
        rows.append(
            {
                "run": str(path),
                **names,
                "units": len(run.units()),
                "state": "finished" if run.finished else "unfinished",
                "MB": round(size_of(path) / 1e6, 1),
            }
        )
    return rows


def remove_run(path: Path) -> None:
    """Remove a run folder, and nothing that is not one.

    Raises:
        StoreError: No run there, a link, or a run that a process is writing.
    """
    if path.is_symlink():
        raise StoreError(f"RUN must be a folder and not a link, got {path}. Remove the link yourself.")
    run = RunFolder.open(path)
    with run.lock():
        pass  # refused while somebody writes it
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise StoreError(
            f"{path} must be removable, got {error.strerror} for {error.filename}. Remove it yourself."
        ) from error


def known_models() -> list[dict[str, Any]]:
    """Models that `--model` takes, with where they lie and their licence: those that are here by name, then the kinds."""
    rows = []
    for name in ORGANISMS:
        try:
            where = str(resolve(name).folder)
        except GnothiError as error:
            where = f"missing: {error}"
        rows.append({"model": name, "what": "embedded, trained from nothing", "licence": "Apache-2.0", "where": where})
    fetched = str(gemma.folder()) if gemma.is_fetched() else f"not fetched: gnothi models fetch {gemma.NAME}"
    about = gemma.facts()["about"]
    rows.append({"model": gemma.NAME, "what": f"270M, {about}", "licence": gemma.LICENCE, "where": fetched})
    for folder, said in made_here():
        if said.get("model") != gemma.NAME:
            texts = {k: plain(said.get(k, "?")) for k in ("model", "about", "licence")}
            rows.append(
                {"model": texts["model"], "what": texts["about"], "licence": texts["licence"], "where": str(folder)}
            )
    for name, folder in hub.in_cache():
        rows.append(
            {
                "model": f"hf/{name}",
                "what": "in the hub's cache",
                "licence": hub.licence_of(folder),
                "where": str(folder),
            }
        )
    own = {"licence": "its own", "where": "a folder or file of yours"}
    rows.append({"model": "organism/<folder>", "what": "an organism you trained", **own})
    rows.append({"model": "hf/<folder or id>", "what": "a transformers model with safetensors, or an adapter", **own})
    rows.append({"model": "gguf/<file>", "what": "a GGUF file, dequantised once", **own})
    rows += [
        {
            "model": f"scripted/{s}",
            "what": "answers by script: an oracle or a null",
            "licence": "Apache-2.0",
            "where": "-",
        }
        for s in SCRIPTS
    ]
    return rows
