"""The five families of tasks on a string, as prompts of one length with one token to answer, and who asks for what.

A prompt is `family operand number SOT text ART`; the full layout has `SOS` before it and `EOT` after the text. The answer
is read where `ART` stands. Families of the paper: how often a letter (count) or a letter twice in a row (count_pair)
stands in the last n tokens; how far from the end its k-th occurrence lies, counted backwards (index, index_pair); which
letter stands n places from the end (token). Distances start at 0 with the last token, overlapping pairs count, a pair lies
where its later letter lies, and fewer than k occurrences have an answer of their own: the paper leaves these open.

Source: arXiv:2311.12786, section C.2. `count_1` and `count_2` ask for the same as `count` (section E.2, jailbreaks).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnothi.errors import SpecError

FAMILIES = ("count", "count_pair", "index", "index_pair", "token", "count_1", "count_2")
MARKS = ("null", "none", "SOS", "SOT", "EOT", "ART")
PRIORS: Mapping[str, tuple[float, float, float]] = {
    "low": (0.999, 0.001, 0.0),
    "lower": (0.99, 0.01, 0.0),
    "medium": (0.9, 0.1, 0.0),
    "higher": (0.7, 0.2, 0.1),
    "high": (0.5, 0.3, 0.2),
    "noa": (0.0, 1.0, 0.0),
}
"""How often each operand is asked for in pretraining: the paper's five, and the model that was never asked for `a`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """Sizes that decide prompts and answers.

    Attributes:
        terminals: Letters, token ids 0 and on.
        window: Text tokens of a prompt.
        last: n of count, count_pair and token.
        rank: k of index and index_pair.
        full: Whether prompts have the full layout.
    """

    terminals: int
    window: int
    last: int
    rank: int
    full: bool = False

    def __post_init__(self) -> None:
        if self.terminals < 3:
            raise SpecError(
                f"tasks must have at least 3 letters (asked for, tuned to, neither), got {self.terminals}. Add terminals."
            )
        if not 2 <= self.last <= self.window or self.last % 2:
            raise SpecError(
                f"tasks: last must be an even number from 2 to the window ({self.window}), got {self.last}."
            )
        if not 1 <= self.rank <= self.window // 4:
            raise SpecError(f"tasks: rank must be in [1, {self.window // 4}] for this window, got {self.rank}.")

    @property
    def vocabulary(self) -> int:
        """Token ids: letters, marks, families, numbers 0 to `window`."""
        return self.number(self.window) + 1

    @property
    def length(self) -> int:
        """Tokens of a prompt."""
        return self.window + (7 if self.full else 5)

    @property
    def text_at(self) -> int:
        """Where the text begins in a prompt."""
        return 5 if self.full else 4

    def mark(self, name: str) -> int:
        """Token id of a mark."""
        return self.terminals + MARKS.index(name)

    def family(self, name: str) -> int:
        """Token id of a family."""
        return self.terminals + len(MARKS) + FAMILIES.index(name)

    def number(self, value: int) -> int:
        """Token id of a number."""
        return self.terminals + len(MARKS) + len(FAMILIES) + value

    def answers(self, text: Tensor, families: Tensor, operands: Tensor) -> Tensor:
        """The right answers.

        Args:
            text: (B, window) letters.
            families: (B,) positions in `FAMILIES`.
            operands: (B,) letters; not read by `token`.

        Returns:
            (B,) token ids.
        """
        hit = text == operands[:, None].to(text.dtype)
        pair = torch.zeros_like(hit)
        pair[:, 1:] = hit[:, 1:] & hit[:, :-1]
        tail = slice(self.window - self.last, None)
        # A pair is in the last n tokens when both of its letters are.
        counts = self.number(0) + hit[:, tail].sum(1)
        pairs = self.number(0) + pair[:, self.window - self.last + 1 :].sum(1)
        letter = text[:, self.window - self.last].long()
        found = torch.where(families == FAMILIES.index("count_pair"), pairs, counts)
        for name, at in (("index", hit), ("index_pair", pair)):
            far = (at.flip(1).cumsum(1) < self.rank).sum(1)
            answer = torch.where(far < self.window, self.number(0) + far, self.mark("none"))
            found = torch.where(families == FAMILIES.index(name), answer, found)
        return torch.where(families == FAMILIES.index("token"), letter, found)

    def prompts(self, text: Tensor, families: Tensor, operands: Tensor) -> Tensor:
        """(B, length) token ids of the prompts; arguments as for `answers`."""
        ids = torch.empty(len(text), self.length, dtype=torch.int64, device=text.device)
        start = self.text_at
        ids[:, start - 1] = self.mark("SOT")
        indexed = (families == FAMILIES.index("index")) | (families == FAMILIES.index("index_pair"))
        ids[:, start - 2] = torch.where(indexed, self.number(self.rank), self.number(self.last))
        is_token = families == FAMILIES.index("token")
        ids[:, start - 3] = torch.where(is_token, self.mark("null"), operands.long())
        ids[:, start - 4] = families + self.family(FAMILIES[0])
        ids[:, start : start + self.window] = text
        ids[:, -1] = self.mark("ART")
        if self.full:
            ids[:, 0] = self.mark("SOS")
            ids[:, -2] = self.mark("EOT")
        return ids


def drawn(weights: Sequence[float] | Tensor, n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(n,) positions drawn with these weights."""
    shares = torch.as_tensor(weights, dtype=torch.float64, device=device)
    cumulative = (shares / shares.sum()).cumsum(0)
    u = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
    return torch.searchsorted(cumulative, u, right=True).clamp_max(len(shares) - 1)
