"""Runs as things on a disk: list, compare, remove; and the models that can be named."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gnothi.errors import GnothiError, SpecError, StoreError
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
            names = {k: str(run.spec[k]) for k in ("experiment", "model")}
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


def compare_runs(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Estimates of several runs side by side, a row a (name, arm), in the first run's order.

    Raises:
        SpecError: Fewer than two runs.
    """
    if len(paths) < 2:
        raise SpecError(f"compare must be given two runs or more, got {len(paths)}. Name another run folder.")
    tables = [{(e.name, e.arm): e for e in RunFolder.open(p).estimates()} for p in paths]
    keys = list(dict.fromkeys(k for t in tables for k in t))
    rows = []
    for name, arm in keys:
        row: dict[str, Any] = {"estimate": name, "arm": arm}
        for path, table in zip(paths, tables, strict=True):
            e = table.get((name, arm))
            if e is None or e.value is None:
                row[str(path)] = "" if e is None else "missing"
            else:
                interval = f" [{e.low:.2f}, {e.high:.2f}]" if e.low is not None and e.high is not None else ""
                row[str(path)] = f"{e.value:.3f}{interval} n={e.n}"
        rows.append(row)
    return rows


def known_models() -> list[dict[str, Any]]:
    """Models that `--model` takes, with where they lie and their licence."""
    rows = []
    for name in ORGANISMS:
        try:
            where = str(resolve(name).folder)
        except GnothiError as error:
            where = f"missing: {error}"
        rows.append({"model": name, "what": "embedded, trained from nothing", "licence": "Apache-2.0", "where": where})
    own = {"licence": "its own", "where": "a folder of yours"}
    rows.append({"model": "organism/<folder>", "what": "an organism you trained", **own})
    rows.append({"model": "hf/<folder>", "what": "a transformers folder with safetensors", **own})
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
