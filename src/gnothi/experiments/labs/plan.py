"""From a lab to an experiment that the pipeline runs: specification, jobs with their keys, numbers, page."""

import difflib
import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gnothi._version import __version__
from gnothi.differences import Key, Numbers, Shared
from gnothi.errors import DataError, SpecError
from gnothi.executor import Job
from gnothi.experiments import labs
from gnothi.experiments.base import Experiment, PlannedJob
from gnothi.experiments.labs.base import SIZES, AbstractLab, LabJob
from gnothi.experiments.labs.unit import StoredUnits
from gnothi.files import digest
from gnothi.records import SCHEMA_VERSION, Estimate
from gnothi.store import RunFolder

OVER_MODELS = ("t over", "t on", "Wilson with t")
"""How methods of intervals over models begin: the estimates that can be taken apart by training seed."""


def nearest(given: object, known: Sequence[str]) -> str:
    """A few words with the nearest right name, or all of them.

    >>> nearest("tracer", ["tracr", "pcfg"]), nearest("x", ["tracr", "pcfg"])
    ('Did you mean tracr?', 'There are tracr, pcfg.')
    """
    found = difflib.get_close_matches(str(given).lower(), known, n=1, cutoff=0.5)
    return f"Did you mean {found[0]}?" if found else f"There are {', '.join(known)}."


def lab_class(name: str) -> type[AbstractLab]:
    """Import a lab by name.

    Raises:
        SpecError: There is none of that name; the message says the nearest.
    """
    if name not in labs.LABS:
        raise SpecError(
            f"LAB must be one of {', '.join(labs.LABS)} or list, got {name!r:.60}. "
            f"{nearest(name, [*labs.LABS, 'list'])} `gnothi lab list` says what each shows."
        )
    module, _, found = labs.LABS[name].partition(":")
    return getattr(importlib.import_module(module), found)


def lab_of(spec: Mapping[str, Any]) -> AbstractLab:
    """The lab of a checked specification."""
    return lab_class(str(spec.get("experiment")))(spec)


