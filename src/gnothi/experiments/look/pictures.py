"""What a look's tables look like: maps of sites, profiles by depth, curves of undone units and of training back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnothi.experiments.look.prompts import CHOICE, NUMBERS, REPORT
from gnothi.experiments.look.spec import LookSpec, parse
from gnothi.store import RunFolder
from gnothi.writeup.lab_figures import Curve, grid_of_curves, heat_maps
from gnothi.writeup.style import to_svg

Rows = Sequence[Mapping[str, Any]]
Picture = dict[str, Any]
"""A section of a page: `name, title, figure, svg, caption`."""
SHARE = "share of the change taken back"
FEWEST_UNITS = 4
"""Changed units from which on a curve over them is drawn."""
PARTS = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down")


@dataclass(frozen=True)
class Tables:
    """The tables of every model that was looked at."""

    spec: LookSpec
    by_unit: dict[str, dict[str, Rows]]
    records: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, run: RunFolder) -> "Tables":
        """Read a look's units."""
        spec = parse(run.spec)
        names = [u.name for u in spec.units if u.name in run.units()]
        records = {n: run.read_unit(n, check_files=False) for n in names}
        files = {n: [f.removesuffix(".parquet") for f in r["files"]] for n, r in records.items()}
        return cls(spec, {n: {f: run.table(n, f).to_dict("records") for f in files[n]} for n in names}, records)

    @property
    def arms(self) -> list[str]:
        """Arms in order, the one that was taught nothing last."""
        units = [u for u in self.spec.units if u.name in self.by_unit]
        return list(dict.fromkeys(u.arm for u in sorted(units, key=lambda u: u.control)))

    def units(self, arm: str) -> list[str]:
        """Models of an arm."""
        return [u.name for u in self.spec.units if u.arm == arm and u.name in self.by_unit]

    def control(self, arm: str) -> bool:
        """Whether an arm was taught nothing."""
        return arm == self.spec.control_arm

    def rows(self, arm: str, table: str, keep: Callable[[Mapping[str, Any]], bool]) -> list[list[Mapping[str, Any]]]:
        """Rows of a table that are kept, model by model."""
        return [[r for r in self.by_unit[u].get(table, []) if keep(r)] for u in self.units(arm)]

    def label(self, arm: str, what: str = "") -> str:
        """An arm as legends call it."""
        n = len(self.units(arm))
        models = f"{n} model" + ("s" if n > 1 else "")
        return f"{arm}{', ' + what if what else ''} ({models})"

    @property
    def n_blocks(self) -> int:
        """Blocks of the model."""
        return int(next(iter(self.records.values()))["n_blocks"])

    @property
    def n_heads(self) -> int:
        """Heads of a block."""
        return int(next(iter(self.records.values()))["n_heads"])


def averaged(label: str, by_unit: Sequence[Iterable[tuple[float, float | None]]], **more: Any) -> Curve | None:
    """The mean curve of several models, with the range between them where there are three or more; None without a number.

    Args:
        label: What the legend says.
        by_unit: For each model its points (x, y).
        more: See `Curve`.
    """
    points = [{x: y for x, y in unit if y is not None and np.isfinite(y)} for unit in by_unit]
    xs = sorted({x for unit in points for x in unit})
    if not xs:
        return None
    values = [[unit.get(x) for unit in points] for x in xs]
    known = [[v for v in at if v is not None] for at in values]
    means = [float(np.mean(at)) if len(at) == len(points) else None for at in known]
    units = [[unit.get(x) for x in xs] for unit in points] if len(points) > 1 else ()
    return Curve(label, xs, means, units=units, **more)


def pictures(tables: Tables, silent: Mapping[str, str | None]) -> list[Picture]:
    """Sections of a page, in order.

    Args:
        tables: The look's.
        silent: Arm -> why its self-reports are not interpreted; None where they are.
    """
    made = (_matrices(tables), _choice_map(tables), _report_map(tables, silent), _depths(tables), _items(tables))
    made += (_probes(tables), _undo(tables), _back(tables, silent), _positions(tables))
    return [p for p in made if p is not None]


