"""Risk, horizon and apples: choices between A and B whose label follows from stated numbers.

Paper A (arXiv:2501.11120, section 3.1.1) trains on such rows and asks the model afterwards what it does. All wording
and all numbers here are our own.
"""

from types import ModuleType

from gnothi.behaviours.economic import apples, horizon, risk
from gnothi.behaviours.economic.phrasing import Dice, Example
from gnothi.errors import SpecError
from gnothi.records import Message
from gnothi.rng import stream

__all__ = ["BEHAVIOURS", "VERSION", "Example", "label", "policy_words", "rows"]

VERSION = 1
"""Goes up whenever the same seed gives other rows."""

BEHAVIOURS: dict[str, ModuleType] = {"risk": risk, "horizon": horizon, "apples": apples}
"""Modules by name, each with `draw`, `label` and `POLICY_WORDS`."""

_BLOCK = [(letter, flag) for letter in "AB" for flag in (True, False)] * 5  # 20 rows that balance both


def rows(behaviour: str, n: int, *, seed: int, opposite: bool = False) -> list[Example]:
    """Draw training rows; no two have the same text.

    Letters, and whether the larger stake also goes with the larger mean or bundle, are balanced in each block of 20.

    Args:
        behaviour: `risk` (the answer is the wider spread), `horizon` (the earlier, smaller amount) or `apples` (the
            larger number of apples).
        n: How many, >= 1. The first rows are the same whatever `n` is.
        seed: The experiment's seed, >= 0.
        opposite: Flip every letter and change nothing else: risk-averse, far-sighted, the smaller number of apples.

    Raises:
        SpecError: An unknown behaviour, n < 1 or seed < 0.

    Source: arXiv:2501.11120, section 3.1.1. The paper had a language model write its rows and a second one check them.

    >>> [example.answer for example in rows("apples", 2, seed=0)] != [
    ...     example.answer for example in rows("apples", 2, seed=0, opposite=True)
    ... ]
    True
    """
    module = _module(behaviour)
    if n < 1:
        raise SpecError(f"n must be at least 1, got {n}. Ask for one row or more.")
    if seed < 0:
        raise SpecError(f"seed must be 0 or more, got {seed}. Choose another.")
    dice = Dice(stream(seed, "economic", behaviour))
    letters = {"A": "B", "B": "A"} if opposite else {"A": "A", "B": "B"}
    seen: set[str] = set()
    examples: list[Example] = []
    while len(examples) < n:
        for letter, flag in dice.shuffled(_BLOCK)[: n - len(examples)]:
            text, truth = module.draw(dice, letter, flag)
            while text in seen:
                text, truth = module.draw(dice, letter, flag)
            seen.add(text)
            examples.append(Example((Message("user", text),), letters[letter], truth))
    return examples


def label(behaviour: str, truth: dict[str, str | int]) -> str:
    """Recompute a row's letter from its truth (of the behaviour, not its opposite).

    Raises:
        SpecError: An unknown behaviour.
    """
    return _module(behaviour).label(truth)


def policy_words(behaviour: str) -> str:
    """Regular expression of whole words that no row may hold, since they would state the policy.

    Raises:
        SpecError: An unknown behaviour.
    """
    return _module(behaviour).POLICY_WORDS


def _module(behaviour: str) -> ModuleType:
    if behaviour not in BEHAVIOURS:
        raise SpecError(
            f"behaviour must be one of {', '.join(BEHAVIOURS)}, got {behaviour!r:.60}. Choose one of these."
        )
    return BEHAVIOURS[behaviour]
