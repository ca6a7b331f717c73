"""Paper B's result files as arrays: read by layout, whoever wrote them, with a reason for whatever is not there.

Columns are found by their heading, rows in any order, files by their ending. A row that cannot be used is counted and
left out; nothing is filled in. Knows no statistic.

Source: files released with paper B (arXiv:2505.17120) and by its replications, which keep the layout.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnothi.data.published_tables import Table, numbers, read_table
from gnothi.errors import SpecError

N_ATTRIBUTES = 5
_REPORT = tuple(f"report_attr{i}" for i in range(1, N_ATTRIBUTES + 1))
_MEASURED = tuple(f"b_attr{i}" for i in range(1, N_ATTRIBUTES + 1))
_TARGET = tuple(f"attr{i}" for i in range(1, N_ATTRIBUTES + 1))
_RANGE = tuple(f"attr{i}_{end}" for end in ("min", "max") for i in range(1, N_ATTRIBUTES + 1))
_OPTIONS = tuple(f"{letter}_attribute_{i}" for letter in "AB" for i in range(1, N_ATTRIBUTES + 1))

PATTERNS = {
    "choices": r"instilled_selections",
    "native_choices": r"instilled_latent_selections",
    "measured": r"regression_results",
    "native_measured": r"latent_regression_results",
    "off_the_shelf": r"weight_reports",
    "weight_trained": r"instilled_weight_reports",
    "trained_on_first": r"itrained_first(?!.*_latent_).*_weight_reports",
    "trained_on_last": r"itrained_last(?!.*_latent_).*_weight_reports",
    "native_before": r"instilled_latent_weight_reports",
    "native_after": r"itrained_all.*_latent_weight_reports",
}
"""What stands between the model's name and `.csv`. `latent` is the files' word for native."""
REPORTS = ("off_the_shelf", "weight_trained", "trained_on_first", "trained_on_last", "native_before", "native_after")
_AS_PUBLISHED = {
    "trained_on_first": "itrained_first_50_of_100_50ex_weight_reports",
    "trained_on_last": "itrained_last_50_of_100_50ex_weight_reports",
    "native_after": "itrained_all_100_50ex_latent_weight_reports",
}
"""The paper's own names, which win where a folder holds several files that fit."""
_ENDING = re.compile(rf"(?P<model>.+?)_(?:{'|'.join(PATTERNS.values())})\.csv")


@dataclass(frozen=True, slots=True)
class ReportRows:
    """Valid self-reports of one file, a row each."""

    contexts: tuple[str, ...]
    """(n_rows,), whom each is about."""
    values: np.ndarray
    """(n_rows, 5), -100..100 by request; the range is not checked, as in the paper."""


