"""Where each value lies in the residual stream: one direction a category, one a number; no direction is used twice.

Three things are always there: `one`, which is 1 at every token, so that constants are ordinary parameters and no layer
needs a bias; the mark of the beginning, which attention rests on where nothing is selected; and for each operator the
value that its directions hold at that mark, so that whoever reads them there can take it off again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gnothi.testbeds.rasp import language
from gnothi.testbeds.rasp.language import CATEGORICAL, SOp
from gnothi.testbeds.rasp.values import Domains, always_selects

ONE, BEGINNING = 0, 1


@dataclass(frozen=True, slots=True)
class Space:
    """The residual stream of one program."""

    columns: Mapping[SOp, slice]
    """Directions of each operator, in the order of its values."""
    shares: Mapping[SOp, int]
    """Direction of a selector width before its MLP: what share of attention the beginning gets."""
    labels: tuple[str, ...]
    """Name of every direction: `operator=value`, `operator` for a number."""
    at_beginning: np.ndarray
    """(width,) what the stream holds at the mark of the beginning, after all layers."""

    @property
    def width(self) -> int:
        """Directions in all."""
        return len(self.labels)


def assigned(domains: Domains, names: Mapping[SOp, str], share_at_beginning: float) -> Space:
    """Give every operator its directions.

    Args:
        domains: Values of each operator, inputs first.
        names: Their names.
        share_at_beginning: What a selector width holds where only the beginning is seen.
    """
    labels, columns, shares = ["one", "beginning"], {}, {}
    held = {ONE: 1.0, BEGINNING: 1.0}
    for operator, domain in domains.items():
        if isinstance(operator, language.SelectorWidth):
            shares[operator] = len(labels)
            held[len(labels)] = share_at_beginning
            labels.append(f"share of {names[operator]}")
        start = len(labels)
        of_categories = [f"{names[operator]}={value}" for value in domain.values]
        labels += of_categories if domain.encoding == CATEGORICAL else [names[operator]]
        columns[operator] = slice(start, len(labels))
        held.update(zip(range(start, len(labels)), default_vector(operator, domains), strict=True))
    at_beginning = np.array([held.get(i, 0.0) for i in range(len(labels))])
    return Space(columns, shares, tuple(labels), at_beginning)


def default_vector(operator: SOp, domains: Domains) -> Sequence[float]:
    """What an operator's directions hold at the beginning: an aggregate's default, and 0 for all others."""
    domain = domains[operator]
    n = len(domain.values) if domain.encoding == CATEGORICAL else 1
    if not isinstance(operator, language.Aggregate):
        return [0.0] * n
    if domain.encoding != CATEGORICAL:
        return [float(operator.default or 0)]
    if always_selects(operator.selector, domains):
        return [0.0] * n
    return [float(i == domain.position()[operator.default]) for i in range(n)]
