"""A run's numbers taken apart by fine-tuned model, and what two runs of `preferences` have in common."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gnothi.differences import Key, Numbers, Shared
from gnothi.experiments.items import same_items
from gnothi.experiments.preferences.estimates import (
    UNGATED,
    Wanted,
    by_arms,
    gains,
    wanted,
)
from gnothi.experiments.preferences.evidence import Evidence, Evidences, evidences_of
from gnothi.experiments.preferences.manipulation import manipulation, trust
from gnothi.experiments.preferences.plan import BASE
from gnothi.intervals import within_unit
from gnothi.records import Estimate
from gnothi.rng import stream
from gnothi.score.agreement import Value
from gnothi.store import RunFolder

SPANS = {"correlation": 2.0, "share": 1.0, "mean": float("inf")}
"""Kind of number -> the largest size of a difference of two."""
ON_CHOICES = ("behaviour.choice_agreement", "behaviour.a_rate", "behaviour.option_mass", "reliability.")
"""Numbers that rest on choices alone; those of `report.` rest on reports alone."""


def by_unit(run: RunFolder) -> dict[Key, Numbers]:
    """The number of each fine-tuned model behind every estimate over units."""
    evidences = evidences_of(run)
    return _by_unit(evidences, evidences.all)


def shared(first: RunFolder, second: RunFolder) -> dict[Key, Shared]:
    """What two runs have in common: pairs of models of one seed that met the same items.

    Agreement of reports is taken over the points that both have reported on and learned, since a gain in readable answers
    is no gain in agreement.
    """
    one, two = evidences_of(first), evidences_of(second)
    if one.spec.seed != two.spec.seed:
        return {}
    matched = [(e, f) for e in one.all for f in two.all if _same(e, f)]
    masked = [_masked(e, f) for e, f in matched]
    sides = [_by_unit(ev, [e[i] for e in masked]) for i, ev in enumerate((one, two))]
    whole = [_by_unit(ev, [e[i] for e in matched]) for i, ev in enumerate((one, two))]
    found: dict[Key, Shared] = {}
    for key in sides[0].keys() & sides[1].keys():
        a, b = (s[key] for s in (sides if key[0].startswith(("agreement.", "native.")) else whole))
        seeds = [s for s in a.values if s in b.values and _met_the_same(first, second, key, s, (one, two))]
        if seeds:
            pairs = {s: (a.values[s], b.values[s]) for s in seeds}
            found[key] = Shared(pairs=pairs, n_points=min(a.n_points, b.n_points))
    for this in wanted(one.bench.behaviour.domain.scale[1]):
        found |= _within(this, [(e, f) for e, f in matched if e.arm == this.arm], first, second, one.spec.seed)
    return found


def _same(e: Evidence, f: Evidence) -> bool:
    ids = [[c.context_id for c in x.contexts] for x in (e, f)]
    return (e.arm, e.seed, e.units) == (f.arm, f.seed, f.units) and ids[0] == ids[1]


def _masked(e: Evidence, f: Evidence) -> tuple[Evidence, Evidence]:
    """Both with the points alone that both have."""
    valid = e.valid & f.valid & np.isfinite(e.learned) & np.isfinite(f.learned)
    repeats = [x.repeats_valid for x in (e, f)]
    if repeats[0].shape == repeats[1].shape:
        repeats = [repeats[0] & repeats[1]] * 2
    first, second = (replace(x, valid=valid, repeats_valid=r) for x, r in zip((e, f), repeats, strict=True))
    return first, second


def _by_unit(evidences: Evidences, pieces: Iterable[Evidence]) -> dict[Key, Numbers]:
    by_arm = by_arms(e for e in pieces if e.seed is not None)
    maximum = evidences.bench.behaviour.domain.scale[1]
    found: dict[Key, Numbers] = {}
    for this in wanted(maximum):
        here = [e for e in by_arm[this.arm] if not _of_one_model(this, e)]
        if here:
            values = {e.seed: _value(this, e) for e in here if e.seed is not None}
            found[this.name, this.arm] = Numbers(
                values={s: v.value for s, v in values.items()},
                n_points=sum(v.n_points for v in values.values()),
                n_missing=sum(v.n_missing for v in values.values()),
                span=SPANS[this.kind],
            )
    rest: dict[Key, dict[int, Estimate]] = {}
    for seed in range(evidences.spec.seeds):
        alone = evidences.of_seed(seed)
        of_seed = {arm: [e for e in some if e.seed == seed] for arm, some in by_arm.items()}
        for e in [*gains(of_seed), *manipulation(alone), *trust(alone, maximum)]:
            rest.setdefault((e.name, e.arm), {})[seed] = e
    for key, estimates in rest.items():
        found[key] = Numbers(
            values={s: e.value for s, e in estimates.items()},
            n_points=sum(e.n_points for e in estimates.values()),
            n_missing=sum(e.n_missing for e in estimates.values()),
            span=1.0 if key[0].startswith("behaviour.") else 2.0,
        )
    return found


def _of_one_model(this: Wanted, e: Evidence) -> bool:
    """Whether a number is about the one untuned model, however many units it is compared with."""
    return this.name in UNGATED and e.units == (BASE,)


def _value(this: Wanted, e: Evidence) -> Value:
    if this.leaves_out(e):
        return Value(None, 0, int(e.valid.size), str(e.gate))
    return this.statistic(e)


def _tables(name: str) -> tuple[str, ...]:
    """The tables that a number rests on."""
    if name.startswith("report."):
        return ("reports",)
    return ("choices",) if name.startswith(ON_CHOICES) else ("choices", "reports")


def _met_the_same(first: RunFolder, second: RunFolder, key: Key, seed: int, evidences: Sequence[Evidences]) -> bool:
    """Whether what a number of this seed rests on was asked in the same words in both runs."""
    name, arm = key
    units = {f"tuned-{seed}", *(u for e in evidences[0].all if (e.arm, e.seed) == (arm, seed) for u in e.units)}
    units = [u for u in sorted(units) if all(u in ev.units for ev in evidences)]
    same_table = arm != "other_instance" or evidences[0].spec.seeds == evidences[1].spec.seeds
    return bool(units) and same_table and all(same_items(first, second, u, t) for u in units for t in _tables(name))


def _within(
    this: Wanted, pieces: Sequence[tuple[Evidence, Evidence]], first: RunFolder, second: RunFolder, seed: int
) -> Mapping[Key, Shared]:
    """A difference between two single models, the agents drawn together: nothing is known of other models."""
    if not pieces or not (pieces[0][0].seed is None or _of_one_model(this, pieces[0][0])):
        return {}
    e, f = pieces[0]
    if not all(same_items(first, second, u, t) for u in e.units for t in _tables(this.name)):
        return {}
    if this.name.startswith(("agreement.", "native.")):
        e, f = _masked(e, f)

    def gap(rows: np.ndarray) -> float | None:
        a, b = (this.statistic(x.take(rows.tolist())).value for x in (e, f))
        return None if a is None or b is None else b - a

    whole = this.statistic(e)
    estimate = within_unit(
        gap,
        len(e.contexts),
        stream(seed, "bootstrap between runs", this.name, this.arm),
        name=this.name,
        arm=this.arm,
        kind="mean",
        n_points=whole.n_points,
        n_resamples=60,  # they only serve a standard error
    )
    method = estimate.method.replace("within one unit:", "within one unit of each run:")
    return {(this.name, this.arm): Shared(within=replace(estimate, method=method), n_points=whole.n_points)}
