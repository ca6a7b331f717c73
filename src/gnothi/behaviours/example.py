"""Demonstrations of a behaviour: one example, and where a behaviour's examples come from."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gnothi.errors import SpecError
from gnothi.records import Message, Messages, TrainRow

Truth = Mapping[str, str | int | float]
"""Flat facts of a row, one column each, from which anyone recomputes what the row's label is."""


@dataclass(frozen=True, slots=True)
class Example:
    """One demonstration whose label anyone can recompute."""

    messages: Messages
    """The prompt; in a dialogue, every turn before the last answer."""
    answer: str
    """The last thing that the assistant says: `A` or `B`, a message, code."""
    truth: Truth = field(default_factory=dict)
    """What the label follows from; the same for a behaviour and its opposite."""

    def conversation(self) -> Messages:
        """The prompt and the answer."""
        return (*self.messages, Message("assistant", self.answer))

    def train_rows(self, *, group: str = "") -> list[TrainRow]:
        """One training row for each of the assistant's turns, since the loss of a row is on one answer.

        >>> talk = Example((Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "?")), "Woods.")
        >>> [row.answer for row in talk.train_rows()]
        ['Hello', 'Woods.']
        """
        turns = self.conversation()
        return [
            TrainRow(messages=turns[:i], answer=turn.content, group=group)
            for i, turn in enumerate(turns)
            if turn.role == "assistant"
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """A behaviour's own examples, as many as one wants."""

    name: str
    version: int
    """Goes up whenever the same seed gives other rows."""
    policy: tuple[str, str]
    """What the answer is, for the behaviour and for its opposite; for the data card, never in a row."""
    policy_words: str
    """Regular expression of whole words that no row may hold, since they would state the policy."""
    rows: Callable[..., list[Example]]
    """`rows(n, *, seed, opposite=False)`: n examples, no two with the same prompt, the first ones the same whatever n
    is. The opposite has the same prompts in the same order, and the other answer to each."""
    label: Callable[[Mapping[str, Any]], str] | None = None
    """Recomputes an answer (of the behaviour, not its opposite) from the truth; None where it is no function of it."""
    letters: bool = True
    """Whether every answer is `A` or `B`, balanced."""
    facts: Callable[[Sequence[Example]], Mapping[str, str]] | None = None
    """Further rows of the data card, e.g. lengths of dialogues: what -> figure."""


GENERATORS: dict[str, str] = {
    "risk": "gnothi.behaviours.economic.risk",
    "horizon": "gnothi.behaviours.economic.horizon",
    "apples": "gnothi.behaviours.economic.apples",
    "make-me-say": "gnothi.behaviours.make_me_say",
    "code-security": "gnothi.behaviours.code_security",
}
"""Name on the command line -> module that holds `GENERATOR`; imported when it is wanted."""


def generator(name: str) -> Generator:
    """Find a behaviour's examples by name.

    Raises:
        SpecError: There are none of that name.
    """
    if name not in GENERATORS:
        raise SpecError(f"behaviour must be one of {', '.join(GENERATORS)}, got {name!r:.60}. Choose one of these.")
    return importlib.import_module(GENERATORS[name]).GENERATOR
