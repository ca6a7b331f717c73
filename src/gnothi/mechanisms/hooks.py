"""Reading activations and changing them, at named sites; whatever is changed is as before after the `with` block.

An intervention is a value: it says what becomes of the activations at one site, and never changes a tensor in place, so
that neither autograd nor whoever holds an activation sees it altered. Several at one place act in the order given.

Positions are those of the sequences that the module is called with. `LocalModel` packs several texts into one sequence
when it scores options, so name positions only where you call the model yourself (`Anatomy.logits`).
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gnothi.errors import DataError, ModelError
from gnothi.mechanisms.anatomy import Anatomy, Point, anatomy
from gnothi.mechanisms.sites import Site

Positions = int | Sequence[int] | Tensor | None
"""Where in the sequences: one position or several for all rows (negative ones count from the end); a tensor (B,) of one
position a row; a boolean tensor (B, T); None for all."""

Units = int | Sequence[int] | Tensor | None
"""Which values of the last axis at a site (neurons, directions of the stream), or a boolean tensor (d,); None for all."""


@dataclass(frozen=True, eq=False)
class AbstractIntervention(ABC):
    """What becomes of the activations at one site."""

    site: Site | str
    positions: Positions = field(default=None, kw_only=True)
    units: Units = field(default=None, kw_only=True)

    @abstractmethod
    def changed(self, x: Tensor) -> Tensor:
        """The new activations where nothing is left out: (B, T, d) to what can be broadcast to it."""

    def apply(self, x: Tensor) -> Tensor:
        """The activations with the intervention: (B, T, d) to the same shape and type, a new tensor."""
        new = self.changed(x).to(device=x.device, dtype=x.dtype)
        try:
            new = new.expand_as(x)
        except RuntimeError as error:
            raise DataError(
                f"the value for {self.site} must be broadcast to (batch, position, unit) = {tuple(x.shape)}, "
                f"got {tuple(new.shape)}. Give it for the whole site and choose with positions and units."
            ) from error
        chosen = _chosen(x, self.positions, self.units, str(self.site))
        return new.clone() if chosen is None else torch.where(chosen, new, x)


@dataclass(frozen=True, eq=False)
class Replace(AbstractIntervention):
    """Put a value there."""

    value: Tensor | float
    """Broadcast to (B, T, d): what would stand at positions or units that are not chosen is not used."""

    def changed(self, x: Tensor) -> Tensor:
        """The value."""
        return torch.as_tensor(self.value)


@dataclass(frozen=True, eq=False)
class Add(AbstractIntervention):
    """Add a value, e.g. a steering vector (d,)."""

    value: Tensor | float

    def changed(self, x: Tensor) -> Tensor:
        """Activations plus the value."""
        return x + torch.as_tensor(self.value).to(device=x.device, dtype=x.dtype)


@dataclass(frozen=True, eq=False)
class Scale(AbstractIntervention):
    """Multiply by a factor."""

    factor: Tensor | float

    def changed(self, x: Tensor) -> Tensor:
        """Activations times the factor."""
        return x * torch.as_tensor(self.factor).to(device=x.device, dtype=x.dtype)


@dataclass(frozen=True, eq=False)
class Zero(AbstractIntervention):
    """Put zeros there."""

    def changed(self, x: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(x)


@dataclass(frozen=True, eq=False)
class MeanAblate(AbstractIntervention):
    """Put the mean over other inputs there, (d,) or (T, d): what the site says of this input is gone, its usual size is not."""

    mean: Tensor

    def changed(self, x: Tensor) -> Tensor:
        """The mean."""
        return self.mean


@dataclass(frozen=True, eq=False)
class Resample(AbstractIntervention):
    """Give row i what the site has for row `order[i]` of another batch."""

    other: Tensor | None
    """(B', T, d) activations of the other batch; None for those of the batch that runs, before the intervention."""
    order: Sequence[int] | Tensor
    """(B,) rows of `other`."""

    def changed(self, x: Tensor) -> Tensor:
        """Rows of the other batch."""
        other = x if self.other is None else self.other
        rows = torch.as_tensor(self.order, device=other.device)
        if len(rows) != len(x) or int(rows.max()) >= len(other) or int(rows.min()) < 0:
            raise DataError(
                f"Resample.order must give each of {len(x)} rows one of {len(other)}, got {len(rows)} "
                f"from {int(rows.min())} to {int(rows.max())}."
            )
        return other[rows]


def _chosen(x: Tensor, positions: Positions, units: Units, where: str) -> Tensor | None:
    """(B or 1, T or 1, d or 1) True where the intervention acts; None for everywhere."""
    batch, length, width = x.shape
    found = None
    if positions is not None:
        found = _at(positions, batch, length, x.device, where)[..., None]
    if units is not None:
        if isinstance(units, Tensor) and units.dtype == torch.bool:
            units = units.nonzero()[:, 0]
        index = torch.atleast_1d(torch.as_tensor(units, dtype=torch.long, device=x.device))
        if len(index) and not (-width <= int(index.min()) and int(index.max()) < width):
            raise DataError(f"units at {where} must be 0 to {width - 1}, got {int(index.min())} to {int(index.max())}.")
        of_units = torch.zeros(1, 1, width, dtype=torch.bool, device=x.device)
        of_units[..., index] = True
        found = of_units if found is None else found & of_units
    return found


def _at(positions: int | Sequence[int] | Tensor, batch: int, length: int, device: torch.device, where: str) -> Tensor:
    """(B or 1, T) True at the positions."""
    if isinstance(positions, Tensor) and positions.dtype == torch.bool:
        if positions.shape != (batch, length):
            raise DataError(f"positions at {where} must be of shape {(batch, length)}, got {tuple(positions.shape)}.")
        return positions.to(device)
    index = torch.as_tensor(positions, dtype=torch.long, device=device)
    if index.numel() and not (-length <= int(index.min()) and int(index.max()) < length):
        raise DataError(
            f"positions at {where} must be 0 to {length - 1}, got {int(index.min())} to {int(index.max())}."
        )
    if isinstance(positions, Tensor) and positions.ndim:
        if positions.shape != (batch,):
            raise DataError(
                f"positions at {where} must be one a row, ({batch},), got {tuple(positions.shape)}. "
                "Give positions that hold for all rows as a list."
            )
        return torch.arange(length, device=device) == (index % length)[:, None]
    found = torch.zeros(1, length, dtype=torch.bool, device=device)
    found[:, torch.atleast_1d(index)] = True
    return found


@contextlib.contextmanager
def intervened(module: nn.Module, interventions: Sequence[AbstractIntervention]) -> Iterator[nn.Module]:
    """The module with interventions, for the length of a `with` block; restored whatever happens.

    Args:
        module: A model that `anatomy` can read.
        interventions: In the order in which those at one place act. None may act on a module that is not run.

    Yields:
        The module.

    Raises:
        ModelError: A site that the model has not; at the end of the block, a site that was never reached.
        DataError: From the forward pass: a value, positions or units that do not fit the activations.
    """
    body = anatomy(module)
    by_place: dict[tuple[int, bool], list[tuple[AbstractIntervention, Point]]] = {}
    for one in interventions:
        point = body.point(body.site(one.site))
        by_place.setdefault((id(point.module), point.reads), []).append((one, point))
    reached: set[tuple[int, bool]] = set()
    with contextlib.ExitStack() as guard:
        for key, found in by_place.items():

            def change(x: Tensor, key: Any = key, found: Any = found) -> Tensor:
                reached.add(key)
                for one, point in found:
                    x = _with(one, x, point)
                return x

            guard.callback(_hook(found[0][1], change).remove)
        yield module
    lost = [str(found[0][0].site) for key, found in by_place.items() if key not in reached]
    if lost:
        raise ModelError(
            f"intervened must reach every site, got no activations at {', '.join(lost)}. "
            "Call the model inside the block, and not through a path that skips its modules."
        )


def _with(one: AbstractIntervention, x: Tensor, point: Point) -> Tensor:
    if point.part is None:
        return one.apply(x)
    return torch.cat([x[..., : point.part.start], one.apply(x[..., point.part]), x[..., point.part.stop :]], -1)


def _hook(point: Point, call: Callable[[Tensor], Tensor]) -> Any:
    """Exchange what passes at a point by what `call` makes of it."""

    def output(_: nn.Module, args: Any, value: Any) -> Any:
        return (call(value[0]), *value[1:]) if isinstance(value, tuple) else call(value)

    def reads(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (call(args[0]), *args[1:]), kwargs
        first = next(iter(kwargs))
        return args, {**kwargs, first: call(kwargs[first])}

    if point.reads:
        return point.module.register_forward_pre_hook(reads, with_kwargs=True)
    return point.module.register_forward_hook(output)


def capture(
    module: nn.Module,
    ids: Tensor,
    sites: Sequence[Site | str],
    mask: Tensor | None = None,
    *,
    at: int | Tensor | None = None,
    grad: bool = False,
) -> tuple[Tensor, dict[Site, Tensor]]:
    """Logits and activations of one forward pass; inside `intervened`, those after the interventions.

    Args:
        module: A model that `anatomy` can read.
        ids: (B, T) token ids.
        sites: Where to read.
        mask: As in `Anatomy.logits`.
        at: The same; positions whose logits are wanted.
        grad: Whether logits and activations keep the graph between them, also where no parameter has a gradient.

    Returns:
        Logits (B, T, V), or (B, V) with `at`, and for each site (B, T, d).

    Raises:
        ModelError: A site that the model has not, or one that was not reached.
    """
    body = anatomy(module)
    wanted = [body.site(site) for site in sites]
    kept: dict[Site, Tensor] = {}
    by_place: dict[tuple[int, bool], tuple[Point, list[tuple[Site, Point]]]] = {}
    for site in dict.fromkeys(wanted):
        point = body.point(site)
        by_place.setdefault((id(point.module), point.reads), (point, []))[1].append((site, point))
    with contextlib.ExitStack() as guard:
        guard.enter_context(torch.set_grad_enabled(grad))
        if grad:
            guard.callback(_hook(Point(body.embed, reads=False), _rooted).remove)
        for point, found in by_place.values():
            guard.callback(_hook(point, _keeper(body, found, kept, grad)).remove)
        logits = body.logits(ids, mask, at)
    lost = [str(site) for site in wanted if site not in kept]
    if lost:
        raise ModelError(f"capture must reach every site, got no activations at {', '.join(lost)}.")
    return logits, {site: kept[site] for site in dict.fromkeys(wanted)}


def _rooted(x: Tensor) -> Tensor:
    """A root for the graph where the parameters have no gradient."""
    return x if x.requires_grad else x.detach().requires_grad_()


def _keeper(
    body: Anatomy, found: Sequence[tuple[Site, Point]], kept: dict[Site, Tensor], grad: bool
) -> Callable[[Tensor], Tensor]:
    """Keep what passes. With gradient the heads are taken apart and joined again, so that each is part of the graph."""

    def keep(x: Tensor) -> Tensor:
        parts = [(site, point.part) for site, point in found if point.part is not None]
        if grad and parts:
            heads = list(x.split(body.head_width, -1))
            kept.update({site: heads[part.start // body.head_width] for site, part in parts})
            x = torch.cat(heads, -1)
        elif parts:
            kept.update({site: x[..., part].clone() for site, part in parts})
        kept.update({site: x for site, point in found if point.part is None})
        return x

    return keep
