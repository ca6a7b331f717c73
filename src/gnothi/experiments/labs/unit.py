"""A lab's job: makes one unit through the lab's own `work` and leaves it whole; and a run's whole units, read back."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnothi.errors import DataError, StoreError, TrainingError
from gnothi.executor import Job, Report, load_function
from gnothi.experiments.labs.base import LabJob, UnitData
from gnothi.files import cannot_write, write_table
from gnothi.records import SCHEMA_VERSION
from gnothi.store import RunFolder

TENSORS = "tensors.safetensors"
LOSS = "loss"
"""Table that a record's `losses` are kept in."""
OURS = ("unit", "key", "files", "schema_version", "self_digest", "arm", "seed", "fold", "parents")
"""Names in a unit's record that the store and this module fill in."""


def run_job(folder: str, job: Job, report: Report) -> None:
    """Make one unit of a lab in this process; see `gnothi.executor`.

    The job's payload names the lab's `work`, so that a worker imports that and not the lab.
    """
    run = RunFolder.open(Path(folder))
    fields = job.payload
    lab_job = LabJob(
        name=job.name, after=tuple(job.after), payload=fields["payload"], arm=fields["arm"], seed=fields["seed"]
    )
    bench = StoredBench(run, lab_job, report)
    with run.writing(job.name, fields["key"]) as path:
        began = time.monotonic()
        made: UnitData = load_function(fields["work"])(dict(run.spec), lab_job, bench)
        write_unit(path, lab_job, made, seconds=time.monotonic() - began)
    run.drop_checkpoints(job.name)


class StoredBench:
    """`base.Bench` over a run folder."""

    def __init__(self, run: RunFolder, job: LabJob, report: Report) -> None:
        self._run, self._job, self._report = run, job, report

    def parent(self, unit: str) -> UnitData:
        """A unit that this job comes after, as it was stored.

        Raises:
            StoreError: The job does not wait for it, or it was altered.
        """
        if unit not in self._job.after:
            raise StoreError(f"job {self._job.name} must come after what it reads, got {unit!r}. Name it in `after`.")
        stored = StoredUnits(self._run)
        self._run.read_unit(unit)
        return UnitData(
            record=stored.record(unit),
            tables={n: stored.table(unit, n) for n in stored.tables(unit)},
            tensors=stored.tensors(unit),
        )

    def report(self, done: int, total: int, stage: str) -> None:
        """Say how far the job is; `done` is what the executor says of a whole unit, so no stage may be called that."""
        self._report(self._job.name, done, total, "finish" if stage == "done" else stage)

    @property
    def checkpoints(self) -> Path:
        """A folder that outlives a killed process and is removed when the unit is whole."""
        path = self._run.checkpoints(self._job.name)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
        return path


class StoredUnits:
    """`base.Units` over a run folder: what is whole, and read only when asked for.

    Args:
        run: The run.
        only: Units to know of; None knows all.
    """

    def __init__(self, run: RunFolder, only: Sequence[str] | None = None) -> None:
        self._run = run
        self._names = [u for u in run.units() if only is None or u in only]
        self._records: dict[str, dict[str, Any]] = {}
        self._tables: dict[tuple[str, str], Any] = {}

    def names(self) -> Sequence[str]:
        """All units, sorted."""
        return list(self._names)

    def record(self, unit: str) -> Mapping[str, Any]:
        """A unit's record, with `arm`, `seed` and `losses`."""
        if unit not in self._records:
            record = self._run.read_unit(unit, check_files=False)
            if f"{LOSS}.parquet" in record["files"]:
                losses = self._run.table(unit, LOSS)["loss"]
                record["losses"] = [None if x is None or np.isnan(x) else float(x) for x in losses]
            self._records[unit] = record
        return self._records[unit]

    def tables(self, unit: str) -> list[str]:
        """Names of a unit's tables, without its losses."""
        files = self._run.read_unit(unit, check_files=False)["files"]
        return [n.removesuffix(".parquet") for n in files if n.endswith(".parquet") and n != f"{LOSS}.parquet"]

    def table(self, unit: str, name: str) -> Any:
        """A unit's table, a copy of one's own.

        Raises:
            StoreError: The unit has none of that name.
        """
        if (unit, name) not in self._tables:
            self._tables[unit, name] = self._run.table(unit, name)
        return self._tables[unit, name].copy()

    def tensors(self, unit: str) -> Mapping[str, Any]:
        """A unit's tensors, on the CPU; none where it has no file of them."""
        path = self._run.unit_path(unit) / TENSORS
        if not path.is_file():
            return {}
        from gnothi.testbeds import tensors

        return tensors.load(path)


def write_unit(path: Path, job: LabJob, made: UnitData, *, seconds: float) -> None:
    """Fill a unit's folder: `record.json`, a Parquet file a table, one safetensors file.

    Args:
        path: The folder, not yet whole.
        job: What made it.
        made: What it left.
        seconds: What it took, kept where the record does not say.

    Raises:
        DataError: A name that is filled in by us, or a value that no file can hold.
        TrainingError: A number that is not finite: it diverged.
    """
    record = dict(made.record)
    if taken := [n for n in record if n in OURS]:
        raise DataError(f"record of {job.name} must leave {taken[0]!r} to the store, got one. Choose another name.")
    if LOSS in made.tables:
        raise DataError(f"tables of {job.name} must not be called {LOSS!r}. Put losses into the record as `losses`.")
    losses = record.pop("losses", None)
    if losses is not None and len(losses):
        rows = [{"step": i, "loss": _finite(x)} for i, x in enumerate(losses)]
        if any(row["loss"] is not None for row in rows):
            write_table(path / f"{LOSS}.parquet", rows)
    for name, table in made.tables.items():
        _write_frame(path / f"{name}.parquet", table)
    if made.tensors:
        from gnothi.testbeds import tensors

        tensors.save(path / TENSORS, made.tensors)
    ours = {"arm": job.arm, "seed": job.seed, "fold": None, "parents": list(job.after)}
    whole = {"seconds": round(seconds, 2), **plain(record, f"record of {job.name}"), **ours}
    (path / "record.json").write_text(json.dumps(whole, allow_nan=False), encoding="utf-8")


def _write_frame(path: Path, table: Any) -> None:
    """A DataFrame as Parquet, its columns and types kept also where it has no row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        stored = pa.Table.from_pandas(table, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"{path.name} must have one type in each column, got values that do not fit: {error}. Mend that column."
        ) from error
    known = {"gnothi_schema_version": str(SCHEMA_VERSION), **(stored.schema.metadata or {})}
    try:
        pq.write_table(stored.replace_schema_metadata(known), path)
    except OSError as error:
        raise cannot_write(path, error) from error


def _finite(value: Any) -> float | None:
    """A loss as a number; None where there is none or it is not finite."""
    return float(value) if value is not None and np.isfinite(float(value)) else None


def plain(value: Any, where: str) -> Any:
    """Values of numpy and tuples as what JSON holds.

    Raises:
        TrainingError: A number that is not finite.
        DataError: Something that JSON does not hold.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v, f"{where}: {k}") for k, v in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(v, where) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        raise TrainingError(f"{where} must be finite, got {value}. Give None with a reason where nothing came out.")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise DataError(f"{where} must be plain values, got {type(value).__name__}. Put tables and tensors beside it.")
