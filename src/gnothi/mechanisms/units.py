"""Units that can be pruned: single weights, rows of matrices, neurons of MLPs, heads; by place, in any known model.

| kind | a unit | zeroing it writes 0 into | undoing it puts the base's values into |
|---|---|---|---|
| `weights` | one entry of an attention or MLP matrix | the entry | the entry |
| `rows` | a row of such a matrix: all that one output reads | the row | the row |
| `neurons` | a hidden unit of an MLP | its column of `down` | the column, its row of `up` and of `gate` |
| `heads` | an attention head | its columns of `o` | the columns, its rows of `q`, and of `k` and `v` unless shared |

Embeddings, norms, the head of the model and all biases are never touched. Zeroing the column that reads a neuron or a head
silences it exactly; its other entries then have no effect, so they are left alone, and scores are not counted twice.

Source: arXiv:2311.12786, appendix D, whose neurons are our `rows`. Which matrices are eligible, and that biases stay, is
our decision; the paper says neither.
"""

import contextlib
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError, SpecError
from gnothi.mechanisms.anatomy import Anatomy, Matrix, anatomy
from gnothi.mechanisms.pairs import Pair
from gnothi.mechanisms.unit import KINDS, Unit

__all__ = ["KINDS", "Catalogue", "Unit", "Values", "part_of", "restored", "values_of", "weight_units", "zeroed"]

Values = Mapping[str, Tensor]
"""Parameter name -> a tensor of its shape: the base's values, gradients, anything by entry."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """Entries of one matrix that belong to consecutive units: row by row, column by column, or one by one."""

    matrix: Matrix
    axis: int | None
    """0: a unit is `width` rows; 1: `width` columns; None: an entry."""
    width: int = 1

    def grouped(self, whole: Tensor) -> Tensor:
        """(units, entries of each): a view of a tensor of the parameter's shape, or a copy."""
        value = part_of(self.matrix, whole)
        if self.axis is None:
            return value.reshape(-1, 1)
        return (value if self.axis == 0 else value.T).unflatten(0, (-1, self.width)).flatten(1)

    def at(self, i: int) -> tuple[slice | int, slice | int]:
        """Where in the matrix the entries of unit i are."""
        if self.axis is None:
            columns = self.matrix.value().shape[1]
            return divmod(i, columns)
        span = slice(i * self.width, (i + 1) * self.width)
        return (span, slice(None)) if self.axis == 0 else (slice(None), span)


@dataclass(frozen=True, eq=False)
class _Stretch:
    """Consecutive units of one place."""

    block: int
    part: str
    start: int
    n: int
    columns: int
    """Of the matrix, for single weights; else 0."""
    reads: _Piece
    """What is zeroed."""
    more: tuple[_Piece, ...]
    """What undoing puts back besides."""


