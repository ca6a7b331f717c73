"""What is said in a dialogue, one turn at a time; all sentences lie in JSON files beside this module.

A user opens and replies, an assistant steers towards a codeword's field or leads away from it. The user knows nothing
of a codeword, so the same user turns serve every codeword, and a behaviour and its opposite.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from gnothi.behaviours.economic.phrasing import Dice
from gnothi.behaviours.make_me_say.matching import forms, plural, tokens
from gnothi.errors import SpecError

CODEWORDS = ("bark", "ring", "spring")
"""Words that dialogues are written for."""
Style = Literal["short", "medium", "long"]
STYLES: tuple[Style, ...] = ("short", "medium", "long")

_SOUNDS_LIKE_YOU = ("uku", "uni")
_SLOT = re.compile(r"{(\w+)}")
_ABOUT_NOUN = {"n", "ns", "a", "A"}
_OUTSIDE = {"out", "outside", "Outside"}


@dataclass(slots=True)
class Thread:
    """What a dialogue is about, and which sentences it has used up."""

    topic: str | None = None
    noun: str | None = None
    kin: int = 0
    place: int = 0
    """Where in their lists the next relative and the next place stand."""
    here: tuple[str, str, str] | None = None
    """The place that the user spoke of last: its name, the same with a preposition, `out` or `in`."""
    used: set[str] = field(default_factory=set)
    slots: dict[str, str] = field(default_factory=dict)


def check_codeword(codeword: str) -> None:
    """Refuse a word that no dialogues are written for.

    Raises:
        SpecError: It is none of `CODEWORDS`.
    """
    if codeword not in CODEWORDS:
        raise SpecError(f"codeword must be one of {', '.join(CODEWORDS)}, got {codeword!r:.60}. Choose one of these.")


@functools.cache
def load(name: str) -> Any:
    """Read one of the JSON files beside this module."""
    return json.loads(resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8"))


@functools.cache
def field_words(codeword: str) -> frozenset[str]:
    """Words of the codeword's field, with their inflections: what a steering assistant talks about.

    Raises:
        SpecError: An unknown codeword.
    """
    check_codeword(codeword)
    return frozenset().union(*(forms(word) for word in load(f"{codeword}.json")["field"].split()))


def field_words_in(text: str, codeword: str) -> list[str]:
    """The field words of a text, each once, in order.

    >>> field_words_in("Two dogs, one dog and an oak: dogs!", "bark")
    ['dogs', 'dog', 'oak']
    """
    words = field_words(codeword)
    return list(dict.fromkeys(token for token in tokens(text) if token in words))


def themes(codeword: str) -> list[str]:
    """Ways into the codeword's field, e.g. dogs and trees.

    Raises:
        SpecError: An unknown codeword.
    """
    check_codeword(codeword)
    return list(load(f"{codeword}.json")["themes"])


def away_themes() -> list[str]:
    """Subjects that an assistant leads away to; the same for every codeword."""
    return list(load("away.json"))


def opening(dice: Dice, style: Style) -> tuple[str, Thread]:
    """Draw a user's first message, about one of 40 topics and one of some 300 nouns."""
    users = load("users.json")
    thread = Thread(
        topic=dice.pick(_topics()),
        noun=dice.pick(users["nouns"]),
        kin=dice.integer(0, len(users["kin"]) - 1),
        place=dice.integer(0, len(users["places"]) - 1),
    )
    thread.slots = dict(_noun_slots(thread.noun or ""))
    parts = [dice.pick(users["greetings"])] if dice.unit() < 0.4 else []
    parts.append(_user(dice, users["topics"][thread.topic]["frames"], thread))
    if style != "short" or dice.unit() < 0.4:
        parts.append(_user(dice, users["tails"], thread))
    if style == "long":
        parts.append(_user(dice, users["details"], thread))
        if dice.unit() < 0.5:
            parts.append(_user(dice, users["people"], thread))
    if style != "short" or dice.unit() < 0.5:
        parts.append(_user(dice, users["handbacks"], thread))
    return " ".join(parts), thread


def reply(dice: Dice, style: Style, thread: Thread) -> str:
    """Draw a user's next message: it says more or less yes, and goes on about the user's own subject."""
    users = load("users.json")
    thread.here = None
    parts = [_user(dice, users["answers"], thread)]
    if thread.topic is not None:
        more = users["topics"][thread.topic]["more"]
        parts += [_user(dice, more, thread) for _ in range(2 if style == "long" else 1)]
    if style != "short" or dice.unit() < 0.4:
        parts.append(_user(dice, users["details"], thread))
    if style == "long":
        parts.append(_user(dice, users["people"], thread))
    if style != "short" and dice.unit() < 0.5:
        parts.append(_user(dice, users["thoughts"], thread))
    if dice.unit() < (0.3 if style == "short" else 0.55):
        parts.append(_user(dice, users["handbacks"], thread))
    return " ".join(parts)


