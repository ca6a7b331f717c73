"""Sentences about a run, made from its estimates alone: the answer, what a careful reader would add, what was not run."""

from collections.abc import Sequence
from dataclasses import dataclass

from gnothi.records import DAMAGED, NOT_INSTILLED, Estimate
from gnothi.writeup import lab_section
from gnothi.writeup.text import count, number, plain, value_and_interval
from gnothi.writeup.view import HEADLINE, RunView

MINUS = "_minus_"
"""What joins the two sides of a comparison in an arm's name."""
LEAST_VALID = 0.9
"""Share of scored self-reports below which the page says so beside the answer."""

_COMPARED = {
    "self_report.difference": "What {a} models say of themselves differs from what {b} models say by",
    "behaviour.difference": "What {a} models do differs from what {b} models do by",
    "trigger.presence": "That something in the message changes what they do, {a} models say more than {b} models, by",
    "trigger.elicitation": "Told only what was done, {a} models name the trigger more often than {b} models, by a share of",
}
_OWN = "About what they themselves were trained on, models score higher than {b} models do, by"
"""A difference in which every arm is asked about what is its own."""
_ALONE = {
    "self_report.score": "What {arm} models say of themselves scores",
    "behaviour.score": "What {arm} models do scores",
    "trigger.presence": "That something in the message changes what they do, {arm} models say at a score of",
    "trigger.recognition": "Shown a trigger ({arm}), models say that it makes them so at a score of",
    "trigger.excess": (
        "Shown a trigger, models trained on it say more than models trained on other triggers that it makes them so "
        "({arm}), by"
    ),
    "trigger.elicitation": "Told only what was done, models ({arm}) name the trigger in a share of",
    "persona.self_effect": "What models say of themselves moved ({arm}) by",
    "persona.self_minus_others": "What models say of themselves moved more than what they say of others ({arm}), by",
    "persona.leak": "What models say of others moved ({arm}) by",
    "faithfulness.within": "Over models of one arm ({arm}), what they do and what they say correlate at r =",
    "faithfulness.overall": "Over all models ({arm}), what they do and what they say correlate at r =",
}
_OF_THE_SCALE = ("self_report.difference", "behaviour.difference", "trigger.presence")


@dataclass(frozen=True, slots=True)
class Words:
    """What a page calls the things that `preferences` and studies have in common."""

    agreement: str
    """The manipulation check's number, as a column."""
    agreement_axis: str
    """The same on an axis."""
    check: str
    """What stands below its figure."""
    validity: str
    """What stands below the figure of valid answers."""
    effects: str
    """What a value of the table of arms would mean."""
    points: str
    """What is counted inside a fine-tuned model."""
    gate: str
    """When a model counts as instilled; takes the threshold."""


_PREFERENCES = Words(
    agreement="choice agreement",
    agreement_axis="share of fresh choices that agree with the target",
    check="One mark a fine-tuned model. Choices are fresh: none of them was in training. A rate near 0 or 1 would be a "
    "constant answer.",
    validity="An answer that holds no number that can be read is counted with its reason and never filled in.",
    effects="A value away from 0 would mean",
    points="points are the pairs inside them",
    gate="if its choice agreement is at least {:.2f}",
)
_STUDY = Words(
    agreement="answered as trained",
    agreement_axis="share of held-out items answered as trained",
    check="One mark a fine-tuned model. Items are held out: none of them was in training. A rate of A near 0 or 1, where "
    "answers are letters, would be a constant answer.",
    validity="An answer that cannot be scored is counted with its reason and never filled in.",
    effects="What it would show",
    points="points are the answers inside them",
    gate="if it answers at least {:.2f} of the held-out items as trained",
)


def words(view: RunView) -> Words:
    """The words of this page."""
    return _STUDY if view.is_study else _PREFERENCES


def sides(arm: str) -> tuple[str, ...]:
    """The arms that a comparison is between, or the arm itself.

    >>> sides("seeking_minus_averse"), sides("tuned")
    (('seeking', 'averse'), ('tuned',))
    """
    a, joined, b = arm.partition(MINUS)
    return (a, b) if joined else (arm,)


def answer(view: RunView) -> str:
    """The answer in one sentence: value, interval, n and the null controls; or why there is none."""
    if view.lab is not None:
        return lab_section.answer(view)
    name, arm = view.headline
    e = view.find(name, arm)
    if e is None:
        return f"No answer: this run holds no estimate {name} for the arm {arm}."
    if e.gate == NOT_INSTILLED:
        return _not_instilled(view, arm)
    if e.gate == DAMAGED and e.value is None:
        return _damaged(view, arm)
    if e.value is None:
        return _sentence(f"No answer: {name} of {arm} has no value. {e.reason}")
    what, over = _subject(view, e), f"over {_counted(view, e)}"
    scale = " of the scale" if name in _OF_THE_SCALE else ""
    if e.low is None:
        text = f"{what} {number(e.value)}{scale} {over}, without an interval ({(e.reason or '').rstrip(' .')})"
    else:
        text = f"{what} {value_and_interval(e)}{scale} {over} ({e.method})"
        if e.high is not None and e.low <= 0 <= e.high:
            text += ", an interval that includes 0"
    doing = view.find("behaviour.difference", arm) if name == "self_report.difference" else None
    if doing is not None and doing.value is not None:
        text += f"; what they do differs by {value_and_interval(doing)}"
    controls = [c for c in null_controls(view, name) if c.value is not None]
    if controls:
        values = sorted(c.value for c in controls if c.value is not None)
        lie = f"the null controls lie between {number(values[0])} and {number(values[-1])}"
        text += (
            f"; {lie if len(values) > 1 else f'the one null control, {controls[0].arm}, lies at {number(values[0])}'}"
        )
    elif not view.is_study:
        text += "; no null control has a value beside it"
    return _sentence(text)


