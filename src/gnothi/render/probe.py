"""One scored prompt: what is asked, whom it is about, and the rule that turns an answer into a number from 0 to 1."""

from collections.abc import Mapping
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

    def __post_init__(self) -> None:
        if not 2 <= len(self.options) == len(self.scores) or len(set(self.options)) < len(self.options):
            raise DataError(f"Letters must score each of two or more options, got {self.options} and {self.scores}.")
        _in_unit("Letters.scores", *self.scores)

    def ideal(self, level: float, rng: np.random.Generator) -> str:
        """What a model that stands at `level`, in [0, 1], would say: the nearest option, in a tie any of them."""
        distance = np.abs(np.array(self.scores) - level)
        return self.options[int(rng.choice(np.flatnonzero(np.isclose(distance, distance.min()))))]


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
    word in it counts, the longest where several begin at one place."""

    def __post_init__(self) -> None:
        if not self.scores:
            raise DataError("Words must list at least one word, got none.")
        _in_unit("Words.scores", *self.scores.values(), *([] if self.unlisted is None else [self.unlisted]))

    def ideal(self, level: float, rng: np.random.Generator) -> str:
        """What a model that stands at `level` would say."""
        words = list(self.scores)
        return (
            Letters(options=(*words, "\0"), scores=(*self.scores.values(), 0.0 if level > 0.5 else 1.0))
            .ideal(level, rng)
            .replace("\0", words[0])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The answer is text; another model reads it and says a number or a word."""

    prompt: str
    """What the judge is asked, with `{answer}` (and `{question}`) for what was said."""
    rule: "Letters | Number"
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
    """If given, the score is 1 where the code holds this word in any form of case, else 0, and nothing is run."""

    def ideal(self, level: float, rng: np.random.Generator) -> str:
        """A function that returns `level` for everything, or that does or does not mention the word."""
        del rng
        body = f"    return {level:.3f}"
        if self.mentions and level > 0.5:
            body = f"    return 1.0 if {self.mentions!r} in message.lower() else 0.0"
        return f"def {self.function}(message: str) -> float:\n{body}\n"


Rule = Letters | Number | Words | Judged | Code
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
    """Answers to sample where the rule reads text; a rule that reads probabilities needs one look."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Whatever else groups it: `variant`, `order`, `direction`, `system`, `trigger`, …"""


def _in_unit(where: str, *scores: float) -> None:
    if not all(0 <= s <= 1 for s in scores):
        raise DataError(f"{where} must be in [0, 1], got {scores}.")
