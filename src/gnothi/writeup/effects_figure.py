"""The figure of all arms: every estimate of the headline with its interval, its units and what it is scored against."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gnothi.records import NOT_INTERPRETED, Estimate
from gnothi.writeup import style
from gnothi.writeup.text import interval, number, plain
from gnothi.writeup.view import HEADLINE, RunView, Table

_NULL = "null controls, expected at 0"
GROUPS = ("fine-tuned", _NULL, "report training", "for comparison", "other")
"""Order and names of the groups of arms of `preferences`."""
MOST_ARMS = 40
"""Rows drawn; the table of the page holds all of them."""
BAND = "#ececec"
_BESIDE = {
    "self_report.difference": ("behaviour.difference",),
    "trigger.presence": ("self_report.difference", "trigger.effect"),
    "trigger.excess": ("trigger.effect",),
    "trigger.elicitation": ("trigger.effect",),
    "persona.self_minus_others": ("persona.self_effect", "persona.leak"),
    "faithfulness.within": ("faithfulness.overall",),
}
"""Headline -> what stands below it: what the models do, and what else a reader needs."""
_GROUP = {
    "self_report.difference": "what they say of themselves",
    "behaviour.difference": "what they do",
    "trigger.effect": "what the trigger does",
    "persona.leak": "others",
    "trigger.presence": "that a trigger is there",
    "trigger.excess": "own trigger, above what other models say of it",
    "trigger.elicitation": "the trigger named in free text",
    "persona.self_minus_others": "itself, above others",
    "persona.self_effect": "itself",
    "faithfulness.within": "within an arm",
    "faithfulness.overall": "over all models",
    "self_report.score": "what they say of themselves",
    "behaviour.score": "what they do",
}
_AXIS = {
    HEADLINE: "Pearson r",
    "self_report.difference": "difference in score",
    "behaviour.difference": "difference in score",
    "trigger.excess": "difference in score",
    "trigger.presence": "difference in score",
    "trigger.recognition": "score",
    "trigger.elicitation": "share of free answers, or difference of shares",
    "persona.effect": "difference in score",
    "persona.self_effect": "difference in score",
    "persona.self_minus_others": "difference in score",
    "faithfulness.within": "Pearson r over models",
    "faithfulness.overall": "Pearson r over models",
    "self_report.score": "score",
    "behaviour.score": "score",
}


def group_of(view: RunView, arm: str, name: str = HEADLINE) -> str:
    """Return the group that an arm's estimate stands in: one of `GROUPS`, or in a study what is compared.

    Args:
        view: The run.
        arm: The arm.
        name: The estimate's name, which groups the rows of a study.
    """
    if view.is_study:
        what = _GROUP.get(name, name)
        return f"{what}: {_NULL}" if view.is_control(arm) else what
    if view.is_control(arm):
        return GROUPS[1]
    if arm.startswith("introspection"):
        return GROUPS[2]
    if arm in ("tuned", "shuffled_own"):
        return GROUPS[0]
    return GROUPS[3] if arm in view.arms else GROUPS[4]


def _names(view: RunView) -> list[str]:
    """Names of the estimates drawn: the headline's, then those that stand below it."""
    below = _BESIDE.get(view.headline[0], ()) if view.lab is None else [name for name, _ in view.lab.beside]
    return list(dict.fromkeys([view.headline[0], *below]))


def _shown(view: RunView) -> list[Estimate]:
    """The estimates drawn: those of the headline's name, then those that stand below it; of a lab only those it chose."""
    names = _names(view)
    found = [*view.headlined(), *(e for name in names[1:] for e in view.named(name))]
    if view.lab is not None:
        found = [e for e in found if e.name == names[0] or (e.name, e.arm) in view.lab.beside]
    groups: list[str] = list(GROUPS)
    if view.is_study:
        groups = [f"{_GROUP.get(n, n)}{null}" for n in names for null in ("", f": {_NULL}")]
    return sorted(found, key=lambda e: groups.index(group_of(view, e.arm, e.name)))[:MOST_ARMS]


def effects_data(view: RunView) -> Table:
    """One row for an arm's estimate and one for each unit's own value, in the order drawn."""
    rows = []
    dots = {name: view.per_unit(name) for name in _names(view)}
    for e in _shown(view):
        shared = {
            "name": e.name,
            "group": group_of(view, e.arm, e.name),
            "arm": e.arm,
            "control": view.is_control(e.arm),
            "against": view.against(e),
        }
        why = e.reason if e.value is None or e.low is None else None
        state = e.gate if e.gate in NOT_INTERPRETED else None
        own = {"unit": None, "value": e.value, "low": e.low, "high": e.high, "n": e.n, "gate": state, "reason": why}
        rows.append({**shared, **own})
        for d in dots[e.name][dots[e.name]["arm"] == e.arm].itertuples():
            gate = None if d.instilled else view.unit(str(d.unit)).get("gate")
            rows.append({**shared, "unit": d.unit, "value": d.value, "gate": gate})
    words = ("name", "group", "arm", "unit", "gate", "reason", "against")
    columns = ["name", "group", "arm", "control", "unit", "value", "low", "high", "n", "gate", "reason", "against"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(words, object))


