"""Paper B's experiment (arXiv:2505.17120) with every control: instil weights by choices alone, then ask for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from gnothi.differences import Key, Numbers, Shared
from gnothi.experiments.base import Experiment, PlannedJob
from gnothi.experiments.preferences import plan, spec
from gnothi.models.registry import resolve
from gnothi.records import Estimate
from gnothi.store import RunFolder


def _build(model: str, /, **options: Any) -> dict[str, Any]:
    return _check(spec.build(resolve(model), **options).to_json())


def _check(values: Mapping[str, Any]) -> dict[str, Any]:
    from gnothi.experiments.preferences.bench import Bench

    found = spec.parse(values)
    bench = Bench(found)
    _ = bench.trained, bench.untrained  # refuses more agents than there are, and a behaviour that does not load
    return found.to_json()


def _jobs(values: Mapping[str, Any]) -> Sequence[PlannedJob]:
    found = spec.parse(values)
    return [(job, {u.name: plan.key(found, u) for u in units}) for job, units in plan.jobs(found)]


def _score(run: RunFolder) -> list[Estimate]:
    from gnothi.experiments.preferences.estimates import score

    return score(run)


def _view(run: RunFolder) -> Any:
    from gnothi.experiments.preferences.page import view

    return view(run)


def _points(run: RunFolder) -> Any:
    from gnothi.experiments.preferences.page import points

    return points(run)


def _by_unit(run: RunFolder) -> Mapping[Key, Numbers]:
    from gnothi.experiments.preferences.by_unit import by_unit

    return by_unit(run)


def _shared(first: RunFolder, second: RunFolder) -> Mapping[Key, Shared]:
    from gnothi.experiments.preferences.by_unit import shared

    return shared(first, second)


EXPERIMENT = Experiment(
    name="preferences",
    summary="instil attribute weights by choices alone, ask for them, compare with what was learned",
    headline=("agreement.reported_vs_learned", "tuned"),
    build=_build,
    check=_check,
    jobs=_jobs,
    work="gnothi.experiments.preferences.unit:run_job",
    score=_score,
    view=_view,
    points=_points,
    by_unit=_by_unit,
    shared=_shared,
)
