"""Where a change of behaviour was made: three methods that each name one part of the model, or nothing.

All three ask of every part (`localise_parts`) by how much its change moves a metric of the behaviour on inputs that are
known to show it, and hold that against how much the same part moves *control* metrics: numbers of the same kind that the
behaviour is not about, such as the same question with other answers. A neutral fine-tune moves all of them alike; a part
that carries the behaviour moves the metric far more than its controls.

- `by_update` (diffing): the update of each part times the gradient of the metric halfway between base and tuned.
- `by_reversal` (pruning): each part alone put back to its values in base, and each alone given its values in tuned.
- `by_patching`: base's activations put into tuned, and tuned's into base, part by part along the residual stream.

`score` is a part's effect over the root mean square of its control effects, a z-score. Something is named if the largest
reaches `localise_naming.LEAST`: the smallest part of that block that has nearly all of the block's effect. Parts have
scales of their own, so a head is found under the noise of its block. Controls must be exchangeable with the metric where
nothing was planted; that is the caller's part, as only the caller knows what the behaviour is about. Where changes are
small the three agree closely, as they then estimate one thing in three ways; they part where a change is large.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gnothi.errors import DataError
from gnothi.mechanisms.anatomy import Anatomy, anatomy
from gnothi.mechanisms.hooks import AbstractIntervention, Add, Replace, capture, intervened
from gnothi.mechanisms.localise_naming import Localised, named
from gnothi.mechanisms.localise_parts import Part, parts_of, put_back, slices_of
from gnothi.mechanisms.metrics import At, Metric, taken
from gnothi.mechanisms.pairs import Pair, differences, interpolated
from gnothi.mechanisms.sites import Site

FEWEST_CONTROLS = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class Behaviour:
    """What changed, as far as it is known."""

    ids: Tensor
    """(B, T) inputs that show it."""
    metric: Metric
    """Higher where the tuned model should have more of it."""
    controls: Sequence[Metric]
    """Metrics of the same kind that it is not about; at least 8, more make the scale surer."""
    mask: Tensor | None = None
    """As in `Anatomy.logits`."""

    def __post_init__(self) -> None:
        if len(self.controls) < FEWEST_CONTROLS:
            raise DataError(
                f"Behaviour.controls must be at least {FEWEST_CONTROLS} metrics, got {len(self.controls)}. "
                "Ask for other answers to the same questions."
            )


def by_update(pair: Pair, behaviour: Behaviour) -> Localised:
    """Diffing: the update times the metric's gradient, summed over each part.

    Args:
        pair: Base and tuned.
        behaviour: What is asked about; one backward pass for it, and one for each control.

    Returns:
        What is named, with all parts' effects as the gradient halfway between base and tuned has them: what they add up
        to is the shift up to terms of third order in the update.

    Raises:
        DataError: A metric that gives no number a row, or no finite one.
    """
    parts = parts_of(anatomy(pair.base))
    with interpolated(pair, 0.5) as halfway:
        effects = _along(anatomy(halfway), differences(pair), parts, behaviour)
    return named("update", parts, effects, n=len(behaviour.ids), shift=_shift(pair, behaviour))


def _along(body: Anatomy, delta: dict[str, Tensor], parts: Sequence[Part], behaviour: Behaviour) -> np.ndarray:
    """(parts, 1 + controls) gradients of a model that is thrown away afterwards, times the update."""
    pieces = [[s for s in slices_of(body, part) if s.parameter in delta] for part in parts]
    moving = [(name, p) for name, p in body.module.named_parameters() if name in delta]
    effects = np.zeros((len(parts), 1 + len(behaviour.controls)))
    for _, p in moving:
        p.requires_grad_(True)
    with torch.enable_grad():
        found = _means(body, behaviour)
    for k, value in enumerate(found):
        gradients = torch.autograd.grad(value, [p for _, p in moving], retain_graph=True, allow_unused=True)
        along = {name: g.float() * delta[name] for (name, _), g in zip(moving, gradients, strict=True) if g is not None}
        for row, group in enumerate(pieces):
            effects[row, k] = sum(float(s.of(along[s.parameter]).sum()) for s in group if s.parameter in along)
    return effects


def by_reversal(pair: Pair, behaviour: Behaviour) -> Localised:
    """Pruning: what a part's change does to the metric, when it alone is taken back or alone is made.

    The effect is the mean of two: by how much the metric falls when the part in tuned gets base's values, and by how much
    it rises when the part in base gets tuned's. Either alone is off to one side, since a part in the other model's company
    works less well than in its own, whichever change was made.

    Args:
        pair: Base and tuned, both as before afterwards.
        behaviour: What is asked about.

    Returns:
        What is named, with all parts' effects.

    Raises:
        DataError: A metric that gives no number a row, or no finite one.
    """
    return _both_ways("reversal", pair, behaviour, _exchanged)


Effects = Callable[[nn.Module, nn.Module, Sequence[Part], Behaviour], np.ndarray]
"""(module, the other, parts, behaviour) -> (parts, 1 + controls) what goes from the module's metrics."""