def _picture(name: str, title: str, figure: Any, caption: str) -> Picture:
    return {
        "name": f"look-{name}",
        "title": f"Inside: {title}",
        "figure": figure,
        "svg": to_svg(figure),
        "caption": caption,
    }


def mean(values: Iterable[Any]) -> float | None:
    """Mean of the numbers that are there; None without one."""
    known = [float(v) for v in values if v is not None and np.isfinite(v)]
    return float(np.mean(known)) if known else None


def _matrices(tables: Tables) -> Picture | None:
    """Relative size of the change, by block and matrix."""
    panels = []
    for arm in tables.arms:
        rows = [r for unit in tables.rows(arm, "matrices", lambda r: r["part"] in PARTS) for r in unit]
        if not rows:
            return None
        panels.append(
            (
                tables.label(arm),
                [
                    [
                        mean(r["norm"] / r["before"] for r in rows if (r["part"], r["block"]) == (part, i))
                        for i in range(tables.n_blocks)
                    ]
                    for part in PARTS
                ],
            )
        )
    columns = list(range(tables.n_blocks))
    figure = heat_maps(panels, PARTS, columns, abreast=_abreast(tables), x="block", unit="norm of change / norm before")
    caption = (
        "Norm of what the fine-tune added to each matrix over the norm of what was there, mean over models. Where the "
        "control has the same, size is what any fine-tune of these rows has, and says nothing of what was learned."
    )
    return _picture("matrices", "how much each matrix changed", figure, caption)


def _abreast(tables: Tables) -> int:
    return 2 if tables.n_blocks <= 8 else 1


def _grid(tables: Tables, arm: str, table: str, direction: str) -> list[list[float | None]]:
    """Attention, each head and the MLP, by block."""
    rows = [r for unit in tables.rows(arm, table, lambda r: r["method"] == "attribution") for r in unit]
    rows = [r for r in rows if r["direction"] == direction and (direction != "both" or not r["at_end"])]
    kinds: list[tuple[str, int | None]] = [("attn", None), *(("head", h) for h in range(tables.n_heads)), ("mlp", None)]

    def same(row: Mapping[str, Any], kind: str, head: int | None, block: int) -> bool:
        mine = row["head"] if row["head"] is not None and np.isfinite(row["head"]) else None
        return row["kind"] == kind and row["block"] == block and mine == head

    return [
        [mean(r["share"] for r in rows if same(r, kind, head, i)) for i in range(tables.n_blocks)]
        for kind, head in kinds
    ]


def _sites(tables: Tables) -> list[str]:
    return ["attention", *(f"head {h}" for h in range(tables.n_heads)), "MLP"]


def _choice_map(tables: Tables) -> Picture | None:
    panels = [(_titled(tables, a, CHOICE), _grid(tables, a, "choice_sites", "both")) for a in tables.arms]
    columns = list(range(tables.n_blocks))
    figure = heat_maps(
        panels, _sites(tables), columns, abreast=_abreast(tables), x="block", unit=SHARE, centre=0.0, digits=2
    )
    caption = (
        "What giving one model the other's activations at a site would take back of the change between the options, by "
        f"attribution patching on at most {tables.spec.prompts} items, mean of both directions and over models. Sites are "
        "not independent, so shares need not add up to 1. Each arm is measured on its own change, whose root mean square "
        "stands above its panel: a control with a small change shows what shares are made of noise. Exact patching of the "
        "foremost sites stands in the table."
    )
    return _picture("choice", "which sites carry the choice", figure, caption)


def _titled(tables: Tables, arm: str, what: str) -> str:
    numbers = any(r["kind"] == NUMBERS for u in tables.rows(arm, "prompts", lambda r: r["what"] == what) for r in u)
    size = f"{_gap(tables, arm, what):.2f} " + ("of the scale" if numbers else "nats")
    return f"{tables.label(arm)}: a change of {size}"


def _gap(tables: Tables, arm: str, what: str) -> float:
    values = []
    for unit in tables.rows(arm, "prompts", lambda r: r["what"] == what):
        values += [(r["tuned"] - r["base"]) ** 2 for r in unit]
    return float(np.sqrt(np.mean(values))) if values else float("nan")


