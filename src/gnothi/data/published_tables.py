"""CSV as text cells by heading: the reading that all published tables share."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnothi.errors import SpecError

LARGEST = 1e9
"""Numbers beyond this are no option value and no weight; without a bound one of them would overflow a sum."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a CSV file."""

    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    """Cells by heading, without white space around them."""
    n_ragged: int
    """Rows with more or fewer cells than the heading: left out. Blank rows are not counted."""


def read_table(path: Path, needed: Sequence[str]) -> Table:
    """Read a CSV file with a heading.

    Args:
        path: The file, UTF-8.
        needed: Headings that must be there, in any order; others may be, too.

    Raises:
        SpecError: A file that cannot be read, is no CSV, has a heading twice, or lacks one of `needed`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [[cell.strip() for cell in row] for row in csv.reader(file, strict=True)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise SpecError(f"{path} must be CSV in UTF-8, got {error!s:.80}. Get the file again.") from error
    except OSError as error:
        raise SpecError(f"{path} must be a file that can be read, got {error.strerror}. Check the path.") from error
    lines = [row for row in lines if any(row)]
    columns = tuple(lines[0]) if lines else ()
    lines = [row[: len(columns)] if not any(row[len(columns) :]) else row for row in lines]
    if lacking := [name for name in needed if name not in columns]:
        raise SpecError(
            f"{path} must have the columns {', '.join(needed)}, got none called {', '.join(lacking)}. "
            "Get the file again, or rename its columns."
        )
    if twice := [name for name in needed if columns.count(name) > 1]:
        raise SpecError(f"{path} must name each column once, got {', '.join(twice)} twice. Remove one.")
    whole = [row for row in lines[1:] if len(row) == len(columns)]
    return Table(columns, [dict(zip(columns, row, strict=True)) for row in whole], len(lines) - 1 - len(whole))


def numbers(row: Mapping[str, str], columns: Sequence[str]) -> np.ndarray | None:
    """The cells of some columns as numbers, shape (n_columns,); None if any is something else, or beyond `LARGEST`.

    >>> numbers({"a": "1", "b": "-2.5"}, ["b", "a"]).tolist(), numbers({"a": "one"}, ["a"])
    ([-2.5, 1.0], None)
    """
    try:
        values = [float(row[name]) for name in columns]
    except ValueError:
        return None
    return np.array(values) if all(math.isfinite(v) and abs(v) <= LARGEST for v in values) else None
