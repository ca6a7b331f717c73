"""Weights and neurons of compiled programs removed one after another: what came of it in numbers, and as a picture.

Source: arXiv:2311.12786, figures 55 to 58. Scoring again after each removal, the number chosen on other strings, and the
controls beside each curve are ours.
"""

from collections.abc import Mapping
from typing import Any

from gnothi.experiments.labs.base import Picture
from gnothi.experiments.labs.tracr_scores import Found, pruning
from gnothi.experiments.labs.tracr_spec import RATES
from gnothi.intervals import Kind, over_units
from gnothi.records import Estimate

KINDS = ("weights", "neurons")
"""What is removed."""
MEANINGS: Mapping[str, str] = {
    "tracr.several_lift": (
        "accuracy on the old task (C_Te = 0) with the best number of weights or neurons set to zero, less without; scored "
        "again after each, the number chosen on other strings"
    ),
    "tracr.several_exact": "the same, put in order by removing each of the best candidates alone",
    "tracr.several_random": "the same for weights or neurons drawn at random, mean of the draws: a control",
    "tracr.several_never": "the same procedure on a program that never had the old task: a control",
    "tracr.several_kept": "accuracy on the new task (C_Te = 1) with them set to zero: a wrapper should go with them",
    "tracr.several_k": "how many that was",
}
_WAYS = (
    ("exact", "tuned/leave_one_out"),
    ("again", "tuned/again"),
    ("once", "tuned/gradient"),
    ("random", "tuned/random"),
    ("never", "never_had_it/again"),
)

_NUMBERS: tuple[tuple[str, str, str, Kind], ...] = (
    ("several_lift", "tuned/again", "lift", "mean"),
    ("several_exact", "tuned/leave_one_out", "lift", "mean"),
    ("several_random", "tuned/random", "lift", "mean"),
    ("several_never", "never_had_it/again", "lift", "mean"),
    ("several_kept", "tuned/again", "new/100", "share"),
    ("several_k", "tuned/again", "k", "mean"),
)
"""Estimate, whose curve and order, what of it at the chosen number, and what kind of number that is."""


def score(found: Found) -> list[Estimate]:
    """One row a number, kind and arm; at C_Tr below 1 also what one weight does."""
    spec, estimates = found.spec, list[Estimate]()
    for arm in found.arms("curve"):
        if _share(found, arm) < 1:
            estimates += pruning(found, arm)
        for kind in KINDS:
            for name, begins, field, how in _NUMBERS:

                def value(
                    record: Mapping[str, Any], kind: str = kind, begins: str = begins, field: str = field
                ) -> float | None:
                    values = [c[field] for key, c in record.get(kind, {}).items() if key.startswith(begins + "/")]
                    return sum(values) / len(values) if values else None

                estimates.append(found.over(f"tracr.{name}/{kind}", arm, value, how, spec.test))
    return estimates


def _share(found: Found, arm: str) -> float:
    return next(float(j.payload["correlated"]) for j in found.jobs if j.arm == arm)


def picture(found: Found) -> Picture | None:
    """The old task over the number removed, a panel for each fine-tune and kind."""
    arms = [arm for arm in found.arms("curve") if any(KINDS[0] in r for r in found.records(arm))]
    if not arms:
        return None
    words = {
        "exact": "each tried alone",
        "again": "theta x gradient, scored again",
        "once": "theta x gradient, once",
        "random": "drawn at random",
        "never": "never had the old task",
    }

    def draw() -> Any:
        from gnothi.writeup.lab_figures import Curve, grid_of_curves

        panels = []
        for arm in arms:
            rate, share = arm.split("-")[1], _share(found, arm)
            for kind in KINDS:
                series = []
                for way, begins in _WAYS:
                    ks, columns = _columns(found, arm, kind, begins)
                    points = [over_units(c, name="x", arm="", kind="mean", n_points=1) for c in columns]
                    means = [None if p.value is None else 100 * p.value for p in points]
                    if ks:
                        series.append(Curve(words[way], ks, means, control=way in ("random", "never")))
                panels.append((f"{kind}, rate {RATES[rate]:g}, C_Tr {share:g}", series))
        return grid_of_curves(panels, columns=2, x="removed", y="old task (C_Te = 0), %", y_range=(0, 100))

    models = max(len(found.names(arm)) for arm in arms)
    return Picture(
        title="Several weights or neurons set to zero",
        caption=(
            f"Accuracy on the old task, {found.spec.test} fresh strings a model, {models} model{'s' * (models > 1)} a fine-tune "
            "(figures 57 and 58). Scores come from other strings; tried alone are the "
            f"{max(found.spec.candidates, found.spec.most)} best by score. Grey: as many at random, mean of the draws, and the same "
            "procedure on the program that counts b alone."
        ),
        draw=draw,
    )


def _columns(found: Found, arm: str, kind: str, begins: str) -> tuple[list[int], list[list[float | None]]]:
    """Numbers removed, and at each the accuracy of every model; draws of one model are one value."""
    who, how = begins.split("/")
    kept: dict[int, list[float | None]] = {}
    for name in found.names(arm):
        if KINDS[0] not in found.units.record(name):
            continue
        table = found.units.table(name, kind)
        rows = table[(table["who"] == who) & (table["how"] == how) & (table["set"] == "old/0")]
        for k, value in rows.groupby("k")["value"].mean().items():
            kept.setdefault(int(k), []).append(float(value))
    return sorted(kept), [kept[k] for k in sorted(kept)]
