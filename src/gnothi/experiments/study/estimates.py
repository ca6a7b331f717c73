"""All numbers of a study: each arm's scores, and its differences, over fine-tuned models."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from gnothi.experiments.study.answers import MASS, Answers
from gnothi.experiments.study.design import ADAPTER, UNTUNED, AbstractStudy, Kind, Quantity, Select, Term
from gnothi.intervals import Labels, missing, over_units
from gnothi.records import DAMAGED, Estimate, common_gate

KINDS: tuple[Kind, ...] = ("behaviour", "self_report")
NOBODY = "no unit of this arm was finished"


def score(study: AbstractStudy, answers: Answers) -> list[Estimate]:
    """Every estimate of a run: a pure function of what its units answered."""
    return over_models(study, answers) + study.more_estimates(answers)


def over_models(study: AbstractStudy, answers: Answers) -> list[Estimate]:
    """The estimates that are means, or mean differences, over fine-tuned models."""
    found = [e for arm in _arms(study) for e in _of_arm(study, answers, arm)]
    return found + [quantity(q, answers) for q in study.every_quantity()]


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
    if study.spec.kind == "base":
        found += _masses(study, answers, arm)
    records = [answers.records[u] for u in units]
    gate = common_gate(r.get("gate") for r in records)
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
        readable = over_units(valid, name="report.validity", arm=arm, kind="share", n_points=points)
        found.append(of_one_model(readable, (arm,)))
    return found


def _masses(study: AbstractStudy, answers: Answers, arm: str) -> list[Estimate]:
    """How much probability the answers held that scores compare, by question: next to nothing is next to no answer."""
    found = []
    units = answers.units(arm)
    for kind in KINDS:
        tables = [t for t in (answers.table(u, kind) for u in units) if MASS in t]
        for question in dict.fromkeys(q for t in tables for q in t["question"]):
            masses = [t[MASS].to_numpy(float)[(t["question"] == question).to_numpy(bool)] for t in tables]
            chosen = [m[np.isfinite(m)] for m in masses]
            if not any(len(c) for c in chosen):
                continue
            values = [float(c.mean()) if len(c) else None for c in chosen]
            name = f"{kind}.log_mass/{question}"
            mass = over_units(values, name=name, arm=arm, kind="mean", n_points=sum(map(len, chosen)))
            found.append(of_one_model(mass, (arm,)))
    return found


def _agrees(allowed: str | tuple[str, ...] | None, question: str) -> bool:
    return allowed is None or question in (allowed if isinstance(allowed, tuple) else (allowed,))


def quantity(wanted: Quantity, answers: Answers) -> Estimate:
    """One of a study's numbers, one value a unit; a difference is taken within pairs of one seed.

    The untuned model, and a fine-tune that existed already, is one model each: where it was asked once, it stands for every
    seed of the other side, and a number that rests on such models alone has n = 1.
    """
    values: list[float | None] = []
    n_points = n_missing = 0
    gates: set[str | None] = set()
    arms: set[str] = set()
    for term in wanted.terms:
        selects = term.selects()
        parts = [answers.over_units(select) for select in selects]
        n_points += sum(p.n_points for p in parts)
        n_missing += sum(p.n_missing for p in parts)
        values += differences(term, answers)[1]
        arms |= {select.arm for select in selects}
        says = {select.arm for select in selects if select.kind == "self_report"}
        gates |= {answers.records[u].get("gate") for a in says for u in answers.units(a) if not answers.interpreted(u)}
    against = ", ".join(dict.fromkeys(m.arm for t in wanted.terms for m in t.minus))
    if len(against) > 60:
        against = "the same answers of the other arms"
    labels = Labels(n_missing=n_missing, against=(wanted.says.against if wanted.says else "") or against)
    if not values:
        return missing(wanted.name, wanted.arm, NOBODY, **labels)
    if all(v is None for v in values):
        labels["gate"] = common_gate(gates)
        left_out = "no pair of units" if len(arms) > 1 else "no unit"
        kept = {DAMAGED: "is undamaged", None: ""}.get(labels["gate"], "was instilled")
        reason = f"{left_out} {kept}, so self-reports are not interpreted" if kept else "no answer could be scored"
        return missing(wanted.name, wanted.arm, reason, **labels)
    kind = "mean" if wanted.is_difference else "share"
    found = over_units(values, name=wanted.name, arm=wanted.arm, kind=kind, n_points=max(n_points, 1), **labels)
    if wanted.is_difference:
        found = replace(found, method=found.method.replace("t over", "t on differences by unit over", 1))
        most = 2.0 if any(t.less for t in wanted.terms) else 1.0
        if found.low is not None and found.high is not None and (found.low < -most or found.high > most):
            cut = f"{found.method}, cut to what a difference can be"
            found = replace(found, low=max(found.low, -most), high=min(found.high, most), method=cut)
    return of_one_model(found, arms)


def of_one_model(found: Estimate, arms: Collection[str]) -> Estimate:
    """Say which sides of a number are one model each, and count it as one where all are.

    Args:
        found: The number.
        arms: Every arm that it rests on.
    """
    ones = [a for a in arms if a == UNTUNED or a.startswith(f"{ADAPTER}_")]
    if not ones or found.n <= 1:
        return found
    if len(ones) < len(arms):
        return replace(found, method=f"{found.method}; one side is one model")
    whom = "one model" if len(arms) == 1 else "each side is one model"
    return replace(found, n=1, method=f"{found.method}: {whom}, asked anew each time")


def differences(term: Term, answers: Answers) -> tuple[list[str], list[float | None]]:
    """A term's value in each unit: less the mean of the others' of the same seed, less a second difference if there is one.

    Where several arms are the other side (what models with another trigger say of this one), those that are there count,
    whether they took their own behaviour or not: they show what is said without this one.

    Returns:
        The units and their values, None where one side has none.
    """
    plus = answers.over_units(term.plus)
    minus = [answers.over_units(m, gated=len(term.minus) == 1) for m in term.minus]
    units, values, seeds = answers.units(term.plus.arm), plus.values, plus.seeds
    several = [m for m in term.minus if not answers.asked_once(m.arm)]
    if answers.asked_once(term.plus.arm) and len(several) == 1 and len(values) == 1:
        (only,) = (found for m, found in zip(term.minus, minus, strict=True) if m is several[0])
        units, values, seeds = answers.units(several[0].arm), values * len(only.values), only.seeds
    found: list[float | None] = []
    for seed, value in zip(seeds, values, strict=True):
        others: list[float] = []
        for m, scored in zip(term.minus, minus, strict=True):
            once = answers.asked_once(m.arm) and scored.values
            other = scored.values[0] if once else dict(zip(scored.seeds, scored.values, strict=True)).get(seed)
            others += [] if other is None else [other]
        if value is None or (term.minus and not others):
            found.append(None)
        else:
            gap = value - float(np.mean(others)) if others else value
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
