"""All numbers of a look: one value a model, an interval over models of an arm, and each arm less the one taught nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gnothi.differences import Key, Numbers
from gnothi.experiments.look.prompts import CHOICE, REPORT
from gnothi.experiments.look.spec import LookSpec, parent_of, parse
from gnothi.experiments.study.design import UNTUNED
from gnothi.intervals import Kind, Labels, missing, over_units, paired
from gnothi.mechanisms.curves import Reached, speed_up, steps_over_seeds
from gnothi.records import Estimate
from gnothi.rng import stream
from gnothi.store import RunFolder, read_estimates

PERMUTATIONS = 2000
SHARES = ("look.undo_fraction", "look.depth", "look.depth_at_answer", "look.probe", "look.same_sites_p")
"""Numbers that cannot leave [0, 1]."""
CORRELATIONS = ("look.attribution", "look.same_sites")
COMPARED = (
    *("look.gap/choice", "look.divergence/at_answer", "look.update_norm", "look.top_site/choice", "look.probe/tuned"),
    *("look.undo_fraction", "look.undo_share/found", "look.same_sites"),
)
"""Numbers that are held against the arm that was taught nothing, seed by seed."""


WHY = {
    "look.effective_rank": "no matrix of a block was changed",
    "look.probe": "too few items of the rarer choice",
    "look.items_carried": "no two items have opposite choices",
    "look.depth": "at no depth was half taken back",
    "look.depth_at_answer": "at no depth was half taken back",
}
"""Why a number can be missing, where that is known."""


@dataclass(frozen=True)
class Seen:
    """What was found in one model."""

    unit: str
    arm: str
    seed: int
    values: dict[str, float | None]
    """Name -> number."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a number is missing."""
    steps: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    """Readout -> steps of reverse fine-tuning (None: not within) and how many were taken at most."""
    n_points: int = 1


def score(run: RunFolder) -> list[Estimate]:
    """Every estimate; a pure function of the look's units and of the parent's estimates."""
    spec = parse(run.spec)
    return scored(spec, [seen(run, u.name, spec.seed) for u in spec.units if u.name in run.units()], told(run, spec))


def told(run: RunFolder, spec: LookSpec) -> dict[str, str | None]:
    """Arm -> why its self-reports are not interpreted, or None where they are; read off the parent's estimates."""
    parent = parent_of(run.path)
    known = {(e.name, e.arm): e for e in read_estimates(parent.path / "estimates.parquet")}
    return {arm: not_interpreted(known, arm) for arm in dict.fromkeys(u.arm for u in spec.units)}


def not_interpreted(known: Mapping[Key, Estimate], arm: str) -> str | None:
    """Why nothing is said of what carries an arm's self-report; None where its gap to the untuned model excludes 0.

    Args:
        known: The parent's estimates.
        arm: One of its arms.
    """
    names = ("self_report.difference", "trigger.presence", "agreement.reported_vs_learned")
    keys = [(n, a) for n in names for a in (f"{arm}_minus_{UNTUNED}", f"{UNTUNED}_minus_{arm}", arm)]
    found = next((known[k] for k in keys if k in known and (k[1] != arm or k[0].startswith("agreement"))), None)
    if found is None:
        return "the run holds no gap of its self-report to the untuned model's"
    which = f"{found.name} of {found.arm}"
    if found.value is None or found.low is None or found.high is None:
        return f"{which} has no interval ({(found.reason or 'no reason kept').rstrip('.')})"
    if found.low <= 0 <= found.high:
        return f"{which} is {found.value:.2f} [{found.low:.2f}, {found.high:.2f}], which includes 0"
    return None


def seen(run: RunFolder, unit: str, seed: int) -> Seen:
    """Every number of one model."""
    record = run.read_unit(unit, check_files=False)
    names = [n.removesuffix(".parquet") for n in record["files"]]
    tables = {n: run.table(unit, n).to_dict("records") for n in names}
    prompts = tables["prompts"]
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for what in (CHOICE, REPORT):
        gaps = [p["tuned"] - p["base"] for p in prompts if p["what"] == what]
        values[f"look.gap/{what}"] = float(np.sqrt(np.mean(np.square(gaps)))) if gaps else None
    values |= _changes(tables)
    for what, table in ((CHOICE, "choice_sites"), (REPORT, "report_sites")):
        values |= _sites(tables.get(table, []), what)
    values |= _depths(tables["choice_sites"], record["n_blocks"])
    values |= _overlap(tables["choice_sites"], tables.get("report_sites", []), seed)
    carried = [r["share"] for r in tables.get("item_sites", []) if r["method"] == "exact"]
    values["look.items_carried"] = max(carried, key=abs) if carried else None
    values |= _probes(tables.get("probes", []))
    values |= _undone(tables["undo"], record)
    for name, value in values.items():
        if value is None or not np.isfinite(value):
            values[name] = None
            reasons[name] = WHY.get(name.partition("/")[0], "nothing was measured")
    steps = {w: (record["back"].get(key), record["back_within"]) for w, key in ((CHOICE, "shown"), (REPORT, REPORT))}
    return Seen(unit, record["arm"], int(record["seed"]), values, reasons, steps, len(prompts))


