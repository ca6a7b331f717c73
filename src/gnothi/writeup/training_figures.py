"""Figures of whether an experiment worked at all: the manipulation check, valid answers, training losses."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gnothi.records import NOT_INTERPRETED
from gnothi.writeup import style
from gnothi.writeup.sentences import words
from gnothi.writeup.view import RunView, Table

MOST_STEPS = 150
"""Points drawn of one loss curve; longer ones are averaged in blocks, so that a page stays small."""


def check_data(view: RunView) -> Table:
    """Choice agreement and A rate of each unit that has one."""
    rows = [
        (u["arm"], str(u["unit"]), u.get("seed"), u.get("choice_agreement"), u.get("a_rate"), u.get("gate"))
        for arm in view.in_order(u["arm"] for u in view.units)
        for u in view.units
        if u["arm"] == arm and u.get("choice_agreement") is not None
    ]
    return pd.DataFrame(rows, columns=["arm", "unit", "seed", "choice_agreement", "a_rate", "gate"])


def check(view: RunView, data: Table) -> Figure:
    """Two panels that share their arms: choice agreement with the gate's line, and the share of A."""
    arms = view.in_order(data["arm"])
    figure = style.new_figure(0.5 * len(arms) + 1.25)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2.1, 1])
    for y, arm in enumerate(arms):
        here = data[data["arm"] == arm].reset_index(drop=True)
        for i, row in enumerate(here.itertuples()):
            at = y + 0.5 * ((i + 0.5) / len(here) - 0.5)
            failed = row.gate in NOT_INTERPRETED
            mark = {"marker": "x", "color": "black"} if failed else {"marker": "o", "color": style.BLUE, "alpha": 0.85}
            left.scatter([row.choice_agreement], [at], s=34, zorder=3, linewidths=1.3, **mark)
            if row.a_rate is not None and pd.notna(row.a_rate):
                right.scatter([row.a_rate], [at], s=34, zorder=3, linewidths=1.3, **mark)
    left.axvline(0.5, color=style.GREY, lw=0.9, ls=":", zorder=1)
    right.axvline(0.5, color=style.GREY, lw=0.9, ls=":", zorder=1)
    handles = [
        Line2D([], [], ls="", marker="o", color=style.BLUE, label="one fine-tuned model"),
        Line2D([], [], color=style.GREY, lw=0.9, ls=":", label="chance"),
    ]
    if data["gate"].isin(NOT_INTERPRETED).any():
        handles.insert(1, Line2D([], [], ls="", marker="x", color="black", label=view.shut_word))
    if view.gate_threshold is not None:
        left.axvline(view.gate_threshold, color=style.VERMILION, lw=1.2, ls="--", zorder=1)
        text = f"gate, {view.gate_threshold:.2f}"
        handles.append(Line2D([], [], color=style.VERMILION, lw=1.2, ls="--", label=text))
    low = min(0.4, float(data["choice_agreement"].min()) - 0.05)
    left.set(xlim=(low, 1.02), xlabel=words(view).agreement_axis)
    right.set(xlim=(0, 1), xlabel="share of choices that are A")
    right.set_visible(bool(data["a_rate"].notna().any()))  # what a study counts need not be letters
    left.set_yticks(range(len(arms)), [style.label(a, 27, 2) for a in arms])
    left.set_ylim(len(arms) - 0.5, -0.5)
    for panel in (left, right):
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="y", color="#e6e6e6", lw=0.6)
        panel.set_axisbelow(True)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def validity_data(view: RunView) -> Table:
    """Counts of valid answers and of each reason for none, in long form; what no reason covers is `no reason kept`."""
    rows = []
    for arm in view.in_order(v["arm"] for v in view.validity):
        for v in (v for v in view.validity if v["arm"] == arm):
            reasons = dict(v.get("reasons") or {})
            rest = v["asked"] - v["valid"] - sum(reasons.values())
            if rest > 0:
                reasons["no reason kept"] = rest
            rows.append((arm, v["asked"], "valid", v["valid"]))
            rows += [(arm, v["asked"], str(reason), n) for reason, n in reasons.items() if n]
    return pd.DataFrame(rows, columns=["arm", "asked", "outcome", "count"])


