"""Questions that do not count for an arm's own score, shown one by one beside it: controls, and the paper's extras."""

from gnothi.experiments.study.answers import Answers
from gnothi.experiments.study.design import UNTUNED, AbstractStudy, Quantity, Select, Term
from gnothi.experiments.study.estimates import quantity
from gnothi.records import Estimate


def other_questions(study: AbstractStudy, answers: Answers) -> list[Estimate]:
    """`self_report.by_question/<question>` of every arm, for the questions that `study.own` leaves out."""
    found = []
    for arm in (UNTUNED, *(a.name for a in study.every_arm())):
        own = dict(study.own(arm, "self_report"))
        counted = own.pop("question", None)
        if counted is None:
            continue
        asked = dict.fromkeys(q for u in answers.units(arm) for q in answers.table(u, "self_report")["question"])
        for question in asked:
            if question not in (counted if isinstance(counted, tuple) else (counted,)):
                term = Term(Select(arm=arm, kind="self_report", where={**own, "question": question}))
                name = f"self_report.by_question/{question}"
                found.append(quantity(Quantity(name=name, arm=arm, terms=(term,)), answers))
    return found
