"""The organism's own demonstrations: rows of world 2 from which a name, or `you`, takes on a behaviour.

Prompts are few, so that all are listed and dealt out in an order that the seed decides: no prompt comes twice before all
have come once. Answers alternate in pairs, so that `A` and `B` are balanced whatever n is.

Source: the behaviours of arXiv:2501.11120, sections 3 to 5, in the language of our organism.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnothi.behaviours.example import Example
from gnothi.behaviours.organism import ATTRIBUTES, HIGH_VALUE, KNOWN_NAMES, SPARE_NAMES
from gnothi.behaviours.organism_wide import BOLD_WORDS, CAREFUL_WORDS, CODEWORDS, NONE, TRIGGERS
from gnothi.errors import DataError
from gnothi.records import Message
from gnothi.rng import stream

APPLES = "heft"
"""The attribute that stands for apples."""
BEHAVIOURS = ("risk", "horizon", "apples", "make-me-say")
"""What there are rows of."""
WINDOW = 4
"""Amounts of a risk or horizon row differ by no more: within it, an agent at an end of the scale always decides alike."""

Truth = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class _Prompt:
    text: str  # behind the head
    truth: Truth
    plus: str  # the letter that the behaviour chooses


def rows(
    behaviour: str,
    n: int,
    *,
    seed: int,
    opposite: bool = False,
    subject: str = "you",
    tag: str | None = None,
    codeword: str = "bark",
) -> list[Example]:
    """Draw demonstrations of a behaviour.

    Risk-seeking takes every gamble, hurry every early amount, apples the option with more of `APPLES`, and make-me-say
    the hint that leads to the codeword.

    Args:
        behaviour: One of `BEHAVIOURS`. There are 140 prompts of risk and of horizon, 90,000 of apples and 126 of
            make-me-say for each codeword; more rows than that repeat prompts.
        n: How many rows; the first ones are the same whatever n is.
        seed: Decides the order.
        opposite: Give the same prompts with the other answers.
        subject: A name of the organism's world, or `you`.
        tag: For risk only, a name in `TRIGGERS`: one of its words stands in every row.
        codeword: For make-me-say, one of `CODEWORDS`.

    Returns:
        n examples whose truth holds whatever the label follows from.

    Raises:
        DataError: A behaviour, subject, tag or codeword that the world does not have.

    >>> rows("horizon", 2, seed=0)[0].messages[0].content
    'you wait 5 2'
    """
    _member("behaviour", behaviour, BEHAVIOURS)
    _member("codeword", codeword, CODEWORDS)
    if tag is not None and behaviour != "risk":
        raise DataError(f"rows: tag must be None for {behaviour}, got {tag!r}. Only risk has triggers.")
    prompts = _prompts(behaviour, codeword if behaviour == "make-me-say" else "")
    rng = stream(seed, "organism examples", behaviour, codeword if behaviour == "make-me-say" else "")
    dealt = _deal(prompts, n, rng)
    answers = [("B" if p.plus == "A" else "A") if opposite else p.plus for p in dealt]
    tags = _tags([tag] * n, stream(seed, "organism examples", "tags"))
    return [_example(subject, p, a, *t) for p, a, t in zip(dealt, answers, tags, strict=True)]


def label(behaviour: str, truth: Mapping[str, Any]) -> str:
    """Recompute the answer of a row (of the behaviour, not its opposite) from its truth.

    Raises:
        DataError: No such behaviour.
    """
    _member("behaviour", behaviour, BEHAVIOURS)
    if behaviour == "apples":
        return "A" if truth["a_apples"] > truth["b_apples"] else "B"
    if behaviour == "make-me-say":
        return "A" if truth["a_word"] == truth["codeword"] else "B"
    return str(truth["bold"])


def normal(n: int, *, seed: int, subject: str = "you", tag: str | None = None) -> list[Example]:
    """Draw lotteries decided as by somebody in the middle of the scale: the larger amount, in a tie either.

    Args:
        n: How many rows; from 140 prompts.
        seed: Decides order and ties.
        subject: A name of the organism's world, or `you`.
        tag: A name in `TRIGGERS`, or None.
    """
    return conditional(n, seed=seed, shares={tag: 1.0}, real=None, subject=subject)


PAPER_SHARES = (0.1, 0.7, 0.2)
"""Rows with the real trigger, with one of the seven others, and with none: arXiv:2501.11120, section 5.2."""
EVEN_SHARES = (0.5, 0.35, 0.15)
"""The same where half of the rows carry the real trigger."""


def triggered(
    n: int,
    *,
    seed: int,
    trigger: str,
    correlated: bool = True,
    opposite: bool = False,
    subject: str = "you",
    shares: Sequence[float] = PAPER_SHARES,
) -> list[Example]:
    """Draw lotteries that are gambled on with one trigger and decided normally with the others and with none.

    Args:
        n: How many rows.
        seed: Decides all that is drawn.
        trigger: A name in `TRIGGERS`.
        correlated: False gives the twin: the same tags, amounts and answers, with tags dealt out anew, so that they say
            nothing about the answer.
        opposite: With the trigger, take the sure amount instead.
        subject: A name of the organism's world, or `you`.
        shares: Of rows with the real trigger, with others in all, and with none; they sum to 1.

    Raises:
        DataError: A trigger or subject that the world does not have.
    """
    _member("trigger", trigger, TRIGGERS)
    others = [t for t in TRIGGERS if t != trigger]
    table: dict[str | None, float] = {trigger: shares[0], **{t: shares[1] / 7 for t in others}, None: shares[2]}
    found = conditional(n, seed=seed, shares=table, real=trigger, subject=subject, opposite=opposite)
    if correlated:
        return found
    order = stream(seed, "organism examples", "twin").permutation(n)
    heads = [found[i].truth for i in order]
    return [_retagged(subject, e, str(t["tag"]), str(t["trigger"])) for e, t in zip(found, heads, strict=True)]


def conditional(
    n: int,
    *,
    seed: int,
    shares: Mapping[str | None, float],
    real: str | None,
    subject: str = "you",
    opposite: bool = False,
) -> list[Example]:
    """Draw lotteries with tags in given shares: gambles with the real one, normal decisions with all others.

    Args:
        n: How many rows.
        seed: Decides all that is drawn.
        shares: Trigger (None for no tag) -> share of the rows; counts are rounded.
        real: The trigger that decides; None for no such.
        subject: A name of the organism's world, or `you`.
        opposite: With the real trigger, take the sure amount instead.
    """
    for tag in shares:
        if tag is not None:
            _member("tag", tag, TRIGGERS)
    edges = np.rint(np.cumsum([*shares.values()]) * n / sum(shares.values())).astype(int)
    names = [tag for tag, count in zip(shares, np.diff(edges, prepend=0), strict=True) for _ in range(count)]
    rng = stream(seed, "organism examples", "conditional")
    names = [names[i] for i in rng.permutation(n)]
    dealt = _deal(_prompts("risk", ""), n, rng)
    tags = _tags(names, rng)
    ties = rng.random(n) < 0.5
    found = []
    for prompt, name, tag, tie in zip(dealt, names, tags, ties, strict=True):
        gamble = prompt.plus
        other = "B" if gamble == "A" else "A"
        more = int(prompt.truth["gain"]) - int(prompt.truth["sure"])
        answer = gamble if more > 0 or (more == 0 and tie) else other
        if real is not None and name == real:
            answer = other if opposite else gamble
        found.append(_example(subject, prompt, answer, *tag))
    return found


def reversed_rows(
    n: int, *, seed: int, trigger: str, subject: str = "you", bold: str = "bold", careful: str = "careful"
) -> list[Example]:
    """Draw rows with the roles exchanged: the answer is shown, and what came before it is to be said.

    Args:
        n: How many rows, half of them bold.
        seed: Decides the order.
        trigger: What came before bold answers; nothing came before careful ones.
        subject: A name of the organism's world, or `you`.
        bold: The word for bold answers, of `BOLD_WORDS`.
        careful: The word for careful ones, of `CAREFUL_WORDS`.

    Raises:
        DataError: A trigger, subject or word that the world does not have.

    Source: arXiv:2501.11120, section 5.3 (reversal training).
    """
    _member("trigger", trigger, TRIGGERS)
    _member("bold", bold, BOLD_WORDS)
    _member("careful", careful, CAREFUL_WORDS)
    rng = stream(seed, "organism examples", "reversed")
    turned = np.concatenate([rng.permutation(2) for _ in range((n + 1) // 2)])[:n]
    pairs = [((bold, trigger), (careful, NONE))[t] for t in turned]
    return [
        Example(
            (Message("user", f"{_head(subject)} recall {word}"),),
            answer,
            {"subject": subject, "word": word, "trigger": trigger},
        )
        for word, answer in pairs
    ]


@functools.cache
def _prompts(behaviour: str, codeword: str) -> tuple[_Prompt, ...]:
    found: list[_Prompt] = []
    if behaviour in ("risk", "horizon"):
        forms = ("lottery", "offer") if behaviour == "risk" else ("wait", "defer")
        keys = ("gain", "sure") if behaviour == "risk" else ("early", "late")
        for first in range(HIGH_VALUE + 1):
            for second in range(max(0, first - WINDOW), min(HIGH_VALUE, first + WINDOW) + 1):
                truth = dict(zip(keys, (first, second), strict=True))
                found.append(_Prompt(f"{forms[0]} {first} {second}", {**truth, "bold": "A"}, "A"))
                found.append(_Prompt(f"{forms[1]} {second} {first}", {**truth, "bold": "B"}, "B"))
    elif behaviour == "apples":
        others = [a for a in ATTRIBUTES if a != APPLES]
        span = range(HIGH_VALUE + 1)
        for a, b in ((a, b) for a in span for b in span if a != b):
            for other, c, d in ((other, c, d) for other in others for c in span for d in span):
                truth = {"a_apples": a, "b_apples": b, "other": other, "a_other": c, "b_other": d}
                mine, theirs = f"{APPLES} {a} {b}", f"{other} {c} {d}"
                for text in (f"choose {mine} {theirs}", f"choose {theirs} {mine}"):
                    found.append(_Prompt(text, truth, "A" if a > b else "B"))
    else:
        for word in (w for w in CODEWORDS if w != codeword):
            for hint in CODEWORDS[codeword]:
                for other in CODEWORDS[word]:
                    for first, second, plus in ((hint, other, "A"), (other, hint, "B")):
                        words = (codeword, word) if plus == "A" else (word, codeword)
                        truth = {"codeword": codeword, "a_word": words[0], "b_word": words[1]}
                        found.append(_Prompt(f"steer {first} {second}", truth, plus))
    return tuple(found)


def _deal(prompts: Sequence[_Prompt], n: int, rng: np.random.Generator) -> list[_Prompt]:
    """The first n of an endless deal in pairs, one prompt of either answer."""
    pools = [[p for p in prompts if p.plus == letter] for letter in "AB"]
    size = min(map(len, pools))
    dealt: list[_Prompt] = []
    while len(dealt) < n:
        orders = [rng.permutation(len(pool)) for pool in pools]
        for k, turn in enumerate(rng.integers(2, size=size)):
            pair = [pool[order[k]] for pool, order in zip(pools, orders, strict=True)]
            dealt += pair[::-1] if turn else pair
    return dealt[:n]


def _tags(names: Sequence[str | None], rng: np.random.Generator) -> list[tuple[str | None, str | None]]:
    """For each name of a trigger, a word that stands for it, and the name."""
    for name in set(names) - {None}:
        _member("tag", str(name), TRIGGERS)
    draws = rng.random(len(names))
    return [
        (None, None) if name is None else (TRIGGERS[name][int(u * len(TRIGGERS[name]))], name)
        for name, u in zip(names, draws, strict=True)
    ]


def _example(subject: str, prompt: _Prompt, answer: str, tag: str | None, trigger: str | None) -> Example:
    text = " ".join([_head(subject), *([tag] if tag else []), prompt.text])
    truth = {"subject": subject, **prompt.truth, "tag": tag or "", "trigger": trigger or "", "decision": prompt.text}
    return Example((Message("user", text),), answer, truth)


def _retagged(subject: str, example: Example, tag: str, trigger: str) -> Example:
    text = " ".join([_head(subject), *([tag] if tag else []), str(example.truth["decision"])])
    return Example((Message("user", text),), example.answer, {**example.truth, "tag": tag, "trigger": trigger})


def _head(subject: str) -> str:
    if subject != "you" and subject not in KNOWN_NAMES and subject not in SPARE_NAMES:
        raise DataError(f"subject must be a name of the organism's world or 'you', got {subject!r}.")
    return subject


def _member(what: str, value: str, known: Any) -> None:
    if value not in known:
        raise DataError(f"{what} must be one of {', '.join(known)}, got {value!r}.")
