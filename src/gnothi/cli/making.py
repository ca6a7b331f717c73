"""Commands that make data and models, recompute published figures, and describe this machine."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from gnothi.cli.app import app, models_app, organism_app
from gnothi.errors import SpecError


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
    recipe: Annotated[str, typer.Option(help="wide; strong and weak train the older world.")] = "wide",
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


@models_app.command("fetch", epilog="Example: gnothi models fetch gemma-3-270m")
def models_fetch(
    name: Annotated[str, typer.Argument(help="gemma-3-270m, hf/<id>, hf/<id>@<revision> or gguf/<file>.")],
    yes: Annotated[bool, typer.Option("--yes", help="Accept the model's licence without being asked.")] = False,
) -> None:
    """Fetch or convert a model now, after showing its licence; later runs use what lies here."""
    from gnothi.models import gemma
    from gnothi.models.registry import resolve
    from gnothi.terminal import progress_bar

    if name == gemma.NAME:
        print(gemma.notice(), file=sys.stderr)
        if not yes and not gemma.accepted():
            _ask_for_licence()
        gemma.accept()
    with progress_bar("fetching") as step:
        info = resolve(name, step=step)
    if info.folder is None:
        raise SpecError(f"NAME must be a model that lies on a disk, got {name!r}. Scripts need no fetching.")
    print(json.dumps({"folder": str(info.folder), "digest": info.digest, **info.provenance}, indent=1))


def _ask_for_licence() -> None:
    if not sys.stdin.isatty():
        raise SpecError(
            "models fetch must be told that the licence is accepted, got no terminal to ask on. "
            "Read the terms named above, then add --yes."
        )
    if not typer.confirm("Do you accept these terms?", err=True):
        raise SpecError("models fetch must have the licence accepted, got no. Nothing was fetched.")
