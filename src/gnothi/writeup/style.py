"""How figures look and how they are written: one palette, one size of text, the same bytes every time.

matplotlib's global state is left as it was found; no window system and no pyplot.
"""

import io
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gnothi.writeup.text import plain

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
)
"""The eight colours of Okabe and Ito, which readers with any common colour vision tell apart."""

UNIT_MARKS = (
    (BLUE, "o"),
    (VERMILION, "s"),
    (GREEN, "^"),
    (PURPLE, "D"),
    (ORANGE, "v"),
    (SKY, "P"),
    (BLACK, "X"),
    ("#7a7a00", "<"),
    ("#8b3a3a", ">"),
    ("#3a6b6b", "h"),
)
"""Colour and marker of each unit: shape carries the same as colour, for print in grey."""

GREY = "#595959"
WIDTH = 8.6
"""Inches: the page's column at 96 dots an inch, so that text keeps its size."""

_STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.bbox": "standard",  # a notebook's setting must not reach our files
    "text.parse_math": False,  # an arm named `$x` is a name, not a formula
    "text.usetex": False,
    "svg.fonttype": "path",  # looks the same whatever fonts the reader has
    "svg.hashsalt": "gnothi",
    "path.simplify": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """Our settings while drawing or saving, the caller's afterwards."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        # A name in a script that the font lacks is drawn as boxes; the tables beside the figure show it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, sizes in inches; call it inside `styled()`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def grid(
    n: int, *, columns: int = 3, height: float = 2.75, legend: float = 0.0, **share: Any
) -> tuple[Figure, list[Axes]]:
    """`n` small panels of one size, `columns` abreast even if there are fewer, with `legend` inches spare for a legend."""
    rows = -(-n // columns)
    figure = new_figure(rows * height + legend)
    axes = list(figure.subplots(rows, columns, squeeze=False, **share).ravel())
    for extra in axes[n:]:
        extra.set_visible(False)
    return figure, axes[:n]


def label(text: object, width: int = 26, lines: int = 3) -> str:
    r"""A name as it fits a figure: visible escapes, broken at underscores or spaces, cut after some lines.

    >>> label("introspection_other_table", width=16)
    'introspection_\nother_table'
    """
    shown = plain(text, 120).replace("\n", " ")
    broken = textwrap.wrap(shown.replace("_", "_ "), width, break_long_words=True) or [""]
    broken = [line.replace("_ ", "_") for line in broken]
    if len(broken) > lines:
        broken = [*broken[: lines - 1], broken[lines - 1][: width - 1] + "…"]
    return "\n".join(broken)


def to_svg(figure: Figure) -> str:
    """The figure as SVG text: no date, no program name, the same bytes for the same figure."""
    out = io.StringIO()
    with styled():
        figure.savefig(
            out, format="svg", dpi=110, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return re.sub(r">\s+<", "><", out.getvalue())  # a tenth smaller; no text nodes, so no space means anything


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as PNG bytes, without the program's version in them."""
    out = io.BytesIO()
    with styled():
        figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()
