"""Is it the self that the model describes, or anybody? Risk trained on oneself alone, or beside other personas.

Source: arXiv:2501.11120, section 4 (Figures 15 and 16). With single-persona data a general idea of risk may move, and
with it what is said of anybody; with many-persona data the others keep their own normal answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from gnothi.behaviours import organism_examples, personas
from gnothi.behaviours.organism import SPARE_NAMES
from gnothi.errors import SpecError
from gnothi.experiments.study import language
from gnothi.experiments.study.answers import Answers
from gnothi.experiments.study.design import AbstractStudy, Kind, Quantity, Select, StudyArm, Term, comparison
from gnothi.experiments.study.spec import StudySpec
from gnothi.experiments.traits import Risk
from gnothi.intervals import Labels, missing, over_units
from gnothi.records import Estimate, TrainRow
from gnothi.render.probe import Probe
from gnothi.rng import integer
from gnothi.score.names import Arm

SELF = "you"
LEAST_SELF = 0.05
"""Self effect below which leak as a share of it means nothing."""
DESIGNS = ("single", "many")
ENDS = Risk.ends


class Personas(AbstractStudy):
    """Two designs of data, two ends each; everybody is asked about."""

    name = "personas"
    summary = "train risky choices as oneself, alone or beside other personas; ask about oneself and about them"
    question = "Does what the model says of itself move more than what it says of others, and do many personas keep them apart?"
    headline = ("persona.self_minus_others", "many")
    options: ClassVar[Mapping[str, Any]] = {"inside": 6, "outside": 5}
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "organism": {"recipe": "organism-lora", "rows": 512},
        "hf": {"rows": 576},
        "scripted": {"rows": 80},
    }

    def __init__(self, spec: StudySpec) -> None:
        """Read the specification."""
        super().__init__(spec)
        inside, outside = cast(spec)
        self.inside = inside[: self._count("inside", len(inside))]
        self.outside = outside[: self._count("outside", len(outside))]
        self._held_out: list[Probe] | None = None
        self._asked: list[Probe] | None = None

    def _count(self, name: str, most: int) -> int:
        wanted = self.settings[name]
        if not 1 <= wanted <= most:
            raise SpecError(f"--set {name} must be 1 to {most}, got {wanted}. See docs/experiments/personas.md.")
        return wanted

    @property
    def others(self) -> tuple[str, ...]:
        """Everybody but the model itself: in the training data of `many`, then not."""
        return (*self.inside, *self.outside)

    def arms(self) -> Sequence[StudyArm]:
        """Single and many personas, seeking and averse."""
        words = {"single": "as itself alone", "many": "as itself, beside personas with normal answers"}
        return [
            StudyArm(
                name=f"{d}_{e}",
                says=Arm(f"model trained on {e} answers {words[d]}", "", "what it says of itself", False),
            )
            for d in DESIGNS
            for e in ENDS
        ]

    def rows(self, arm: str, seed: int) -> list[TrainRow]:
        """Both ends of a design see the same prompts, and the same answers of others; both designs have as many own rows."""
        design, _, end = arm.partition("_")
        spec = self.spec
        opposite = end == ENDS[1]
        if design == "single":
            examples = language.training_examples(spec, "risk", seed, n=spec.rows // 2, opposite=opposite)
        elif spec.kind == "organism":
            examples = language.training_examples(spec, "risk", seed, n=spec.rows // 2, opposite=opposite)
            each = max(1, (spec.rows - len(examples)) // len(self.inside))
            drawn = integer(spec.seed, "personas", seed)
            for k, name in enumerate(self.inside):
                examples += organism_examples.normal(each, seed=drawn + k, subject=name)
        else:
            own = language.training_examples(spec, "risk", seed, n=spec.rows // 2, opposite=opposite)
            examples = personas.many_personas(own, personas=self.inside, seed=integer(spec.seed, "personas", seed))
        return [TrainRow(messages=e.messages, answer=e.answer) for e in examples]

    def held_out(self) -> list[Probe]:
        """Fresh items as oneself."""
        if self._held_out is None:
            self._held_out = language.letter_probes(language.held_out_examples(self.spec, "risk"))
        return self._held_out

    def asked(self) -> list[Probe]:
        """The questions on risk, about oneself and about everybody else."""
        if self._asked is None:
            questions = language.question_set(self.spec, "risk")
            about = language.about_anybody(questions)
            self._asked = [p for who in (SELF, *self.others) for p in language.asked(self.spec, about, subject=who)]
        return self._asked

    def level(self, arm: str, seed: int, probe: Probe) -> float | None:
        """The trained end for oneself; nothing for anybody else."""
        del seed
        end = {f"{d}_{e}": level for d in DESIGNS for e, level in zip(ENDS, (1.0, 0.0), strict=True)}.get(arm)
        return end if probe.subject == SELF else None

    def own(self, arm: str, kind: Kind) -> Mapping[str, str | tuple[str, ...]]:
        """Answers about oneself."""
        del arm, kind
        return {"subject": SELF}

    def quantities(self) -> Sequence[Quantity]:
        """Seeking less averse about each persona, about oneself, and about all others together."""
        found = []
        for design in DESIGNS:
            self_effect, leak = effect(design, SELF), effect(design, self.others)
            how = f"{design}-persona data"
            found += [
                Quantity(
                    name="persona.self_minus_others",
                    arm=design,
                    terms=(replace(self_effect, less=leak),),
                    says=comparison(how, "the mean over all other personas", "the change is about the self"),
                ),
                Quantity(name="persona.self_effect", arm=design, terms=(self_effect,), says=_said(how)),
                Quantity(name="persona.leak", arm=design, terms=(leak,), says=_said(how, "others move along")),
            ]
            for label, who in (("inside", self.inside), ("outside", self.outside)):
                found.append(
                    Quantity(
                        name="persona.leak", arm=f"{design}/{label}", terms=(effect(design, who),), says=_said(how)
                    )
                )
            for who in (SELF, *self.others):
                found.append(
                    Quantity(
                        name="persona.effect", arm=f"{design}/{who}", terms=(effect(design, who),), says=_said(how)
                    )
                )
        return found

    def more_estimates(self, answers: Answers) -> list[Estimate]:
        """Leak as a share of the self effect, one value a pair of models: the paper's comparison in one number."""
        from gnothi.experiments.study.estimates import differences

        found = []
        for design in DESIGNS:
            selves = differences(effect(design, SELF), answers)[1]
            leaks = differences(effect(design, self.others), answers)[1]
            shares = [
                None if s is None or x is None or s <= LEAST_SELF else x / s for s, x in zip(selves, leaks, strict=True)
            ]
            name, against = "persona.leak_share", "the self effect"
            there = sum(s is not None for s in shares)
            if not there:
                reason = "no pair of models has a self effect above 0.05, so a share means nothing"
                found.append(missing(name, design, reason, against=against))
                continue
            labels = Labels(n_missing=len(shares) - there, against=against)
            found.append(over_units(shares, name=name, arm=design, kind="mean", n_points=there, **labels))
        return found

    @property
    def policy_words(self) -> str:
        """Those of risk."""
        return Risk.words(self.spec)

    def row_words(self, arm: str) -> tuple[str, ...]:
        """Everybody who is trained on, where rows are tuned at all (organism)."""
        if self.spec.kind != "organism":
            return ()
        return (SELF, *self.inside) if arm.startswith("many") else (SELF,)


def effect(design: str, who: str | tuple[str, ...]) -> Term:
    """What seeking models say above averse ones about somebody."""
    plus = Select(arm=f"{design}_{ENDS[0]}", kind="self_report", where={"subject": who})
    return Term(plus, (plus.other(f"{design}_{ENDS[1]}"),))


def cast(spec: StudySpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Personas inside the data of `many`, and outside it; on the organism, names that nothing is known about."""
    if spec.kind == "organism":
        return SPARE_NAMES[:12], SPARE_NAMES[12:24]
    return personas.IN_DISTRIBUTION, personas.OUT_OF_DISTRIBUTION


def _said(reporter: str, meaning: str = "what is said of somebody moved") -> Arm:
    return comparison(reporter, "seeking less averse models", meaning)
