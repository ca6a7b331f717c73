"""The table of contents: a run from its specification to its page.

    specification -> jobs (examples, fine-tune, measure, ask: one unit each) -> score -> write up

Every step reads and writes the run folder, so that it can be killed and gone on with at any moment.
"""

import json
import logging
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnothi import errors
from gnothi._version import __version__
from gnothi.errors import GnothiError, SpecError, StoreError
from gnothi.executor import Failure, Report, check_engine, execute
from gnothi.experiments import EXPERIMENTS, STUDIES
from gnothi.experiments.base import Experiment, PlannedJob
from gnothi.experiments.labs import LABS
from gnothi.files import cannot_write, write_atomically
from gnothi.score.names import ARMS, Arm, meaning
from gnothi.store import RunFolder

if TYPE_CHECKING:
    from gnothi.writeup.view import RunView

log = logging.getLogger("gnothi")

LOOK = "look"
"""A look inside a run's models: the experiment's name, and its folder's inside that run."""


def experiment(name: str) -> Experiment:
    """Import an experiment, or a lab, by name.

    Raises:
        SpecError: There is none of that name.
    """
    if name in LABS:
        from gnothi.experiments.labs.plan import experiment_of as lab

        return lab(name)
    if name == LOOK:
        from gnothi.experiments.look import EXPERIMENT as look

        return look
    if name not in EXPERIMENTS:
        raise SpecError(
            f"EXPERIMENT must be one of {', '.join(EXPERIMENTS)} or a YAML file, got {name!r}. See `gnothi run --help`."
        )
    if name in STUDIES:
        from gnothi.experiments.study import experiment_of

        return experiment_of(name)
    from gnothi.experiments.preferences import EXPERIMENT

    return EXPERIMENT


def run(
    spec: Mapping[str, Any],
    folder: Path,
    *,
    engine: str = "pool",
    workers: int = 2,
    report: Report | None = None,
    planned: Callable[[int, int], None] | None = None,
) -> tuple[RunFolder, list[Failure]]:
    """Run or go on with a run: whole units are skipped, everything else is made, then scored and written up.

    Args:
        spec: A complete specification, as `Experiment.build` or `Experiment.check` returns it.
        folder: The run folder; new, empty, or a run of the same specification.
        engine: `pool` or `inline`; does not change any number.
        workers: Worker processes.
        report: Called as jobs go on.
        planned: Called once with (jobs to do, jobs in all) before they start.

    Returns:
        The run and the jobs that failed by a fault of ours; the run is then scored without them.

    Raises:
        GnothiError: Bad input or environment; what was finished stays and can be gone on with.
    """
    check_engine(engine, workers)
    it = experiment(spec["experiment"])
    plan = it.jobs(spec)
    folder = Path(folder)
    run_folder = RunFolder.create(folder, spec)
    with run_folder.lock() as held, _log_file(folder / "run.log"), _swept(run_folder):
        if run_folder.finished and not run_folder.verify().get("failed"):
            log.info("already finished")
            if not (folder / "report.html").is_file():  # killed between the numbers and the page
                write_page(run_folder, it)
            return run_folder, []
        planned_units = {unit for _, units in plan for unit in units}
        if strange := [u for u in run_folder.units() if u not in planned_units]:
            raise StoreError(
                f"{run_folder.unit_path(strange[0])} must be a unit of this run's plan, got one put there by hand. "
                "Take it out."
            )
        todo = [job for job, units in plan if not all(run_folder.has(u, key) for u, key in units.items())]
        log.info("gnothi %s, python %s, %s", __version__, platform.python_version(), platform.platform())
        log.info("%d of %d jobs to do, engine %s, %d workers", len(todo), len(plan), engine, workers)
        if planned:
            planned(len(todo), len(plan))
        failures = execute(
            todo, function=it.work, folder=folder, engine=engine, workers=workers, report=_logged(report), held=(held,)
        )
        for failure in failures:
            log.error("%s failed: %s\n%s", failure.job, failure.message, failure.details)
        for failure in failures:
            if failure.expected:
                raise getattr(errors, failure.kind, GnothiError)(failure.message)
        if failures and not run_folder.units():
            raise GnothiError(f"no job ended well; the first said: {failures[0].message}. See {folder / 'run.log'}.")
        if failures:
            log.error("%d jobs failed; the run is scored without them and can be resumed", len(failures))
        conclude(run_folder, it, failed=[f.job for f in failures], report=report)
    return run_folder, failures


