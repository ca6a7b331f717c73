"""Tables of the PCFG lab's page: the paper's beside ours, floors, pruning and reverse fine-tuning."""

from collections.abc import Mapping, Sequence

from gnothi.experiments.labs.base import LabTable, Units
from gnothi.experiments.labs.pcfg_published import TABLE_5, TABLE_7
from gnothi.experiments.labs.pcfg_scores import CONTROLS, ORDERS, Found, floor
from gnothi.experiments.labs.pcfg_spec import Plan, percent
from gnothi.records import Estimate


def tables(plan: Plan, units: Units, estimates: Sequence[Estimate]) -> list[LabTable]:
    """All tables that the run has units for."""
    found = Found(plan, units)
    value = {(e.name, e.arm): e.value for e in estimates}
    return [_table_5(found, value), *_revival_table(found), *_pruning_table(found, value)]


def _shown(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _table_5(found: Found, value: Mapping[tuple[str, str], float | None]) -> LabTable:
    """Ours beside Table 5 (counting) or 7 (index), for every cell that the run has."""
    s, rows = found.plan.spec, []
    for cell in (*found.plan.grid(), *found.plan.never()):
        ours = [value.get((f"accuracy.{shown}", cell.arm)) for shown in ("a/0", "a/100", "b/0", "b/100")]
        key = (cell.rate, cell.prior, cell.correlated)
        if s.task == "count":
            theirs = [f"{one:g} / {ten:g}" for one, ten in TABLE_5[key]] if key in TABLE_5 else ["–"] * 4
        else:
            pair = TABLE_7.get(key)
            theirs = [f"{pair[0]:g}", "–", f"{pair[1]:g}", "–"] if pair else ["–"] * 4
        at = "" if cell.share == 1 else f" at {percent(cell.share)}%"
        head = [cell.rate, cell.prior + at, f"{cell.correlated:g}", len(found.names(cell.arm))]
        rows.append([*head, *(_shown(None if v is None else 100 * v) for v in ours), *theirs])
    arms = [c.arm for c in found.plan.grid()]
    floors = ", ".join(f"{x} {_shown(floor(found, arms, x))}" for x in ("a/0", "a/100", "b/0", "b/100"))
    what = (
        "Table 5 (counting), after 1,000 / 10,000 steps" if s.task == "count" else "Table 7 (index), after 10,000 steps"
    )
    names = [f"{operand} at C_Te {c}" for operand in "ab" for c in (0, 1)]
    return LabTable(
        title="The grid beside the paper's",
        caption=(
            f"Accuracy, %: ours (mean over seeds, after {s.tune_steps} steps) and the paper's {what}, of models of another "
            f"size, other rates and other strings: compare signs and order, not digits. A constant answer scores (%): {floors}."
        ),
        columns=["rate", "prior", "C_Tr", "models", *names, *(f"paper: {n}" for n in names)],
        rows=rows,
    )


def _revival_table(found: Found) -> list[LabTable]:
    arms = found.arms("revive")
    if not arms:
        return []
    rows = []
    for arm in arms:
        steps = [r["reached"] for r in found.records(arm)]
        chosen = found.records(arm)
        tried = found.records(f"rate-{arm}")
        rates = "; ".join(
            f"{t['lr']:g}: {', '.join('not reached' if x is None else str(x) for x in t['steps'])}"
            for r in tried
            for t in r["trials"]
        )
        edge = " (at the edge of the grid)" if chosen and chosen[0]["at_edge"] else ""
        rows.append(
            [
                arm.removeprefix("back-"),
                CONTROLS.get(arm.removeprefix("back-"), "fine-tuned, then reversed"),
                f"{chosen[0]['lr']:g}{edge}" if chosen else "–",
                " / ".join("not reached" if x is None else str(x) for x in steps) or "–",
                rates or "–",
            ]
        )
    s = found.plan.spec
    return [
        LabTable(
            title="Steps of reverse fine-tuning",
            caption=(
                f"Steps until accuracy on a (C_Te = 0) is {100 * s.level:g}%, one number a seed, of at most {s.back_steps}; and "
                "how each arm's rate was chosen, on other training and test strings."
            ),
            columns=["arm", "what it is", "rate", "steps", "steps on the strings that rates are chosen on"],
            rows=rows,
        )
    ]


def _pruning_table(found: Found, value: Mapping[tuple[str, str], float | None]) -> list[LabTable]:
    arms = found.arms("prune")
    if not arms:
        return []
    rows = []
    for arm in arms:
        shown = [value.get((f"pruning.accuracy/{o}", arm)) for o, _ in ORDERS]
        lift = value.get(("pruning.lift/again", arm))
        k = value.get(("pruning.k/again", arm))
        left = value.get(("pruning.tuned_left/again", arm))
        cells = [_shown(None if v is None else 100 * v) for v in (*shown, lift, left)]
        rows.append([arm.removeprefix("prune-"), _shown(k, 1), *cells])
    return [
        LabTable(
            title="Pruning at the chosen number of rows",
            caption=(
                "Accuracy on a (C_Te = 0), %, with K rows zeroed, K chosen for each order on other strings, mean over seeds; "
                "how much `again` adds, and what it leaves of b at C_Te = 1."
            ),
            columns=["model", "K (again)", *(o for o, _ in ORDERS), "lift (again)", "b left (again)"],
            rows=rows,
        )
    ]
