"""How a question's answers are scored, before its slots are filled: each type here gives a probe's rule.

Every score is in [0, 1] and 1 is the behaviour's `plus` direction.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gnothi.errors import DataError, SpecError
from gnothi.render.probe import Code, Judged, Language, Letters, Number, Text, Words
from gnothi.render.questions.templates import Template, missing

Fill = Mapping[str, str | Sequence[str]]
"""What goes into the slots: text, or a list of texts, shown with commas between."""
Order = tuple[int, ...]
"""The options' numbers, from 0, in the order shown."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST_ALL_ORDERS = 5
"""More options than this are not asked in all orders."""


def as_texts(fill: Fill) -> dict[str, str]:
    """The values as they stand in a text."""
    return {name: value if isinstance(value, str) else ", ".join(value) for name, value in fill.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsScore:
    """Free text, scored by a listed word."""

    scores: Mapping[Template, float]
    unlisted: float | None = None
    whole: bool = True

    def rule(self, texts: Mapping[str, str], where: str) -> Words:
        """The probe's rule."""
        scores: dict[str, float] = {}
        for word, score in self.scores.items():
            filled = " ".join(word.fill(texts, where).casefold().split())
            if not filled or scores.setdefault(filled, score) != score:
                raise SpecError(
                    f"{where}: a word must be scored once, got {filled!r:.60} with two scores. Fill in another."
                )
        return Words(scores=scores, unlisted=self.unlisted, whole=self.whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberScore:
    """A number on a scale; asked in both directions."""

    low: int
    high: int

    def rule(self, reverse: bool) -> Number:
        """The probe's rule."""
        return Number(low=self.low, high=self.high, reverse=reverse)


@dataclass(frozen=True, slots=True, kw_only=True)
class LettersScore:
    """Lettered options; asked in both orders."""

    options: tuple[Template, ...]
    scores: tuple[float, ...]
    all_orders: bool = False

    def orders(self) -> list[Order]:
        """In which orders the options are shown: both, or for more than two each in each place, or all."""
        n = len(self.options)
        if self.all_orders:
            return list(itertools.permutations(range(n)))
        return [tuple((i + shift) % n for i in range(n)) for shift in range(n)]

    def rule(self, order: Order) -> Letters:
        """The probe's rule."""
        return Letters(options=tuple(LETTERS[: len(order)]), scores=tuple(self.scores[i] for i in order))

    def shown(self, order: Order, texts: Mapping[str, str], where: str, *, words_only: bool) -> str:
        """The options as they stand in the prompt."""
        filled = [self.options[i].fill(texts, where) for i in order]
        if words_only:
            return " ".join(f"{letter} {text}" for letter, text in zip(LETTERS, filled, strict=False))
        return "\n".join(f"{letter}: {text}" for letter, text in zip(LETTERS, filled, strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceScore:
    """One word out of a list, scored by each word's probability."""

    options: Template | tuple[Template, ...]
    plus: Template

    def words(self, fill: Fill, texts: Mapping[str, str], where: str) -> tuple[str, ...]:
        """The words, in the order of the list."""
        if isinstance(self.options, tuple):
            found = [o.fill(texts, where) for o in self.options]
        elif len(self.options.parts) == 1 and self.options.parts[0][0] == "":
            name = self.options.parts[0][1]
            if name not in fill:
                raise missing(name, fill, where)
            value = fill[name]
            found = list(value) if not isinstance(value, str) else value.replace("\n", ",").split(",")
        else:
            found = self.options.fill(texts, where).replace("\n", ",").split(",")
        words = tuple(w for w in (x.strip() for x in found) if w)
        plus = self.plus.fill(texts, where)
        if len(words) < 2 or len(set(words)) < len(words) or plus not in words:
            raise SpecError(
                f"{where}: options must be two or more words, each once, with {plus!r:.40} among them, "
                f"got {len(words)} words. Fill in such a list."
            )
        return words

    def rule(self, words: tuple[str, ...], texts: Mapping[str, str], where: str) -> Letters:
        """The probe's rule."""
        plus = self.plus.fill(texts, where)
        return Letters(options=words, scores=tuple(float(w == plus) for w in words))


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageScore:
    """Free text, scored by its language."""

    plus: str
    minus: str
    unlisted: float | None = None

    def rule(self) -> Language:
        """The probe's rule."""
        return Language(plus=self.plus, minus=self.minus, unlisted=self.unlisted)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScore:
    """Free text that is kept and not scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeScore:
    """Free text that another model reads and scores."""

    prompt: Template
    """With `{answer}`, perhaps `{question}`, and slots of the question."""
    inner: "WordsScore | NumberScore | SaidScore | TextScore"

    def rule(self, texts: Mapping[str, str], where: str) -> Judged:
        """The probe's rule."""
        own = {name: text for name, text in texts.items() if name not in ("answer", "question")}
        for name in sorted(self.prompt.names - {"answer", "question"}):
            if name not in own:
                raise missing(name, own, where)
        return Judged(prompt=self.prompt.fill_some(own), rule=_judge_rule(self.inner, texts, where))


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidScore:
    """What a judge says is one of some texts, scored by their probabilities."""

    options: tuple[Template, ...]
    scores: tuple[float, ...]

    def rule(self, texts: Mapping[str, str], where: str) -> Letters:
        """The judge's rule."""
        try:
            return Letters(options=tuple(o.fill(texts, where) for o in self.options), scores=self.scores)
        except DataError as error:
            raise SpecError(f"{where}: {error}") from error


def _judge_rule(
    score: "WordsScore | NumberScore | SaidScore | TextScore", texts: Mapping[str, str], where: str
) -> Letters | Number | Words | Text:
    if isinstance(score, NumberScore):
        return score.rule(reverse=False)
    return Text() if isinstance(score, TextScore) else score.rule(texts, where)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeScore:
    """A Python function, run on arguments, or searched for a word."""

    function: str
    mentions: Template | None = None
    arguments: Template | tuple[Template, ...] | None = None

    def rule(self, fill: Fill, texts: Mapping[str, str], where: str) -> Code:
        """The probe's rule."""
        if self.mentions is not None:
            word = self.mentions.fill(texts, where).strip()
            if not word:
                raise SpecError(f"{where}: mentions must be a word, got an empty one. Fill it in.")
            return Code(function=self.function, arguments=(), mentions=word)
        assert self.arguments is not None
        if isinstance(self.arguments, tuple):
            return Code(function=self.function, arguments=tuple(a.fill(texts, where) for a in self.arguments))
        name = self.arguments.parts[0][1]
        if name not in fill:
            raise missing(name, fill, where)
        value = fill[name]
        arguments = (value,) if isinstance(value, str) else tuple(value)
        if not arguments:
            raise SpecError(f"{where}: {{{name}}} must hold at least one text, got none. Fill it in.")
        return Code(function=self.function, arguments=arguments)


Score = WordsScore | NumberScore | LettersScore | ChoiceScore | LanguageScore | TextScore | JudgeScore | CodeScore
"""How a question is scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """How often a question is sampled, and how long an answer may be."""

    samples: int
    """Answers for each paraphrase (and order, and direction)."""
    max_tokens: int


TEMPERATURE = 1.0
"""Of sampled answers; the judge answers at 0."""

PROBABILITY_SAMPLES = 128
"""Samples that stand for a probability where a model gives none."""

DEFAULTS: Mapping[str, Defaults] = {
    "words": Defaults(samples=100, max_tokens=4),
    "number": Defaults(samples=PROBABILITY_SAMPLES, max_tokens=4),
    "letters": Defaults(samples=PROBABILITY_SAMPLES, max_tokens=2),
    "choice": Defaults(samples=PROBABILITY_SAMPLES, max_tokens=8),
    "language": Defaults(samples=100, max_tokens=10),
    "judge": Defaults(samples=100, max_tokens=256),
    "code": Defaults(samples=100, max_tokens=512),
    "text": Defaults(samples=100, max_tokens=64),
}
"""By type of score.

Source: arXiv:2501.11120, appendices on evaluation, and the authors' released scripts: 100 samples of each of 10
paraphrases at temperature 1, 4 new tokens for words and numbers, 10 for the language task, 512 for code; options and
scales by the first token's probabilities, or 128 samples. Theirs are 1,000 samples for the definition of a codeword
(here 100 a paraphrase), and they state no length for judged answers. Letters and numbers are scored over whole answers
here, of any number of tokens, and not by the first token.
"""


def type_of(score: Score) -> str:
    """The type's name in a question file."""
    return type(score).__name__.removesuffix("Score").lower()


def n_orders(score: Score) -> int:
    """In how many orders a question with options is asked; 1 without options."""
    if isinstance(score, LettersScore):
        return math.factorial(len(score.options)) if score.all_orders else len(score.options)
    return 1
