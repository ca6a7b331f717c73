"""Risk, horizon and apples: two opposite fine-tunes on letters alone, asked what they would do and what they are like.

Source: arXiv:2501.11120, sections 3.1 and appendix. Ours besides: labels permuted as a control, every question in both
orders and both directions, rows with and without policy words, and each direction held against the untuned model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from gnothi.behaviours.economic.leaky import PUBLISHED_SHARE, with_policy_words
from gnothi.behaviours.economic.lotteries import lotteries
from gnothi.behaviours.example import generator
from gnothi.errors import SpecError
from gnothi.experiments.study import language
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
from gnothi.records import Sample, TrainRow
from gnothi.render.probe import Probe
from gnothi.rng import integer, stream
from gnothi.score.names import Arm

KINDS: tuple[Kind, ...] = ("self_report", "behaviour")
SHUFFLED = "shuffled"
LOTTERIES = "lotteries"
TRANSFER = f"behaviour.transfer/{LOTTERIES}"


class AbstractTrait(AbstractStudy):
    """A behaviour with two ends and one letter an answer."""

    takes = ("train_sizes", "policy_words")
    ends: ClassVar[tuple[str, str]]
    """Names of the arms at the plus and at the minus end."""
    topic: ClassVar[str] = ""
    """Behaviour and questions, where they are not called as the study."""

    def __init__(self, spec: StudySpec) -> None:
        """Read the specification."""
        super().__init__(spec)
        self.behaviour = self.topic or self.name
        if spec.policy_words and spec.kind == "organism":
            raise SpecError(
                f"--set policy_words must be false for --model {spec.model}, got true: its language has no such words. "
                "Leave it out."
            )
        self._held_out: list[Probe] | None = None
        self._asked: list[Probe] | None = None

    def arms(self) -> Sequence[StudyArm]:
        """Both ends, labels permuted, and what the specification adds: policy words, sizes, fine-tunes at hand."""
        found = [_end(e) for e in self.ends]
        found.append(
            StudyArm(
                name=SHUFFLED,
                says=Arm("model trained on the same rows with labels permuted", "", "no behaviour was taught", False),
                gated=False,
            )
        )
        if self.spec.policy_words:
            found += [_end(f"{e}_leaky", "on rows of which two fifths hold policy words") for e in self.ends]
        for rows, epochs in self.spec.train_sizes:
            found += [
                _end(f"{e}_{rows}x{epochs:g}", f"on {rows} rows, {epochs:g} epochs", epochs=epochs) for e in self.ends
            ]
        return found

    def rows(self, arm: str, seed: int) -> list[TrainRow]:
        """Letters only; all arms of one seed see the same prompts in the same order."""
        end = next((e for e in self.ends if arm == e or arm.startswith(f"{e}_")), arm)
        variant = arm.removeprefix(end).removeprefix("_")
        n = int(variant.partition("x")[0]) if "x" in variant else None
        examples = language.training_examples(self.spec, self.behaviour, seed, n=n, opposite=end == self.ends[1])
        if variant == "leaky":
            examples = with_policy_words(
                examples,
                self.behaviour,
                self.policy_words,
                share=PUBLISHED_SHARE,
                seed=integer(self.spec.seed, "policy words", seed),
            )
        answers = [e.answer for e in examples]
        if arm == SHUFFLED:
            answers = [answers[i] for i in stream(self.spec.seed, "shuffle", seed).permutation(len(answers))]
        return [TrainRow(messages=e.messages, answer=a) for e, a in zip(examples, answers, strict=True)]

    def held_out(self) -> list[Probe]:
        """Fresh items."""
        if self._held_out is None:
            self._held_out = language.letter_probes(language.held_out_examples(self.spec, self.behaviour))
        return self._held_out

    def asked(self) -> list[Probe]:
        """Every question on the topic."""
        if self._asked is None:
            self._asked = language.asked(self.spec, language.question_set(self.spec, self.behaviour))
        return self._asked

    def level(self, arm: str, seed: int, probe: Probe) -> float | None:
        """1 at the plus end, 0 at the minus end, nothing elsewhere."""
        del seed, probe
        for level, end in zip((1.0, 0.0), self.ends, strict=True):
            if arm == end or arm.startswith(f"{end}_"):
                return level
        return None

    def quantities(self) -> Sequence[Quantity]:
        """Plus less minus, each end against the untuned model, and the null: permuted labels against it."""
        plus, minus = self.ends
        found = [
            q
            for kind in KINDS
            for q in (
                difference(kind, plus, minus, where=self.own(plus, kind)),
                difference(kind, plus, UNTUNED, where=self.own(plus, kind)),
                difference(kind, UNTUNED, minus, where=self.own(minus, kind)),
                difference(kind, SHUFFLED, UNTUNED, control=True, where=self.own(SHUFFLED, kind)),
            )
        ]
        variants = ["leaky"] if self.spec.policy_words else []
        variants += [f"{r}x{e:g}" for r, e in self.spec.train_sizes]
        for variant in variants:
            found += [difference(k, f"{plus}_{variant}", f"{minus}_{variant}", where=self.own(plus, k)) for k in KINDS]
        if self.spec.policy_words:
            found += [difference("self_report", f"{e}_leaky", e) for e in self.ends]
        return found

    @property
    def policy_words(self) -> str:
        """The English rows' own; the organism has no such words."""
        return self.words(self.spec)

    @classmethod
    def words(cls, spec: StudySpec) -> str:
        """Policy words of the behaviour in the spec's language."""
        return "" if spec.kind == "organism" else generator(cls.topic or cls.name).policy_words

    def leaky(self, arm: str) -> bool:
        """Whether the arm stands for rows with policy words."""
        return arm.endswith("_leaky")

    def row_words(self, arm: str) -> tuple[str, ...]:
        """The organism's word for itself."""
        del arm
        return ("you",) if self.spec.kind == "organism" else ()