_REASONS = (
    (style.VERMILION, "///"),
    (style.ORANGE, "\\\\\\"),
    (style.PURPLE, "xxx"),
    (style.SKY, "..."),
    ("#bbbbbb", ""),
)


def validity(view: RunView, data: Table) -> Figure:
    """A bar an arm: valid, then the reasons for none, the four most common apart and the others together."""
    arms = view.in_order(data["arm"])
    bad = data[data["outcome"] != "valid"].groupby("outcome", sort=False)["count"].sum()
    named = list(bad.sort_values(ascending=False, kind="stable").index[:4])
    figure = style.new_figure(0.4 * len(arms) + 0.95 + 0.2 * -(-(len(named) + 2) // 2))
    axes = figure.subplots()
    table = data.assign(outcome=data["outcome"].where(data["outcome"].isin(["valid", *named]), "other reasons"))
    kinds = ["valid", *named, *(["other reasons"] if (table["outcome"] == "other reasons").any() else [])]
    looks = dict(zip(kinds, ((style.BLUE, ""), *_REASONS[: len(named)], _REASONS[-1]), strict=False))
    for y, arm in enumerate(arms):
        here = table[table["arm"] == arm]
        asked, start = float(here.drop_duplicates("asked")["asked"].sum()), 0.0
        for kind in kinds:
            n = float(here.loc[here["outcome"] == kind, "count"].sum())
            share = n / asked if asked else 0.0
            colour, hatch = looks[kind]
            axes.barh(y, share, left=start, height=0.62, facecolor=colour, hatch=hatch, edgecolor="white", lw=0.6)
            start += share
        n_valid = float(here.loc[here["outcome"] == "valid", "count"].sum())
        text = f"{n_valid:,.0f} of {asked:,.0f} ({n_valid / asked:.1%})" if asked else "none asked"
        axes.text(1.015, y, text, va="center", fontsize=9)
    axes.set(xlim=(0, 1.0), xlabel="share of asked self-reports")
    axes.set_yticks(range(len(arms)), [style.label(a, 27, 2) for a in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    handles = [_patch(looks[k], style.label(k, 48, 1)) for k in kinds]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False)
    return figure


def _patch(look: tuple[str, str], name: str) -> Patch:
    return Patch(facecolor=look[0], hatch=look[1], edgecolor="white", label=name)


def losses_data(view: RunView) -> Table:
    """Loss over steps of each unit, in blocks where there are more than `MOST_STEPS` values."""
    rows = []
    for arm in view.in_order(u["arm"] for u in view.units):
        for u in (u for u in view.units if u["arm"] == arm):
            losses = np.array([np.nan if x is None else x for x in u.get("losses") or ()], dtype=float)
            if not len(losses):
                continue
            steps = np.linspace(0, u.get("steps") or len(losses), len(losses) + 1)[1:]
            blocks = np.array_split(np.arange(len(losses)), min(len(losses), MOST_STEPS))
            rows += [
                (arm, str(u["unit"]), u.get("seed"), float(steps[b].mean()), float(losses[b].mean()), len(b))
                for b in blocks
            ]
    return pd.DataFrame(rows, columns=["arm", "unit", "seed", "step", "loss", "averaged"])


def losses(view: RunView, data: Table) -> Figure:
    """A panel an arm, a line a unit."""
    arms = view.in_order(data["arm"])
    figure, panels = style.grid(len(arms), columns=min(3, max(2, len(arms))), height=2.3, sharey=True)
    positive = bool((data["loss"].dropna() > 0).all())
    for panel, arm in zip(panels, arms, strict=True):
        here = data[data["arm"] == arm]
        for i, (_, curve) in enumerate(here.groupby("unit", sort=False)):
            colour = style.UNIT_MARKS[i % len(style.UNIT_MARKS)][0]
            dashes = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))[i % 4]
            panel.plot(curve["step"], curve["loss"], color=colour, ls=dashes, lw=1.1)
        panel.set_title(style.label(arm, 34, 2))
        panel.set_xlabel("step")
    if positive:  # when all are drawn: panels share the axis, and an end that is set stops it from growing
        panels[0].set_ylim(bottom=0)
    for panel in panels[:: min(3, max(2, len(arms)))]:
        panel.set_ylabel("training loss")
    return figure
