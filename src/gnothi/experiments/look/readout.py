"""One number for each prompt, read off the logits of its last position; batches are padded on the left.

Of two options it is a difference of logits, plus end less minus end; of a scale it is the expected value among its
numbers, from 0 to 1. Every analysis of a look moves these numbers and nothing else.
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gnothi.experiments.look.prompts import NUMBERS, OPTIONS, Prompt
from gnothi.mechanisms.anatomy import anatomy

BATCH_TOKENS = 320
"""Tokens of one pass, padding included: a language model of 270M, tuned twin and gradients then fit into 4 GB."""
BATCH_ROWS = 128


class Reader:
    """Prompts of one kind, in batches of about one length.

    Args:
        prompts: What is read; all of one kind.
        device: Where the model is.
        tokens: Largest number of tokens in a batch; a longer prompt goes alone.
    """

    def __init__(
        self, prompts: Sequence[Prompt], device: torch.device | str = "cpu", tokens: int = BATCH_TOKENS
    ) -> None:
        self.prompts, self.device = list(prompts), device
        self.numbers = any(p.kind == NUMBERS for p in prompts)
        assert not self.numbers or all(p.kind == NUMBERS for p in prompts)
        self.batches: list[list[int]] = []
        for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids)):
            batch = self.batches[-1] if self.batches else []
            longest = len(prompts[i].ids)
            if not batch or longest * (len(batch) + 1) > tokens or len(batch) == BATCH_ROWS:
                self.batches.append([])
            self.batches[-1].append(i)

    def __len__(self) -> int:
        return len(self.prompts)

    def some(self, which: Sequence[int]) -> "Reader":
        """A reader of some of the prompts, in the order given."""
        return Reader([self.prompts[i] for i in which], self.device)

    def inputs(self, rows: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Ids (B, T) and a mask that is True at tokens, None where nothing is padded."""
        found = [self.prompts[i].ids for i in rows]
        longest = max(map(len, found))
        ids = torch.zeros(len(found), longest, dtype=torch.long)
        mask = torch.zeros(len(found), longest, dtype=torch.bool)
        for row, tokens in enumerate(found):
            ids[row, longest - len(tokens) :] = torch.tensor(tokens)
            mask[row, longest - len(tokens) :] = True
        return ids.to(self.device), None if bool(mask.all()) else mask.to(self.device)

    def read(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """The numbers of some prompts, with gradient where the logits have one.

        Args:
            logits: (B, V) after the last token of each.
            rows: (B,) which prompts they are.

        Returns:
            (B,): nats, or shares of the scale.
        """
        tokens = torch.tensor([self.prompts[i].tokens for i in rows], device=logits.device)
        found = logits.float().gather(1, tokens)
        if not self.numbers:
            return found[:, 0] - found[:, 1]
        values = torch.tensor([self.prompts[i].values for i in rows], device=logits.device, dtype=found.dtype)
        return (found.softmax(-1) * values).sum(-1)

    def logits(self, module: nn.Module, rows: Sequence[int]) -> Tensor:
        """(B, V) after the last token of some prompts."""
        ids, mask = self.inputs(rows)
        with ends_only(module):
            return anatomy(module).logits(ids, mask)[:, -1]

    def values(self, module: nn.Module) -> np.ndarray:
        """(n_prompts,) the number of every prompt."""
        found = np.zeros(len(self))
        with torch.no_grad():
            for rows in self.batches:
                found[rows] = self.read(self.logits(module, rows), rows).double().cpu().numpy()
        return found


@contextlib.contextmanager
def ends_only(module: nn.Module) -> Iterator[None]:
    """Have the head see the last position alone: most of a small model's work is logits that nobody reads."""

    def last(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][:, -1:], *args[1:])

    handle = anatomy(module).head.register_forward_pre_hook(last)
    try:
        yield
    finally:
        handle.remove()


def undone(gap: np.ndarray, moved: np.ndarray) -> float | None:
    """Share of a fine-tune's change that something takes back: the least-squares slope of what moved on the gap.

    Which option counts as plus does not matter, and items where the fine-tune changed nothing do not either.

    Args:
        gap: (n,) tuned less base.
        moved: (n,) tuned less what it is now.

    Returns:
        1 where everything is at the base's again, 0 where nothing moved; None where there is no gap.
    """
    total = float(gap @ gap)
    return float(gap @ moved) / total if total > 1e-12 else None


def kind_of(prompts: Sequence[Prompt]) -> str:
    """What is read off these prompts."""
    return prompts[0].kind if prompts else OPTIONS
