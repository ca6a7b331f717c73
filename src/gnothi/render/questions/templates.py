"""Texts with named slots: `{persona}` is a slot, doubled braces are braces, and what is put in is never read again."""

import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gnothi.errors import SpecError

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Template:
    """A text and its slots."""

    text: str
    """As written."""
    parts: tuple[tuple[str, str], ...]
    """Pieces: (literal text, name of the slot after it or empty)."""

    @property
    def names(self) -> frozenset[str]:
        """The slots."""
        return frozenset(name for _, name in self.parts if name)

    def fill(self, values: Mapping[str, str], where: str) -> str:
        """Put values into the slots, each as it is.

        Raises:
            SpecError: A slot without a value.

        >>> template("{persona} likes {{braces}}.").fill({"persona": "my {friend}"}, "here")
        'my {friend} likes {braces}.'
        """
        if len(self.parts) == 1 and not self.parts[0][1]:
            return self.parts[0][0]
        try:
            return "".join(literal + values[name] if name else literal for literal, name in self.parts)
        except KeyError as error:
            raise missing(str(error.args[0]), values, where) from None

    def fill_some(self, values: Mapping[str, str]) -> str:
        """Fill the slots that have a value; the result is a template again, with its braces doubled."""
        filled = []
        for literal, name in self.parts:
            filled.append(_escape(literal))
            if name:
                filled.append(_escape(values[name]) if name in values else f"{{{name}}}")
        return "".join(filled)


def missing(name: str, values: Iterable[str], where: str) -> SpecError:
    """The message for a slot that nobody fills."""
    known = sorted(values)
    near = difflib.get_close_matches(name, known, 1, 0.8)
    fix = f"Did you mean {{{near[0]}}}?" if near else f"Pass fill={{'{name}': ...}}."
    got = ", ".join(known[:8]) or "nothing"
    return SpecError(f"{where}: {{{name}}} must be filled, got values for {got}. {fix}")


def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def escape(text: str) -> str:
    """The template that gives this text.

    >>> escape("f{x}")
    'f{{x}}'
    """
    return _escape(text)


@functools.lru_cache(maxsize=4096)
def template(text: str) -> Template:
    """Read a text's slots.

    Raises:
        ValueError: A brace that belongs to no slot; its message names it, for the caller to say where.

    >>> sorted(template("{subject} report {{risk}} {trait}").names)
    ['subject', 'trait']
    """
    parts, literal, end = [], "", 0
    for match in _PIECE.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        piece = match.group()
        if piece in ("{{", "}}"):
            literal += piece[0]
        elif piece in ("{", "}"):
            raise ValueError(f"a lone {piece}")
        elif not _NAME.fullmatch(match[1]):
            raise ValueError(f"the placeholder {piece!r:.60}")
        else:
            parts.append((literal, match[1]))
            literal = ""
    literal += text[end:]
    if literal or not parts:
        parts.append((literal, ""))
    return Template(text, tuple(parts))
