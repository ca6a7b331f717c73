"""Curves with bands, in one panel or a grid of panels with one legend.

Curves of one label look alike everywhere; controls are grey and stand behind. A missing number is None (or NaN) and
leaves a gap.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from gnothi.errors import DataError
from gnothi.writeup import style
from gnothi.writeup.text import plain

Number = float | None
DASHES = {"solid": "-", "dashed": (0, (5, 2)), "dotted": (0, (1.2, 1.6)), "dashdot": (0, (5, 1.5, 1.2, 1.5))}
MOST_MARKS = 26
"""Points of a curve that each get a mark; on longer ones marks are spread."""
_CONTROL_DASHES = ("dashed", "dotted", "dashdot", "solid")
_CONTROL_GREYS = ("#595959", "#8c8c8c", "#303030", "#a8a8a8")


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a figure. Curves of one label look alike in every panel of a grid.

    Args:
        label: What the legend says.
        x: Where, ascending, shape (n,).
        mean: The line, shape (n,); None leaves a gap.
        low: Lower end of the band, shape (n,), or None for no band.
        high: Upper end of the band.
        style: `solid`, `dashed`, `dotted` or `dashdot`; of a control, `solid` means: choose.
        control: Whether it is there to compare with: drawn in grey, behind the others.
        group: Curves of one group share a colour, e.g. a learning rate in several line styles; empty: the label.
        units: Single models, each of shape (n,): thin lines behind the mean.
    """

    label: str
    x: Sequence[float]
    mean: Sequence[Number]
    low: Sequence[Number] | None = None
    high: Sequence[Number] | None = None
    style: str = "solid"
    control: bool = False
    group: str = ""
    units: Sequence[Sequence[Number]] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.x), len(self.mean), *(len(v) for v in (self.low, self.high, *self.units) if v is not None)}
        if len(lengths) > 1:
            raise DataError(f"Curve {self.label!r} must have one value for each x, got lengths {sorted(lengths)}.")
        if self.style not in DASHES:
            raise DataError(f"Curve.style must be one of {', '.join(DASHES)}, got {self.style!r}.")
        if (self.low is None) != (self.high is None):
            raise DataError(f"Curve {self.label!r} must have both ends of its band or none, got one.")


Look = tuple[str, str, Any, str]
"""Colour, marker, dashes and name of the style."""


def curves(
    series: Sequence[Curve],
    *,
    x: str,
    y: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    floor: float | None = None,
    floor_label: str = "floor",
    y_range: tuple[float, float] | None = None,
    ticks: Sequence[str] | None = None,
    joined: bool = True,
    height: float = 3.4,
) -> Figure:
    """Curves with their bands in one panel, the legend beside them.

    Args:
        series: The curves, in the order of the legend.
        x: Words below the axis.
        y: Words beside the axis.
        title: Above the panel; empty for none, since the page has a heading.
        log_x: Whether x is drawn by its logarithm; an x of 0 then stands at the left end.
        log_y: The same of y.
        floor: What a constant answer or chance reaches, a dotted line; None for none.
        floor_label: What the legend calls it.
        y_range: Ends of the axis; None fits them.
        ticks: Names of x = 0, 1, …, where x is no number.
        joined: Whether points are joined; False draws marks with intervals side by side, for what has no order.
        height: Inches.

    Raises:
        DataError: No curve, or none with a number.
    """
    panel = (title, series)
    return grid_of_curves(
        [panel],
        columns=1,
        x=x,
        y=y,
        log_x=log_x,
        log_y=log_y,
        floor=floor,
        floor_label=floor_label,
        y_range=y_range,
        ticks=ticks,
        joined=joined,
        height=height,
    )


