"""The numbers of the compiled-program lab, from its stored units: one value a model, intervals over models."""

from collections.abc import Callable, Mapping
from typing import Any

from gnothi.experiments.labs.base import Units
from gnothi.experiments.labs.tracr_spec import TracrSpec, jobs
from gnothi.intervals import Kind, missing, over_units, paired, wilson
from gnothi.records import Estimate

LIFT = 0.6
"""A lift above this is the paper's claim."""

MEANINGS: Mapping[str, str] = {
    "tracr.pruned_lift": (
        "accuracy on the old task (C_Te = 0) with one weight set to zero, less without: the weight is chosen on other "
        "strings; the headline"
    ),
    "tracr.random_lift": "the same for the best of many random weights, chosen on the same strings: a control",
    "tracr.lift_over_random": "`tracr.pruned_lift` less `tracr.random_lift`, paired by seed",
    "tracr.revived_seeds": "share of models in which the chosen weight lifts the old task by more than 60 points",
    "tracr.untouched_accuracy": "share of right answers of the compiled program before any noise; 1 or the compiler is wrong",
    "tracr.noisy_accuracy": "the same (C_Te = 0) with the noise that fine-tunes start from",
    "tracr.noise": "s.d. of that noise: the largest level tried at which every seed keeps 99% of its answers",
    "tracr.accuracy": (
        "share of right answers of a fine-tuned program; after the slash the task (old: compiled, new: tuned to) and C_Te "
        "in percent"
    ),
    "tracr.attention": (
        "share of the answering position's attention on a kind of token, in the block that counts; after the slash the "
        "letter of the old task, of the new one, or what else"
    ),
    "tracr.back_accuracy": (
        "accuracy on the old task (C_Te = 0) while it is trained again; after the slash the share of the steps, in percent"
    ),
}
SHOWN = ("old/0", "new/0", "old/100", "new/100")
BACK_AT = (10, 100)
"""Shares of the steps at which trainings back are reported, in percent: the paper has 1,000 and 10,000 of 10,000."""


class Found:
    """Records by arm and seed."""

    def __init__(self, spec: TracrSpec, units: Units) -> None:
        self.spec, self.units = spec, units
        self.whole = set(units.names())
        self.jobs = jobs(spec)

    def arms(self, kind: str) -> list[str]:
        """Arms of one kind of job, in order."""
        return list(dict.fromkeys(j.arm for j in self.jobs if j.payload["kind"] == kind))

    def names(self, arm: str) -> list[str]:
        """Whole units of an arm, by seed."""
        return [j.name for j in self.jobs if j.arm == arm and j.name in self.whole]

    def records(self, arm: str) -> list[Mapping[str, Any]]:
        """Their records."""
        return [self.units.record(name) for name in self.names(arm)]

    def over(
        self, name: str, arm: str, value: Callable[[Mapping[str, Any]], float | None], kind: Kind, n: int
    ) -> Estimate:
        """One value a model -> an estimate; missing where no model of the arm is whole or none gave a value."""
        records = self.records(arm)
        if not records:
            return missing(name, arm, "no unit of this arm is whole")
        values = [value(r) for r in records]
        if all(v is None for v in values):
            return missing(name, arm, f"training diverged in all {len(values)} models")
        return over_units(values, name=name, arm=arm, kind=kind, n_points=n * sum(v is not None for v in values))


def score(found: Found) -> list[Estimate]:
    """All numbers of a run but those of curves over the number removed."""
    spec = found.spec
    estimates: list[Estimate] = []
    for arm in (*found.arms("tuned"), *found.arms("never")):
        if arm == "never" or (arm.startswith("counter-") and arm.endswith("-c100")):
            estimates += pruning(found, arm)
    for arm in found.arms("compiled"):
        estimates += _compiled(found, arm)
    for arm in found.arms("tuned"):
        for shown in SHOWN:
            estimates.append(found.over(f"tracr.accuracy/{shown}", arm, _final(shown), "share", spec.test))
        if arm.startswith("counter-"):
            for token in ("old", "new", "end"):
                estimates.append(_attention(found, arm, token))
    for arm in found.arms("back"):
        for percent in BACK_AT:
            estimates.append(_back(found, arm, percent))
    return estimates


