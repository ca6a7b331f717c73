"""Token sequences as prefix trees, many in one forward pass: what several sequences begin with is computed once.

Sequences are sorted and laid into rows as trees in pre-order. A token sees its ancestors and itself, its position is its
depth, and so each gets the numbers that it would get in its own sequence. Trees of one row see nothing of each other.
Because a subtree is an interval in pre-order, one number a token, the end of its interval, holds the whole mask.

Source: tree attention as in speculative decoding (arXiv:2305.09781, section 4.2), here for scoring and for training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

Tokens = Sequence[int]


@dataclass(slots=True)
class Row:
    """One row of trees while it is filled."""

    owner: int
    """Adapter that the row's tokens go through."""
    ids: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """For each token the first place after its subtree."""
    members: list[int] = field(default_factory=list)
    """Which sequences lie here."""
    paths: list[np.ndarray] = field(default_factory=list)
    """(length,) place of each token of each member."""
    wanted: int = 0
    """Places whose logits are asked for, at most."""

    @property
    def is_chain(self) -> bool:
        """Whether it is one sequence, or beginnings of it: then plain causal attention does."""
        return not self.ids or self.depths[-1] == len(self.ids) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Rows of trees as tensors; shorter rows are padded on the right."""

    ids: Tensor
    """(row, pos) token ids, 0 for padding."""
    depths: Tensor
    """(row, pos) position of each token in its own sequence."""
    ends: Tensor | None
    """(row, pos) first place after each token's subtree; None where every row is a chain, so that causal attention does."""
    owners: tuple[int, ...]
    """(row,) adapter of each row."""
    members: tuple[tuple[int, int, np.ndarray], ...]
    """Sequence, its row, and the (length,) places of its tokens."""

    def mask(self, window: int | None = None) -> Tensor:
        """(row, 1, pos, pos) boolean: who may look at whom.

        Args:
            window: Sliding window in tokens, the token itself counted; None for no limit.
        """
        ends, depths = self.ends, self.depths
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        if ends is None:
            seen = (place[:, None] >= place).expand(len(self.ids), -1, -1)
        else:
            seen = (place[:, None] >= place) & (place[:, None] < ends[:, None, :])
        if window is not None:
            seen = seen & (depths[:, :, None] - depths[:, None, :] < window)
        return seen[:, None]


def shared_share(sequences: Sequence[Tokens]) -> float:
    """Share of all tokens that trees would save, in [0, 1)."""
    total = sum(map(len, sequences))
    ordered = sorted(map(tuple, sequences))
    new = sum(len(s) - common(p, s) for p, s in zip([(), *ordered], ordered, strict=False))
    return 1 - new / total if total else 0.0


def common(a: Tokens, b: Tokens) -> int:
    """Length of the common beginning.

    >>> common((1, 2, 3), (1, 2, 4, 5))
    2
    """
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    for i in range(n):
        if a[i] != b[i]:
            return i
    return n


