"""Multinomial logistic regression on activations, fitted to its minimum: the probe itself, without its controls."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnothi.errors import DataError, TrainingError

L2 = 1.0
"""Weight of half the squared norm of the coefficients, against the summed loss: scikit-learn's C = 1."""

_MOST_STEPS = 500


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted linear probe on standardised activations."""

    weight: Tensor
    """(classes, d)"""
    bias: Tensor
    """(classes,)"""
    mean: Tensor
    """(d,) of the training activations."""
    scale: Tensor
    """(d,) their s.d.; 1 where they do not vary."""

    def logits(self, x: Tensor) -> Tensor:
        """(n, d) activations -> (n, classes)."""
        return ((x.double() - self.mean) / self.scale) @ self.weight.T + self.bias

    def predictions(self, x: Tensor) -> Tensor:
        """(n, d) activations -> (n,) classes."""
        return self.logits(x).argmax(-1)


def fit_probe(x: Tensor, labels: Tensor, *, classes: int, l2: float = L2) -> Probe:
    """Multinomial logistic regression, to its minimum.

    Args:
        x: (n, d) activations.
        labels: (n,) classes, from 0.
        classes: How many there are.
        l2: See `L2`. The bias is free.

    Returns:
        The probe; the same for the same arguments.

    Raises:
        DataError: Activations that are not finite, labels out of range, or fewer than two classes.
        TrainingError: A fit that does not come to rest.
    """
    if x.dim() != 2 or labels.shape != (len(x),) or not len(x) or not torch.isfinite(x).all():
        raise DataError(
            f"fit_probe must have finite activations (n, d) and labels (n,), got {tuple(x.shape)} and "
            f"{tuple(labels.shape)}."
        )
    if classes < 2 or int(labels.min()) < 0 or int(labels.max()) >= classes or not l2 > 0:
        raise DataError(
            f"fit_probe must have labels from 0 to classes - 1 (at least 2 classes) and l2 > 0, got labels "
            f"{int(labels.min())} to {int(labels.max())}, {classes} classes and l2 {l2}."
        )
    x = x.detach().double()
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 1e-12 * (1 + mean.abs()), scale, torch.ones_like(scale))
    z = (x - mean) / scale
    weight = z.new_zeros(classes, z.shape[1], requires_grad=True)
    bias = z.new_zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_MOST_STEPS,
        max_eval=4 * _MOST_STEPS,
        tolerance_grad=1e-6,
        tolerance_change=1e-10,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        fit = nn.functional.cross_entropy(z @ weight.T + bias, labels)
        return fit + 0.5 * l2 / len(z) * weight.square().sum()

    def closure() -> float:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return float(value.detach())

    with torch.enable_grad():
        optimiser.step(closure)
        value = loss()
    if not torch.isfinite(value):
        raise TrainingError(f"fit_probe must come to rest, got a loss of {float(value.detach())}.")
    return Probe(weight.detach(), bias.detach(), mean, scale)
