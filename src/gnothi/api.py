"""Gnothi from Python: the same runs as on the command line, with DataFrames for results."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnothi import frame, pipeline
from gnothi.errors import SpecError, StoreError
from gnothi.files import read_table
from gnothi.store import RunFolder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Run:
    """A finished run on disk. Everything that numbers come from was checked when it was opened."""

    def __init__(self, path: str | Path, *, behaviour: str | None = None) -> None:
        """Open a run folder.

        Args:
            path: The folder.
            behaviour: Names the run's own code, if it has any; `points` and `plot` load it and refuse without.

        Raises:
            StoreError: It is missing, unfinished, or something in it was altered.
        """
        self._behaviour = behaviour
        self.folder = RunFolder.open(Path(path))
        self.record = self.folder.verify()
        self.path = self.folder.path
        self.spec = self.folder.spec
        self._experiment = pipeline.experiment(self.spec["experiment"])

    def __repr__(self) -> str:
        what = "model" if "model" in self.spec else "size"
        return (
            f"Run({str(self.path)!r}, {self.spec['experiment']}, {what}={self.spec[what]}, seeds={self.spec['seeds']})"
        )

    @property
    def estimates(self) -> "pd.DataFrame":
        """One row a (name, arm): value, low, high, n, n_points, n_missing, method, reason, against, gate."""
        return read_table(self.path / "estimates.parquet")

    @property
    def units(self) -> "pd.DataFrame":
        """One row a unit: arm, seed, fold, gate, choice agreement, A-rate, damage (`damage.…`), steps, tokens, digests."""
        return frame.units(self.folder)

    def frame(self, *, prompts: bool = False) -> "pd.DataFrame":
        """Everything asked and what came back, one row for each unit and item or question: `gnothi.frame.COLUMNS`.

        Args:
            prompts: Whether to add `messages`, each prompt as JSON text.
        """
        return frame.frame(self.folder, prompts=prompts)

    def adapter(self, unit: str) -> Path:
        """Folder of a unit's adapter, after checking that it is the one that the run's numbers rest on.

        Args:
            unit: A fine-tuned model of this run, e.g. `tuned-0`; `units` lists them.

        Raises:
            SpecError: No such unit, or one that trained nothing.
            StoreError: A file in it was altered.
        """
        known = [u for u in self.folder.units() if self._trained(u)]
        if unit not in known:
            few = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
            raise SpecError(f"unit must be one that was fine-tuned here ({few or 'none was'}), got {unit!r:.80}.")
        self.folder.read_unit(unit)
        return self.folder.unit_path(unit) / "adapter"

    def _trained(self, unit: str) -> bool:
        return any(name.startswith("adapter/") for name in self.folder.read_unit(unit, check_files=False)["files"])

    @property
    def points(self) -> "pd.DataFrame":
        """What the numbers are made of: reported, learned and target weight of each (arm, unit, agent, attribute).

        In a study every score, in a lab every table of every unit.
        """
        return self._experiment.points(pipeline.open_trusted(self.path, self._behaviour))

    @property
    def answers(self) -> "pd.DataFrame":
        """Every self-report asked for, raw, with its parsed value or the reason for none."""
        return self._tables("reports")

    @property
    def choices(self) -> "pd.DataFrame":
        """Every choice measured, with both options' log-probabilities."""
        return self._tables("choices")

    def _tables(self, name: str) -> "pd.DataFrame":
        import pandas as pd

        return pd.concat([self.folder.table(u, name).assign(unit=u) for u in self.folder.units()], ignore_index=True)

    def plot(self, name: str = "effects") -> "Figure":
        """One of the page's figures, e.g. `effects` or `scatter`; in a notebook it shows itself.

        A lab's pictures go by the names of their files in `figures/`.

        Raises:
            SpecError: No figure of that name; the message lists them.
        """
        from gnothi.writeup.figures import figure
        from gnothi.writeup.style import to_svg

        drawn = figure(self._experiment.view(pipeline.open_trusted(self.path, self._behaviour)), name)
        setattr(drawn, "_repr_svg_", lambda: to_svg(drawn))  # noqa: B010  what a notebook asks for; no backend needed
        return drawn

    @property
    def page(self) -> Path:
        """The run's page."""
        return self.path / "report.html"