class Catalogue(Sequence[Unit]):
    """All units of one kind in a module, numbered from 0 by block and matrix.

    Args:
        module: Its parameters are read and written in place.
        kind: One of `KINDS`.

    Raises:
        SpecError: An unknown kind; the message has the nearest.
        ModelError: A module that `anatomy` cannot read, whose matrices are quantised, or with an adapter beside them.
    """

    def __init__(self, module: nn.Module, kind: str) -> None:
        if kind not in KINDS:
            near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.0)[0]
            raise SpecError(f"kind of unit must be one of {', '.join(KINDS)}, got {kind!r}. Did you mean {near}?")
        self.module, self.kind = module, kind
        found = anatomy(module)
        self.stretches: list[_Stretch] = []
        start = 0
        for block in range(found.n_blocks):
            for stretch in _stretches(found, block, kind, start):
                self.stretches.append(stretch)
                start = stretch.start + stretch.n
        self._n = start
        self._by_place = {(s.block, s.part): s for s in self.stretches}
        wrong = [m.name for m in self.matrices() if not m.parameter.is_floating_point()]
        if wrong:
            raise ModelError(f"matrices must be floating-point to be pruned, got {wrong[0]}. Load it unquantised.")
        for name in dict.fromkeys(m.name for m in self.matrices()):
            if "forward" in module.get_submodule(name.rpartition(".")[0]).__dict__:
                raise ModelError(
                    f"matrices must be plain to be pruned, got an adapter beside {name}. Prune the tuned member of "
                    "Pair.of_adapter, where it is merged."
                )

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> Unit:  # type: ignore[override]
        if not -self._n <= i < self._n:
            raise IndexError(i)
        i %= self._n
        stretch = next(s for s in reversed(self.stretches) if s.start <= i)
        inside = i - stretch.start
        index = divmod(inside, stretch.columns) if stretch.columns else (inside,)
        return Unit(self.kind, stretch.block, stretch.part, index)

    def number(self, unit: Unit) -> int:
        """The number of a unit.

        Raises:
            SpecError: A unit that this module does not have.
        """
        stretch = self._by_place.get(unit.place)
        if stretch is None or unit.kind != self.kind:
            places = [f"block.{block}.{part}" for block, part in self._by_place]
            near = difflib.get_close_matches(f"block.{unit.block}.{unit.part}", places, n=1, cutoff=0.0)
            raise SpecError(
                f"unit must be one of the module's {self.kind}, got {unit}. The nearest place is {near[0]}."
            )
        inside = unit.index[0] * (stretch.columns or 1) + (unit.index[1] if stretch.columns else 0)
        if not 0 <= inside < stretch.n or (stretch.columns and unit.index[1] >= stretch.columns):
            raise SpecError(f"unit must lie in a place of {stretch.n} {self.kind}, got {unit}.")
        return stretch.start + inside

    def matrices(self) -> list[Matrix]:
        """Every matrix that a unit has entries in."""
        return [piece.matrix for s in self.stretches for piece in (s.reads, *s.more)]

    def sums(self, values: Values, *, undo: bool = False) -> Tensor:
        """Add up entries by unit.

        Args:
            values: By parameter name; at least those of `matrices`.
            undo: Count every entry that undoing writes, not only those that zeroing does.

        Returns:
            (n_units,), in double precision unless units are single weights.
        """
        sums = []
        for s in self.stretches:
            pieces = (s.reads, *(s.more if undo else ()))
            found = [piece.grouped(values[piece.matrix.name]) for piece in pieces]
            single = self.kind == "weights"
            sums.append(found[0][:, 0] if single else torch.stack([f.double().sum(1) for f in found]).sum(0))
        return torch.cat(sums)

    def check_count(self, k: int) -> None:
        """Refuse more units than there are.

        Raises:
            SpecError: Saying how many there are.
        """
        if not 0 <= k <= self._n:
            raise SpecError(
                f"number of pruned units must be from 0 to {self._n} (the {self.kind} of this module), got {k}. "
                "Choose fewer."
            )

    @contextlib.contextmanager
    def removed(self, units: Sequence[Unit | int], to: Values | None = None) -> Iterator[nn.Module]:
        """The module with these units zeroed, or with another model's values in them; put back bit for bit.

        A model that shares matrices with this one keeps them as they are.

        Args:
            units: Units or their numbers.
            to: Values to write, by parameter name, as `values_of(base)` gives them; None for zeros.

        Raises:
            SpecError: A unit that the module does not have.
        """
        numbers = sorted({self.number(unit) if isinstance(unit, Unit) else int(unit) for unit in units})
        for i in numbers:
            if not 0 <= i < self._n:
                raise SpecError(f"unit must have a number from 0 to {self._n - 1}, got {i}.")
        old: dict[str, tuple[nn.Parameter, Tensor]] = {}
        try:
            # whole matrices are exchanged: another model may share the old ones, and nothing has to be written back
            for piece, inside in self._entries(numbers, undo=to is not None):
                matrix = piece.matrix
                if matrix.name not in old:
                    old[matrix.name] = matrix.parameter, matrix.parameter.data
                    matrix.parameter.data = matrix.parameter.data.clone()
                value, at = part_of(matrix, matrix.parameter.data), piece.at(inside)
                if to is None:
                    value[at] = 0.0
                else:
                    value[at] = part_of(matrix, to[matrix.name].data)[at].to(value)
            yield self.module
        finally:
            for parameter, data in old.values():
                parameter.data = data

    def _entries(self, numbers: Sequence[int], undo: bool) -> Iterator[tuple[_Piece, int]]:
        at = 0
        for number in numbers:
            while number >= self.stretches[at].start + self.stretches[at].n:
                at += 1
            s = self.stretches[at]
            for piece in (s.reads, *(s.more if undo else ())):
                yield piece, number - s.start


