"""Looking inside the fine-tuned models of an earlier run: what changed, what carries it, what takes it back.

A look is a run of its own in the folder `look` of the run that it looks at, one unit a model. Nothing of the earlier run
is changed but its page, which gets the look's pictures and tables.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gnothi.differences import Key, Numbers, Shared
from gnothi.errors import SpecError
from gnothi.experiments.base import Experiment, PlannedJob
from gnothi.experiments.look import names, plan, spec
from gnothi.records import Estimate
from gnothi.store import RunFolder

SUMMARY = "what changed inside the fine-tuned models of a run, which sites carry it, what takes it back"


def _build(model: str, /, **options: Any) -> dict[str, Any]:
    del model, options
    raise SpecError("EXPERIMENT must be one that makes models, got look. `gnothi look RUN` looks at those of a run.")


def _check(values: Mapping[str, Any]) -> dict[str, Any]:
    return spec.parse(values).model_dump(mode="json")


def _jobs(values: Mapping[str, Any]) -> Sequence[PlannedJob]:
    return plan.jobs(values)


def _score(run: RunFolder) -> list[Estimate]:
    from gnothi.experiments.look import estimates

    return estimates.score(run)


def _view(run: RunFolder) -> Any:
    from gnothi.experiments.look import page

    return page.view(run)


def _points(run: RunFolder) -> Any:
    from gnothi.experiments.look import page

    return page.points(run)


def _by_unit(run: RunFolder) -> Mapping[Key, Numbers]:
    from gnothi.experiments.look import estimates

    return estimates.by_unit(run)


def _shared(first: RunFolder, second: RunFolder) -> Mapping[Key, Shared]:
    del first, second
    return {}


EXPERIMENT = Experiment(
    name=spec.NAME,
    summary=SUMMARY,
    headline=(names.HEADLINE, "all"),
    build=_build,
    check=_check,
    jobs=_jobs,
    work="gnothi.experiments.look.work:run_job",
    score=_score,
    view=_view,
    points=_points,
    by_unit=_by_unit,
    shared=_shared,
)

__all__ = ["EXPERIMENT"]
