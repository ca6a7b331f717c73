"""Directions of the residual stream that move a behaviour when they are added, with what any direction would do beside them.

A direction is a mean difference (of contrasting prompts, or of tuned and base on the same ones) or is learned. Its effect
is shown over doses, next to random directions of the same length and to mean differences of shuffled prompts: a large
vector anywhere in the stream moves most metrics somewhere.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from gnothi.errors import DataError
from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.hooks import Add, Positions, capture, intervened
from gnothi.mechanisms.metrics import Metric, measured
from gnothi.mechanisms.pairs import Pair
from gnothi.mechanisms.sites import Site
from gnothi.rng import integer

CONTROLS = 5
"""Random and shuffled directions beside one that is tested."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Direction:
    """A vector for a site."""

    site: Site
    vector: Tensor
    """(d,), float32; a dose of 1 adds it as it is."""
    source: str
    """`contrast`, `tuned`, `learned`, `random` or `shuffled`."""
    n: int
    """Prompts behind it, both sides together; of the direction that it is a control of, for a random one."""
    curve: tuple[float, ...] = ()
    """Mean metric at each step of learning it."""

    @property
    def norm(self) -> float:
        """Length."""
        return float(self.vector.norm())


def contrast_direction(
    module: nn.Module,
    more: Tensor,
    less: Tensor,
    site: Site | str,
    *,
    at: int | Tensor | None = -1,
    masks: tuple[Tensor | None, Tensor | None] = (None, None),
) -> Direction:
    """Mean activation on prompts that show something minus the mean on prompts that don't.

    Args:
        module: A model that `anatomy` can read.
        more: (B, T) prompts that show it.
        less: (B', T') prompts that don't.
        site: Where.
        at: Position that is read: one for all prompts; a tensor (B + B',) of one a prompt, `more` first; None for the mean
            over a prompt's tokens.
        masks: (B, T) and (B', T') True at tokens; None where there is no padding. Negative positions count from the end of
            the sequence, padding included.

    Raises:
        DataError: No prompts on one side, or positions that do not fit.
        ModelError: A site that the model has not.
    """
    sides = _both(module, more, less, site, at, masks)
    vector = sides[0].mean(0) - sides[1].mean(0)
    return Direction(site=Site.parse(site), vector=vector, source="contrast", n=len(more) + len(less))


def shuffled_directions(
    module: nn.Module,
    more: Tensor,
    less: Tensor,
    site: Site | str,
    *,
    at: int | Tensor | None = -1,
    masks: tuple[Tensor | None, Tensor | None] = (None, None),
    n: int = CONTROLS,
    seed: int,
    norm: float | None = None,
) -> list[Direction]:
    """Mean differences as in `contrast_direction` after the prompts were dealt to both sides anew.

    Args:
        module: As there, and so on.
        more: Prompts.
        less: Prompts.
        site: Where.
        at: Position.
        masks: Of both.
        n: How many.
        seed: Of the dealing.
        norm: Length that they are brought to, since shuffled means differ little; None leaves them as they are.

    Raises:
        DataError: As there.
        ModelError: As there.
    """
    found = torch.cat(_both(module, more, less, site, at, masks))
    draws = torch.Generator().manual_seed(integer(seed, "steering", "shuffled"))
    directions = []
    for _ in range(n):
        order = torch.randperm(len(found), generator=draws).to(found.device)
        vector = found[order[: len(more)]].mean(0) - found[order[len(more) :]].mean(0)
        if norm is not None:
            vector = vector * norm / vector.norm().clamp(min=1e-30)
        directions.append(Direction(site=Site.parse(site), vector=vector, source="shuffled", n=len(found)))
    return directions


def tuned_direction(
    pair: Pair, ids: Tensor, site: Site | str, *, at: int | Tensor | None = -1, mask: Tensor | None = None
) -> Direction:
    """Mean activation of tuned minus that of base on the same prompts.

    Args:
        pair: Base and tuned.
        ids: (B, T) prompts.
        site: Where.
        at: As in `contrast_direction`.
        mask: (B, T) True at tokens.

    Raises:
        DataError: No prompts, or positions that do not fit.
        ModelError: A site that the model has not.
    """
    tuned, base = (_read(module, ids, site, at, mask) for module in (pair.tuned, pair.base))
    return Direction(site=Site.parse(site), vector=(tuned - base).mean(0), source="tuned", n=len(ids))


def random_directions(like: Direction, *, n: int = CONTROLS, seed: int) -> list[Direction]:
    """Directions drawn evenly from the sphere, as long as a given one."""
    draws = torch.Generator().manual_seed(integer(seed, "steering", "random", str(like.site)))
    drawn = torch.randn(n, len(like.vector), generator=draws)
    vectors = (drawn / drawn.norm(dim=1, keepdim=True) * like.norm).to(like.vector.device)
    return [replace(like, vector=vector, source="random", curve=()) for vector in vectors]


