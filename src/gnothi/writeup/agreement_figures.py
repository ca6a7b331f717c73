"""Figures of reported against learned weights: scatter, learned against target, report training.

Each figure is a pair: a function from the view to the numbers drawn, and one from those numbers to the picture.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gnothi.writeup import style
from gnothi.writeup.text import value_and_interval
from gnothi.writeup.view import HEADLINE, RunView, Table, pearson

MANY = 1500
"""Points above which a scatter is stored as pixels: a page stays small enough to mail."""


def scatter_data(view: RunView) -> Table:
    """Points that have both numbers, with whether their unit took."""
    points = view.points.dropna(subset=["reported", "learned"])
    columns = [
        "arm",
        "unit",
        "seed",
        "fold",
        "context_id",
        "attribute",
        "learned",
        "learned_low",
        "learned_high",
        "reported",
    ]
    return points[columns].assign(instilled=[view.instilled(str(u)) for u in points["unit"]])


def scatter(view: RunView, data: Table) -> Figure:
    """Reported against learned weights, a panel an arm."""
    return _panels(
        view, data, x="learned", y="reported", name=HEADLINE, xlabel="learned weight", ylabel="reported weight"
    )


def target_data(view: RunView) -> Table:
    """Learned and target weights, once a model: arms that only re-use another's learned weights are left out."""
    own = [
        a
        for a in view.in_order(view.points["arm"])
        if not view.is_control(a) and not a.startswith(("introspection", "native", "ceiling", "untuned"))
    ]
    points = view.points.dropna(subset=["learned", "target"])
    points = points[points["arm"].isin(own)]
    columns = ["arm", "unit", "seed", "context_id", "attribute", "target", "learned", "learned_low", "learned_high"]
    points = points[columns].drop_duplicates(["arm", "unit", "context_id", "attribute"])
    return points.assign(instilled=[view.instilled(str(u)) for u in points["unit"]])


def target(view: RunView, data: Table) -> Figure:
    """Learned against target weights: how well the behaviour took."""
    name = "agreement.learned_vs_target"
    return _panels(view, data, x="target", y="learned", name=name, xlabel="target weight", ylabel="learned weight")


def _panels(view: RunView, data: Table, *, x: str, y: str, name: str, xlabel: str, ylabel: str) -> Figure:
    arms = view.in_order(data["arm"])
    units = list(dict.fromkeys(map(str, data["unit"])))
    by_unit = 1 < _most_units(data) <= len(style.UNIT_MARKS)
    columns = min(3, max(2, len(arms)))
    height = 2.75 if columns == 3 else 3.6
    figure, panels = style.grid(len(arms), columns=columns, height=height, legend=0.6, sharex=True, sharey=True)
    same_scale = _same_scale(data[x].to_numpy(), data[y].to_numpy())
    ranks = _rank_in_arm(data) if by_unit else dict.fromkeys(units, 0)
    for panel, arm in zip(panels, arms, strict=True):
        here = data[data["arm"] == arm]
        _cloud(panel, here, x, y, ranks, dense=len(data) > MANY)
        _lines(panel, here[here["instilled"]], x, y, same_scale)
        e = view.find(name, arm)
        r = "no estimate" if e is None else "r: none" if e.value is None else f"r = {value_and_interval(e)}, n = {e.n}"
        missing = f", {e.n_missing:,} missing" if e is not None and e.n_missing else ""
        panel.set_title(f"{style.label(arm, 34, 2)}\n{r}\n{len(here):,} points{missing}")
        panel.margins(0.06)
    for i, panel in enumerate(panels):
        last = i + columns >= len(panels)
        panel.tick_params(labelbottom=last)
        panel.set_xlabel(xlabel if last else "")
        panel.set_ylabel("" if i % columns else ylabel)
    figure.legend(
        handles=_legend(view, data, ranks, by_unit, same_scale), loc="outside lower center", ncols=5, frameon=False
    )
    return figure


