"""All numbers of a `preferences` run: every statistic of every arm, over units, with its controls beside it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from gnothi.experiments.preferences.evidence import Evidence, Evidences, evidences_of
from gnothi.experiments.preferences.manipulation import manipulation, trust
from gnothi.experiments.preferences.spec import REPORT_ARMS
from gnothi.intervals import Kind, missing, over_units, paired, within_unit
from gnothi.records import DAMAGED, INSTILLED, NOT_INSTILLED, Estimate, common_gate
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
    "native_introspection",
)
"""Arms that say nothing unless the behaviour was instilled: a unit below the gate is left out of them."""

AGAINST = {
    "agreement.reported_vs_target": "the target table",
    "agreement.learned_vs_target": "the target table",
    "agreement.remeasured": "weights measured again in the reporting checkpoint",
    "behaviour.shift": "the parent's learned weights",
}
"""What a number is scored against where it is not what its arm is scored against; `report.*` against nothing."""

CONTROLS = tuple(a for a in REPORT_ARMS if a not in ("introspection", "introspection_learned"))


def _no(reason: str) -> Value:
    return Value(None, 0, 0, reason)


def _against(e: Evidence, weights: np.ndarray) -> np.ndarray:
    """Points with a report and a weight to hold it against; a context that taught none has no weights."""
    return e.valid & np.isfinite(weights)


def _pooled(e: Evidence, reported: np.ndarray, weights: np.ndarray) -> Value:
    valid = _against(e, weights)
    if e.valid.any() and not valid.any():
        return Value(None, 0, valid.size, "no weights were learned from any agent's choices")
    return agreement.pooled_r(reported, weights, valid)


def _headline(e: Evidence) -> Value:
    return _pooled(e, e.reported, e.learned)


def _target_r(e: Evidence) -> Value:
    return _no("this arm has no target") if e.target is None else _pooled(e, e.reported, e.target)


def _learned_vs_target(e: Evidence) -> Value:
    if e.target is None or e.arm in ("shuffled", "ceiling"):
        return _no("no weights were instilled in this arm")
    return reliability.between_learned(e.learned, e.target, ("learned weights", "target weights"))


def _slope(e: Evidence) -> Value:
    rows = np.isfinite(e.learned).all(axis=1)
    if not rows.any():
        return _pooled(e, e.reported, e.learned)
    found = agreement.slope(e.reported[rows], e.learned[rows], e.valid[rows], folds=e.fold[rows])
    return replace(found, n_missing=found.n_missing + int((~rows).sum()) * e.learned.shape[1])


def _predicted(e: Evidence) -> Value:
    if e.differences is None or e.chose_a is None:
        return _no("no choices belong to this arm")
    return agreement.choices_predicted(e.reported, e.differences, e.chose_a, e.valid, mask=e.mask)


def _single(e: Evidence) -> Value:
    return agreement.single_report_r(e.repeats, e.learned, e.repeats_valid & np.isfinite(e.learned)[:, None, :])


def _drift(e: Evidence) -> Value:
    if e.repeats.shape[1] < 2:
        return _no("each report was asked for once")
    return agreement.option_drift(e.repeats, e.repeats_valid)


def _position(e: Evidence) -> Value:
    if (e.places < 0).all():
        return _no("each question was about one attribute, so there is no list to have a place in")
    rows = (-1, e.repeats.shape[2])
    places = e.places.reshape(rows)
    return agreement.attribute_position(e.repeats.reshape(rows), e.repeats_valid.reshape(rows), positions=places)


def _remeasured(e: Evidence) -> Value:
    return _pooled(e, e.reported, e.own)


STATISTICS: dict[str, tuple[Kind, Statistic]] = {
    "agreement.reported_vs_learned": ("correlation", _headline),
    "agreement.reported_vs_target": ("correlation", _target_r),
    "agreement.slope": ("mean", _slope),
    "agreement.within_context_r": (
        "mean",
        lambda e: agreement.within_context_r(e.reported, e.learned, _against(e, e.learned)),
    ),
    "agreement.sign_match": ("share", lambda e: agreement.sign_match(e.reported, e.learned, _against(e, e.learned))),
    "agreement.top_attribute_match": (
        "share",
        lambda e: agreement.top_attribute_match(e.reported, e.learned, _against(e, e.learned)),
    ),
    "agreement.choices_predicted": ("share", _predicted),
    "agreement.absolute_r": (
        "correlation",
        lambda e: agreement.absolute_r(e.reported, e.learned, _against(e, e.learned)),
    ),
    "agreement.single_report_r": ("correlation", _single),
    "agreement.mode_vs_learned": ("correlation", lambda e: _pooled(e, e.modes, e.learned)),
    "report.validity": ("share", lambda e: agreement.validity(e.repeats_valid)),
    "report.spread": ("mean", lambda e: agreement.spread(e.reported, e.valid)),
    "report.option_drift": ("mean", _drift),
    "report.position": ("mean", _position),
}
"""Statistics of every arm; those of single arms are added in `score`."""

UNGATED = ("report.validity", "report.spread", "report.option_drift", "report.position")
"""What is said of reports as such holds whether or not anything was instilled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One number of the run: a statistic of an arm's evidence."""

    name: str
    arm: str
    kind: Kind
    statistic: Statistic
    gated: bool = True
    """Whether it says nothing where nothing was instilled, in the arms of `NEEDS_INSTILLING`."""

    def leaves_out(self, e: Evidence) -> bool:
        """Whether a unit is not interpreted: damaged, or below the gate in an arm that needs the behaviour."""
        if not self.gated or self.name in UNGATED:
            return False
        return e.gate == DAMAGED or (e.gate == NOT_INSTILLED and self.arm in NEEDS_INSTILLING)


