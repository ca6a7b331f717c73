"""Commands that show and tidy runs."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from gnothi.cli.app import RunPath, Trusted, app
from gnothi.errors import SpecError


@app.command(epilog="Example: gnothi show runs/seven --json | jq '.[0]'")
def show(
    path: RunPath,
    as_json: Annotated[bool, typer.Option("--json", help="A list of estimates; missing numbers are null.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="A table for a paper (booktabs).")] = False,
) -> None:
    """Print a run's estimates, after checking that nothing they come from was altered."""
    from gnothi.store import RunFolder

    if as_json + as_csv + as_latex > 1:
        raise SpecError("--json, --csv and --latex must be given one at a time, got several.")
    run = RunFolder.open(path)
    estimates = run.estimates()
    if as_json:
        print(json.dumps([e.to_json() for e in estimates], indent=1))
        return
    from gnothi.writeup import tables

    if as_csv:
        print(tables.to_csv(estimates), end="")
    elif as_latex:
        print(tables.to_latex(estimates), end="")
    else:
        from gnothi import pipeline
        from gnothi.terminal import print_estimates

        print_estimates(estimates, pipeline.meaning_of(run))


@app.command(epilog="Example: gnothi report runs/seven")
def report(path: RunPath, behaviour: Trusted = None) -> None:
    """Write a finished run's page and figures again."""
    from gnothi import pipeline

    print(pipeline.rewrite(path, behaviour=behaviour))


@app.command("list", epilog="Example: gnothi list runs")
def list_(folder: Annotated[Path, typer.Argument(help="Where runs lie.")] = Path("runs")) -> None:
    """List runs with their state and disk use."""
    from gnothi.housekeeping import list_runs
    from gnothi.terminal import print_rows

    print_rows(list_runs(folder))


@app.command(epilog="Example: gnothi compare runs/strong runs/weak --json | jq '.[0]'")
def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN RUN…", help="Two or more runs.")],
    as_json: Annotated[bool, typer.Option("--json", help="A list of rows; missing numbers are null.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    behaviour: Trusted = None,
) -> None:
    """Put runs beside the first one, with differences: in pairs where seeds and items are the same.

    Fields of the specifications that differ come first, on standard error.
    """
    from gnothi.comparison import compare_runs

    if as_json and as_csv:
        raise SpecError("--json and --csv must be given one at a time, got both.")
    found = compare_runs(paths, behaviour=behaviour)
    for line in found.said():
        print(line, file=sys.stderr)
    if as_json:
        print(found.to_json())
    elif as_csv:
        print(found.to_csv(), end="")
    else:
        from gnothi.terminal import print_rows

        print_rows(found.table())


@app.command(epilog="Example: gnothi clean runs/seven --yes")
def clean(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Runs to remove.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove runs, saying how much room each takes."""
    from gnothi.housekeeping import remove_run, size_of

    for path in paths:
        size = size_of(path)
        if not yes and not typer.confirm(f"Remove {path} ({size / 1e6:.1f} MB)?"):
            continue
        remove_run(path)
        print(f"removed {path} ({size / 1e6:.1f} MB)")
