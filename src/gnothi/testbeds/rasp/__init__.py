"""A language for sequence programs and a compiler that writes them into a transformer.

Start at `compiler.compile_program`; programs are built with `language`, and many stand in `library`.
"""

from gnothi.testbeds.rasp.compiler import Compiled, compile_program
from gnothi.testbeds.rasp.components import Scales
from gnothi.testbeds.rasp.interpreter import interpret

__all__ = ["Compiled", "Scales", "compile_program", "interpret"]
