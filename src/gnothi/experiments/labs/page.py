"""What the page of a lab's run is made from."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from gnothi._version import __version__
from gnothi.errors import DataError
from gnothi.experiments.labs.base import AbstractLab, LabTable, Picture
from gnothi.experiments.labs.plan import build, by_unit, headline, lab_of
from gnothi.experiments.labs.unit import StoredUnits
from gnothi.store import RunFolder, read_estimates
from gnothi.writeup import style
from gnothi.writeup.view import LabWords, RunView

MOST_LOSSES = 12
"""Arms whose losses are drawn: a grid of a hundred panels shows nothing."""


def view(run: RunFolder) -> RunView:
    """Fill the page of a finished run from its stored units."""
    lab, units = lab_of(run.spec), StoredUnits(run)
    closing = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    estimates = read_estimates(run.path / "estimates.parquet")
    pictures, lost = _pictures(lab.pictures(units, estimates))
    size = f"size {lab.spec['size']}{', quick' if lab.spec['quick'] else ''}"
    return RunView(
        title=f"{lab.name.capitalize()} lab: {size}",
        question=lab.question,
        experiment=f"lab {lab.name}",
        model={"name": size},
        spec=lab.spec,
        command=command(lab),
        version=__version__,
        created=closing["finished"],
        estimates=estimates,
        arms=lab.arms(),
        units=_units(lab, units),
        notes=[*_notes(lab, closing.get("failed") or []), *lab.notes(), *lost],
        tables=[_table(t) for t in lab.tables(units, estimates)],
        figures_extra=pictures,
        unit_values=_unit_values(lab, run),
        headline=headline(lab, estimates),
        lab=LabWords(subject=lab.subject, meanings=lab.estimates, summary=lab.summary, beside=tuple(lab.beside)),
    )


def command(lab: AbstractLab) -> str:
    """The command line that makes this specification: what differs from the size's default is named."""
    spec = lab.spec
    default = build(lab.name, size=spec["size"], quick=spec["quick"])
    words = ["gnothi", "lab", lab.name, "--size", str(spec["size"])] + ["--quick"] * bool(spec["quick"])
    for name, value in spec.items():
        if name in ("experiment", "size", "quick") or value == default.get(name):
            continue
        if name in ("seed", "seeds"):
            words += [f"--{name}", str(value)]
        else:
            words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def slug(title: str) -> str:
    """A title as a file's name.

    >>> slug("Pruning: 1 to 20 rows (C_Tr = 1)")
    'pruning-1-to-20-rows-c-tr-1'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "picture"


def _pictures(pictures: Sequence[Picture]) -> tuple[list[dict[str, Any]], list[str]]:
    """Every picture drawn, and a sentence for each that had nothing to draw."""
    found: list[dict[str, Any]] = []
    lost = []
    for picture in pictures:
        try:
            figure = picture.draw()
        except DataError as error:
            lost.append(f"Not drawn: {picture.title}. {error}")
            continue
        name = slug(picture.title)
        taken = {f["name"] for f in found}
        name = next(n for n in (name, *(f"{name}-{i}" for i in range(2, 1000))) if n not in taken)
        svg = style.to_svg(figure)
        found.append({"title": picture.title, "caption": picture.caption, "svg": svg, "name": name, "figure": figure})
    return found, lost


def _table(table: LabTable) -> dict[str, Any]:
    return {"title": table.title, "caption": table.caption, "columns": table.columns, "rows": table.rows}


def _units(lab: AbstractLab, units: StoredUnits) -> list[Mapping[str, Any]]:
    """Records in the order of the plan; losses only of as many arms as can be drawn."""
    stored = set(units.names())
    plan = [job for job in lab.jobs() if job.name in stored]
    records = {job.name: units.record(job.name) for job in plan}
    drawn = list(dict.fromkeys(job.arm or job.name for job in plan if records[job.name].get("losses")))[:MOST_LOSSES]
    found = []
    for job in plan:
        arm = job.arm or job.name
        losses = records[job.name].get("losses") if arm in drawn else None
        found.append({**records[job.name], "unit": job.name, "arm": arm, "losses": losses or []})
    return found


def _unit_values(lab: AbstractLab, run: RunFolder) -> list[dict[str, Any]]:
    """The headline's number for each training seed, of every arm, and those of what stands beside it."""
    names = {lab.headline[0], *(name for name, _ in lab.beside)}
    by_seed = {(job.arm, job.seed): job.name for job in lab.jobs()}
    return [
        {"name": name, "arm": arm, "unit": by_seed.get((arm, seed), f"seed {seed}"), "value": value}
        for (name, arm), numbers in by_unit(run).items()
        if name in names
        for seed, value in numbers.values.items()
        if value is not None
    ]


def _notes(lab: AbstractLab, failed: Sequence[str]) -> list[str]:
    size, quick = str(lab.spec["size"]), bool(lab.spec["quick"])
    cost = lab.costs.get("quick" if quick else size)
    notes = ["The test bed is that of arXiv:2311.12786; what this size changes stands in the specification below."]
    if cost:
        notes.append(f"Cost as measured: {cost}.".replace("..", "."))
    if quick:
        notes.append("A quick run, to see that everything works: its numbers are not for quoting.")
    if failed:
        notes.append(f"Jobs that failed, and are missing from all numbers: {', '.join(failed)}.")
    return notes
