"""All numbers of a `preferences` run: every statistic of every arm, over units, with its controls beside it."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from gnothi.experiments.preferences.evidence import Evidence, Evidences, evidences_of
from gnothi.experiments.preferences.spec import REPORT_ARMS
from gnothi.intervals import Kind, missing, over_units, paired, within_unit
from gnothi.measure.learned_weights import fit_map_logit, scale_weights
from gnothi.records import Estimate
from gnothi.rng import stream
from gnothi.score import agreement, reliability
from gnothi.score.agreement import Value
from gnothi.score.names import ARMS
from gnothi.store import RunFolder

HEADLINE = "agreement.reported_vs_learned"

Statistic = Callable[[Evidence], Value]

NEEDS_INSTILLING = (
    "tuned",
    "untuned",
    "untrained_agent",
    "other_instance",
    *REPORT_ARMS,
)
"""Arms that say nothing unless the behaviour was instilled: a unit below the gate is left out of them."""

CONTROLS = tuple(a for a in REPORT_ARMS if a not in ("introspection", "introspection_learned"))


def _no(reason: str) -> Value:
    return Value(None, 0, 0, reason)


def _target_r(e: Evidence) -> Value:
    return _no("this arm has no target") if e.target is None else agreement.pooled_r(e.reported, e.target, e.valid)


def _learned_vs_target(e: Evidence) -> Value:
    if e.target is None or e.arm in ("shuffled", "ceiling"):
        return _no("no weights were instilled in this arm")
    return agreement.pooled_r(e.learned, e.target, sides=("learned weights", "target weights"))


def _predicted(e: Evidence) -> Value:
    if e.differences is None or e.chose_a is None:
        return _no("no choices belong to this arm")
    return agreement.choices_predicted(e.reported, e.differences, e.chose_a, e.valid, mask=e.mask)


def _single(e: Evidence) -> Value:
    return agreement.single_report_r(e.repeats, e.learned, e.repeats_valid)


def _drift(e: Evidence) -> Value:
    if e.repeats.shape[1] < 2:
        return _no("each report was asked for once")
    return agreement.option_drift(e.repeats, e.repeats_valid)


def _remeasured(e: Evidence) -> Value:
    if not np.isfinite(e.own).all():
        return _no("the reporting checkpoint was not measured again")
    return agreement.pooled_r(e.reported, e.own, e.valid)


STATISTICS: dict[str, tuple[Kind, Statistic]] = {
    "agreement.reported_vs_learned": ("correlation", lambda e: agreement.pooled_r(e.reported, e.learned, e.valid)),
    "agreement.reported_vs_target": ("correlation", _target_r),
    "agreement.slope": ("mean", lambda e: agreement.slope(e.reported, e.learned, e.valid, folds=e.fold)),
    "agreement.within_context_r": ("mean", lambda e: agreement.within_context_r(e.reported, e.learned, e.valid)),
    "agreement.sign_match": ("share", lambda e: agreement.sign_match(e.reported, e.learned, e.valid)),
    "agreement.top_attribute_match": ("share", lambda e: agreement.top_attribute_match(e.reported, e.learned, e.valid)),
    "agreement.choices_predicted": ("share", _predicted),
    "agreement.absolute_r": ("correlation", lambda e: agreement.absolute_r(e.reported, e.learned, e.valid)),
    "agreement.single_report_r": ("correlation", _single),
    "agreement.mode_vs_learned": ("correlation", lambda e: agreement.pooled_r(e.modes, e.learned, e.valid)),
    "report.validity": ("share", lambda e: agreement.validity(e.repeats_valid)),
    "report.spread": ("mean", lambda e: agreement.spread(e.reported, e.valid)),
    "report.option_drift": ("mean", _drift),
    "report.position": ("mean", lambda e: agreement.attribute_position(e.reported, e.valid)),
}
"""Statistics of every arm; those of single arms are added in `score`."""

UNGATED = ("report.validity", "report.spread", "report.option_drift", "report.position")
"""What is said of reports as such holds whether or not anything was instilled."""


def score(run: RunFolder) -> list[Estimate]:
    """Score a run from its stored units: a pure function of them."""
    evidences = evidences_of(run)
    by_arm: dict[str, list[Evidence]] = {arm: [] for arm in ARMS}
    for e in evidences.all:
        by_arm[e.arm].append(e)
    maximum = evidences.bench.behaviour.domain.scale[1]
    statistics = STATISTICS | {
        "agreement.without_extremes": (
            "correlation",
            lambda e: agreement.without_extremes(e.reported, e.learned, e.valid, maximum=maximum),
        )
    }
    found: list[Estimate] = []
    for arm, pieces in by_arm.items():
        for name, (kind, statistic) in statistics.items():
            found.append(_estimate(name, arm, kind, statistic, pieces, evidences))
    found += [
        _only("agreement.learned_vs_target", "tuned", "correlation", _learned_vs_target, by_arm, evidences, gated=False)
    ]
    for arm in ("tuned", *REPORT_ARMS, "native_introspection"):
        found.append(_only("agreement.remeasured", arm, "correlation", _remeasured, by_arm, evidences))
    for arm in (*REPORT_ARMS, "native_introspection"):
        found.append(_only("behaviour.shift", arm, "correlation", _shift, by_arm, evidences, gated=False))
    for arm in ("native", "native_introspection", "native_untuned"):
        statistic = STATISTICS["agreement.reported_vs_learned"][1]
        found.append(_only("native.reported_vs_learned", arm, "correlation", statistic, by_arm, evidences))
    found += _gains(by_arm)
    found += _behaviour(evidences)
    found += _reliability(evidences, maximum)
    return found


def unit_values(run: RunFolder) -> list[dict[str, Any]]:
    """Each unit's own headline number, for the dots beside an interval."""
    rows = []
    for e in evidences_of(run).all:
        value = agreement.pooled_r(e.reported, e.learned, e.valid).value
        name = "agreement.reported_vs_learned"
        rows.append({"name": name, "arm": e.arm, "unit": "+".join(e.units), "value": value})
    return rows


