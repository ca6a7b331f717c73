"""Maps: a grid of numbers in colour with the numbers in its cells, and who attends to whom.

Source of the kinds: arXiv:2311.12786, figures 10 and 39 to 59. Cells hold their numbers, since colour alone is read to
about a tenth of its range; a missing cell is hatched and never coloured.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from gnothi.errors import DataError
from gnothi.writeup import style
from gnothi.writeup.text import plain

SEQUENTIAL, DIVERGING = "cividis", "PuOr"
"""Colour maps that every common colour vision orders alike."""
LEAST_CELL = 0.142
"""Inches of a cell that still holds a token of one letter beside it, at 8 points."""
_USABLE = style.WIDTH - 1.3
"""Inches of the page's column left for cells, beside labels and the colour bar."""


def heat_map(
    values: Sequence[Sequence[float | None]] | np.ndarray,
    rows: Sequence[object],
    columns: Sequence[object],
    *,
    numbers: bool = True,
    unit: str = "",
    centre: float | None = None,
    low: float | None = None,
    high: float | None = None,
    digits: int | None = None,
    title: str = "",
    x: str = "",
    y: str = "",
) -> Figure:
    """A grid of numbers in colour, with the numbers in the cells.

    Args:
        values: Shape (n_rows, n_columns); None or NaN is drawn as missing.
        rows: Names beside the rows.
        columns: Names below the columns.
        numbers: Whether cells hold their numbers; left out where cells are too narrow for them.
        unit: Words beside the colour bar.
        centre: What stands in the middle of two colours, e.g. 0 for a difference; None for one colour.
        low: Lowest value of the scale; None takes the data's.
        high: Highest value of the scale.
        digits: Digits after the point; None chooses.
        title: Above the map; empty for none.
        x: Words below the axis.
        y: Words beside the axis.

    Raises:
        DataError: Nothing to draw, or names that are not as many as rows and columns.
    """
    return heat_maps(
        [(title, values)],
        rows,
        columns,
        abreast=1,
        numbers=numbers,
        unit=unit,
        centre=centre,
        low=low,
        high=high,
        digits=digits,
        x=x,
        y=y,
    )


