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

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(self.ids.to(device), self.learned.to(device))


@dataclass(frozen=True)
class Rows:
    """Rows of different lengths."""

    ids: Tensor
    """(tokens,) all rows, one after the other."""
    ends: np.ndarray
    """(n + 1,) where rows begin and end."""
    starts: np.ndarray
    """(n,) place in the row from which on tokens are learned."""

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
        return Batch(ids, torch.from_numpy(learned))

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
    tokenizer: Tokenizer, records: Sequence[Record], rng: np.random.Generator, *, context: int | None = None
) -> Rows:
    """Records as rows.

    Args:
        tokenizer: Theirs.
        records: At least one.
        rng: Order of the lines of instructions.
        context: Packs into rows of so many tokens; None gives each record its own.

    Raises:
        DataError: No records, or too few to fill one packed row.
    """
    if not records:
        raise DataError("rows must be of at least one record, got none. Give more stories.")
    encoded, starts = encode(tokenizer, records, rng)
    if context is None:
        ends = np.cumsum([0, *map(len, encoded)])
        return Rows(torch.tensor([i for row in encoded for i in row], dtype=torch.int32), ends, np.array(starts))
    flat = [BOS_ID, *(i for row in encoded for i in row[1:])]
    n = (len(flat) - 1) // context
    if not n:
        raise DataError(f"records must fill a row of {context} tokens, got {len(flat)} tokens. Give more stories.")
    ids = torch.tensor(flat[: n * context + 1], dtype=torch.int32)
    # neighbouring rows share a token: the last that one predicts is the first that the next one reads
    ids = torch.cat([ids[i * context : (i + 1) * context + 1] for i in range(n)])
    return Rows(ids, np.arange(n + 1) * (context + 1), np.ones(n, dtype=int))


def loss(model: Transformer, batch: Batch) -> Tensor:
    """Mean cross-entropy of the learned tokens, nats."""
    with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=batch.ids.device.type == "cuda"):
        x = model.residual(batch.ids[:, :-1])
        logits = model.head(x[batch.learned])
    return F.cross_entropy(logits.float(), batch.ids[:, 1:][batch.learned])


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