def learned_direction(
    module: nn.Module,
    ids: Tensor,
    metric: Metric,
    site: Site | str,
    *,
    norm: float,
    steps: int = 60,
    mask: Tensor | None = None,
    positions: Positions = None,
) -> Direction:
    """The vector of limited length that raises a metric most when it is added.

    Projected gradient ascent from zero with steps that shrink from a quarter of the limit. Show its effect on other
    inputs than these: with as many values as a stream has, some vector raises anything here.

    Args:
        module: A model that `anatomy` can read; its parameters stay as they are.
        ids: (B, T) prompts.
        metric: To be raised, in the mean over prompts.
        site: Where.
        norm: Longest vector.
        steps: Gradient steps.
        mask: (B, T) True at tokens.
        positions: Where the vector is added, as for an intervention.

    Raises:
        DataError: A limit or a number of steps that is not positive, or a metric without a gradient at the site.
        ModelError: A site that the model has not.
    """
    if norm <= 0 or steps < 1:
        raise DataError(f"learned_direction must have norm > 0 and steps >= 1, got {norm} and {steps}.")
    body = anatomy(module)
    place = body.site(site)
    vector = torch.zeros(body.size(place), device=body.device, requires_grad=True)
    best, curve = (float("-inf"), vector.detach().clone()), []
    for step in range(steps + 1):
        with torch.enable_grad(), intervened(module, [Add(place, vector, positions=positions)]):
            value = measured(body, ids, metric, mask)[0].float().mean()
            (slope,) = torch.autograd.grad(value, vector)
        curve.append(float(value.detach()))
        if curve[-1] > best[0]:
            best = curve[-1], vector.detach().clone()
        length = float(slope.norm())
        if not length > 0:  # also NaN
            raise DataError(
                f"metric must have a gradient at {place}, got {length}. Choose a site before what it reads."
            )
        with torch.no_grad():
            vector += norm / 4 * (1 - step / (steps + 1)) * slope / length
            vector *= min(1.0, norm / float(vector.norm()))
    return Direction(site=place, vector=best[1], source="learned", n=len(ids), curve=tuple(curve))


@contextlib.contextmanager
def steered(module: nn.Module, direction: Direction, dose: float, positions: Positions = None) -> Iterator[nn.Module]:
    """The model with a direction added, for the length of a `with` block.

    Args:
        module: A model that `anatomy` can read.
        direction: What is added.
        dose: How often; negative to go against it.
        positions: Where; None for all positions.
    """
    with intervened(module, [Add(direction.site, dose * direction.vector, positions=positions)]):
        yield module


def dose_response(
    module: nn.Module,
    direction: Direction,
    doses: Sequence[float],
    metrics: Mapping[str, Metric],
    ids: Tensor,
    *,
    mask: Tensor | None = None,
    positions: Positions = None,
    controls: Sequence[Direction] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """What a direction does to some metrics over doses, with its controls.

    Args:
        module: A model that `anatomy` can read.
        direction: What is tested.
        doses: How often it is added.
        metrics: By name; beside the one that should move, one that should not (say, loss on other text) shows the price.
        ids: (B, T) prompts, other ones than the direction was made from.
        mask: (B, T) True at tokens.
        positions: Where it is added.
        controls: More directions, such as `shuffled_directions`; random ones of the same length are always added.
        seed: Of the random ones.

    Returns:
        `source`, `draw` (which of that source), `norm`, `dose`, `metric`, `value` (mean over prompts), `change` (from dose
        0), `n` prompts.

    Raises:
        DataError: No metrics or doses, or a metric that gives no number a prompt.
    """
    if not doses or not metrics:
        raise DataError(f"dose_response must have doses and metrics, got {len(doses)} and {len(metrics)}.")
    body, rows, counted = anatomy(module), [], dict[str, int]()
    with torch.no_grad():
        still = {name: float(measured(body, ids, m, mask)[0].float().mean()) for name, m in metrics.items()}
        for one in (direction, *random_directions(direction, seed=seed), *controls):
            draw = counted[one.source] = counted.get(one.source, -1) + 1
            for dose in doses:
                with steered(module, one, dose, positions):
                    for name, metric in metrics.items():
                        value = float(measured(body, ids, metric, mask)[0].float().mean())
                        told = {"source": one.source, "draw": draw, "norm": one.norm, "dose": float(dose)}
                        change = value - still[name]
                        rows.append({**told, "metric": name, "value": value, "change": change, "n": len(ids)})
    return pd.DataFrame(rows)


def _both(
    module: nn.Module,
    more: Tensor,
    less: Tensor,
    site: Site | str,
    at: int | Tensor | None,
    masks: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor]:
    places = (at[: len(more)], at[len(more) :]) if isinstance(at, Tensor) else (at, at)
    first = _read(module, more, site, places[0], masks[0])
    return first, _read(module, less, site, places[1], masks[1])


def _read(module: nn.Module, ids: Tensor, site: Site | str, at: int | Tensor | None, mask: Tensor | None) -> Tensor:
    """(B, d) activations at a position of each prompt, or means over its tokens."""
    if not len(ids) or (isinstance(at, Tensor) and at.shape != (len(ids),)):
        told = tuple(at.shape) if isinstance(at, Tensor) else at
        raise DataError(
            f"a direction must have prompts on each side and one position a prompt, got {len(ids)} and {told}."
        )
    _, kept = capture(module, ids, [site], mask, at=0)
    values = next(iter(kept.values())).float()
    if at is None:
        seen = torch.ones_like(ids, dtype=torch.float32) if mask is None else mask.float()
        return (values * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)
    return values[torch.arange(len(ids), device=ids.device), at]