def rows_of(
    sequences: Sequence[Tokens],
    *,
    width: int,
    owners: Sequence[int] | None = None,
    keeps: Sequence[int] | None = None,
    most_wanted: int | None = None,
    least_common: float = 0.0,
) -> list[Row]:
    """Lay sequences into rows of trees.

    Args:
        sequences: (n,) token ids, each at least one.
        width: Tokens of a row at most; a longer sequence has a row of its own. 0 gives chains only.
        owners: (n,) adapter of each; different adapters never share a row.
        keeps: (n,) last positions of each whose logits are wanted; 1 each if left out.
        most_wanted: Such positions of a row at most.
        least_common: Share of a sequence that it must have in common with the one before to share it; with less it
            starts a tree of its own, so that a common first token does not make one tree of everything.

    Returns:
        Rows; every sequence lies in one of them, and equal beginnings within a row are one path.
    """
    own = owners if owners is not None else [0] * len(sequences)
    want = keeps if keeps is not None else [1] * len(sequences)
    tuples = [s if isinstance(s, tuple) else tuple(s) for s in sequences]
    order = sorted(range(len(tuples)), key=lambda i: (own[i], tuples[i]))
    found: list[Row] = []
    path: list[int] = []
    last: Tokens = ()
    for i in order:
        tokens = tuples[i]
        row = found[-1] if found else None
        same = 0
        if row is not None and row.owner == own[i]:
            same = common(last, tokens)
            same = same if same >= least_common * len(tokens) else 0
            grows = same == len(last) and row.is_chain  # a chain that only becomes longer costs no mask
            over = not grows and len(row.ids) + len(tokens) - same > width
            if over or (most_wanted is not None and row.wanted + want[i] > most_wanted):
                row = None
        else:
            row = None
        if row is None:
            _close(found, path, 0)
            row, same, path = Row(own[i]), 0, []
            found.append(row)
        _close(found, path, same)
        start = len(row.ids)
        row.ids.extend(tokens[same:])
        row.depths.extend(range(same, len(tokens)))
        row.ends.extend([0] * (len(tokens) - same))
        path = [*path[:same], *range(start, len(row.ids))]
        row.members.append(i)
        row.paths.append(np.array(path))
        row.wanted += want[i]
        last = tokens
    _close(found, path, 0)
    return found


def _close(rows: list[Row], path: list[int], keep: int) -> None:
    """Subtrees of the current path below depth `keep` end here."""
    if rows:
        row = rows[-1]
        for place in path[keep:]:
            row.ends[place] = len(row.ids)


def batches_of(rows: Sequence[Row], *, tokens: int, most_wanted: int | None = None) -> Iterator[list[Row]]:
    """Put rows of similar length together, within a budget; chains apart, since they need no mask.

    Args:
        rows: What `rows_of` returned.
        tokens: Tokens of a forward pass at most, padding included; a longer single row goes alone.
        most_wanted: Positions of a pass whose logits are wanted, at most.
    """
    batch: list[Row] = []
    wanted = 0
    for row in sorted(rows, key=lambda r: (not r.is_chain, len(r.ids), r.owner)):
        full = (len(batch) + 1) * len(row.ids) > tokens  # in order of length, so the newest is the longest
        full = full or (most_wanted is not None and wanted + row.wanted > most_wanted)
        if batch and (full or batch[0].is_chain != row.is_chain or _wasteful(batch, row)):
            yield batch
            batch, wanted = [], 0
        batch.append(row)
        wanted += row.wanted
    if batch:
        yield batch


PAD_SHARE = 0.125
"""Largest share of padding in a batch."""


def _wasteful(batch: Sequence[Row], row: Row) -> bool:
    whole = (len(batch) + 1) * len(row.ids)
    # a full batch of one length is worth more than one more row with padding
    return len(row.ids) > len(batch[-1].ids) and (
        len(batch) >= 16 or whole - sum(len(r.ids) for r in batch) - len(row.ids) > PAD_SHARE * whole
    )


def as_forest(rows: Sequence[Row], device: torch.device | str = "cpu") -> Forest:
    """Rows as tensors. Padding sees itself alone and nobody sees it."""
    length = max(len(r.ids) for r in rows)
    ids, depths = np.zeros((len(rows), length), int), np.zeros((len(rows), length), int)
    ends = np.tile(np.arange(1, length + 1), (len(rows), 1))
    chains = all(r.is_chain for r in rows)
    members = []
    for number, row in enumerate(rows):
        n = len(row.ids)
        ids[number, :n], depths[number, :n], ends[number, :n] = row.ids, row.depths, row.ends
        members += [(i, number, path) for i, path in zip(row.members, row.paths, strict=True)]
        if chains:
            depths[number, n:] = np.arange(n, length)  # so that all rows have the positions 0, 1, 2, …
    return Forest(
        ids=torch.from_numpy(ids).to(device),
        depths=torch.from_numpy(depths).to(device),
        ends=None if chains else torch.from_numpy(ends).to(device),
        owners=tuple(r.owner for r in rows),
        members=tuple(members),
    )