def _only(
    name: str,
    arm: str,
    kind: Kind,
    statistic: Statistic,
    by_arm: dict[str, list[Evidence]],
    evidences: Evidences,
    *,
    gated: bool = True,
) -> Estimate:
    return _estimate(name, arm, kind, statistic, by_arm[arm], evidences, gated=gated)


def _estimate(
    name: str,
    arm: str,
    kind: Kind,
    statistic: Statistic,
    pieces: list[Evidence],
    evidences: Evidences,
    *,
    gated: bool = True,
) -> Estimate:
    """One (name, arm): over units, or inside the one model that the arm is about."""
    against = ARMS[arm].against
    if not pieces:
        return missing(name, arm, _why_absent(arm, evidences), against=against)
    needs = gated and arm in NEEDS_INSTILLING and name not in UNGATED
    gate = _gate(pieces)
    kept = [e for e in pieces if not (needs and e.gate == "not instilled")]
    if not kept:
        reason = f"not instilled in any of {len(pieces)} units, so self-reports are not interpreted"
        return missing(name, arm, reason, against=against, gate=gate)
    values = [statistic(e) for e in kept]
    points, lost = sum(v.n_points for v in values), sum(v.n_missing for v in values)
    usable = [v for v in values if v.value is not None]
    if not usable:
        reason = values[0].reason or "undefined"
        return missing(name, arm, reason, n=0, n_points=points, against=against, gate=gate)
    labels = {"against": against, "gate": gate, "n_missing": lost}
    if pieces[0].seed is None:
        piece = kept[0]
        return within_unit(
            lambda rows: statistic(piece.take(cast("list[int]", rows))).value,
            len(piece.contexts),
            stream(evidences.spec.seed, "bootstrap", name, arm),
            name=name,
            arm=arm,
            kind=kind,
            n_points=points,
            n_resamples=200 if name == HEADLINE else 60,  # they only serve a standard error
            **labels,
        )
    return over_units([v.value for v in values], name=name, arm=arm, kind=kind, n_points=points, **labels)


def _gate(pieces: list[Evidence]) -> str | None:
    gates = [e.gate for e in pieces if e.gate is not None]
    if not gates:
        return None
    return "passed" if all(g == "passed" for g in gates) else "not instilled"


