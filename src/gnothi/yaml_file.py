"""YAML that others wrote, read safely: values with the line that each stands in, and one kind of error.

A file is data: no tags, no anchors or aliases (where they aren't asked for), no key twice, bounded in size, depth and
number of values. Plain scalars mean what YAML 1.2's core schema says: `true`, `false`, `null`, `~`, integers and
decimals; everything else is text, so that a list of words may hold `no`, `on` or `yes`.
"""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from gnothi.errors import SpecError

MOST_BYTES = 2_000_000
"""Larger files are refused."""
MOST_DEPTH = 24
"""Deeper nesting is refused."""
MOST_VALUES = 200_000
"""More values, aliases written out, are refused."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,17}\.[0-9]{0,17}|\.[0-9]{1,17})(?:[eE][-+]?[0-9]{1,3})?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f]")  # tab, line feed and next line are text
_CORE_TAGS = {"tag:yaml.org,2002:str"}

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A value of a file."""

    value: "Scalar | dict[str, Entry] | list[Entry]"
    line: int
    """Where it begins, from 1."""
    size: int = 1
    """Values in it, itself included."""

    def plain(self) -> object:
        """The value as ordinary lists and dicts."""
        if isinstance(self.value, dict):
            return {k: v.plain() for k, v in self.value.items()}
        if isinstance(self.value, list):
            return [v.plain() for v in self.value]
        return self.value

    def shown(self) -> str:
        """The value for a message, cut short."""
        if isinstance(self.value, dict):
            return f"a mapping with {', '.join(map(repr, list(self.value)[:4])) or 'nothing in it'}"[:80]
        if isinstance(self.value, list):
            return f"a list of {len(self.value)}"
        return "nothing" if self.value is None else f"{self.value!r:.60}"


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is being read, for the beginning of its messages."""

    name: str

    def error(self, line: int | None, field: str, rule: str, got: str, fix: str) -> SpecError:
        """The one form of all messages about a file."""
        where = f"{self.name}, line {line}" if line else self.name
        return SpecError(f"{where}: {field} must {rule}, got {got}. {fix}")

    def fields(self, entry: Entry, field: str, known: Iterable[str], required: Iterable[str] = ()) -> dict[str, Entry]:
        """A mapping's fields, none of them unknown, none of the required ones missing.

        Raises:
            SpecError: Something else, with the likeliest name where one is misspelt.
        """
        known = tuple(known)
        if not isinstance(entry.value, dict):
            raise self.error(entry.line, field, "be fields and values", entry.shown(), f"Fields: {', '.join(known)}.")
        for name, value in entry.value.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                fix = f"Did you mean {near[0]}?" if near else f"Fields: {', '.join(known)}."
                raise self.error(value.line, field, "have known fields only", f"{name!r:.60}", fix)
        for name in required:
            if name not in entry.value or entry.value[name].value is None:
                raise self.error(entry.line, field, f"have {name}", "none", f"Add `{name}:` to it.")
        return entry.value

    def text(self, entry: Entry, field: str, *, most: int = 20_000, empty: bool = False) -> str:
        """A value that must be text."""
        if not isinstance(entry.value, str) or not (empty or entry.value.strip()) or len(entry.value) > most:
            got = f"{len(entry.value)} characters" if isinstance(entry.value, str) else entry.shown()
            fix = 'Put it in "quotes" if it is a word.' if isinstance(entry.value, bool | int | float) else "Write it."
            raise self.error(entry.line, field, f"be text of 1 to {most} characters", got, fix)
        return entry.value

    def texts(self, entry: Entry, field: str, *, most: int = 2_000) -> list[str]:
        """A value that must be a list of texts, at least one."""
        if not isinstance(entry.value, list) or not 1 <= len(entry.value) <= most:
            raise self.error(
                entry.line, field, f"be a list of 1 to {most} texts", entry.shown(), "Begin each with `- `."
            )
        return [self.text(item, f"{field}[{i}]") for i, item in enumerate(entry.value)]

    def number(self, entry: Entry, field: str, low: float, high: float) -> float:
        """A value that must be a number from `low` to `high`."""
        value = entry.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            rule = f"be a number from {low:g} to {high:g}"
            raise self.error(entry.line, field, rule, entry.shown(), "Write such a number.")
        return float(value)

    def integer(self, entry: Entry, field: str, low: int, high: int) -> int:
        """A value that must be an integer from `low` to `high`."""
        value = entry.value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            rule = f"be an integer from {low} to {high}"
            raise self.error(entry.line, field, rule, entry.shown(), "Write such a number.")
        return value

    def boolean(self, entry: Entry, field: str) -> bool:
        """A value that must be true or false."""
        if not isinstance(entry.value, bool):
            raise self.error(entry.line, field, "be true or false", entry.shown(), "Write one of the two.")
        return entry.value

    def one_of(self, entry: Entry, field: str, known: Iterable[str]) -> str:
        """A value that must be one of some names."""
        known = tuple(known)
        if not isinstance(entry.value, str) or entry.value not in known:
            near = difflib.get_close_matches(str(entry.value), known, 1) if isinstance(entry.value, str) else []
            fix = f"Did you mean {near[0]}?" if near else "Choose one of these."
            raise self.error(entry.line, field, f"be one of {', '.join(known)}", entry.shown(), fix)
        return entry.value


def read_yaml(path: Path, *, aliases: bool = False) -> tuple[Entry, Source]:
    """Read a YAML file.

    Args:
        path: The file.
        aliases: Whether anchors and aliases are allowed; they count as often as they are used.

    Raises:
        SpecError: No such file, too large, no UTF-8, control characters, no YAML, or anything that is not data.
    """
    source = Source(str(path))
    try:
        if not path.is_file():
            raise source.error(None, "the file", "exist", "no file of that name", "Give the path of a YAML file.")
        with path.open("rb") as handle:
            raw = handle.read(MOST_BYTES + 1)
    except SpecError:  # a ValueError too
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise SpecError(f"{path!s:.200} must be a readable file, got {error}. Check the path.") from error
    return parse_yaml(raw, source, aliases=aliases), source


def parse_yaml(raw: bytes, source: Source, *, aliases: bool = False) -> Entry:
    """Parse a YAML file's bytes.

    Raises:
        SpecError: As `read_yaml`.
    """
    if len(raw) > MOST_BYTES:
        raise source.error(None, "the file", f"be at most {MOST_BYTES} bytes", "more", "Split it.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise source.error(line, "the file", "be UTF-8", f"byte {error.start}", "Save it as UTF-8.") from None
    text = text.replace("\r\n", "\n")
    if found := _CONTROL.search(text):
        line = text[: found.start()].count("\n") + 1
        got = f"a control character {found.group()!r}"
        raise source.error(line, "the file", "be plain text", got, r'Write it as "\xNN" or leave it out.')
    try:
        return _build(yaml.parse(text, Loader=_LOADER), source, aliases)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, SpecError):
            raise
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        said = " ".join(str(getattr(error, "problem", None) or error).split())[:120]
        raise source.error(
            mark.line + 1 if mark else None, "the file", "be YAML", f"an error ({said})", "Mend that line."
        ) from error


class _Open:
    """A list or mapping whose end has not come."""

    __slots__ = ("anchor", "entries", "is_map", "key", "line", "size")

    def __init__(self, line: int, is_map: bool, anchor: str | None) -> None:
        self.line, self.is_map, self.anchor = line, is_map, anchor
        self.entries: dict[str, Entry] | list[Entry] = {} if is_map else []
        self.key: tuple[str, int] | None = None
        self.size = 1


def _build(events: Iterator[yaml.Event], source: Source, aliases: bool) -> Entry:
    stack: list[_Open] = []
    anchors: dict[str, Entry] = {}
    root: Entry | None = None

    def add(entry: Entry, anchor: str | None) -> None:
        nonlocal root
        if anchor:
            anchors[anchor] = entry
        if not stack:
            if root is not None:
                raise source.error(entry.line, "the file", "hold one document", "another after `---`", "Split it.")
            root = entry
            return
        top = stack[-1]
        top.size += entry.size
        if top.size > MOST_VALUES:
            raise source.error(entry.line, "the file", f"hold at most {MOST_VALUES} values", "more", "Split it.")
        if isinstance(top.entries, list):
            top.entries.append(entry)
        elif top.key is None:
            if not isinstance(entry.value, str):
                fix = 'Put it in "quotes".'
                raise source.error(entry.line, "a field's name", "be text", entry.shown(), fix)
            if entry.value == "<<":
                fix = "Write the fields out."
                raise source.error(entry.line, "the file", "have no merge keys", "`<<`", fix)
            if entry.value in top.entries:
                fix = "Keep one of the two."
                raise source.error(entry.line, "the file", "have each field once", f"{entry.value!r:.60} again", fix)
            top.key = (entry.value, entry.line)
        else:
            top.entries[top.key[0]] = entry
            top.key = None

    for event in events:
        line = event.start_mark.line + 1 if event.start_mark else 1
        anchor = getattr(event, "anchor", None)
        if anchor and not aliases:
            got = f"`&{anchor}`" if not isinstance(event, yaml.AliasEvent) else f"`*{anchor}`"
            raise source.error(line, "the file", "have no anchors or aliases", f"{got:.40}", "Write the value out.")
        if isinstance(event, yaml.AliasEvent):
            if anchor not in anchors:
                raise source.error(line, "an alias", "name an anchor before it", f"*{anchor!s:.40}", "Write it out.")
            add(anchors[anchor], None)
        elif isinstance(event, yaml.ScalarEvent):
            if event.tag is not None and event.tag not in _CORE_TAGS:
                raise source.error(line, "the file", "have no tags", f"{event.tag!r:.60}", "Leave it out.")
            plain = event.implicit[0] and not event.style and event.tag is None  # libyaml says "" for plain
            add(Entry(_scalar(event.value) if plain else event.value, line), anchor)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            if event.tag is not None and not event.implicit:
                raise source.error(line, "the file", "have no tags", f"{event.tag!r:.60}", "Leave it out.")
            if len(stack) >= MOST_DEPTH:
                raise source.error(line, "the file", f"nest at most {MOST_DEPTH} deep", "more", "Flatten it.")
            stack.append(_Open(line, isinstance(event, yaml.MappingStartEvent), anchor))
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            done = stack.pop()
            add(Entry(done.entries, done.line, done.size), done.anchor)
    if root is None:
        raise source.error(None, "the file", "hold something", "nothing", "Write its fields.")
    return root


def _scalar(text: str) -> Scalar:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def optional(fields: Mapping[str, Entry], name: str) -> Entry | None:
    """A field that may be left out or be `null`."""
    entry = fields.get(name)
    return None if entry is None or entry.value is None else entry