def conclude(
    run_folder: RunFolder, it: Experiment, *, failed: Sequence[str] = (), report: Report | None = None
) -> None:
    """Score the stored units and write the page. With failed jobs the run stays open for `resume`."""
    for unit in run_folder.units():
        run_folder.read_unit(unit)
    say = report or (lambda *_: None)
    say("run", 0, 2, "score")
    estimates = it.score(run_folder)
    record: dict[str, Any] = {"version": __version__, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    record["failed"] = list(failed)
    run_folder.finish(estimates, record)
    say("run", 1, 2, "write the page")
    write_page(run_folder, it)
    if it.name == LOOK:
        _add_to_parent(run_folder)
    log.info("%d estimates from %d units", len(estimates), len(run_folder.units()))


def write_page(run_folder: RunFolder, it: Experiment) -> Path:
    """Write `report.html` and `figures/` of a finished run; nothing is measured anew."""
    from gnothi.writeup.figures import save_figures
    from gnothi.writeup.page import render_page

    view = _with_look(it.view(run_folder), run_folder)
    fresh = run_folder.path / ".figures.tmp"
    page = run_folder.path / "report.html"
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        save_figures(view, fresh)
        text = render_page(view)
        shutil.rmtree(run_folder.path / "figures", ignore_errors=True)
        fresh.rename(run_folder.path / "figures")
        write_atomically(page, text)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise error if isinstance(error, GnothiError) else cannot_write(page, error) from error
    return page


def _with_look(view: "RunView", run_folder: RunFolder) -> "RunView":
    """The view with the sections of the run's finished look, if it has one."""
    if run_folder.spec.get("experiment") == LOOK or not (run_folder.path / LOOK).is_dir():
        return view
    from gnothi.experiments.look.page import sections

    figures, tables = sections(run_folder)
    return replace(view, figures_extra=[*view.figures_extra, *figures], tables=[*view.tables, *tables])


def _add_to_parent(look: RunFolder) -> None:
    """Write the page of the run that was looked at again; code of its own is not loaded for that."""
    parent = RunFolder.open(look.path.resolve().parent)
    if parent.spec.get("behaviour", "preferences") != "preferences":
        log.info("the run's page gets the look's sections by `gnothi report %s --behaviour …`", parent.path)
        return
    with parent.lock():
        parent.verify()
        write_page(parent, experiment(parent.spec["experiment"]))


def rewrite(folder: Path, *, behaviour: str | None = None) -> Path:
    """Write the page of a finished run again, e.g. with a newer version: `gnothi report RUN`.

    Args:
        folder: The run.
        behaviour: As for `open_trusted`.
    """
    run_folder = open_trusted(folder, behaviour)
    with run_folder.lock():
        run_folder.verify()
        return write_page(run_folder, experiment(run_folder.spec["experiment"]))


def open_trusted(folder: Path, behaviour: str | None) -> RunFolder:
    """Open a run whose code of its own, if it has any, the user named: a run folder may come from anybody.

    Args:
        folder: The run.
        behaviour: What the user gave as `--behaviour`; needed only where the run's is not `preferences`.

    Raises:
        SpecError: The run would load code that the user did not name.
    """
    run_folder = RunFolder.open(folder)
    stored = run_folder.spec.get("behaviour", "preferences")
    if behaviour is not None and behaviour != stored:
        raise SpecError(f"--behaviour must be what the run was started with, {stored!r}, got {behaviour!r}.")
    if stored != "preferences" and behaviour is None:
        raise SpecError(
            f"--behaviour must name the code that {folder} loads, got none. It runs on this machine: if you trust it, "
            f"add `--behaviour {stored}`."
        )
    return run_folder


def checked_spec(folder: Path, *, behaviour: str | None = None) -> dict[str, Any]:
    """The specification of a stored run, checked again: what `resume` goes on with.

    Args:
        folder: The run.
        behaviour: As for `open_trusted`.
    """
    run_folder = open_trusted(folder, behaviour)
    return experiment(run_folder.spec.get("experiment", "")).check(run_folder.spec)


def plan_of(spec: Mapping[str, Any]) -> list[PlannedJob]:
    """Jobs and units of a specification, for `--dry-run`."""
    return list(experiment(spec["experiment"]).jobs(spec))


def _logged(report: Report | None) -> Report:
    started: set[tuple[str, str]] = set()

    def both(job: str, done: int, total: int, stage: str) -> None:
        if (job, stage) not in started:
            started.add((job, stage))
            log.info("%s: %s", job, stage)
        if report:
            report(job, done, total, stage)

    return both


class _QuietHandler(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written stops nothing; what else cannot be written says so."""


@contextmanager
def _swept(run_folder: RunFolder) -> Iterator[None]:
    """Remove what a killed process left, before and after: killed workers leave their temporary folders too."""
    run_folder.sweep()
    try:
        yield
    finally:
        run_folder.sweep()


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    try:
        handler = _QuietHandler(path, encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except GnothiError as error:
        log.error("%s", error)
        raise
    except Exception:
        log.exception("stopped by an error of ours")
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def headline_of(run_folder: RunFolder) -> tuple[tuple[str, str], Mapping[str, Arm]]:
    """What a run is about: the name and arm of its headline, which one's own behaviour words itself, and its arms."""
    spec = run_folder.spec
    if spec["experiment"] in LABS:
        from gnothi.experiments.labs.plan import headline, lab_of

        lab = lab_of(spec)
        return headline(lab, run_folder.estimates()), lab.arms()
    if spec["experiment"] == LOOK:
        from gnothi.experiments.look.page import headline

        return headline(spec)
    if spec["experiment"] not in STUDIES:
        return experiment(spec["experiment"]).headline, ARMS
    from gnothi.experiments.study.page import arms_of
    from gnothi.experiments.study.spec import parse
    from gnothi.experiments.study.studies import study_of

    study = study_of(parse(spec))
    return study.headline, arms_of(study)


def meaning_of(run_folder: RunFolder) -> Callable[[str], str]:
    """A function from the name of a run's estimate to what it is; nothing for names that are not known."""
    name = run_folder.spec.get("experiment")
    if name == LOOK:
        from gnothi.experiments.look.names import ESTIMATES

        return lambda estimate: ESTIMATES.get(estimate.partition("/")[0], "")
    if name in LABS:
        from gnothi.experiments.labs.plan import lab_class

        known = lab_class(str(name)).estimates
        return lambda estimate: known.get(estimate.partition("/")[0], "")
    return lambda estimate: meaning(estimate, study=name in STUDIES)


def summary_line(run_folder: RunFolder) -> str:
    """One line of JSON about a finished run: the last line that `gnothi run` prints.

    The headline stands under the last part of its name; in a study or a lab its arm is named too.
    """
    (name, arm), _ = headline_of(run_folder)
    headline = [e for e in run_folder.estimates() if (e.name, e.arm) == (name, arm)]
    found = {k: headline[0].to_json()[k] for k in ("value", "low", "high", "n")} if headline else {}
    if found and run_folder.spec["experiment"] != "preferences":
        found = {"arm": arm, **found}
    return json.dumps({"run": str(run_folder.path), name.rpartition(".")[2]: found})
