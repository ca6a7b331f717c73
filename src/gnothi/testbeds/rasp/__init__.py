"""A language for sequence programs and a compiler that writes them into a transformer.

Start at `compiler.compile_program`; programs are built with `language`, and many stand in `library`. What needs torch is
imported when it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gnothi.testbeds.rasp.components import Scales
from gnothi.testbeds.rasp.interpreter import interpret

if TYPE_CHECKING:
    from gnothi.testbeds.rasp.compiler import Compiled, compile_program

__all__ = ["Compiled", "Scales", "compile_program", "interpret"]


def __getattr__(name: str) -> Any:
    if name in ("Compiled", "compile_program"):
        return getattr(importlib.import_module("gnothi.testbeds.rasp.compiler"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