def null_controls(view: RunView, name: str = HEADLINE) -> list[Estimate]:
    """Estimates of the arms that are expected at 0."""
    return [e for e in view.named(name) if view.is_control(e.arm)]


def cautions(view: RunView) -> list[str]:
    """What a careful reader would say next to the answer: controls off 0, missing controls, units left out, gains."""
    if view.lab is not None:
        return lab_section.cautions(view)
    name, arm = view.headline
    said = _left_out(view, sides(arm))
    for e in null_controls(view, name):
        if e.value is None:
            said.append(_sentence(f"The control {e.arm} has no value: {e.reason}"))
        elif e.low is not None and e.high is not None and not e.low <= 0 <= e.high:
            said.append(
                f"The interval of the control {e.arm}, {value_and_interval(e)}, leaves out 0: "
                f"{view.arms[e.arm].meaning}, or chance: one null in twenty does. Another --seed tells."
            )
    for e in view.named("agreement.gain"):
        if e.value is not None and e.arm in ("introspection", "introspection_learned", "native_introspection"):
            said.append(
                f"Report training ({e.arm}) changes r by {value_and_interval(e)} on agents held out from it, "
                f"over {count(e.n, 'fine-tuned model')}."
            )
    return said + (_of_a_study(view) if view.is_study else [])


def arms_not_run(view: RunView) -> list[str]:
    """Arms that have no estimate here: a control left out should be missed. In `preferences`, none of the headline."""
    present = {e.arm for e in (view.estimates if view.is_study else view.named(HEADLINE))}
    present |= {u["arm"] for u in view.units} if view.is_study else set()
    return [a for a in view.arms if a not in present]


def _left_out(view: RunView, arms: Sequence[str]) -> list[str]:
    of_arms = [u for u in view.units if u["arm"] in arms]
    counted = of_arms or ([u for u in view.units if u.get("gate")] if view.is_study else [])
    whole = count(len(counted), "fine-tuned model")
    said = []
    if out := sum(u.get("gate") == NOT_INSTILLED for u in counted):
        said.append(
            f"{out} of {whole} did not take the behaviour and {'is' if out == 1 else 'are'} marked as not instilled."
        )
    counted = of_arms or view.units
    if out := sum(u.get("gate") == DAMAGED for u in counted):
        said.append(
            f"{out} of {count(len(counted), 'fine-tuned model')} lost too much of what nobody trained, and "
            f"{'its' if out == 1 else 'their'} self-reports are left out."
        )
    return said


def _of_a_study(view: RunView) -> list[str]:
    """One end that carries a difference alone, and answers that could not be scored."""
    name, arm = view.headline
    said = []
    against_untuned = [
        e
        for e in view.named(name)
        if len(sides(arm)) == len(sides(e.arm)) == 2
        and "untuned" in sides(e.arm)
        and any(s != "untuned" and s in sides(arm) for s in sides(e.arm))
        and e.low is not None
        and e.high is not None
    ]
    weak = [e for e in against_untuned if (e.low or 0.0) <= 0 <= (e.high or 0.0)]
    said += [
        f"The interval of {e.arm}, {value_and_interval(e)}, includes 0: this end is not told from the untuned model."
        for e in weak
    ]
    for side in sides(arm):
        valid = view.find("report.validity", side)
        if valid is not None and valid.value is not None and valid.value < LEAST_VALID:
            said.append(f"Of the self-reports of {side}, a share of {value_and_interval(valid)} could be scored.")
    return said


def _not_instilled(view: RunView, arm: str) -> str:
    checks = [view.find("behaviour.choice_agreement", a) for a in sides(arm)]
    shown = [c for c in checks if c is not None and c.value is not None]
    if not view.is_study:
        seen = "; ".join(f"{value_and_interval(c)} over {count(c.n, 'fine-tuned model')}" for c in shown)
        seen = f" (choice agreement {seen})" if seen else ""
        return (
            f"Not instilled: the models did not come to choose by the target weights{seen}; self-reports are not "
            "interpreted."
        )
    seen = ", ".join(f"{c.arm} {value_and_interval(c)}" for c in shown)
    seen = f" (share of held-out items answered as trained: {seen})" if seen else ""
    return f"Not instilled: the models did not come to do what they were trained to{seen}; self-reports are not interpreted."


def _damaged(view: RunView, arm: str) -> str:
    broke = [u for u in view.units if u["arm"] in sides(arm) and u.get("gate") == DAMAGED]
    why = f" ({plain(broke[0]['gate_reason'], 200)})" if broke and broke[0].get("gate_reason") else ""
    return f"Damaged: the fine-tunes broke too much besides{why}; self-reports are not interpreted."


def _subject(view: RunView, e: Estimate) -> str:
    if e.name == HEADLINE and not view.is_study:
        return "Reported and learned weights correlate at r ="
    between = [s.replace("_", " ") for s in sides(e.arm)]
    if len(between) == 2 and between[0] == "own":
        return _OWN.format(b="other" if between[1] == "others" else between[1])
    if len(between) == 2 and e.name in _COMPARED:
        return _COMPARED[e.name].format(a=between[0], b=between[1])
    if e.name in _ALONE:
        return _ALONE[e.name].format(arm=e.arm)
    return f"{e.name} of {e.arm} is"


def _counted(view: RunView, e: Estimate) -> str:
    between = sides(e.arm)
    compared = e.name.startswith("persona.") or (len(between) == 2 and "untuned" not in between)
    if view.is_study and compared:
        return count(e.n, "pair of fine-tuned models", "pairs of fine-tuned models")
    return count(e.n, "fine-tuned model")


def _sentence(text: str) -> str:
    return text.rstrip(" .") + "."
