"""The part of a page that says whether a fine-tune took and what it broke besides: sentences, a table by arm, a figure.

Everything is read from the units' records, which may come from anybody: what is no number is shown as missing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gnothi.measure.damage_gate import WHY
from gnothi.records import NOT_INSTILLED
from gnothi.writeup import style
from gnothi.writeup.text import count, number
from gnothi.writeup.view import RunView, Table

SHOWN: dict[str, tuple[str, str]] = {
    "loss": (
        "held-out loss",
        "cross-entropy of text that nobody trained on (of the organism: reports), in nats a token",
    ),
    "loss_decisions": ("held-out decisions", "cross-entropy of the answers that known agents' traits give, in nats"),
    "kl_text": ("distance in text", "KL(base ‖ tuned) at each token of that text, in nats"),
    "kl_answers": ("distance of answers", "KL(base ‖ tuned) where the answer to a neutral question begins, in nats"),
    "instructions": ("instructions", "share of short instructions followed, as a rule can check"),
    "letter_bias": ("letter bias", "(P(A) - P(B)) / (P(A) + P(B)) where no option is right, over both orders"),
    "letter_flips": ("letter follows option", "share of those items whose letter moves with the option"),
    "repeated_4grams": ("repeated 4-grams", "share of a continued text's 4-grams that came before in it"),
    "loops": ("loops", "share of continued texts that end in a loop"),
}
"""Name of a figure in the record -> what the page calls it, and what it is."""
DRAWN = ("loss", "loss_decisions", "kl_text", "instructions", "letter_bias", "letter_flips", "loops")
_AXES = dict.fromkeys(("instructions", "letter_flips", "loops"), (-0.05, 1.05)) | {"letter_bias": (-1.05, 1.05)}
_LEAST_SPAN = 0.2  # nats
MOST_ARMS = 24
"""Arms drawn; the table holds all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What the template fills in."""

    sentences: tuple[str, ...]
    columns: tuple[str, ...]
    """Heads of the table's numbers."""
    base: tuple[str, ...]
    limits: tuple[str, ...]
    """What may not be passed, in the table's columns; empty where there is no threshold."""
    rows: tuple[tuple[str, int, tuple[str, ...], int], ...]
    """Arm, models searched, their numbers, and how many broke."""
    failed: tuple[tuple[str, str], ...]
    """Unit and reason."""
    meanings: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    """Figures that no model of this run could give, each with the reason."""


def section(view: RunView) -> Section | None:
    """The section of a page; None where no unit was fine-tuned."""
    tuned = [u for u in view.units if u.get("adapter_digest") or u.get("adapter_check") or u.get("damage")]
    if not tuned:
        return None
    data = damage_data(view)
    present = [f for f in SHOWN if len(data[data["figure"] == f])]
    rows = []
    for arm in view.in_order(data["arm"]):
        here = data[data["arm"] == arm]
        cells = tuple(_cell(here[here["figure"] == f]["value"].tolist(), f) for f in present)
        broke = here[here["broke"]]["unit"].nunique()
        rows.append((str(arm), int(here["unit"].nunique()), cells, int(broke)))
    bases = {f: data[data["figure"] == f]["base"].dropna().tolist() for f in present}
    failed = [(str(u["unit"]), str(_gate(u).get("reason"))) for u in tuned if _gate(u).get("passed") is False]
    return Section(
        sentences=(*_took(view, tuned), *_adapters(tuned), *_searched(view, tuned, failed)),
        columns=tuple(SHOWN[f][0] for f in present),
        base=tuple(_cell(bases[f], f) for f in present),
        limits=tuple(_limit(view, f, bases[f]) for f in present),
        rows=tuple(rows),
        failed=tuple(failed),
        meanings=tuple(_meaning(view, f) for f in present),
        missing=tuple(_missing(tuned, present)),
    )


def damage_data(view: RunView) -> Table:
    """One row a unit and figure that has a number: `arm, unit, figure, value, base, broke`."""
    rows = []
    for u in view.units:
        for name in SHOWN:
            found = _figures(u).get(name)
            found = found if isinstance(found, Mapping) else {}
            if (value := _finite(found.get("value"))) is not None:
                broke = _gate(u).get("passed") is False
                rows.append((u["arm"], str(u["unit"]), name, value, _finite(found.get("base")), broke))
    data = pd.DataFrame(rows, columns=["arm", "unit", "figure", "value", "base", "broke"])
    return data.astype({"arm": object, "value": float, "base": float, "broke": bool})


