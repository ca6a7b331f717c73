"""The command line's applications and what several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from gnothi._version import __version__

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
