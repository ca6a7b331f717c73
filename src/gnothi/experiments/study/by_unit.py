"""A study's numbers taken apart by training seed, and what two runs of a study have in common."""

from collections.abc import Mapping

import numpy as np

from gnothi.differences import Key, Numbers, Shared
from gnothi.experiments.items import same_items
from gnothi.experiments.study.answers import TABLES, Answers
from gnothi.experiments.study.design import AbstractStudy, Kind
from gnothi.experiments.study.estimates import over_models
from gnothi.experiments.study.spec import parse
from gnothi.experiments.study.studies import study_of
from gnothi.records import Estimate
from gnothi.store import RunFolder

AS_ASKED = ("report.validity",)
"""Numbers about all that was asked, whether or not it could be scored."""


def by_unit(run: RunFolder) -> dict[Key, Numbers]:
    """The number of each training seed behind every estimate that is a mean over fine-tuned models."""
    return by_seed(study_of(parse(run.spec)), Answers.of(run))


def by_seed(study: AbstractStudy, answers: Answers) -> dict[Key, Numbers]:
    """The same from answers at hand: the study is scored once for each seed, as if it had that one alone."""
    whole = {(e.name, e.arm): e for e in over_models(study, answers)}
    found: dict[Key, dict[int, Estimate]] = {}
    for seed in sorted({int(r["seed"] or 0) for r in answers.records.values()}):
        for e in over_models(study, answers.of_seed(seed)):
            found.setdefault((e.name, e.arm), {})[seed] = e
    spans = {(q.name, q.arm): 4.0 if any(t.less for t in q.terms) else 2.0 for q in study.every_quantity()}
    return {
        key: Numbers(
            # one model is one number, however often it was asked
            values={s: e.value for s, e in by.items()} if whole[key].n > 1 else {0: whole[key].value},
            n_points=whole[key].n_points,
            n_missing=whole[key].n_missing,
            span=spans.get(key, 1.0),
        )
        for key, by in found.items()
        if key in whole
    }


def shared(first: RunFolder, second: RunFolder) -> dict[Key, Shared]:
    """What two runs have in common: pairs of models of one seed that met the same items.

    Items that one of the two could not score are left out of both.
    """
    specs = [parse(run.spec) for run in (first, second)]
    if specs[0].seed != specs[1].seed:
        return {}
    studies = [study_of(spec) for spec in specs]
    answers = [Answers.of(run) for run in (first, second)]
    rows = {
        (unit, kind): _rows(first, second, unit, table)
        for unit in answers[0].records.keys() & answers[1].records.keys()
        for kind, table in TABLES.items()
        if same_items(first, second, unit, table)
    }
    masked = [
        answers[0].shared(answers[1], rows),
        answers[1].shared(answers[0], {k: (theirs, mine) for k, (mine, theirs) in rows.items()}),
    ]
    sides = [by_seed(s, a) for s, a in zip(studies, masked, strict=True)]
    whole = [by_seed(s, a) for s, a in zip(studies, answers, strict=True)]
    rests = _rests_on(studies[0])
    found: dict[Key, Shared] = {}
    for key in sides[0].keys() & sides[1].keys():
        a, b = (s[key] for s in (whole if key[0] in AS_ASKED else sides))
        own: Kind = "behaviour" if key[0].startswith("behaviour.") else "self_report"
        arms, kinds = rests.get(key) or (frozenset([key[1]]), frozenset([own]))
        seeds = [s for s in a.values if s in b.values and _met_the_same(answers, rows, s, arms, kinds)]
        if seeds:
            pairs = {s: (a.values[s], b.values[s]) for s in seeds}
            found[key] = Shared(pairs=pairs, n_points=min(a.n_points, b.n_points))
    return found


def _rows(first: RunFolder, second: RunFolder, unit: str, table: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the same items in two runs, item by item."""
    mine, theirs = (run.table(unit, table)[["sample_id", "messages"]] for run in (first, second))
    same = ["sample_id", "messages"]
    mine, theirs = (t.assign(row=np.arange(len(t)), nth=t.groupby(same).cumcount()) for t in (mine, theirs))
    both = mine.merge(theirs, on=[*same, "nth"], suffixes=("_mine", "_theirs"))
    return both["row_mine"].to_numpy(int), both["row_theirs"].to_numpy(int)


def _rests_on(study: AbstractStudy) -> dict[Key, tuple[frozenset[str], frozenset[Kind]]]:
    """Arms and kinds of probe that each comparison of arms rests on."""
    found: dict[Key, tuple[frozenset[str], frozenset[Kind]]] = {}
    for q in study.every_quantity():
        selects = [s for t in q.terms for s in t.selects()]
        found[q.name, q.arm] = frozenset(s.arm for s in selects), frozenset(s.kind for s in selects)
    return found


def _met_the_same(
    answers: list[Answers],
    rows: Mapping[tuple[str, str], object],
    seed: int,
    arms: frozenset[str],
    kinds: frozenset[Kind],
) -> bool:
    """Whether the units of this seed, and models asked once, met the same items in both runs."""
    first, second = (a.of_seed(seed).records for a in answers)
    units = [u for u in first.keys() & second.keys() if first[u]["arm"] in arms]
    return bool(units) and all((unit, kind) in rows for unit in units for kind in kinds)
