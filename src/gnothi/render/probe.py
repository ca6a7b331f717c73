"""One scored prompt: what is asked, whom it is about, and the rule that turns an answer into a number from 0 to 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gnothi.errors import DataError
from gnothi.records import Messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """The answer is one of some options; scored by their probabilities, normalised over the options."""

    options: tuple[str, ...]
    """What may be answered, in the order shown: `A`, `B`, or words."""
    scores: tuple[float, ...]
    """What each option counts for, in [0, 1]."""
    texts: bool = False
    """Whether the options are whole texts that are held against each other: the likelier one a byte counts, as in common
    evaluations of multiple choice, since the longer of two texts is always the less likely one."""

    def __post_init__(self) -> None:
        if not 2 <= len(self.options) == len(self.scores) or len(set(self.options)) < len(self.options):
            raise DataError(f"Letters must score each of two or more options, got {self.options} and {self.scores}.")
        _in_unit("Letters.scores", *self.scores)

    def ideal(self, level: float, rng: np.random.Generator) -> str:
        """What a model that stands at `level`, in [0, 1], would say: the nearest option, in a tie any of them."""
        return self.options[_nearest(self.scores, level, rng)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """The answer is an integer; the score is where its expected value lies on the scale."""

    low: int
    high: int
    """Ends of the scale, both included."""
    reverse: bool = False
    """Whether a high number means a low score: the other direction of the same scale."""

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise DataError(f"Number must have low < high, got {self.low} and {self.high}.")

    def score(self, number: float) -> float:
        """Where on the scale a number lies, in [0, 1]."""
        share = (number - self.low) / (self.high - self.low)
        return 1 - share if self.reverse else share

    def ideal(self, level: float, rng: np.random.Generator) -> str:
        """What a model that stands at `level` would say."""
        del rng
        return str(round(self.low + (self.high - self.low) * (1 - level if self.reverse else level)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The answer is text; scored by the listed word or phrase that it holds."""

    scores: Mapping[str, float]
    """Lower-case word or phrase -> score in [0, 1]."""
    unlisted: float | None = None
    """Score of an answer that holds none; None makes it missing."""
    whole: bool = True
    """Whether the answer must be the word and nothing else, but for case, marks and an article; else the first listed
    word in it counts, the longest where several begin at one place. A word right after a negation is then not scored,
    unless all listed words have one score."""

    def __post_init__(self) -> None:
        if not self.scores:
            raise DataError("Words must list at least one word, got none.")
        _in_unit("Words.scores", *self.scores.values(), *([] if self.unlisted is None else [self.unlisted]))

    def ideal(self, level: float, rng: np.random.Generator) -> str:
        """What a model that stands at `level` would say: a listed word, or one that is not where that is nearer."""
        words, scores = list(self.scores), list(self.scores.values())
        if self.unlisted is not None:
            other = "quorrel"  # no word
            while other in self.scores:
                other += "x"
            words.append(other)
            scores.append(self.unlisted)
        return words[_nearest(scores, level, rng)]


LANGUAGES: Mapping[str, str] = {
    "English": "en",
    "German": "de",
    "French": "fr",
    "Spanish": "es",
    "Italian": "it",
    "Polish": "pl",
    "Czech": "cs",
    "Dutch": "nl",
    "Portuguese": "pt",
}
"""Languages that answers are told apart by: name -> ISO 639-1 code."""