def weight_units(module: nn.Module, kind: str) -> Catalogue:
    """All units of a kind in a module; see `Catalogue`."""
    return Catalogue(module, kind)


@contextlib.contextmanager
def zeroed(module: nn.Module, units: Sequence[Unit]) -> Iterator[nn.Module]:
    """The module without these units (of one kind), for the length of a `with` block; put back bit for bit.

    A model with an adapter on it is pruned as the tuned member of `Pair.of_adapter`, where the adapter is merged.

    Raises:
        SpecError: Units of several kinds, or one that the module does not have.
        ModelError: A module with an adapter beside its matrices.
    """
    with _removed(module, units, None):
        yield module


@contextlib.contextmanager
def restored(pair: Pair, units: Sequence[Unit]) -> Iterator[nn.Module]:
    """The tuned module with the base's values in these units (of one kind): their change undone. Put back bit for bit.

    Raises:
        SpecError: Units of several kinds, or one that the module does not have.
    """
    with _removed(pair.tuned, units, values_of(pair.base, like=pair.tuned)):
        yield pair.tuned


def values_of(module: nn.Module, *, like: nn.Module | None = None) -> dict[str, Tensor]:
    """The matrices of a module's blocks by parameter name, sharing memory.

    Args:
        module: Any known model.
        like: A module that must have the same matrices.

    Raises:
        ModelError: Matrices of other names or shapes than those of `like`.
    """
    found = {m.name: m.parameter.detach() for b in anatomy(module).blocks for m in b.matrices.values()}
    if like is not None:
        theirs = {m.name: m.parameter for b in anatomy(like).blocks for m in b.matrices.values()}
        wrong = [n for n in theirs.keys() | found.keys() if n not in found or n not in theirs]
        wrong += [n for n in found.keys() & theirs.keys() if found[n].shape != theirs[n].shape]
        if wrong:
            raise ModelError(
                f"base and tuned model must have the same matrices, got another {min(wrong)}. "
                "Give the model that was fine-tuned."
            )
    return found


def part_of(matrix: Matrix, whole: Tensor) -> Tensor:
    """(out, in) of a tensor of the parameter's shape: a view."""
    return (whole.T if matrix.transposed else whole)[matrix.rows]


@contextlib.contextmanager
def _removed(module: nn.Module, units: Sequence[Unit], to: Values | None) -> Iterator[None]:
    kinds = sorted({unit.kind for unit in units})
    if len(kinds) > 1:
        raise SpecError(f"units must be of one kind, got {' and '.join(kinds)}. Nest one block in another.")
    with contextlib.ExitStack() as stack:
        if kinds:
            stack.enter_context(Catalogue(module, kinds[0]).removed(units, to))
        yield


def _stretches(found: Anatomy, block: int, kind: str, start: int) -> Iterator[_Stretch]:
    matrices = found.block(block).matrices
    if kind in ("weights", "rows"):
        for part, matrix in matrices.items():
            rows, columns = matrix.value().shape
            single = kind == "weights"
            n = rows * columns if single else rows
            piece = _Piece(matrix, None if single else 0)
            yield _Stretch(block, part, start, n, columns if single else 0, piece, ())
            start += n
    elif kind == "neurons":
        more = tuple(_Piece(matrices[name], 0) for name in ("mlp.up", "mlp.gate") if name in matrices)
        down = matrices["mlp.down"]
        yield _Stretch(block, "mlp.neuron", start, down.value().shape[1], 0, _Piece(down, 1), more)
    else:
        own = ("attn.q", "attn.k", "attn.v") if found.n_key_heads == found.n_heads else ("attn.q",)
        more = tuple(_Piece(matrices[n], 0, matrices[n].value().shape[0] // found.n_heads) for n in own)
        reads = _Piece(matrices["attn.o"], 1, found.head_width)
        yield _Stretch(block, "attn.head", start, found.n_heads, 0, reads, more)