def _why_absent(arm: str, evidences: Evidences) -> str:
    spec = evidences.spec
    if arm == "other_instance" and spec.seeds < 2:
        return "needs two units or more, got one seed"
    if arm == "ceiling" and not evidences.bench.known:
        return "only an organism has agents known from pretraining"
    if arm == "untrained_agent" and spec.untrained_agents > spec.agents:
        return "needs as many trained agents as untrained ones to pair them"
    if not spec.report_training and (arm in REPORT_ARMS or arm == "native_introspection"):
        return "report training was left out"
    return "no unit of this arm was finished"


def _shift(e: Evidence) -> Value:
    if not np.isfinite(e.own).all():
        return _no("the reporting checkpoint was not measured again")
    return agreement.pooled_r(e.own, e.learned, sides=("weights learned after", "weights learned before"))


def _r(e: Evidence | None) -> float | None:
    if e is None or e.gate == "not instilled":
        return None
    return agreement.pooled_r(e.reported, e.learned, e.valid).value


def _gains(by_arm: dict[str, list[Evidence]]) -> list[Estimate]:
    """Report training against its parent and against its controls, unit by unit on the same held-out agents."""
    found = []
    seeds = sorted({e.seed for e in by_arm["tuned"] if e.seed is not None})
    value = {(arm, e.seed): _r(e) for arm, pieces in by_arm.items() for e in pieces}
    points = {arm: sum(int(e.valid.sum()) for e in pieces) for arm, pieces in by_arm.items()}

    def difference(name: str, label: str, first: str, second: str) -> None:
        against = f"`{second}` on the same agents, unit by unit"
        if not by_arm[first] or not by_arm[second]:
            found.append(missing(name, label, f"`{first}` or `{second}` was not run", against=against))
            return
        a, b = ([value.get((arm, s)) for s in seeds] for arm in (first, second))
        found.append(paired(a, b, name=name, arm=label, n_points=points[first], against=against))

    for arm in REPORT_ARMS:
        difference("agreement.gain", arm, arm, "tuned")
    difference("agreement.gain", "native_introspection", "native_introspection", "native")
    for control in CONTROLS:
        difference("agreement.gain_over_control", control, "introspection", control)
    return found


def _behaviour(evidences: Evidences) -> list[Estimate]:
    found = []
    for arm in ("tuned", "shuffled"):
        records = [r for u, r in evidences.records.items() if r["arm"] == arm]
        for name, field, against in (
            ("behaviour.choice_agreement", "choice_agreement", "the target table"),
            ("behaviour.a_rate", "a_rate", ""),
            ("behaviour.option_mass", "option_mass", ""),
        ):
            if not records:
                found.append(missing(name, arm, "no unit of this arm was finished"))
                continue
            points = sum(r["n_choices"] for r in records)
            gates = [r["gate"] for r in records] if arm == "tuned" else []
            gate = None if not gates else "passed" if all(g == "passed" for g in gates) else "not instilled"
            values = [r[field] for r in records]
            found.append(
                over_units(values, name=name, arm=arm, kind="share", n_points=points, against=against, gate=gate)
            )
    return found


def _reliability(evidences: Evidences, maximum: int) -> list[Estimate]:
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
    values = []
    for i in range(evidences.spec.seeds):
        if f"tuned-{i}" in evidences.units:
            differences, _, mask = evidences.choices(f"tuned-{i}", "trained", bench.trained)
            table = bench.table(i)
            target = np.array([table[c.context_id] for c in bench.trained])
            fit = _fit(maximum)
            values.append(reliability.perfect_chooser(target, differences, fit, mask=mask))
    name = "reliability.perfect_chooser"
    if not values:
        return [*found, missing(name, "tuned", "no unit of this arm was finished")]
    points = sum(v.n_points for v in values)
    numbers = [v.value for v in values]
    return [
        *found,
        over_units(numbers, name=name, arm="tuned", kind="correlation", n_points=points, against="target table"),
    ]


def _fit(maximum: int) -> reliability.Fit:
    def fit(differences: np.ndarray, chose_a: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        slopes = fit_map_logit(differences, chose_a, mask=mask).slopes
        return scale_weights(slopes, maximum=maximum, decimals=0 if maximum >= 100 else 2)

    return fit
