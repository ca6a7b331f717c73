"""Two models of one shape, base and tuned, and the line between them.

A pair shares whatever memory it can: the tuned model of an adapter has matrices of its own only where the adapter changed
something. Both are ordinary modules, so that hooks, gradients and pruning work on either, and on or off is a choice of
module.
"""

import contextlib
import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError
from gnothi.models.adapters import Adapter, embedding
from gnothi.models.local import LocalModel


@dataclass(frozen=True, eq=False)
class Pair:
    """A model before and after fine-tuning."""

    base: nn.Module
    tuned: nn.Module

    def __post_init__(self) -> None:
        if self.base is self.tuned:
            raise ModelError(
                "Pair must have two modules, got one twice. Use Pair.of_adapter for a model with an adapter."
            )
        ours, theirs = ({n: tuple(p.shape) for n, p in m.named_parameters()} for m in (self.base, self.tuned))
        wrong = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
        if wrong:
            one = wrong[0]
            raise ModelError(
                f"Pair must have two modules of one shape, got {len(wrong)} parameters that differ, e.g. {one}: "
                f"{ours.get(one)} in base and {theirs.get(one)} in tuned."
            )

    @classmethod
    def of_adapter(cls, model: LocalModel, adapter: Adapter) -> "Pair":
        """The model without an adapter, and with this one merged into its matrices.

        Merging rounds once more than an adapter beside its matrix; in lower types than float32 a small change can be lost,
        so load the model in float32.

        Args:
            model: Any view of the base model; it is left as it is.
            adapter: Its adapter.

        Raises:
            ModelError: An adapter that does not fit, or a model whose matrices are not plain (quantised).
        """
        with model.bare() as module:
            adapter.check(module, model.base_digest)
            base = twin(module)
            changed = _merged(module, adapter)
            tuned = twin(module, changed)
        return cls(base, tuned)

    def swapped(self) -> "Pair":
        """The same pair the other way round."""
        return Pair(self.tuned, self.base)


def twin(module: nn.Module, changed: dict[str, Tensor] | None = None) -> nn.Module:
    """A module of the same structure that shares the values of every parameter which is not changed.

    Args:
        module: Without adapters or hooks on it.
        changed: Parameter name to its values; they are taken as they are.

    Returns:
        The new module, with parameters of its own: exchanging `.data` or training with copies leaves the first alone.
    """
    memo: dict[int, nn.Parameter] = {}
    for name, parameter in module.named_parameters():
        value = (changed or {}).get(name, parameter.data)
        memo[id(parameter)] = nn.Parameter(value, requires_grad=parameter.requires_grad)
    return copy.deepcopy(module, memo)  # type: ignore[arg-type]


def _merged(module: nn.Module, adapter: Adapter) -> dict[str, Tensor]:
    """The parameters that an adapter changes, by name, with the change in them."""
    parameters = dict(module.named_parameters())
    found = {name: value.to(parameters[name]) for name, value in adapter.full.items()}
    with torch.no_grad():
        for name, (a, b) in adapter.lora.items():
            key = f"{name}.weight"
            weight = parameters[key]
            if not weight.is_floating_point() or weight.shape != (b.shape[0], a.shape[1]):
                raise ModelError(
                    f"{key} must be a plain matrix, got {weight.dtype} {tuple(weight.shape)}. Do not quantise."
                )
            delta = adapter.spec.scale * (b.float() @ a.float())
            found[key] = (found.get(key, weight).float() + delta.to(weight.device)).to(weight.dtype)
        if adapter.rows is not None:
            table = embedding(module).weight
            key = next(name for name, parameter in parameters.items() if parameter is table)
            rows = found.get(key, table).detach().clone()
            rows[list(adapter.spec.row_token_ids)] = adapter.rows.to(rows)
            found[key] = rows
    return found


def differences(pair: Pair) -> dict[str, Tensor]:
    """What fine-tuning added to each parameter.

    Returns:
        Parameter name to tuned minus base, float32, in the module's order. Parameters that are equal are left out, and a
        tied one stands there once.
    """
    tuned = dict(pair.tuned.named_parameters())
    found = {}
    with torch.no_grad():
        for name, before in pair.base.named_parameters():
            after = tuned[name]
            if after.data_ptr() != before.data_ptr() and not torch.equal(after, before.to(after.device)):
                found[name] = after.float() - before.float().to(after.device)
    return found


@contextlib.contextmanager
def interpolated(pair: Pair, t: float, names: Collection[str] | None = None) -> Iterator[nn.Module]:
    """A model on the line base + t (tuned - base), for the length of a `with` block.

    Args:
        pair: The two ends, which stay as they are.
        t: 0 is exactly base and 1 exactly tuned; any other real number is allowed.
        names: Parameters that move, as in `differences`; the others stay at base. None for all.

    Yields:
        A module that shares what it can with base; for reading only.

    Raises:
        ModelError: A name that is no parameter's.
    """
    ends = dict(pair.base.named_parameters()), dict(pair.tuned.named_parameters())
    wrong = sorted(set(names or ()) - ends[0].keys())
    if wrong:
        raise ModelError(f"interpolated must move parameters of the pair, got {wrong[0]!r}.")
    changed = {}
    with torch.no_grad():
        for name, before in ends[0].items():
            after = ends[1][name]
            if (names is None or name in names) and after.data_ptr() != before.data_ptr():
                changed[name] = torch.lerp(before, after.to(before), t)
    yield twin(pair.base, changed)
