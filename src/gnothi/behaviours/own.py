"""Behaviours of one's own: code named on the command line, tied to its run by a digest of its file."""

import hashlib
import importlib
import importlib.abc
import importlib.util
import sys
from pathlib import Path

from gnothi.errors import SpecError

_HOW = "Put a subclass of AbstractBehaviour into a file and name it as file.py:Class."


def split(path: str) -> tuple[str, str]:
    """Take `module:Class` or `file.py:Class` apart.

    Raises:
        SpecError: It is neither.

    >>> split("mine.py:Greedy")
    ('mine.py', 'Greedy')
    """
    where, _, name = path.partition(":")
    if not where or not name.isidentifier():
        raise SpecError(f"--behaviour must be preferences, module:Class or file.py:Class, got {path!r}. {_HOW}")
    return where, name


def source_of(path: str) -> Path:
    """The file that holds the class; of a module, its packages are imported to find it.

    Raises:
        SpecError: There is no such file or module.
    """
    where, _ = split(path)
    if where.endswith(".py"):
        found = Path(where)
    else:
        try:
            spec = importlib.util.find_spec(where)
        except Exception as error:  # whatever somebody else's package raises
            raise _unusable(path, error) from error
        if spec is None or not spec.has_location or spec.origin is None:
            raise SpecError(f"--behaviour must name a module that can be imported, got {where!r}. {_HOW}")
        found = Path(spec.origin)
    if not found.is_file():
        raise SpecError(f"--behaviour must name a file that exists, got {where}. {_HOW}")
    return found


def source_digest(path: str) -> str | None:
    """sha256 of the file that holds the class; None for `preferences`, which is ours.

    Raises:
        SpecError: There is no such file or module.
    """
    return None if path == "preferences" else hashlib.sha256(_read(path)).hexdigest()


def load_class(path: str, *, digest: str | None = None) -> type:
    """Import the class. It runs the file's code on this machine, as the user who calls.

    Args:
        path: `module:Class` or `file.py:Class`.
        digest: What the file's sha256 must be; None takes any.

    Raises:
        SpecError: Nothing of that name, code that fails, or a file that was edited since.
    """
    where, name = split(path)
    source = _read(path)
    if digest is not None and hashlib.sha256(source).hexdigest() != digest:
        raise SpecError(
            f"--behaviour {path} must be as it was when the run was started, got a file edited since. "
            "Put the old one back, or start a new run."
        )
    try:
        if where.endswith(".py"):
            loader = _Checked(str(Path(where).resolve()), source)
            spec = importlib.util.spec_from_loader(f"gnothi_own_{Path(where).stem}", loader)
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            loader.exec_module(module)
        else:
            module = importlib.import_module(where)
        return getattr(module, name)
    except Exception as error:
        raise _unusable(path, error) from error


class _Checked(importlib.abc.SourceLoader):
    """Loads the very bytes that were checked, whatever the file holds by now; no compiled copy is kept."""

    def __init__(self, filename: str, source: bytes) -> None:
        self.filename, self.source = filename, source

    def get_filename(self, fullname: str) -> str:  # for tracebacks
        return self.filename

    def get_data(self, path: str | bytes) -> bytes:
        return self.source


def _read(path: str) -> bytes:
    source = source_of(path)
    try:
        return source.read_bytes()
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: str, error: Exception) -> SpecError:
    said = " ".join(str(error).split())
    return SpecError(f"--behaviour must be code that loads, got {path!r} ({type(error).__name__}: {said}). Mend it.")
