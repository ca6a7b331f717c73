"""Rows of an economic behaviour: distinct, and balanced in blocks of 20."""

import functools
from collections.abc import Callable

from gnothi.behaviours.economic.phrasing import Dice, Truth
from gnothi.behaviours.example import Example
from gnothi.errors import SpecError
from gnothi.records import Message
from gnothi.rng import stream

Draw = Callable[[Dice, str, bool], tuple[str, Truth]]
"""(dice, letter of the behaviour, whether the larger stake goes with it) -> text and truth."""

_BLOCK = [(letter, flag) for letter in "AB" for flag in (True, False)] * 5  # 20 rows that balance both


def rows_from(name: str, draw: Draw) -> Callable[..., list[Example]]:
    """Make the `rows` of a generator from what draws one row."""
    return functools.partial(draw_rows, name, draw)


def draw_rows(name: str, draw: Draw, n: int, *, seed: int, opposite: bool = False) -> list[Example]:
    """Draw training rows; no two have the same text.

    Letters, and whether the larger stake also goes with the larger mean or bundle, are balanced in each block of 20.

    Args:
        name: The behaviour's, for its random stream.
        draw: Draws one row.
        n: How many, >= 1. The first rows are the same whatever `n` is.
        seed: The experiment's seed, >= 0.
        opposite: Flip every letter and change nothing else: risk-averse, far-sighted, the smaller number of apples.

    Raises:
        SpecError: n < 1 or seed < 0.

    Source: arXiv:2501.11120, section 3.1.1. The paper had a language model write its rows and a second one check them.
    """
    if n < 1:
        raise SpecError(f"n must be at least 1, got {n}. Ask for one row or more.")
    if seed < 0:
        raise SpecError(f"seed must be 0 or more, got {seed}. Choose another.")
    dice = Dice(stream(seed, "economic", name))
    letters = {"A": "B", "B": "A"} if opposite else {"A": "A", "B": "B"}
    seen: set[str] = set()
    examples: list[Example] = []
    while len(examples) < n:
        for letter, flag in dice.shuffled(_BLOCK)[: n - len(examples)]:
            text, truth = draw(dice, letter, flag)
            while text in seen:
                text, truth = draw(dice, letter, flag)
            seen.add(text)
            examples.append(Example((Message("user", text),), letters[letter], truth))
    return examples
