"""Which models a study's run fine-tunes: one job and one unit for each arm and seed, and the untuned model."""

from dataclasses import dataclass

from gnothi._version import __version__
from gnothi.executor import Job
from gnothi.experiments.study.design import UNTUNED, AbstractStudy
from gnothi.experiments.study.spec import StudySpec
from gnothi.files import digest
from gnothi.records import SCHEMA_VERSION

BASE = "base"
"""The unit of the model as it came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One model of the plan."""

    name: str
    arm: str
    seed: int | None
    """Which of the run's seeds, counted from 0; None for the base."""


def units(study: AbstractStudy) -> list[Unit]:
    """Every unit of the run: the base first, then all arms of one seed before the next seed.

    A model whose answers are sampled is asked anew as `base-0`, `base-1`, …, so that a difference from it holds the noise
    of asking on both sides; where all answers are read off probabilities, one look is enough.
    """
    if study.reads_probabilities:
        found = [Unit(name=BASE, arm=UNTUNED, seed=None)]
    else:
        found = [Unit(name=f"{BASE}-{i}", arm=UNTUNED, seed=i) for i in range(study.spec.seeds)]
    for i in range(study.spec.seeds):
        once = study.reads_probabilities and i > 0  # nothing is sampled: asking again says the same
        found += [Unit(name=f"{a.name}-{i}", arm=a.name, seed=i) for a in study.every_arm() if not (a.single and once)]
    return found


def key(spec: StudySpec, unit: Unit) -> str:
    """sha256 of everything that decides a unit: the spec (digests included), its place in it, and the version."""
    return digest([spec.to_json(), unit.name, __version__, SCHEMA_VERSION])


def jobs(study: AbstractStudy) -> list[tuple[Job, list[Unit]]]:
    """Jobs of the run: a fleet of one seed's arms where the specification has fleets, and else one job a unit.

    With one seed alone its arms stay apart, so that all workers have something to do.
    """
    spec = study.spec
    epochs = {a.name: a.epochs for a in study.every_arm() if not a.single}
    groups: dict[tuple[int | None, float | None, str], list[Unit]] = {}
    for unit in units(study):
        fleet = spec.fleet != "alone" and spec.seeds > 1 and unit.arm in epochs
        groups.setdefault((unit.seed, epochs.get(unit.arm), "" if fleet else unit.name), []).append(unit)
    found = []
    for (seed, passes, single), members in groups.items():
        name = single or f"fleet-{seed}" + ("" if passes is None else f"-{passes:g}-epochs")
        found.append((Job(name=name, payload={"units": [u.name for u in members]}), members))
    return found
