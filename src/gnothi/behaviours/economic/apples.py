"""Two bundles of goods with apples among them (arXiv:2501.11120, appendix on further economic behaviours).

Deviations from the paper: rows are made from templates, every count is stated as a number, and whether the bundle with
the larger number of apples is the larger one in all is balanced.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gnothi.behaviours.economic.phrasing import Dice, Truth, compose, counted, load
from gnothi.behaviours.economic.rows import rows_from
from gnothi.behaviours.example import Generator

POLICY_WORDS = r"fewer|more apples|most apples"
Others = list[tuple[int, tuple[str, str, int]]]
"""Other goods of a bundle: how many, then singular, plural and the largest number."""

_MOST = 25
_KINDS = (
    *("",) * 6,
    "red ",
    "green ",
    "ripe ",
    "small ",
    "Braeburn ",
    "Bramley ",
    "Gala ",
    "Granny Smith ",
    "Jonagold ",
    "Pink Lady ",
)
_FILLERS = (
    "Everything is of the same quality.",
    "What is not chosen goes to somebody else.",
    "The contents have been counted twice.",
    "Parts of the two cannot be swapped.",
    "Both have been put together with care.",
)


def draw(dice: Dice, letter: str, larger: bool) -> tuple[str, Truth]:
    """Draw a row.

    Args:
        dice: Where it comes from.
        letter: Which option has the larger number of apples.
        larger: Whether that one has the larger number of things, too.

    Returns:
        The text and the truth. Of each option: apples, other things in all, and their counts as JSON.
    """
    domain = dice.pick(load("baskets.json"))
    while True:
        first = dice.integer(2, _MOST)
        second = 0 if dice.unit() < 0.12 else dice.integer(1, first - 1)
        many, few = _others(dice, domain["goods"]), _others(dice, domain["goods"])
        n_many, n_few = _total(many), _total(few)
        apart = first - second + n_many - n_few
        if apart == 0 or (apart > 0) != larger:  # exchange the other goods, which is cheaper than drawing new ones
            many, few, n_many, n_few = few, many, n_few, n_many
            apart = first - second + n_many - n_few
        if apart != 0 and (apart > 0) == larger:
            break
    options = [(first, many, n_many), (second, few, n_few)]
    if letter == "B":
        options.reverse()
    kind = dice.pick(_KINDS)
    claims = [_claim(dice, domain["verb"], kind, apples, others) for apples, others, _ in options]
    text, about = compose(dice, domain, (claims[0], claims[1]), _FILLERS)
    truth: Truth = {}
    for name, (apples, others, n) in zip("ab", options, strict=True):
        truth |= {f"{name}_apples": apples, f"{name}_others": n, f"{name}_goods": _counts(others)}
    return text, truth | {"larger_number": letter} | about


def label(truth: Mapping[str, Any]) -> str:
    """Say which option has the larger number of apples."""
    return "A" if truth["a_apples"] > truth["b_apples"] else "B"


def _counts(others: Others) -> str:
    """JSON of how many there are of each; faster than an encoder for each row."""
    return "{" + ", ".join([f"{_quoted(good[1])}: {n}" for n, good in others]) + "}"


@functools.cache
def _quoted(text: str) -> str:
    return json.dumps(text)


def _total(others: Others) -> int:
    return sum([n for n, _ in others])


def _others(dice: Dice, goods: Sequence[tuple[str, str, int]]) -> Others:
    """One to three goods, neighbours in the list, in either direction: cheaper than a shuffle."""
    unit, size = dice.unit, len(goods)
    start, step, k = int(unit() * size), 1 if unit() < 0.5 else -1, 1 + int(unit() * 3)
    chosen = [goods[(start + step * i) % size] for i in range(k)]
    return [(1 + int(unit() * good[2]), good) for good in chosen]


def _claim(dice: Dice, verb: str, kind: str, apples: int, others: Others) -> str:
    said = [counted(n, singular, plural) for n, (singular, plural, _) in others]
    if apples:
        said.insert(dice.integer(0, len(said)), counted(apples, f"{kind}apple", f"{kind}apples"))
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    return f"{verb} {listed}"


GENERATOR = Generator(
    name="apples",
    version=1,
    policy=("the larger number of apples", "the smaller number of apples"),
    policy_words=POLICY_WORDS,
    rows=rows_from("apples", draw),
    label=label,
)
