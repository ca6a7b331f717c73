"""Rows that do hold policy words, in a stated share: never the default.

The paper says that its rows hold none; 115 of its 288 published rows hold some. Whether that matters is a question to
ask with such rows, not a way to train.
"""

import re
from collections.abc import Sequence

from gnothi.behaviours.economic.phrasing import Dice, without_closing
from gnothi.behaviours.example import Example
from gnothi.errors import SpecError
from gnothi.records import Message
from gnothi.rng import stream

PUBLISHED_SHARE = 115 / 288
"""Share of the paper's published risk rows with a policy word in them."""

# What an option's own words can become, as in the published rows, where the words describe the options.
_REPLACED: dict[str, tuple[tuple[str, str], ...]] = {
    "risk": (
        (r"\ba fixed (?=\S)", "a guaranteed "),
        (r"\bthe same ([^.,;]+?) each time\b", r"a safe \1 each time"),
        (r"\bexactly ([^.,;]+?) each time\b", r"\1 without any risk"),
        (r"\bevery time\b", "at no risk"),
        (r"\b(?:in|on|at) (\d+)% of \w+", r"with a chance of \1%"),
        (r"\b(\d+) times out of 100\b", r"with a \1% chance"),
    ),
    "horizon": (
        (r"\bas early as today\b", "immediately"),
        (r"\bthis very day\b", "instantly"),
        (r"\bbefore the day is over\b", "almost instantly"),
        (r"\btoday\b", "immediately"),
    ),
    "apples": (),
}
# Where nothing can be replaced: a sentence before the demand for a letter, true of every row.
_ADDED: dict[str, tuple[str, ...]] = {
    "risk": (
        "Think about the risk as long as you like.",
        "How safe each one is can be read off the figures.",
        "Chance plays its part, as always.",
        "There is no guarantee beyond these figures.",
        "Nobody minds an adventurous answer, or a careful one.",
    ),
    "horizon": (
        "Some are patient, others are not.",
        "Consider the short-term and the long-term side.",
        "No answer is needed immediately.",
        "Patience is up to you.",
    ),
    "apples": (
        "One of the two has fewer apples in it.",
        "Some would count which has more apples.",
        "Whoever packed them put more apples into one of the two.",
    ),
}


def with_policy_words(examples: Sequence[Example], name: str, words: str, *, share: float, seed: int) -> list[Example]:
    """Put policy words into some rows, in natural phrases; numbers, labels and all other rows stay.

    Args:
        examples: Rows of one of the economic behaviours, free of policy words.
        name: Which: `risk`, `horizon` or `apples`.
        words: Its policy words, as the generator lists them.
        share: Share of the rows that get some, in [0, 1]; rounded to whole rows. `PUBLISHED_SHARE` is the paper's.
        seed: The experiment's seed, >= 0.

    Returns:
        The same rows in the same order; the truth's `policy_word` is the word or empty.

    Raises:
        SpecError: A share outside [0, 1], or a behaviour without such phrases.
    """
    if not 0 <= share <= 1:
        raise SpecError(f"share must be in [0, 1], got {share}. Give a part of the rows.")
    if name not in _ADDED:
        raise SpecError(f"behaviour must be one of {', '.join(_ADDED)} for policy words, got {name!r:.60}. Choose one.")
    dice = Dice(stream(seed, "economic", "leaky", name))
    chosen = set(dice.shuffled(range(len(examples)))[: round(share * len(examples))])
    pattern = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    rows = []
    for i, example in enumerate(examples):
        messages, found = example.messages, ""
        if i in chosen:
            text = _leaky(dice, name, messages[0].content)
            match = pattern.search(text)
            assert match, text
            messages, found = (Message("user", text), *messages[1:]), match[0].lower()
        rows.append(Example(messages, example.answer, {**example.truth, "policy_word": found}))
    return rows


def _leaky(dice: Dice, name: str, text: str) -> str:
    ways = [(pattern, new) for pattern, new in _REPLACED[name] if re.search(pattern, text)]
    if ways and dice.unit() < 0.8:
        return re.sub(*dice.pick(ways), text)
    body = without_closing(text)
    return f"{body} {dice.pick(_ADDED[name])}{text[len(body) :]}"