def wanted(maximum: int) -> list[Wanted]:
    """Every statistic of every arm; `maximum` is the end of the weights' scale."""
    extremes: Statistic = lambda e: agreement.without_extremes(  # noqa: E731
        e.reported, e.learned, _against(e, e.learned), maximum=maximum
    )
    more_of_every: dict[str, tuple[Kind, Statistic]] = {"agreement.without_extremes": ("correlation", extremes)}
    found = [
        Wanted(name=name, arm=arm, kind=kind, statistic=statistic)
        for arm in ARMS
        for name, (kind, statistic) in (STATISTICS | more_of_every).items()
    ]
    trained = (*REPORT_ARMS, "native_introspection")

    def more(name: str, arms: Sequence[str], statistic: Statistic, *, gated: bool = True) -> None:
        found.extend(Wanted(name=name, arm=a, kind="correlation", statistic=statistic, gated=gated) for a in arms)

    more("agreement.learned_vs_target", ("tuned",), _learned_vs_target, gated=False)
    more("agreement.remeasured", ("tuned", *trained), _remeasured)
    more("behaviour.shift", trained, _shift, gated=False)
    more("native.reported_vs_learned", ("native", "native_introspection", "native_untuned"), _headline)
    return found


def score(run: RunFolder) -> list[Estimate]:
    """Score a run from its stored units: a pure function of them."""
    evidences = evidences_of(run)
    by_arm = by_arms(evidences.all)
    maximum = evidences.bench.behaviour.domain.scale[1]
    found = [_estimate(w, by_arm[w.arm], evidences) for w in wanted(maximum)]
    found += gains(by_arm)
    found += manipulation(evidences)
    found += trust(evidences, maximum)
    return found


def by_arms(pieces: Iterable[Evidence]) -> dict[str, list[Evidence]]:
    """Evidence by arm, every arm there."""
    found: dict[str, list[Evidence]] = {arm: [] for arm in ARMS}
    for e in pieces:
        found[e.arm].append(e)
    return found


def unit_values(run: RunFolder) -> list[dict[str, Any]]:
    """Each unit's own headline number, for the dots beside an interval."""
    rows = []
    for e in evidences_of(run).all:
        value = _headline(e).value
        name = "agreement.reported_vs_learned"
        rows.append({"name": name, "arm": e.arm, "unit": "+".join(e.units), "value": value})
    return rows


def _estimate(this: Wanted, pieces: list[Evidence], evidences: Evidences) -> Estimate:
    """One (name, arm): over units, or inside the one model that the arm is about."""
    name, arm, kind, statistic = this.name, this.arm, this.kind, this.statistic
    against = "" if name in UNGATED else AGAINST.get(name, ARMS[arm].against)
    if not pieces:
        return missing(name, arm, _why_absent(arm, evidences), against=against)
    gate = _gate(arm, pieces)
    if name in UNGATED and len({e.units for e in pieces}) == 1:
        pieces = pieces[:1]  # one model's answers, however many units they are compared with
    kept = [e for e in pieces if not this.leaves_out(e)]
    if not kept:
        return missing(name, arm, _not_interpreted(gate, len(pieces)), against=against, gate=gate)
    values = [statistic(e) for e in kept]
    left_out = sum(int(e.valid.size) for e in pieces if not any(e is k for k in kept))
    points, lost = sum(v.n_points for v in values), sum(v.n_missing for v in values) + left_out
    usable = [v for v in values if v.value is not None]
    if not usable:
        reason = values[0].reason or "undefined"
        return missing(name, arm, reason, n=0, n_points=points, against=against, gate=gate)
    labels = {"against": against, "gate": gate, "n_missing": lost}
    piece = kept[0]
    if piece.seed is None or (name in UNGATED and len(pieces) == 1 and evidences.spec.seeds > 1):
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
    numbers = [v.value for v in values] + [None] * (len(pieces) - len(kept))
    estimate = over_units(numbers, name=name, arm=arm, kind=kind, n_points=points, **labels)
    only = estimate.value if len({v.value for v in usable}) == 1 < len(usable) else None
    if kind == "share" and only is not None and 0 < only < 1:
        # the same number to the last digit is one measurement and not several: its spread is not known
        reason = f"{len(usable)} units gave the same number, so there is no spread to make an interval from"
        estimate = replace(estimate, low=None, high=None, reason=reason)
    return estimate


