"""Questions to probes: every paraphrase, every order of the options, both directions of a scale, every system prompt."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gnothi.errors import SpecError
from gnothi.records import Message, Messages
from gnothi.render.probe import Probe, Rule, Text
from gnothi.render.questions.question import KINDS, NO_SYSTEM, Question, QuestionSet
from gnothi.render.questions.scoring import (
    ChoiceScore,
    CodeScore,
    Fill,
    JudgeScore,
    LanguageScore,
    LettersScore,
    NumberScore,
    WordsScore,
    as_texts,
)
from gnothi.render.questions.templates import Template

LETTER_SUFFIX = "Choose one of these options. Reply with its letter alone and nothing else."
"""Ends a lettered question, but in the organism's language, which has no such words."""


def expand(
    question_set: QuestionSet,
    *,
    kind: str,
    subject: str = "you",
    fill: Fill | None = None,
    systems: Sequence[str] = (NO_SYSTEM,),
    samples: int | None = None,
    variants: int | None = None,
    prefix: str = "",
) -> list[Probe]:
    """Make the probes of a set of questions.

    A paraphrase with two lettered options is asked in both orders, with k > 2 options in the k rotations, so that each
    option stands in each place equally often; a scale is asked in both directions. A model that answers by place or
    always high thereby scores at chance. Labels: `variant` (number of the paraphrase, from 0), `order` (the options'
    numbers as shown), `direction` (`up` or `down`) and `system`.

    Args:
        question_set: Questions that this kind of model can answer (`for_kind`).
        kind: `organism`, `chat` or `base`.
        subject: Whom it is about: `you`, or a name, e.g. a persona's.
        fill: What goes into the placeholders, e.g. `{"codeword": "bark", "codewords": ["ring", "bark"]}`. `{subject}`
            and `{persona}` are the subject.
        systems: Ids of system prompts to ask under, one after another; `none` is none.
        samples: Answers for each paraphrase, order and direction, where they are sampled; None: the question's own, or
            the default of its type of score.
        variants: Paraphrases to use at most; None uses all.
        prefix: Begins every probe's id.

    Returns:
        Probes with unique ids `prefix/question/variant[/order or direction][/about=subject][/system=id]`: the same
        arguments always give the same probes.

    Raises:
        SpecError: A question of another kind, a placeholder that nothing fills, an unknown system prompt, a subject
            that a question can't be asked about.
    """
    if kind not in KINDS:
        raise SpecError(f"kind must be one of {', '.join(KINDS)}, got {kind!r:.40}. Choose one of these.")
    if not question_set.questions:
        raise SpecError(f"{question_set.topic}: expand must have a question for kind {kind}, got none. Add one.")
    for name, number in (("samples", samples), ("variants", variants)):
        if number is not None and number < 1:
            raise SpecError(f"{name} must be 1 or more, got {number}. Leave it out for the question's own.")
    if not systems or len(set(systems)) < len(systems):
        raise SpecError(f"systems must name each prompt once, got {list(systems)}. `none` is no system prompt.")
    values = {**(fill or {}), "subject": subject, **({} if subject == "you" else {"persona": subject})}
    job = _Job(question_set, kind, subject, values, as_texts(values), samples, variants, prefix)
    return [probe for question in question_set for probe in job.probes(question, systems)]


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to put a question: its rule, what it is called, and how its text comes about."""

    rule: Rule
    templates: tuple[Template, ...]
    label: tuple[str, str] | None = None
    options: str | None = None
    suffix: str = ""
    texts: "dict[str, str] | None" = None


@dataclass(frozen=True, slots=True)
class _Job:
    question_set: QuestionSet
    kind: str
    subject: str
    fill: Fill
    texts: dict[str, str]
    samples: int | None
    variants: int | None
    prefix: str

    def probes(self, question: Question, systems: Sequence[str]) -> Iterator[Probe]:
        where = f"{self.question_set.topic}/{question.question_id}"
        if self.kind not in question.models:
            raise SpecError(
                f"question {where} must be asked of {' or '.join(question.models)}, got kind {self.kind}. "
                f"Take question_set.for_kind({self.kind!r}) first."
            )
        prompts = [self._system(question, system) for system in systems]
        started = (Message("assistant", question.start.fill(self.texts, where)),) if question.start is not None else ()
        tail = "" if self.subject == "you" else f"/about={self.subject}"
        n, max_tokens = question.answers(self.samples), question.tokens()
        for form in self._forms(question, where):
            texts = form.texts or self.texts
            for variant, wording in enumerate(form.templates[: self.variants]):
                asked = Message("user", _with_options(wording, texts, form, where))
                for system, opening in prompts:
                    labels = {"variant": str(variant), "system": system}
                    name = [self.prefix, question.question_id, str(variant)]
                    if form.label is not None:
                        labels[form.label[0]] = form.label[1]
                        name.append(form.label[1])
                    shown = "" if system == NO_SYSTEM else f"/system={system}"
                    yield Probe(
                        probe_id="/".join(filter(None, name)) + tail + shown,
                        kind=question.kind,
                        question=question.question_id,
                        messages=(*opening, asked, *started),
                        rule=form.rule,
                        subject=self.subject,
                        n=n,
                        max_tokens=max_tokens,
                        labels=labels,
                    )

    def _system(self, question: Question, system: str) -> tuple[str, Messages]:
        """A variant's label and message: the question's own system prompt, the one that is varied, or both."""
        known = self.question_set.systems
        names = [name for name in (question.system, system) if name != NO_SYSTEM]
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                fix = f"Did you mean {near[0]}?" if near else "Add it to systems.yaml."
                listed = ", ".join((NO_SYSTEM, *sorted(known)))
                raise SpecError(f"systems must be among {listed}, got {name!r:.60}. {fix}")
        if not names:
            return NO_SYSTEM, ()
        return "+".join(names), (Message("system", "\n\n".join(known[name] for name in names)),)

    def _forms(self, question: Question, where: str) -> Iterator[_Form]:
        score, texts = question.score, self.texts
        plain = question.paraphrases(self.subject)
        if isinstance(score, NumberScore):
            yield _Form(score.rule(reverse=False), plain, ("direction", "up"))
            if back := question.paraphrases(self.subject, reverse=True):
                yield _Form(score.rule(reverse=True), back, ("direction", "down"))
        elif isinstance(score, LettersScore):
            words_only = self.kind == "organism"
            for order in score.orders():
                shown = score.shown(order, texts, where, words_only=words_only)
                label = ("order", "".join(map(str, order)))
                suffix = "" if words_only else LETTER_SUFFIX
                yield _Form(score.rule(order), plain, label, shown, suffix)
        elif isinstance(score, ChoiceScore):
            yield from self._choices(score, plain, where)
        else:
            yield _Form(self._rule(score, where), plain)

    def _choices(self, score: ChoiceScore, plain: tuple[Template, ...], where: str) -> Iterator[_Form]:
        """The list as given and backwards, since the first words of a list are likelier; once, if it isn't shown."""
        words = score.words(self.fill, self.texts, where)
        rule = score.rule(words, self.texts, where)
        slots = {"options"} | (score.options.names if isinstance(score.options, Template) else frozenset())
        if not any(slots & t.names for t in plain):
            yield _Form(rule, plain)
            return
        for name, shown in (("given", words), ("backwards", words[::-1])):
            listed = ", ".join(shown)
            yield _Form(rule, plain, ("order", name), texts={**self.texts, **dict.fromkeys(slots, listed)})

    def _rule(self, score: "WordsScore | LanguageScore | JudgeScore | CodeScore | object", where: str) -> Rule:
        match score:
            case WordsScore() | JudgeScore():
                return score.rule(self.texts, where)
            case LanguageScore():
                return score.rule()
            case CodeScore():
                return score.rule(self.fill, self.texts, where)
            case _:
                return Text()


def _with_options(wording: Template, texts: dict[str, str], form: _Form, where: str) -> str:
    if form.options is None:
        return wording.fill(texts, where)
    text = wording.fill({**texts, "options": form.options}, where)
    if form.suffix:
        if "options" not in wording.names:
            text = f"{text}\n\n{form.options}"
        text = f"{text}\n\n{form.suffix}"
    return text
