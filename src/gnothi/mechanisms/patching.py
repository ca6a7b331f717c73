"""Activation patching: what of the clean run, put into the corrupted run at one site, brings the clean answer back.

Clean and corrupted are two inputs of one model, or the same input of two models of one shape (base and tuned), token by
token of one length. `attribution.py` has the linear estimate of the same for all sites at once.

Source: denoising of arXiv:2202.05262 (there with noise as corruption), with paired inputs instead; effects are in the
metric's unit and their share of the way from corrupted to clean is computed from means, never row by row, since a row
whose difference is near zero would decide everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnothi.errors import DataError, ModelError
from gnothi.mechanisms.anatomy import Anatomy, anatomy
from gnothi.mechanisms.hooks import Replace, capture, intervened
from gnothi.mechanisms.metrics import Metric, measured
from gnothi.mechanisms.sites import Site

TOKENS = 4096
"""Of one forward pass: as many positions are patched side by side as fit."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Patched:
    """Effects of sites and positions.

    Attributes:
        sites: Axis 0 of `effects`.
        positions: Axis 1, counted from 0; None where all positions were patched together (one column).
        effects: (sites, positions or 1, B) metric with the patch minus metric of the corrupted run; float32.
        clean: (B,) metric of the clean run.
        corrupted: (B,) metric of the corrupted run.
    """

    sites: tuple[Site, ...]
    positions: tuple[int, ...] | None
    effects: Tensor
    clean: Tensor
    corrupted: Tensor

    def share(self) -> Tensor:
        """Mean effect over mean difference of clean and corrupted: 0 for nothing, 1 for all of it; may leave [0, 1].

        Returns:
            (sites, positions or 1).

        Raises:
            DataError: Clean and corrupted do not differ on average, so there is nothing to share out.
        """
        whole = (self.clean - self.corrupted).mean()
        if not float(whole.abs()) > 1e-6 * float(self.clean.abs().mean() + self.corrupted.abs().mean()):
            raise DataError(
                f"clean and corrupted must differ in the metric's mean, got {float(self.clean.mean()):.4g} and "
                f"{float(self.corrupted.mean()):.4g}. Order each pair so that the metric is higher when clean."
            )
        return self.effects.mean(-1) / whole

    def strongest(self, n: int) -> list[tuple[Site, int | None, float]]:
        """The n largest mean effects by size, as site, position (None for all together) and effect."""
        means = self.effects.mean(-1)
        order = means.flatten().abs().argsort(descending=True)[:n]
        found = []
        for index in order.tolist():
            row, column = divmod(index, means.shape[1])
            place = None if self.positions is None else self.positions[column]
            found.append((self.sites[row], place, float(means[row, column])))
        return found


@dataclass(frozen=True, eq=False)
class Runs:
    """The two runs that are compared, checked."""

    body: Anatomy
    source: Anatomy
    clean: Tensor
    corrupted: Tensor
    mask: Tensor | None
    sites: tuple[Site, ...]
    positions: tuple[int, ...]

    @classmethod
    def of(
        cls,
        module: nn.Module,
        source: nn.Module | None,
        clean: Tensor,
        corrupted: Tensor,
        mask: Tensor | None,
        sites: Sequence[Site | str],
        positions: Sequence[int] | None,
    ) -> "Runs":
        """Check what `patch` and `attribution_patch` were given.

        Raises:
            DataError: Inputs of different shapes, or a position outside them.
            ModelError: A site that the model has not, or none; two models of different shapes.
        """
        body = anatomy(module)
        other = body if source is None else anatomy(source)
        if clean.shape != corrupted.shape or clean.dim() != 2 or (mask is not None and mask.shape != clean.shape):
            raise DataError(
                f"clean, corrupted and mask must be of one shape (rows, positions), got {tuple(clean.shape)}, "
                f"{tuple(corrupted.shape)} and {None if mask is None else tuple(mask.shape)}. "
                "Pair inputs that are equally long, token by token."
            )
        found = tuple(body.site(site) for site in sites)
        if not found:
            raise ModelError("sites must name at least one site, got none. `Anatomy.sites` lists them.")
        wrong = [str(s) for s in found if other is not body and body.size(s) != other.size(other.site(s))]
        if wrong:
            raise ModelError(f"source must have the module's shape, got another width at {wrong[0]}.")
        length = clean.shape[1]
        places = range(length) if positions is None else positions
        outside = [p for p in places if not -length <= p < length]
        if outside:
            raise DataError(f"positions must be 0 to {length - 1}, got {outside[0]}.")
        return cls(body, other, clean, corrupted, mask, found, tuple(p % length for p in places))


def patch(
    module: nn.Module,
    clean: Tensor,
    corrupted: Tensor,
    sites: Sequence[Site | str],
    metric: Metric,
    *,
    source: nn.Module | None = None,
    mask: Tensor | None = None,
    positions: Sequence[int] | None = None,
    by_position: bool = True,
    tokens: int = TOKENS,
) -> Patched:
    """Put clean activations into the corrupted run, one site after the other.

    Args:
        module: The model that runs.
        clean: (B, T) token ids.
        corrupted: (B, T) token ids; the same as `clean` where two models are compared.
        sites: Where to patch.
        metric: Of B rows; higher should mean clean.
        source: The model that the clean activations are from; None for `module`.
        mask: (B, T) of both inputs, as in `Anatomy.logits`.
        positions: Which positions; negative ones count from the end. None for all.
        by_position: Whether each position is patched alone; otherwise all of them together.
        tokens: Budget of one forward pass; it decides how many positions are patched side by side.

    Returns:
        The effects.

    Raises:
        DataError: Inputs, mask, positions or metric that do not fit.
        ModelError: A site that the model has not; a source of another shape.
    """
    runs = Runs.of(module, source, clean, corrupted, mask, sites, positions)
    rows, length = clean.shape
    each = [(p,) for p in runs.positions] if by_position else [runs.positions]
    step = max(1, tokens // (rows * length))
    effects = torch.zeros(len(runs.sites), len(each), rows)
    with torch.no_grad():
        before = measured(runs.body, corrupted, metric, mask)[0].float()
        after = measured(runs.source, clean, metric, mask)[0].float()
        for i, site in enumerate(runs.sites):
            _, kept = capture(runs.source.module, clean, [site], mask, at=0)
            for start in range(0, len(each), step):
                group = each[start : start + step]
                copies = len(group)
                chosen = torch.zeros(copies, rows, length, dtype=torch.bool, device=corrupted.device)
                for copy, places in enumerate(group):
                    chosen[copy, :, list(places)] = True
                put = Replace(site, kept[site].repeat(copies, 1, 1), positions=chosen.flatten(0, 1))
                repeated = None if mask is None else mask.repeat(copies, 1)
                with intervened(module, [put]):
                    found = measured(runs.body, corrupted.repeat(copies, 1), metric, repeated, copies)
                effects[i, start : start + copies] = (found.float() - before).cpu()
    places = runs.positions if by_position else None
    return Patched(sites=runs.sites, positions=places, effects=effects, clean=after.cpu(), corrupted=before.cpu())
