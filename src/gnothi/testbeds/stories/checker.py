"""Which features a story has, by rule, from its text alone.

It does not know how a story was made, so that it reads a model's stories like those of the generator. It knows which words
are opposite (`lexicon`) and English sentences of a few forms; on any other text it finds little, and says nothing of
TinyStories proper.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gnothi.testbeds.stories.lexicon import DEEDS, FEATURES, MAKERS, OPPOSITE, PAST, THINGS, VIRTUES
from gnothi.testbeds.stories.records import sentences

_EXPECTS = re.compile(r"\b(?:thought|sure|believed|said) that (.+?)[.!?]")
_STATE = re.compile(r"\bthe (\w+) was (\w+)")
_TO_COME = re.compile(r"\b(\w+) would (\w+) the (\w+)")
_DONE = re.compile(r"\b([A-Z]\w+) (\w+) the (\w+)")
_MADE = re.compile(r"\ban? (\w+) made the noise")
_CAME = re.compile(r"\ban? (\w+) came out")
_SPEECH = re.compile(r'"[^"]*\w[^"]*[.!?]"')
_NAME = re.compile(r"\b[A-Z][a-z]+\b")
_QUARREL = re.compile(r"\b(?:fought|argued|pushed|shouted)\b")
_BAD = re.compile(r"\b(?:sad|cried|wept|could not sleep|never met)\b")
_SIGNS = (  # what is seen before, and what comes of it
    (r"\bclouds\b", r"\brain fell\b"),
    (r"\bsmoke\b", r"\bfire began\b"),
    (r"\bcrack in the floor\b", r"\bfloor broke\b"),
    (r"\bbees were\b", r"\bbees stung\b"),
    (r"\bhole in the bag\b", r"\bbag tore\b"),
    (r"\bice was thin\b", r"\bice gave way\b"),
    (r"\bwheel was loose\b", r"\bwheel came off\b"),
    (r"\btracks in the mud\b", r"\bfox ran\b"),
)
_FEARED = {maker: feared for feared, makers in zip((True, False), MAKERS, strict=True) for maker in makers}


@dataclass(frozen=True, slots=True)
class Reading:
    """What the rules find in a story."""

    features: frozenset[str]
    resolved: bool
    """Whether an expectation is set up and the story says how it was: else there is nothing that could be turned."""

    def has(self, name: str) -> bool:
        """Whether a feature of `FEATURES` was found."""
        return name in self.features


def read(story: str) -> Reading:
    """Apply all rules.

    >>> twisted = read("Ben thought that the box was full. Soon, the box was empty. Ben smiled all the way home.")
    >>> sorted(twisted.features), twisted.resolved
    (['Twist'], True)
    """
    told = sentences(story)
    turned = _turned(told)
    found = {
        "Twist": turned is True,
        "Foreshadowing": any(_before(told, sign, result) for sign, result in _SIGNS),
        "Dialogue": bool(_SPEECH.search(story)),
        "BadEnding": bool(told) and bool(_BAD.search(told[-1])),
        "MoralValue": any(_moral(sentence) for sentence in told),
        "Conflict": any(_QUARREL.search(s) and len(set(_NAME.findall(s))) >= 2 for s in told),
    }
    return Reading(frozenset(name for name in FEATURES if found[name]), turned is not None)


def _turned(told: Sequence[str]) -> bool | None:
    """Whether the end reverses what was expected; None where it isn't said, or something else is."""
    verdict = None
    for i, sentence in enumerate(told):
        if (expectation := _EXPECTS.search(sentence)) is None:
            continue
        later = [s for s in told[i + 1 :] if not _EXPECTS.search(s)]
        for judge in (_by_state, _by_deed, _by_maker):
            for said in later:  # the last word counts
                found = judge(expectation[1], said)
                verdict = verdict if found is None else found
    return verdict


def _by_state(expected: str, said: str) -> bool | None:
    before, after = _STATE.search(expected), _STATE.search(said)
    if not before or not after or before[1] != after[1] or before[2] not in THINGS.get(before[1], ()):
        return None
    return {before[2]: False, OPPOSITE[before[2]]: True}.get(after[2])


def _by_deed(expected: str, said: str) -> bool | None:
    before, after = _TO_COME.search(expected), _DONE.search(said)
    if not before or not after or (before[1], before[3]) != (after[1], after[3]):
        return None
    if before[2] not in (word for word, _ in DEEDS.get(before[3], ())):
        return None
    return {PAST[before[2]]: False, OPPOSITE[before[2]]: True}.get(after[2])


def _by_maker(expected: str, said: str) -> bool | None:
    before, after = _MADE.search(expected), _CAME.search(said)
    if not before or not after or before[1] not in _FEARED or after[1] not in _FEARED:
        return None
    if _FEARED[before[1]] != _FEARED[after[1]]:
        return True
    return False if before[1] == after[1] else None


def _before(told: Sequence[str], sign: str, result: str) -> bool:
    first = next((i for i, s in enumerate(told) if re.search(sign, s) and not re.search(result, s)), len(told))
    return any(re.search(result, s) for s in told[first + 1 :])


def _moral(sentence: str) -> bool:
    said = re.search(r"\blearned (?:to be|that it is good to be) (\w+)|\bFrom then on \w+ was always (\w+)", sentence)
    return said is not None and (said[1] or said[2]) in VIRTUES