def grid_of_curves(
    panels: Sequence[tuple[str, Sequence[Curve]]],
    *,
    columns: int = 3,
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = False,
    floor: float | Mapping[str, float] | None = None,
    floor_label: str = "floor",
    y_range: tuple[float, float] | None = None,
    ticks: Sequence[str] | None = None,
    joined: bool = True,
    height: float = 2.5,
) -> Figure:
    """Small panels of curves that share their axes and one legend.

    Args:
        panels: Title and curves of each, row by row.
        columns: Panels abreast.
        x: Words below the lowest panels.
        y: Words beside the leftmost panels.
        log_x: As in `curves`.
        log_y: As in `curves`.
        floor: One line for all panels, or one by title.
        floor_label: As in `curves`.
        y_range: As in `curves`.
        ticks: As in `curves`.
        joined: As in `curves`.
        height: Inches of a panel.

    Raises:
        DataError: No curve, or none with a number.
    """
    drawn = [c for _, series in panels for c in series if np.isfinite(_floats(c.mean)).any()]
    if not drawn:
        raise DataError("curves must hold a number to draw, got none. Leave the picture out.")
    if ticks is None and len(places := {float(v) for c in drawn for v in c.x}) == 1:
        (place,) = places  # an axis around one point would be marked at thousandths
        ticks, drawn = [f"{place:g}"], [replace(c, x=[0.0] * len(c.x)) for c in drawn]
        panels = [(title, [replace(c, x=[0.0] * len(c.x)) for c in series]) for title, series in panels]
        log_x = False
    looks = _looks([c for c in drawn if not c.control] + [c for c in drawn if c.control])
    zero = _zero(drawn) if log_x else None
    with style.styled():
        columns = min(columns, len(panels))
        labels = [style.label(c, 44, 2) for c in looks]
        beside = columns == 1 and len(panels) == 1 and max(len(line) for s in labels for line in s.split("\n")) <= 40
        across = 1 if beside else abreast(labels)
        legend = 0.0 if beside else 0.24 * -(-(len(looks) + (floor is not None)) // across) + 0.1
        figure, axes = style.grid(
            len(panels), columns=columns, height=height, legend=legend, sharex=True, sharey=y_range is None
        )
        for panel, (title, series) in zip(axes, panels, strict=True):
            _draw_panel(panel, series, looks, zero) if joined else _draw_marks(panel, series, looks)
            level = floor.get(title) if isinstance(floor, Mapping) else floor
            if level is not None:
                panel.axhline(level, color=style.GREY, lw=1.0, ls=(0, (1.2, 1.6)), zorder=1)
            _dress(panel, title, columns, zero, log_x=log_x, log_y=log_y, y_range=y_range, ticks=ticks)
        for i, panel in enumerate(axes):
            if i + columns >= len(panels):
                panel.set_xlabel(plain(x, 200))
                panel.tick_params(labelbottom=True)
            if i % columns == 0:
                panel.set_ylabel(plain(y, 200))
        handles = _handles(looks, drawn, joined)
        if floor is not None:
            handles.append(Line2D([], [], color=style.GREY, lw=1.0, ls=(0, (1.2, 1.6)), label=floor_label))
        if len(handles) > 1 or len(panels) > 1:
            place = "outside right upper" if beside else "outside lower left"
            figure.legend(handles=handles, loc=place, ncols=across, frameon=False, handlelength=2.6)
        return figure


def _draw_panel(panel: Axes, series: Sequence[Curve], looks: Mapping[str, Look], zero: float | None) -> None:
    for curve in series:
        mean = _floats(curve.mean)
        if not np.isfinite(mean).any():
            continue
        at = np.array([zero if zero is not None and v <= 0 else float(v) for v in curve.x])
        colour, marker, dashes, _ = looks[curve.label]
        above = 2 if curve.control else 4
        for unit in curve.units:
            panel.plot(at, _floats(unit), color=colour, lw=0.7, alpha=0.35, zorder=above - 1)
        if curve.low is not None and curve.high is not None:
            low, high = _floats(curve.low), _floats(curve.high)
            panel.fill_between(
                at, low, high, color=colour, alpha=0.08 if curve.control else 0.16, lw=0, zorder=above - 1
            )
            alone = np.isfinite(low) & np.isfinite(high) & _lonely(mean)
            panel.vlines(at[alone], low[alone], high[alone], color=colour, lw=1.2, zorder=above)
        every = max(1, -(-len(at) // MOST_MARKS))
        size = 3.6 if len(at) <= MOST_MARKS else 3.0
        panel.plot(
            at,
            mean,
            color=colour,
            ls=dashes,
            marker=marker,
            ms=size,
            markevery=every,
            mew=0.9 if curve.control else 0,
            lw=1.5,
            zorder=above,
        )


def _draw_marks(panel: Axes, series: Sequence[Curve], looks: Mapping[str, Look]) -> None:
    """Marks with intervals, each curve a little aside; single models as small dots."""
    step = 0.7 / max(1, len(looks))
    places = {label: (k - (len(looks) - 1) / 2) * step for k, label in enumerate(looks)}
    for curve in series:
        colour, marker, _, _ = looks[curve.label]
        at, mean = np.array([float(v) for v in curve.x]) + places[curve.label], _floats(curve.mean)
        for unit in curve.units:
            panel.scatter(at, _floats(unit), s=8, color=colour, alpha=0.4, linewidths=0, zorder=2)
        if curve.low is not None and curve.high is not None:
            panel.vlines(at, _floats(curve.low), _floats(curve.high), color=colour, lw=1.7, zorder=3)
        panel.scatter(at, mean, s=30, color=colour, marker=marker or "_", linewidths=0 if marker else 1.8, zorder=4)
    for i in range(1, 1 + int(max(max(c.x, default=0) for c in series)), 2):
        panel.axvspan(i - 0.5, i + 0.5, color="#f4f4f4", lw=0, zorder=0)


def _dress(
    panel: Axes,
    title: str,
    columns: int,
    zero: float | None,
    *,
    log_x: bool,
    log_y: bool,
    y_range: tuple[float, float] | None,
    ticks: Sequence[str] | None,
) -> None:
    if title:
        panel.set_title(style.label(title.replace("`", ""), max(20, 96 // columns), 2))
    if log_x:
        panel.set_xscale("log")
    if log_y:
        panel.set_yscale("log")
    for axis in [panel.xaxis] * log_x + [panel.yaxis] * log_y:
        axis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
        axis.set_minor_formatter(NullFormatter())
    if zero is not None:
        ends = panel.get_xlim()
        decades = [10.0**k for k in range(math.floor(math.log10(zero)), 12)]
        panel.xaxis.set_major_locator(FixedLocator([zero, *(d for d in decades if zero * 2 < d <= ends[1])]))
        panel.xaxis.set_minor_locator(FixedLocator([]))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value == zero else power(value)))
    if y_range is not None:
        room = 0.03 * (y_range[1] - y_range[0]) if not log_y else 0.0
        panel.set_ylim(y_range[0] - room, y_range[1] + room)
    if ticks is not None:
        panel.set_xticks(range(len(ticks)), [style.label(t, max(6, 90 // (len(ticks) * columns)), 3) for t in ticks])
    elif ticks is None and not log_x and all(_whole(line.get_xdata()) for line in panel.lines):
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    panel.grid(axis="y", color="#e6e6e6", lw=0.6)
    panel.set_axisbelow(True)


def _looks(series: Sequence[Curve]) -> dict[str, Look]:
    """Colour, marker and dashes of each label, the same in every panel."""
    groups = list(dict.fromkeys(c.group or c.label for c in series if not c.control))
    found: dict[str, Look] = {}
    grey = 0
    for curve in series:
        if curve.label in found:
            continue
        if curve.control:
            dash = _CONTROL_DASHES[grey % 4] if curve.style == "solid" else curve.style
            colour, marker = _CONTROL_GREYS[(grey + grey // 4) % 4], "" if grey < 4 else "x+1"[(grey - 4) % 3]
            found[curve.label] = (colour, marker, DASHES[dash], dash)
            grey += 1
        else:
            colour, marker = style.UNIT_MARKS[groups.index(curve.group or curve.label) % len(style.UNIT_MARKS)]
            found[curve.label] = (colour, marker, DASHES[curve.style], curve.style)
    return found


def _handles(looks: Mapping[str, Look], series: Sequence[Curve], joined: bool) -> list[Line2D]:
    controls = {c.label for c in series if c.control}
    return [
        Line2D(
            [],
            [],
            color=colour,
            marker=marker or ("" if joined else "_"),
            ls=dashes if joined else "",
            ms=4.5 if marker else 8,
            mew=0 if marker else 1.8,
            lw=1.5,
            label=style.label(label, 44, 2) + (" (control)" if label in controls and "control" not in label else ""),
        )
        for label, (colour, marker, dashes, _) in looks.items()
    ]


def abreast(labels: Sequence[str]) -> int:
    """Entries of a legend that stand beside one another on a page's width."""
    longest = max((len(line) for label in labels for line in label.split("\n")), default=10)
    return max(1, min(5, 100 // (longest + 16)))


def _floats(values: Sequence[Number]) -> np.ndarray:
    """Numbers with NaN for what is missing or not finite, shape (n,)."""
    found = np.array([math.nan if v is None else float(v) for v in values], dtype=float)
    return np.where(np.isfinite(found), found, math.nan)


def _whole(values: Any) -> bool:
    """Whether all numbers are whole: depths and counts, between which nothing is."""
    return bool((np.asarray(values, dtype=float) % 1 == 0).all())


def power(value: float) -> str:
    """A number of a logarithmic axis in few letters, without mathematical type.

    >>> power(1.0), power(10_000.0), power(0.001), power(1e-6)
    ('1', '10,000', '0.001', '1e-6')
    """
    if 1e-3 <= value < 1e5:
        return f"{value:,.0f}" if value >= 1 else f"{value:g}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _lonely(mean: np.ndarray) -> np.ndarray:
    """Where a point has no neighbour, so that a band would have no width."""
    known = np.isfinite(mean)
    before, after = np.r_[False, known[:-1]], np.r_[known[1:], False]
    return known & ~before & ~after


def _zero(series: Sequence[Curve]) -> float | None:
    """Where x = 0 stands on a logarithmic axis, which has no 0: half a decade left of the least; None without a 0."""
    at = [float(v) for c in series for v in c.x]
    positive = [v for v in at if v > 0]
    return (min(positive) / math.sqrt(10) if positive else 1.0) if min(at) <= 0 else None
