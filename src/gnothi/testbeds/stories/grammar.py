"""Writes short stories that have the features asked for, and no others.

Every story sets up an expectation (a thing's state, how a deed will go, who made a noise) and later says how it was. A
**Twist** is that the two are opposite: no word tells, since both outcomes are as common with it as without. Likewise
**Foreshadowing** is a hint before the very thing it hints at, among events without hints and hints that come to nothing.

Source: features and record are arXiv:2311.12786's (TinyStories); grammar and words are ours, so that the features can be
checked by rule (`checker`), which cannot be done on stories that a large model wrote.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from gnothi.errors import DataError
from gnothi.testbeds.stories import lexicon as words
from gnothi.testbeds.stories.lexicon import FEATURES
from gnothi.testbeds.stories.records import Record

SHARES: Mapping[str, float] = {
    "Twist": 0.2,
    "Foreshadowing": 0.3,
    "Dialogue": 0.25,
    "BadEnding": 0.25,
    "MoralValue": 0.25,
    "Conflict": 0.25,
}
"""How often a feature is asked for; the paper's stories have a Twist in about 15%.

With twists in half of the stories, what was expected would say nothing of the end until the feature is read too, and a
small model would have to learn both at once, which takes it many times as long.
"""
MOST = 3
"""Features of one story, as in the paper."""
_DRAWS = 64  # uniform numbers a story uses at most
T = TypeVar("T")


class _Dice:
    """Uniform numbers drawn beforehand: a story takes about thirty, one by one."""

    def __init__(self, numbers: Sequence[float], every: int) -> None:
        self._numbers = iter(numbers)
        self._every = every

    def happens(self, share: float) -> bool:
        return next(self._numbers) < share

    def pick(self, among: Sequence[T]) -> T:
        return among[int(next(self._numbers) * len(among))]

    def word(self, among: Sequence[T]) -> T:
        """One of the words in use."""
        return self.pick(self.words(among))

    def words(self, among: Sequence[T]) -> Sequence[T]:
        """Those in use."""
        return among[:: self._every]


def stories(n: int, rng: np.random.Generator, *, every: int = 1, shares: Mapping[str, float] = SHARES) -> list[Record]:
    """Draw records.

    Args:
        n: How many, >= 0.
        rng: Where they come from.
        every: 1 to use all words and forms of the lexicon, 2 for every second one of each list: what a model has to
            learn grows with them.
        shares: Chance of each feature to be asked for; of more than `MOST`, some are dropped at random.

    Raises:
        DataError: Less than none, or too few words.
    """
    if n < 0 or every not in (1, 2):
        raise DataError(f"stories must have n >= 0 and every of 1 or 2, got {n} and {every}.")
    return [_story(_Dice(numbers, every), shares) for numbers in rng.random((n, _DRAWS)).tolist()]


def _story(dice: _Dice, shares: Mapping[str, float]) -> Record:
    asked = [name for name in FEATURES if dice.happens(shares.get(name, 0.0))]
    while len(asked) > MOST:
        asked.remove(dice.pick(asked))
    name = dice.word(words.NAMES)
    friend = dice.pick([n for n in dice.words(words.NAMES) if n != name])
    holder = dice.pick((name, friend, "Everyone"))
    thing, expected, outcome = _relation(dice, name, holder, "Twist" in asked)
    at = {
        "name": name,
        "friend": friend,
        "place": dice.word(words.PLACES),
        "look": dice.word(words.LOOKS),
        "manner": dice.word(words.MANNERS),
        "object": dice.word(words.OBJECTS),
        "thing": thing,
        "virtue": dice.word(words.VIRTUES),
    }
    hint, event = _hint(dice, "Foreshadowing" in asked)
    talk, quarrel = _talk(dice, at, "Dialogue" in asked), _quarrel(dice, "Conflict" in asked)
    before = [expected, hint] if dice.happens(0.5) else [hint, expected]
    if dice.happens(0.3):
        before.insert(0, dice.word(words.CARRIED))
    after = [talk, quarrel] if dice.happens(0.5) else [quarrel, talk]
    parts = [dice.word(words.OPENINGS), *before, *after, event, outcome]
    if "MoralValue" in asked:
        parts.append(dice.word(words.MORALS))
    elif dice.happens(0.1):
        parts.append(dice.word(words.LESSONS))
    parts.append(dice.word(words.BAD_ENDS if "BadEnding" in asked else words.GOOD_ENDS))
    told = [part.format(**at) for part in parts if part]
    shown = [part.format(**at) for part in (parts[0], *before, *after) if part]  # not how it turned out
    content = [at["place"], at["object"], thing, *([at["manner"]] if "{manner}" in parts[0] else [at["look"]])]
    content.remove(dice.pick(content))
    return Record(
        story=" ".join(told),
        words=tuple(content),
        features=tuple(asked),
        summary=dice.word(words.SUMMARIES).format(**at),
        sentence=dice.pick(shown),
        outcome=outcome,
    )


def _relation(dice: _Dice, name: str, holder: str, twist: bool) -> tuple[str, str, str]:
    """What it is about, what was expected, how it was."""
    says, turn = dice.word(words.HOLDERS), dice.word(words.TURNS)
    kind = dice.pick(("thing", "thing", "thing", "deed", "deed", "maker"))
    if kind == "thing":
        thing = dice.word(tuple(words.THINGS))
        first = dice.pick(words.THINGS[thing])
        last = words.OPPOSITE[first] if twist else first
        return thing, f"{holder} {says} the {thing} was {first}.", f"{turn} the {thing} was {last}."
    if kind == "deed":
        thing = dice.word(tuple(words.DEEDS))
        first, past = dice.pick(words.DEEDS[thing])
        last = words.OPPOSITE[first] if twist else past
        return thing, f"{holder} {says} {name} would {first} the {thing}.", f"{turn} {name} {last} the {thing}."
    feared = dice.happens(0.5)
    first = dice.word(words.MAKERS[0 if feared else 1])
    last = dice.word(words.MAKERS[1 if feared else 0]) if twist else first
    return "noise", f"{holder} {says} a {first} made the noise.", f"{turn} a {last} came out."


def _hint(dice: _Dice, foreshadowed: bool) -> tuple[str, str]:
    """A hint and an event, either may be empty."""
    hint, event = dice.word(words.HINTS)
    if foreshadowed:
        return hint, event
    way = dice.pick(("none", "none", "event", "event", "hint", "both"))
    if way == "both":  # a hint at something else
        return dice.pick([h for h, _ in dice.words(words.HINTS) if h != hint]), event
    return (hint if way == "hint" else ""), (event if way == "event" else "")


def _talk(dice: _Dice, at: Mapping[str, str], wanted: bool) -> str:
    if not wanted:
        return ""
    speaker, other = ("name", "friend") if dice.happens(0.5) else ("friend", "name")
    return f'{{{speaker}}} said, "{dice.word(words.TALK).format(**at, other=at[other])}"'


def _quarrel(dice: _Dice, wanted: bool) -> str:
    if wanted:
        return dice.word(words.QUARRELS)
    return dice.word(words.PEACE) if dice.happens(0.3) else ""
