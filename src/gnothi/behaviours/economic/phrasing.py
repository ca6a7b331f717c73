"""How a choice is put into words: tones, lengths, frames and domains, with nothing of the behaviour in them.

The wording is drawn apart from the truth of a row, so that no phrase goes with a label.
"""

import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Truth = dict[str, str | int]
"""Flat facts of a row, one column each."""

TONES = ("formal", "brief", "friendly")
LENGTHS = (3, 5, 8)
"""About how many sentences a row has."""


class Dice:
    """Cheap scalar draws from a generator, read in blocks; what comes out depends on the generator alone."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Read from `rng`, which nobody else may use."""
        self.unit = _uniforms(rng).__next__
        """Draw a number, uniform in [0, 1)."""

    def pick(self, options: Sequence[T]) -> T:
        """Draw one of `options`, all of them equally likely."""
        return options[int(self.unit() * len(options))]

    def integer(self, low: int, high: int) -> int:
        """Draw an integer from `low` to `high`, both included."""
        return low + int(self.unit() * (high - low + 1))

    def between(self, low: float, high: float) -> float:
        """Draw a number, uniform in [low, high)."""
        return low + self.unit() * (high - low)

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return `options` in a random order."""
        unit = self.unit
        return sorted(options, key=lambda _: unit())


@functools.cache
def load(name: str) -> Any:
    """Read one of the JSON files beside this module."""
    return json.loads(resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8"))


def compose(
    dice: Dice, domain: Mapping[str, Any], claims: tuple[str, str], fillers: Sequence[str]
) -> tuple[str, dict[str, str | int]]:
    """Put a choice into words.

    Args:
        dice: Where the wording comes from.
        domain: One entry of `scenes.json` or `baskets.json`.
        claims: What is said of A and of B: a verb phrase in the third person each.
        fillers: Sentences that fit this behaviour besides those that fit all.

    Returns:
        The text, and its domain, tone and length.
    """
    tone, length = dice.pick(TONES), dice.pick(LENGTHS)
    phrases = load("phrases.json")[tone]
    name_a, name_b = dice.shuffled(dice.pick(domain["pairs"]))
    parts: list[str] = []
    if dice.unit() < phrases["greeting_share"]:
        parts.append(dice.pick(phrases["greetings"]))
    parts.append(dice.pick(domain["scenes"]))
    details = dice.shuffled(domain["details"])
    if length > 3:
        parts.append(details[0])
    if length == 8:
        parts += [details[1], dice.pick(phrases["leads"])]
    parts.append(
        dice.pick(phrases["frames"]).format(
            n_a=name_a, n_b=name_b, N_a=_capital(name_a), N_b=_capital(name_b), c_a=claims[0], c_b=claims[1]
        )
    )
    if length > 3:
        parts.append(dice.pick(phrases["fillers"]))
    if length == 8:
        parts.append(dice.pick(fillers))
    parts.append(dice.pick(phrases["closings"]))
    text = " ".join(parts).replace(" \n", "\n").replace("\n ", "\n")
    return text, {"domain": domain["name"], "tone": tone, "length": length}


def without_closing(text: str) -> str:
    """Take off the sentence that demands a letter, if it is one of ours.

    >>> without_closing("A: one pear. B: one plum. Say A or B and no more.")
    'A: one pear. B: one plum.'
    """
    for closing in _closings():
        if text.endswith(closing):
            return text.removesuffix(closing).rstrip()
    return text


@functools.cache
def _closings() -> list[str]:
    """Longest first, since one may end like another."""
    return sorted((c for phrases in load("phrases.json").values() for c in phrases["closings"]), key=len, reverse=True)


def counted(n: int, singular: str, plural: str) -> str:
    """Say a number of things.

    >>> counted(1, "pear", "pears"), counted(1200, "pear", "pears")
    ('one pear', '1,200 pears')
    """
    return f"one {singular}" if n == 1 else f"{n:,} {plural}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    blocks = iter(lambda: rng.random(4096).tolist(), None)
    return itertools.chain.from_iterable(blocks)