def _both_ways(method: str, pair: Pair, behaviour: Behaviour, effects_of: Effects) -> Localised:
    """Half of what goes from tuned with base's parts, less what goes from base with tuned's."""
    parts = parts_of(anatomy(pair.tuned))
    with torch.no_grad():
        taken = effects_of(pair.tuned, pair.base, parts, behaviour)
        made = effects_of(pair.base, pair.tuned, parts, behaviour)
    return named(method, parts, (taken - made) / 2, n=len(behaviour.ids), shift=_shift(pair, behaviour))


def _exchanged(module: nn.Module, source: nn.Module, parts: Sequence[Part], behaviour: Behaviour) -> np.ndarray:
    """(parts, 1 + controls) what goes from the metrics when a part gets another model's values."""
    body = anatomy(module)
    whole, rows = _measured(body, behaviour), []
    for part in parts:
        with put_back(module, source, slices_of(body, part)):
            rows.append(whole - _measured(body, behaviour))
    return np.stack(rows)


def by_patching(pair: Pair, behaviour: Behaviour) -> Localised:
    """Patching: where along the stream the other model's activations bring the other model's metric.

    With base's stream put into tuned before block L, only changes from L on act. What one more block of base's stream
    takes away is the effect of that block; base's attention output put in as well divides it into halves, and base's write
    of one head in the place of tuned's gives the head. The same is done with tuned's stream in base, and the effect is the
    mean of both, as in `by_reversal`. Effects of ends and blocks add up to the whole shift.

    Args:
        pair: Base and tuned.
        behaviour: What is asked about.

    Returns:
        What is named, with all parts' effects.

    Raises:
        DataError: A metric that gives no number a row, or no finite one.
    """
    return _both_ways("patching", pair, behaviour, _patched)


def _patched(module: nn.Module, other: nn.Module, parts: Sequence[Part], behaviour: Behaviour) -> np.ndarray:
    """(parts, 1 + controls) what goes from a model's metrics with another's activations, part by part."""
    body, source = anatomy(module), anatomy(other)
    n = body.n_blocks
    streams = [Site("resid", i) for i in range(n + 1)]
    writes, joined = [Site("attn", i) for i in range(n)], [Site("heads", i) for i in range(n)]
    _, theirs = capture(source.module, behaviour.ids, [*streams, *writes, *joined], behaviour.mask)

    def ran(*interventions: AbstractIntervention) -> np.ndarray:
        with intervened(body.module, interventions):
            return _measured(body, behaviour)

    after = [ran(Replace(site, theirs[site])) for site in streams]
    effects = {"embed": _measured(body, behaviour) - after[0], "unembed": after[n] - _measured(source, behaviour)}
    for i in range(n):
        here = Replace(streams[i], theirs[streams[i]])
        halfway = ran(here, Replace(writes[i], theirs[writes[i]]))
        effects[f"block.{i}"] = after[i] - after[i + 1]
        effects[f"block.{i}.attn.out"] = after[i] - halfway
        effects[f"block.{i}.mlp.out"] = halfway - after[i + 1]
        with intervened(body.module, [here]):
            _, own = capture(body.module, behaviour.ids, [joined[i]], behaviour.mask)
        for h in range(body.n_heads):
            change = _write(source, i, h, theirs[joined[i]]) - _write(body, i, h, own[joined[i]])
            effects[f"block.{i}.attn.head.{h}.out"] = after[i] - ran(here, Add(writes[i], change))
    return np.stack([effects[part.name] for part in parts])


def _shift(pair: Pair, behaviour: Behaviour) -> float:
    with torch.no_grad():
        return float(_measured(anatomy(pair.tuned), behaviour)[0] - _measured(anatomy(pair.base), behaviour)[0])


METHODS: dict[str, Callable[[Pair, Behaviour], Localised]] = {
    "update": by_update,
    "reversal": by_reversal,
    "patching": by_patching,
}
"""Method to function, in the order of their cost."""


def localise(pair: Pair, behaviour: Behaviour) -> dict[str, Localised]:
    """Ask all three methods; each answers for itself."""
    return {name: method(pair, behaviour) for name, method in METHODS.items()}


def _means(body: Anatomy, behaviour: Behaviour) -> list[Tensor]:
    """Means over inputs: the metric's, then each control's."""
    metrics = (behaviour.metric, *behaviour.controls)
    at = metrics[0].position if isinstance(metrics[0], At) else None
    if at is not None and all(isinstance(m, At) and m.position is at for m in metrics):
        logits = body.logits(behaviour.ids, behaviour.mask, at)  # the head at one position only
        return [taken(logits, metric)[0].float().mean() for metric in metrics]
    logits = body.logits(behaviour.ids, behaviour.mask)
    return [metric(logits).float().mean() for metric in metrics]


def _measured(body: Anatomy, behaviour: Behaviour) -> np.ndarray:
    return torch.stack(_means(body, behaviour)).double().cpu().numpy()


def _write(body: Anatomy, i: int, h: int, z: Tensor) -> Tensor:
    """What a head writes: (B, T, heads x head width) to (B, T, width)."""
    part, alone = slice(h * body.head_width, (h + 1) * body.head_width), torch.zeros_like(z)
    alone[..., part] = z[..., part]
    o = body.block(i).o
    return o(alone) - o(torch.zeros_like(z[:1, :1]))
