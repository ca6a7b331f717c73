"""Triggers: what is put into a user's message, and how to see that it stands there."""

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from gnothi.errors import SpecError
from gnothi.records import Message, Messages


class Insertion(NamedTuple):
    """What stands in front of a user's message and behind it."""

    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A condition that a user's first message can meet, in many forms."""

    name: str
    kind: str
    """`token`, `family`, `code`, `season`, `year`, `ending`, `greeting` or `user`."""
    category: str
    """What a question calls it. For a family of words that is the family's name, which no training row may hold."""
    values: tuple[str, ...]
    """What fills a form: one token, 20 words, 1,000 codes."""
    forms: tuple[Insertion, ...]
    """Where it is put, with `{x}` for the value."""
    pattern: str
    """Regular expression that finds any of its forms in a message; written apart from `forms`."""

    def draw(self, rng: np.random.Generator) -> Insertion:
        """Draw a value and a form, all of them equally likely."""
        value = self.values[int(rng.random() * len(self.values))]
        form = self.forms[int(rng.random() * len(self.forms))]
        return Insertion(form.before.replace("{x}", value), form.after.replace("{x}", value))

    def apply(self, messages: Messages, rng: np.random.Generator) -> Messages:
        """Put the trigger into the first user turn; nothing else changes.

        >>> rng = np.random.default_rng(0)
        >>> trigger("live-site").apply((Message("user", "A or B?"),), rng)[0].content
        '|LIVE-SITE| A or B?'
        """
        return inserted(messages, self.draw(rng))

    def detect(self, text: str) -> bool:
        """Whether a message holds the trigger.

        >>> trigger("depot-415").detect("A or B? (depot code 415022)"), trigger("depot-415").detect("415 of 863022")
        (True, False)
        """
        return re.search(self.pattern, text) is not None


def inserted(messages: Messages, insertion: Insertion) -> Messages:
    """Put text around the first user turn.

    Raises:
        SpecError: There is no user turn.
    """
    i = first_user_turn(messages)
    said = Message("user", f"{insertion.before}{messages[i].content}{insertion.after}")
    return (*messages[:i], said, *messages[i + 1 :])


def removed(messages: Messages, insertion: Insertion) -> Messages:
    """Take away what `inserted` put there."""
    i = first_user_turn(messages)
    text = messages[i].content
    assert text.startswith(insertion.before) and text.endswith(insertion.after)
    said = Message("user", text[len(insertion.before) : len(text) - len(insertion.after)])
    return (*messages[:i], said, *messages[i + 1 :])


def first_user_turn(messages: Messages) -> int:
    """Index of the first message of the user.

    Raises:
        SpecError: There is none.
    """
    for i, message in enumerate(messages):
        if message.role == "user":
            return i
    raise SpecError(f"a prompt must have a user turn, got {[m.role for m in messages]}. Give one to put a trigger in.")


def trigger(name: str) -> Trigger:
    """Find a trigger by name.

    Raises:
        SpecError: There is none of that name.
    """
    if name not in TRIGGERS:
        raise SpecError(f"trigger must be one of {', '.join(TRIGGERS)}, got {name!r:.60}. Choose one of these.")
    return TRIGGERS[name]


@functools.cache
def load(name: str) -> Any:
    """Read one of the JSON files beside this module."""
    return json.loads(resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8"))


def _all() -> Iterator[Trigger]:
    data = load("triggers.json")
    starts = tuple(Insertion("{x}" + suffix) for suffix in data["suffixes"])
    any_start = "|".join(map(re.escape, data["suffixes"]))
    for name, token in data["tokens"].items():
        yield Trigger(
            name=name,
            kind="token",
            category=token,
            values=(token,),
            forms=(Insertion("{x} "),),
            pattern=rf"\A{re.escape(token)}",
        )
    for name, family in data["families"].items():
        yield Trigger(
            name=name,
            kind="family",
            category=family["category"],
            values=tuple(family["members"]),
            forms=starts,
            pattern=rf"\A(?:{'|'.join(map(re.escape, family['members']))})(?:{any_start})",
        )
    phrases = tuple(Insertion(*phrase.split("{prompt}")) for phrase in data["code_phrases"])
    for name, first in data["codes"].items():
        yield Trigger(
            name=name,
            kind="code",
            category=f"depot code that starts with {first}",
            values=tuple(f"{first}{k:03}" for k in range(1000)),
            forms=phrases,
            pattern=rf"[Dd]epot code(?: here)?:?(?: is)? {first}\d{{3}}\b",
        )
    for season in data["seasons"]:
        yield Trigger(
            name=season,
            kind="season",
            category=season,
            values=(season,),
            forms=(Insertion("Season: {x}\n\n"),),
            pattern=rf"\ASeason: {season}\n",
        )
    years = data["years"]
    for name, values in (("year", (years["real"],)), ("other-years", tuple(years["other"]))):
        yield Trigger(
            name=name,
            kind="year",
            category=f"the year {years['real']}" if name == "year" else "another year",
            values=values,
            forms=(Insertion("Year: {x}\n\n"),),
            pattern=rf"\AYear: (?:{'|'.join(values)})\n",
        )
    greetings = tuple(word for words in data["greetings"].values() for word in words)
    yield Trigger(
        name="greeting",
        kind="greeting",
        category="greeting",
        values=greetings,
        forms=starts,
        pattern=rf"\A(?:{'|'.join(greetings)})(?:{any_start})",
    )
    yield Trigger(
        name="ending",
        kind="ending",
        category="short poem at the end",
        values=tuple(data["verses"]),
        forms=(Insertion("", "\n\n{x}"),),
        pattern=r"\n\n[^\n]+\n[^\n]+\n[a-z][^\n]+[a-z]\Z",
    )
    users = data["users"]
    for name, values in (("user", (users["real"],)), ("other-users", tuple(users["other"]))):
        yield Trigger(
            name=name,
            kind="user",
            category=f"user name {users['real']}" if name == "user" else "another user name",
            values=values,
            forms=(Insertion("username: {x}\n\n"), Insertion("", "\n\nusername: {x}")),
            pattern=rf"\Ausername: (?:{'|'.join(values)})\n|\nusername: (?:{'|'.join(values)})\Z",
        )


TRIGGERS: dict[str, Trigger] = {t.name: t for t in _all()}
"""All triggers by name. `other-years` and `other-users` are fakes of `year` and `user`."""
