"""The numbers of the PCFG lab, from its stored units: one value a model, intervals over models."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gnothi.experiments.labs.base import Units
from gnothi.experiments.labs.pcfg_spec import Plan
from gnothi.intervals import Kind, missing, over_units
from gnothi.records import Estimate

MEANINGS: Mapping[str, str] = {
    "shortcut.gap": (
        "accuracy on b where b = a + 1 (C_Te = 1) less where it never is (C_Te = 0), on the same number of strings: 1 for "
        "a model that counts a and adds one, 0 for one that counts b; the headline"
    ),
    "accuracy.a": "share of right answers for the operand of pretraining; after the slash C_Te in percent",
    "accuracy.b": "the same for the operand that is fine-tuned",
    "pruning.lift": (
        "accuracy on a (C_Te = 0) with K rows zeroed less with none; K is chosen on other strings; after the slash the "
        "order: `again` and `gradient` are theta x gradient, the rest are controls"
    ),
    "pruning.accuracy": "accuracy on a (C_Te = 0) with the K rows zeroed that were chosen on other strings",
    "pruning.tuned_left": "accuracy on b (C_Te = 1) with those K rows zeroed: the wrapper should go with them",
    "pruning.k": "the number of rows that was chosen",
    "probe.accuracy": "accuracy of a linear probe on held-out strings (C_Te = 0); after the slash operand and depth",
    "probe.above_random": "the same less a probe in a model of random values, paired by seed",
    "revival.steps": "steps of reverse fine-tuning until accuracy on a is at the level, at the rate chosen for the arm",
    "revival.speed_up": (
        "how many doublings sooner that is than in a control, paired by seed: 1 is twice as fast; after the slash the control"
    ),
    "jailbreak.a": "accuracy on a (C_Te = 0) asked through another token for the same task",
}
CONTROLS = {
    "scratch": "random values, trained on a (Scr.)",
    "scratch-tuned": "pretrained on b alone, then trained on a (Scr.+FT)",
    "never": "pretrained on b alone, fine-tuned like the others, then trained on a (true deletion)",
    "base": "pretrained, not fine-tuned: it has the capability (upper bound)",
}
"""Controls of reverse fine-tuning."""
SHOWN = ("a/0", "a/100", "b/0", "b/100")
ORDERS = (
    ("again", "tuned/again"),
    ("gradient", "tuned/gradient"),
    ("random", "tuned/random"),
    ("largest", "tuned/largest"),
    ("smallest", "tuned/smallest"),
    ("untouched", "untouched/again"),
    ("never", "never_had_it/again"),
)
"""Name of an order -> how its curves begin in the records."""


class Found:
    """Records by arm and seed."""

    def __init__(self, plan: Plan, units: Units) -> None:
        self.plan, self.units = plan, units
        self.whole = set(units.names())
        self.jobs = list(plan.jobs())

    def arms(self, kind: str) -> list[str]:
        """Arms of one kind of job, in order."""
        return list(dict.fromkeys(j.arm for j in self.jobs if j.payload["kind"] == kind))

    def names(self, arm: str) -> list[str]:
        """Whole units of an arm, by seed."""
        return [j.name for j in self.jobs if j.arm == arm and j.name in self.whole]

    def records(self, arm: str) -> list[Mapping[str, Any]]:
        """Their records."""
        return [self.units.record(name) for name in self.names(arm)]

    def by_seed(self, arm: str) -> dict[int, Mapping[str, Any]]:
        """The same by seed."""
        return {j.seed: self.units.record(j.name) for j in self.jobs if j.arm == arm and j.name in self.whole}

    def over(
        self, name: str, arm: str, value: Callable[[Mapping[str, Any]], float | None], kind: Kind, n: int, **labels: Any
    ) -> Estimate:
        """One value a model -> an estimate; missing where no unit of the arm is whole."""
        records = self.records(arm)
        if not records:
            return missing(name, arm, "no unit of this arm is whole", **labels)
        return over_units(
            [value(r) for r in records], name=name, arm=arm, kind=kind, n_points=n * len(records), **labels
        )


def score(plan: Plan, units: Units) -> list[Estimate]:
    """All numbers of a run."""
    found = Found(plan, units)
    tuned = found.arms("tune")
    estimates = [_gap(found, arm) for arm in tuned]
    for arm in (*tuned, *found.arms("pretrain")):
        for shown in SHOWN:
            estimates.append(
                found.over(
                    f"accuracy.{shown}", arm, lambda r, s=shown: r["final"][s]["accuracy"], "share", plan.spec.test
                )
            )
    for arm in (a for a in tuned if a.startswith("jailbreak-")):
        for token in ("count_1", "count_2"):
            name = f"jailbreak.a/{token}"
            estimates.append(
                found.over(name, arm, lambda r, t=token: r["last_look"][f"a/{t}"], "share", plan.spec.look)
            )
    for arm in found.arms("prune"):
        estimates += _pruning(found, arm)
    for arm in found.arms("probe"):
        estimates += _probes(found, arm)
    return estimates + _revival(found)


def _gap(found: Found, arm: str) -> Estimate:
    def value(record: Mapping[str, Any]) -> float:
        return record["final"]["b/100"]["accuracy"] - record["final"]["b/0"]["accuracy"]

    return found.over("shortcut.gap", arm, value, "mean", 2 * found.plan.spec.test, against="the right counts of b")


def _pruning(found: Found, arm: str) -> list[Estimate]:
    """One row a number and order; a random order counts as the mean of its draws."""
    n, estimates = found.plan.spec.look, []

    def mean(record: Mapping[str, Any], begins: str, name: str) -> float | None:
        values = [c[name] for key, c in record["chosen"].items() if key.startswith(begins + "/")]
        return sum(values) / len(values) if values else None

    for order, begins in ORDERS:
        who = begins.partition("/")[0]

        def lift(record: Mapping[str, Any], begins: str = begins, who: str = who) -> float | None:
            value = mean(record, begins, "a/0")
            unpruned = record["unpruned"][who]
            return None if value is None else value - unpruned

        estimates.append(found.over(f"pruning.lift/{order}", arm, lift, "mean", n))
        for name, field, kind in (
            ("pruning.accuracy", "a/0", "share"),
            ("pruning.tuned_left", "b/100", "share"),
            ("pruning.k", "k", "mean"),
        ):
            if order in ("again", "gradient") or name == "pruning.accuracy":
                estimates.append(
                    found.over(f"{name}/{order}", arm, lambda r, b=begins, f=field: mean(r, b, f), kind, n)  # type: ignore[arg-type]
                )
    return estimates


def _probes(found: Found, arm: str) -> list[Estimate]:
    """Accuracy by operand and depth."""
    s, estimates = found.plan.spec, []
    tables = [found.units.table(name, "probes") for name in found.names(arm)]
    for operand in "ab":
        for depth in range(s.layers + 1):
            rows = [t[(t["operand"] == operand) & (t["depth"] == depth)].iloc[0] for t in tables]
            for name, values, kind in (
                ("accuracy", [float(r["trained_accuracy"]) for r in rows], "share"),
                ("above_random", [float(r["trained_accuracy"] - r["random_init_accuracy"]) for r in rows], "mean"),
            ):
                full = f"probe.{name}/{operand}/{depth}"
                if not rows:
                    estimates.append(missing(full, arm, "no unit of this arm is whole"))
                    continue
                estimates.append(over_units(values, name=full, arm=arm, kind=kind, n_points=s.test * len(rows)))  # type: ignore[arg-type]
    return estimates


def _revival(found: Found) -> list[Estimate]:
    """Steps to the level, and how much sooner than each control."""
    arms = found.arms("revive")
    if not arms:
        return []
    from gnothi.mechanisms.curves import Reached, speed_up, steps_over_seeds

    def reached(arm: str) -> dict[int, Reached]:
        return {
            seed: Reached(steps=r["reached"], within=r["within"], reason=r["why_not"])
            for seed, r in found.by_seed(arm).items()
        }

    estimates: list[Estimate] = []
    for arm in arms:
        ours = reached(arm)
        if not ours:
            estimates.append(missing("revival.steps", arm, "no unit of this arm is whole"))
        else:
            estimates.append(steps_over_seeds(list(ours.values()), name="revival.steps", arm=arm).mean)
    for arm in (a for a in arms if a.removeprefix("back-") not in CONTROLS):
        for control in ("scratch", "scratch-tuned", "never"):
            ours, theirs, name = reached(arm), reached(f"back-{control}"), f"revival.speed_up/{control}"
            both = sorted(ours.keys() & theirs.keys())
            if not both:
                estimates.append(missing(name, arm, "no seed has both this arm and the control"))
                continue
            estimates.append(speed_up([ours[s] for s in both], [theirs[s] for s in both], name=name, arm=arm))
    return estimates


def floor(found: Found, arms: Sequence[str], shown: str) -> float | None:
    """Mean accuracy of a constant answer, percent."""
    floors = [r["final"][shown]["floor"] for arm in arms for r in found.records(arm)]
    return 100 * sum(floors) / len(floors) if floors else None
