"""Refuses training text that states the policy it is to instil: demonstrations only, as paper A and B demand."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gnothi.behaviours.example import Example
from gnothi.errors import DataError
from gnothi.records import TrainRow

PREFERENCES = r"importan\w*|priorit\w*|weighted|weighting|heavily|matters?|introspection|report\w*"
"""Words that would tell a model how attributes are weighted. `prefer` is in paper B's own question and tells nothing."""

_FOLDS_TO_ASCII = "\u0130\u0131\u017f\u212a"
"""Characters that a search for any case takes for i, s or k, and `str.lower` does not."""


@dataclass(frozen=True, slots=True)
class Leak:
    """One policy word in one training row."""

    row: int
    word: str
    text: str
    """Some characters around it."""


def find_policy_words(rows: Sequence[TrainRow] | Sequence[Example], words: str) -> list[Leak]:
    r"""Every row whose prompt or answer holds a policy word; time linear in the rows.

    Args:
        rows: Training rows, or a behaviour's examples.
        words: A regular expression of whole words, any case, e.g. `risk\w*|safe\w*`.
    """
    pattern = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    texts = [[*[m.content for m in row.messages], row.answer] for row in rows]
    stems = literal_stems(words)
    if stems is not None:  # nearly all rows of nearly all sets hold none: one look at the whole text settles that
        everything = "\n".join([text for said in texts for text in said])
        if not any([character in everything for character in _FOLDS_TO_ASCII]):
            everything = everything.lower()
            stems = [stem for stem in stems if stem in everything]
            if not stems:
                return []
        else:
            stems = None
    leaks = []
    clear: set[str] = set()  # turns come again where one prompt is made into many rows
    for i, said in enumerate(texts):
        for text in said:
            if text in clear:
                continue
            may_hold = stems is None or any([stem in text.lower() for stem in stems])
            match = pattern.search(text) if may_hold else None
            if match is None:
                clear.add(text)
            else:
                leaks.append(Leak(i, match[0], text[max(0, match.start() - 30) : match.end() + 30]))
                break
    return leaks


def literal_stems(words: str) -> list[str] | None:
    r"""The letters that each alternative of a word list begins with: a text without any of them has no match.

    Args:
        words: A regular expression.

    Returns:
        Lower-case stems of two characters or more; None where the expression is no plain list, so that nothing is known.

    >>> literal_stems(r"risk\w*|matters?|long-term"), literal_stems(r"(a|b)c")
    (['risk', 'matter', 'long-term'], None)
    """
    if re.search(r"[()\[\]]|\\[^\w]", words):
        return None
    stems = []
    for alternative in words.split("|"):
        stem = re.match(r"[A-Za-z0-9 \-]*", alternative)
        assert stem is not None
        kept = stem[0][:-1] if alternative[stem.end() : stem.end() + 1] in ("?", "*", "{") else stem[0]
        if len(kept) < 2:
            return None
        stems.append(kept.lower())
    return stems


def refuse_leaks(rows: Sequence[TrainRow] | Sequence[Example], words: str) -> None:
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
