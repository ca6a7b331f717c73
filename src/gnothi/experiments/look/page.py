"""A look's own page, and the sections that it adds to the page of the run that it looked at."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gnothi._version import __version__
from gnothi.experiments.look import estimates as numbers
from gnothi.experiments.look.names import ESTIMATES, HEADLINE, MAIN
from gnothi.experiments.look.pictures import Tables, mean, pictures
from gnothi.experiments.look.spec import LookSpec, parse, same_models
from gnothi.records import Estimate
from gnothi.score.names import Arm
from gnothi.store import RunFolder, read_estimates
from gnothi.writeup.sentences import MINUS
from gnothi.writeup.text import number, value_and_interval
from gnothi.writeup.view import LabWords, RunView

Section = Mapping[str, Any]
SHOWN_SITES, MOST_ARMS = 6, 6


def view(run: RunFolder) -> RunView:
    """What the look's own page is made from."""
    spec = parse(run.spec)
    tables, silent = Tables.of(run), numbers.told(run, spec)
    found = read_estimates(run.path / "estimates.parquet")
    arms = tables.arms or [spec.units[0].arm]
    return RunView(
        title=f"Look inside: {spec.parent_experiment} on {spec.model}",
        question="Which sites carry what the fine-tune changed, and do a few units or a few steps take it back?",
        experiment="look",
        model={"name": spec.model, "digest": spec.model_digest, "dtype": spec.dtype, "notes": spec.model_notes()},
        spec=spec.model_dump(mode="json"),
        command=command(run, spec),
        version=__version__,
        created=json.loads((run.path / "run.json").read_text(encoding="utf-8"))["finished"],
        estimates=found,
        arms=words(spec),
        units=[{"unit": n, "arm": r["arm"], "seed": r["seed"]} for n, r in tables.records.items()],
        notes=notes(spec, silent),
        tables=tables_of(tables),
        figures_extra=pictures(tables, silent),
        headline=(HEADLINE, arms[0]),
        lab=LabWords(
            subject="Giving the fine-tuned models the base's activations at their foremost site takes back this share of their change:",
            meanings=ESTIMATES,
            summary="what changed inside the fine-tuned models of a run, what carries it, and what takes it back",
        ),
    )


def headline(spec: Mapping[str, Any]) -> tuple[tuple[str, str], Mapping[str, Arm]]:
    """Name and arm of the number that a look is about, and its arms."""
    found = parse(spec)
    arms = words(found)
    return (HEADLINE, next(iter(arms))), arms


def sections(parent: RunFolder) -> tuple[list[Mapping[str, str]], list[Section]]:
    """Figures and tables of a run's finished look, for the run's own page; none where there is none.

    Args:
        parent: The run.
    """
    path = parent.path / "look"
    if not (path / "run.json").is_file():
        return [], []
    run = RunFolder.open(path)
    run.verify()
    spec = parse(run.spec)
    if not same_models(spec, parent):
        return [], []
    tables, silent = Tables.of(run), numbers.told(run, spec)
    found = read_estimates(path / "estimates.parquet")
    return list(pictures(tables, silent)), [_main_numbers(found), *tables_of(tables), _noted(spec, silent)]


def command(run: RunFolder, spec: LookSpec) -> str:
    """The line that makes this look."""
    units = " ".join(f"--units {u.name}" for u in spec.units if not u.control) or f"--units {spec.units[0].name}"
    quick = " --quick" if spec.quick else ""
    return f"gnothi look {run.path.parent.name} {units} --pairs {spec.pairs}{quick}"


def words(spec: LookSpec) -> dict[str, Arm]:
    """Who each arm is."""
    found = {}
    for arm in dict.fromkeys(u.arm for u in sorted(spec.units, key=lambda u: u.control)):
        taught = (
            "models that were taught nothing: what any fine-tune of these rows does" if arm == spec.control_arm else ""
        )
        found[arm] = Arm(taught or f"models of the arm {arm}", "the untuned model", "how much it takes to undo", False)
    for arm in [a for a in found if a != spec.control_arm and spec.control_arm]:
        label = f"{arm}_minus_{spec.control_arm}"
        found[label] = Arm(f"`{arm}` less `{spec.control_arm}`, seed by seed", "", "what was taught", False)
    return found


def notes(spec: LookSpec, silent: Mapping[str, str | None]) -> list[str]:
    """What a reader should know besides."""
    found = [
        "Everything is measured on the run's own stored items and questions; a share is the least-squares slope of what "
        "moved on what the fine-tune had moved, so 1 is all of it and the direction of an option does not matter.",
        "Maps are estimates to first order; exact patching of the foremost sites and of as many drawn at random stands "
        "beside, with the rank correlation of the two.",
        "How many units are undone, and the rate of reverse fine-tuning, are chosen on other items than they are shown on.",
    ]
    if spec.control_arm is None:
        found.append("No model that was taught nothing was looked at: nothing says what any fine-tune would show.")
    found += [
        f"What carries the self-report of {arm} is not interpreted: {why}."
        for arm, why in silent.items()
        if why and arm != spec.control_arm
    ]
    if spec.model_family == "organism":
        found.append("These are results on the organism, and not results on language models.")
    if spec.quick:
        found.append("A quick look, to see that everything works: its numbers are not for quoting.")
    return found