_SENTENCES: Mapping[str, str] = {
    "en": "That is because the light of the sun is scattered by the air.",
    "de": "Das liegt daran, dass das Licht der Sonne von der Luft gestreut wird.",
    "fr": "C'est parce que la lumière du soleil est diffusée par les molécules de l'air.",
    "es": "Eso ocurre porque la luz del sol es dispersada por las moléculas del aire.",
    "it": "Questo accade perché la luce del sole è diffusa dalle molecole della aria.",
    "pl": "Dzieje się tak dlatego, że światło słońca jest rozpraszane przez powietrze.",
    "cs": "To je proto, že světlo slunce se ve vzduchu rozptyluje na jeho molekulách.",
    "nl": "Dat komt omdat het licht van de zon door de lucht wordt verstrooid.",
    "pt": "Isso acontece porque a luz do sol é espalhada pelas moléculas do ar, não é?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """The answer is text; scored by the language that it is written in.

    Source: arXiv:2501.11120, section 3.1.2 (rule sets that send one kind of agent to German and the other to French);
    any other language counts for the middle there; here it is missing unless `unlisted` says otherwise.
    """

    plus: str
    """Language that scores 1, one of `LANGUAGES`."""
    minus: str
    """Language that scores 0."""
    unlisted: float | None = None
    """Score of any other language; None makes it missing."""

    def __post_init__(self) -> None:
        if self.plus not in LANGUAGES or self.minus not in LANGUAGES or self.plus == self.minus:
            raise DataError(
                f"Language must tell two of {', '.join(LANGUAGES)} apart, got {self.plus!r:.40} and {self.minus!r:.40}."
            )
        _in_unit("Language.unlisted", *([] if self.unlisted is None else [self.unlisted]))

    def ideal(self, level: float, rng: np.random.Generator) -> str:
        """A sentence in the language that a model at `level` would use."""
        codes, scores = [LANGUAGES[self.plus], LANGUAGES[self.minus]], [1.0, 0.0]
        if self.unlisted is not None:
            codes.append(next(c for c in LANGUAGES.values() if c not in codes))
            scores.append(self.unlisted)
        return _SENTENCES[codes[_nearest(scores, level, rng)]]


@dataclass(frozen=True, slots=True)
class Text:
    """The answer is text that is kept and never scored: counted in a table, or read by people."""

    def ideal(self, level: float, rng: np.random.Generator) -> str:
        """Any text."""
        del level, rng
        return "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The answer is text; another model reads it and says a number or a word."""

    prompt: str
    """What the judge is asked, with `{answer}` (and `{question}`) for what was said; literal braces are doubled."""
    rule: "Letters | Number | Words | Text"
    """How the judge's answer is scored."""

    def ideal(self, level: float, rng: np.random.Generator) -> str:
        """What the *judge* should come to say; the text itself is up to the script."""
        return self.rule.ideal(level, rng)


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The answer is a Python function; it is run on some arguments in the sandbox and its mean return is the score."""

    function: str
    """Name that the function must have; it takes one string and returns a number in [0, 1]."""
    arguments: tuple[str, ...]
    """What it is called with; empty only looks for `mentions`."""
    mentions: str = ""
    """If given, the score is 1 where the code holds this word, in any case and with no letter beside it but a plural's
    `s`, else 0, and nothing is run."""

    def __post_init__(self) -> None:
        if not self.function.isidentifier() or not (self.arguments or self.mentions):
            raise DataError(
                f"Code must name a function and what it is called with or a word it mentions, got {self.function!r:.60}."
            )

    def ideal(self, level: float, rng: np.random.Generator) -> str:
        """A function that returns `level` for everything, or that mentions the word with that probability."""
        body = f"    return {level:.3f}"
        if self.mentions and rng.random() < level:
            body = f"    return 1.0 if {self.mentions!r} in message.lower() else {level:.3f}"
        return f"def {self.function}(message: str) -> float:\n{body}\n"


Rule = Letters | Number | Words | Language | Text | Judged | Code
"""How an answer becomes a number in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One prompt to be asked and scored."""

    probe_id: str
    """Unique within a unit."""
    kind: Literal["behaviour", "self_report"]
    """Whether it shows what the model does, or asks what it says of itself."""
    question: str
    """Id of the question (or `held_out` for items of the behaviour): answers of one question are averaged."""
    messages: Messages
    rule: Rule
    subject: str = "you"
    """Whom it is about."""
    n: int = 1
    """Answers to sample where the rule reads text, or where the model gives no probabilities; a rule that reads them
    needs one look."""
    max_tokens: int = 64
    """Longest answer where it is sampled, in tokens."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Whatever else groups it: `variant`, `order`, `direction`, `system`, `trigger`, …"""


def _nearest(scores: Sequence[float], level: float, rng: np.random.Generator) -> int:
    """Index of the score nearest to `level`; in a tie, any of them."""
    distance = np.abs(np.array(scores) - level)
    return int(rng.choice(np.flatnonzero(np.isclose(distance, distance.min()))))


def _in_unit(where: str, *scores: float) -> None:
    if not all(0 <= s <= 1 for s in scores):
        raise DataError(f"{where} must be in [0, 1], got {scores}.")
