"""Runs against one another: every estimate of each beside the first run's, and the difference with its interval."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gnothi import pipeline
from gnothi.differences import Key, Numbers, Shared, difference
from gnothi.errors import SpecError
from gnothi.intervals import missing
from gnothi.records import Estimate
from gnothi.store import RunFolder
from gnothi.writeup.text import flat, plain

COLUMNS = (
    "name",
    "arm",
    "first_run",
    "run",
    "first",
    "first_low",
    "first_high",
    "first_n",
    "value",
    "low",
    "high",
    "n",
    "difference",
    "difference_low",
    "difference_high",
    "paired",
    "pairs",
    "n_points",
    "method",
    "reason",
)
"""Columns of `Comparison.rows`: one row for each (name, arm) and run after the first."""
NO_UNITS = "it is no mean over fine-tuned models, or about one model with other agents: a difference has no interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two or more finished runs, each against the first."""

    runs: tuple[str, ...]
    differs: Mapping[str, tuple[str, ...]]
    """Field of the specification -> its value in each run, for those that are not the same in all."""
    rows: tuple[Mapping[str, Any], ...]
    """One row for each (name, arm) and run after the first, with `COLUMNS`; missing numbers are None and `reason` says why."""

    def to_json(self) -> str:
        """The rows as a list."""
        return json.dumps([dict(r) for r in self.rows], indent=1)

    def to_csv(self) -> str:
        """The rows, numbers in full precision, missing ones empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.rows:
            cells = (row[c] for c in COLUMNS)
            writer.writerow("" if c is None else plain(c, 2000) if isinstance(c, str) else repr(c) for c in cells)
        return out.getvalue()

    def table(self) -> list[dict[str, Any]]:
        """One row for each (name, arm), for reading: every run's value, and the differences from the first."""
        found: dict[Key, dict[str, Any]] = {}
        notes: dict[Key, list[str]] = {}
        for row in self.rows:
            key = (row["name"], row["arm"])
            line = found.setdefault(key, {"estimate": key[0], "arm": key[1], self.runs[0]: _shown(row, "first")})
            line[row["run"]] = _shown(row, "value")
            gap = _shown(row, "difference", signed=True)
            how = "" if row["difference"] is None else f" paired n={row['pairs']}" if row["paired"] else " unpaired"
            line["difference" if len(self.runs) == 2 else f"{row['run']} - {self.runs[0]}"] = gap + how
            notes.setdefault(key, []).append(row["reason"] or "")
        for key, line in found.items():
            line["note"] = "; ".join(dict.fromkeys(n for n in notes[key] if n))
        return list(found.values())

    def said(self) -> list[str]:
        """Lines on how the specifications differ."""
        if not self.differs:
            return ["the specifications are the same"]
        return [f"{plain(name, 80)}: {' | '.join(plain(v, 80) for v in vs)}" for name, vs in self.differs.items()]


def compare_runs(paths: Sequence[str | Path], *, behaviour: str | None = None) -> Comparison:
    """Compare finished runs, each with the first.

    Where two runs have the same seed and met the same items in the same words, fine-tuned models of one training seed are
    pairs, each number is taken on what both could answer, and the interval is over the pairs' differences. Elsewhere the
    models are two groups that have nothing in common, and `method` says so.

    Args:
        paths: Two run folders or more.
        behaviour: Names the runs' own code, if they have any; see `pipeline.open_trusted`.

    Raises:
        SpecError: Fewer than two runs, one named twice, or a run that shares no estimate with the first.
        StoreError: A run is unfinished or was altered.
    """
    folders = [Path(p) for p in paths]
    if len(folders) < 2:
        raise SpecError(f"compare must be given two runs or more, got {len(folders)}. Name another run folder.")
    names = [str(p) for p in folders]
    if twice := [n for n in names if names.count(n) > 1]:
        raise SpecError(f"compare must be given each run once, got {twice[0]} twice. Name another run folder.")
    runs = [RunFolder.open(p) for p in folders]
    estimates = [{(e.name, e.arm): e for e in run.estimates()} for run in runs]
    for name, table in zip(names[1:], estimates[1:], strict=True):
        if not table.keys() & estimates[0].keys():
            raise SpecError(
                f"RUN must share an estimate with the first run, got {name} with {_some(table)}, and {names[0]} with "
                f"{_some(estimates[0])}. Compare runs of one kind of experiment."
            )
    runs = [
        pipeline.open_trusted(p, behaviour if _has_code(run) else None) for p, run in zip(folders, runs, strict=True)
    ]
    rows = []
    for name, run, table in zip(names[1:], runs[1:], estimates[1:], strict=True):
        gaps = _differences(runs[0], run, estimates[0], table)
        for key in dict.fromkeys([*estimates[0], *table]):
            rows.append(_row(key, (names[0], name), estimates[0].get(key), table.get(key), gaps.get(key)))
    return Comparison(runs=tuple(names), differs=_differing([run.spec for run in runs]), rows=tuple(rows))


