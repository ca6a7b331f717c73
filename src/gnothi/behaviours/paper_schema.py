"""The two files that the paper domain is made of: choice types (JSON) and agents (one a line). Lists all that is wrong.

Knows files and records, draws nothing.
"""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any, TypeGuard

from gnothi.errors import SpecError
from gnothi.records import Attribute, ChoiceType

N_ATTRIBUTES = 5
"""Attributes of every choice type in paper B (arXiv:2505.17120, section 2)."""
SHOWN = 8
"""Problems named in one error message."""


def validate_choice_types(path: str | Path) -> list[str]:
    """List everything that is wrong with a file of choice types; an empty list means that it can be used.

    The file is a JSON list of `{"short_name", "question", "attributes": [5 x {"name", "units", "range": [low, high]}]}`:
    short names are unique, questions end with a question mark, units are not empty, ranges are finite with low < high.

    Args:
        path: The file.

    Returns:
        One line a problem, each naming the choice type that it is about.

    Raises:
        SpecError: A file that is missing, no text, or no JSON: there is nothing to list then.
    """
    return _problems(_read_json(Path(path)))


def read_choice_types(path: str | Path) -> tuple[ChoiceType, ...]:
    """Read choice types, in the file's order.

    Args:
        path: A file as `validate_choice_types` describes it.

    Raises:
        SpecError: No such file, or anything wrong in it; the first problems are named.
    """
    path = Path(path)
    rows = _read_json(path)
    if problems := _problems(rows):
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise SpecError(
            f"{path} must hold choice types with {N_ATTRIBUTES} attributes each, got {len(problems)} problems: "
            f"{'; '.join(problems[:SHOWN])}{more}. Correct these entries; docs/replicate.md shows the layout."
        )
    return tuple(
        ChoiceType(
            name=row["short_name"],
            question=row["question"],
            attributes=tuple(
                Attribute(name=a["name"], units=a["units"], low=float(a["range"][0]), high=float(a["range"][1]))
                for a in row["attributes"]
            ),
        )
        for row in rows
    )


def read_agents(path: str | Path) -> tuple[str, ...]:
    """Read agents, one a line; blank lines are left out, repeated agents and a heading are not.

    A file whose name ends in `.csv` may quote a name, as the paper's own file does. That file begins with the word
    `role`, which took part in the paper's shuffle and therefore counts as an agent.

    Args:
        path: The file, UTF-8.

    Raises:
        SpecError: No such file, no text, no agent, or a `.csv` line with more than one column.
    """
    path = Path(path)
    text = _read_text(path)
    if path.suffix == ".csv":
        agents = []
        try:
            for row in csv.reader(io.StringIO(text, newline=""), strict=True):
                if len(row) > 1:
                    raise SpecError(
                        f"{path} must hold one agent a line, got {len(row)} columns in {','.join(row)!r:.80}. "
                        "Quote a name that has a comma in it."
                    )
                agents += row
        except csv.Error as error:
            raise SpecError(f"{path} must be CSV, got {error}. Look for a quotation mark without its twin.") from error
    else:
        agents = text.splitlines()
    agents = tuple(a.strip() for a in agents if a.strip())
    if not agents:
        raise SpecError(f"{path} must hold at least one agent, got none. Write one a line.")
    return agents


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} must be UTF-8 text, got {error.reason}. Save it as UTF-8.") from error
    except OSError as error:
        raise SpecError(f"{path} must be a file that can be read, got {error.strerror}. Check the path.") from error


def _read_json(path: Path) -> Any:
    text = _read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path} must be JSON, got {error!s:.120}. Check it with any JSON tool.") from error


def _problems(rows: Any) -> list[str]:
    """What is wrong with a parsed file."""
    if not isinstance(rows, list) or not rows:
        return [f"the file must be a list of choice types, got {'nothing' if rows == [] else type(rows).__name__}"]
    found: list[str] = []
    first: dict[str, int] = {}
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            found.append(f"entry {i} must be an object, got {type(row).__name__}")
            continue
        name = row.get("short_name")
        label = repr(name) if _text(name) else f"entry {i}"
        if not _text(name):
            found.append(f"{label} must have a short_name, got {name!r:.40}")
        elif name in first:
            found.append(f"{label} must be named once, got it in entries {first[name]} and {i}")
        else:
            first[name] = i
        question = row.get("question")
        if not (_text(question) and question.endswith("?")):
            found.append(f"{label} must have a question that ends with '?', got {question!r:.60}")
        found += _attribute_problems(label, row.get("attributes"))
    return found


def _attribute_problems(label: str, attributes: Any) -> list[str]:
    if not isinstance(attributes, list):
        return [f"{label} must have a list of attributes, got {type(attributes).__name__}"]
    found = []
    if len(attributes) != N_ATTRIBUTES:
        found.append(f"{label} must have exactly {N_ATTRIBUTES} attributes, got {len(attributes)}")
    names = []
    for j, attribute in enumerate(attributes):
        if not isinstance(attribute, dict):
            found.append(f"{label}: attribute {j} must be an object, got {type(attribute).__name__}")
            continue
        name = attribute.get("name")
        where = f"{label}: attribute {name!r}" if _text(name) else f"{label}: attribute {j}"
        if not _text(name):
            found.append(f"{where} must have a name, got {name!r:.40}")
        elif name in names:
            found.append(f"{where} must be named once, got it twice")
        names.append(name)
        if not _text(attribute.get("units")):
            found.append(f"{where} must have units, got {attribute.get('units')!r:.40}")
        ends = attribute.get("range")
        if not (isinstance(ends, list) and len(ends) == 2 and all(map(_number, ends)) and ends[0] < ends[1]):
            found.append(f"{where} must have a range of finite low < high, got {ends!r:.60}")
    return found


def _text(value: Any) -> TypeGuard[str]:
    """Whether it is text with something in it, on one line."""
    return isinstance(value, str) and bool(value.strip()) and "\n" not in value


def _number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