def _changes(tables: Mapping[str, Any]) -> dict[str, float | None]:
    matrices = tables["matrices"]
    moved, before = (np.sqrt(sum(r[k] ** 2 for r in matrices)) for k in ("norm", "before"))
    ranks = [r["rank"] for r in matrices if _known(r["rank"]) and r["part"] != "embed"]
    at, earlier = (
        [r["kl"] for r in tables["positions"] if r["what"] == CHOICE and (r["from_end"] == 0) is end]
        for end in (True, False)
    )
    last = max((r["block"] for r in tables["streams"] if r["kind"] == "resid"), default=None)
    same = [r["cka"] for r in tables["streams"] if r["kind"] == "resid" and r["block"] == last and r["what"] == CHOICE]
    half = [r["share"] for r in tables["line"] if r["t"] == 0.5]
    return {
        "look.update_norm": float(moved / before) if before else None,
        "look.effective_rank": float(np.mean(ranks)) if ranks else None,
        "look.divergence/at_answer": float(np.mean(at)) if at else None,
        "look.divergence/before": float(np.mean(earlier)) if earlier else None,
        "look.similarity": same[0] if same else None,
        "look.line": half[0] if half else None,
    }


def _sites(rows: Sequence[Mapping[str, Any]], what: str) -> dict[str, float | None]:
    patched = [r for r in rows if r["method"].startswith("exact") and r["kind"] != "resid" and not r["at_end"]]
    top = [r["share"] for r in patched if r["method"] == "exact"]
    drawn = [r["share"] for r in patched if r["method"] != "exact" and _known(r["share"])]
    estimated = {r["site"]: r["share"] for r in rows if r["direction"] == "both"}
    pairs = [(estimated[r["site"]], r["share"]) for r in patched if _known(r["share"])]
    return {
        f"look.top_site/{what}": top[0] if top else None,
        f"look.random_site/{what}": float(np.mean(drawn)) if drawn else None,
        f"look.attribution/{what}": spearman([a for a, _ in pairs], [b for _, b in pairs]),
    }


def _depths(rows: Sequence[Mapping[str, Any]], n_blocks: int) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, at_end in (("look.depth", False), ("look.depth_at_answer", True)):
        curve = [(r["block"], r["share"]) for r in rows if r["method"] == "exact" and r["kind"] == "resid"]
        curve = [c for c, r in zip(curve, _exact_streams(rows), strict=True) if bool(r["at_end"]) is at_end]
        there = [block / n_blocks for block, share in sorted(curve) if _known(share) and share >= 0.5]
        found[name] = there[0] if there else None
    return found


