"""Words and numbers on a page. Model output is hostile: whatever it holds is shown, and nothing it holds acts."""

import re
import unicodedata
from collections.abc import Iterable

from markupsafe import Markup, escape

from gnothi.records import Estimate

LIMIT = 4000
"""Characters of one message or answer that a page shows."""


def _hidden(character: str) -> bool:
    """Whether a reader would not see it, or would see something else because of it."""
    if character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _escape_of(character: str) -> str:
    r"""Return the escape a programmer would write.

    >>> _escape_of(chr(27)), _escape_of(chr(0x202E)), _escape_of(chr(0xE0041))
    ('\\x1b', '\\u202e', '\\U000e0041')
    """
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def plain(value: object, limit: int = LIMIT) -> str:
    r"""Text with control characters, direction marks and lone surrogates as visible escapes, cut at `limit` characters.

    For figures, terminals and files; `visible` is the same for the page.

    >>> plain("a" + chr(27) + "[31mb")
    'a\\x1b[31mb'
    >>> plain("7" * 20, limit=5)
    '77777 [cut: 5 of 20 characters shown]'
    """
    text = str(value)
    shown = "".join(_escape_of(c) if _hidden(c) else c for c in text[:limit])
    return shown + (f" [cut: {limit:,} of {len(text):,} characters shown]" if len(text) > limit else "")


def visible(value: object, limit: int = LIMIT) -> Markup:
    r"""The same as `plain` for HTML: escaped, and with escapes marked, so that a typed `\x1b` is told from a real one.

    >>> str(visible("<b>" + chr(0)))
    '&lt;b&gt;<span class="esc">\\x00</span>'
    """
    text = str(value)
    parts: list[str] = []
    start, shown = 0, text[:limit]
    for i, character in enumerate(shown):
        if _hidden(character):
            parts += [str(escape(shown[start:i])), f'<span class="esc">{_escape_of(character)}</span>']
            start = i + 1
    parts.append(str(escape(shown[start:])))
    if len(text) > limit:
        parts.append(f' <span class="cut">cut: {limit:,} of {len(text):,} characters shown</span>')
    return Markup("".join(parts))


def number(value: float | None, digits: int = 2) -> str:
    """A number for reading, or `none`: missing is never shown as 0.

    >>> number(0.8749), number(-0.0004), number(None)
    ('0.87', '0.00', 'none')
    """
    if value is None:
        return "none"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval(low: float | None, high: float | None) -> str:
    """Brackets around an interval, open where one end is missing, or nothing.

    >>> interval(0.8, 0.914), interval(None, None)
    ('[0.80, 0.91]', '')
    """
    return "" if low is None and high is None else f"[{number(low)}, {number(high)}]"


def value_and_interval(estimate: Estimate) -> str:
    """`0.87 [0.80, 0.91]`, `0.87 (no interval)` or `none`."""
    if estimate.value is None:
        return "none"
    return f"{number(estimate.value)} {interval(estimate.low, estimate.high) or '(no interval)'}"


def count(n: int, singular: str, plural: str = "") -> str:
    """A count with its noun.

    >>> count(1, "unit"), count(1200, "unit")
    ('1 unit', '1,200 units')
    """
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}"


def code_words(text: str) -> Markup:
    """Text for HTML in which what stands in backticks is set as code; everything in it is escaped.

    >>> str(code_words("gain over `tuned` < 1"))
    'gain over <code>tuned</code> &lt; 1'
    """
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(visible(text))))


def flat(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names with their values as text, in their own order.

    >>> flat({"a": {"b": 1, "c": [2, 3]}})
    [('a.b', '1'), ('a.c', '2, 3')]
    """
    if isinstance(value, dict):
        rows: Iterable[tuple[str, object]] = ((f"{prefix}.{k}" if prefix else str(k), v) for k, v in value.items())
        return [row for name, inner in rows for row in flat(inner, name)]
    if isinstance(value, list | tuple):
        if any(isinstance(v, dict) for v in value):
            return [row for i, v in enumerate(value) for row in flat(v, f"{prefix}.{i}")]
        return [(prefix, ", ".join(map(str, value)) or "none")]
    return [(prefix, "none" if value is None else str(value))]
