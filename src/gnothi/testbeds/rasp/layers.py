"""Which block each part goes into: the first in which all that it reads is there. Parts of one block lie side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from gnothi.testbeds.rasp.components import Component, Head, Neurons
from gnothi.testbeds.rasp.language import SOp


@dataclass(frozen=True, slots=True)
class Layer:
    """The components of one block."""

    heads: tuple[Component, ...] = ()
    neurons: tuple[Component, ...] = ()


def placed(components: Sequence[Component]) -> tuple[Layer, ...]:
    """Put components into as few blocks as their order allows; at least one block, which may be empty.

    Args:
        components: Inputs first; neurons that finish a head follow it.
    """
    ready: dict[SOp, int] = {}  # half-block after which an operator is there: even for attention, odd for an MLP
    when: list[int] = []
    for number, component in enumerate(components):
        before = max((ready.get(read, -1) for read in component.reads), default=-1)
        follows = number > 0 and components[number - 1].operator is component.operator
        if follows:
            before = when[-1]
        odd = isinstance(component.part, Neurons)
        slot = before + 1 + ((before + 1) % 2 != odd)
        when.append(slot)
        if component.finishes:
            ready[component.operator] = slot
    n_blocks = max(when, default=0) // 2 + 1
    pairs = list(zip(components, when, strict=True))
    return tuple(
        Layer(
            tuple(c for c, slot in pairs if slot == 2 * i and isinstance(c.part, Head)),
            tuple(c for c, slot in pairs if slot == 2 * i + 1 and isinstance(c.part, Neurons)),
        )
        for i in range(n_blocks)
    )
