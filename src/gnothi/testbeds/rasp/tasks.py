"""The paper's two compiled programs as pairs of tasks: the one that is compiled, and the one that is tuned to.

A string is **correlated** where the new answer is a fixed offset from the old one, so that a model which computes the old
answer and shifts it is right. An uncorrelated string never has that relation, also not by luck: otherwise the shifted
answer would be right on a tenth of them, and a wrapper would look like half a solution.

Source: arXiv:2311.12786, sections 4 and C.1, appendix A (the printed samples). The paper does not say how correlated
strings were made, nor whether accidental matches were left out; both are our decisions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gnothi.errors import SpecError
from gnothi.testbeds.rasp.language import SOp
from gnothi.testbeds.rasp.library import ANSWER_AT, counter, kth_smallest

END = "#"
"""Mark after the last letter of a Counter's string, as in the paper's samples."""
_MOST_ROUNDS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Strings with both answers."""

    ids: np.ndarray
    """(n, 1 + longest) token ids as `Compiled.encode` gives them: beginning first, padding last."""
    old: np.ndarray
    """(n,) column of the head that is right for the compiled task."""
    new: np.ndarray
    """(n,) column that is right for the task tuned to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTask:
    """Two programs on one kind of string."""

    name: str
    """`counter` or `max`."""
    letters: int
    """Letters of the alphabet in use, from `a`."""
    shortest: int
    """Fewest letters of a string."""
    longest: int
    old: int
    """Counter: number of the letter counted (0 is `a`). Max: the rank asked for, from 1."""
    new: int
    offset: int = 1
    """New answer less old one in a correlated string."""

    def __post_init__(self) -> None:
        limit = self.letters - 1 if self.name == "counter" else self.shortest
        least = 0 if self.name == "counter" else 1
        if self.name not in ("counter", "max"):
            raise SpecError(f"task must be counter or max, got {self.name!r}.")
        if not (2 <= self.letters <= 26 and 2 <= self.shortest <= self.longest):
            raise SpecError(
                f"task {self.name} must have 2 to 26 letters and 2 <= shortest <= longest, got {self.letters}, "
                f"{self.shortest} and {self.longest}."
            )
        if self.name == "max" and self.longest > self.letters:
            raise SpecError(
                f"task max must have strings of at most {self.letters} letters, which all differ, got {self.longest}."
            )
        if self.old == self.new or not (least <= self.old <= limit and least <= self.new <= limit):
            raise SpecError(
                f"task {self.name} must have two different operands from {least} to {limit}, got {self.old} and {self.new}."
            )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Tokens in the order of their ids."""
        alphabet = tuple("abcdefghijklmnopqrstuvwxyz"[: self.letters])
        return (*alphabet, END) if self.name == "counter" else alphabet

    @property
    def positions(self) -> int:
        """Most tokens of a string, its end mark included."""
        return self.longest + (self.name == "counter")

    @property
    def answer_row(self) -> int:
        """Row of the transformer that answers: index 1, after the beginning."""
        return 1 + ANSWER_AT

    def program(self, operand: int) -> SOp:
        """The program for an operand: `old` is compiled and tuned, `new` is the control that never had the old task."""
        return counter(self.vocabulary[operand]) if self.name == "counter" else kth_smallest(operand)

    def said(self, operand: int) -> str:
        """An operand in words."""
        return f"count {self.vocabulary[operand]}" if self.name == "counter" else f"number {operand} in order"

    def draw(self, rng: np.random.Generator, n: int, correlated: float | None) -> Drawn:
        """Random strings.

        Args:
            rng: Where they come from.
            n: How many.
            correlated: Probability that a string is correlated; None draws strings as they come.

        Raises:
            SpecError: Correlated or uncorrelated strings that are too rare to be drawn.
        """
        letters, old, new = self._any(rng, n)
        if correlated is not None:
            wanted = rng.random(n) < correlated
            open_rows = (new - old == self.offset) != wanted
            for _ in range(_MOST_ROUNDS):
                if not open_rows.any():
                    break
                more = self._any(rng, max(256, 8 * int(open_rows.sum())))
                related = more[2] - more[1] == self.offset
                for want in (True, False):
                    rows, found = np.flatnonzero(open_rows & (wanted == want)), np.flatnonzero(related == want)
                    k = min(len(rows), len(found))
                    for whole, fresh in zip((letters, old, new), more, strict=True):
                        whole[rows[:k]] = fresh[found[:k]]
                    open_rows[rows[:k]] = False
            else:
                raise SpecError(
                    f"strings of task {self.name} must be able to have answers that differ by {self.offset}, and others, "
                    f"got {int(open_rows.sum())} of {n} that could not be drawn. Change the operands or the offset."
                )
        ids = np.concatenate([np.full((n, 1), len(self.vocabulary)), letters], axis=1)
        return Drawn(ids, old, new)

    def _any(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Strings as they come, with both answers."""
        if self.name == "counter":
            letters = rng.integers(self.letters, size=(n, self.longest))
            lengths = rng.integers(self.shortest, self.longest + 1, size=n)
            at = np.arange(self.longest)
            inside = at < lengths[:, None]
            old, new = (((letters == k) & inside).sum(1) for k in (self.old, self.new))
            padded = np.where(inside, letters, self.letters + 2)  # beginning is letters + 1, padding follows
            ids = np.concatenate([padded, np.full((n, 1), self.letters + 2)], axis=1)
            ids[np.arange(n), lengths] = self.letters  # the end mark
            return ids, old, new
        letters = rng.random((n, self.letters)).argsort(1)[:, : self.longest]
        lengths = rng.integers(self.shortest, self.longest + 1, size=n)
        inside = np.arange(self.longest) < lengths[:, None]
        in_order = np.sort(np.where(inside, letters, self.letters + 1), axis=1)
        padded = np.where(inside, letters, self.letters + 1)
        return padded, in_order[:, self.old - 1], in_order[:, self.new - 1]


PAPER: dict[str, Callable[[], PairedTask]] = {
    "counter": lambda: PairedTask(name="counter", letters=9, shortest=45, longest=45, old=0, new=1),
    "max": lambda: PairedTask(name="max", letters=26, shortest=9, longest=10, old=5, new=6),
}
"""The paper's sizes."""