def _cloud(panel: Axes, here: Table, x: str, y: str, ranks: dict[str, int], *, dense: bool) -> None:
    alpha = 0.75 if len(here) < 150 else 0.45 if len(here) < 800 else 0.2
    for unit, group in here.groupby("unit", sort=False):
        colour, marker = style.UNIT_MARKS[ranks[str(unit)] % len(style.UNIT_MARKS)]
        if bool(group["instilled"].iloc[0]):
            kind = {"color": colour, "marker": marker, "alpha": alpha, "linewidths": 0}
        else:
            kind = {"color": style.GREY, "marker": "x", "alpha": 0.7, "linewidths": 0.8}
        panel.scatter(group[x], group[y], s=15, zorder=3, rasterized=dense, **kind)
        known = group.dropna(subset=["learned_low", "learned_high"])
        if len(here) <= 120 and len(known):
            bars = panel.hlines if x == "learned" else panel.vlines
            at = known[y] if x == "learned" else known[x]
            bars(at, known["learned_low"], known["learned_high"], color=colour, lw=0.6, alpha=0.45, zorder=2)


def _lines(panel: Axes, here: Table, x: str, y: str, same_scale: bool) -> None:
    if same_scale:
        panel.axline((0, 0), slope=1, color=style.GREY, lw=0.9, ls=(0, (4, 3)), zorder=1)
    if pearson(here[x].to_numpy(), here[y].to_numpy()) is not None:
        slope, at = np.polyfit(here[x], here[y], 1)
        ends = np.array([here[x].min(), here[x].max()])
        panel.plot(ends, slope * ends + at, color="black", lw=1.4, zorder=4)