def _has_code(run: RunFolder) -> bool:
    return run.spec.get("behaviour", "preferences") != "preferences"


def _some(table: Mapping[Key, Estimate]) -> str:
    names = list(dict.fromkeys(name for name, _ in table))
    return ", ".join(names[:2]) + (", …" if len(names) > 2 else "") if names else "none"


def _differences(
    first: RunFolder, second: RunFolder, mine: Mapping[Key, Estimate], theirs: Mapping[Key, Estimate]
) -> dict[Key, tuple[Estimate, bool]]:
    """Each estimate of both: the difference, and whether it is one over pairs."""
    one, two = (pipeline.experiment(run.spec["experiment"]) for run in (first, second))
    numbers = one.by_unit(first), two.by_unit(second)
    shared = one.shared(first, second) if one.name == two.name else {}
    return {
        key: _difference((mine[key], theirs[key]), (numbers[0].get(key), numbers[1].get(key)), shared.get(key))
        for key in mine
        if key in theirs
    }


def _difference(
    estimates: tuple[Estimate, Estimate], numbers: tuple[Numbers | None, Numbers | None], shared: Shared | None
) -> tuple[Estimate, bool]:
    e, f = estimates
    if e.value is None or f.value is None:
        said = [f"{which} run: {x.reason}" for which, x in (("first", e), ("this", f)) if x.value is None]
        both = len(said) == 2 and e.reason == f.reason
        return missing(e.name, e.arm, f"both runs: {e.reason}" if both else "; ".join(said)), False
    if shared is not None and shared.within is not None:
        return shared.within, True
    one, two = numbers
    if one is None or two is None:
        gap = missing(e.name, e.arm, NO_UNITS, n_points=e.n_points + f.n_points)
        return replace(gap, value=f.value - e.value, method="difference of the two values"), False
    return difference((e.name, e.arm), one, two, shared), shared is not None and bool(shared.pairs)


def _row(
    key: Key,
    runs: tuple[str, str],
    e: Estimate | None,
    f: Estimate | None,
    gap: tuple[Estimate, bool] | None,
) -> dict[str, Any]:
    lacking = [run for run, x in zip(runs, (e, f), strict=True) if x is None]
    found, paired = gap if gap is not None else (missing(*key, f"{lacking[0]} has no such estimate"), False)
    return {
        "name": key[0],
        "arm": key[1],
        "first_run": runs[0],
        "run": runs[1],
        **{f"first{tail}": None if e is None else getattr(e, field) for tail, field in _SHOWN},
        **{tail[1:] or "value": None if f is None else getattr(f, field) for tail, field in _SHOWN},
        "difference": found.value,
        "difference_low": found.low,
        "difference_high": found.high,
        "paired": paired,
        "pairs": found.n if paired else 0,
        "n_points": found.n_points,
        "method": found.method,
        "reason": found.reason,
    }


_SHOWN = (("", "value"), ("_low", "low"), ("_high", "high"), ("_n", "n"))


def _shown(row: Mapping[str, Any], what: str, *, signed: bool = False) -> str:
    low, high = ("low", "high") if what == "value" else (f"{what}_low", f"{what}_high")
    if row[what] is None:
        return ""
    value = f"{row[what]:+.3f}" if signed else f"{row[what]:.3f}"
    n = "" if signed else f" n={row['n' if what == 'value' else f'{what}_n']}"
    return value + ("" if row[low] is None else f" [{row[low]:.2f}, {row[high]:.2f}]") + n


def _differing(specs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Fields that are not the same in all; those that name where a value comes from are left out."""
    flats = [dict(flat(dict(spec))) for spec in specs]
    names = [n for n in dict.fromkeys(n for f in flats for n in f) if not n.endswith(".source")]
    found = {n: tuple(f.get(n, "not there") for f in flats) for n in names}
    return {n: values for n, values in found.items() if len(set(values)) > 1}