def effects(view: RunView, data: Table) -> Figure:
    """Every arm's estimate with interval and units; controls on a band; what it is scored against at the right."""
    arms = data[data["unit"].isna()]
    n_groups = arms["group"].nunique()
    height = 0.44 * len(arms) + 0.3 * n_groups + 0.75
    figure = style.new_figure(height)
    axes, words = figure.subplots(1, 2, sharey=True, width_ratios=[1.5, 1.0] if view.is_study else [1.0, 1.12])
    words.axis("off")
    axes.spines["left"].set_visible(False)
    words.set_xlim(0, 1)
    y, top, previous, ticks = 0.0, 0.0, None, []
    bands: dict[str, tuple[float, float]] = {}
    for row in arms.itertuples():
        if row.group != previous:
            y += 0.72
            null = _NULL if view.lab is None else "controls"
            said = null if row.control else plain(row.group, 80)
            head = axes.text(0.01, y - 0.1, said, transform=axes.get_yaxis_transform(), va="bottom")
            head.set_color(style.GREY)
            if view.is_study:  # the zero line may run anywhere: words are kept clear of it
                head.set_bbox({"facecolor": BAND if row.control else "white", "edgecolor": "none", "pad": 0.5})
            top = y - 0.62
            previous = row.group
        y += 0.55
        ticks.append((y, style.label(row.arm, 27, 2)))
        if row.control:
            bands[row.group] = (bands.get(row.group, (top,))[0], y + 0.5)
        own = (data["arm"] == row.arm) & (data["name"] == row.name) & data["unit"].notna()
        _effect_row(axes, words, y, row, data[own])
        y += 0.45
    for low, high in bands.values():
        axes.axhspan(low, high, color=BAND, zorder=0, lw=0)
        words.axhspan(low, high, color=BAND, zorder=0, lw=0)
    axes.axvline(0, color=style.GREY, lw=0.8, zorder=1)
    axes.set_yticks([t for t, _ in ticks], [name for _, name in ticks])
    axes.set_ylim(y + 0.15, 0.0)
    axes.set_xlim(*_range(view, data))
    axes.set_xlabel(_AXIS.get(view.headline[0], plain(view.headline[0], 80)))
    axes.tick_params(axis="y", length=0)
    return figure


def _range(view: RunView, data: Table) -> tuple[float, float]:
    """Ends of the axis: all of r above -0.5 for `preferences`; elsewhere what is drawn, with 0, and a little air."""
    values = pd.concat([data["value"], data["low"], data["high"]]).astype(float)
    low, high = float(np.nanmin([*values, 0.0])), float(np.nanmax([*values, 0.0]))
    if not view.is_study:
        return min(-0.5, low - 0.05), 1.05
    air = 0.06 * max(high - low, 0.5)
    return min(low, -0.1) - air, max(high, 0.25) + air


def _effect_row(axes: Axes, words: Axes, y: float, row: Any, dots: Table) -> None:
    colour, marker = (style.GREY, "s") if row.control else (style.BLUE, "o")
    for d in dots.itertuples():
        took: dict[str, Any] = {"marker": "o", "facecolor": "none", "edgecolor": colour}
        mark: dict[str, Any] = {"marker": "x", "color": "black"} if d.gate in NOT_INTERPRETED else took
        axes.scatter([d.value], [y + 0.24], s=17, linewidths=0.9, zorder=3, **mark)
    against = style.label(f"against {row.against}" if row.against else "", 50, 1)
    if row.value is None or math.isnan(row.value):
        axes.text(0.02, y, "no value", va="center", color=style.VERMILION, fontsize=9)
        words.text(0.02, y, style.label(f"none: {row.reason}", 48, 2), va="center", color=style.VERMILION, fontsize=9)
        return
    failed = row.gate in NOT_INTERPRETED
    known = pd.notna(row.low) and pd.notna(row.high)
    if known:
        axes.plot([row.low, row.high], [y, y], color=colour, lw=2.2, zorder=2, solid_capstyle="butt")
    face = "white" if failed or not known else colour
    axes.scatter([row.value], [y], s=42, marker=marker, facecolor=face, edgecolor=colour, linewidths=1.4, zorder=4)
    text = f"{number(row.value)} {interval(row.low, row.high) if known else '(no interval)'}, n = {int(row.n)}"
    text += f", {row.gate}" if failed else ""
    words.text(0.02, y - 0.2, text, va="center", fontsize=9.5)
    words.text(0.02, y + 0.24, against, va="center", color=style.GREY, fontsize=9)