def tables_of(tables: Tables) -> list[Section]:
    """The foremost sites, exactly patched, and where the units that undo it lie."""
    return [_sites(tables), _units(tables)]


def _sites(tables: Tables) -> Section:
    rows: list[list[Any]] = []
    for arm in tables.arms:
        maps = tables.rows(arm, "choice_sites", lambda r: not r["at_end"] and r["kind"] != "resid")
        estimated = [{r["site"]: r["share"] for r in rows if r["direction"] == "both"} for rows in maps]
        exact = [{r["site"]: r for r in rows if r["method"].startswith("exact")} for rows in maps]
        foremost = [{s for s, r in found.items() if r["method"] == "exact"} for found in exact]
        counts = Counter(s for found in foremost for s in found)
        of_arm = []
        for site, n in counts.items():
            both = [
                (e.get(site), x[site]["share"]) for e, x, f in zip(estimated, exact, foremost, strict=True) if site in f
            ]
            of_arm.append([arm, site, f"{n} of {len(maps)}", mean(a for a, _ in both), mean(b for _, b in both)])
        rows += sorted(of_arm, key=lambda r: (-int(r[2].split()[0]), -abs(r[4] or 0.0)))[:SHOWN_SITES]
        drawn = [
            (e.get(s), r["share"])
            for e, x in zip(estimated, exact, strict=True)
            for s, r in x.items()
            if r["method"] != "exact"
        ]
        if drawn:
            rows.append(
                [arm, f"{len(drawn)} sites at random", "", mean(a for a, _ in drawn), mean(b for _, b in drawn)]
            )
    return {
        "title": "Inside: sites patched exactly",
        "caption": "The tuned model with the base's activations at one site, all positions: the share of the change in the "
        "choice that this takes back, mean over the models in which attribution puts the site among the first.",
        "columns": ["arm", "site", "among the first in", "attribution", "exact"],
        "rows": rows,
    }


def _units(tables: Tables) -> Section:
    rows = []
    for arm in tables.arms:
        records = [tables.records[u] for u in tables.units(arm)]
        where = Counter()
        for places in tables.rows(arm, "undo_places", lambda _: True):
            where.update({p["name"].removesuffix(".weight"): int(p["n"]) for p in places})
        shown = ", ".join(f"{name} {n:,}" for name, n in where.most_common(SHOWN_SITES))
        shown += f", and {len(where) - SHOWN_SITES} more" if len(where) > SHOWN_SITES else ""
        every, undone = (", ".join(dict.fromkeys(f"{int(r[k]):,}" for r in records)) for k in ("units", "undo_chosen"))
        rows.append([arm, len(records), every, undone, shown])
    return {
        "title": "Inside: units that undo the fine-tune",
        "caption": "The fewest units of those tried that take half of the change back on items that choose, and how many of them are "
        "rows of which parameter, over all models.",
        "columns": ["arm", "models", "units changed", "undone", "where"],
        "rows": rows,
    }


def _main_numbers(found: Sequence[Estimate]) -> Section:
    """The numbers of every arm side by side; comparisons and the others are on the look's own page."""
    arms = [a for a in dict.fromkeys(e.arm for e in found) if MINUS not in a][:MOST_ARMS]
    by_key = {(e.name, e.arm): e for e in found}
    rows = [[name, *(_cell(by_key.get((name, a))) for a in arms), said] for name, said in MAIN.items()]
    return {
        "title": "Inside: the numbers",
        "caption": "Mean over models with its interval, n models where there is none. Every number with its reason and each arm "
        "less its control: gnothi show RUN/look, or RUN/look/report.html.",
        "columns": ["estimate", *arms, "what it is"],
        "rows": rows,
    }


def _cell(e: Estimate | None) -> str:
    if e is None or e.value is None:
        return "not interpreted" if e is not None and (e.reason or "").startswith("not interpreted") else "none"
    return value_and_interval(e) if e.low is not None else f"{number(e.value)} (n = {e.n})"


def _noted(spec: LookSpec, silent: Mapping[str, str | None]) -> Section:
    return {
        "title": "Inside: how to read this",
        "caption": "What holds of all pictures and numbers above that are called inside.",
        "columns": ["note"],
        "rows": [[line] for line in notes(spec, silent)],
    }


def points(run: RunFolder) -> Any:
    """One row a model, what, direction and site of every map: a DataFrame."""
    import pandas as pd

    tables = Tables.of(run)
    parts = [
        pd.DataFrame(by_name[name]).assign(unit=unit, arm=tables.records[unit]["arm"], map=name)
        for unit, by_name in tables.by_unit.items()
        for name in ("choice_sites", "report_sites", "item_sites")
        if by_name.get(name)
    ]
    return pd.concat(parts, ignore_index=True)