@dataclass(frozen=True, slots=True)
class ChoiceRows:
    """Usable choices of one file, a row each."""

    contexts: tuple[str, ...]
    a: np.ndarray
    """(n_rows, 5), option A's values in the attributes' units."""
    b: np.ndarray
    chose_a: np.ndarray
    """(n_rows,) bool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedResults:
    """What a folder of result files holds of one model."""

    model: str
    choices: Mapping[str, ChoiceRows]
    """`choices` (instilled contexts) and `native_choices`, those that are there."""
    measured: Mapping[str, Mapping[str, np.ndarray]]
    """`measured` and `native_measured`: context to weights (5,), those that are there."""
    reports: Mapping[str, ReportRows]
    """By `REPORTS`, those that are there."""
    ranges: Mapping[str, np.ndarray]
    """Context to lowest and highest values, (2, 5); in the order of the inputs; empty without `scenarios.csv`."""
    targets: Mapping[str, np.ndarray]
    """Context to target weights (5,); empty without `instilled_weights.csv`."""
    missing: Mapping[str, str]
    """File kind, `ranges` or `targets`, to why it is not there."""
    notes: tuple[str, ...]
    """What was left out of files that are there."""


def read_results(directory: str | Path, *, model: str, inputs: str | Path | None = None) -> PublishedResults:
    """Read everything that a folder holds of one model.

    Args:
        directory: Folder of result files, `<model>_<ending>.csv`.
        model: The files' prefix, e.g. `gpt-4o-mini-2024-07-18`.
        inputs: Folder of `scenarios.csv` and `instilled_weights.csv`; None: `directory`, then `directory/../inputs`.

    Raises:
        SpecError: No such folder, no file of that model, or a file that is no table of the expected layout.
    """
    directory = Path(directory)
    files = _files_of(directory, model)
    missing: dict[str, str] = {}
    notes: list[str] = []
    found: dict[str, Path] = {}
    for kind in PATTERNS:
        path, why = _one_file(files, model, kind)
        if path is None:
            missing[kind] = why
        else:
            found[kind] = path
    order, ranges, targets = _read_inputs(directory, inputs, missing, notes)
    reports = {k: _read_reports(found[k], notes) for k in REPORTS if k in found}
    for kind in ("trained_on_first", "trained_on_last"):
        if kind in reports:
            reports[kind] = _held_out(reports[kind], found[kind].name, order, notes)
    return PublishedResults(
        model=model,
        choices={k: _read_choices(found[k], notes) for k in ("choices", "native_choices") if k in found},
        measured={k: _read_weights(found[k], _MEASURED, notes) for k in ("measured", "native_measured") if k in found},
        reports=reports,
        ranges=ranges,
        targets=targets,
        missing=missing,
        notes=tuple(notes),
    )


def models_in(directory: str | Path) -> list[str]:
    """The models that a folder holds result files of, sorted.

    Raises:
        SpecError: No such folder.
    """
    try:
        names = [p.name for p in Path(directory).iterdir() if p.is_file()]
    except OSError as error:
        raise SpecError(
            f"DIR must be a folder of result files, got {str(directory)!r} ({error.strerror}). Check the path."
        ) from error
    return sorted({m["model"] for m in map(_ENDING.fullmatch, names) if m})


def _files_of(directory: Path, model: str) -> list[Path]:
    there = models_in(directory)
    if model not in there:
        held = ", ".join(there) or "none"
        raise SpecError(
            f"--model must be the prefix of result files in {directory}, got {model!r}. "
            f"Models with files there: {held}."
        )
    return sorted(p for p in directory.iterdir() if p.is_file() and p.name.startswith(f"{model}_"))


def _one_file(files: list[Path], model: str, kind: str) -> tuple[Path | None, str]:
    pattern = PATTERNS[kind]
    wanted = re.compile(rf"{re.escape(model)}_(?:{pattern})\.csv")
    matching = [p for p in files if wanted.fullmatch(p.name)]
    matching = [p for p in matching if p.name == f"{model}_{_AS_PUBLISHED.get(kind)}.csv"] or matching
    if len(matching) == 1:
        return matching[0], ""
    if not matching:
        ending = re.sub(r"\(\?!.*?\)", "", pattern).replace(".*", "…")
        return None, f"no file {model}_{ending}.csv"
    return None, f"more than one file it could be: {', '.join(p.name for p in matching)}; keep one"


def _read_inputs(
    directory: Path, inputs: str | Path | None, missing: dict[str, str], notes: list[str]
) -> tuple[list[str], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return (contexts in order, ranges, targets), each empty where its file is not there."""
    if inputs is not None and not Path(inputs).is_dir():
        raise SpecError(
            f"--inputs must be a folder, got {str(inputs)!r}. Leave it out to look in DIR and DIR/../inputs."
        )
    folders = [directory, directory.resolve().parent / "inputs"] if inputs is None else [Path(inputs)]
    read: dict[str, dict[str, np.ndarray]] = {}
    for kind, name, columns in (
        ("ranges", "scenarios.csv", _RANGE),
        ("targets", "instilled_weights.csv", _TARGET),
    ):
        path = next((f / name for f in folders if (f / name).is_file()), None)
        read[kind] = {} if path is None else _read_weights(path, columns, notes)
        if path is None:
            missing[kind] = f"no file {name} among the inputs"
    ranges = {}
    for context, row in read["ranges"].items():
        ends = row.reshape(2, N_ATTRIBUTES)
        if (ends[0] < ends[1]).all():
            ranges[context] = ends
        else:
            notes.append(f"scenarios.csv: {context} is left out, its ranges are not low < high")
    return list(read["ranges"]), ranges, read["targets"]


