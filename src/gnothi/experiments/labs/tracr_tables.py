"""Tables of the compiled-program lab's page: the weights that were removed, and the paper's tables beside ours."""

from collections.abc import Mapping, Sequence

from gnothi.experiments.labs.base import LabTable, Units
from gnothi.experiments.labs.tracr_pages import arm_words, fine_tunes, pruned_models, short
from gnothi.experiments.labs.tracr_published import TABLE_3, TABLE_4
from gnothi.experiments.labs.tracr_scores import Found
from gnothi.experiments.labs.tracr_spec import RATES, TracrSpec, cell
from gnothi.records import Estimate

Values = Mapping[tuple[str, str], float | None]


def tables(spec: TracrSpec, units: Units, estimates: Sequence[Estimate]) -> list[LabTable]:
    """All tables that the run has units for."""
    found = Found(spec, units)
    value = {(e.name, e.arm): e.value for e in estimates}
    return [
        *_weights(found),
        *_first_weights(found),
        *(_table_3(found, value, task) for task in spec.tasks()),
        *_table_4(found, value),
    ]


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}"


def _weights(found: Found) -> list[LabTable]:
    rows = []
    for arm, record in pruned_models(found):
        pruned = record["pruned"]
        before, after, lucky = (pruned[k]["show"] for k in ("before", "best", "random"))
        rows.append(
            [
                short(arm), record["seed"], pruned["best"]["unit"], pruned["says"], f"{pruned['value']:.3g}",
                _shown(before["old/0"]), _shown(after["old/0"]), _shown(lucky["old/0"]), _shown(before["old/100"]),
                _shown(after["old/100"]), _shown(before["new/100"]), _shown(after["new/100"]),
                sum(n > 0 for n in pruned["after_classes"]),
            ]
        )  # fmt: skip
    if not rows:
        return []
    return [
        LabTable(
            title="The weight that was removed",
            caption=(
                f"Fine-tunes at C_Tr = 1, one row a model; accuracy in %, {found.spec.test} fresh strings. Random: the best of "
                f"{found.spec.random} random weights, chosen on the same strings as ours. Seeds are named before the run: "
                f"{found.spec.seed} to {found.spec.seed + found.spec.seeds - 1}."
            ),
            columns=[
                "model", "seed", "weight", "where", "was", "old, C_Te 0", "removed", "random", "old, C_Te 1", "removed",
                "new, C_Te 1", "removed", "answers in use",
            ],
            rows=rows,
        )
    ]  # fmt: skip


def _first_weights(found: Found) -> list[LabTable]:
    """The paper's W1 to W4: the first weights by score, each removed alone, of the first model of each fine-tune."""
    rows = []
    for arm in dict.fromkeys(arm for arm, _ in pruned_models(found)):
        pruned = next(r["pruned"] for one, r in pruned_models(found) if one == arm)
        for place, one in enumerate(pruned["top"]):
            shown = [_shown(one["show"][name]) for name in ("old/0", "old/100", "new/0", "new/100")]
            rows.append([short(arm), f"W{place + 1}", one["unit"], *shown])
    if not rows:
        return []
    return [
        LabTable(
            title="The first four weights by score",
            caption=(
                "Accuracy, %, with each of the four weights of largest theta x gradient removed alone, in order of that score: "
                "what the score alone finds, before any is chosen by trial. First model of each fine-tune."
            ),
            columns=["model", "", "weight", "old, C_Te 0", "old, C_Te 1", "new, C_Te 0", "new, C_Te 1"],
            rows=rows,
        )
    ]


def _table_3(found: Found, value: Values, task: str) -> LabTable:
    rows = []
    for rate, share, arm in fine_tunes(found, task):
        ours = [value.get((f"tracr.accuracy/{shown}", arm)) for shown in ("old/100", "new/100", "old/0", "new/0")]
        theirs = TABLE_3.get((task, rate, share))
        pairs = ["–"] * 2 if theirs is None else [f"{old:g} / {new:g}" for old, new in theirs]
        mine = [f"{_shown(ours[i])} / {_shown(ours[i + 1])}" for i in (0, 2)]
        rows.append([f"{RATES[rate]:g}", f"{share:g}", len(found.names(arm)), mine[0], pairs[0], mine[1], pairs[1]])
    said = "Counter" if task == "counter" else "Max-identifier"
    return LabTable(
        title=f"{said} beside the paper's Table 3",
        caption=(
            f"Accuracy on the old / new task, %, after {found.spec.steps} steps (the paper: 10,000 steps, longer strings, "
            "another compiler): compare signs and order. A dash: the paper's row is not at hand, or training diverged."
        ),
        columns=["rate", "C_Tr", "models", "C_Te 1", "paper", "C_Te 0", "paper"],
        rows=rows,
    )


def _table_4(found: Found, value: Values) -> list[LabTable]:
    rows = []
    for arm in found.arms("back"):
        start, _, rate = arm.partition("-back-")
        early, late = (value.get((f"tracr.back_accuracy/{p}", arm)) for p in (10, 100))
        shares = {cell("counter", "medium", share): share for share in found.spec.back_correlated}
        paper = TABLE_4.get((rate, shares[start])) if start in shares else None
        who = "never had it (Scr.+FT)" if start == "never" else arm_words(start)
        rows.append(
            [
                who,
                f"{RATES[rate]:g}",
                len(found.names(arm)),
                _shown(early),
                _shown(late),
                "–" if paper is None else f"{paper:g}",
            ]
        )
    if not rows:
        return []
    return [
        LabTable(
            title="Trained back, beside the paper's Table 4",
            caption=(
                f"Accuracy on the old task (C_Te = 0), %, after a tenth and all of {found.spec.steps} steps; the paper's after "
                "10,000. The paper has no column for a model that never had the task; it is ours."
            ),
            columns=["start", "rate back", "models", "after 10%", "after 100%", "paper"],
            rows=rows,
        )
    ]
