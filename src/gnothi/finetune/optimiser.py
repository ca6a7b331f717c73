"""Adam over tensors that lie in one piece of memory, with a learning rate of its own for each adapter of a fleet.

The tensors of k adapters are views of one buffer, a line an adapter. So a step is a few operations however many tensors
there are, an adapter's gradient norm is that of its line, and adapters of one rate and length share a call.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnothi.finetune.recipes import Recipe
from gnothi.finetune.schedule import share


class Buffer:
    """The trained tensors of k adapters and their gradients.

    Attributes:
        values: (k, size); line j is adapter j.
        grads: (k, size), what `Optimiser.backward` adds to.
        tensors: Name to its view of `values`, a leaf.
    """

    def __init__(self, stacked: Mapping[str, Tensor]):
        """Copy tensors into a buffer.

        Args:
            stacked: Name to a tensor (k, …) in float32; all on one device.
        """
        flat = [t.detach().flatten(1) for t in stacked.values()]
        self.values = torch.cat(flat, 1)
        self.grads = torch.zeros_like(self.values)
        self.tensors: dict[str, Tensor] = {}
        self.grads_of: list[Tensor] = []
        start = 0
        for name, tensor in stacked.items():
            end = start + tensor[0].numel()
            self.tensors[name] = self.values[:, start:end].view(tensor.shape).requires_grad_(True)
            self.grads_of.append(self.grads[:, start:end].view(tensor.shape))
            start = end


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast one adapter learns, and for how long."""

    peak: float
    steps: int


class Optimiser:
    """PyTorch's fused Adam; weight decay 0 makes `adamw` and `adam` the same."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.buffers: list[Buffer] = []
        self.others: list[Tensor] = []
        self._frozen: dict[int, list[Tensor]] = {}
        self._groups: list[dict[str, object]] = []
        self._rates: list[Rate] = []
        self._adam: torch.optim.Optimizer | None = None

    def add(self, buffer: Buffer, rates: Sequence[Rate]) -> None:
        """Train a buffer, each line at its rate; neighbours of one rate share a call."""
        self.buffers.append(buffer)
        start = 0
        for end in range(1, len(rates) + 1):
            if end == len(rates) or rates[end] != rates[start]:
                part = buffer.values[start:end]
                part.grad = buffer.grads[start:end]
                self._group([part], rates[start])
                start = end

    def add_parameters(self, parameters: Iterable[Tensor], rate: Rate) -> None:
        """Train parameters that lie where they are."""
        found = list(parameters)
        self.others += found
        self._group(found, rate)

    def _group(self, tensors: list[Tensor], rate: Rate) -> None:
        self._groups.append({"params": tensors, "lr": rate.peak})
        self._rates.append(rate)

    @property
    def adam(self) -> torch.optim.Optimizer:
        """PyTorch's optimiser over all groups."""
        if self._adam is None:
            recipe = self.recipe
            kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
            self._adam = kind(self._groups, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True)
        return self._adam

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients to what is there; their sum is as good as one pass."""
        if self.others:
            loss.backward()
            return
        leaves = [t for buffer in self.buffers for t in buffer.tensors.values()]
        places = [g for buffer in self.buffers for g in buffer.grads_of]
        for place, grad in zip(places, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True):
            if grad is not None:
                place.add_(grad)

    def clip(self) -> None:
        """Scale down the gradient of each adapter whose norm is above the recipe's limit."""
        limit = self.recipe.clip
        if limit is None:
            return
        if self.others:
            torch.nn.utils.clip_grad_norm_(self.others, limit)
        if self.buffers:
            squares = torch.stack([b.grads.square().sum(-1) for b in self.buffers]).sum(0)  # (k,)
            factor = (limit / (squares.sqrt() + 1e-6)).clamp(max=1.0)
            for buffer in self.buffers:
                buffer.grads.mul_(factor[:, None])

    def step(self, number: int) -> None:
        """Update at step `number`, counted from 0; adapters that had all their steps stay as they are."""
        recipe = self.recipe
        for group, rate in zip(self.adam.param_groups, self._rates, strict=True):
            over = number >= rate.steps
            group["lr"] = 0.0 if over else rate.peak * share(number, rate.steps, recipe.warmup, recipe.decay)
        self.adam.step()
        for j, lines in self._frozen.items():
            for buffer, line in zip(self.buffers, lines, strict=True):
                buffer.values[j] = line
        self.forget()

    def freeze(self, j: int) -> None:
        """Keep adapter j as it is from now on."""
        self._frozen[j] = [buffer.values[j].clone() for buffer in self.buffers]

    def forget(self) -> None:
        """Set the gradients to zero."""
        for buffer in self.buffers:
            buffer.grads.zero_()
        for parameter in self.others:
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs: what is trained, and Adam's two means of each."""
        found = {f"values.{n}": b.values for n, b in enumerate(self.buffers)}
        found |= {f"parameters.{n}": p.detach() for n, p in enumerate(self.others)}
        for n, tensor in enumerate(self._trained()):
            for name, value in self.adam.state.get(tensor, {}).items():
                found[f"adam.{n}.{name}"] = value
        return found

    def restore(self, tensors: Mapping[str, Tensor], frozen: Iterable[int]) -> None:
        """Go on from what `tensors` gave, with some adapters frozen."""
        with torch.no_grad():
            for n, buffer in enumerate(self.buffers):
                buffer.values.copy_(tensors[f"values.{n}"])
            for n, parameter in enumerate(self.others):
                parameter.copy_(tensors[f"parameters.{n}"])
        for n, tensor in enumerate(self._trained()):
            names = [name for name in tensors if name.startswith(f"adam.{n}.")]
            self.adam.state[tensor] = {
                name.rsplit(".", 1)[-1]: tensors[name].to(tensor.device, copy=True) for name in names
            }
        for j in frozen:
            self.freeze(j)

    def _trained(self) -> list[Tensor]:
        return [tensor for group in self.adam.param_groups for tensor in group["params"]]
