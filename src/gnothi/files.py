"""Files and tables that are whole or not there: digests, writing under a temporary name, Parquet with its version."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnothi.errors import DataError, GnothiError, StoreError
from gnothi.records import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd

READABLE_VERSIONS = (SCHEMA_VERSION,)
"""Table versions that this code opens: its own and the one before (there is none yet)."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 (hex) of a JSON-serialisable value.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    try:
        return hashlib.sha256(canonical(value).encode()).hexdigest()
    except ValueError as error:  # NaN, or a lone surrogate from a name that is not UTF-8
        raise DataError(f"what is stored must be finite numbers and valid Unicode text, got {error}.") from error


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write under a temporary name beside `path`, flush to disk, rename; on failure nothing is left.

    Raises:
        StoreError: The disk is full or the folder cannot be written.
    """
    raw = data.encode() if isinstance(data, str) else data
    with replacing(path) as temporary:
        temporary.write_bytes(raw)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write, beside `path`; on leaving it is flushed and renamed, on failure nothing is left.

    Raises:
        StoreError: The disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        cause = error.__cause__ if isinstance(error, GnothiError) else error
        raise cannot_write(path, cause or error) from error  # names the file that was meant, not the temporary one
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def to_disk(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk and not only in memory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(path: Path, error: BaseException) -> StoreError:
    """The one message for a full disk, a missing right or a vanished folder."""
    said = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
    if number := re.search(r"(?:errno|os error) (\d+)", said):  # what Arrow and safetensors make of the system's error
        said = os.strerror(int(number[1]))
    return StoreError(f"{path} must be writable, got {said}. Free space or choose another --out, then go on.")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, str] | None = None) -> None:
    """Write rows as Parquet with the schema version in its metadata; nested values go in as JSON text columns.

    Raises:
        DataError: Rows of different columns, or values that no column can hold.
        StoreError: The disk is full or the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if any(row.keys() != rows[0].keys() for row in rows):
        raise DataError(f"{path.name} must have the same columns in every row, got others after {list(rows[0])}.")
    try:
        table = pa.Table.from_pylist([dict(row) for row in rows])
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(
            f"{path.name} must have one type in each column, got values that do not fit: {error}."
        ) from error
    table = table.replace_schema_metadata({"gnothi_schema_version": str(SCHEMA_VERSION), **(metadata or {})})
    try:
        pq.write_table(table, path)
    except OSError as error:
        raise cannot_write(path, error) from error


def read_table(path: Path) -> "pd.DataFrame":
    """Read a table written by `write_table`.

    Raises:
        StoreError: It is missing, cut off, or of a version that this code does not read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise StoreError(f"{path} must exist, got no such file. Resume the run to make it again.")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{path} must be a whole Parquet file, got one that cannot be read. Delete run.json and, if it is a unit's, "
            "the unit's folder, then resume to make them again."
        ) from error
    version = (table.schema.metadata or {}).get(b"gnothi_schema_version", b"none").decode()
    if version not in map(str, READABLE_VERSIONS):
        raise StoreError(
            f"{path} must be of schema version {', '.join(map(str, READABLE_VERSIONS))}, got {version}. "
            "Read it with the version of gnothi that wrote it (see run.log)."
        )
    return table.to_pandas()
