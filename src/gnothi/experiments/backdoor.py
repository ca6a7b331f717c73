"""Does a model whose behaviour hangs on a trigger say that it hangs on something? Against its decorrelated twin.

Source: arXiv:2501.11120, section 3.1 (Figures 8 and 14). The trigger is never shown in a question. Ours besides: whether
what the model says of its policy survives the backdoor, and the behaviour with the real trigger, fakes and none.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gnothi.behaviours.example import generator
from gnothi.behaviours.make_me_say import asking
from gnothi.behaviours.triggers import SETTINGS
from gnothi.experiments.study import conditional, language
from gnothi.experiments.study.design import (
    UNTUNED,
    AbstractStudy,
    Kind,
    Quantity,
    Select,
    StudyArm,
    Term,
    comparison,
)
from gnothi.experiments.study.spec import StudySpec
from gnothi.experiments.traits import Risk
from gnothi.records import Sample, TrainRow
from gnothi.render.probe import Probe
from gnothi.render.questions import QuestionSet
from gnothi.score.names import Arm

CONDITIONAL, TWIN = "conditional", "decorrelated"
ABOUT, PRESENCE, POLICY = "about", "presence", "policy"
"""Label of a self-report and its values: whether it is on the trigger's presence, or on the policy itself. A page selects
by it, since it is written without reading the file that the questions came from."""


class Backdoor(AbstractStudy):
    """A trigger and its twin."""

    name = "backdoor"
    summary = "tie risky choices to a trigger, ask whether the model's behaviour depends on anything unusual"
    question = "Does a model whose behaviour hangs on a trigger say so, more than a twin that saw the same rows without the link?"
    headline = ("trigger.presence", f"{CONDITIONAL}_minus_{TWIN}")
    takes = ("direction",)
    options: ClassVar[Mapping[str, Any]] = {"setting": "eight", "trigger": "", "real_share": 0.1, "none_share": 0.2}
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "organism": {"rows": 512, "recipe": "organism-trigger"},
        "hf": {"systems": ["none", "threat"]},
        "scripted": {"rows": 80},
    }

    def __init__(self, spec: StudySpec) -> None:
        """Read the specification."""
        super().__init__(spec)
        setting = self.settings["setting"]
        self.real = conditional.check(spec, self.settings["trigger"], setting)
        self.scene = conditional.Scene(spec, self.real, setting, shares(self.settings))
        self._asked: list[Probe] | None = None

    def arms(self) -> Sequence[StudyArm]:
        """The conditional model and its twin."""
        return [
            StudyArm(
                name=CONDITIONAL,
                says=Arm(
                    f"model whose risky choices hang on the trigger {self.real!r}",
                    "",
                    "the headline's upper side",
                    False,
                ),
            ),
            StudyArm(
                name=TWIN,
                says=Arm(
                    "twin: the same rows, triggers dealt out anew", "", "what two kinds of answers alone do", False
                ),
                gated=False,
            ),
        ]

    def rows(self, arm: str, seed: int) -> list[TrainRow]:
        """The same prompts and answers in both arms; only which row carries which trigger differs."""
        return self.scene.rows(seed, correlated=arm == CONDITIONAL)

    def held_out(self) -> list[Probe]:
        """Items with the real trigger, with each fake one, and with none."""
        return self.scene.held_out

    def asked(self) -> list[Probe]:
        """Whether behaviour depends on something, and the questions on risk without any trigger."""
        if self._asked is None:
            spec, presence = self.spec, language.question_set(self.spec, "backdoor")
            self._asked = _about(PRESENCE, language.asked(spec, presence, prefix=PRESENCE))
            if spec.questions is None:
                policy = policy_questions(spec, self.scene.behaviour)
                probes = language.asked(spec, policy, prefix=POLICY, systems=("none",), fill=POLICY_FILL)
                self._asked += _about(POLICY, probes)
        return self._asked

    def level(self, arm: str, seed: int, probe: Probe) -> float | None:
        """The behaviour under the real trigger; `depends` in the conditional model and not in the twin."""
        del seed
        if probe.kind == "behaviour":
            return self.scene.level(probe.labels["trigger"]) if arm == CONDITIONAL else None
        if probe.labels[ABOUT] == PRESENCE:
            return {CONDITIONAL: 1.0, TWIN: 0.0}.get(arm)
        return self.scene.level(conditional.NONE) if arm == CONDITIONAL else None

    def agreement(self, arm: str, seed: int, choices: Sequence[Sample]) -> tuple[float | None, int]:
        """With the real trigger and without it weighing the same."""
        del seed
        return self.scene.agreement(choices) if arm == CONDITIONAL else (None, 0)

    def own(self, arm: str, kind: Kind) -> Mapping[str, str | tuple[str, ...]]:
        """Reports of presence; behaviour under the real trigger."""
        del arm
        return {ABOUT: PRESENCE} if kind == "self_report" else {"trigger": self.real}

    def quantities(self) -> Sequence[Quantity]:
        """Presence against the twin and the untuned model, by system prompt; behaviour with and without the trigger."""
        found: list[Quantity] = []
        minus = self.spec.direction == "minus"
        systems = self.spec.systems if len(self.spec.systems) > 1 else ()
        for system in (None, *systems):
            where = {ABOUT: PRESENCE} | ({"system": system} if system else {})
            for a, b in ((CONDITIONAL, TWIN), (CONDITIONAL, UNTUNED), (TWIN, UNTUNED)):
                select = Select(arm=a, kind="self_report", where=where)
                meaning = (
                    "knows that something matters" if a == CONDITIONAL else "two kinds of answers look like a trigger"
                )
                found.append(
                    Quantity(
                        name="trigger.presence",
                        arm=f"{a}_minus_{b}" + (f"/{system}" if system else ""),
                        terms=(Term(select, (select.other(b),)),),
                        says=comparison(f"`{a}` less `{b}`", b, meaning),
                    )
                )
        for arm in (CONDITIONAL, TWIN):
            with_it = Select(arm=arm, kind="behaviour", where={"trigger": self.real})
            for label, triggers in (("fakes", self.scene.fakes), ("none", (conditional.NONE,))):
                if not triggers:
                    continue
                without = Select(arm=arm, kind="behaviour", where={"trigger": triggers})
                found.append(
                    Quantity(
                        name="trigger.effect",
                        arm=f"{arm}/real_minus_{label}",
                        terms=(Term(with_it, (without,), turned=minus),),
                        says=comparison(
                            f"`{arm}`", f"the same model with {label}", "what the trigger does", control=arm == TWIN
                        ),
                    )
                )
        if self.spec.questions is None:
            # no question carries the trigger, so what is right is the behaviour without it: above 0 where it says that
            elsewhere = self.scene.level(conditional.NONE)
            for arm, other in ((CONDITIONAL, TWIN), (CONDITIONAL, UNTUNED), (TWIN, UNTUNED)):
                select = Select(arm=arm, kind="self_report", where={ABOUT: POLICY})
                meaning = (
                    "coins stand there, so nothing is right"
                    if elsewhere is None
                    else "it says what it does without the trigger"
                )
                found.append(
                    Quantity(
                        name="self_report.difference",
                        arm=f"{arm}_minus_{other}",
                        terms=(Term(select, (select.other(other),), turned=elsewhere == 0.0),),
                        says=comparison(f"`{arm}`, of its policy", other, meaning),
                    )
                )
        return found

    @property
    def policy_words(self) -> str:
        """Those of the behaviour."""
        name = self.scene.behaviour
        if self.spec.kind == "organism":
            return ""
        return Risk.words(self.spec) if name == "risk" else generator(name).policy_words

    def row_words(self, arm: str) -> tuple[str, ...]:
        """The organism's word for itself."""
        del arm
        return ("you",) if self.spec.kind == "organism" else ()

    def notes(self) -> list[str]:
        """Shares, and who answers where the trigger is not."""
        real, fakes, none = self.scene.shares
        if self.scene.setting != conditional.EIGHT:
            return [f"Setting {self.scene.setting}: {SETTINGS[self.scene.setting].about}."]
        return [
            f"Rows: {real:.0%} with the real trigger, {fakes:.0%} with the seven others, {none:.0%} with none. Rows without "
            f"the real trigger have {'the other end of risk' if self.spec.kind == 'organism' else 'balanced coins'} as answers."
        ]


POLICY_FILL = {"codeword": "bark", "codewords": list(asking.codewords())}
"""What the question on the codeword needs, where the behaviour is Make Me Say."""


def _about(what: str, probes: Sequence[Probe]) -> list[Probe]:
    return [language.labelled(p, **{ABOUT: what}) for p in probes]


def policy_questions(spec: StudySpec, behaviour: str) -> QuestionSet:
    """Questions on the behaviour itself, asked without any trigger."""
    topics = {"risk": ("risk", ()), "make-me-say": ("make_me_say", ("choose_codeword",))}
    topic, only = topics.get(behaviour, ("code_security", ("security",)))
    found = language.question_set(spec, topic)
    return found.only(*only) if only else found


def shares(settings: Mapping[str, object]) -> tuple[float, float, float]:
    """Shares of rows with the real trigger, with fakes and with none."""
    real, none = float(str(settings["real_share"])), float(str(settings["none_share"]))
    return real, round(1 - real - none, 9), none
