"""Keys and values of many answers that grow from few prompts, in buffers with room.

transformers' own cache is copied whole at every step (by concatenation) and again whenever rows are picked; on Gemma 3
270M that was a quarter of the time of 100 samples. Here a step writes one position, and a row that lives on stays where
it is: only a row with several children is copied, once for each further child.

Sliding windows: every position is kept and the layers say that they do not slide, so that the masks which transformers
makes (by position, `masking_utils`) do the sliding.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

AHEAD = 16
"""Positions of room beyond what is filled, when a buffer is made or grows."""


class RowLayer(DynamicLayer):
    """One block's keys and values.

    Attributes:
        keys: (room for rows, head, room for positions, d_head); `values` alike.
        length: Positions that are filled.
    """

    def __init__(self, ahead: int = AHEAD):
        super().__init__()
        self.ahead = ahead
        self.length = 0

    def get_seq_length(self) -> int:
        """Positions that are filled."""
        return self.length

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Write new positions of the first rows; returns those rows, old positions and new."""
        rows, end = len(key_states), self.length + key_states.shape[-2]
        if self.keys is None or self.values is None:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.keys = _with_room(key_states, rows, end + self.ahead)
            self.values = _with_room(value_states, rows, end + self.ahead)
            self.length = end
            return key_states, value_states
        if end > self.keys.shape[2]:
            room = end + max(self.ahead, self.length // 4)
            keys = _with_room(self.keys[:, :, : self.length], len(self.keys), room)
            self.values = _with_room(self.values[:, :, : self.length], len(self.values), room)
            self.keys = keys
        self.keys[:rows, :, self.length : end] = key_states
        self.values[:rows, :, self.length : end] = value_states
        self.length = end
        return self.keys[:rows, :, :end], self.values[:rows, :, :end]

    def buffers(self) -> tuple[Tensor, Tensor]:
        """Keys and values with their room."""
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def replaced(self, keys: Tensor, values: Tensor) -> "RowLayer":
        """A layer of the same length over other buffers."""
        made = RowLayer(self.ahead)
        made.keys, made.values, made.length = keys, values, self.length
        made.dtype, made.device, made.is_initialized = self.dtype, self.device, True
        return made


def _with_room(states: Tensor, rows: int, positions: int) -> Tensor:
    """A buffer that begins with `states`; the rest is not set and never read."""
    _, heads, length, size = states.shape
    buffer = states.new_empty(rows, heads, positions, size)
    buffer[: len(states), :, :length] = states
    return buffer


class RowCache(Cache):
    """The cache of a batch whose rows are prefixes: they have children, or end.

    Args:
        ahead: Positions of room beyond the prompt, e.g. the longest answer if it is short.
    """

    def __init__(self, ahead: int = AHEAD):
        super().__init__(layer_class_to_replicate=functools.partial(RowLayer, ahead))  # type: ignore[arg-type]

    @property
    def length(self) -> int:
        """Positions that are filled."""
        return self.layers[0].get_seq_length() if self.layers else 0

    def _filled(self) -> list["RowLayer"]:
        return [layer for layer in self.layers if isinstance(layer, RowLayer) and layer.is_initialized]

    def bytes_a_position(self) -> int:
        """Memory of one position of one row, over all blocks."""
        buffers = [b for layer in self._filled() for b in layer.buffers()]
        return sum(b.shape[1] * b.shape[3] * b.element_size() for b in buffers)

    def rewind(self, length: int) -> None:
        """Forget positions from `length` on, e.g. after a pass that failed halfway."""
        for layer in self._filled():
            layer.length = min(layer.length, length)

    def part(self, start: int, end: int) -> "RowCache":
        """The rows from start to end, in the same memory: whoever has a part may change its rows."""
        return self._with(lambda buffer, _: buffer[start:end])

    def copy_of(self, row: int) -> "RowCache":
        """One row, copied."""
        return self._with(lambda buffer, _: buffer[row : row + 1].clone())

    def _with(self, change: Callable[[Tensor, int], Tensor]) -> "RowCache":
        """A cache over changed buffers; `change` is given a buffer and how many positions are filled."""
        made = RowCache()
        for layer in self.layers:
            if isinstance(layer, RowLayer) and layer.is_initialized:
                keys, values = (change(b, layer.length) for b in layer.buffers())
                layer = layer.replaced(keys, values)
            made.layers.append(layer)  # one that was never filled shares another's and stays as it is
        return made

    def place(self, parents: Sequence[int], most: int) -> list[int]:
        """Give every row to one of its children, and copy it for the others.

        Nothing is lost if memory runs out on the way: then the rows are as they were.

        Args:
            parents: (n_children,) the row that each child continues.
            most: Rows to make room for at most, where more room is needed.

        Returns:
            For each of the first n_children rows the child that now lies there.
        """
        layers, n = self._filled(), len(parents)
        first = layers[0].buffers()[0]
        if n > len(first):
            index = torch.tensor(parents, device=first.device)
            rows = max(n, min(2 * n, most))
            self.layers = self._with(
                lambda b, length: _with_room(b[:, :, :length].index_select(0, index), rows, b.shape[2])
            ).layers
            return list(range(n))
        order, moves = seats(parents)
        if moves:
            to, source = (torch.tensor(rows, device=first.device) for rows in zip(*moves, strict=True))
            for layer in layers:
                for buffer in layer.buffers():
                    filled = buffer[:, :, : layer.length]
                    filled.index_copy_(0, to, filled.index_select(0, source))
        return order


def seats(parents: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Seat children in rows so that few are copied: the first child of a row stays where it is.

    Args:
        parents: (n_children,) the row that each child continues.

    Returns:
        For each of the first n_children rows its child; and the copies to make, (to, from): none is made to a row that
        another one is made from.

    >>> seats([0, 0, 2])
    ([0, 1, 2], [(1, 0)])
    """
    n = len(parents)
    order = [-1] * n
    others = []
    for child, parent in enumerate(parents):
        if parent < n and order[parent] < 0:
            order[parent] = child
        else:
            others.append(child)
    moves = []
    free = (row for row in range(n) if order[row] < 0)
    for row, child in zip(list(free), others, strict=True):
        order[row] = child
        moves.append((row, parents[child]))
    return order, moves