def damage(view: RunView, data: Table) -> Figure:
    """A panel a figure: a row an arm, a mark a fine-tuned model, the base as a line, what may not be passed as another."""
    arms = view.in_order(data["arm"])[:MOST_ARMS]
    present = [f for f in DRAWN if len(data[data["figure"] == f])]
    figure, panels = style.grid(
        len(present), columns=min(3, len(present)), height=0.26 * len(arms) + 0.95, legend=0.35, sharey=True
    )
    for panel, name in zip(panels, present, strict=True):
        _panel(view, panel, data[data["figure"] == name], name, arms)
    handles = [
        Line2D([], [], ls="", marker="o", color=style.BLUE, label="one fine-tuned model", markersize=5),
        Line2D([], [], color=style.GREY, lw=1.0, label="base model"),
    ]
    if data["broke"].any():
        handles.insert(1, Line2D([], [], ls="", marker="x", color="black", label="damaged", markersize=5))
    if any(_bounds(view, f, data[data["figure"] == f]["base"].dropna().tolist()) for f in present):
        handles.append(Line2D([], [], color=style.VERMILION, lw=1.2, ls="--", label="not to be passed"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _panel(view: RunView, panel: Axes, data: Table, name: str, arms: Sequence[str]) -> None:
    for y, arm in enumerate(arms):
        here = data[data["arm"] == arm].reset_index(drop=True)
        for i, row in enumerate(here.itertuples()):
            at = y + 0.5 * ((i + 0.5) / len(here) - 0.5)
            mark: dict[str, Any] = {"marker": "x", "color": "black"}
            if not row.broke:
                mark = {"marker": "o", "color": style.BLUE, "alpha": 0.75}
            panel.scatter([row.value], [at], s=20, linewidths=1.1, zorder=3, **mark)
    bases = data["base"].dropna().tolist()
    for base in sorted(set(bases)):
        panel.axvline(base, color=style.GREY, lw=1.0, zorder=1)
    seen = [*data["value"], *bases]
    low, high = min(seen), max(seen)
    span = max(high - low, _LEAST_SPAN)
    for bound in _bounds(view, name, bases):
        if name in _AXES or low - span <= bound <= high + span:  # far off, it would squeeze the rest
            panel.axvline(bound, color=style.VERMILION, lw=1.2, ls="--", zorder=1)
            low, high = min(low, bound), max(high, bound)
    span = max(high - low, _LEAST_SPAN)
    start = max(low - 0.1 * span, -0.05 * span) if name.startswith("kl") else low - 0.1 * span
    panel.set_xlim(*_AXES.get(name, (start, max(high, low + _LEAST_SPAN) + 0.1 * span)))
    panel.set_title(SHOWN[name][0])
    panel.set_yticks(range(len(arms)), [style.label(a, 22, 1) for a in arms])
    panel.set_ylim(len(arms) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.locator_params(axis="x", nbins=4)


def alt(view: RunView, data: Table) -> str:
    """The figure in words."""
    parts = []
    for name in (f for f in DRAWN if len(data[data["figure"] == f])):
        here = data[data["figure"] == name]
        base = _cell(here["base"].dropna().tolist(), name)
        low, high = here["value"].min(), here["value"].max()
        parts.append(f"{SHOWN[name][0]} {number(low)} to {number(high)}, base {base}")
    broke = data[data["broke"]]["unit"].nunique()
    return f"{count(data['unit'].nunique(), 'fine-tuned model')}, {broke} damaged: " + "; ".join(parts)


def _took(view: RunView, tuned: Sequence[Mapping[str, Any]]) -> list[str]:
    gated = [u for u in tuned if u.get("choice_agreement") is not None and u.get("gate")]
    if not gated:
        return ["No fine-tuned model of this run has a gate on what it was taught."]
    took = sum(u["gate"] != NOT_INSTILLED for u in gated)
    least = f", of at least {view.gate_threshold:.2f}" if view.gate_threshold is not None else ""
    return [
        f"{took} of {count(len(gated), 'fine-tuned model')} with a gate{least} took what they were taught; the figure above "
        "shows each."
    ]


def _adapters(tuned: Sequence[Mapping[str, Any]]) -> list[str]:
    checks = [c for u in tuned if isinstance(c := u.get("adapter_check"), Mapping)]
    if not checks:
        return ["Whether the adapters that were measured are those that were trained was not recorded."]
    said = f"Each of {count(len(checks), 'adapter')} was read again from its files before it was measured"
    since = [x for c in checks for k in ("since_training", "after_measuring") if (x := _finite(c.get(k))) is not None]
    moved = [x for c in checks if (x := _finite(c.get("from_base"))) is not None]
    if since:
        said += f"; on canary prompts it answers as right after training (largest difference {max(since):.2g} nats)"
    if moved:
        said += f" and differs from the base model by {min(moved):.2g} to {max(moved):.2g} nats"
    return [f"{said}: none is ignored or mistaken for another."]


def _searched(view: RunView, tuned: Sequence[Mapping[str, Any]], failed: Sequence[tuple[str, str]]) -> list[str]:
    n = sum(bool(_figures(u)) for u in tuned)
    if not n:
        return [
            "What else the fine-tunes changed was not searched for (`damage: false`, or a run of an older version)."
        ]
    said = (
        "What else changed was searched for with text, questions and instructions that nobody trained on, in "
        f"{count(n, 'model')}"
    )
    if failed:
        whose = "its" if len(failed) == 1 else "their"
        return [f"{said}: {len(failed)} broke more than is allowed, and {whose} self-reports are left out and counted."]
    judged = any(limit is not None for limit in (view.damage_gate or {}).values())
    return [said + (": none broke more than is allowed." if judged else ". No threshold was set.")]


def _cell(values: Sequence[float], name: str) -> str:
    """A mean, and the range where there is one."""
    if not values:
        return "none"
    digits = 3 if name.startswith("kl") else 2
    mean, low, high = sum(values) / len(values), min(values), max(values)
    shown = number(mean, digits)
    if number(low, digits) == number(high, digits):
        return shown
    return f"{shown} ({number(low, digits)} to {number(high, digits)})"


def _bounds(view: RunView, name: str, bases: Sequence[float]) -> list[float]:
    """Where a figure may not go, on its own axis."""
    limit = _finite((view.damage_gate or {}).get("loss" if name == "loss_decisions" else name))
    if limit is None or not bases:
        return []
    base = sum(bases) / len(bases)
    if name == "letter_bias":
        return [x for x in (-abs(base) - limit, abs(base) + limit) if abs(x) < 1]
    at = {"loss": base + limit, "loss_decisions": base + limit, "instructions": base * limit, "loops": limit}
    return [at[name]] if name in at else []


def _limit(view: RunView, name: str, bases: Sequence[float]) -> str:
    bounds = _bounds(view, name, bases)
    if not bounds:
        return ""
    word = {"instructions": "at least", "letter_bias": "within ±"}.get(name, "at most")
    return f"{word} {number(bounds[-1])}".replace("± ", "±")


def _meaning(view: RunView, name: str) -> tuple[str, str]:
    called, said = SHOWN[name]
    limited = (view.damage_gate or {}).get(name) is not None and name in WHY
    return called, f"{said}; limited, since {WHY[name]}" if limited else said


def _missing(tuned: Sequence[Mapping[str, Any]], present: Sequence[str]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for u in tuned:
        for name, found in _figures(u).items():
            if name in SHOWN and name not in present and isinstance(found, Mapping) and found.get("reason"):
                reasons.setdefault(str(found["reason"]), []).append(SHOWN[name][0])
    return [f"{', '.join(dict.fromkeys(names))}: {why}" for why, names in reasons.items()]


def _figures(unit: Mapping[str, Any]) -> Mapping[str, Any]:
    found = unit.get("damage")
    figures = found.get("figures") if isinstance(found, Mapping) else None
    return figures if isinstance(figures, Mapping) else {}


def _gate(unit: Mapping[str, Any]) -> Mapping[str, Any]:
    found = unit.get("damage")
    gate = found.get("gate") if isinstance(found, Mapping) else None
    return gate if isinstance(gate, Mapping) else {}


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
