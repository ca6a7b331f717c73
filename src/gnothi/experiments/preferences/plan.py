"""Which models a run fine-tunes: jobs, the units that each leaves behind, and the keys that tie them to the spec."""

from dataclasses import dataclass

from gnothi._version import __version__
from gnothi.executor import Job
from gnothi.experiments.preferences.spec import REPORT_ARMS, PreferencesSpec
from gnothi.files import digest
from gnothi.records import SCHEMA_VERSION

BASE = "base"
"""The unit of the model as it came: nothing is trained, everybody is asked about."""
FOLDS = (0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One fine-tuned model of the plan (or the base)."""

    name: str
    arm: str
    seed: int | None = None
    """Which of the run's seeds, counted from 0; None for the base."""
    fold: int | None = None
    """The half of the agents whose reports it was trained on; None if not report-trained by halves."""
    parents: tuple[str, ...] = ()


def report_units(spec: PreferencesSpec, i: int) -> list[Unit]:
    """The report-trained models on top of `tuned-i`: every report arm in both folds, and one on all agents."""
    if not spec.report_training:
        return []
    parent = (f"tuned-{i}",)
    folds = [Unit(name=f"{a}-{i}-{f}", arm=a, seed=i, fold=f, parents=parent) for a in REPORT_ARMS for f in FOLDS]
    return [*folds, Unit(name=f"native_introspection-{i}", arm="native_introspection", seed=i, parents=parent)]


def units(spec: PreferencesSpec) -> list[Unit]:
    """Every unit of the run."""
    found = [Unit(name=BASE, arm="untuned")]
    for i in range(spec.seeds):
        found += [Unit(name=f"{arm}-{i}", arm=arm, seed=i, parents=(BASE,)) for arm in ("tuned", "shuffled")]
        found += report_units(spec, i)
    return found


def key(spec: PreferencesSpec, unit: Unit) -> str:
    """sha256 of everything that decides a unit: the spec (model digest included), its place in it, and the version."""
    return digest([spec.to_json(), unit.name, __version__, SCHEMA_VERSION])


def jobs(spec: PreferencesSpec) -> list[tuple[Job, list[Unit]]]:
    """The run's jobs with the units that each makes, longest chains first.

    The report-trained models of one seed are one job: a fleet of small adapters on one parent. In a run that stops at the
    gate, models on shuffled labels wait for the tuned ones.
    """
    tuned = tuple(f"tuned-{i}" for i in range(spec.seeds)) if spec.stop_at_gate else ()
    found: list[tuple[Job, list[Unit]]] = []
    for i in range(spec.seeds):
        unit = Unit(name=f"tuned-{i}", arm="tuned", seed=i, parents=(BASE,))
        found.append((Job(name=unit.name, payload={"kind": "instil", "arm": "tuned", "seed": i}), [unit]))
    found.append((Job(name=BASE, payload={"kind": "base"}), [Unit(name=BASE, arm="untuned")]))
    for i in range(spec.seeds):
        if of_reports := report_units(spec, i):
            job = Job(name=f"reports-{i}", after=(f"tuned-{i}",), payload={"kind": "reports", "seed": i})
            found.append((job, of_reports))
        unit = Unit(name=f"shuffled-{i}", arm="shuffled", seed=i, parents=(BASE,))
        payload = {"kind": "instil", "arm": "shuffled", "seed": i}
        found.append((Job(name=unit.name, after=tuned, payload=payload), [unit]))
    return found