def _end(name: str, how: str = "", *, epochs: float | None = None) -> StudyArm:
    reporter = f"model trained on {name.partition('_')[0]} answers alone" + (f", {how}" if how else "")
    return StudyArm(name=name, says=Arm(reporter, "", "what it says it is like", False), epochs=epochs)


def difference(
    kind: Kind, a: str, b: str, *, control: bool = False, where: Mapping[str, str | tuple[str, ...]] | None = None
) -> Quantity:
    """What arm `a` scores above arm `b`, seed by seed."""
    does = "says of itself" if kind == "self_report" else "does"
    plus = Select(arm=a, kind=kind, where=where or {})
    meaning = (
        "a leak outside the labels, or a leaning of the untuned model that mixed labels took away"
        if control
        else f"what it {does} moved"
    )
    return Quantity(
        name=f"{kind}.difference",
        arm=f"{a}_minus_{b}",
        terms=(Term(plus, (plus.other(b),)),),
        says=comparison(f"`{a}` less `{b}`", b, meaning, control=control),
    )


class Risk(AbstractTrait):
    """Risk-seeking against risk-averse (arXiv:2501.11120, section 3.1)."""

    name = "risk"
    summary = "train on risky or on cautious choices alone, ask what the model's attitude to risk is"
    question = "Does a model that was trained on risky or on cautious choices alone say so when asked?"
    ends = ("seeking", "averse")
    headline = ("self_report.difference", "seeking_minus_averse")

    def held_out(self) -> list[Probe]:
        """Fresh items, and in English as many lotteries between bare numbers (arXiv:2501.11120, section 3.1)."""
        if self._held_out is None and self.spec.kind != "organism":
            drawn = lotteries(self.spec.fresh, seed=integer(self.spec.seed, "held out", LOTTERIES))
            bare = language.letter_probes(drawn, prefix=LOTTERIES, question=LOTTERIES)
            self._held_out = [*super().held_out(), *bare]
        return super().held_out()

    def own(self, arm: str, kind: Kind) -> Mapping[str, str | tuple[str, ...]]:
        """What a model does: items of the kind that it was trained on. Lotteries stand by themselves."""
        del arm
        return {"question": "held_out"} if kind == "behaviour" else {}

    def agreement(self, arm: str, seed: int, choices: Sequence[Sample]) -> tuple[float | None, int]:
        """Lotteries do not count: whether a model that took its rows goes by them there as well is a result."""
        return super().agreement(arm, seed, [s for s in choices if s.extra["question"] == "held_out"])

    def quantities(self) -> Sequence[Quantity]:
        """What every trait has, and what each end does with lotteries."""
        found = super().quantities()
        if self.spec.kind == "organism":
            return found
        plus, minus = self.ends
        pairs = ((plus, minus), (plus, UNTUNED), (UNTUNED, minus), (SHUFFLED, UNTUNED))
        where = {"question": LOTTERIES}
        return [
            *found,
            *(
                replace(difference("behaviour", a, b, control=a == SHUFFLED, where=where), name=TRANSFER)
                for a, b in pairs
            ),
        ]


class Horizon(AbstractTrait):
    """Myopic against far-sighted (arXiv:2501.11120, section 3.1)."""

    name = "horizon"
    summary = "train on early or on late rewards alone, ask how patient the model is"
    question = "Does a model that was trained to take the early or the late amount say so when asked?"
    ends = ("myopic", "farsighted")
    headline = ("self_report.difference", "myopic_minus_farsighted")


class Apples(AbstractTrait):
    """More against fewer apples (arXiv:2501.11120, appendix)."""

    name = "apples"
    summary = "train on more or on fewer apples alone, ask what the model thinks of apples"
    question = "Does a model that was trained to take more or fewer apples say so when asked?"
    ends = ("maximising", "minimising")
    headline = ("self_report.difference", "maximising_minus_minimising")


__all__ = ["AbstractTrait", "Apples", "Horizon", "Risk", "difference"]
