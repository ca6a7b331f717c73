"""Run folders: units are written under a temporary name and renamed when whole; nothing is ever rewritten.

A run folder holds `spec.json`, `run.log`, `units/<unit>/` (each with a `unit.json` that names the sha256 of every
file beside it), and, once finished, `estimates.parquet`, `run.json` and `report.html`. The store knows no stage.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnothi.errors import GnothiError, StoreError
from gnothi.files import (
    READABLE_VERSIONS,
    cannot_write,
    canonical,
    digest,
    file_digest,
    read_table,
    replacing,
    to_disk,
    write_atomically,
    write_table,
)
from gnothi.records import SCHEMA_VERSION, Estimate

if TYPE_CHECKING:
    import pandas as pd

_REDO = "Delete that unit's folder and run.json, then resume to make them again."
_REDO_END = "Delete run.json and resume to make it again."
_RESTORE = "Put the old one back, or start a new run with the spec you want."
_OURS = (
    "spec.json",
    "run.json",
    "run.log",
    "estimates.parquet",
    "report.html",
    "figures",
    "units",
    "checkpoints",
    "look",
    ".lock",
)
_WAIT = 3.0  # seconds that workers of a killed run get to notice


class RunFolder:
    """One run on disk. Open it with `RunFolder.create` or `RunFolder.open`."""

    def __init__(self, path: Path, spec: Mapping[str, Any]) -> None:
        self.path = path
        self.spec = dict(spec)

    # -- opening ---------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, spec: Mapping[str, Any]) -> "RunFolder":
        """Make a run folder for `spec`, or open the one that already holds the same spec.

        Raises:
            StoreError: `path` is a file, holds something else, or holds a run of another spec.
        """
        path = Path(path)
        spec_digest = digest(spec)
        try:
            if path.exists() and not path.is_dir():
                raise StoreError(f"--out must name a folder, got the file {path}. Choose another name.")
            if (path / "spec.json").exists():
                run = cls.open(path)
                if canonical(run.spec) != canonical(spec):
                    changed = sorted(k for k in {*run.spec, *spec} if run.spec.get(k) != spec.get(k))
                    raise StoreError(
                        f"--out {path} must be a new folder or hold the same spec, got another spec (it differs in "
                        f"{', '.join(changed)}). Choose another folder, or `gnothi resume {path}`."
                    )
                (path / "units").mkdir(exist_ok=True)
                return run
            existed = path.is_dir()
            # a process killed right at the start leaves no more than its temporary file
            if existed and any(not p.match(".spec.json.*.tmp") for p in path.iterdir()):
                raise StoreError(
                    f"--out must be an empty or new folder, got {path} with other files in it. Choose another name."
                )
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise error if isinstance(error, GnothiError) else cannot_write(path, error) from error
        record = {"schema_version": SCHEMA_VERSION, "spec": dict(spec), "spec_digest": spec_digest}
        try:
            write_atomically(path / "spec.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            (path / "units").mkdir(exist_ok=True)
        except OSError as error:
            if not existed:
                shutil.rmtree(path, ignore_errors=True)
            raise error if isinstance(error, GnothiError) else cannot_write(path, error) from error
        return cls(path, spec)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open an existing run folder.

        Raises:
            StoreError: No such folder, no run in it, or a spec that was edited by hand.
        """
        path = Path(path)
        if not os.path.isdir(path):
            found = "is a file" if os.path.exists(path) else "does not exist"
            raise StoreError(f"RUN must be a run folder, got {path}, which {found}. `gnothi list` shows runs.")
        if links := [name for name in _OURS if (path / name).is_symlink()]:
            raise StoreError(
                f"{path / links[0]} must be a file or folder of the run itself, got a link. Put what it leads to there."
            )
        try:
            record = json.loads((path / "spec.json").read_text(encoding="utf-8"))
            spec, stated, version = record["spec"], record["spec_digest"], record["schema_version"]
        except FileNotFoundError:
            raise StoreError(
                f"RUN must be a run folder, got {path} without spec.json. `gnothi list` shows runs."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path / 'spec.json'} must be a run's spec, got one that does not parse. {_RESTORE}"
            ) from error
        if version not in READABLE_VERSIONS:
            raise StoreError(
                f"{path / 'spec.json'} must be of schema version {SCHEMA_VERSION}, got {version!r}. "
                "Read it with the version of gnothi that wrote it (see run.log)."
            )
        if digest(spec) != stated:
            raise StoreError(f"{path / 'spec.json'} must be as it was written, got one edited by hand. {_RESTORE}")
        return cls(path, spec)

    @contextlib.contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the run for writing; a second process is refused. The system lets go of it if this process dies.

        Yields:
            The lock's file descriptor. Whoever inherits it holds the lock too: workers do, so that a run whose parent
            was killed is free only when none of them writes any more.
        """
        path = self.path / ".lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            until = time.monotonic() + _WAIT
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise StoreError(
                            f"{self.path} must be written by one process at a time, got a run already under way there. "
                            "Wait for it to end or stop it."
                        ) from None
                    time.sleep(0.05)
            yield handle
        finally:
            os.close(handle)

    # -- units -----------------------------------------------------------------------------------------------------

    def unit_path(self, unit: str) -> Path:
        """Folder of a unit, whole or not yet there. Unit names are made by us, so they cannot leave the folder."""
        if not unit or "/" in unit or unit.startswith("."):
            raise StoreError(f"a unit's name must be a plain word, got {unit!r}. {_REDO_END}")
        return self.path / "units" / unit

    def units(self) -> list[str]:
        """Names of the units that are whole, sorted."""
        folder = self.path / "units"
        return sorted(p.name for p in folder.glob("[!.]*") if (p / "unit.json").is_file()) if folder.is_dir() else []

    def has(self, unit: str, key: str) -> bool:
        """Whether the unit is whole and was made from exactly `key`.

        Raises:
            StoreError: It is there but was made from something else, or has been altered.
        """
        if not self.unit_path(unit).is_dir():
            return False
        record = self.read_unit(unit)
        if record["key"] != key:
            raise StoreError(
                f"{self.unit_path(unit)} must be made from this run's spec, model and version, got a unit of another. "
                "Use the version of gnothi and the model that the run was started with, or start a new run."
            )
        return True

    @contextlib.contextmanager
    def writing(self, unit: str, key: str) -> Iterator[Path]:
        """Give a temporary folder to fill; on leaving it becomes the unit, whole and checked, or vanishes.

        The caller writes `unit.json` content through the file `record.json` (a JSON object) in that folder.
        """
        final = self.unit_path(unit)
        try:
            temporary = Path(tempfile.mkdtemp(prefix=f".{unit}.", dir=final.parent))
        except OSError as error:
            raise cannot_write(final, error) from error
        try:
            yield temporary
            source = temporary / "record.json"
            record = json.loads(source.read_text(encoding="utf-8"))
            source.unlink()
            files = sorted(p for p in temporary.rglob("*") if p.is_file())
            record |= {
                "schema_version": SCHEMA_VERSION,
                "unit": unit,
                "key": key,
                "files": {p.relative_to(temporary).as_posix(): file_digest(p) for p in files},
            }
            record["self_digest"] = digest(record)
            write_atomically(temporary / "unit.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            for path in (*files, *(p for p in temporary.rglob("*") if p.is_dir()), temporary):
                to_disk(path)
            temporary.chmod(0o755)
            temporary.replace(final)
            to_disk(final.parent)
        except Exception as error:
            # safetensors says `I/O error` with a class of its own, no OSError; the store does not import it
            full = isinstance(error, OSError) or type(error).__name__ == "SafetensorError"
            if isinstance(error, GnothiError) or not full:
                raise
            raise cannot_write(final, error) from error
        finally:
            if temporary.exists():
                shutil.rmtree(temporary, ignore_errors=True)

    def read_unit(self, unit: str, *, check_files: bool = True) -> dict[str, Any]:
        """Return a unit's record after checking every file beside it against its sha256.

        Raises:
            StoreError: A file is missing, altered or cut off.
        """
        folder = self.unit_path(unit)
        try:
            record = dict(json.loads((folder / "unit.json").read_text(encoding="utf-8")))
            stated = record.pop("self_digest")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{folder / 'unit.json'} must be a unit's record, got none that parses. {_REDO}"
            ) from error
        if digest(record) != stated:
            raise StoreError(f"{folder / 'unit.json'} must be as it was written, got one edited by hand. {_REDO}")
        if check_files:
            for name, expected in record["files"].items():
                path = folder / name
                if not path.is_file() or file_digest(path) != expected:
                    found = "an altered file" if path.is_file() else "no such file"
                    raise StoreError(f"{path} must be as it was written, got {found}. {_REDO}")
        return record

    def table(self, unit: str, name: str) -> "pd.DataFrame":
        """Read one table of a unit, e.g. `choices`."""
        return read_table(self.unit_path(unit) / f"{name}.parquet")

    def note(self, text: str) -> None:
        """Add a line to the run's log, from whatever process this is: a line at a time does not mix with others."""
        found = logging.LogRecord("gnothi", logging.INFO, __file__, 0, text, None, None)
        with (self.path / "run.log").open("a", encoding="utf-8") as handle:
            handle.write(logging.Formatter("%(asctime)s %(levelname)s %(message)s").format(found) + "\n")

    def checkpoints(self, job: str) -> Path:
        """Folder for what a job needs to go on in mid-training; a killed run's stays until the job is done."""
        return self.path / "checkpoints" / job

    def drop_checkpoints(self, job: str) -> None:
        """A job's training is over: remove its checkpoints."""
        shutil.rmtree(self.checkpoints(job), ignore_errors=True)
        with contextlib.suppress(OSError):  # other jobs' are still there, or none ever was
            self.checkpoints(job).parent.rmdir()

    def sweep(self) -> None:
        """Remove what a killed process left under temporary names. Call only while holding the lock."""
        for pattern in ("units/.*", ".*.tmp"):
            for path in self.path.glob(pattern):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    # -- the end of a run ------------------------------------------------------------------------------------------

    def finish(self, estimates: Sequence[Estimate], record: Mapping[str, Any]) -> None:
        """Write the estimates and mark the run as finished. The same estimates are not written twice."""
        seen: set[tuple[str, str]] = set()
        for estimate in estimates:
            if (estimate.name, estimate.arm) in seen:
                raise StoreError(
                    f"estimates must have one row a (name, arm), got two for {estimate.name}, {estimate.arm}."
                )
            seen.add((estimate.name, estimate.arm))
        path = self.path / "estimates.parquet"
        with replacing(path) as temporary:
            write_table(temporary, [e.to_json() for e in estimates])
        units = {unit: file_digest(self.unit_path(unit) / "unit.json") for unit in self.units()}
        done = {"schema_version": SCHEMA_VERSION, "estimates": file_digest(path), "units": units, **record}
        done["self_digest"] = digest(done)
        write_atomically(self.path / "run.json", json.dumps(done, indent=1, ensure_ascii=False) + "\n")

    @property
    def finished(self) -> bool:
        """Whether every job is done and the estimates are written."""
        return (self.path / "run.json").is_file()

    def verify(self) -> dict[str, Any]:
        """Check everything that numbers come from; return the run's closing record.

        Raises:
            StoreError: The run is unfinished, or something was edited, removed or cut off.
        """
        if not self.finished:
            raise StoreError(
                f"{self.path} must be a finished run, got one with work left. `gnothi resume {self.path}`."
            )
        record = self.path / "run.json"
        try:
            done = dict(json.loads(record.read_text(encoding="utf-8")))
            stated = done.pop("self_digest")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{record} must be a run's closing record, got none that parses. {_REDO_END}") from error
        if digest(done) != stated:
            raise StoreError(f"{record} must be as it was written, got one edited by hand. {_REDO_END}")
        table = self.path / "estimates.parquet"
        if not table.is_file() or file_digest(table) != done["estimates"]:
            found = "an altered file" if table.is_file() else "no such file"
            raise StoreError(f"{table} must be as it was written, got {found}. {_REDO_END}")
        for unit, expected in done["units"].items():
            folder = self.unit_path(unit)
            if not folder.is_dir():
                raise StoreError(f"{folder} must be there, since the numbers rest on it, got no such unit. {_REDO_END}")
            self.read_unit(unit)
            if file_digest(folder / "unit.json") != expected:
                raise StoreError(f"{folder / 'unit.json'} must be as it was written, got another record. {_REDO}")
        if more := [u for u in self.units() if u not in done["units"] and not done.get("failed")]:
            raise StoreError(
                f"{self.unit_path(more[0])} must be one of the units that the numbers rest on, got one put there later. "
                "Take it out."
            )
        return done

    def estimates(self) -> list[Estimate]:
        """The run's estimates, after `verify`."""
        self.verify()
        return read_estimates(self.path / "estimates.parquet")


def read_estimates(path: Path) -> list[Estimate]:
    """Read a table of estimates; missing numbers come back as None."""
    import pyarrow.parquet as pq

    read_table(path)  # for its checks
    names = set(Estimate.__dataclass_fields__)
    return [Estimate(**{k: v for k, v in row.items() if k in names}) for row in pq.read_table(path).to_pylist()]
