"""What a study is: its arms, what each is trained on, what all are asked, and which differences are its numbers.

A study is an experiment on a *behaviour* that runs from one end (score 0) to the other (score 1): every answer, of a
held-out item as of a question, is a score on that scale. The machinery around it (units, gate, estimates, page) knows
no behaviour.
"""

import abc
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from gnothi.errors import SpecError
from gnothi.experiments.study.spec import StudySpec
from gnothi.models.base import AbstractLanguageModel
from gnothi.records import Estimate, Messages, Sample, TrainRow
from gnothi.render.probe import Letters, Number, Probe
from gnothi.score.names import Arm

UNTUNED = "untuned"
"""Arm of the model as it came: trained on nothing, one unit."""
ADAPTER = "adapter"
"""Arms of fine-tunes that exist already: `adapter_0`, `adapter_1`, …, one unit each."""

Kind = Literal["behaviour", "self_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyArm:
    """One kind of fine-tune."""

    name: str
    """Lower-case words joined by underscores: part of a folder's name."""
    says: Arm
    """Who it is, for readers."""
    gated: bool = True
    """Whether its self-reports are only interpreted where the behaviour was instilled."""
    epochs: float | None = None
    """Passes over its rows, where they differ from the recipe's: for the ablation of sizes."""
    single: bool = False
    """Whether it is one model that exists already and is not trained here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Select:
    """Some of the answers of an arm: one number a unit, the mean over questions of each question's mean score."""

    arm: str
    kind: Kind
    where: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """What the probes' `question`, `subject` or labels must be; a tuple allows several."""

    def other(self, arm: str) -> "Select":
        """The same answers of another arm."""
        return Select(arm=arm, kind=self.kind, where=self.where)


@dataclass(frozen=True, slots=True)
class Term:
    """A difference within a pair of units: one selection less the mean of others (none: less nothing)."""

    plus: Select
    minus: tuple[Select, ...] = ()
    turned: bool = False
    """Whether the sign is turned: for the minus end of a behaviour, so that above 0 always means as expected."""
    less: "Term | None" = None
    """A second difference that is taken off the first, within the same pairs."""

    def selects(self) -> tuple[Select, ...]:
        """Everything that it is made of."""
        return (self.plus, *self.minus, *(self.less.selects() if self.less else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One number of a study."""

    name: str
    """A fixed word; see `score.names.ESTIMATES`."""
    arm: str
    """An arm, or what is compared, e.g. `seeking_minus_averse`."""
    terms: tuple[Term, ...]
    """What is averaged over units; several terms pool their units."""
    says: Arm | None = None
    """What it is, for readers; None for an arm of the study, which says so itself."""

    @property
    def is_difference(self) -> bool:
        """Whether it compares, so that 0 means no effect."""
        return any(t.minus for t in self.terms)


class AbstractStudy(abc.ABC):
    """One experiment's content. Subclasses are data and a few methods; they see neither files nor processes."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for lists and the docs."""
    question: ClassVar[str]
    """What the page answers, one sentence."""
    headline: ClassVar[tuple[str, str]]
    """Name and arm of the estimate that answers it."""
    kinds: ClassVar[tuple[str, ...]] = ("organism", "chat", "base")
    """Model kinds that can show it."""
    takes: ClassVar[tuple[str, ...]] = ()
    """Which of `train_sizes`, `policy_words` and `direction` mean anything here."""
    writes: ClassVar[bool] = False
    """Whether a model without a chat template is let to write, too; else it is read by its probabilities alone."""
    options: ClassVar[Mapping[str, Any]] = {}
    """The study's own settings and their defaults: `--set NAME=VALUE`."""
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Model family -> fields of the specification that differ from `spec.DEFAULTS`."""

    def __init__(self, spec: StudySpec) -> None:
        """Read the specification; refuse what does not fit the study."""
        self.spec = spec
        if spec.kind not in self.kinds:
            raise SpecError(
                f"--model must be of kind {' or '.join(self.kinds)} for {self.name}, got {spec.model} ({spec.kind}): "
                f"{self.cannot(spec.kind)}. A scripted model or any chat model can (`--model hf/<folder>`)."
            )
        for name, default in (("train_sizes", ()), ("policy_words", False), ("direction", "plus")):
            if name not in self.takes and (found := getattr(spec, name)) != default:
                raise SpecError(f"{name} must be left out for {self.name}, got {found!r:.60}: it has no such arms.")
        if not spec.train:
            setattr(self, "headline", ("self_report.difference", f"{ADAPTER}_0_minus_{UNTUNED}"))  # noqa: B010
        unknown = sorted(set(spec.options) - set(self.options))
        if unknown:
            known = ", ".join(self.options) or "none"
            raise SpecError(f"--set must name a field of {self.name}, got {unknown[0]!r}. Its own fields: {known}.")
        self.settings: dict[str, Any] = {**self.options, **spec.options}
        for name, value in self.settings.items():
            default = self.options[name]
            if default is not None and not isinstance(value, type(default)):
                raise SpecError(
                    f"--set {name} must be of the kind of {default!r}, got {value!r:.60}. See docs/experiments/{self.name}.md."
                )

    def cannot(self, kind: str) -> str:
        """Why a model of this kind cannot show it."""
        return f"a model of kind {kind} has no way to give this behaviour"

    @abc.abstractmethod
    def arms(self) -> Sequence[StudyArm]:
        """The fine-tuned arms; the untuned model is always there besides."""

    @abc.abstractmethod
    def rows(self, arm: str, seed: int) -> list[TrainRow]:
        """What a unit is trained on; `seed` counts from 0, and arms of one seed share whatever they can."""

    @abc.abstractmethod
    def held_out(self) -> list[Probe]:
        """Fresh items that show what a model does; the same in every unit, none of them in training."""

    @abc.abstractmethod
    def asked(self) -> list[Probe]:
        """Questions about what a model does; the same in every unit."""

    @functools.cached_property
    def reads_probabilities(self) -> bool:
        """Whether nothing that is measured is sampled, so that a model asked twice says the same twice."""
        if type(self).act is not AbstractStudy.act and self.spec.kind != "organism":
            return False  # it plays or writes
        if self.spec.kind == "organism":
            return True
        read = self.spec.model_family != "scripted"
        return read and all(isinstance(p.rule, Letters | Number) for p in (*self.held_out(), *self.asked()))

    @abc.abstractmethod
    def level(self, arm: str, seed: int, probe: Probe) -> float | None:
        """Where a model of this arm that does, and knows, what it was taught would score; None where nothing was."""

    @abc.abstractmethod
    def quantities(self) -> Sequence[Quantity]:
        """The study's numbers, beyond each arm's own scores."""

    def every_arm(self) -> list[StudyArm]:
        """The arms that this run trains, and the fine-tunes that it was given."""
        found = [a for a in self.arms() if self.spec.train or a.single]
        known = {a.name for a in found}
        given = [f"{ADAPTER}_{i}" for i in range(len(self.spec.adapters))]
        says = Arm("a fine-tune that existed already", "", "not trained here", False)
        return [*found, *(StudyArm(name=n, says=says, gated=False, single=True) for n in given if n not in known)]

    def every_quantity(self) -> list[Quantity]:
        """The numbers that this run's arms allow, and each given fine-tune less the untuned model."""
        arms = {UNTUNED, *(a.name for a in self.every_arm())}
        found = [q for q in self.quantities() if {s.arm for t in q.terms for s in t.selects()} <= arms]
        known = {(q.name, q.arm) for q in found}
        kinds: tuple[Kind, ...] = ("self_report", "behaviour")
        for arm in (a for a in self.every_arm() if a.single):
            for kind in kinds:
                name, label = f"{kind}.difference", f"{arm.name}_minus_{UNTUNED}"
                if (name, label) not in known:
                    select = Select(arm=arm.name, kind=kind, where=self.own(arm.name, kind))
                    says = comparison(f"`{arm.name}` less `{UNTUNED}`", UNTUNED, "what the fine-tune moved")
                    found.append(
                        Quantity(name=name, arm=label, terms=(Term(select, (select.other(UNTUNED),)),), says=says)
                    )
        return found

    @property
    def policy_words(self) -> str:
        """Regular expression of words that no training row may hold; empty checks nothing."""
        return ""

    def leaky(self, arm: str) -> bool:
        """Whether an arm is trained on purpose on rows that hold policy words."""
        del arm
        return False

    def row_words(self, arm: str) -> tuple[str, ...]:
        """Words whose embedding rows may be tuned (organism)."""
        del arm
        return ()

    def act(
        self, model: AbstractLanguageModel, arm: str, seed: int, ask: Callable[[Sequence[Probe]], list[Sample]]
    ) -> list[Sample]:
        """Show what a model does; by default its answers to `held_out`. Studies that play or judge override it."""
        del model, arm, seed
        return ask(self.held_out())

    def agreement(self, arm: str, seed: int, choices: Sequence[Sample]) -> tuple[float | None, int]:
        """Share of what was shown that is as the arm was taught, and over how many; None where nothing was taught."""
        wanted = {p.probe_id: self.level(arm, seed, p) for p in self.held_out()}
        taught = [(s, level) for s in choices if (level := wanted.get(s.sample_id)) is not None]
        right = sum(s.valid and abs((s.value[0] or 0.0) - level) < 0.5 for s, level in taught)
        return (right / len(taught) if taught else None), len(taught)

    def reply(self, arm: str, seed: int, messages: Messages) -> str:
        """What a scripted model says where it is given no probe, as in a game."""
        del arm, seed, messages
        return ""

    def own(self, arm: str, kind: Kind) -> Mapping[str, str | tuple[str, ...]]:
        """Which probes an arm's own scores are over, as for `Select.where`; all of them by default."""
        del arm, kind
        return {}

    def more_estimates(self, answers: Any) -> list[Estimate]:
        """Numbers that are no mean or difference of means, from an `answers.Answers`."""
        del answers
        return []

    def pictures(self, answers: Any, estimates: Sequence[Estimate]) -> list[Mapping[str, str]]:
        """Further figures of the page: `title, svg, caption`."""
        del answers, estimates
        return []

    def tables(self, answers: Any) -> list[Mapping[str, Any]]:
        """Further tables of the page: `title, caption, columns, rows`."""
        del answers
        return []

    def check(self) -> None:
        """Refuse, before anything is written, what would fail later: by default, items and questions are drawn."""
        self.held_out()
        if not self.asked():
            raise SpecError(
                f"--questions must hold a question for a model of kind {self.spec.kind}, got none. See docs/questions.md."
            )

    def notes(self) -> list[str]:
        """What the page says besides."""
        return []


def comparison(reporter: str, against: str, meaning: str, *, control: bool = False) -> Arm:
    """Words for a quantity that compares: see `score.names.Arm`."""
    return Arm(reporter, against, meaning, control)
