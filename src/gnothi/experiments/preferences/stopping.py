"""A run that stops at the gate: what is not trained where nothing was instilled, and why it says so.

Report training goes on from an instilled model, and the model on shuffled labels is a control of one. Where the choices
did not take, both would cost as much as everything before and say nothing.
"""

import json
from pathlib import Path

from gnothi.experiments.preferences.plan import Unit, key
from gnothi.experiments.preferences.spec import PreferencesSpec
from gnothi.files import write_table
from gnothi.records import INSTILLED
from gnothi.store import RunFolder

NO_PARENT = "not trained: the model that it would go on from did not pass the gate"
NO_TUNED = "not trained: no tuned model passed the gate, so there is nothing to be a control of"


def stopped(run: RunFolder, spec: PreferencesSpec, unit: Unit) -> str | None:
    """Why a unit is not worth its training, or None where it is; its parents and the tuned units are whole."""
    if not spec.stop_at_gate or unit.arm in ("untuned", "tuned"):
        return None
    tuned = [f"tuned-{i}" for i in range(spec.seeds)]
    if unit.arm == "shuffled":
        return None if any(_passed(run, name) for name in tuned) else NO_TUNED
    return None if all(_passed(run, name) for name in unit.parents if name in tuned) else NO_PARENT


def _passed(run: RunFolder, unit: str) -> bool:
    return run.read_unit(unit, check_files=False).get("gate") == INSTILLED


def skip(run: RunFolder, spec: PreferencesSpec, unit: Unit, reason: str) -> None:
    """Leave a unit behind that holds nothing but why."""
    with run.writing(unit.name, key(spec, unit)) as folder:
        for name in ("choices", "learned", "reports"):
            write_table(folder / f"{name}.parquet", [])
        write_record(folder, unit, {"skipped": reason})


def write_record(folder: Path, unit: Unit, facts: dict[str, object]) -> None:
    """What the store makes a unit's record of."""
    record = {"arm": unit.arm, "seed": unit.seed, "fold": unit.fold, "parents": list(unit.parents), **facts}
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