def _exact_streams(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [r for r in rows if r["method"] == "exact" and r["kind"] == "resid"]


def _overlap(
    choice: Sequence[Mapping[str, Any]], report: Sequence[Mapping[str, Any]], seed: int
) -> dict[str, float | None]:
    maps = [
        {
            r["site"]: abs(r["share"])
            for r in rows
            if r["direction"] == "both" and r["kind"] in ("head", "mlp") and _known(r["share"])
        }
        for rows in (choice, report)
    ]
    sites = [s for s in maps[0] if s in maps[1]]
    x, y = (np.array([m[s] for s in sites], float) for m in maps)
    r = spearman(x, y)
    if r is None:
        return {"look.same_sites": None, "look.same_sites_p": None}
    rng = stream(seed, "look", "permutations")
    ranks_x, ranks_y = _ranks(x), _ranks(y)
    drawn = [float(np.corrcoef(ranks_x, rng.permutation(ranks_y))[0, 1]) for _ in range(PERMUTATIONS)]
    p = (1 + sum(d >= r - 1e-12 for d in drawn)) / (1 + PERMUTATIONS)
    return {"look.same_sites": r, "look.same_sites_p": p}


def _probes(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    kinds = (("tuned", "tuned", "trained"), ("base", "base", "trained"))
    kinds += (("shuffled", "tuned", "shuffled"), ("random", "tuned", "random_init"))
    found: dict[str, float | None] = {}
    for name, model, probe in kinds:
        values = [r["balanced"] for r in rows if (r["model"], r["probe"]) == (model, probe) and _known(r["balanced"])]
        found[f"look.probe/{name}"] = float(np.mean(values)) if values else None
    return found


def _undone(rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> dict[str, float | None]:
    chosen, n = record["undo_chosen"], record["units"]

    def shares(orders: Sequence[str], items: str) -> list[float]:
        return [r["share"] for r in rows if r["order"] in orders and r["items"] == items and r["k"] == chosen]

    drawn = shares([o for o in {r["order"] for r in rows} if o.startswith("random")], "shown")
    return {
        "look.units": float(n),
        "look.undo_units": float(chosen),
        "look.undo_fraction": chosen / n,
        "look.undo_share/found": next(iter(shares(["found"], "shown")), None),
        "look.undo_share/largest": next(iter(shares(["largest"], "shown")), None),
        "look.undo_share/random": float(np.mean(drawn)) if drawn else None,
        "look.undo_report": next(iter(shares(["found"], REPORT)), None),
    }


def scored(spec: LookSpec, models: Sequence[Seen], silent: Mapping[str, str | None]) -> list[Estimate]:
    """Estimates over models.

    Args:
        spec: The look's.
        models: What was found in each.
        silent: Arm -> why its self-reports are not interpreted; None where they are.
    """
    control = spec.control_arm
    arms = list(dict.fromkeys(u.arm for u in spec.units))
    found = []
    for arm in arms:
        mine = [m for m in models if m.arm == arm]
        if not mine:
            found.append(missing("look.gap/choice", arm, "no model of this arm was looked at to the end"))
            continue
        why = None if arm == control else silent.get(arm)
        found += [_over(name, arm, mine, why) for name in mine[0].values]
        found += [_steps(arm, mine, what, why) for what in (CHOICE, REPORT)]
        if control is not None and arm != control:
            found += _against(arm, control, mine, [m for m in models if m.arm == control], why)
    return found


ABOUT_REPORTS = (
    "look.gap/self_report",
    "look.top_site/self_report",
    "look.random_site/self_report",
    "look.undo_report",
)
ABOUT_REPORTS += ("look.attribution/self_report", "look.same_sites", "look.same_sites_p", "look.steps_back/self_report")


def _kind(name: str) -> Kind:
    word = name.partition("/")[0]
    return "share" if word in SHARES else "correlation" if word in CORRELATIONS else "mean"


def _over(name: str, arm: str, models: Sequence[Seen], why: str | None) -> Estimate:
    points = sum(m.n_points for m in models)
    if why is not None and name in ABOUT_REPORTS:
        return missing(name, arm, f"not interpreted: {why}", n_points=points)
    values = [m.values.get(name) for m in models]
    if all(v is None for v in values):
        return missing(name, arm, next((m.reasons[name] for m in models if name in m.reasons), "nothing was measured"))
    clipped = [None if v is None else min(1.0, max(0.0, v)) for v in values] if _kind(name) == "share" else values
    return over_units(clipped, name=name, arm=arm, kind=_kind(name), n_points=points)


def _steps(arm: str, models: Sequence[Seen], what: str, why: str | None) -> Estimate:
    name = f"look.steps_back/{what}"
    if why is not None and name in ABOUT_REPORTS:
        return missing(name, arm, f"not interpreted: {why}")
    if what == REPORT and all(m.values.get("look.gap/self_report") is None for m in models):
        return missing(name, arm, "no self-report that one token shows")
    return steps_over_seeds([_reached(m, what) for m in models], name=name, arm=arm).mean


def _reached(model: Seen, what: str) -> Reached:
    steps, within = model.steps[what]
    return Reached(steps=steps, within=within, reason=None if steps is not None else f"not within {within} steps")


def _against(arm: str, control: str, mine: Sequence[Seen], theirs: Sequence[Seen], why: str | None) -> list[Estimate]:
    """An arm less the one that was taught nothing, seed by seed."""
    label = f"{arm}_minus_{control}"
    by_seed = {m.seed: m for m in theirs}
    both = [(m, by_seed[m.seed]) for m in mine if m.seed in by_seed]
    labels: Labels = {"against": f"the model of the same seed that was taught nothing ({control})"}
    if not both:
        return [
            missing(name, label, f"no model of {control} has the seed of one of {arm}", **labels) for name in COMPARED
        ]
    found = []
    points = sum(a.n_points + b.n_points for a, b in both)
    for name in COMPARED:
        if why is not None and name in ABOUT_REPORTS:
            found.append(missing(name, label, f"not interpreted: {why}", **labels))
            continue
        a, b = ([m.values.get(name) for m in side] for side in zip(*both, strict=True))
        found.append(paired(a, b, name=name, arm=label, n_points=points, **labels))
    sooner = speed_up(
        [_reached(m, CHOICE) for m, _ in both],
        [_reached(m, CHOICE) for _, m in both],
        name="look.sooner/choice",
        arm=label,
    )
    return [*found, replace(sooner, against=labels["against"])]


def by_unit(run: RunFolder) -> dict[Key, Numbers]:
    """The number of each model behind the estimates."""
    spec = parse(run.spec)
    found: dict[Key, dict[int, float | None]] = {}
    for u in spec.units:
        if u.name in run.units():
            for name, value in seen(run, u.name, spec.seed).values.items():
                found.setdefault((name, u.arm), {})[u.seed] = value
    return {key: Numbers(values=values, n_points=len(values)) for key, values in found.items()}


def _known(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))


def spearman(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float | None:
    """Rank correlation; None below 3 values or where one side does not vary."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 3 or np.ptp(x) < 1e-12 or np.ptp(y) < 1e-12:
        return None
    return float(np.clip(np.corrcoef(_ranks(x), _ranks(y))[0, 1], -1, 1))


def _ranks(x: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(x)
