"""Questions as they stand in a file: paraphrases with slots, how they are scored, and which models can answer them."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from gnothi.errors import SpecError
from gnothi.render.questions.scoring import DEFAULTS, Score, type_of
from gnothi.render.questions.templates import Template

KINDS = ("organism", "chat", "base")
"""Kinds of models: the organism with its own short language, instruct models, language models without a template."""
NO_SYSTEM = "none"
"""Name of no system prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question in all its paraphrases."""

    question_id: str
    models: tuple[str, ...]
    """Kinds that can answer it."""
    score: Score
    ask: tuple[Template, ...]
    """Paraphrases about the model itself."""
    ask_about: tuple[Template, ...] = ()
    """About `{persona}`."""
    ask_reversed: tuple[Template, ...] = ()
    """With the other direction of the scale."""
    one_direction: str = ""
    """Why a scale is asked in one direction only; empty where both are asked."""
    ask_about_reversed: tuple[Template, ...] = ()
    kind: Literal["behaviour", "self_report"] = "self_report"
    system: str = NO_SYSTEM
    """Id of its own system prompt."""
    start: Template | None = None
    """How the assistant's answer begins."""
    max_tokens: int | None = None
    samples: int | None = None
    """Answers for each paraphrase; None takes the default of its type of score."""
    title: str = ""
    source: str = ""

    def paraphrases(self, subject: str, *, reverse: bool = False) -> tuple[Template, ...]:
        """The paraphrases that ask about a subject: `you`, or a name.

        Raises:
            SpecError: It asks about the model only.
        """
        ask, about = (self.ask_reversed, self.ask_about_reversed) if reverse else (self.ask, self.ask_about)
        if subject == "you":
            return ask
        if self.ask_about:
            return about
        if all("subject" in t.names for t in ask):
            return ask
        raise SpecError(
            f"question {self.question_id}: a subject must have a wording in ask_about, got {subject!r:.60} and none. "
            "Add ask_about with {persona} to it, or leave it out."
        )

    def answers(self, samples: int | None) -> int:
        """How many answers are sampled for each paraphrase: what a run wants, else its own or its type's number.

        A question that is to be answered once stays so.
        """
        if self.samples == 1:
            return 1
        return samples or self.samples or DEFAULTS[type_of(self.score)].samples

    def tokens(self) -> int:
        """The longest answer."""
        return self.max_tokens or DEFAULTS[type_of(self.score)].max_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet:
    """The questions of one topic."""

    topic: str
    questions: tuple[Question, ...]
    systems: Mapping[str, str] = field(default_factory=dict)
    """Id -> text of a system prompt."""
    notes: tuple[str, ...] = ()
    """What a file that was written for another program lacks, and what was done about it."""

    def __iter__(self) -> Iterator[Question]:
        """Go through the questions in order."""
        return iter(self.questions)

    def __len__(self) -> int:
        """Count the questions."""
        return len(self.questions)

    def __getitem__(self, question_id: str) -> Question:
        """Find a question by its id.

        Raises:
            SpecError: There is none.
        """
        self._check((question_id,))
        return next(q for q in self.questions if q.question_id == question_id)

    def for_kind(self, kind: str) -> "QuestionSet":
        """Those questions that a kind of model can answer; perhaps none.

        Raises:
            SpecError: An unknown kind.
        """
        if kind not in KINDS:
            raise SpecError(f"kind must be one of {', '.join(KINDS)}, got {kind!r:.40}. Choose one of these.")
        return replace(self, questions=tuple(q for q in self.questions if kind in q.models))

    def only(self, *ids: str) -> "QuestionSet":
        """These questions alone, in the file's order.

        Raises:
            SpecError: One of them is not there.
        """
        self._check(ids)
        return replace(self, questions=tuple(q for q in self.questions if q.question_id in ids))

    def without(self, *ids: str) -> "QuestionSet":
        """All but these questions.

        Raises:
            SpecError: One of them is not there.
        """
        self._check(ids)
        return replace(self, questions=tuple(q for q in self.questions if q.question_id not in ids))

    def _check(self, ids: tuple[str, ...]) -> None:
        known = [q.question_id for q in self.questions]
        for wanted in ids:
            if wanted not in known:
                near = difflib.get_close_matches(wanted, known, 1)
                fix = f"Did you mean {near[0]}?" if near else "Choose one of these."
                raise SpecError(
                    f"{self.topic}: a question must be one of {', '.join(known)}, got {wanted!r:.60}. {fix}"
                )
