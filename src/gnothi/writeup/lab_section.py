"""What the page of a lab says: the answer with its controls, cautions, methods, and its numbers grouped for reading.

Numbers of labs are shares, steps, losses and norms alike, so they are written with as many digits as they need.
"""

import math
from collections.abc import Sequence
from typing import Any

from gnothi.records import DAMAGED, NOT_INSTILLED, NOT_INTERPRETED, Estimate
from gnothi.writeup.text import count, plain
from gnothi.writeup.view import LabWords, RunView, in_order

MOST_BESIDE = 4
"""Other arms named in the answer."""
MOST_OPEN = 14
"""Rows of the headline's table up to which it stands open."""
MOST_UNITS = 400
"""Rows of the table of models."""


def reading(value: float | None) -> str:
    """A number of any size for reading.

    >>> reading(0.8749), reading(4520.0), reading(0.00321), reading(-0.00001), reading(None), reading(37.25)
    ('0.87', '4,520', '0.0032', '-1.0e-05', 'none', '37.2')
    """
    return "none" if value is None else _written(value, [value])


def reading_interval(low: float | None, high: float | None, value: float | None = None) -> str:
    """An interval in as many digits as its numbers need together, or nothing."""
    known = [v for v in (value, low, high) if v is not None]
    ends = ["none" if v is None else _written(v, known) for v in (low, high)]
    return "" if low is None and high is None else f"[{ends[0]}, {ends[1]}]"


def with_interval(e: Estimate) -> str:
    """A value and its interval with the same digits: `0.87 [0.80, 0.91]`, `0.87 (no interval)` or `none`."""
    value, interval = cells(e)
    return value if e.value is None else f"{value} {interval or '(no interval)'}"


def cells(e: Estimate) -> tuple[str, str]:
    """Value and interval of an estimate, as text; `none` and nothing where they are missing."""
    known = [v for v in (e.value, e.low, e.high) if v is not None]
    value = "none" if e.value is None else _written(e.value, known)
    return value, reading_interval(e.low, e.high, e.value)


def _written(value: float, beside: Sequence[float]) -> str:
    """A number with the digits that the largest of those beside it needs."""
    size = max(abs(v) for v in beside)
    if size == 0:
        return "0"
    if size < 0.0001:
        return f"{value:.1e}"
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.095 else 1 - math.floor(math.log10(size))
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def answer(view: RunView) -> str:
    """The answer in one sentence: value, interval, n, method and the controls beside it; or why there is none."""
    words = _words(view)
    name, arm = view.headline
    e = view.find(name, arm)
    if e is None:
        return f"No answer: this run holds no estimate {name} for the arm {arm}."
    if e.value is None:
        return _sentence(f"No answer: {name} of {arm} has no value. {e.reason}")
    subject = words.subject or f"{_first(words.meaning(name) or name)} ({arm}):"
    over = f"over {count(e.n, 'model')}"
    if e.low is None:
        text = f"{subject} {reading(e.value)} {over}, without an interval ({(e.reason or '').rstrip(' .')})"
    else:
        text = f"{subject} {with_interval(e)} {over} ({e.method})"
    beside = [c for c in controls(view) if c.value is not None]
    if not beside:
        return _sentence(f"{text}; no control has a value beside it")
    said = ", ".join(f"{_called(view, c)} at {with_interval(c)}" for c in beside[:MOST_BESIDE])
    more = f", and {len(beside) - MOST_BESIDE} more below" if len(beside) > MOST_BESIDE else ""
    return _sentence(f"{text}; {'controls' if len(beside) > 1 else 'the control'} beside it: {said}{more}")


def controls(view: RunView) -> list[Estimate]:
    """What the headline is compared with: estimates of its name for controls, and those that the lab puts beside it."""
    found = [e for e in view.named(view.headline[0]) if view.is_control(e.arm) and e.arm != view.headline[1]]
    named = [view.find(*key) for key in _words(view).beside]
    return [*(e for e in named if e is not None and e not in found), *found]


def _called(view: RunView, e: Estimate) -> str:
    """What a control is called in a sentence: its arm, or its name where that is what differs."""
    same = e.arm == view.headline[1]
    return plain(e.name if same else e.arm if e.name == view.headline[0] else f"{e.name} of {e.arm}", 80)


