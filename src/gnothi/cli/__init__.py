"""The command line. Every command is a function of `gnothi.api` or `gnothi.pipeline`; heavy imports happen inside."""

import os
import sys

import typer

# commands are listed in the order of these imports
from gnothi.cli import running, labs, looking, reading, making  # isort: skip
from gnothi.cli.app import app
from gnothi.errors import GnothiError

__all__ = ["app", "labs", "looking", "main", "making", "reading", "running"]


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