def _final(shown: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda record: None if record["final"] is None else record["final"][shown]


def lifts(record: Mapping[str, Any]) -> tuple[float, float] | None:
    """What the chosen weight and the best random one add to the old task; None where nothing was pruned."""
    pruned = record.get("pruned")
    return None if pruned is None else (pruned["lift"], pruned["random_lift"])


def pruning(found: Found, arm: str) -> list[Estimate]:
    """What removing one weight did to the models of an arm, and the best of many random ones."""
    test = found.spec.test
    pairs = [lifts(r) for r in found.records(arm)]
    ours = found.over("tracr.pruned_lift", arm, lambda r: (lifts(r) or (None,))[0], "mean", test)
    control = found.over("tracr.random_lift", arm, lambda r: (lifts(r) or (None, None))[1], "mean", test)
    known = [p for p in pairs if p is not None]
    if not known:
        reason = ours.reason or "nothing was pruned"
        return [ours, control, *(missing(f"tracr.{n}", arm, reason) for n in ("lift_over_random", "revived_seeds"))]
    firsts, seconds = [p[0] for p in known], [p[1] for p in known]
    return [
        ours,
        control,
        paired(firsts, seconds, name="tracr.lift_over_random", arm=arm, n_points=test * len(known)),
        wilson(sum(v > LIFT for v in firsts), len(firsts), name="tracr.revived_seeds", arm=arm, units=len(firsts)),
    ]


def _compiled(found: Found, arm: str) -> list[Estimate]:
    records, test = found.records(arm), found.spec.test
    names = ("tracr.untouched_accuracy", "tracr.noisy_accuracy", "tracr.noise")
    if not records:
        return [missing(name, arm, "no unit of this arm is whole") for name in names]
    record, table = records[0], found.units.table(found.names(arm)[0], "noise")
    right = sum(round(accuracy * test) for accuracy in record["untouched"].values())
    level = record["noise"]
    kept = table[(table["part"] == "all") & (table["level"] == level)]["accuracy"].tolist()
    untouched = wilson(right, len(record["untouched"]) * test, name=names[0], arm=arm)
    if not kept:
        reason = f"no level tried keeps {100 * found.spec.kept:g}% in every seed: there is no noise"
        return [untouched, missing(names[1], arm, reason), missing(names[2], arm, reason)]
    noise = Estimate(
        name=names[2], arm=arm, value=level, low=None, high=None, n=len(kept), n_points=test * len(kept),
        method="largest level tried", reason="a setting that was chosen, not a measurement",
    )  # fmt: skip
    return [untouched, over_units(kept, name=names[1], arm=arm, kind="share", n_points=test * len(kept)), noise]


def _attention(found: Found, arm: str, token: str) -> Estimate:
    def share(record: Mapping[str, Any]) -> float | None:
        return record["attention"][token] if "attention" in record else None

    return found.over(f"tracr.attention/{token}", arm, share, "mean", 200)


def _back(found: Found, arm: str, percent: int) -> Estimate:
    name = f"tracr.back_accuracy/{percent}"
    values: list[float | None] = []
    for unit in found.names(arm):
        if found.units.record(unit)["ended"] == "broke":
            values.append(None)
            continue
        table = found.units.table(unit, "curve")
        values.append(float(table[table["step"] <= percent / 100 * table["step"].max()]["old/0"].iloc[-1]))
    if not values:
        return missing(name, arm, "no unit of this arm is whole")
    if all(v is None for v in values):
        return missing(name, arm, f"training diverged in all {len(values)} models")
    return over_units(values, name=name, arm=arm, kind="share", n_points=200 * sum(v is not None for v in values))