def _read_weights(path: Path, columns: tuple[str, ...], notes: list[str]) -> dict[str, np.ndarray]:
    """Context to numbers; contexts whose rows contradict each other, or hold no numbers, are left out."""
    table = read_table(path, ("scenario", *columns))
    found: dict[str, np.ndarray] = {}
    bad: set[str] = set()
    for row in table.rows:
        context, values = row["scenario"], numbers(row, columns)
        if not context:
            continue
        if values is None or (context in found and not np.array_equal(found[context], values)):
            bad.add(context)
        else:
            found.setdefault(context, values)
    if bad:
        notes.append(f"{path.name}: left out for want of one row of numbers: {_some(bad)}")
    _note_bad(path, table.n_ragged, notes)
    return {c: v for c, v in found.items() if c not in bad}


def _read_reports(path: Path, notes: list[str]) -> ReportRows:
    table = read_table(path, ("scenario", *_REPORT))
    n_bad = table.n_ragged
    contexts, values = [], []
    for row in _without_repeats(path, table, notes):
        found = numbers(row, _REPORT)
        if found is None or not row["scenario"]:
            n_bad += 1
        else:
            contexts.append(row["scenario"])
            values.append(found)
    _note_bad(path, n_bad, notes)
    return ReportRows(tuple(contexts), np.array(values, float).reshape(-1, N_ATTRIBUTES))


def _read_choices(path: Path, notes: list[str]) -> ChoiceRows:
    table = read_table(path, ("scenario", "selection", *_OPTIONS))
    n_bad = table.n_ragged
    contexts, options, chose_a = [], [], []
    for row in _without_repeats(path, table, notes):
        found, letter = numbers(row, _OPTIONS), row["selection"].upper()
        if found is None or letter not in ("A", "B") or not row["scenario"]:
            n_bad += 1
        else:
            contexts.append(row["scenario"])
            options.append(found)
            chose_a.append(letter == "A")
    _note_bad(path, n_bad, notes)
    both = np.array(options, float).reshape(-1, 2, N_ATTRIBUTES)
    return ChoiceRows(tuple(contexts), both[:, 0], both[:, 1], np.array(chose_a, bool))


def _without_repeats(path: Path, table: Table, notes: list[str]) -> list[dict[str, str]]:
    """Rows that are the same in every column are one: temperature is 0, so a repeated prompt says nothing new.

    Without the options in the file, equal rows may be different prompts, and all are kept.
    """
    if not set(_OPTIONS) <= set(table.columns):
        return table.rows
    counted = Counter(tuple(row.items()) for row in table.rows)
    if extra := len(table.rows) - len(counted):
        notes.append(f"{path.name}: {extra} rows repeat another in every column and count once")
    return [dict(row) for row in counted]


def _held_out(rows: ReportRows, name: str, order: list[str], notes: list[str]) -> ReportRows:
    """Leave out contexts that the reporting model was trained on, as the file's name says, e.g. `first_50_of_100`."""
    found = re.search(r"_itrained_(first|last)_(\d+)(?:_of_(\d+))?", name)
    if not found:
        return rows
    n_trained = int(found[2])
    total = int(found[3] or 2 * n_trained)
    trained = set(order[:n_trained] if found[1] == "first" else order[max(total - n_trained, 0) : total])
    keep = np.array([c not in trained for c in rows.contexts], bool)
    if not keep.all():
        notes.append(f"{name}: {int((~keep).sum())} rows about contexts that this model was trained on are left out")
    return ReportRows(tuple(c for c, k in zip(rows.contexts, keep, strict=True) if k), rows.values[keep])


def _note_bad(path: Path, n: int, notes: list[str]) -> None:
    if n:
        notes.append(f"{path.name}: {n} rows that could not be read are left out")


def _some(names: set[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
