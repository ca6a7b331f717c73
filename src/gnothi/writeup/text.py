"""Words and numbers on a page. Model output is hostile: whatever it holds is shown, and nothing it holds acts."""

import re
import unicodedata
from collections.abc import Iterable

from markupsafe import Markup, escape

from gnothi.records import Estimate
from gnothi.writeup.view import HEADLINE, RunView

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

    >>> number(0.8749), number(None)
    ('0.87', 'none')
    """
    return "none" if value is None else f"{value:.{digits}f}"


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


def _sentence(text: str) -> str:
    return text.rstrip(" .") + "."


def answer(view: RunView) -> str:
    """The answer in one sentence: value, interval, n and the null controls; or why there is none."""
    name, arm = view.headline
    e = view.find(name, arm)
    if e is None:
        return f"No answer: this run holds no estimate {name} for the arm {arm}."
    if e.gate == "not instilled":
        check = view.find("behaviour.choice_agreement", arm)
        seen = ""
        if check is not None and check.value is not None:
            seen = f" (choice agreement {value_and_interval(check)} over {count(check.n, 'fine-tuned model')})"
        return f"Not instilled: the models did not come to choose by the target weights{seen}; self-reports are not interpreted."
    what = "Reported and learned weights correlate at r =" if name == HEADLINE else f"{name} of {arm} is"
    if e.value is None:
        return _sentence(f"No answer: {name} of {arm} has no value. {e.reason}")
    over = f"over {count(e.n, 'fine-tuned model')}"
    if e.low is None:
        text = f"{what} {number(e.value)} {over}, without an interval ({(e.reason or '').rstrip(' .')})"
    else:
        text = f"{what} {value_and_interval(e)} {over} ({e.method})"
        if e.high is not None and e.low <= 0 <= e.high:
            text += ", an interval that includes 0"
    controls = [c for c in null_controls(view, name) if c.value is not None]
    if controls:
        values = sorted(c.value for c in controls if c.value is not None)
        lie = f"the null controls lie between {number(values[0])} and {number(values[-1])}"
        text += (
            f"; {lie if len(values) > 1 else f'the one null control, {controls[0].arm}, lies at {number(values[0])}'}"
        )
    else:
        text += "; no null control has a value beside it"
    return _sentence(text)


def null_controls(view: RunView, name: str = HEADLINE) -> list[Estimate]:
    """Estimates of the arms that are expected at 0."""
    return [e for e in view.named(name) if view.is_control(e.arm)]


def cautions(view: RunView) -> list[str]:
    """What a careful reader would say next to the answer: controls off 0, missing controls, units left out, gains."""
    name, arm = view.headline
    said: list[str] = []
    out = [u for u in view.units if u["arm"] == arm and u.get("gate") == "not instilled"]
    if out:
        all_units = sum(u["arm"] == arm for u in view.units)
        said.append(
            f"{len(out)} of {count(all_units, 'fine-tuned model')} did not take the behaviour and "
            f"{'is' if len(out) == 1 else 'are'} marked as not instilled."
        )
    for e in null_controls(view, name):
        if e.value is None:
            said.append(_sentence(f"The control {e.arm} has no value: {e.reason}"))
        elif e.low is not None and e.high is not None and not e.low <= 0 <= e.high:
            said.append(
                f"The interval of the control {e.arm}, {value_and_interval(e)}, leaves out 0: {view.arms[e.arm].meaning}, "
                "or chance: one null in twenty does. Another --seed tells."
            )
    for e in view.named("agreement.gain"):
        if e.value is not None and e.arm in ("introspection", "introspection_learned", "native_introspection"):
            said.append(
                f"Report training ({e.arm}) changes r by {value_and_interval(e)} on agents held out from it, "
                f"over {count(e.n, 'fine-tuned model')}."
            )
    return said


def code_words(text: str) -> Markup:
    """Text for HTML in which what stands in backticks is set as code; everything in it is escaped.

    >>> str(code_words("gain over `tuned` < 1"))
    'gain over <code>tuned</code> &lt; 1'
    """
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(visible(text))))


def arms_not_run(view: RunView) -> list[str]:
    """Arms that have no estimate here: a control left out should be missed. In `preferences`, none of the headline."""
    rows = view.named(HEADLINE) if view.headline[0] == HEADLINE else view.estimates
    present = {e.arm for e in rows}
    return [a for a in view.arms if a not in present]


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