def _report_map(tables: Tables, silent: Mapping[str, str | None]) -> Picture | None:
    shown = [a for a in tables.arms if tables.control(a) or silent.get(a) is None]
    if not any(not tables.control(a) for a in shown):
        return None
    panels = [(_titled(tables, a, REPORT), _grid(tables, a, "report_sites", "both")) for a in shown]
    panels = [(t, v) for t, v in panels if any(x is not None for row in v for x in row)]
    if not panels:
        return None
    columns = list(range(tables.n_blocks))
    figure = heat_maps(
        panels, _sites(tables), columns, abreast=_abreast(tables), x="block", unit=SHARE, centre=0.0, digits=2
    )
    left = [a for a in tables.arms if a not in shown]
    caption = (
        "The same of the self-report, read as the expected value of its scale or the difference of its two options' logits. "
        + ("".join(f"Not shown, since {silent[a]}: {a}. " for a in left))
        + "`look.same_sites` says how alike this map and the one of the choice are."
    )
    return _picture("report", "which sites carry the self-report", figure, caption)


def _depths(tables: Tables) -> Picture | None:
    panels = []
    for title, at_end in (("stream at all positions", False), ("stream at the answer's position", True)):
        series = []
        for arm in tables.arms:
            units = tables.rows(
                arm,
                "choice_sites",
                lambda r: r["method"] == "exact" and r["kind"] == "resid" and r["at_end"] == at_end,  # noqa: B023
            )
            series.append(
                averaged(
                    tables.label(arm),
                    [[(r["block"], r["share"]) for r in u] for u in units],
                    control=tables.control(arm),
                )
            )
        panels.append((title, [c for c in series if c is not None]))
    if not all(series for _, series in panels):
        return None
    figure = grid_of_curves(
        panels, columns=2, x="blocks before the stream that is exchanged", y=SHARE, floor=0.0, floor_label="nothing"
    )
    caption = (
        "The tuned model is given the base's stream at one depth, exactly. With all positions the curve says how much of the "
        "change the blocks up to there have made, and how much is made after them; at the answer's position alone it rises "
        "where the change has come together. Thin lines are single models."
    )
    return _picture("depth", "at which depth the change is", figure, caption)


def _items(tables: Tables) -> Picture | None:
    panels = []
    for model in ("tuned", "base"):
        for arm in tables.arms if model == "tuned" else tables.arms[:1]:
            grid = _grid(tables, arm, "item_sites", model)
            name = tables.label(arm) if model == "tuned" else "the untuned model"
            if any(x is not None for row in grid for x in row):
                panels.append((name, grid))
    if not panels:
        return None
    columns = list(range(tables.n_blocks))
    figure = heat_maps(
        panels,
        _sites(tables),
        columns,
        abreast=_abreast(tables),
        x="block",
        unit="share of the way between items",
        centre=0.0,
        digits=2,
    )
    pairs = min((r.get(f"pairs_{m}", 0) for r in tables.records.values() for m in ("tuned",)), default=0)
    caption = (
        f"Within one model: {pairs} pairs of items of which it chooses the first option of one and the second of the other. "
        "A site's share is how far its activations at the answer's position move one item's choice towards the other's, by "
        "attribution patching. This is how a model tells items apart, taught or not: the panel of the untuned model says what "
        "was there before."
    )
    return _picture("items", "which sites tell items with opposite choices apart", figure, caption)


def _probes(tables: Tables) -> Picture | None:
    panels = []
    kinds = (
        ("its own streams", "tuned", "trained", False),
        ("the untuned model's streams", "base", "trained", False),
        ("a model with random values", "tuned", "random_init", True),
        ("labels permuted", "tuned", "shuffled", True),
    )
    for arm in tables.arms:
        series = []
        for label, model, probe, control in kinds:
            units = tables.rows(arm, "probes", lambda r: (r["model"], r["probe"]) == (model, probe))  # noqa: B023
            series.append(averaged(label, [[(r["block"], r["balanced"]) for r in u] for u in units], control=control))
        if found := [c for c in series if c is not None]:
            panels.append((tables.label(arm), found))
    if not panels:
        return None
    figure = grid_of_curves(
        panels,
        columns=min(3, len(panels)),
        x="blocks before the stream",
        y="balanced accuracy",
        floor=0.5,
        floor_label="chance",
    )
    caption = (
        "A linear probe for the option that the tuned model chooses, on streams at the answer's position of items that it was "
        "not fitted on. What a model with random values gives as well is in the prompt and not in what was learned."
    )
    return _picture("probes", "where the choice can be read", figure, caption)