def run(
    experiment: str = "preferences",
    *,
    model: str = "organism",
    out: str | Path | None = None,
    engine: str = "pool",
    workers: int = 2,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Run an experiment, or go on with it if `out` holds an unfinished run of the same specification.

    Args:
        experiment: Its name, e.g. `preferences`.
        model: As `--model` on the command line.
        out: Run folder; None makes a new one under `runs/`.
        engine: `pool` (worker processes) or `inline` (this process); no number depends on it.
        workers: Worker processes.
        progress: Whether to show how it goes on standard error.
        options: Fields of the experiment's specification: `seed`, `seeds`, `agents`, `quick`, …

    Raises:
        SpecError: An impossible specification.
        StoreError: The folder holds something else.
        GnothiError: A job failed for a reason that you can mend.
    """
    spec = pipeline.experiment(experiment).build(model, **options)
    return _run(spec, out, engine, workers, progress, options.get("behaviour"))


def lab(
    name: str,
    *,
    size: str = "tiny",
    quick: bool = False,
    out: str | Path | None = None,
    engine: str = "pool",
    workers: int = 2,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Run one of paper C's test beds, or go on with it; as `run`.

    Args:
        name: `tracr`, `pcfg` or `stories`.
        size: `tiny`, `small` or `paper`.
        quick: A small part, to see that everything works.
        out: Run folder; None makes a new one under `runs/`.
        engine: As in `run`.
        workers: As in `run`.
        progress: As in `run`.
        options: Fields of the lab's specification: `seed`, `seeds`, and its own.

    Raises:
        SpecError: An unknown lab, size or option.
        StoreError: The folder holds something else.
        GnothiError: A job failed for a reason that you can mend.
    """
    from gnothi.experiments.labs.plan import build

    return _run(build(name, size=size, quick=quick, **options), out, engine, workers, progress, None)


def look(
    run: str | Path | Run,
    *,
    units: Sequence[str] = (),
    seeds: int | None = None,
    pairs: int = 32,
    quick: bool = False,
    behaviour: str | None = None,
    engine: str = "pool",
    workers: int = 2,
    progress: bool = True,
) -> Run:
    """Look inside the fine-tuned models of a finished run, or go on with that; the run's page gets the pictures.

    Args:
        run: The run, as a folder or opened.
        units: Models to look at, e.g. `("seeking-0",)`; the one of that seed that was taught nothing comes along.
        seeds: How many training seeds; None for all on the organism, else the first. Not beside `units`.
        pairs: Pairs of items with opposite choices.
        quick: One seed, few items and steps.
        behaviour: As for `Run`, where the run has code of its own.
        engine: As in `run`.
        workers: As in `run`.
        progress: As in `run`.

    Returns:
        The look, a run of its own in the folder `look` of the run; its estimates are named `look.…`.

    Raises:
        SpecError: A run with nothing inside to look at, units that it does not have, or another look is there.
        StoreError: The run is unfinished or was altered.
        GnothiError: A job failed for a reason that you can mend.
    """
    from gnothi.experiments.look.spec import asked

    path = run.path if isinstance(run, Run) else Path(run)
    parent = RunFolder.open(path) if behaviour is None else pipeline.open_trusted(path, behaviour)
    spec, folder = asked(parent, units=units, seeds=seeds, pairs=pairs, quick=quick)
    found = _run(spec, folder, engine, workers, progress, None)
    if behaviour is not None:  # else the page was written when the look was done
        pipeline.rewrite(path, behaviour=behaviour)
    return found


def _run(
    spec: dict[str, Any], out: str | Path | None, engine: str, workers: int, progress: bool, behaviour: str | None
) -> Run:
    from gnothi.display import Display

    folder = Path(out) if out is not None else new_folder(spec["experiment"], spec)
    if progress:
        with Display(log=folder / "run.log") as display:
            _, failures = pipeline.run(
                spec, folder, engine=engine, workers=workers, report=display.report, planned=display.planned
            )
    else:
        _, failures = pipeline.run(spec, folder, engine=engine, workers=workers)
    if failures:
        raise StoreError(
            f"{len(failures)} jobs failed ({failures[0].message}). See {folder / 'run.log'}; "
            f"`gnothi resume {folder}` tries them again."
        )
    return Run(folder, behaviour=behaviour)


def load(path: str | Path, *, behaviour: str | None = None) -> Run:
    """Open a finished run; `behaviour` as for `Run`."""
    return Run(path, behaviour=behaviour)


def compare(runs: Sequence[str | Path | Run], *, behaviour: str | None = None) -> "pd.DataFrame":
    """Compare finished runs, each with the first; see `gnothi.comparison.compare_runs`.

    Args:
        runs: Two or more, as folders or opened.
        behaviour: As for `Run`, where one of them has code of its own.

    Returns:
        One row for each (name, arm) and run after the first, with the columns of `gnothi.comparison.COLUMNS`. In
        `attrs["differs"]` stand the fields of the specifications that differ, with their value in each run.

    Raises:
        SpecError: Fewer than two runs, or runs that share no estimate.
        StoreError: A run is unfinished or was altered.
    """
    import pandas as pd

    from gnothi.comparison import COLUMNS, compare_runs

    found = compare_runs([r.path if isinstance(r, Run) else r for r in runs], behaviour=behaviour)
    frame = pd.DataFrame([dict(row) for row in found.rows], columns=list(COLUMNS))
    frame.attrs["differs"] = dict(found.differs)
    return frame


def replicate(paper: str, directory: str | Path, *, inputs: str | Path | None = None, model: str | None = None) -> Any:
    """Recompute a paper's published numbers from its authors' raw files.

    See `gnothi.experiments.replicate` and `gnothi.experiments.replicate_behavioral`.

    Raises:
        SpecError: Another paper, files that cannot be used, or, for self-interpretability, no `model`.
    """
    from gnothi.experiments.replicate import check_paper, replicate_self_interpretability
    from gnothi.experiments.replicate_behavioral import PAPER, replicate_behavioral_self_awareness

    check_paper(paper)
    if paper == PAPER:
        for option, value in (("--inputs", inputs), ("--model", model)):
            if value is not None:
                raise SpecError(f"{option} must be left out for {PAPER}, got {str(value)!r:.60}. DIR alone is read.")
        return replicate_behavioral_self_awareness(Path(directory))
    if model is None:
        raise SpecError("--model must name the model whose files are read, got none. Add the prefix of the file names.")
    found = None if inputs is None else Path(inputs)
    return replicate_self_interpretability(Path(directory), inputs=found, model=model)


def new_folder(experiment: str, spec: dict[str, Any]) -> Path:
    """A folder name under `runs/` that is not taken: experiment, model or size, time."""
    model = str(spec["model"] if "model" in spec else spec["size"]).replace("/", "-").strip("-.")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    base = Path("runs") / f"{experiment}-{model}-{stamp}"
    folder, n = base, 1
    while folder.exists():
        n += 1
        folder = base.with_name(f"{base.name}-{n}")
    return folder
