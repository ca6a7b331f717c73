"""Parts of a model whose change can be asked about: blocks, their attention and MLP, heads, and both ends.

A part is named like the site that it writes: `block.2` for all of a block, `block.2.mlp.out` for its MLP,
`block.0.attn.head.3.out` for a head; `embed` and `unembed` (final norm and head) are the ends. A part holds parameters, so
it can be put back to what it was in another model, or its share of an update can be read.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnothi.mechanisms.anatomy import Anatomy

LEVELS = ("end", "block", "half", "head")
"""From large to small; a half is a block's attention or MLP."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part, the same in every model of a shape."""

    name: str
    level: str
    """One of `LEVELS`."""
    block: int | None = None
    head: int | None = None

    @property
    def is_attention(self) -> bool:
        """Whether it is attention or a head of it."""
        return ".attn." in self.name


@dataclass(frozen=True, eq=False)
class Slice:
    """Some values of a parameter."""

    parameter: str
    """Its name in the module."""
    rows: slice | None = None
    """None for all."""
    columns: slice | None = None
    transposed: bool = False
    """Whether rows are the parameter's second axis (GPT-2)."""

    def of(self, whole: Tensor) -> Tensor:
        """The values, as a view."""
        whole = whole.T if self.transposed and whole.dim() == 2 else whole
        rows = slice(None) if self.rows is None else self.rows
        return whole[rows] if self.columns is None else whole[rows, self.columns]


def parts_of(body: Anatomy) -> list[Part]:
    """Every part, blocks before their halves before their heads."""
    found = [Part("embed", "end")]
    for i in range(body.n_blocks):
        found += [Part(f"block.{i}", "block", i)]
        found += [Part(f"block.{i}.{half}.out", "half", i) for half in ("attn", "mlp")]
        found += [Part(f"block.{i}.attn.head.{h}.out", "head", i, h) for h in range(body.n_heads)]
    return [*found, Part("unembed", "end")]


def slices_of(body: Anatomy, part: Part) -> list[Slice]:
    """What a part is made of.

    A head is its rows of queries, keys and values with their biases, and its columns of the output matrix; keys and values
    that several heads share belong to none of them.
    """
    names = {id(p): name for name, p in body.module.named_parameters()}
    if part.level == "end":
        inner = {id(p) for block in body.blocks for p in block.module.parameters()}
        last = {id(p) for m in (body.norm, body.head) for p in m.parameters()}
        first = {id(p) for p in body.embed.parameters()}  # a head tied to the embedding counts there
        outer = [p for p in body.module.parameters() if id(p) not in inner]
        at_start = part.name == "embed"
        return [Slice(names[id(p)]) for p in outer if (id(p) in first or id(p) not in last) == at_start]
    assert part.block is not None
    block = body.block(part.block)
    if part.level == "block":
        return [Slice(names[id(p)]) for p in block.module.parameters()]
    if part.level == "half":
        return [Slice(names[id(p)]) for p in (block.attn if part.is_attention else block.mlp).parameters()]
    assert part.head is not None
    where = slice(part.head * body.head_width, (part.head + 1) * body.head_width)
    found = []
    for name in ("q", "k", "v") if body.n_key_heads == body.n_heads else ("q",):
        matrix = block.matrices[f"attn.{name}"]
        start = matrix.rows.start or 0
        rows = slice(start + where.start, start + where.stop)
        found.append(Slice(matrix.name, rows, transposed=matrix.transposed))
        bias = matrix.name.removesuffix("weight") + "bias"
        if bias in names.values():
            found.append(Slice(bias, rows))
    o = block.matrices["attn.o"]
    return [*found, Slice(o.name, columns=where, transposed=o.transposed)]


@contextlib.contextmanager
def put_back(module: nn.Module, source: nn.Module, slices: list[Slice]) -> Iterator[nn.Module]:
    """A model with some of its values as they are in another, for the length of a `with` block."""
    ours, theirs = dict(module.named_parameters()), dict(source.named_parameters())
    views = [(piece.of(ours[piece.parameter].data), piece.of(theirs[piece.parameter].data)) for piece in slices]
    kept = [own.clone() for own, _ in views]
    try:
        with torch.no_grad():
            for own, other in views:
                own.copy_(other)
        yield module
    finally:
        with torch.no_grad():
            for (own, _), value in zip(views, kept, strict=True):
                own.copy_(value)
