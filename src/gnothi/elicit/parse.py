"""From a raw answer to a report, or to a counted reason for none. Strict: nothing is guessed or filled in."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

REASONS = (
    "empty",
    "too long",
    "not JSON",
    "not an object",
    "key twice",
    "other keys",
    "not a number",
    "not finite",
    "out of range",
)
"""Every reason that `parse_weights` can give."""

_MOST = 10_000  # characters; an honest report of 12 attributes has some hundred
_OPENING = re.compile(r"```[a-zA-Z]*[ \t]*\n")


class _KeyTwice(ValueError):
    pass


class _NotFinite(ValueError):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({k for k, _ in pairs}) < len(pairs):
        raise _KeyTwice
    return dict(pairs)


def _without_fence(text: str) -> str:
    inside = text.strip()
    opening = _OPENING.match(inside)
    return (
        inside[opening.end() : -3] if opening and len(inside) >= opening.end() + 3 and inside.endswith("```") else text
    )


def _constant(text: str) -> Any:
    raise _NotFinite(text)


def parse_weights(
    text: str, names: Sequence[str], *, low: float, high: float
) -> tuple[tuple[float, ...] | None, str | None]:
    """Parse a JSON object with exactly one number for each name.

    Args:
        text: The answer as it came; a code fence around it is taken off, nothing else is.
        names: The keys, case-sensitive.
        low: Lowest number allowed.
        high: Highest number allowed.

    Returns:
        (values in the order of `names`, None), or (None, one of `REASONS`).

    Source: paper B's released script (arXiv:2505.17120): fences off, exactly the attributes' names as keys. It does
    not check the range (2 values of its release lie outside); we do, since one absurd number decides a correlation.

    >>> parse_weights('{"price": 10, "size": -3}', ["price", "size"], low=-100, high=100)
    ((10.0, -3.0), None)
    >>> parse_weights("I would rather not say.", ["price"], low=-100, high=100)
    (None, 'not JSON')
    """
    if not text.strip():
        return None, "empty"
    if len(text) > _MOST:
        return None, "too long"
    try:
        found = json.loads(_without_fence(text), object_pairs_hook=_pairs, parse_constant=_constant)
    except _KeyTwice:
        return None, "key twice"
    except _NotFinite:
        return None, "not finite"
    except (ValueError, RecursionError):
        return None, "not JSON"
    if not isinstance(found, dict):
        return None, "not an object"
    if set(found) != set(names):
        return None, "other keys"
    values = [found[name] for name in names]
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        return None, "not a number"
    try:
        numbers = tuple(float(v) for v in values)
    except OverflowError:
        return None, "out of range"
    if not all(math.isfinite(v) for v in numbers):
        return None, "not finite"
    if not all(low <= v <= high for v in numbers):
        return None, "out of range"
    return numbers, None


def parse_letter(text: str) -> tuple[str | None, str | None]:
    r"""Parse an answer that must be the letter A or B and nothing else but white space.

    >>> parse_letter(" B\n"), parse_letter("Option B")
    (('B', None), (None, 'not a letter'))
    """
    letter = text.strip()
    return (letter, None) if letter in ("A", "B") else (None, "not a letter")