def build(name: str, **options: Any) -> dict[str, Any]:
    """The specification of a lab's run, with what is common to all labs checked.

    Raises:
        SpecError: An unknown lab, size or option, or a value that it can't have.
    """
    kind = lab_class(name)
    given = {k: v for k, v in options.items() if v is not None}
    size = given.get("size", "tiny")
    if size not in SIZES:
        raise SpecError(f"--size must be one of {', '.join(SIZES)}, got {size!r:.60}. {nearest(size, SIZES)}")
    for field, least in (("seed", 0), ("seeds", 1)):
        value = given.get(field, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise SpecError(f"--{field} must be a whole number of at least {least}, got {value!r:.60}. Change it.")
    if given.get("experiment", name) != name:
        raise SpecError(f"--set experiment must be left out, got one beside {name}. Name the lab as the argument.")
    given.pop("experiment", None)
    return kind.build(**given)


def experiment_of(name: str) -> Experiment:
    """A lab as the pipeline runs it.

    Raises:
        SpecError: There is none of that name.
    """
    kind = lab_class(name)

    def check(values: Mapping[str, Any]) -> dict[str, Any]:
        return kind.check(values)

    def view(run: RunFolder) -> Any:
        from gnothi.experiments.labs import page

        return page.view(run)

    return Experiment(
        name=name,
        summary=kind.summary,
        headline=kind.headline,
        build=lambda _="", /, **options: build(name, **options),
        check=check,
        jobs=lambda values: jobs(kind(values)),
        work="gnothi.experiments.labs.unit:run_job",
        score=lambda run: score(lab_of(run.spec), StoredUnits(run)),
        view=view,
        points=points,
        by_unit=by_unit,
        shared=shared,
    )


def jobs(lab: AbstractLab) -> list[PlannedJob]:
    """A lab's jobs, each with its one unit and the key of all that decides it.

    Raises:
        DataError: A plan that can't be run: a name twice, or one that no folder can have, or work after what is not there.
    """
    found: list[PlannedJob] = []
    seen: set[str] = set()
    arms = lab.arms()
    for job in lab.jobs():
        where = f"job {job.name!r} of {lab.name}"
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", job.name) or job.name in seen:
            raise DataError(f"{where} must have a name of its own in small letters, digits, - and . . Rename it.")
        if strange := [a for a in job.after if a not in seen]:
            raise DataError(f"{where} must come after jobs before it, got {strange[0]!r}. Change the order.")
        if job.arm and job.arm not in arms:
            raise DataError(f"{where} must be of an arm that the lab names, got {job.arm!r}. Add it to `arms`.")
        seen.add(job.name)
        unit_key = key(lab, job)
        payload = {"payload": dict(job.payload), "arm": job.arm, "seed": job.seed, "work": lab.work, "key": unit_key}
        found.append((Job(name=job.name, after=tuple(job.after), payload=payload), {job.name: unit_key}))
    return found


def key(lab: AbstractLab, job: LabJob) -> str:
    """sha256 of everything that decides a unit: the specification, its place in the plan, and the version."""
    place = [job.name, list(job.after), dict(job.payload), job.arm, job.seed]
    return digest([lab.spec, place, lab.work, __version__, SCHEMA_VERSION])


def score(lab: AbstractLab, units: StoredUnits) -> list[Estimate]:
    """All numbers of a lab.

    Raises:
        DataError: An estimate that the lab does not explain.
    """
    found = lab.score(units)
    if strange := [e.name for e in found if e.name.partition("/")[0] not in lab.estimates]:
        raise DataError(f"estimates of {lab.name} must be explained, got {strange[0]!r}. Add it to `estimates`.")
    return found


def headline(lab: AbstractLab, estimates: Sequence[Estimate]) -> Key:
    """Name and arm of the estimate that answers a run: the lab's own, or where its arm is no part of the run, the first.

    A specification that leaves out rates or priors may leave out the arm that the lab is usually about.
    """
    name, arm = lab.headline
    arms = lab.arms()
    if arm in arms:
        return name, arm
    there = [e.arm for e in estimates if e.name == name and not (e.arm in arms and arms[e.arm].control)]
    return name, next((a for a in (*arms, *there) if a in there), arm)


def points(run: RunFolder) -> Any:
    """Every table of every unit in one: `arm, unit, seed, table`, then the tables' own columns."""
    import pandas as pd

    stored = StoredUnits(run)
    parts = []
    for unit in stored.names():
        record = stored.record(unit)
        about = {"arm": record["arm"], "unit": unit, "seed": record["seed"]}
        for name in stored.tables(unit):
            table = stored.table(unit, name)
            own = [c for c in table.columns if c not in (*about, "table")]
            parts.append(table[own].assign(**about, table=name))
    if not parts:
        return pd.DataFrame(columns=["arm", "unit", "seed", "table"])
    whole = pd.concat(parts, ignore_index=True)
    first = ["arm", "unit", "seed", "table"]
    return whole[[*first, *(c for c in whole.columns if c not in first)]]


def of_seed(lab: AbstractLab, seed: int) -> list[str]:
    """Units of one seed, and all that they come after."""
    plan = {job.name: job for job in lab.jobs()}
    found = {name for name, job in plan.items() if job.seed == seed}
    for job in reversed(list(plan.values())):
        if job.name in found:
            found |= set(job.after)
    return [name for name in plan if name in found]


def by_unit(run: RunFolder) -> dict[Key, Numbers]:
    """The number of each training seed behind every estimate over models: the lab scored on that seed's units alone."""
    lab = lab_of(run.spec)
    whole = {(e.name, e.arm): e for e in score(lab, StoredUnits(run))}
    over = {k for k, e in whole.items() if e.n > 1 and e.method.startswith(OVER_MODELS)}
    found: dict[Key, dict[int, float | None]] = {k: {} for k in over}
    for seed in sorted({job.seed for job in lab.jobs()}):
        for e in score(lab, StoredUnits(run, of_seed(lab, seed))):
            if (e.name, e.arm) in over:
                found[e.name, e.arm][seed] = e.value
    return {k: Numbers(values=v, n_points=whole[k].n_points, n_missing=whole[k].n_missing) for k, v in found.items()}


def shared(first: RunFolder, second: RunFolder) -> dict[Key, Shared]:
    """Nothing: what two labs of other settings have in common is not recorded, so their models are two groups."""
    del first, second
    return {}
