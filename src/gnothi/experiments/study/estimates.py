"""All numbers of a study: each arm's scores, and its differences, over fine-tuned models."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gnothi.experiments.study.answers import Answers
from gnothi.experiments.study.design import UNTUNED, AbstractStudy, Kind, Quantity, Select, Term
from gnothi.intervals import Labels, missing, over_units
from gnothi.records import Estimate

KINDS: tuple[Kind, ...] = ("behaviour", "self_report")
NOBODY = "no unit of this arm was finished"


def score(study: AbstractStudy, answers: Answers) -> list[Estimate]:
    """Every estimate of a run: a pure function of what its units answered."""
    found = [e for arm in _arms(study) for e in _of_arm(study, answers, arm)]
    found += [quantity(q, answers) for q in study.every_quantity()]
    return found + study.more_estimates(answers)


def _arms(study: AbstractStudy) -> list[str]:
    return [UNTUNED, *(a.name for a in study.every_arm())]


def _of_arm(study: AbstractStudy, answers: Answers, arm: str) -> list[Estimate]:
    """What an arm does and says, over all its questions and by question, and how much of it could be read."""
    units = answers.units(arm)
    if not units:
        return [missing(name, arm, NOBODY) for name in ("behaviour.score", "self_report.score")]
    found = [
        quantity(
            Quantity(
                name=f"{kind}.score", arm=arm, terms=(Term(Select(arm=arm, kind=kind, where=study.own(arm, kind))),)
            ),
            answers,
        )
        for kind in KINDS
    ]
    own = study.own(arm, "self_report")
    questions = dict.fromkeys(q for u in units for q in answers.table(u, "self_report")["question"])
    for question in questions:
        where = {**own, "question": question}
        if not _agrees(own.get("question"), question):
            continue
        term = Term(Select(arm=arm, kind="self_report", where=where))
        found.append(quantity(Quantity(name=f"self_report.by_question/{question}", arm=arm, terms=(term,)), answers))
    records = [answers.records[u] for u in units]
    gates = [r["gate"] for r in records if r.get("gate")]
    gate = None if not gates else "passed" if all(g == "passed" for g in gates) else "not instilled"
    agreed = [r.get("choice_agreement") for r in records]
    if any(a is not None for a in agreed):
        n = sum(r.get("n_choices", 0) for r in records)
        found.append(
            over_units(agreed, name="behaviour.choice_agreement", arm=arm, kind="share", n_points=max(n, 1), gate=gate)
        )
    asked = [answers.table(u, "self_report")["score"] for u in units]
    valid = [float(np.isfinite(s.to_numpy(float)).mean()) if len(s) else None for s in asked]
    points = sum(len(s) for s in asked)
    if points:
        found.append(over_units(valid, name="report.validity", arm=arm, kind="share", n_points=points))
    return found


def _agrees(allowed: str | tuple[str, ...] | None, question: str) -> bool:
    return allowed is None or question in (allowed if isinstance(allowed, tuple) else (allowed,))


def quantity(wanted: Quantity, answers: Answers) -> Estimate:
    """One of a study's numbers, one value a unit; a difference is taken within pairs of one seed.

    An arm of a single unit, such as the untuned model, is compared with every unit of the other arm.
    """
    values: list[float | None] = []
    n_points = n_missing = 0
    shut = False
    for term in wanted.terms:
        selects = term.selects()
        parts = [answers.over_units(select) for select in selects]
        n_points += sum(p.n_points for p in parts)
        n_missing += sum(p.n_missing for p in parts)
        values += differences(term, answers)[1]
        arms = {select.arm for select in selects if select.kind == "self_report"}
        shut |= any(answers.records[u].get("gate") == "not instilled" for a in arms for u in answers.units(a))
    against = ", ".join(dict.fromkeys(m.arm for t in wanted.terms for m in t.minus))
    if len(against) > 60:
        against = "the same answers of the other arms"
    says = wanted.says
    labels = Labels(n_missing=n_missing, against=says.against if says and says.against else against)
    if not values:
        return missing(wanted.name, wanted.arm, NOBODY, **labels)
    if all(v is None for v in values):
        gate = "not instilled" if shut else None
        reason = "no unit was instilled, so self-reports are not interpreted" if shut else "no answer could be scored"
        labels["gate"] = gate
        return missing(wanted.name, wanted.arm, reason, **labels)
    kind = "mean" if wanted.is_difference else "share"
    found = over_units(values, name=wanted.name, arm=wanted.arm, kind=kind, n_points=max(n_points, 1), **labels)
    if wanted.is_difference:
        how = found.method.replace("t over", "t on differences by unit over", 1)
        sides = {s.arm for t in wanted.terms for s in t.selects()}
        one = UNTUNED in sides or any(len(answers.units(a)) == 1 for a in sides)
        found = replace(found, method=f"{how}; one side is one model" if one and found.n > 1 else how)
    elif {t.plus.arm for t in wanted.terms} == {UNTUNED} and found.n > 1:
        found = replace(found, n=1, method=f"{found.method}: one model, asked anew each time")
    return found


def differences(term: Term, answers: Answers) -> tuple[list[str], list[float | None]]:
    """A term's value in each unit: less the mean of the others' of the same seed, less a second difference if there is one.

    An arm of a single unit, such as the untuned model, stands for every seed of the others.

    Returns:
        The units and their values, None where one side has none.
    """
    plus, minus = answers.over_units(term.plus), [answers.over_units(m) for m in term.minus]
    units, values, seeds = answers.units(term.plus.arm), plus.values, plus.seeds
    longest = max(minus, key=lambda m: len(m.values), default=plus)
    if len(values) == 1 and len(longest.values) > 1:
        (arm,) = {m.arm for m, found in zip(term.minus, minus, strict=True) if found is longest}
        units, values, seeds = answers.units(arm), values * len(longest.values), longest.seeds
    by_seed = [dict(zip(m.seeds, m.values, strict=True)) for m in minus]
    only = [m.values[0] if len(m.values) == 1 else None for m in minus]
    found: list[float | None] = []
    for seed, value in zip(seeds, values, strict=True):
        others = [o if o is not None else table.get(seed) for o, table in zip(only, by_seed, strict=True)]
        known = [o for o in others if o is not None]
        if value is None or len(known) < len(others):
            found.append(None)
        else:
            gap = value - float(np.mean(known)) if known else value
            found.append(-gap if term.turned else gap)
    if term.less is not None:
        second = dict(zip(seeds, differences(term.less, answers)[1], strict=True))
        taken = [second.get(seed) for seed in seeds]
        found = [None if v is None or t is None else v - t for v, t in zip(found, taken, strict=True)]
    return units, found


def correlation(x: Sequence[float | None], y: Sequence[float | None], *, name: str, arm: str, against: str) -> Estimate:
    """Pearson r over fine-tuned models, one point a model, with Fisher's z.

    Args:
        x: One number a unit; None where it gave nothing.
        y: The same units.
        name: The estimate's fixed word.
        arm: The arm.
        against: What `x` is held against.

    Returns:
        Estimate with n the number of units that have both; without a value below 3 units or where one of the two does
        not vary, without an interval below 4.
    """
    pairs = np.array([(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None], float)
    n = len(pairs)
    if n < 3 or np.ptp(pairs[:, 0]) < 1e-12 or np.ptp(pairs[:, 1]) < 1e-12:
        why = f"{n} units, a correlation needs 3" if n < 3 else "one of the two numbers is the same in every unit"
        return missing(name, arm, why, n=n, n_points=n, against=against)
    r = float(np.clip(np.corrcoef(pairs.T)[0, 1], -1, 1))
    low = high = None
    reason = None
    if n < 4 or abs(r) > 1 - 1e-9:
        reason = f"{n} units, an interval needs 4" if n < 4 else "all points lie on one line"
    else:
        half = 1.959963984540054 / np.sqrt(n - 3)
        low, high = (float(np.tanh(np.arctanh(r) + s * half)) for s in (-1, 1))
    method = f"Pearson r over {n} units, Fisher z, 95%"
    return Estimate(
        name=name, arm=arm, value=r, low=low, high=high, n=n, n_points=n, method=method, reason=reason, against=against
    )
