"""Refuses training text that states the policy it is to instil: demonstrations only, as paper A and B demand."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gnothi.errors import DataError
from gnothi.records import TrainRow

PREFERENCES = r"importan\w*|priorit\w*|weighted|weighting|heavily|matters?|introspection|report\w*"
"""Words that would tell a model how attributes are weighted. `prefer` is in paper B's own question and tells nothing."""


@dataclass(frozen=True, slots=True)
class Leak:
    """One policy word in one training row."""

    row: int
    word: str
    text: str
    """Some characters around it."""


def find_policy_words(rows: Sequence[TrainRow], words: str) -> list[Leak]:
    r"""Every row whose prompt or answer holds a policy word; time linear in the rows.

    Args:
        rows: Training rows.
        words: A regular expression of whole words, any case, e.g. `risk\w*|safe\w*`.
    """
    pattern = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    leaks = []
    for i, row in enumerate(rows):
        for text in (*(m.content for m in row.messages), row.answer):
            if match := pattern.search(text):
                leaks.append(Leak(i, match[0], text[max(0, match.start() - 30) : match.end() + 30]))
                break
    return leaks


def refuse_leaks(rows: Sequence[TrainRow], words: str) -> None:
    """Raise if any training row states the policy.

    Raises:
        DataError: With the number of rows and the first of them.
    """
    if leaks := find_policy_words(rows, words):
        first = leaks[0]
        raise DataError(
            f"training rows must not state the policy, got {len(leaks)} that do: row {first.row} says "
            f"{first.word!r} in {first.text!r}. Reword them, or drop them."
        )
