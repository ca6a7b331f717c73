"""Whether the behaviour took, and how far the learned weights can be trusted: numbers that need no self-report."""

import numpy as np

from gnothi.data.rows import labels_for
from gnothi.experiments.preferences.bench import Bench
from gnothi.experiments.preferences.evidence import Evidences
from gnothi.experiments.preferences.weights import learn
from gnothi.intervals import missing, over_units
from gnothi.records import Estimate, common_gate
from gnothi.score import reliability
from gnothi.score.agreement import Value


def manipulation(evidences: Evidences) -> list[Estimate]:
    """Choice agreement, A-rate and option mass over units; `not instilled` if any unit is below the gate."""
    found = []
    for arm in ("tuned", "shuffled"):
        records = [r for u, r in evidences.records.items() if r["arm"] == arm]
        skipped = sorted({str(r["skipped"]) for r in evidences.skipped.values() if r["arm"] == arm})
        for name, field, against in (
            ("behaviour.choice_agreement", "choice_agreement", "the target table"),
            ("behaviour.a_rate", "a_rate", ""),
            ("behaviour.option_mass", "option_mass", ""),
        ):
            if not records:
                found.append(missing(name, arm, "; ".join(skipped) or "no unit of this arm was finished"))
                continue
            points = sum(r["n_choices"] for r in records)
            gate = common_gate(r["gate"] for r in records) if arm == "tuned" else None
            values = [r[field] for r in records]
            found.append(
                over_units(values, name=name, arm=arm, kind="share", n_points=points, against=against, gate=gate)
            )
    return found


def trust(evidences: Evidences, maximum: int) -> list[Estimate]:
    """Split halves of learned weights, and what a chooser that follows its target exactly would reach."""
    found = []
    bench = evidences.bench
    for arm, scope, contexts in (("tuned", "trained", bench.trained), ("native", "untrained", bench.untrained)):
        units = [f"tuned-{i}" for i in range(evidences.spec.seeds) if f"tuned-{i}" in evidences.units]
        halves = [
            reliability.split_half(
                evidences.learned(u, scope, contexts, "odd"), evidences.learned(u, scope, contexts, "even")
            )
            for u in units
        ]
        for name, values in (
            ("reliability.split_half", halves),
            ("reliability.spearman_brown", [reliability.spearman_brown(h) for h in halves]),
        ):
            if not values or all(v.value is None for v in values):
                reason = (values[0].reason if values else None) or "no unit of this arm was finished"
                found.append(missing(name, arm, reason))
                continue
            points = sum(v.n_points for v in values)
            found.append(over_units([v.value for v in values], name=name, arm=arm, kind="correlation", n_points=points))
    name, against = "reliability.perfect_chooser", "target table"
    values = [_perfect(bench, i, maximum) for i in range(evidences.spec.seeds) if f"tuned-{i}" in evidences.units]
    if not values:
        return [*found, missing(name, "tuned", "no unit of this arm was finished")]
    points = sum(v.n_points for v in values)
    numbers = [v.value for v in values]
    return [
        *found,
        over_units(numbers, name=name, arm="tuned", kind="correlation", n_points=points, against=against),
    ]


def _perfect(bench: Bench, seed: int, maximum: int) -> Value:
    """What a chooser that does exactly what the behaviour wants reaches, measured on the same fresh items."""
    table, contexts = bench.table(seed), {c.context_id: c for c in bench.trained}
    items = bench.items(bench.trained, bench.spec.fresh, "fresh")  # a context's together, in the contexts' order
    wanted = labels_for(items, contexts, table, rule=bench.behaviour.target_choice)
    shape = (len(contexts), bench.spec.fresh)
    differences = np.array([i.differences(contexts[i.context_id].choice_type) for i in items]).reshape(*shape, -1)
    target = np.array([table[c] for c in contexts])
    return reliability.perfect_chooser(
        target, differences, np.array(wanted).reshape(shape) == "A", lambda x, y: learn(x, y, maximum=maximum)[0]
    )
