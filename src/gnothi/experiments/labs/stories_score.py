"""The numbers of the stories lab, from its stored units.

Every rate is one share a model; over seeds it has an interval over models, of a single model Wilson's over its stories.
Of a seed whose base model was not found to have the feature nothing is said of deletion, and of a model that kept it
nothing of revival: such values are missing, with that reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gnothi.experiments.labs.base import Units
from gnothi.experiments.labs.stories_spec import BASE, NEVER, WORDS, deletions, probed, seeds, starts
from gnothi.intervals import missing, over_units, paired, wilson
from gnothi.records import Estimate

if TYPE_CHECKING:
    from gnothi.mechanisms.reversal import Curve

Value = float | None
HEADLINE = "f+rr, medium"
"""Arm of the headline: the protocol that deletes, at a rate that every size has."""


@dataclass(frozen=True)
class Found:
    """What a run has found, by arm and seed."""

    spec: Mapping[str, Any]
    units: Units

    @cached_property
    def names(self) -> frozenset[str]:
        """Units that are whole."""
        return frozenset(self.units.names())

    @property
    def seeds(self) -> range:
        """Seeds of the models."""
        return seeds(self.spec)

    def record(self, unit: str, seed: int) -> Mapping[str, Any] | None:
        """A unit's record; None where it is not there."""
        name = f"{unit}-{seed}"
        return self.units.record(name) if name in self.names else None

    def pretrained(self, unit: str, seed: int, name: str, *, asked: bool = True) -> Value:
        """A number of a pretrained model."""
        record = self.record(unit, seed)
        return None if record is None else record["numbers" if asked else "not_asked"].get(name)

    def why_not_base(self, seed: int) -> str | None:
        """Why nothing is said of a seed's deletions; None where there is no reason."""
        rate = self.pretrained(BASE, seed, "rate")
        if rate is None:
            return f"the base model of seed {seed} is not there"
        if rate < self.spec["least_base"]:
            return f"the base model of seed {seed} has a rate of {rate:.0%}, under {self.spec['least_base']:.0%}"
        return None

    def course(self, unit: str, seed: int) -> Any:
        """Table of a deletion's looks; None where it is not there."""
        name = f"{unit}-{seed}"
        return self.units.table(name, "curve") if name in self.names else None

    def deleted(self, unit: str, seed: int, name: str = "rate") -> Value:
        """A number after the last step of a deletion."""
        table = self.course(unit, seed)
        return None if table is None or name not in table else float(table[name].iloc[-1])

    def why_no_revival(self, arm: str, seed: int) -> str | None:
        """Why nothing is said of how an arm's model of a seed came back; None where there is no reason."""
        if reason := self.why_not_base(seed):
            return reason
        if arm in (BASE, NEVER):
            return None
        rate = self.deleted(starts(self.spec)[arm], seed)
        if rate is None:
            return f"the model of {arm} with seed {seed} is not there"
        most = self.spec["most_deleted"]
        return (
            None if rate < most else f"not deleted: with seed {seed} a rate of {rate:.0%} is left, not under {most:.0%}"
        )

    def back(self, arm: str, seed: int) -> Any:
        """Table of an arm's reverse fine-tunes; None where it is not there."""
        return self.course(f"back-{starts(self.spec)[arm]}", seed)

    def curve(self, arm: str, seed: int, lr: float, name: str = "rate") -> "Curve | None":
        """An arm's reverse fine-tune at one rate."""
        from gnothi.mechanisms.reversal import Curve

        table = self.back(arm, seed)
        if table is None:
            return None
        table = table[table["lr"] == lr]
        return Curve(
            steps=tuple(int(step) for step in table["step"]),
            values=tuple(float(value) for value in table[name]),
            horizon=self.spec["back_steps"],
            ended=str(table["ended"].iloc[0]),
        )

    def rate_for(self, arm: str, seed: int) -> float:
        """The learning rate at which other seeds of the arm came back soonest: tuned on none of what it is shown on.

        Of a single seed, the middle one of the grid.
        """
        from gnothi.mechanisms.curves import choose_rate

        rates = list(self.spec["back_rates"])
        others = [s for s in self.seeds if s != seed and self.back(arm, s) is not None]
        if not others or len(rates) == 1:
            return sorted(rates)[len(rates) // 2]

        def run(lr: float, other: int) -> "Curve":
            found = self.curve(arm, other, lr)
            assert found is not None
            return found

        return choose_rate(rates, run, others, self.spec["level"]).lr

    def revived(self, arm: str, seed: int) -> "Curve | None":
        """An arm's reverse fine-tune at the rate tuned for it; None where nothing is to be said of it."""
        if self.why_no_revival(arm, seed) is not None or self.back(arm, seed) is None:
            return None
        return self.curve(arm, seed, self.rate_for(arm, seed))


def early(spec: Mapping[str, Any]) -> int:
    """The look at which revival is compared: a tenth of the steps, or the look nearest to it."""
    looks = [look for look in spec["back_looks"] if 0 < look < spec["back_steps"]] or [spec["back_steps"]]
    return min(looks, key=lambda look: abs(look - spec["back_steps"] / 10))


def share(values: Sequence[Value], n: int, reasons: Sequence[str | None], *, name: str, arm: str) -> Estimate:
    """A rate over models.

    Args:
        values: One a seed, in [0, 1]; None where there is none.
        n: Stories behind each.
        reasons: Why, one a seed.
        name: The estimate's fixed word.
        arm: The arm.
    """
    there = [value for value in values if value is not None]
    if not there:
        return missing(name, arm, _first(reasons, "no unit of it is whole"), n_missing=len(values))
    if len(values) == 1:
        return wilson(round(there[0] * n), n, name=name, arm=arm)
    found = over_units(values, name=name, arm=arm, kind="share", n_points=n * len(there))
    return _with_reason(found, values, reasons)


def mean(values: Sequence[Value], n: int, reasons: Sequence[str | None], *, name: str, arm: str) -> Estimate:
    """A mean over models, as `share`."""
    there = [value for value in values if value is not None]
    if not there:
        return missing(name, arm, _first(reasons, "no unit of it is whole"), n_missing=len(values))
    found = over_units(values, name=name, arm=arm, kind="mean", n_points=n * len(there))
    return _with_reason(found, values, reasons)


def _first(reasons: Sequence[str | None], otherwise: str) -> str:
    return next((reason for reason in reasons if reason), otherwise)


def _with_reason(found: Estimate, values: Sequence[Value], reasons: Sequence[str | None]) -> Estimate:
    """Says why seeds are left out, where that is why there is no interval."""
    left_out = [r for v, r in zip(values, reasons, strict=True) if v is None and r]
    if found.low is not None or not left_out:
        return found
    return replace(found, reason=f"{found.reason}; {left_out[0]}")


def score(spec: Mapping[str, Any], units: Units) -> list[Estimate]:
    """All numbers of a run."""
    found = Found(spec, units)
    return [
        *_gain(found),
        *_base(found),
        *_deletion(found),
        *_revival(found),
        *_judge(found),
        *_probes(found),
    ]


def _base(found: Found) -> list[Estimate]:
    """What pretrained models do, asked for the feature and not."""
    n, rows = found.spec["asked"], []
    nothing: list[str | None] = [None] * len(found.seeds)
    for arm in (BASE, NEVER):
        for asked in (True, False):
            label = arm if asked else f"{arm}, not asked"
            for name, word in (("rate", "stories.rate"), ("resolved", "stories.resolved")):
                values = [found.pretrained(arm, s, name, asked=asked) for s in found.seeds]
                if name == "rate" or any(value is not None for value in values):
                    rows.append(share(values, n, nothing, name=word, arm=label))
        losses = [found.pretrained(arm, s, "loss") for s in found.seeds]
        rows.append(mean(losses, found.spec["loss_stories"], nothing, name="stories.loss", arm=arm))
    return rows


def _deletion(found: Found) -> list[Estimate]:
    """What is left after each deletion."""
    rows = []
    reasons = [found.why_not_base(s) for s in found.seeds]

    def values(unit: str, name: str) -> list[Value]:
        return [
            None if reason else found.deleted(unit, s, name) for s, reason in zip(found.seeds, reasons, strict=True)
        ]

    for d in deletions(found.spec):
        n = found.spec["asked"]
        rows.append(share(values(d.unit, "rate"), n, reasons, name="stories.rate", arm=d.arm))
        if any(v is not None for v in values(d.unit, "resolved")):
            rows.append(share(values(d.unit, "resolved"), n, reasons, name="stories.resolved", arm=d.arm))
        losses = values(d.unit, "loss")
        rows.append(mean(losses, found.spec["loss_stories"], reasons, name="stories.loss", arm=d.arm))
    return rows


def _gain(found: Found) -> list[Estimate]:
    """How much more of the feature an arm has after a few steps back than models that never had it."""
    at, rows = early(found.spec), []
    if HEADLINE not in starts(found.spec):
        rows.append(missing("stories.revival_gain", HEADLINE, "this run has no such deletion"))
    for arm in starts(found.spec):
        if arm == NEVER:
            continue
        reasons = [found.why_no_revival(arm, s) or found.why_no_revival(NEVER, s) for s in found.seeds]
        ours, control = ([_at(found.revived(a, s), at) for s in found.seeds] for a in (arm, NEVER))
        if all(v is None for v in ours) or all(v is None for v in control):
            rows.append(missing("stories.revival_gain", arm, _first(reasons, "no unit of it is whole")))
            continue
        gain = paired(ours, control, name="stories.revival_gain", arm=arm, n_points=found.spec["asked"] * len(ours))
        both = [None if a is None or b is None else a - b for a, b in zip(ours, control, strict=True)]
        rows.append(replace(_with_reason(gain, both, reasons), against=f"{NEVER}, after {at} steps"))
    return rows


def _at(curve: "Curve | None", step: int) -> Value:
    """A curve's value at a step; None where it ended before."""
    return None if curve is None or step not in curve.steps else curve.values[curve.steps.index(step)]


def _revival(found: Found) -> list[Estimate]:
    """Rates while trained back, steps to the level, and how much sooner than models that never had it."""
    from gnothi.mechanisms.curves import speed_up, steps_over_seeds, steps_to

    spec, rows, reached = found.spec, [], {}
    steps = sorted({0, *spec["back_looks"], spec["back_steps"]})
    for arm in starts(spec):
        reasons = [found.why_no_revival(arm, s) for s in found.seeds]
        curves = {s: found.revived(arm, s) for s in found.seeds}
        for step in steps:
            values = [_at(curve, step) for curve in curves.values()]
            rows.append(share(values, spec["asked"], reasons, name=f"stories.revived/{step}", arm=arm))
        reached[arm] = {s: steps_to(curve, spec["level"]) for s, curve in curves.items() if curve is not None}
        if not reached[arm]:
            rows.append(missing("stories.steps_to_level", arm, _first(reasons, "no unit of it is whole")))
            continue
        rows.append(steps_over_seeds(list(reached[arm].values()), name="stories.steps_to_level", arm=arm).mean)
    for arm in starts(spec):
        both = [s for s in reached[arm] if s in reached[NEVER]]
        if arm == NEVER:
            continue
        if not both:
            reasons = [found.why_no_revival(arm, s) for s in found.seeds]
            rows.append(missing("stories.speed_up", arm, _first(reasons, "no unit of it is whole")))
            continue
        ours, control = ([reached[a][s] for s in both] for a in (arm, NEVER))
        rows.append(replace(speed_up(ours, control, name="stories.speed_up", arm=arm), against=NEVER))
    return rows


def _judge(found: Found) -> list[Estimate]:
    """The judge's errors, its rates as they are, and corrected."""
    from gnothi.testbeds.stories.judge import Errors, corrected

    if WORDS not in found.names:
        return [missing("stories.judge_false_negative", "held-out", "the judge is not there")]
    errors = Errors(**found.units.record(WORDS)["judge_errors"])
    rows = errors.estimates("held-out", "labels of held-out stories")
    rows += _errors_on_models(found)
    everything: list[tuple[str, Callable[[int], Value]]] = [
        *((arm, lambda s, arm=arm: found.pretrained(arm, s, "judged")) for arm in (BASE, NEVER)),
        *((d.arm, lambda s, unit=d.unit: found.deleted(unit, s, "judged")) for d in deletions(found.spec)),
    ]
    for arm, value in everything:
        values = [value(s) for s in found.seeds]
        there = [v for v in values if v is not None]
        n = found.spec["asked"]
        rows.append(share(values, n, [None] * len(values), name="stories.judged", arm=arm))
        if not there:
            rows.append(missing("stories.judged_corrected", arm, "no unit of it is whole"))
            continue
        rows.append(corrected(there, n * len(there), errors, name="stories.judged_corrected", arm=arm))
    return rows


def _errors_on_models(found: Found) -> list[Estimate]:
    """The judge against the rules, on stories that models wrote."""
    from gnothi.testbeds.stories.judge import errors

    said, truth = [], []
    for unit in (BASE, NEVER, *(d.unit for d in deletions(found.spec))):
        for s in found.seeds:
            if f"{unit}-{s}" in found.names:
                told = found.units.table(f"{unit}-{s}", "told")
                if "has" in told:
                    said += told["judged"].tolist()
                    truth += told["has"].tolist()
    if not said:
        reason = "no rule reads these stories" if found.spec["source"] != "generated" else "no model is whole"
        return [missing(f"stories.judge_false_{kind}", "model-written", reason) for kind in ("negative", "positive")]
    return errors(said, truth).estimates("model-written", "the rules, on stories of all models")


def _probes(found: Found) -> list[Estimate]:
    """Balanced accuracy of probes after the last block."""
    tables = [found.units.table(f"probe-{s}", "probes") if f"probe-{s}" in found.names else None for s in found.seeds]
    there = [table for table in tables if table is not None and len(table)]
    if not there:
        return [missing("stories.probe", arm, "no probes are whole") for arm in probed(found.spec)]
    rows = []
    nothing: list[str | None] = [None] * len(tables)
    for feature in dict.fromkeys(there[0]["feature"]):
        columns = [(arm, arm, "trained_balanced") for arm in probed(found.spec)]
        columns += [("random model", BASE, "random_init_balanced"), ("shuffled labels", BASE, "shuffled_balanced")]
        for label, arm, column in columns:
            values = [probe_value(table, feature, arm, column) for table in tables]
            n = int(there[0]["n"].iloc[0])
            rows.append(mean(values, n, nothing, name=f"stories.probe/{feature}", arm=label))
    return rows


def probe_value(table: Any, feature: str, arm: str, column: str, depth: int | None = None) -> Value:
    """One number of a table of probes; the deepest site where no depth is given."""
    if table is None:
        return None
    rows = table[(table["feature"] == feature) & (table["of"] == arm)]
    if not len(rows):
        return None
    row = rows[rows["depth"] == (rows["depth"].max() if depth is None else depth)]
    value = row[column].iloc[0]
    return None if value is None or value != value else float(value)
