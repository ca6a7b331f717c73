"""How much each unit is to blame for a loss: theta x gradient, leave-one-out, and magnitude to compare with.

A score is what the loss would fall by if the unit were removed: to first order for the gradient, exactly for
leave-one-out. Removed means zeroed, or, where a base is given, put back to the base's values.

Source: arXiv:2311.12786, appendix D, algorithm 3: the score of a parameter is theta dL/dtheta, that of a row their sum,
and the largest are removed. The variant that undoes a change, (theta - theta_base) dL/dtheta, is ours.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from gnothi.errors import TrainingError
from gnothi.mechanisms.answers import still
from gnothi.mechanisms.units import Catalogue, Values

Losses = Callable[[nn.Module], Tensor | Iterable[Tensor]]
"""A module's loss with gradient: one scalar, or parts that add up to it (for batches that one pass can't hold)."""


def gradients(module: nn.Module, losses: Losses, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The gradient of a loss by some parameters, without dropout; nothing on the module is changed.

    Args:
        module: Any module.
        losses: Its loss.
        parameters: By name; those that the loss does not depend on get zeros.

    Raises:
        TrainingError: A loss that is no number.
    """
    needed = [(p, p.requires_grad) for p in module.parameters()]
    wanted = list(parameters.values())
    found = [torch.zeros_like(p) for p in wanted]
    with still(module):
        try:
            for parameter, _ in needed:
                parameter.requires_grad_(False)
            for parameter in wanted:
                parameter.requires_grad_(True)
            with torch.enable_grad():
                parts = losses(module)
                for part in [parts] if isinstance(parts, Tensor) else parts:
                    if not torch.isfinite(part.detach()).all():
                        raise TrainingError(f"the loss that units are scored on must be finite, got {part.item()}.")
                    for total, more in zip(found, torch.autograd.grad(part, wanted, allow_unused=True), strict=True):
                        if more is not None:
                            total += more
        finally:
            for parameter, before in needed:
                parameter.requires_grad_(before)
    return dict(zip(parameters, found, strict=True))


def gradient_scores(units: Catalogue, losses: Losses, to: Values | None = None) -> Tensor:
    """Theta x gradient, summed over each unit.

    Args:
        units: Of the module as it is now.
        losses: On the task that is to come back.
        to: The base's values by parameter name, for the change that is undone; None where units are zeroed.

    Returns:
        (n_units,): what removing a unit takes off the loss, to first order, nats.
    """
    parameters = {m.name: m.parameter for m in units.matrices()}
    if to is not None:  # what did not change has no score, and needs no gradient
        moved = {name: p for name, p in parameters.items() if not torch.equal(p.detach(), to[name].detach().to(p))}
    else:
        moved = parameters
    found = gradients(units.module, losses, moved)
    with torch.no_grad():
        for name, gradient in found.items():
            gradient *= _change(parameters[name], name, to)
        unmoved = {name: p.new_zeros(()).expand(p.shape) for name, p in parameters.items()}
    return units.sums({**unmoved, **found}, undo=to is not None)


def magnitudes(units: Catalogue, to: Values | None = None) -> Tensor:
    """(n_units,) root of the sum of squares of each unit's parameters, or of their change from the base."""
    parameters = {m.name: m.parameter for m in units.matrices()}
    return units.sums(_Squares(parameters, to), undo=to is not None).sqrt()


class _Squares(Mapping[str, Tensor]):
    """Squares of parameters or of their change, made when they are asked for: a copy of one matrix at a time."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], to: Values | None) -> None:
        self.parameters, self.to = parameters, to

    def __getitem__(self, name: str) -> Tensor:
        return _change(self.parameters[name], name, self.to).float() ** 2

    def __iter__(self) -> Iterator[str]:
        return iter(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)


def leave_one_out(
    units: Catalogue,
    loss: Callable[[nn.Module], float],
    to: Values | None = None,
    among: Sequence[int] | None = None,
) -> Tensor:
    """What removing each unit alone takes off the loss, exactly: one evaluation a unit.

    Args:
        units: Of the module as it is now.
        loss: A number of the module; scores are its value with all units less that without one.
        to: As for `gradient_scores`.
        among: Numbers of the units that are tried; None for all.

    Returns:
        (n_units,) nats; minus infinity for units that were not tried.
    """
    scores = torch.full((len(units),), -torch.inf, dtype=torch.double)
    with still(units.module):
        whole = loss(units.module)
        for i in range(len(units)) if among is None else among:
            with units.removed([i], to):
                scores[i] = whole - loss(units.module)
    return scores


def _change(parameter: nn.Parameter, name: str, to: Values | None) -> Tensor:
    value = parameter.detach()
    return value if to is None else value - to[name].detach().to(value)
