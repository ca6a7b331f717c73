"""The command of the labs: paper C's test beds."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gnothi.cli.app import app
from gnothi.cli.running import assignments, go


@app.command(epilog="Example: gnothi lab tracr --quick --out runs/tracr && gnothi show runs/tracr")
def lab(
    name: Annotated[
        str, typer.Argument(metavar="LAB|list", help="tracr, pcfg or stories; list says what each shows and costs.")
    ],
    size: Annotated[str, typer.Option(help="tiny (minutes on a CPU), small or paper (a GPU).")] = "tiny",
    quick: Annotated[bool, typer.Option("--quick", help="A small part, to see that it works.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Decides every random draw. Default 0.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Models of each arm. Default: the size's.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any field of the lab's specification.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: a new one under runs/.")] = None,
    engine: Annotated[str, typer.Option(help="pool or inline.")] = "pool",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes, one thread each.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print spec, jobs and units; do nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a gate was not met.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say every stage.")] = False,
) -> None:
    """Run one of paper C's test beds: what fine-tuning changes inside, where the truth is known."""
    if name == "list":
        _list()
        return
    from gnothi import api, pipeline
    from gnothi.experiments.labs.plan import build

    options: dict[str, Any] = assignments(set_ or [])
    options |= {k: v for k, v in (("seed", seed), ("seeds", seeds)) if v is not None}
    spec = build(name, **{"size": size, "quick": quick, **options})
    if dry_run:
        plan = pipeline.plan_of(spec)
        print(json.dumps({"spec": spec, "jobs": {job.name: sorted(units) for job, units in plan}}, indent=1))
        return
    go(spec, out if out is not None else api.new_folder(f"lab-{name}", spec), engine, workers, strict, verbose)


def _list() -> None:
    """Each lab with what it shows, and below it what it costs by size."""
    from gnothi.experiments.labs import LABS
    from gnothi.experiments.labs.plan import lab_class
    from gnothi.terminal import print_rows

    rows = []
    for name in LABS:
        kind = lab_class(name)
        for i, (size, cost) in enumerate(kind.costs.items()):
            command = f"gnothi lab {name} --quick" if size == "quick" else f"gnothi lab {name} --size {size}"
            rows.append({"lab": name, "command": command, "cost": cost, "shows": "" if i else kind.summary})
    print_rows(rows)
