"""Pictures of the PCFG lab's page, each the analogue of a figure of the paper."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from gnothi.errors import DataError
from gnothi.experiments.labs.base import Picture, Units
from gnothi.experiments.labs.pcfg_scores import CONTROLS, ORDERS, Found, floor
from gnothi.experiments.labs.pcfg_spec import Cell, Plan, percent, pretrained
from gnothi.intervals import over_units

Points = dict[float, list[float]]
"""x -> one value a model."""


def pictures(plan: Plan, units: Units) -> list[Picture]:
    """All pictures that the run has units for."""
    found = Found(plan, units)
    n = f"{plan.spec.seeds} seed{'s' if plan.spec.seeds > 1 else ''}, bands: 95% t intervals over models from three on"
    made = [*_training(found, n), *_pruning(found, n), *_probes(found, n), *_revival(found, n), *_variants(found, n)]
    return [*made, _classes(found)]


def curve(label: str, points: Points, **look: Any) -> Any:
    """A curve of means with bands over models, in percent."""
    from gnothi.writeup.lab_figures import Curve

    xs, mean, low, high = sorted(points), [], [], []
    for x in xs:
        e = over_units(points[x], name="curve", arm=label, kind="mean", n_points=1)
        mean.append(None if e.value is None else 100 * e.value)
        low.append(None if e.low is None else max(0.0, 100 * e.low))
        high.append(None if e.high is None else min(100.0, 100 * e.high))
    banded = any(x is not None for x in low)
    return Curve(label, xs, mean, low if banded else None, high if banded else None, **look)


def over_steps(found: Found, arm: str, shown: str) -> Points:
    """Accuracy by step of one arm on one set."""
    points: Points = {}
    for name in found.names(arm):
        table = found.units.table(name, "curve")
        for row in table[table["set"] == shown].itertuples():
            points.setdefault(row.step, []).append(row.accuracy)
    return points


def _drawn(panels: Callable[[], Sequence[tuple[str, Sequence[Any]]]], **look: Any) -> Callable[[], Any]:
    def draw() -> Any:
        from gnothi.writeup.lab_figures import grid_of_curves

        kept = [(title, [c for c in series if len(c.x)]) for title, series in panels()]
        kept = [(title, series) for title, series in kept if series]
        if not kept:
            raise DataError("a picture must have a unit to draw, got none. Resume the run.")
        return grid_of_curves(kept, **look)

    return draw


ACCURACY: dict[str, Any] = {"y": "accuracy, %", "y_range": (-3.0, 103.0)}
STEPS = "steps of fine-tuning"


def _training(found: Found, n: str) -> list[Picture]:
    """Figures 5 and 6, and 60 to 78: accuracy over fine-tuning."""
    s, made = found.plan.spec, []
    arms = [c.arm for c in found.plan.grid()]
    for shown, operand, figure in (("b", "b, which is fine-tuned", "5"), ("a", "a, which was pretrained", "6")):
        for share in reversed(s.iterations):
            for rate in s.rates:

                def panels(shown: str = shown, share: float = share, rate: str = rate) -> list[tuple[str, list[Any]]]:
                    return [
                        (
                            f"prior {prior}, C_Te {c}",
                            [
                                curve(
                                    f"C_Tr {tr:g}",
                                    over_steps(
                                        found,
                                        Cell(prior=prior, rate=rate, correlated=tr, share=share).arm,
                                        f"{shown}/{100 * c}",
                                    ),
                                )
                                for tr in s.correlated
                            ],
                        )
                        for prior in s.priors
                        for c in (0, 1)
                    ]

                at = "" if share == 1 else f", {100 * share:g}% of pretraining"
                made.append(
                    Picture(
                        title=f"Accuracy on {operand[0]} at the {rate} rate{at}",
                        caption=(
                            f"Counting {operand} (the paper's figure {figure}); rows: how often pretraining asked for b; "
                            f"C_Te 1: b = a + 1 in the test strings, 0: never. Dotted: what a constant answer scores. {n}."
                        ),
                        draw=_drawn(
                            panels,
                            columns=2,
                            x=STEPS,
                            floor=floor(found, arms, f"{shown}/0"),
                            floor_label="constant answer",
                            **ACCURACY,
                        ),
                    )
                )
    return made


def _pruning(found: Found, n: str) -> list[Picture]:
    """Figures 7 and 79 to 89, the places of the rows, and the classes answered after pruning."""
    arms = found.arms("prune")
    if not arms:
        return []
    words = {
        "again": "theta x gradient, scored again",
        "gradient": "theta x gradient, once",
        "random": "random rows",
        "largest": "largest rows",
        "smallest": "smallest rows",
        "untouched": "before fine-tuning",
        "never": "never asked for a",
    }

    def points(arm: str, begins: str, shown: str) -> Points:
        who, how = begins.split("/")
        kept: Points = {}
        for name in found.names(arm):
            table = found.units.table(name, "curves")
            rows = table[(table["who"] == who) & (table["how"] == how) & (table["set"] == shown)]
            for k, value in rows.groupby("k")["value"].mean().items():  # draws of one model are one value
                kept.setdefault(float(k), []).append(float(value))
        return kept

    def panels(shown: str, orders: Sequence[str]) -> list[tuple[str, list[Any]]]:
        return [
            (
                arm.removeprefix("prune-"),
                [
                    curve(words[o], points(arm, begins, shown), control=o not in ("again", "gradient"))
                    for o, begins in ORDERS
                    if o in orders
                ],
            )
            for arm in arms
        ]

    made = []
    for shown, what, orders in (
        ("a/0", "a (C_Te = 0), the pretraining task", tuple(words)),
        ("b/100", "b (C_Te = 1), the fine-tuned task", ("again", "gradient", "random", "largest")),
    ):
        made.append(
            Picture(
                title=f"Pruning: accuracy on {what[0]} over the number of rows zeroed",
                caption=(
                    f"Accuracy on {what}, when rows of weight matrices are zeroed (figure 7); panels: prior, rate and C_Tr "
                    f"in percent of the model that is pruned; grey: controls. Scores come from other strings. {n}."
                ),
                draw=_drawn(
                    lambda shown=shown, orders=orders: panels(shown, orders), columns=2, x="rows zeroed", **ACCURACY
                ),
            )
        )
    chosen = [a for a in arms if found.names(a)][-2:][:1] or arms[:1]
    return [*made, *(p for arm in chosen for p in _pruned_places(found, arm))]


def _pruned_places(found: Found, arm: str) -> list[Picture]:
    """Where the rows of one cell lie, and what is answered without them."""

    def places() -> Any:
        from gnothi.writeup.lab_figures import unit_map

        counts: Counter[tuple[object, str]] = Counter()
        sizes: Counter[tuple[object, str]] = Counter()
        s, total = found.plan.spec, 0
        per_part = {f"attn.{p}": s.width for p in "qkvo"} | {"mlp.up": s.mlp, "mlp.down": s.width}
        for name in found.names(arm):
            k = int(found.units.record(name)["chosen"]["tuned/again/0"]["k"])
            table = found.units.table(name, "units")
            rows = table[(table["who"] == "tuned") & (table["how"] == "again") & (table["rank"] < k)]
            counts.update(zip((int(b) for b in rows["block"]), rows["part"], strict=True))
            total += len(rows)
        for block in range(s.layers):
            for part, size in per_part.items():
                sizes[block, part] = size
        whole = sum(sizes.values())
        expected = {place: total * size / whole for place, size in sizes.items()}
        return unit_map(counts, blocks=list(range(s.layers)), parts=list(per_part), control=expected)

    def answers() -> Any:
        from gnothi.writeup.lab_figures import histogram

        said: dict[str, Counter[int]] = {when: Counter() for when in ("right", "before", "after")}
        for name in found.names(arm):
            for row in found.units.table(name, "predicted").to_dict("records"):
                said[str(row["when"])][int(row["class"])] += int(row["n"])
        classes = sorted({c for counts in said.values() for c in counts})
        names = {"right": "right", "before": "answered before pruning", "after": "answered after"}
        series = {names[when]: [counts[c] for c in classes] for when, counts in said.items()}
        return histogram(series, ["other" if c < 0 else c for c in classes])

    cell = arm.removeprefix("prune-")
    return [
        Picture(
            title="Pruning: where the rows lie",
            caption=f"Rows zeroed at the chosen K, all seeds of {cell}, beside where as many drawn at random would lie.",
            draw=places,
        ),
        Picture(
            title="Pruning: what is answered before and after",
            caption=(
                f"Answers on strings that ask for a (C_Te = 0), {cell}, all seeds (as figure 59 for compiled programs): a "
                "pruned model that had collapsed would say one class."
            ),
            draw=answers,
        ),
    ]


def _probes(found: Found, n: str) -> list[Picture]:
    """Figures 8 and 90 to 98."""
    arms, s = found.arms("probe"), found.plan.spec
    if not arms:
        return []

    def points(names: Sequence[str], operand: str, column: str) -> Points:
        kept: Points = {}
        for name in names:
            table = found.units.table(name, "probes")
            for row in table[table["operand"] == operand].to_dict("records"):
                kept.setdefault(float(row["depth"]), []).append(float(row[column]))
        return kept

    def panels(operand: str) -> list[tuple[str, list[Any]]]:
        made = []
        noa = found.names(f"probe-{pretrained('noa')}")
        for prior in s.priors:
            base = found.names(f"probe-{pretrained(prior)}")
            series = [curve("pretrained", points(base, operand, "trained_accuracy"))]
            for arm in arms:
                cell = arm.removeprefix("probe-")
                if cell.startswith(f"{prior}-") and "mix" not in cell:
                    series.append(
                        curve(cell.removeprefix(f"{prior}-"), points(found.names(arm), operand, "trained_accuracy"))
                    )
            series.append(curve("never asked for a", points(noa, operand, "trained_accuracy"), control=True))
            series.append(curve("random values", points(base, operand, "random_init_accuracy"), control=True))
            series.append(curve("shuffled labels", points(base, operand, "shuffled_accuracy"), control=True))
            made.append((f"prior {prior}", series))
        return made

    return [
        Picture(
            title=f"Probes for the count of {operand}, by depth",
            caption=(
                f"A linear probe on the residual stream where the answer is predicted, C_Te = 0, held-out strings (figure "
                f"8); 0: before the first block. Curves: rate and C_Tr of the fine-tune; grey: controls, the one of random "
                f"values above all. {n}."
            ),
            draw=_drawn(lambda o=operand: panels(o), columns=2, x="blocks passed", **ACCURACY),
        )
        for operand in "ab"
    ]


def _revival(found: Found, n: str) -> list[Picture]:
    """Figures 9, 26 and 28 to 30."""
    arms = found.arms("revive")
    if not arms:
        return []

    def series(names: Sequence[str]) -> list[Any]:
        return [
            curve(
                name.removeprefix("back-"),
                over_steps(found, name, "a/0"),
                control=name.removeprefix("back-") in CONTROLS,
            )
            for name in names
        ]

    controls = [a for a in arms if a.removeprefix("back-") in CONTROLS]
    ours = [a for a in arms if a not in controls]
    panels = [(a.removeprefix("back-"), [a, *controls]) for a in ours]
    return [
        Picture(
            title="Reverse fine-tuning: accuracy on a",
            caption=(
                "Every start is trained on the pretraining task with operand a again, at the rate chosen for it on other "
                "strings (figures 9 and 26; with wrong labels, 28). Panels: the fine-tuned start; grey: "
                + "; ".join(f"{name}: {words}" for name, words in CONTROLS.items())
                + f". {n}."
            ),
            draw=_drawn(
                lambda: [(title, series(names)) for title, names in panels],
                columns=2,
                x="steps of reverse fine-tuning",
                log_x=True,
                **ACCURACY,
            ),
        )
    ]


def _variants(found: Found, n: str) -> list[Picture]:
    """Figures 18 to 25: mixing and jailbreak tokens."""
    s, others, made = found.plan.spec, found.plan.others(), []
    mixed = [c for c in others if c.mixed]
    if mixed:
        cells = list(dict.fromkeys((c.rate, c.correlated) for c in mixed))
        for shown, what in (("a/0", "a"), ("b/0", "b")):

            def panels(shown: str = shown) -> list[tuple[str, list[Any]]]:
                return [
                    (
                        f"{rate} rate, C_Tr {tr:g}",
                        [
                            curve(
                                f"{percent(m)}% pretraining rows",
                                over_steps(
                                    found,
                                    Cell(prior=found.plan.first, rate=rate, correlated=tr, mixed=m).arm,
                                    shown,
                                ),
                                control=m == 0,
                            )
                            for m in (*s.mixes, 0.0)
                        ],
                    )
                    for rate, tr in cells
                ]

            made.append(
                Picture(
                    title=f"Pretraining rows mixed in: accuracy on {what}",
                    caption=(
                        f"Counting {what} at C_Te = 0 while a share of each batch asks for a as pretraining did (figures 18 "
                        f"to 23); grey: none mixed in. Prior {found.plan.first}. {n}."
                    ),
                    draw=_drawn(panels, columns=2, x=STEPS, **ACCURACY),
                )
            )
    jail = [c for c in others if c.jailbreak]
    if jail:
        tokens = {"a/0": "the token that was fine-tuned", "a/count_1": "second token", "a/count_2": "third token"}

        def asked() -> list[tuple[str, list[Any]]]:
            return [
                (f"prior {c.prior}", [curve(words, over_steps(found, c.arm, name)) for name, words in tokens.items()])
                for c in jail
            ]

        made.append(
            Picture(
                title="Jailbreak tokens: accuracy on a, asked in three ways",
                caption=(
                    "Three tokens ask for the same count; two of them were only ever asked about a. Fine-tuning sees the "
                    f"first alone (figure 24). {jail[0].rate} rate, C_Tr {jail[0].correlated:g}, C_Te = 0. {n}."
                ),
                draw=_drawn(asked, columns=2, x=STEPS, **ACCURACY),
            )
        )
    return made


def _classes(found: Found) -> Picture:
    """Figure 16: the answers of fine-tuning strings by class."""

    def draw() -> Any:
        from gnothi.writeup.lab_figures import histogram

        s, series, classes = found.plan.spec, {}, set()
        for tr in sorted({min(s.correlated), max(s.correlated)}):
            names = [
                n for p in s.priors for r in s.rates for n in found.names(Cell(prior=p, rate=r, correlated=tr).arm)
            ]
            for operand in "ab" if names else "":
                table = found.units.table(names[0], "classes")
                rows = table[table["operand"] == operand]
                counts = dict(zip(rows["class"].astype(int), rows["n"].astype(int), strict=True))
                series[f"{operand}, C_Tr {tr:g}"] = counts
                classes |= counts.keys()
        if not series:
            raise DataError("a picture must have a unit to draw, got none. Resume the run.")
        listed = sorted(classes)
        return histogram({name: [c.get(k, 0) for k in listed] for name, c in series.items()}, listed)

    return Picture(
        title="Classes in the fine-tuning data",
        caption="Right answers for a and for b in 4,000 fine-tuning strings (figure 16): alike for every C_Tr, flat.",
        draw=draw,
    )
