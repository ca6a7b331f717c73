"""Whether a few units undo a fine-tune: rows of what it changed are given the base's values back, best first.

A unit is a row of a changed matrix (all that one output reads; of the embedding, one token) or a changed vector. Scores
are the first-order change that undoing it makes, from one pass over items that are not shown.

Source: the score is theta x gradient (arXiv:2311.12786, appendix D) with the change in the place of theta: a unit is not
taken out, its fine-tuning is. How many are undone is chosen on other items than it is shown on.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gnothi.experiments.look.readout import Reader, undone
from gnothi.mechanisms.pairs import Pair, differences

ENOUGH = 0.5
"""Share of the change on the choosing items at which no more units are undone."""
DRAWS = 3
"""Random sets beside each."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one parameter that the fine-tune changed."""

    name: str
    rows: Tensor
    """(n,) indices of the first axis; (1,) zero for a vector, which is one unit."""


def changed_rows(pair: Pair) -> list[Rows]:
    """Every unit that the fine-tune changed, by parameter."""
    found = []
    for name, delta in differences(pair).items():
        if delta.dim() < 2:
            found.append(Rows(name, torch.zeros(1, dtype=torch.long)))
        else:
            found.append(Rows(name, delta.flatten(1).abs().sum(1).nonzero()[:, 0].cpu()))
    return found


@dataclass(frozen=True, eq=False)
class Scored:
    """All units with what is known of each."""

    units: list[Rows]
    scores: np.ndarray
    """(n,) share of the change that undoing each would take back, to first order."""
    sizes: np.ndarray
    """(n,) norm of the change."""

    @property
    def n(self) -> int:
        """How many units."""
        return len(self.scores)

    def places(self, chosen: Sequence[int]) -> dict[str, int]:
        """How many of the chosen units lie in each parameter."""
        ends = np.cumsum([len(u.rows) for u in self.units])
        where = np.searchsorted(ends, np.asarray(chosen, int), side="right")
        names = [self.units[w].name for w in where]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    @contextlib.contextmanager
    def taken_back(self, pair: Pair, chosen: Sequence[int]) -> Iterator[nn.Module]:
        """The tuned model with the base's values in the chosen units; as it was afterwards."""
        base, tuned = (dict(m.named_parameters()) for m in (pair.base, pair.tuned))
        picked = np.zeros(self.n, bool)
        picked[list(chosen)] = True
        old: list[tuple[nn.Parameter, Tensor]] = []
        start = 0
        try:
            for unit in self.units:
                here = torch.from_numpy(picked[start : start + len(unit.rows)])
                start += len(unit.rows)
                if not bool(here.any()):
                    continue
                parameter = tuned[unit.name]
                old.append((parameter, parameter.data))
                if parameter.dim() < 2:
                    parameter.data = base[unit.name].data.to(parameter)
                    continue
                rows = unit.rows[here].to(parameter.device)
                parameter.data = parameter.data.clone()
                parameter.data[rows] = base[unit.name].data[rows].to(parameter)
            yield pair.tuned
        finally:
            for parameter, data in old:
                parameter.data = data


def scored(pair: Pair, reader: Reader, gap: np.ndarray) -> Scored:
    """Score every unit on some items.

    Args:
        pair: Base and tuned.
        reader: Items that choose.
        gap: (n_items,) tuned less base.
    """
    units = changed_rows(pair)
    base, tuned = (dict(m.named_parameters()) for m in (pair.base, pair.tuned))
    weights = torch.tensor(gap / max(float(gap @ gap), 1e-12))
    parameters = [tuned[u.name] for u in units]
    needed = [p.requires_grad for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        for rows in reader.batches:
            with torch.enable_grad():
                values = reader.read(reader.logits(pair.tuned, rows), rows)
                (values * weights[rows].to(values)).sum().backward()
        scores, sizes = [], []
        for unit in units:
            parameter = tuned[unit.name]
            delta = (parameter.detach() - base[unit.name].detach().to(parameter)).float()
            slope = torch.zeros_like(delta) if parameter.grad is None else parameter.grad.float()
            product, square = slope * delta, delta.square()
            if delta.dim() < 2:
                scores.append(product.sum()[None].cpu())
                sizes.append(square.sum().sqrt()[None].cpu())
            else:
                rows_here = unit.rows.to(parameter.device)
                scores.append(product.flatten(1).sum(1)[rows_here].cpu())
                sizes.append(square.flatten(1).sum(1)[rows_here].sqrt().cpu())
    finally:
        for parameter, was in zip(parameters, needed, strict=True):
            parameter.grad = None
            parameter.requires_grad_(was)
    return Scored(units, torch.cat(scores).double().numpy(), torch.cat(sizes).double().numpy())


def counts(n: int, factor: int = 4) -> list[int]:
    """How many units are tried: 1, 4, 16, …, all.

    >>> counts(100)
    [1, 4, 16, 64, 100]
    """
    found = [1]
    while found[-1] * factor < n:
        found.append(found[-1] * factor)
    return [*found, n] if n > 1 else found


def curve(
    pair: Pair,
    units: Scored,
    orders: dict[str, np.ndarray],
    ks: Sequence[int],
    readers: dict[str, tuple[Reader, np.ndarray, np.ndarray]],
    *,
    until: float = 0.98,
) -> list[dict[str, Any]]:
    """Share of the change that the first k units of each order take back.

    Args:
        pair: Base and tuned.
        units: All units.
        orders: Name -> units, best first.
        ks: How many.
        readers: Items by name, with readouts of the base and of the tuned model.
        until: An order that took this much back on its items is not gone on with.

    Returns:
        One row for each order, k and set of items: `order, k, items, share`.
    """
    found: list[dict[str, Any]] = []
    for name, order in orders.items():
        for k in ks:
            with units.taken_back(pair, order[:k].tolist()) as module:
                shares = {
                    items: undone(tuned - base, tuned - reader.values(module))
                    for items, (reader, base, tuned) in readers.items()
                }
            found += [{"order": name, "k": k, "items": items, "share": share} for items, share in shares.items()]
            if all(share is not None and share >= until for share in shares.values()):
                break
    return found


def enough(rows: Sequence[dict[str, Any]], *, items: str, order: str, share: float = ENOUGH) -> int | None:
    """The fewest units that take enough back on the choosing items; None where none of those tried do."""
    good = [r["k"] for r in rows if r["order"] == order and r["items"] == items and (r["share"] or 0.0) >= share]
    return min(good, default=None)
