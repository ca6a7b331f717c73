"""Pictures and tables of the stories lab."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gnothi.experiments.labs.base import LabTable, Picture, Units
from gnothi.experiments.labs.stories_score import Found, early, probe_value
from gnothi.experiments.labs.stories_spec import BASE, NEVER, WORDS, deletions, probed, starts
from gnothi.intervals import over_units, wilson
from gnothi.records import Estimate

if TYPE_CHECKING:
    from gnothi.writeup.lab_figures import Curve

PUBLISHED: Mapping[str, tuple[int, int, int, int]] = {
    "F, medium": (44, 81, 81, 82),
    "F+RR, medium": (12, 56, 69, 75),
    "F+MM, medium": (31, 88, 50, 75),
    "F, small": (69, 88, 75, 94),
    "F+RR, small": (12, 44, 81, 81),
    "F+MM, small": (50, 81, 62, 81),
    "not in pretraining": (12, 31, 44, 81),
}
"""Table 1 of arXiv:2311.12786: stories with a Twist in percent after 0, 30, 300 and 3,000 steps, of 16 stories each."""


def pictures(spec: Mapping[str, Any], units: Units, estimates: Sequence[Estimate]) -> Sequence[Picture]:
    """Curves of deletion and of reversal, probes by depth."""
    del estimates
    found = Found(spec, units)
    n, feature = spec["asked"], spec["feature"]
    band = (
        "Bands are 95% intervals over models" if spec["seeds"] >= 3 else "Bands are Wilson's over one model's stories"
    )
    shown = [
        Picture(
            title="Deletion",
            caption=(
                f"Share of stories with {feature}, by rule, when asked for it, while the base model is fine-tuned without it; "
                f"{n} stories a point. {band}. The grey line is a model that never saw it."
            ),
            draw=lambda: _deletion(found, "rate", "rate"),
        ),
        Picture(
            title="Reverse fine-tuning",
            caption=(
                "The same while models are trained back on stories with it, each at the learning rate tuned on its other "
                f"seeds. {band}. Models that were not deleted are left out. To compare: the model that never saw it (grey), and "
                "the base model, which still has it."
            ),
            draw=lambda: _reversal(found),
        ),
        Picture(
            title="Reverse fine-tuning at every rate",
            caption="One panel a learning rate, means over seeds, whether deleted or not.",
            draw=lambda: _every_rate(found),
        ),
        Picture(
            title="Loss",
            caption=(
                f"Nats a token of held-out stories with {feature}, while it is deleted and trained back (the tuned rate)."
            ),
            draw=lambda: _loss(found),
        ),
        Picture(
            title="Probes by depth",
            caption=(
                "Balanced accuracy of a linear probe on the mean of a story's last ten tokens, read without its instruction. "
                "The random model shows what is in the words alone; .5 is chance."
            ),
            draw=lambda: _probes(found),
        ),
    ]
    if spec["source"] == "generated":
        shown.insert(
            1,
            Picture(
                title="Stories that still make sense",
                caption="Share of stories that resolve an expectation, while it is deleted: where it falls, the model broke.",
                draw=lambda: _deletion(found, "resolved", "share that resolves an expectation"),
            ),
        )
    return shown


def _band(label: str, x: Sequence[int], values: Sequence[Sequence[float | None]], n: int, **look: Any) -> "Curve":
    """A curve of shares over models, `values` by look and then by seed."""
    from gnothi.writeup.lab_figures import Curve

    middle, low, high = [], [], []
    for at in values:
        there = [v for v in at if v is not None]
        if not there:
            found = None
        elif len(there) == 1:
            found = wilson(round(there[0] * n), n, name="rate", arm=label)
        else:
            found = over_units(there, name="rate", arm=label, kind="share", n_points=n * len(there))
        middle.append(None if found is None else found.value)
        low.append(None if found is None or found.low is None else found.low)
        high.append(None if found is None or found.high is None else found.high)
    whole = all(v is not None for v in low)
    return Curve(label, list(x), middle, low if whole else None, high if whole else None, **look)


def _style(spec: Mapping[str, Any], rate: str) -> str:
    return ("solid", "dashed", "dotted")[list(spec["rates"]).index(rate)]


def _deletion(found: Found, name: str, y: str) -> Any:
    from gnothi.writeup.lab_figures import Curve, curves

    spec, drawn = found.spec, []
    for d in deletions(spec):
        tables = [t for s in found.seeds if (t := found.course(d.unit, s)) is not None and name in t]
        if tables:
            steps = tables[0]["step"].tolist()
            values = [[float(t[name].iloc[i]) for t in tables] for i in range(len(steps))]
            look = {"style": _style(spec, d.rate), "group": d.protocol}
            drawn.append(_band(d.arm, steps, values, spec["asked"], **look))
    known = [v for s in found.seeds if (v := found.pretrained(NEVER, s, name)) is not None]
    if drawn and known:
        level = sum(known) / len(known)
        drawn.append(Curve("never saw it", [0, spec["tune_steps"]], [level, level], control=True))
    floor = spec["most_deleted"] if name == "rate" else None
    return curves(drawn, x="steps of fine-tuning", y=y, floor=floor, floor_label="deleted", y_range=(0, 1))


def _reversal(found: Found) -> Any:
    from gnothi.writeup.lab_figures import curves

    spec, drawn = found.spec, []
    rates = {d.arm: d for d in deletions(spec)}
    for arm in starts(spec):
        here = [c for s in found.seeds if (c := found.revived(arm, s)) is not None]
        if not here:
            continue
        steps = here[0].steps
        values = [[c.values[c.steps.index(step)] if step in c.steps else None for c in here] for step in steps]
        look: dict[str, Any] = {"control": arm == NEVER}
        if arm in rates:
            look |= {"style": _style(spec, rates[arm].rate), "group": rates[arm].protocol}
        label = {NEVER: "never saw it", BASE: "base, nothing deleted"}.get(arm, arm)
        drawn.append(_band(label, steps, values, spec["asked"], **look))
    return curves(drawn, x="steps of reverse fine-tuning", y="rate", y_range=(0, 1))


def _every_rate(found: Found) -> Any:
    from gnothi.writeup.lab_figures import Curve, grid_of_curves

    spec, panels = found.spec, []
    rates = {d.arm: d for d in deletions(spec)}
    for lr in spec["back_rates"]:
        drawn = []
        for arm in starts(spec):
            here = [c for s in found.seeds if (c := found.curve(arm, s, lr)) is not None]
            if here:
                steps = here[0].steps
                at = [[c.values[i] for c in here if i < len(c.values)] for i in range(len(steps))]
                look: dict[str, Any] = {"control": arm == NEVER}
                if arm in rates:
                    look |= {"style": _style(spec, rates[arm].rate), "group": rates[arm].protocol}
                label = {NEVER: "never saw it", BASE: "base, nothing deleted"}.get(arm, arm)
                drawn.append(Curve(label, steps, [sum(v) / len(v) if v else None for v in at], **look))
        if drawn:
            panels.append((f"learning rate {lr:g}", drawn))
    return grid_of_curves(
        panels, columns=min(3, max(1, len(panels))), x="steps of reverse fine-tuning", y="rate", y_range=(0, 1)
    )


def _loss(found: Found) -> Any:
    from gnothi.writeup.lab_figures import Curve, grid_of_curves

    spec, away, back = found.spec, [], []
    rates = {d.arm: d for d in deletions(spec)}

    def averaged(label: str, here: Sequence[tuple[Sequence[int], Sequence[float]]], **look: Any) -> Curve:
        steps = list(here[0][0])
        return Curve(label, steps, [sum(v[i] for _, v in here) / len(here) for i in range(len(steps))], **look)

    for arm, unit in starts(spec).items():
        look: dict[str, Any] = {"control": arm == NEVER}
        if arm in rates:
            look |= {"style": _style(spec, rates[arm].rate), "group": rates[arm].protocol}
            tables = [t for s in found.seeds if (t := found.course(unit, s)) is not None]
            if tables:
                away.append(averaged(arm, [(t["step"].tolist(), t["loss"].tolist()) for t in tables], **look))
        curves = [
            c
            for s in found.seeds
            if found.back(arm, s) is not None and (c := found.curve(arm, s, found.rate_for(arm, s), "loss")) is not None
        ]
        if curves and len({c.steps for c in curves}) == 1:
            label = {NEVER: "never saw it", BASE: "base, nothing deleted"}.get(arm, arm)
            back.append(averaged(label, [(c.steps, c.values) for c in curves], **look))
    panels = [(title, drawn) for title, drawn in (("deletion", away), ("reverse fine-tuning", back)) if drawn]
    return grid_of_curves(panels, columns=max(1, len(panels)), x="steps", y="nats a token")


def _probes(found: Found) -> Any:
    from gnothi.writeup.lab_figures import Curve, grid_of_curves

    units = found.units
    tables = [units.table(f"probe-{s}", "probes") for s in found.seeds if f"probe-{s}" in found.names]
    panels = []
    for feature in dict.fromkeys(f for table in tables for f in table["feature"]):
        depths = sorted(set(tables[0]["depth"]))
        drawn = []
        lines = [(arm, arm, "trained_balanced") for arm in probed(found.spec)]
        for label, arm, column in [*lines, ("random model", BASE, "random_init_balanced")]:
            known = [[probe_value(t, feature, arm, column, depth) for t in tables] for depth in depths]
            means = [None if None in row else sum(v for v in row if v is not None) / len(row) for row in known]
            control = label in (NEVER, "random model")
            drawn.append(Curve("never saw it" if label == NEVER else label, depths, means, control=control))
        panels.append((feature, drawn))
    return grid_of_curves(panels, columns=3, x="blocks below", y="balanced accuracy", floor=0.5, floor_label="chance")


def tables(spec: Mapping[str, Any], units: Units, estimates: Sequence[Estimate]) -> Sequence[LabTable]:
    """Rates over reversal beside the paper's, the judge's errors, stories to read."""
    found = Found(spec, units)
    known = {(e.name, e.arm): e for e in estimates}
    steps = sorted({0, *spec["back_looks"], spec["back_steps"]})

    def cell(name: str, arm: str, show: Callable[[float], str] = lambda v: f"{100 * v:.0f}") -> str | None:
        e = known.get((name, arm))
        if e is None or e.value is None:
            return None
        bounds = "" if e.low is None or e.high is None else f" [{show(e.low)}, {show(e.high)}]"
        return show(e.value) + bounds

    ours = [
        [
            arm,
            *(cell(f"stories.revived/{step}", arm) for step in steps),
            cell("stories.steps_to_level", arm, "{:.0f}".format),
        ]
        for arm in starts(spec)
    ]
    shown = [
        LabTable(
            title="Stories with the feature while trained back, percent",
            caption=(
                f"By steps, with 95% intervals, and steps to {spec['level']:.0%}. Missing where it was not deleted before. Gains "
                f"over the model that never saw it are taken after {early(spec)} steps."
            ),
            columns=("arm", *(f"{step} steps" for step in steps), "steps to the level"),
            rows=ours,
        ),
        LabTable(
            title="The paper's, percent",
            caption="Table 1 of arXiv:2311.12786, 91 million parameters, 16 stories a point: standard errors of about 12.",
            columns=("arm", "0 steps", "30 steps", "300 steps", "3,000 steps"),
            rows=[[arm, *row] for arm, row in PUBLISHED.items()],
        ),
    ]
    arms = (BASE, NEVER, *(d.arm for d in deletions(spec)))
    shown.append(
        LabTable(
            title="By rule, by judge, corrected, percent",
            caption="Stories with the feature when asked for it, before reversal. The corrected share should meet the rule's.",
            columns=("arm", "by rule", "by judge", "by judge, corrected", "resolved"),
            rows=[
                [arm, *(cell(f"stories.{n}", arm) for n in ("rate", "judged", "judged_corrected", "resolved"))]
                for arm in arms
            ],
        )
    )
    examples = _examples(found)
    if examples:
        caption = "The first stories that models wrote for instructions that ask for the feature, as they are."
        columns = ("arm", "story", "by rule", "by judge")
        shown.append(LabTable(title="Stories to read", caption=caption, columns=columns, rows=examples))
    return shown


def _examples(found: Found) -> list[list[Any]]:
    """Three stories an arm, of the first seed."""
    rows, s = [], found.seeds[0]
    for arm, unit in starts(found.spec).items():
        if f"{unit}-{s}" not in found.names:
            continue
        for row in found.units.table(f"{unit}-{s}", "told").head(3).to_dict("records"):
            verdicts = [None if row.get(name) is None else "yes" if row[name] else "no" for name in ("has", "judged")]
            rows.append([arm, str(row["story"])[:400], *verdicts])
    if WORDS in found.names:
        rows += [["training data", text, None, None] for text in found.units.record(WORDS)["examples"][:2]]
    return rows