def _not_interpreted(gate: str | None, n: int) -> str:
    left_out = f"damaged in all of {n} units" if gate == DAMAGED else f"not instilled in any of {n} units"
    return f"{left_out}, so self-reports are not interpreted"


def _gate(arm: str, pieces: Sequence[Evidence]) -> str | None:
    """`not instilled` or `damaged` only if no unit is left: those below the gate are left out and counted."""
    gates = [e.gate for e in pieces if e.gate is not None]
    if arm not in NEEDS_INSTILLING:
        return DAMAGED if gates.count(DAMAGED) == len(pieces) > 0 else None
    return INSTILLED if INSTILLED in gates else common_gate(gates)


def _why_absent(arm: str, evidences: Evidences) -> str:
    spec = evidences.spec
    if arm == "other_instance" and spec.seeds < 2:
        return "needs two units or more, got one seed"
    if arm == "ceiling" and not evidences.bench.known:
        return "only an organism has agents known from pretraining"
    if arm == "untrained_agent" and spec.untrained_agents > spec.agents:
        return "needs as many trained agents as untrained ones to pair them"
    trained = "shuffled" if arm == "shuffled_own" else arm
    if reasons := {str(r["skipped"]) for r in evidences.skipped.values() if r["arm"] == trained}:
        return "; ".join(sorted(reasons))
    if not spec.report_training and (arm in REPORT_ARMS or arm == "native_introspection"):
        return "report training was left out"
    return "no unit of this arm was finished"


def _shift(e: Evidence) -> Value:
    return reliability.between_learned(e.own, e.learned, ("weights learned after", "weights learned before"))


def gains(by_arm: Mapping[str, Sequence[Evidence]]) -> list[Estimate]:
    """Report training against its parent and against its controls, unit by unit on the same held-out agents."""
    found = []

    def difference(name: str, label: str, first: str, second: str) -> None:
        labels: dict[str, Any] = {
            "against": f"`{second}` on the same agents, unit by unit",
            "gate": _gate(label, by_arm[first]),
        }
        seconds = {e.seed: e for e in by_arm[second]}
        pairs = [(e, seconds[e.seed]) for e in by_arm[first] if e.seed in seconds]
        if not pairs:
            found.append(missing(name, label, f"`{first}` or `{second}` was not run", **labels))
            return
        shut = (NOT_INSTILLED, DAMAGED) if label in NEEDS_INSTILLING else (DAMAGED,)
        kept = [(a, b) for a, b in pairs if a.gate not in shut and b.gate != DAMAGED]
        if not kept:
            if all(b.gate == DAMAGED for _, b in pairs):  # it is the other side that is not there
                labels["gate"] = DAMAGED
            found.append(missing(name, label, _not_interpreted(labels["gate"], len(pairs)), **labels))
            return
        values = [_same_points(a, b) for a, b in kept]
        if all(a.value is None or b.value is None for a, b in values):
            reason = next((v.reason for pair in values for v in pair if v.value is None), None)
            found.append(missing(name, label, reason or "undefined", **labels))
            return
        usable = [a for a, b in values if a.value is not None and b.value is not None]
        found.append(
            paired(
                [a.value for a, _ in values],
                [b.value for _, b in values],
                name=name,
                arm=label,
                n_points=sum(v.n_points for v in usable),
                n_missing=sum(a.n_missing for a, _ in values),
                **labels,
            )
        )

    for arm in REPORT_ARMS:
        difference("agreement.gain", arm, arm, "tuned")
    difference("agreement.gain", "native_introspection", "native_introspection", "native")
    for control in CONTROLS:
        difference("agreement.gain_over_control", control, "introspection", control)
    return found


def _same_points(first: Evidence, second: Evidence) -> tuple[Value, Value]:
    """The headline of two arms over the points that both have reported on: a gain in validity is no gain in r."""
    row = {c.context_id: i for i, c in enumerate(second.contexts)}
    second = second.take([row[c.context_id] for c in first.contexts])
    valid = _against(first, first.learned) & _against(second, second.learned)
    a, b = (agreement.pooled_r(e.reported, e.learned, valid) for e in (first, second))
    return a, b
