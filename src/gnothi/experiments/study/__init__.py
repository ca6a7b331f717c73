"""The machinery of paper A's experiments (arXiv:2501.11120): instil a behaviour by examples alone, then ask about it."""

from collections.abc import Mapping, Sequence
from typing import Any

from gnothi.differences import Key, Numbers, Shared
from gnothi.errors import SpecError
from gnothi.experiments.base import Experiment, PlannedJob
from gnothi.experiments.study import files, plan, spec
from gnothi.experiments.study.studies import study_class, study_of
from gnothi.models.registry import resolve
from gnothi.records import Estimate
from gnothi.store import RunFolder

FILLED_IN = (
    "options",
    "defaults",
    "rows_at_hand",
    "writes",
    "experiment",
    "model_family",
    "model_digest",
    "provenance",
)
FILLED_IN += ("questions_digest", "adapter_digests", "judge_digest")
"""What nobody may state: it follows from the rest."""


def experiment_of(name: str) -> Experiment:
    """A study as the pipeline runs it.

    Raises:
        SpecError: There is none of that name.
    """
    kind = study_class(name)

    def build(model: str, /, **options: Any) -> dict[str, Any]:
        if filled := [name for name in options if name in FILLED_IN]:
            raise SpecError(f"--set {filled[0]} must be left out, got one: it is filled in. Leave it out.")
        options = {"writes": kind.writes, **files.with_digests(options)}
        found = spec.build(resolve(model), name, defaults=kind.defaults, options=kind.options, **options)
        return check(found.to_json())

    def check(values: Mapping[str, Any]) -> dict[str, Any]:
        found = spec.parse(values)
        files.check_digests(found)
        study = kind(found)
        study.check()
        return found.to_json()

    def jobs(values: Mapping[str, Any]) -> Sequence[PlannedJob]:
        found = spec.parse(values)
        return [(job, {u.name: plan.key(found, u) for u in units}) for job, units in plan.jobs(kind(found))]

    def score(run: RunFolder) -> list[Estimate]:
        from gnothi.experiments.study import estimates
        from gnothi.experiments.study.answers import Answers

        return estimates.score(study_of(spec.parse(run.spec)), Answers.of(run))

    def view(run: RunFolder) -> Any:
        from gnothi.experiments.study import page

        return page.view(run)

    def points(run: RunFolder) -> Any:
        from gnothi.experiments.study import page

        return page.points(run)

    def by_unit(run: RunFolder) -> Mapping[Key, Numbers]:
        from gnothi.experiments.study import by_unit as taken_apart

        return taken_apart.by_unit(run)

    def shared(first: RunFolder, second: RunFolder) -> Mapping[Key, Shared]:
        from gnothi.experiments.study import by_unit as taken_apart

        return taken_apart.shared(first, second)

    return Experiment(
        name=name,
        summary=kind.summary,
        headline=kind.headline,
        build=build,
        check=check,
        jobs=jobs,
        work="gnothi.experiments.study.unit:run_job",
        score=score,
        view=view,
        points=points,
        by_unit=by_unit,
        shared=shared,
    )


__all__ = ["experiment_of"]