def _same_scale(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether an identity line means something: ranges within a factor of 3 of each other."""
    spans = (float(np.ptp(x)), float(np.ptp(y)))
    return min(spans) > 0 and max(spans) / min(spans) < 3


def _most_units(data: Table) -> int:
    return int(data.groupby("arm")["unit"].nunique().max())


def _rank_in_arm(data: Table) -> dict[str, int]:
    """Position of a unit by its seed, so that one seed has one mark in every panel; by order where seeds are unknown."""
    seeds = list(dict.fromkeys(s for s in data["seed"] if pd.notna(s)))
    ranks: dict[str, int] = {}
    for _, group in data.groupby("arm", sort=False):
        for i, (unit, seed) in enumerate(group.groupby("unit", sort=False)["seed"].first().items()):
            ranks[str(unit)] = seeds.index(seed) if pd.notna(seed) else i
    return ranks


def _legend(view: RunView, data: Table, ranks: dict[str, int], by_unit: bool, same_scale: bool) -> Sequence[Line2D]:
    handles = []
    if by_unit:
        seeds = {ranks[str(r.unit)]: r.seed for r in data.drop_duplicates("unit").itertuples()}
        for rank, seed in sorted(seeds.items()):
            colour, marker = style.UNIT_MARKS[rank % len(style.UNIT_MARKS)]
            name = f"seed {seed:g}" if isinstance(seed, int | float) and pd.notna(seed) else f"unit {rank + 1}"
            handles.append(Line2D([], [], ls="", marker=marker, color=colour, label=name, markersize=5))
    if not data["instilled"].all():
        handles.append(Line2D([], [], ls="", marker="x", color=style.GREY, label=view.shut_word, markersize=5))
    if data["instilled"].any():
        handles.append(Line2D([], [], color="black", label="least squares"))
    if same_scale:
        handles.append(Line2D([], [], color=style.GREY, ls=(0, (4, 3)), lw=0.9, label="equal"))
    return handles


def training_data(view: RunView) -> Table:
    """Each parent unit's r before and after report training, on the agents held out from it.

    Where a unit was trained in folds, r is computed within each fold and averaged over folds by Fisher z, before and
    after alike, so that the two differ in nothing but the training.
    """
    points = view.points
    before = points[points["arm"] == "tuned"]
    kinds = [a for a in view.in_order(points["arm"]) if a.startswith("introspection")]
    values: dict[tuple[str, str, str], list[float]] = {}
    for (arm, unit, _), group in points[points["arm"].isin(kinds)].groupby(
        ["arm", "unit", "fold"], sort=False, dropna=False
    ):
        parent = _parent(view, str(unit), before)
        if parent is None:
            continue
        same = before[(before["unit"].astype(str) == parent) & before["context_id"].isin(group["context_id"])]
        r_before = pearson(same["reported"].to_numpy(), same["learned"].to_numpy())
        r_after = pearson(group["reported"].to_numpy(), group["learned"].to_numpy())
        if r_before is not None and r_after is not None:
            values.setdefault((str(arm), parent, "before"), []).append(r_before)
            values.setdefault((str(arm), parent, "after"), []).append(r_after)
    rows = [
        (arm, parent, _mean_r(values[arm, parent, "before"]), _mean_r(values[arm, parent, "after"]))
        for arm, parent, when in values
        if when == "after"
    ]
    return pd.DataFrame(rows, columns=["arm", "parent", "before", "after"])


def _parent(view: RunView, unit: str, before: Table) -> str | None:
    """Return the tuned unit that a report-trained one continues: itself, its parent, or the one of its seed."""
    tuned = set(before["unit"].astype(str))
    if unit in tuned:
        return unit
    known = view.unit(unit)
    for parent in known.get("parents") or ():
        if str(parent) in tuned:
            return str(parent)
    same_seed = before.loc[before["seed"] == known.get("seed"), "unit"].astype(str).unique()
    return str(same_seed[0]) if len(same_seed) == 1 else None


def _mean_r(values: list[float]) -> float:
    return float(np.tanh(np.mean(np.arctanh(np.clip(values, -0.999999, 0.999999)))))


def training(view: RunView, data: Table) -> Figure:
    """A line a unit: tuned, asked about held-out agents, to report-trained; a panel a kind of report training."""
    arms = view.in_order(data["arm"])
    columns = 3 if len(arms) != 4 else 4
    figure, panels = style.grid(len(arms), columns=columns, height=2.9, legend=0.35, sharey=True)
    parents = list(dict.fromkeys(data["parent"]))
    # a unit of `other_instance` stands beside another unit's seed, so its own comes from `units` or its own arm
    own = view.points[view.points["arm"] == "tuned"]
    seeds = dict(zip(own["unit"].astype(str), own["seed"], strict=True))
    seeds |= {str(u["unit"]): u["seed"] for u in view.units if u.get("seed") is not None}
    width = 34 if columns == 3 else 24
    for panel, arm in zip(panels, arms, strict=True):
        here = data[data["arm"] == arm]
        for row in here.itertuples():
            colour, marker = style.UNIT_MARKS[parents.index(row.parent) % len(style.UNIT_MARKS)]
            panel.plot([0, 1], [row.before, row.after], color=colour, marker=marker, markersize=5.5, lw=1.2)
        gain = view.find("agreement.gain", arm)
        title = "gain: no estimate" if gain is None else f"gain: {value_and_interval(gain)}"
        panel.set_title(f"{style.label(arm, width, 2)}\n{title}")
        panel.set_xticks([0, 1], ["tuned", "report-trained"])
        panel.set_xlim(-0.35, 1.35)
        panel.axhline(0, color=style.GREY, lw=0.8, zorder=0)
    for panel in panels[::columns]:
        panel.set_ylabel("r on held-out agents")
    handles = []
    for i, parent in enumerate(parents[: len(style.UNIT_MARKS)]):
        colour, marker = style.UNIT_MARKS[i]
        seed = seeds.get(parent)
        name = f"seed {seed:g}" if isinstance(seed, int | float) and pd.notna(seed) else f"unit {i + 1}"
        handles.append(Line2D([], [], color=colour, marker=marker, label=name, markersize=5.5))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return figure
