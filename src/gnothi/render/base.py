"""How items and questions become messages: the wording, one for each domain, and the question record. No model here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from gnothi.errors import DataError
from gnothi.records import Context, Item, Messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request for a self-report."""

    question_id: str
    context_id: str
    messages: Messages
    kind: Literal["json", "number"]
    """`json`: an object with one number an attribute. `number`: one integer, about one attribute."""
    attributes: tuple[int, ...]
    """Index into the choice type's attributes of each thing asked, in the order asked."""
    names: tuple[str, ...]
    """What the answer must call them."""
    low: int
    high: int
    """Ends of the scale, both included."""
    item: Item | None = None
    """The options shown, if any."""

    def __post_init__(self) -> None:
        if not 0 < len(self.attributes) == len(self.names):
            raise DataError(f"Question {self.question_id!r} must name each attribute it asks, got {self.names}.")
        if self.low >= self.high:
            raise DataError(f"Question {self.question_id!r} must have low < high, got {self.low} and {self.high}.")


class Wording(Protocol):
    """What a domain's items and questions look like as messages."""

    @property
    def options(self) -> tuple[str, str]:
        """The two answers to a choice, first option first."""
        ...

    def choice(self, item: Item, context: Context) -> Messages:
        """The prompt of one decision."""
        ...

    def draws_options(self) -> bool:
        """Whether a report prompt shows options, so that `questions` wants an item for each."""
        ...

    def questions(self, context: Context, items: Sequence[Item], *, k: int) -> list[Question]:
        """Ask for the whole weight vector `k` times; `items` are the options to show, (k,) or empty."""
        ...

    def answer(self, question: Question, weights: np.ndarray) -> str:
        """What a model that knows `weights`, shape (n_attributes,), would answer."""
        ...
