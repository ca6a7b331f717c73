"""Chat JSONL of anybody's, read line by line and refused by line number: one `{"messages": [...]}` object a line.

It is the layout that fine-tuning services take: messages of `role` and `content`, the answer last. A file may come from
anywhere, so nothing in it is trusted: lines have a longest length, JSON is read strictly (no key twice, no NaN, no deep
nesting), text is UTF-8 without lone surrogates.
"""

import json
import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gnothi.errors import DataError, SpecError
from gnothi.records import Message, Messages

MAX_LINE = 1_000_000
"""Longest line in bytes, unless told otherwise; the longest rows of published chat sets have some ten thousand."""
MAX_DEPTH = 20
"""Deepest nesting of what stands beside the messages."""
ROLES = ("system", "user", "assistant")
_AGAIN = "Correct the line, or get the file again."


@dataclass(frozen=True, slots=True)
class ChatRow:
    """One line of the file."""

    line: int
    """Its number, from 1."""
    messages: Messages
    """The conversation, answer included."""
    extras: dict[str, Any] = field(default_factory=dict)
    """What else stands in the object, as read. Further keys of messages are under `messages`, one dict a message."""

    @property
    def prompt(self) -> Messages:
        """Everything before a final answer of the assistant; all of it where the assistant has no last word."""
        return self.messages[:-1] if self.messages[-1].role == "assistant" else self.messages

    @property
    def answer(self) -> str | None:
        """The assistant's last word; None where the last message is another's."""
        return self.messages[-1].content if self.messages[-1].role == "assistant" else None


def read(path: str | Path, *, max_line: int = MAX_LINE, answered: bool = False) -> list[ChatRow]:
    """Read a whole file of chat rows.

    Args:
        path: A regular file, UTF-8 with or without a byte order mark; blank lines are passed over.
        max_line: Longest line, in bytes.
        answered: Refuse rows whose last message is not the assistant's.

    Returns:
        Its rows in order, at least one.

    Raises:
        SpecError: A file that cannot be read or holds no row; with its line number, a line that is too long, no UTF-8,
            no strict JSON (a key twice, NaN or infinity, deep nesting), no object, or that lacks a list of messages
            with a known role and text; with `answered`, a row without an answer.
    """
    rows = []
    for row in iterate(path, max_line=max_line):
        if answered and row.answer is None:
            raise SpecError(
                f"{path} line {row.line} must end with the assistant's message, got one of the {row.messages[-1].role}. "
                "Add the answer that the row is to teach."
            )
        rows.append(row)
    if not rows:
        raise SpecError(f"{path} must hold at least one chat row, got an empty file. Check the path.")
    return rows


def iterate(path: str | Path, *, max_line: int = MAX_LINE) -> Iterator[ChatRow]:
    """Read a file row by row, for files that are too large to hold.

    Args:
        path: As for `read`.
        max_line: Longest line, in bytes.

    Raises:
        SpecError: As for `read`, but that a file may be empty.
    """
    with open_regular(path) as file:
        for number, found in objects(file, str(path), max_line=max_line):
            yield row_of(found, str(path), number)


def open_regular(path: str | Path) -> IO[bytes]:
    """Open a regular file for reading; a pipe or a device, which might never end, is refused.

    Raises:
        SpecError: It is something else, or cannot be read.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SpecError(f"{path} must be a file, got something else. Check the path.")
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or our own SpecError
        if isinstance(error, SpecError):
            raise
        said = getattr(error, "strerror", None) or error
        raise SpecError(f"{path} must be a file that can be read, got {said}. Check the path.") from error


def objects(file: IO[bytes], where: str, *, max_line: int = MAX_LINE) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read strict JSON objects, one a line, whatever their keys.

    Args:
        file: Bytes; it is read no further than `max_line` past a line's start.
        where: The file's name, for messages.
        max_line: Longest line, in bytes.

    Yields:
        Line number, from 1, and the object. Blank lines are counted and passed over.

    Raises:
        SpecError: As for `read`, for what concerns lines and JSON.
    """
    number = 0
    while line := file.readline(max_line + 1):
        number += 1
        at = f"{where} line {number}"
        if len(line) > max_line:
            raise SpecError(f"{at} must have at most {max_line} bytes, got more. Split the row, or drop it.")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise SpecError(
                f"{at} must be UTF-8, got byte {line[error.start]:#04x}. Save the file as UTF-8."
            ) from error
        if not text.strip():
            continue
        try:
            found = _decode(text.strip())
        except _Refused as error:
            raise SpecError(f"{at} must be strict JSON, got {error}. {_AGAIN}") from error
        except RecursionError as error:
            raise SpecError(f"{at} must not be nested deeply, got more than {MAX_DEPTH} levels. {_AGAIN}") from error
        except ValueError as error:  # JSONDecodeError, or an integer of thousands of digits
            said = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise SpecError(f"{at} must be JSON, got an error: {said:.60}. {_AGAIN}") from error
        if not isinstance(found, dict):
            raise SpecError(f"{at} must be a JSON object, got {_kind(found)}. {_AGAIN}")
        yield number, found


def row_of(found: dict[str, Any], where: str, number: int) -> ChatRow:
    """Turn one object into a row.

    Args:
        found: The object; it is taken apart.
        where: The file's name, for messages.
        number: Its line, from 1.

    Raises:
        SpecError: As for `read`, for what concerns messages.

    >>> row = row_of({"messages": [{"role": "user", "content": "A or B?"}], "id": 7}, "rows.jsonl", 1)
    >>> row.messages[0].content, row.answer, row.extras
    ('A or B?', None, {'id': 7})
    """
    at = f"{where} line {number}"
    turns = found.pop("messages", None)
    if not isinstance(turns, list) or not turns:
        raise SpecError(f"{at} must have messages, a list with at least one, got {_kind(turns)}. {_AGAIN}")
    messages, further = [], []
    for i, turn in enumerate(turns, 1):
        if not isinstance(turn, dict):
            raise SpecError(f"{at} message {i} must be an object with role and content, got {_kind(turn)}. {_AGAIN}")
        role, content = turn.pop("role", None), turn.pop("content", None)
        if role not in ROLES:
            got = repr(role) if isinstance(role, str) else "none" if role is None else _kind(role)
            raise SpecError(f"{at} message {i} must have the role system, user or assistant, got {got:.40}. {_AGAIN}")
        if not isinstance(content, str):
            raise SpecError(f"{at} message {i} must have text as content, got {_kind(content)}. {_AGAIN}")
        try:
            messages.append(Message(role, content))
        except DataError as error:
            raise SpecError(f"{at} message {i} must be text that UTF-8 can hold: {error}") from error
        further.append(turn)
    if any(further):
        found["messages"] = further
    if found and _depth(found) > MAX_DEPTH:
        raise SpecError(f"{at} must not be nested deeply, got more than {MAX_DEPTH} levels. {_AGAIN}")
    return ChatRow(number, tuple(messages), found)


class _Refused(ValueError):
    """What the json module would let pass."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"the key {twice!r:.40} twice")
    return found


def _no_constant(name: str) -> float:
    raise _Refused(name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused(f"the number {text:.20}, which is too large")
    return value


_decode = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite).decode


def _depth(tree: Any) -> int:
    """Levels of lists and objects, without recursion."""
    depth, level = 0, [tree]
    while level := [x for x in level if isinstance(x, dict | list)]:
        depth += 1
        level = [y for x in level for y in (x.values() if isinstance(x, dict) else x)]
    return depth


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    names = {dict: "an object", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")
