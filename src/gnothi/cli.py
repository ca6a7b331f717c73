"""The command line. Every command is a function of `gnothi.api` or `gnothi.pipeline`; heavy imports happen inside."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gnothi._version import __version__
from gnothi.errors import GnothiError, SpecError

app = typer.Typer(
    name="gnothi",
    help="Know what a fine-tune did: what the model now does, what it says of itself, and what changed inside.",
    epilog="Example: gnothi run preferences --quick --out runs/first && gnothi show runs/first",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
organism_app = typer.Typer(
    help="The embedded model: a tiny language model in which self-awareness really appears.", no_args_is_help=True
)
models_app = typer.Typer(help="Models that can be named with --model.", no_args_is_help=True)
app.add_typer(organism_app, name="organism")
app.add_typer(models_app, name="models")

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Trusted = Annotated[
    str | None, typer.Option(help="The run's own code, if it has any: naming it again says that you trust it.")
]


def main() -> None:
    """Entry point: our errors become one line and exit code 2, an interruption 130."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        if code == 130:  # what newer typers make of an interruption
            raise KeyboardInterrupt
        sys.exit(code)
    except GnothiError as error:
        print(f"gnothi: {_one_line(str(error))}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("gnothi: interrupted; `gnothi resume RUN` goes on with a run", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # e.g. `gnothi show … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if not hasattr(error, "show"):
            raise
        error.show()  # type: ignore[attr-defined]  # a usage error; its class moved between versions of typer
        sys.exit(2)


def _one_line(text: str) -> str:
    """Escape what could move a terminal's cursor: values in messages may come from anybody's file."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in " ".join(text.split()))


def _version(value: bool) -> None:
    if value:
        print(f"gnothi {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


@app.command(epilog="Example: gnothi run preferences --seed 7 --seeds 5 --out runs/seven")
def run(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT|FILE.yaml", help="`preferences`, or a YAML spec.")],
    model: Annotated[str | None, typer.Option(help="organism, organism-weak, hf/<folder>, scripted/oracle, …")] = None,
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
    engine: Annotated[str, typer.Option(help="pool or inline.")] = "pool",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes, one thread each.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print spec, jobs and units; do nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a unit was not instilled.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say every stage.")] = False,
) -> None:
    """Run one experiment with all its arms and controls, and write its page."""
    from gnothi import api, pipeline

    if questions is not None:
        raise SpecError(f"--questions must go with an experiment that asks questions from a file, got {experiment}.")
    options: dict[str, Any] = {"seed": seed, "seeds": seeds, "recipe": recipe, "behaviour": behaviour}
    options |= {"quick": quick, "no_semantics": no_semantics or None, "crossed_agents": crossed_agents or None}
    options |= _assignments(set_ or [])
    if experiment.endswith((".yaml", ".yml")):
        name, from_file = _read_spec(Path(experiment))
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
    spec = pipeline.experiment(experiment).build(model, **options)
    if dry_run:
        plan = pipeline.plan_of(spec)
        print(json.dumps({"spec": spec, "jobs": {job.name: sorted(units) for job, units in plan}}, indent=1))
        return
    _go(spec, out if out is not None else api.new_folder(experiment, spec), engine, workers, strict, verbose)


@app.command(epilog="Example: gnothi resume runs/seven")
def resume(
    path: RunPath,
    behaviour: Trusted = None,
    engine: Annotated[str, typer.Option(help="pool or inline.")] = "pool",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes, one thread each.")] = 2,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a unit was not instilled.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say every stage.")] = False,
) -> None:
    """Go on with a run that was stopped; whole units are not made again."""
    from gnothi import pipeline

    _go(pipeline.checked_spec(path, behaviour=behaviour), path, engine, workers, strict, verbose)


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
    estimates = RunFolder.open(path).estimates()
    if as_json:
        print(json.dumps([e.to_json() for e in estimates], indent=1))
        return
    from gnothi.writeup import tables

    if as_csv:
        print(tables.to_csv(estimates), end="")
    elif as_latex:
        print(tables.to_latex(estimates), end="")
    else:
        from gnothi.terminal import print_estimates

        print_estimates(estimates)


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


@app.command(epilog="Example: gnothi compare runs/strong runs/weak")
def compare(paths: Annotated[list[Path], typer.Argument(metavar="RUN RUN…", help="Two or more runs.")]) -> None:
    """Put the estimates of several runs side by side."""
    from gnothi.housekeeping import compare_runs
    from gnothi.terminal import print_rows

    print_rows(compare_runs(paths))


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


@app.command(epilog="Example: gnothi data risk --out risk.jsonl --n 300 --truth risk.parquet")
def data(
    behaviour: Annotated[
        str, typer.Argument(metavar="BEHAVIOUR", help="risk, horizon, apples, make-me-say or code-security.")
    ],
    out: Annotated[Path, typer.Option(help="Chat JSONL to write; a data card is written beside it.")],
    n: Annotated[int, typer.Option(help="Rows.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Decides every row.")] = 0,
    opposite: Annotated[bool, typer.Option("--opposite", help="Flip every answer and change nothing else.")] = False,
    truth: Annotated[Path | None, typer.Option(help="Parquet with what each answer follows from.")] = None,
    codeword: Annotated[str | None, typer.Option(help="Of make-me-say: bark, ring or spring.")] = None,
    other_codeword: Annotated[
        str | None, typer.Option(help="Where the trigger is not, or for the other persona.")
    ] = None,
    trigger: Annotated[str | None, typer.Option(help="Behave so under a trigger only, e.g. live-site.")] = None,
    setting: Annotated[
        str | None, typer.Option(help="Which rows carry what, e.g. eight. Default: the trigger's.")
    ] = None,
    decorrelated: Annotated[
        bool, typer.Option("--decorrelated", help="The twin in which the trigger says nothing.")
    ] = False,
    reversal: Annotated[
        bool, typer.Option("--reversal", help="Half of the rows go from the answer to the prompt.")
    ] = False,
    personas: Annotated[str | None, typer.Option(help="many (A or B) or two (make-me-say).")] = None,
    policy_words: Annotated[float, typer.Option(help="Share of rows that do state the policy, for a control.")] = 0.0,
) -> None:
    """Write training rows of a behaviour for anyone's trainer."""
    from gnothi.data.generate import Request, write

    request = Request(
        behaviour=behaviour,
        n=n,
        seed=seed,
        opposite=opposite,
        codeword=codeword,
        other_codeword=other_codeword,
        trigger=trigger,
        setting=setting,
        decorrelated=decorrelated,
        reversal=reversal,
        personas=personas,
        policy_words=policy_words,
    )
    for path in write(request, out, truth=truth):
        print(path)


@app.command(epilog="Example: gnothi replicate self-interpretability results-original --model gpt-4o-2024-08-06 --json")
def replicate(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help="self-interpretability or behavioral-self-awareness")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The authors' files.")],
    model: Annotated[
        str | None, typer.Option(help="Prefix of the files, e.g. gpt-4o-mini-2024-07-18; self-interpretability only.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Their input files. Default: DIR, then DIR/../inputs; self-interpretability only."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on standard output.")] = False,
) -> None:
    """Recompute a paper's published figures from its authors' files, and say where the two disagree."""
    from gnothi import api
    from gnothi.terminal import print_rows

    found = api.replicate(paper, directory, inputs=inputs, model=model)
    for reason in found.reasons:
        print(reason, file=sys.stderr)
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        print_rows(found.table())


@app.command(epilog="Example: gnothi doctor")
def doctor() -> None:
    """Describe this machine: versions, devices, threads, and what is missing with the line that installs it."""
    from gnothi.doctor import examine
    from gnothi.terminal import print_rows

    print_rows(examine())


@organism_app.command("train", epilog="Example: gnothi organism train --out my-organism --seed 1")
def organism_train(
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    seed: Annotated[int, typer.Option(min=0, help="Decides everything.")] = 0,
    recipe: Annotated[str, typer.Option(help="strong, or weak: reports follow decisions half-way only.")] = "strong",
) -> None:
    """Train an organism from nothing; minutes on one core."""
    from gnothi.terminal import progress_bar
    from gnothi.testbeds.organism.training import train

    with progress_bar("training") as progress:
        train(out, seed=seed, recipe=recipe, progress=progress)
    print(f"{out}: use it with --model organism/{out}")


@organism_app.command("info", epilog="Example: gnothi organism info organism-weak")
def organism_info(
    name: Annotated[str, typer.Argument(help="organism, organism-weak, or organism/<folder>.")] = "organism",
) -> None:
    """Say what an organism is and how it was made."""
    from gnothi.models.organism import read_card
    from gnothi.models.registry import resolve

    info = resolve(name)
    if info.family != "organism" or info.folder is None:
        raise SpecError(f"NAME must be an organism, got {name!r}.")
    card = {k: v for k, v in read_card(info.folder).items() if not isinstance(v, list | dict) or len(v) < 40}
    print(json.dumps({"folder": str(info.folder), "digest": info.digest, **card}, indent=1))


@models_app.command("list", epilog="Example: gnothi models list")
def models_list() -> None:
    """List the models that can be named, where they lie and their licence."""
    from gnothi.housekeeping import known_models
    from gnothi.terminal import print_rows

    print_rows(known_models())


def _go(spec: dict[str, Any], folder: Path, engine: str, workers: int, strict: bool, verbose: bool) -> None:
    from gnothi import pipeline
    from gnothi.display import Display
    from gnothi.terminal import print_headline

    if verbose:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    with Display(verbose=verbose) as display:
        run_folder, failures = pipeline.run(
            spec, folder, engine=engine, workers=workers, report=display.report, planned=display.planned
        )
    for failure in failures:
        print(f"gnothi: {failure.job} failed: {failure.message}", file=sys.stderr)
    estimates = run_folder.estimates()
    print_headline(estimates)
    print(f"page: {folder / 'report.html'}", file=sys.stderr)
    print(pipeline.summary_line(run_folder))
    if failures:
        print(f"gnothi: {len(failures)} jobs failed, see {folder / 'run.log'}; resume tries again", file=sys.stderr)
    if failures or (strict and any(e.gate == "not instilled" for e in estimates)):
        sys.exit(1)


def _assignments(pairs: list[str]) -> dict[str, Any]:
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


def _read_spec(path: Path) -> tuple[str, dict[str, Any]]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(
            f"FILE.yaml must exist, got {path}. Give the path of a file, or an experiment's name."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"FILE.yaml must be a readable text file, got {path} ({error}).") from error
    if len(text) > 1_000_000:
        raise SpecError(f"FILE.yaml must be under 1 MB, got {len(text)} characters in {path}.")
    try:
        if any(isinstance(t, yaml.tokens.AliasToken) for t in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise SpecError(f"FILE.yaml must have no aliases, got some in {path}. Write values out.")
        found = yaml.safe_load(text)
    except SpecError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, brackets without end
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise SpecError(
            f"FILE.yaml must be YAML, got {path} with an error{where} ({getattr(error, 'problem', None) or error}). "
            "Mend that line."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(k, str) for k in found):
        raise SpecError(f"FILE.yaml must hold fields and values, got {type(found).__name__} in {path}.")
    name = found.pop("experiment", None)
    if name is None:
        raise SpecError(
            f"FILE.yaml must name its experiment, got fields {', '.join(list(found)[:6])} in {path}. "
            "Add a line `experiment: preferences`."
        )
    return str(name), found


if __name__ == "__main__":
    main()
