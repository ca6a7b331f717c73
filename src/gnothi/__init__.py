"""Gnothi: know what a fine-tune did.

    import gnothi
    run = gnothi.run("preferences", seeds=3)
    run.estimates

Names are loaded when they are first used, so that `import gnothi` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gnothi._version import __version__ as __version__

if TYPE_CHECKING:
    from gnothi.api import Run, compare, lab, load, look, replicate, run
    from gnothi.errors import DataError, GnothiError, ModelError, SpecError, StoreError, TrainingError

__all__ = [
    "DataError",
    "GnothiError",
    "ModelError",
    "Run",
    "SpecError",
    "StoreError",
    "TrainingError",
    "compare",
    "lab",
    "load",
    "look",
    "replicate",
    "run",
]

_API = ("Run", "compare", "lab", "load", "look", "replicate", "run")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'gnothi' has no attribute {name!r}")
    return getattr(importlib.import_module("gnothi.api" if name in _API else "gnothi.errors"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