def cautions(view: RunView) -> list[str]:
    """What a careful reader would say next to the answer: controls that are missing or as good, models that did not take."""
    said = []
    e = view.find(*view.headline)
    for c in controls(view):
        if c.value is None:
            said.append(_sentence(f"The control {_called(view, c)} has no value: {c.reason}"))
        elif e is not None and e.value is not None and _overlap(e, c):
            said.append(
                f"The intervals of {e.arm}, {with_interval(e)}, and of its control {_called(view, c)}, {with_interval(c)}, "
                "overlap: "
                "this run does not tell them apart."
            )
    for gate, what in ((NOT_INSTILLED, "did not take what they were trained on"), (DAMAGED, "broke besides")):
        if out := [u for u in view.units if u.get("gate") == gate]:
            named = ", ".join(str(u["unit"]) for u in out[:4]) + (", …" if len(out) > 4 else "")
            said.append(f"{len(out)} of {count(len(view.units), 'model')} {what}: {named}.")
    if view.spec.get("quick"):
        said.append("A quick run, to see that everything works: its numbers are not for quoting.")
    return said


def methods(view: RunView) -> list[str]:
    """The methods paragraph, from what the view holds."""
    arms = {a: sum(u["arm"] == a for u in view.units) for a in dict.fromkeys(u["arm"] for u in view.units)}
    seeds = [plain(s, 20) for s in view.seeds()]
    said = [_sentence(f"{view.experiment.capitalize()}, {view.model.get('name', '')}: {_words(view).summary}")]
    if arms:
        parts = ", ".join(f"{n} {arm}" if n > 1 else arm for arm, n in list(arms.items())[:40])
        more = f", and of {len(arms) - 40} more arms" if len(arms) > 40 else ""
        said.append(f"{count(len(view.units), 'unit was', 'units were')} made: {parts}{more}.")
    if seeds:
        said.append(f"{'Seed' if len(seeds) == 1 else 'Seeds'} {', '.join(seeds)}.")
    seconds = [u["seconds"] for u in view.units if u.get("seconds") is not None]
    if seconds:
        said.append(f"Together they took {sum(seconds):,.0f} seconds of one worker each.")
    made = list(dict.fromkeys(e.method for e in view.estimates if e.method and e.low is not None))
    said.append(
        "n counts trained models, points are the samples inside them. "
        + (f"How intervals were made: {'; '.join(made[:12])}." if made else "No interval was made.")
    )
    said.append("Missing numbers stay missing: they are counted and never filled in.")
    return said


def section(view: RunView) -> dict[str, Any]:
    """What the lab's part of the template needs: numbers under their names, pictures with sizes, models one by one."""
    ordered = in_order(view.estimates, view.arms)
    names = list(dict.fromkeys(e.name.partition("/")[0] for e in ordered))
    present = {e.arm for e in ordered} | {u["arm"] for u in view.units}
    return {
        "groups": [_group(view, n, [e for e in ordered if e.name.partition("/")[0] == n]) for n in names],
        "arms": [(name, arm) for name, arm in view.arms.items() if name in present],
        "units": [_unit(u) for u in view.units[:MOST_UNITS]],
        "more_units": max(0, len(view.units) - MOST_UNITS),
        "gated": any(u.get("gate") for u in view.units),
    }


def _group(view: RunView, name: str, rows: Sequence[Estimate]) -> dict[str, Any]:
    """Estimates of one name, whatever follows a slash, under what they are."""
    return {
        "name": name,
        "meaning": _words(view).meaning(name),
        "rows": [_row(view, e) for e in rows],
        "members": any("/" in e.name for e in rows),
        "open": name == view.headline[0].partition("/")[0] and len(rows) <= MOST_OPEN,
    }


def _row(view: RunView, e: Estimate) -> dict[str, Any]:
    return {
        "arm": e.arm,
        "member": e.name.partition("/")[2],
        "value": None if e.value is None else cells(e)[0],
        "interval": cells(e)[1],
        "n": e.n,
        "points": e.n_points,
        "missing": e.n_missing,
        "against": view.against(e),
        "method": e.method,
        "reason": e.reason,
        "shut": e.gate if e.gate in NOT_INTERPRETED else None,
        "control": view.is_control(e.arm),
        "headline": (e.name, e.arm) == tuple(view.headline),
    }


def _unit(unit: Any) -> dict[str, Any]:
    seconds = unit.get("seconds")
    return {
        "unit": unit["unit"],
        "arm": unit["arm"],
        "seed": unit.get("seed"),
        "parents": list(unit.get("parents") or ()),
        "gate": unit.get("gate"),
        "gate_reason": unit.get("gate_reason"),
        "seconds": None if seconds is None else f"{seconds:,.1f}",
    }


def _words(view: RunView) -> LabWords:
    return view.lab or LabWords()


def _overlap(a: Estimate, b: Estimate) -> bool:
    """Whether two intervals have a point in common; an estimate without one is its value alone."""
    if a.value is None or b.value is None:
        return False
    low_a, high_a = (a.value, a.value) if a.low is None or a.high is None else (a.low, a.high)
    low_b, high_b = (b.value, b.value) if b.low is None or b.high is None else (b.low, b.high)
    return low_a <= high_b and low_b <= high_a


def _first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    return text.rstrip(" .") + "."
