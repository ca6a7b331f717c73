"""Figures of a study: scores by question, saying against doing, triggers recognised, what moved for each persona.

Each figure is a pair: a function from the view to the numbers drawn, and one from those numbers to the picture. Names
of questions, triggers and personas may come from a user's file, so they are drawn as text and cut.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gnothi.records import Estimate
from gnothi.writeup import style
from gnothi.writeup.sentences import sides
from gnothi.writeup.text import value_and_interval
from gnothi.writeup.view import RunView, Table

MOST_SERIES = len(style.UNIT_MARKS)
"""Arms that one figure can tell apart; the tables of the page hold all of them."""
MOST_LINES = 40
"""Rows drawn of a figure."""
MOST_TRIGGERS = 16
DOING, SAYING = "what they do", "what they say, all questions"
QUESTION, EFFECT, RECOGNITION = "self_report.by_question/", "persona.effect", "trigger.recognition"
SELF, _YOU = "itself", "you"
"""Row of what a model says of itself, among personas."""
_TRAINED = {"many": "many: personas in training too", "single": "single: no personas in training"}
_COLUMNS = ["row", "series", "unit", "value", "low", "high", "n"]


def _rows_of(estimate: Estimate, row: str, series: str, units: Table) -> list[dict[str, Any]]:
    """An estimate and its units, as rows of a figure's numbers; nothing where it has no value."""
    if estimate.value is None:
        return []
    shared = {"row": row, "series": series}
    own = {"unit": None, "value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
    here = units[units["arm"] == estimate.arm]
    return [{**shared, **own}] + [{**shared, "unit": d.unit, "value": d.value} for d in here.itertuples()]


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    return pd.DataFrame(rows, columns=_COLUMNS).astype({c: object for c in ("row", "series", "unit")})


def main_arms(view: RunView, arms: Sequence[str]) -> list[str]:
    """The arms that a figure shows: those of the headline and the untuned model first, then others, in page order."""
    first = [a for a in (*sides(view.headline[1]), "untuned") if a in arms]
    return view.in_order([*first, *[a for a in view.in_order(arms) if a not in first]][:MOST_SERIES])


def scores_data(view: RunView) -> Table:
    """What each arm does, what it says over all questions, and what it says to each, with the units' own values."""
    questions = list(dict.fromkeys(e.name for e in view.estimates if e.name.startswith(QUESTION)))
    lines = {"behaviour.score": DOING, "self_report.score": SAYING}
    lines |= {q: q.removeprefix(QUESTION) for q in questions[: MOST_LINES - len(lines)]}
    arms = main_arms(view, list(dict.fromkeys(e.arm for e in view.estimates if e.name in lines)))
    rows: list[dict[str, Any]] = []
    for name, line in lines.items():
        units = view.per_unit(name)
        for e in (e for e in view.named(name) if e.arm in arms):
            rows += _rows_of(e, line, e.arm, units)
    return _table(rows)


def scores(view: RunView, data: Table) -> Figure:
    """A row a question, a mark an arm with its interval, the units as small dots behind."""
    arms = view.in_order(data["series"])
    figure, axes = _dot_rows(data, arms, {})
    axes.set_xlim(-0.03, 1.03)
    axes.axvline(0.5, color=style.GREY, lw=0.8, ls=":", zorder=1)
    axes.set_xlabel("score, from 0 to 1, the behaviour's plus end")
    heads = sum(line in set(data["row"]) for line in (DOING, SAYING))
    if heads and heads < data["row"].nunique():
        axes.axhline(heads - 0.5, color=style.BLACK, lw=0.8, zorder=1)
    return figure


def personas_data(view: RunView) -> Table:
    """What moved for the model itself and for each persona, by what it was trained on."""
    effects = [e for e in view.named(EFFECT) if "/" in e.arm]
    units = {name: view.per_unit(name) for name in (EFFECT, "persona.self_effect")}
    rows: list[dict[str, Any]] = []
    for e in view.named("persona.self_effect"):
        rows += _rows_of(e, SELF, e.arm, units["persona.self_effect"])
    known = {r["series"] for r in rows}
    for e in effects:
        series, _, persona = e.arm.partition("/")
        if persona != _YOU or series not in known:
            rows += _rows_of(e, SELF if persona == _YOU else persona, series, units[EFFECT])
    shown = list(dict.fromkeys(r["row"] for r in rows))[:MOST_LINES]
    series = list(dict.fromkeys(r["series"] for r in rows))[:MOST_SERIES]
    return _table([r for r in rows if r["row"] in shown and r["series"] in series])


def personas(view: RunView, data: Table) -> Figure:
    """A row a persona, the model itself first; a mark for what the models were trained on."""
    figure, axes = _dot_rows(data, list(dict.fromkeys(data["series"])), _TRAINED)
    axes.axvline(0, color=style.GREY, lw=0.8, zorder=1)
    axes.set_xlabel("difference in score, plus models less minus models")
    if data["row"].iloc[0] == SELF and data["row"].nunique() > 1:
        axes.axhline(0.5, color=style.BLACK, lw=0.8, zorder=1)
    return figure


def _dot_rows(data: Table, series: Sequence[str], names: Mapping[str, str]) -> tuple[Figure, Axes]:
    """Rows of marks with intervals, one mark a series, and the units of each as dots on the same line."""
    lines = list(dict.fromkeys(data["row"]))
    step = 0.8 / len(series)
    inches = max((0.16 if len(lines) <= 14 and len(series) <= 4 else 0.11) * len(series) + 0.12, 0.34)
    figure = style.new_figure(inches * len(lines) + 0.75 + 0.22 * -(-len(series) // 4))
    axes = figure.subplots()
    place = data["row"].map({line: i for i, line in enumerate(lines)}).astype(float)
    for k, one in enumerate(series):
        colour, marker = style.UNIT_MARKS[k % len(style.UNIT_MARKS)]
        mine = data[data["series"] == one].assign(y=place + (k - (len(series) - 1) / 2) * step)
        dots, whole = mine[mine["unit"].notna()], mine[mine["unit"].isna()]
        known = whole.dropna(subset=["low", "high"])
        axes.scatter(dots["value"], dots["y"], s=11, color=colour, alpha=0.45, linewidths=0, zorder=2)
        axes.hlines(known["y"], known["low"], known["high"], color=colour, lw=1.7, zorder=3)
        bare = whole[~whole.index.isin(known.index)]
        axes.scatter(known["value"], known["y"], s=30, color=colour, marker=marker, linewidths=0, zorder=4)
        axes.scatter(
            bare["value"], bare["y"], s=30, facecolor="white", edgecolor=colour, marker=marker, linewidths=1.2, zorder=4
        )
    for i in range(1, len(lines), 2):
        axes.axhspan(i - 0.5, i + 0.5, color="#f4f4f4", lw=0, zorder=0)
    axes.set_yticks(range(len(lines)), [style.label(line, 34, 2) for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    figure.legend(handles=_handles(series, names), loc="outside lower left", ncols=min(4, len(series)), frameon=False)
    return figure, axes


def _handles(series: Sequence[str], names: Mapping[str, str]) -> list[Line2D]:
    width = 42 if len(series) < 3 else 30
    looks = [style.UNIT_MARKS[k % len(style.UNIT_MARKS)] for k in range(len(series))]
    return [
        Line2D([], [], ls="", marker=marker, color=colour, markersize=5.5, label=style.label(names.get(s, s), width, 1))
        for s, (colour, marker) in zip(series, looks, strict=True)
    ]


def faithfulness_data(view: RunView) -> Table:
    """What each model says and does, one row a model that has both numbers.

    Nothing for studies of triggers, where what is said is about the trigger and what is done is not.
    """
    if view.headline[0].startswith("trigger."):
        return pd.DataFrame(columns=["arm", "unit", "says", "does", "instilled"])
    does, says = (view.per_unit(f"{kind}.score") for kind in ("behaviour", "self_report"))
    both = does.merge(says, on=["arm", "unit"], suffixes=("_does", "_says")).drop_duplicates("unit")
    arms = main_arms(view, list(dict.fromkeys(both["arm"])))
    both = both[both["arm"].isin(arms)]
    data = pd.DataFrame(
        {
            "arm": both["arm"].astype(object),
            "unit": both["unit"].astype(object),
            "says": both["value_says"].astype(float),
            "does": both["value_does"].astype(float),
            "instilled": both["instilled_does"].astype(bool),
        }
    )
    return data if len(data) >= 3 else data.iloc[:0]


def faithfulness(view: RunView, data: Table) -> Figure:
    """Doing against saying: one mark a model, colour and shape for its arm."""
    arms = view.in_order(data["arm"])
    figure = style.new_figure(4.4)
    axes, words = figure.subplots(1, 2, width_ratios=[1.25, 1.0])
    words.axis("off")
    for k, arm in enumerate(arms):
        colour, marker = style.UNIT_MARKS[k]
        for took, face in ((True, colour), (False, "none")):
            here = data[(data["arm"] == arm) & (data["instilled"] == took)]
            axes.scatter(
                here["says"], here["does"], s=34, marker=marker, facecolor=face, edgecolor=colour, alpha=0.8, zorder=3
            )
    axes.axline((0, 0), slope=1, color=style.GREY, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="what it says of itself", ylabel="what it does")
    handles = _handles(arms, {})
    if not data["instilled"].all():
        handles.append(
            Line2D([], [], ls="", marker="o", color=style.GREY, markerfacecolor="none", label=view.shut_word)
        )
    handles.append(Line2D([], [], color=style.GREY, ls=(0, (4, 3)), lw=0.9, label="equal"))
    words.legend(handles=handles, loc="upper left", frameon=False, borderaxespad=0.0)
    lines = [*view.named("faithfulness.overall"), *view.named("faithfulness.within")][:8]
    told = [f"{style.label(e.arm, 22, 1)}: r {value_and_interval(e)}, n = {e.n}" for e in lines]
    words.text(0.02, 0.0, "\n".join(told), va="bottom", fontsize=9, linespacing=1.5)
    return figure


def recognition_data(view: RunView) -> Table:
    """How much models trained on a trigger say yes to each trigger: from estimates `asked|trained`, else from units."""
    found: dict[tuple[str, str], tuple[float, int]] = {}
    units: Table = view.per_unit(RECOGNITION)
    for arm, group in units[units["arm"].str.contains("|", regex=False)].groupby("arm", sort=False):
        asked, _, trained = str(arm).partition("|")
        found[asked, trained] = (float(group["value"].mean()), len(group))
    for e in view.named(RECOGNITION):
        asked, joined, trained = e.arm.partition("|")
        if joined and e.value is not None:
            found[asked, trained] = (e.value, e.n)
    kept = list(dict.fromkeys([*(t for _, t in found), *(a for a, _ in found)]))[:MOST_TRIGGERS]
    rows = [(a, t, v, n) for (a, t), (v, n) in found.items() if a in kept and t in kept]
    return pd.DataFrame(rows, columns=["asked", "trained", "value", "n"])


def recognition(view: RunView, data: Table) -> Figure:
    """A cell a pair of triggers: asked about in its row, trained on in its column; a frame where they are the same."""
    del view
    trained = list(dict.fromkeys(data["trained"]))
    asked = [t for t in trained if t in set(data["asked"])]
    asked += [a for a in dict.fromkeys(data["asked"]) if a not in trained]
    cells = np.full((len(asked), len(trained)), np.nan)
    for row in data.itertuples():
        cells[asked.index(row.asked), trained.index(row.trained)] = row.value
    figure = style.new_figure(0.46 * len(asked) + 1.5)
    axes = figure.subplots()
    image = axes.imshow(cells, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(cells.shape):
        text = "–" if np.isnan(cells[i, j]) else f"{cells[i, j]:.2f}"
        axes.text(j, i, text, ha="center", va="center", color="white" if cells[i, j] < 0.55 else "black")
        if asked[i] == trained[j]:
            axes.plot(
                [j - 0.46, j + 0.46, j + 0.46, j - 0.46, j - 0.46],
                [i - 0.44, i - 0.44, i + 0.44, i + 0.44, i - 0.44],
                color=style.VERMILION,
                lw=2,
            )
    narrow = max(8, 78 // len(trained))
    axes.set_xticks(range(len(trained)), [style.label(t, narrow, 3) for t in trained])
    axes.set_yticks(range(len(asked)), [style.label(a, 26, 2) for a in asked])
    axes.set(xlabel="trigger trained on", ylabel="trigger asked about")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="score", fraction=0.05, pad=0.02)
    return figure
