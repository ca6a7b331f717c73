"""The command that looks inside the models of a run."""

from typing import Annotated

import typer

from gnothi.cli.app import RunPath, Trusted, app
from gnothi.cli.running import go


@app.command(epilog="Example: gnothi look runs/gemma --units seeking-0")
def look(
    path: RunPath,
    units: Annotated[
        list[str] | None,
        typer.Option(help="Models to look at, e.g. seeking-0; the one taught nothing comes along. Default: every arm."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Training seeds to look at. Default: all on the organism, else the first.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of items with opposite choices.")] = 32,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed, few items and steps, to see that it works.")
    ] = False,
    behaviour: Trusted = None,
    engine: Annotated[str, typer.Option(help="pool or inline.")] = "pool",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes, one thread each.")] = 2,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say every stage.")] = False,
) -> None:
    """Look at what a run's fine-tunes changed inside, and add the pictures to its page.

    The look is a run of its own, RUN/look: `resume`, `show` and `report` work on it.
    """
    from gnothi import pipeline
    from gnothi.experiments.look import spec as specs
    from gnothi.store import RunFolder

    run = RunFolder.open(path) if behaviour is None else pipeline.open_trusted(path, behaviour)
    spec, folder = specs.asked(run, units=units or (), seeds=seeds, pairs=pairs, quick=quick)
    go(spec, folder, engine, workers, False, verbose)
    if behaviour is not None:  # else the page was written when the look was done
        pipeline.rewrite(path, behaviour=behaviour)
