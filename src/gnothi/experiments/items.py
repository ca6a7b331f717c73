"""Whether two runs asked the same: items and questions are the same where their ids and their prompts are."""

import functools
from pathlib import Path

from gnothi.store import RunFolder


def same_items(first: RunFolder, second: RunFolder, unit: str, table: str) -> bool:
    """Whether a unit of two runs met the same items, or was asked the same questions, in the same words.

    Args:
        first: One run.
        second: Another.
        unit: A unit of both; where one of them lacks it the answer is no.
        table: `choices` or `reports`.
    """
    mine, theirs = (asked(run, unit, table) for run in (first, second))
    return bool(mine) and mine == theirs


def asked(run: RunFolder, unit: str, table: str) -> frozenset[tuple[str, str]]:
    """Sample ids and prompts of a unit's table; empty where the unit or its rows are missing."""
    path = run.unit_path(unit) / f"{table}.parquet"
    if not path.is_file():
        return frozenset()
    return _asked(path.resolve(), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _asked(path: Path, stamp: int) -> frozenset[tuple[str, str]]:
    del stamp  # a file that was replaced is read again
    found = RunFolder(path.parents[2], {}).table(path.parent.name, path.stem)
    return frozenset(zip(found["sample_id"], found["messages"], strict=True)) if len(found) else frozenset()