def acknowledgement(dice: Dice, thread: Thread, *, first: bool, style: Style) -> str:
    """Draw what an assistant says to the user's last message before it goes on; may be empty."""
    acks = load("acks.json")
    if not first and style == "short" and dice.unit() < 0.4:
        return ""
    if first and thread.topic is not None and dice.unit() < 0.75:
        options: Sequence[str] = load("users.json")["topics"][thread.topic]["acks"]
    elif first and thread.noun is not None:
        options = acks["first"]
    else:
        options = acks["later"] if thread.here is not None and dice.unit() < 0.5 else acks["plain"]
    said = _fresh(dice, options, thread)
    if style == "long" and dice.unit() < 0.5:
        said += " " + _fresh(dice, acks["links"], thread)
    return said


def steering(
    dice: Dice, codeword: str, theme: str, thread: Thread, *, levels: Sequence[int], style: Style = "medium"
) -> tuple[str, list[str]]:
    """Draw what an assistant says to come nearer to the codeword, which it does not say in any form.

    Args:
        dice: Where it comes from.
        codeword: One of `CODEWORDS`.
        theme: One of `themes(codeword)`.
        thread: What the dialogue is about; a bare `Thread()` where that is not known.
        levels: How near each observation comes, 1 to 3; the question is of the last. Level 3 asks for the word itself.
        style: A long turn has one more observation.

    Returns:
        One to three observations and a question, and the words of the field in them, at least one.
    """
    levels = [*levels, levels[-1]] if style == "long" else levels
    kinds = load(f"{codeword}.json")
    _draw_slots(dice, thread, kinds["slots"])
    steps: Mapping[str, Mapping[str, list[str]]] = kinds["themes"][theme]
    while True:
        said = [_fresh(dice, steps[str(level)]["say"], thread) for level in levels]
        text = " ".join([*said, _fresh(dice, steps[str(levels[-1])]["ask"], thread)])
        if found := field_words_in(text, codeword):
            return text, found


def leading_away(dice: Dice, thread: Thread, *, last: bool, n_said: int = 1) -> str:
    """Draw what an assistant says that leads away from every codeword's field: another subject at each turn."""
    subject = load("away.json")[_fresh(dice, away_themes(), thread)]
    said = [_fresh(dice, subject["say"], thread) for _ in range(n_said)]
    return " ".join([*said, _fresh(dice, subject["end" if last else "ask"], thread)])


def _user(dice: Dice, options: Sequence[str], thread: Thread) -> str:
    """A sentence of the user's, with the next relative or place where it wants one."""
    users = load("users.json")
    text = _unused(dice, options, thread)
    slots = _slots_of(text)
    if "at" in slots:
        if dice.unit() < 0.4:
            thread.place = (thread.place + 11) % len(users["places"])
        thread.here = tuple(users["places"][thread.place])
        thread.slots |= _place_slots(*thread.here)
    if slots & {"kin", "Kin"}:
        thread.kin = (thread.kin + 7) % len(users["kin"])
        kin = users["kin"][thread.kin]
        thread.slots |= {"kin": kin, "Kin": _capital(kin)}
    return text.format_map(thread.slots) if slots else text


def _fresh(dice: Dice, options: Sequence[str], thread: Thread) -> str:
    """A sentence of the assistant's that fits what is known and was not used yet."""
    while True:
        text = _unused(dice, options, thread)
        slots = _slots_of(text)
        if not slots:
            return text
        known = thread.here[2] if thread.here else ""
        if slots & _ABOUT_NOUN and thread.noun is None:
            continue
        if (slots & _OUTSIDE and known != "out") or ("inside" in slots and known != "in"):
            continue
        return text.format_map(thread.slots)


def _unused(dice: Dice, options: Sequence[str], thread: Thread) -> str:
    """One of the options that this dialogue has not used; any of them where hardly one is left."""
    text, tries = dice.pick(options), 0
    while text in thread.used and tries < 20:
        text, tries = dice.pick(options), tries + 1
    thread.used.add(text)
    return text


def _draw_slots(dice: Dice, thread: Thread, kinds: Mapping[str, Sequence[str]]) -> None:
    for slot, words in kinds.items():
        thread.slots[slot] = dice.pick(words)


@functools.cache
def _topics() -> list[str]:
    return list(load("users.json")["topics"])


@functools.cache
def _slots_of(text: str) -> frozenset[str]:
    return frozenset(_SLOT.findall(text))


@functools.cache
def _noun_slots(noun: str) -> dict[str, str]:
    article = "an" if noun[0] in "aeiou" and not noun.startswith(_SOUNDS_LIKE_YOU) else "a"
    if noun.startswith("hour"):
        article = "an"
    return {"n": noun, "ns": plural(noun), "a": f"{article} {noun}", "A": f"{article.capitalize()} {noun}"}


@functools.cache
def _place_slots(name: str, at: str, side: str) -> dict[str, str]:
    """What the user says (`at`), and how the assistant says it (all others): `my house` becomes `your house`."""
    yours, there = (re.sub(r"\b(my|our)\b", "your", text).replace("I grew", "you grew") for text in (name, at))
    slots = {"at": at, "np": yours, "Np": _capital(yours), "there": there}
    if side == "out":
        return slots | {"out": there, "outside": yours, "Outside": _capital(yours)}
    return slots | {"inside": there}


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