def heat_maps(
    panels: Sequence[tuple[str, Sequence[Sequence[float | None]] | np.ndarray]],
    rows: Sequence[object],
    columns: Sequence[object],
    *,
    abreast: int = 2,
    numbers: bool = True,
    unit: str = "",
    centre: float | None = None,
    low: float | None = None,
    high: float | None = None,
    digits: int | None = None,
    x: str = "",
    y: str = "",
) -> Figure:
    """Several heat maps of the same rows and columns on one scale; arguments as of `heat_map`.

    Args:
        panels: Title and values of each.
        rows: As in `heat_map`.
        columns: As in `heat_map`.
        abreast: Panels beside one another.
        numbers: As in `heat_map`.
        unit: As in `heat_map`.
        centre: As in `heat_map`.
        low: As in `heat_map`.
        high: As in `heat_map`.
        digits: As in `heat_map`.
        x: As in `heat_map`.
        y: As in `heat_map`.
    """
    grids = [_grid(v, len(rows), len(columns)) for _, v in panels]
    known = np.concatenate([g[np.isfinite(g)] for g in grids]) if grids else np.array([])
    if not len(known):
        raise DataError("heat map must hold a number to draw, got none. Leave the picture out.")
    norm = _norm(known, low, high, centre)
    abreast = min(abreast, len(panels))
    titled = any(title for title, _ in panels)
    with style.styled():
        height = max(0.27 * len(rows), 0.6) + 0.5 + 0.25 * titled + 0.25 * bool(x)
        height += 0.06 * max(len(str(c)) for c in columns) if len(columns) * abreast > 8 else 0.0
        figure, axes = style.grid(len(panels), columns=abreast, height=height, sharex=True, sharey=True)
        colours = matplotlib_map(SEQUENTIAL if centre is None else DIVERGING)
        room = 0.95 * _USABLE / (abreast * len(columns))
        image = None
        for i, (panel, (title, _), cells) in enumerate(zip(axes, panels, grids, strict=True)):
            image = _cells(panel, cells, colours, norm)
            if numbers:
                _numbers(panel, cells, image, digits, room)
            _names(panel, rows, columns, abreast)
            if title:
                panel.set_title(style.label(title.replace("`", ""), 92 // abreast, 2))
            if y and i % abreast == 0:
                panel.set_ylabel(y)
            if x and i + abreast >= len(panels):
                panel.set_xlabel(x)
            panel.tick_params(labelbottom=i + abreast >= len(panels))
        if image is not None:
            _bar(figure, image, axes, unit)
        return figure


def unit_map(
    counts: Mapping[tuple[object, str], float],
    *,
    blocks: Sequence[object] | None = None,
    parts: Sequence[str] | None = None,
    control: Mapping[tuple[object, str], float] | None = None,
    control_label: str = "chosen at random, expected",
    label: str = "found",
    unit: str = "units",
) -> Figure:
    """Where units lie, by block and part, beside where as many chosen at random would lie.

    Args:
        counts: (block, part) -> units there; what is left out has none.
        blocks: Rows, first to last; None takes them from the counts.
        parts: Columns, e.g. `q`, `k`, `v`, `o`, `up`, `down`; None takes them from the counts.
        control: The same for units to compare with, drawn beside.
        control_label: Title of the control.
        label: Title of the units.
        unit: Words beside the colour bar.
    """
    both = [*counts, *(control or {})]
    blocks = blocks if blocks is not None else sorted({b for b, _ in both}, key=lambda b: (str(type(b)), b))  # type: ignore[arg-type,return-value]
    parts = parts if parts is not None else list(dict.fromkeys(p for _, p in both))
    if not blocks or not parts:
        raise DataError("unit map must hold a place to draw, got none. Leave the picture out.")
    panels = [(label if control is not None else "", counts)]
    if control is not None:
        panels.append((control_label, control))
    return heat_maps(
        [(name, [[float(c.get((b, p), 0)) for p in parts] for b in blocks]) for name, c in panels],
        [f"block {b}" if isinstance(b, int) else b for b in blocks],
        parts,
        unit=unit,
        low=0.0,
    )


def attention_map(
    pattern: Sequence[Sequence[float]] | np.ndarray,
    tokens: Sequence[object],
    title: str = "",
    *,
    queries: Sequence[int] | None = None,
    high: float | None = None,
) -> Figure:
    """Who attends to whom, with the tokens on both axes.

    Args:
        pattern: Shape (T, T); row: the position that attends, column: the position attended to; a row sums to 1.
        tokens: The T tokens, as text.
        title: Above the map.
        queries: Rows to draw, by position; None draws all. A map of many tokens is read best by the rows that matter.
        high: Highest value of the scale; None takes the data's. arXiv:2311.12786 draws 0 to 0.5.
    """
    return attention_grid([(title, pattern, tokens)], queries=queries, high=high)


def attention_grid(
    panels: Sequence[tuple[str, Sequence[Sequence[float]] | np.ndarray, Sequence[object]]],
    *,
    queries: Sequence[int] | None = None,
    high: float | None = None,
    columns: int | None = None,
) -> Figure:
    """Attention maps on one scale, as many abreast as can be read.

    Args:
        panels: Title, pattern of shape (T, T) and tokens of each.
        queries: Rows to draw, by position; None draws all.
        high: Highest value of the scale; None takes the data's.
        columns: Maps abreast at most; None chooses by the number of tokens.

    Raises:
        DataError: No map, or a pattern that does not fit its tokens.
    """
    if not panels:
        raise DataError("attention grid must hold a map to draw, got none. Leave the picture out.")
    grids = []
    for title, pattern, tokens in panels:
        whole = _grid(pattern, len(tokens), len(tokens), where=f"attention map {title!r}")
        grids.append(whole if queries is None else whole[list(queries)])
    longest = max(len(tokens) for _, _, tokens in panels)
    wide = max(1, int(_USABLE / (LEAST_CELL * longest + 0.45)))
    abreast = min(len(panels), wide, columns or 3)
    cell = min(0.34, (_USABLE - 0.45 * abreast) / abreast / longest)
    row = cell if queries is None else max(cell, 0.2)
    most = high if high is not None else max(float(np.nanmax(g)) for g in grids)
    with style.styled():
        widest = max(len(style.label(t, 14, 1)) for _, _, tokens in panels for t in tokens)
        turned = 0.075 * widest if widest * 0.075 > cell else 0.0
        height = row * max(len(g) for g in grids) + 0.75 + turned
        figure, axes = style.grid(len(panels), columns=abreast, height=height)
        colours, norm = matplotlib_map(SEQUENTIAL), Normalize(0.0, most or 1.0)
        image = None
        for i, (panel, (title, _, tokens), cells) in enumerate(zip(axes, panels, grids, strict=True)):
            image = _cells(panel, cells, colours, norm, square=queries is None)
            rows = list(range(len(tokens))) if queries is None else [range(len(tokens))[q] for q in queries]
            _tokens(panel, tokens, rows, cell, row)
            if title:
                panel.set_title(style.label(title.replace("`", ""), max(16, 88 // abreast), 2))
            if i % abreast == 0:
                panel.set_ylabel("attending")
            if i + abreast >= len(panels):
                panel.set_xlabel("attended to")
        if image is not None:
            _bar(figure, image, axes, "attention")
        return figure


def _bar(figure: Figure, image: AxesImage, axes: Sequence[Axes], unit: str) -> None:
    """A colour bar at the right, as high as the maps and at most a hand's breadth."""
    height = float(figure.get_size_inches()[1])
    shrink = min(1.0, 2.8 / height)
    figure.colorbar(
        image, ax=axes, label=plain(unit, 80), fraction=0.05, pad=0.02, shrink=shrink, aspect=height * shrink * 7
    )


def _grid(values: object, n_rows: int, n_columns: int, where: str = "heat map") -> np.ndarray:
    """Numbers of shape (n_rows, n_columns), NaN for what is missing."""
    if isinstance(values, np.ndarray):
        cells = values.astype(float)
    else:
        cells = np.array([[np.nan if v is None else float(v) for v in row] for row in values], dtype=float)  # type: ignore[attr-defined]
    if cells.shape != (n_rows, n_columns):
        raise DataError(f"{where} must have shape {(n_rows, n_columns)}, as its names have, got {cells.shape}.")
    return cells


def _norm(known: np.ndarray, low: float | None, high: float | None, centre: float | None) -> Normalize:
    least, most = (float(known.min()) if low is None else low), (float(known.max()) if high is None else high)
    if centre is None:
        return Normalize(least, most if most > least else least + 1.0)
    reach = max(abs(least - centre), abs(most - centre)) or 1.0
    return TwoSlopeNorm(centre, centre - reach, centre + reach)


def matplotlib_map(name: str) -> Colormap:
    """A colour map by name, without matplotlib's global interface."""
    import matplotlib

    return matplotlib.colormaps[name]


def _cells(panel: Axes, cells: np.ndarray, colours: Colormap, norm: Normalize, *, square: bool = False) -> AxesImage:
    image = panel.imshow(cells, cmap=colours, norm=norm, aspect="equal" if square else "auto", interpolation="nearest")
    for i, j in zip(*np.nonzero(~np.isfinite(cells)), strict=True):
        corner = (float(j) - 0.5, float(i) - 0.5)
        panel.add_patch(Rectangle(corner, 1, 1, facecolor="#f0f0f0", edgecolor="#b0b0b0", hatch="////", lw=0))
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    return image


def _numbers(panel: Axes, cells: np.ndarray, image: AxesImage, digits: int | None, room: float) -> None:
    """Write the numbers into their cells, unless one needs more than `room` inches."""
    known = cells[np.isfinite(cells)]
    if not len(known):
        return
    if digits is None:
        whole = bool((known == np.round(known)).all())
        digits = 0 if whole else 2 if np.abs(known).max() < 10 else 1
    if max(len(_shown(v, digits)) for v in known.tolist()) * 0.078 + 0.03 > room:
        return
    for i, j in np.ndindex(cells.shape):
        value = float(cells[i, j])
        if not np.isfinite(value):
            continue
        red, green, blue, _ = image.to_rgba(cells[i : i + 1, j])[0]
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        panel.text(j, i, _shown(value, digits), ha="center", va="center", color="white" if dark else "black")


def _shown(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _names(panel: Axes, rows: Sequence[object], columns: Sequence[object], abreast: int) -> None:
    """Names at the axes, thinned where there is no room for all."""
    across = max(1, -(-len(columns) // max(1, int(44 / abreast))))
    down = max(1, -(-len(rows) // 60))
    shown = [str(c) for c in list(columns)[::across]]
    narrow = max(4, int(0.95 * _USABLE / (abreast * len(shown)) / 0.078))
    turned = max(len(word) for c in shown for word in c.replace("_", "_ ").split() or [""]) > narrow
    names = [style.label(c, 24 if turned else narrow, 1 if turned else 3) for c in shown]
    panel.set_xticks(range(0, len(columns), across), names, fontsize=9, rotation=90 if turned else 0)
    panel.set_yticks(range(0, len(rows), down), [style.label(r, 22, 2) for r in list(rows)[::down]])


def _tokens(panel: Axes, tokens: Sequence[object], rows: Sequence[int], cell: float, row: float) -> None:
    """Tokens at both axes; where cells are too small for all, every k-th with its position."""
    across, down = (max(1, int(np.ceil(LEAST_CELL / inches - 1e-6))) for inches in (cell, row))

    def name(i: int, every: int) -> str:
        said = style.label(tokens[i], 14, 1)
        return f"{i} {said}" if every > 1 or len(rows) < len(tokens) else said

    columns = range(0, len(tokens), across)
    names = [style.label(tokens[i], 14, 1) if across == 1 else name(i, across) for i in columns]
    turned = 90 if across > 1 or max(map(len, names)) * 0.075 > cell else 0
    panel.set_xticks(columns, names, fontsize=9 if cell * across >= 0.17 else 8, rotation=turned)
    shown = range(0, len(rows), down)
    panel.set_yticks(shown, [name(rows[i], down) for i in shown], fontsize=9 if row * down >= 0.17 else 8)
