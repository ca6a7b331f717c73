"""The name of a unit that can be pruned: kind, block, matrix and index. No torch here; `units` finds them in a model."""

import re
from dataclasses import dataclass

from gnothi.errors import SpecError

KINDS = ("weights", "rows", "neurons", "heads")
"""What a unit may be; `units` says what is removed of each."""


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """One unit, by place.

    >>> str(Unit("weights", 1, "attn.v", (97, 0)))
    'block.1.attn.v[97, 0]'
    >>> Unit.parse("block.0.attn.head[2]").kind
    'heads'
    """

    kind: str
    block: int
    part: str
    """The matrix (`attn.q`, …, `mlp.down`); for neurons `mlp.neuron`, for heads `attn.head`."""
    index: tuple[int, ...]
    """(row, column), (row,), (neuron,) or (head,)."""

    @property
    def place(self) -> tuple[int, str]:
        """Block and matrix."""
        return self.block, self.part

    def __str__(self) -> str:
        return f"block.{self.block}.{self.part}[{', '.join(map(str, self.index))}]"

    @classmethod
    def parse(cls, text: str) -> "Unit":
        """The inverse of `str`.

        Raises:
            SpecError: Text that names no unit.
        """
        found = re.fullmatch(r"block\.(\d+)\.([\w.]+)\[(\d+)(?:, *(\d+))?\]", text)
        if found is None:
            raise SpecError(f"unit must be written like block.1.attn.v[97, 0] or block.0.mlp.up[3], got {text!r}.")
        block, part, *numbers = found.groups()
        index = tuple(int(number) for number in numbers if number is not None)
        kind = {"mlp.neuron": "neurons", "attn.head": "heads"}.get(part, "weights" if len(index) == 2 else "rows")
        return cls(kind, int(block), part, index)
