"""Looks at one fine-tuned model and writes what it found; each stage is kept when it is done, so that a killed one goes on.

The base, the model and its prompts are those of the parent run, which is only read. That the model at hand is the one
that was measured is checked first: its readouts must be the stored ones.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gnothi.errors import StoreError
from gnothi.executor import Job, Report
from gnothi.experiments.look import changes, stages
from gnothi.experiments.look.bench import LookBench
from gnothi.experiments.look.plan import key, looked
from gnothi.experiments.look.spec import parent_of, parse, same_models
from gnothi.files import write_atomically, write_table
from gnothi.store import RunFolder

STAGES: dict[str, Callable[[LookBench], dict[str, Any]]] = {
    "read": stages.read,
    "differences": changes.changes,
    "sites of the choice": stages.choice_sites,
    "sites of the report": stages.report_sites,
    "between items": stages.item_sites,
    "probe": stages.probe,
    "undo units": stages.undo_units,
    "train back": stages.train_back,
}
"""In order. Each returns tables, lists of rows by name, and facts for the record."""


def run_job(folder: str, job: Job, report: Report) -> None:
    """Look at one model in this process; see `gnothi.executor`.

    Raises:
        StoreError: The parent run no longer holds the models that were to be looked at.
    """
    look = RunFolder.open(Path(folder))
    spec = parse(look.spec)
    unit = looked(spec, job.payload["unit"])
    if look.has(unit.name, key(spec, unit)):
        return
    run = parent_of(look.path)
    if not same_models(spec, run):
        raise StoreError(
            f"{run.path} must hold the models that {look.path} looks at, got others. "
            f"`gnothi clean {look.path}`, then look again."
        )
    run.read_unit(unit.name)
    kept = look.checkpoints(unit.name)
    bench = LookBench(run, spec, unit, kept, lambda done, total, stage: report(job.name, done, total, stage))
    tables: dict[str, list[dict[str, Any]]] = {}
    facts: dict[str, Any] = {}
    for name, stage in STAGES.items():
        report(job.name, 0, 1, name)
        found = _once(kept / f"{name.replace(' ', '-')}.json", key(spec, unit), lambda s=stage: s(bench))
        bench.found[name] = found
        tables |= found.get("tables", {})
        facts |= found.get("facts", {})
    with look.writing(unit.name, key(spec, unit)) as path:
        for name, rows in tables.items():
            write_table(path / f"{name}.parquet", rows)
        record = {"arm": unit.arm, "seed": unit.seed, "fold": None, "parents": [], "control": unit.control}
        (path / "record.json").write_text(json.dumps(record | facts), encoding="utf-8")
    look.drop_checkpoints(unit.name)


def _once(path: Path, made_for: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a stage found, from before if this look was killed after it."""
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == made_for:
            return kept["found"]
    found = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"key": made_for, "found": found}))
    return json.loads(json.dumps(found))
