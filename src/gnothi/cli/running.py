"""Commands that run experiments."""

import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gnothi.cli.app import RunPath, Trusted, app
from gnothi.cli.spec_file import read_spec
from gnothi.errors import SpecError
from gnothi.experiments.labs import LABS


@app.command(epilog="Example: gnothi run preferences --seed 7 --seeds 5 --out runs/seven")
def run(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT|FILE.yaml", help="`preferences`, `risk`, …, or a YAML file.")
    ],
    model: Annotated[str | None, typer.Option(help="organism, gemma-3-270m, hf/<folder or id>, gguf/<file>, …")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Decides every random draw. Default 0.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Fine-tuned models, each with its own weight table. Default 4; 3 for hf/.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One small model, to see that it works.")] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: a new one under runs/.")] = None,
    recipe: Annotated[str | None, typer.Option(help="How choices are instilled, e.g. organism-full.")] = None,
    behaviour: Annotated[str | None, typer.Option(help="One's own: module:Class or file.py:Class.")] = None,
    no_semantics: Annotated[
        bool, typer.Option("--no-semantics", help="Nonsense names for items and attributes.")
    ] = False,
    crossed_agents: Annotated[
        bool, typer.Option("--crossed-agents", help="Two agents an item, two items an agent, reworded reports.")
    ] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any field of the spec, e.g. agents=24.")] = None,
    questions: Annotated[Path | None, typer.Option(help="YAML file of one's own questions.")] = None,
    train_sizes: Annotated[str | None, typer.Option(help="Further arms of ROWSxEPOCHS, e.g. 128x3,32x1.")] = None,
    adapter: Annotated[list[Path] | None, typer.Option(help="A fine-tune that exists: asked, not trained.")] = None,
    judge: Annotated[str | None, typer.Option(help="Model that reads answers in text, e.g. hf/<folder>.")] = None,
    engine: Annotated[str, typer.Option(help="pool or inline.")] = "pool",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes, one thread each.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print spec, jobs and units; do nothing.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a unit was not instilled or is damaged.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say every stage.")] = False,
) -> None:
    """Run one experiment with all its arms and controls, and write its page."""
    from gnothi import api, pipeline

    options: dict[str, Any] = {"seed": seed, "seeds": seeds, "recipe": recipe, "behaviour": behaviour}
    options |= {"quick": quick, "no_semantics": no_semantics or None, "crossed_agents": crossed_agents or None}
    options |= {"train_sizes": train_sizes, "judge": judge}
    options |= {"questions": None if questions is None else str(questions)}
    options |= {"adapters": None if adapter is None else [str(a) for a in adapter]}
    options |= assignments(set_ or [])
    if experiment.endswith((".yaml", ".yml")):
        name, from_file = read_spec(Path(experiment))
        options = from_file | {k: v for k, v in options.items() if v is not None}
        options["quick"] = quick or from_file.get("quick", False)
        experiment = name
    if options.pop("experiment", experiment) != experiment:
        raise SpecError(f"--set experiment must be left out, got one beside {experiment}. Name it as the argument.")
    from_options = options.pop("model", None)
    model = model if model is not None else "organism" if from_options is None else from_options
    if not isinstance(model, str) or not isinstance(options["quick"], bool):
        raise SpecError(
            f"model must be a name and quick true or false, got {model!r} and {options['quick']!r}. Mend the field."
        )
    if experiment in LABS:
        raise SpecError(
            f"EXPERIMENT must be one that `gnothi run` takes, got the lab {experiment}. Start it with `gnothi lab {experiment}`."
        )
    it = pipeline.experiment(experiment)
    if experiment == "preferences":
        _refuse_study_options(options)
    _make_ready(model)
    spec = it.build(model, **options)
    if dry_run:
        plan = pipeline.plan_of(spec)
        print(json.dumps({"spec": spec, "jobs": {job.name: sorted(units) for job, units in plan}}, indent=1))
        return
    go(spec, out if out is not None else api.new_folder(experiment, spec), engine, workers, strict, verbose)


@app.command(epilog="Example: gnothi resume runs/seven")
def resume(
    path: RunPath,
    behaviour: Trusted = None,
    engine: Annotated[str, typer.Option(help="pool or inline.")] = "pool",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes, one thread each.")] = 2,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a unit was not instilled or is damaged.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say every stage.")] = False,
) -> None:
    """Go on with a run that was stopped; whole units are not made again."""
    from gnothi import pipeline

    go(pipeline.checked_spec(path, behaviour=behaviour), path, engine, workers, strict, verbose)


def _make_ready(model: str) -> None:
    """Convert a model that is not yet, with a bar: it takes minutes once, and nothing afterwards."""
    from gnothi.models import gemma
    from gnothi.models.sources import find
    from gnothi.terminal import progress_bar

    if not (model == gemma.NAME or model.startswith("gguf/")) or not model.isprintable():
        return
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def step(done: int, total: int, text: str) -> None:
            if not bars:
                bars.append(stack.enter_context(progress_bar(model)))
            bars[0](done, total, text)

        find(model, step=step)


def _refuse_study_options(options: dict[str, Any]) -> None:
    """Take out of the options of `preferences` what only studies have, and refuse any that was given."""
    for name in ("questions", "train_sizes", "adapters", "judge"):
        if options.pop(name, None) is not None:
            flag = "--" + name.replace("_", "-").replace("adapters", "adapter")
            raise SpecError(f"{flag} must go with an experiment that has it, got preferences. Leave it out.")


def go(spec: dict[str, Any], folder: Path, engine: str, workers: int, strict: bool, verbose: bool) -> None:
    """Run a specification with its bars, and say how it ended."""
    from gnothi import pipeline
    from gnothi.display import Display
    from gnothi.records import NOT_INTERPRETED
    from gnothi.terminal import print_headline

    if verbose:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    with Display(verbose=verbose, log=folder / "run.log") as display:
        run_folder, failures = pipeline.run(
            spec, folder, engine=engine, workers=workers, report=display.report, planned=display.planned
        )
    for failure in failures:
        print(f"gnothi: {failure.job} failed: {failure.message}", file=sys.stderr)
    estimates = run_folder.estimates()
    words = {"control": "control"} if spec["experiment"] in LABS else {}
    print_headline(estimates, *pipeline.headline_of(run_folder), **words)
    print(f"page: {folder / 'report.html'}", file=sys.stderr)
    print(pipeline.summary_line(run_folder))
    if failures:
        print(f"gnothi: {len(failures)} jobs failed, see {folder / 'run.log'}; resume tries again", file=sys.stderr)
    if failures or (strict and any(e.gate in NOT_INTERPRETED for e in estimates)):
        sys.exit(1)


def assignments(pairs: list[str]) -> dict[str, Any]:
    """What `--set field=value` says, values read as YAML."""
    import yaml

    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise SpecError(f"--set must be field=value, got {pair!r}. For example --set agents=24.")
        try:
            found[name] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise SpecError(
                f"--set {name} must have a plain value, got {value!r:.60}. For example --set agents=24."
            ) from error
    return found
