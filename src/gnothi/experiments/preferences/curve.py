"""The learning curve of an instillation: training loss, and held-out choices that agree with the target, by step."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from gnothi.data.rows import labels_for
from gnothi.experiments.preferences.evidence import Evidences
from gnothi.experiments.preferences.plan import BASE
from gnothi.measure.gate import choice_agreement
from gnothi.records import Sample
from gnothi.writeup.view import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("unit", "step", "loss", "agreement", "a_rate", "items")
BLOCK = 5
"""Steps that a point of the drawn loss is the mean of."""


def curve(evidences: Evidences) -> Table:
    """Points of every tuned unit whose choices were looked at in training; empty where none was.

    Returns:
        `unit, step, loss, agreement, a_rate, items`: at step 0 the untuned model on the fresh items, then each check on
        validation items, at the end the fresh items again. `loss` is the mean since the point before; missing at step 0.
    """
    rows: list[tuple[Any, ...]] = []
    for unit, record in evidences.records.items():
        checks = record.get("checks") or []
        if record["arm"] != "tuned" or not checks:
            continue
        losses = evidences.run.table(unit, "loss")["loss"].to_numpy(float)
        if (start := _untuned(evidences, int(record["seed"]))) is not None:
            rows.append((unit, 0, None, *start, "fresh"))
        before = 0
        end = {"step": len(losses), "choice_agreement": record["choice_agreement"], "a_rate": record["a_rate"]}
        for point, items in [*((c, "validation") for c in checks), (end, "fresh")]:
            step = int(point["step"])
            loss = float(losses[before:step].mean()) if step > before else None
            rows.append((unit, step, loss, point["choice_agreement"], point.get("a_rate"), items))
            before = step
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _untuned(evidences: Evidences, seed: int) -> tuple[float, float | None] | None:
    """How far the base model's choices agree with this seed's table, which it has never seen."""
    if BASE not in evidences.units:
        return None
    rows = evidences.table(BASE, "choices", "trained").drop(columns="scope").to_dict("records")
    samples = [Sample.from_row({str(k): v for k, v in row.items()}) for row in rows]
    items = [s.item for s in samples if s.item is not None]
    contexts = {c.context_id: c for c in evidences.bench.trained}
    table = evidences.bench.table(seed)
    wanted = labels_for(items, contexts, table, rule=evidences.bench.behaviour.target_choice)
    said = [s.value[0] for s in samples if s.valid]
    return choice_agreement(samples, wanted), (sum(v == 1 for v in said) / len(said) if said else None)


def figure(evidences: Evidences, points: Table) -> Mapping[str, str] | None:
    """The curve as a figure of the page; None where nothing was looked at in training."""
    if not len(points):
        return None
    from gnothi.writeup import style  # brings matplotlib, which workers do without

    with style.styled():
        svg = style.to_svg(_drawn(evidences, points))
    return {
        "title": "Learning curve of choices",
        "svg": svg,
        "caption": f"Above: mean training loss of {BLOCK} steps, in nats an answer token; a model that always answers with a "
        f"letter, either at random, loses {_at_random(evidences):.2f}, dotted. Below: share of choices that agree with the "
        "target. Filled marks are validation items looked at in training, rings the fresh items of the untuned model (step "
        "0) and of the tuned one (last). No item was trained on.",
    }


def table(points: Table) -> Mapping[str, Any] | None:
    """The same as numbers."""
    if not len(points):
        return None
    cells = points.astype(object).where(points.notna(), None)
    return {
        "title": "Learning curve of choices, as numbers",
        "caption": "Loss is the mean since the row before. Validation items are looked at in training and decide when to "
        "stop; fresh ones are for measuring and decide the gate.",
        "columns": ["model", "step", "training loss", "agreement", "share of A", "items"],
        "rows": cells.to_numpy().tolist(),
    }


def _at_random(evidences: Evidences) -> float:
    """Loss of a letter at random; where the end of an answer is trained too, that is half of the tokens and costs nothing."""
    return math.log(2) / (2 if evidences.spec.recipe["end_of_answer"] else 1)


def _drawn(evidences: Evidences, points: Table) -> "Figure":
    from gnothi.writeup import style

    drawn = style.new_figure(4.4)
    above, below = drawn.subplots(2, 1, sharex=True)
    for i, (unit, here) in enumerate(points.groupby("unit", sort=False)):
        colour, marker = style.UNIT_MARKS[i % len(style.UNIT_MARKS)]
        losses = evidences.run.table(str(unit), "loss")["loss"].to_numpy(float)
        ends = [*range(BLOCK, len(losses), BLOCK), len(losses)]
        above.plot(ends, [losses[max(0, e - BLOCK) : e].mean() for e in ends], color=colour, lw=1.2)
        below.plot(here["step"], here["agreement"], color=colour, lw=1.2, label=style.label(unit, 30, 1))
        for items, face in (("validation", colour), ("fresh", "white")):
            of = here[here["items"] == items]
            below.scatter(of["step"], of["agreement"], s=30, marker=marker, facecolor=face, edgecolor=colour, zorder=3)
    above.axhline(_at_random(evidences), color=style.GREY, lw=0.9, ls=":")
    above.set_ylabel("training loss")
    above.set_ylim(bottom=0)
    below.axhline(0.5, color=style.GREY, lw=0.9, ls=":")
    below.axhline(evidences.spec.gate_agreement, color=style.VERMILION, lw=1.2, ls="--")
    below.set(
        xlabel="step", ylabel="choices that agree", ylim=(min(0.4, float(points["agreement"].min()) - 0.05), 1.02)
    )
    below.annotate("gate", (0, evidences.spec.gate_agreement), color=style.VERMILION, fontsize=9, va="bottom")
    drawn.legend(loc="outside lower center", ncols=4, frameon=False)
    return drawn