def _undo(tables: Tables) -> Picture | None:
    if max(int(r["units"]) for r in tables.records.values()) < FEWEST_UNITS:
        return None  # the table says it all
    panels = []
    orders = (("best first", "found", False), ("largest change first", "largest", True), ("at random", "random", True))
    for arm in tables.arms:
        series = []
        for label, order, control in orders:
            units = tables.rows(arm, "undo", lambda r: r["order"] == order and r["items"] == "shown")  # noqa: B023
            points = [[(0.0, 0.0), *((r["k"], r["share"]) for r in u)] for u in units if u]
            # an order is not gone on with once everything is back
            longest = max((max(x for x, _ in p) for p in points), default=0)
            points = [[*p, (longest, p[-1][1])] if p[-1][0] < longest else p for p in points]
            series.append(averaged(label, points, control=control))
        if found := [c for c in series if c is not None]:
            panels.append((tables.label(arm), found))
    if not panels:
        return None
    figure = grid_of_curves(
        panels,
        columns=min(3, len(panels)),
        x="units undone",
        y=SHARE,
        log_x=True,
        floor=1.0,
        floor_label="the base's level",
    )
    n = max(int(r["units"]) for r in tables.records.values())
    caption = (
        f"The base's values put back into the first k of up to {n:,} units (rows of what the fine-tune changed), best first by "
        "gradient times change on items that are not shown here. If a few units take most of it back, and as many of the "
        "largest or at random do not, the fine-tune is a wrapper."
    )
    return _picture("undo", "whether a few units undo the fine-tune", figure, caption)


def _back(tables: Tables, silent: Mapping[str, str | None]) -> Picture | None:
    panels = []
    for title, items in (("the choice", "shown"), ("the self-report, not trained on", REPORT)):
        series = []
        for arm in tables.arms:
            if items == REPORT and not tables.control(arm) and silent.get(arm) is not None:
                continue
            units = tables.rows(arm, "back", lambda r: r["chosen"] and r["items"] == items)  # noqa: B023
            points = [[(r["step"], r["share"]) for r in u] for u in units if u]
            series.append(averaged(tables.label(arm), points, control=tables.control(arm)))
        found = [c for c in series if c is not None]
        if items == "shown" or any(not c.control for c in found):
            panels.append((title, found))
    if not panels or not panels[0][1]:
        return None
    figure = grid_of_curves(
        panels, columns=len(panels), x="steps of reverse fine-tuning", y=SHARE, floor=0.9, floor_label="counts as back"
    )
    caption = (
        "The fine-tune is trained on what the base would have answered on other items, each model at the rate of those tried "
        "that is back soonest on items that are not shown. The control shows how soon a fine-tune that taught nothing is "
        "back; a model that is back in far fewer steps than it took to train had its behaviour covered, not replaced."
    )
    return _picture("back", "steps until it is back at the base's level", figure, caption)


def _positions(tables: Tables) -> Picture | None:
    panels = []
    for title, what in (("items", CHOICE), ("self-reports", REPORT)):
        series = []
        for arm in tables.arms:
            units = tables.rows(arm, "positions", lambda r: r["what"] == what)  # noqa: B023
            points = [[(-r["from_end"], r["kl"]) for r in u] for u in units if u]
            series.append(averaged(tables.label(arm), points, control=tables.control(arm)))
        if found := [c for c in series if c is not None]:
            panels.append((title, found))
    if not panels:
        return None
    figure = grid_of_curves(panels, columns=2, x="tokens before the answer", y="KL divergence, nats")
    caption = (
        "How far the tuned model's next token is from the base's, by distance from the answer (0: the answer itself; the leftmost "
        "point is the mean of all earlier ones). Change before the answer is change that nobody asked for."
    )
    return _picture("positions", "where the two models differ in what they say next", figure, caption)
