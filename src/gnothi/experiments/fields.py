"""Fields of a specification: checked as a whole, with one line for everything that is wrong."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gnothi.errors import SpecError

Spec = TypeVar("Spec", bound=BaseModel)


def parsed(kind: type[Spec], values: Mapping[str, Any]) -> Spec:
    """Check a stored or hand-written specification.

    Raises:
        SpecError: With every field that is wrong.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        problems = "; ".join(_problem(kind, e) for e in error.errors())
        raise SpecError(f"spec must be possible, got {problems}. See docs/runs.md for the fields.") from error


def _problem(kind: type[BaseModel], error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if not where:  # about several fields; the message names them
        return error["msg"].removeprefix("Value error, ").rstrip(".")
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']}, got {error['input']!r:.60}"
    near = get_close_matches(where, kind.model_fields, n=1)
    return f"{where}: no such field" + (f" (did you mean {near[0]}?)" if near else "")
