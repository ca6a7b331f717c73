"""Records as rows of token ids, batches of them, and the loss on what is learned.

A row is a record, `<bos>` at both ends, and what is learned is its story; rows alike in length go together, so that little
is padding. Packed, as the paper's are, rows are stretches of the records laid end to end, and every token is learned.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from gnothi.errors import DataError
from gnothi.rng import stream
from gnothi.testbeds.stories.records import Record
from gnothi.testbeds.stories.tokens import BOS_ID, PAD_ID, encode
from gnothi.testbeds.transformer import Transformer

NEIGHBOURS = 16
"""Batches that are drawn together and sorted by length."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded to one length."""

    ids: Tensor
    """(B, T)"""
    learned: Tensor
    """(B, T - 1) whether the token after a position is learned."""
    weight: Tensor | None = None
    """(B, T - 1) what it counts for; None for the same."""

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        weight = None if self.weight is None else self.weight.to(device)
        return Batch(self.ids.to(device), self.learned.to(device), weight)


@dataclass(frozen=True)
class Rows:
    """Rows of different lengths."""

    ids: Tensor
    """(tokens,) all rows, one after the other."""
    ends: np.ndarray
    """(n + 1,) where rows begin and end."""
    starts: np.ndarray
    """(n,) place in the row from which on tokens are learned."""
    outcomes: np.ndarray | None = None
    """(n, 2) places in the row between which tokens count more; None for nowhere."""
    stress: float = 1.0
    """What a token between them counts for."""

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) tokens of each row."""
        return np.diff(self.ends)

    def batch(self, rows: Sequence[int] | np.ndarray) -> Batch:
        """Some of the rows, padded."""
        rows = np.asarray(rows)
        lengths, first = self.lengths[rows], self.ends[rows]
        at = np.arange(int(lengths.max()))
        inside = at < lengths[:, None]
        places = np.where(inside, first[:, None] + at, 0)
        ids = torch.where(torch.from_numpy(inside), self.ids[torch.from_numpy(places)].long(), PAD_ID)
        learned = inside[:, 1:] & (at[1:] >= self.starts[rows][:, None])
        if self.outcomes is None or self.stress == 1:
            return Batch(ids, torch.from_numpy(learned))
        first, last = self.outcomes[rows, 0][:, None], self.outcomes[rows, 1][:, None]
        weight = np.where((at[1:] >= first) & (at[1:] < last), self.stress, 1.0)
        return Batch(ids, torch.from_numpy(learned), torch.from_numpy(weight).float())

    def batches(self, size: int, seed: int, *names: str | int) -> Iterator[Batch]:
        """Batches without end, each row once a round."""
        if not len(self):
            raise DataError("rows must be at least one, got none. Give more stories.")
        lengths, number = self.lengths, 0
        while True:
            rng = stream(seed, *names, "round", number)
            order = rng.permutation(len(self))
            if len(order) < size:
                order = np.resize(order, size)
            for start in range(0, len(order) - size + 1, size * NEIGHBOURS):
                part = order[start : start + size * NEIGHBOURS]
                part = part[np.argsort(lengths[part], kind="stable")]
                full = len(part) // size
                for i in rng.permutation(full):
                    yield self.batch(part[i * size : (i + 1) * size])
            number += 1


def rows_of(
    tokenizer: Tokenizer,
    records: Sequence[Record],
    rng: np.random.Generator,
    *,
    context: int | None = None,
    stress: float = 1.0,
) -> Rows:
    """Records as rows.

    Args:
        tokenizer: Theirs.
        records: At least one.
        rng: Order of the lines of instructions.
        context: Packs into rows of so many tokens; None gives each record its own.
        stress: What the tokens of the sentence that says how it turned out count for, where it is known; packed, 1.

    Raises:
        DataError: No records, or too few to fill one packed row.
    """
    if not records:
        raise DataError("rows must be of at least one record, got none. Give more stories.")
    encoded = encode(tokenizer, records, rng)
    if context is None:
        ends = np.cumsum([0, *(len(one.ids) for one in encoded)])
        ids = torch.tensor([i for one in encoded for i in one.ids], dtype=torch.int32)
        outcomes = np.array([one.outcome for one in encoded])
        return Rows(ids, ends, np.array([one.start for one in encoded]), outcomes, stress)
    flat = [BOS_ID, *(i for one in encoded for i in one.ids[1:])]
    n = (len(flat) - 1) // context
    if not n:
        raise DataError(f"records must fill a row of {context} tokens, got {len(flat)} tokens. Give more stories.")
    ids = torch.tensor(flat[: n * context + 1], dtype=torch.int32)
    # neighbouring rows share a token: the last that one predicts is the first that the next one reads
    ids = torch.cat([ids[i * context : (i + 1) * context + 1] for i in range(n)])
    return Rows(ids, np.arange(n + 1) * (context + 1), np.ones(n, dtype=int))


def loss(model: Transformer, batch: Batch) -> Tensor:
    """Mean cross-entropy of the learned tokens, nats; weighted where the batch says so."""
    with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=batch.ids.device.type == "cuda"):
        x = model.residual(batch.ids[:, :-1])
        logits = model.head(x[batch.learned])
    right = batch.ids[:, 1:][batch.learned]
    if batch.weight is None:
        return F.cross_entropy(logits.float(), right)
    weight = batch.weight[batch.learned]
    return (F.cross_entropy(logits.float(), right, reduction="none") * weight).sum() / weight.sum()


@torch.inference_mode()
def mean_loss(model: Transformer, rows: Rows, size: int = 128) -> float:
    """Mean cross-entropy of the learned tokens of all rows, nats."""
    order, device = np.argsort(rows.lengths, kind="stable"), model.embed.weight.device
    total = count = 0.0
    for start in range(0, len(order), size):
        batch = rows.batch(order[start : start + size]).to(device)
        n = int(batch.learned.sum())
        total, count = total + float(loss(model, batch)) * n, count + n
    return total / count
