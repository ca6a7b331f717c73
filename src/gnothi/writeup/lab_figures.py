"""Figures of labs and of looking inside: curves with bands, histograms, heat maps, attention maps, maps of units.

Every function takes plain numbers and words, and returns a matplotlib Figure in the style of the other pages: colours
that readers with any common colour vision tell apart, and a dash, mark or hatch that says the same in grey. A missing
number is None (or NaN): a gap in a curve, a hatched cell in a map. Curves are drawn in `lab_curves` and maps in
`lab_maps`; all can be had from here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gnothi.errors import DataError
from gnothi.writeup import style
from gnothi.writeup.lab_curves import Curve, abreast, curves, grid_of_curves
from gnothi.writeup.lab_maps import attention_grid, attention_map, heat_map, heat_maps, unit_map

__all__ = [
    "Curve",
    "attention_grid",
    "attention_map",
    "curves",
    "grid_of_curves",
    "heat_map",
    "heat_maps",
    "histogram",
    "unit_map",
]

_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx")


def histogram(
    series: Mapping[str, Sequence[float]],
    classes: Sequence[object],
    *,
    x: str = "class",
    y: str = "samples",
    title: str = "",
    height: float = 2.9,
) -> Figure:
    """Counts by class: bars side by side, or a panel each where there are too many to tell apart.

    Args:
        series: Label -> counts, one a class.
        classes: Names of the classes.
        x: Words below the axis.
        y: Words beside the axis.
        title: Above the panel; empty for none.
        height: Inches of a panel.

    Raises:
        DataError: Nothing to draw, or counts and classes of different number.
    """
    if not series or not len(classes):
        raise DataError("histogram must hold counts, got none. Leave the picture out.")
    for label, counts in series.items():
        if len(counts) != len(classes):
            raise DataError(f"histogram {label!r} must have {len(classes)} counts, one a class, got {len(counts)}.")
    together = len(series) * len(classes) <= 84
    with style.styled():
        rows = 1 if together else len(series)
        figure = style.new_figure(rows * (height if together else 0.62 * height) + 0.35)
        axes = list(figure.subplots(rows, 1, squeeze=False, sharex=True, sharey=True).ravel())
        places, width = np.arange(len(classes)), 0.84 / (len(series) if together else 1)
        for k, (label, counts) in enumerate(series.items()):
            panel = axes[0 if together else k]
            shift = (k - (len(series) - 1) / 2) * width if together else 0.0
            panel.bar(places + shift, counts, width, **_bar(k))
            if not together:
                panel.set_title(style.label(label, 90, 1))
                panel.set_ylabel(y)
        every = max(1, -(-len(classes) // 26))
        axes[-1].set_xticks(places[::every], [style.label(c, 10, 1) for c in list(classes)[::every]])
        axes[-1].set_xlabel(x)
        if together:
            axes[0].set_ylabel(y)
            if title:
                axes[0].set_title(style.label(title, 90, 2))
            if len(series) > 1:
                names = [Patch(label=style.label(s, 44, 2), **_bar(k)) for k, s in enumerate(series)]
                across = abreast([style.label(s, 44, 2) for s in series])
                figure.legend(handles=names, loc="outside lower left", ncols=across, frameon=False)
        for panel in axes:
            panel.set_xlim(-0.6, len(classes) - 0.4)
            panel.grid(axis="y", color="#e6e6e6", lw=0.6)
            panel.set_axisbelow(True)
        return figure


def _bar(k: int) -> dict[str, Any]:
    """Colour and hatch of the k-th series."""
    return {
        "facecolor": style.UNIT_MARKS[k % len(style.UNIT_MARKS)][0],
        "hatch": _HATCHES[k % len(_HATCHES)],
        "edgecolor": "white",
        "linewidth": 0.5,
    }
