"""Attribution patching: the linear estimate of activation patching, for all sites and positions from three passes.

The effect of putting clean activations c in the place of corrupted ones x is estimated as (c - x) . dm/dx, with the gradient
of the metric in the corrupted run. It is exact where the metric is linear in the activations, good where they differ
little, and poor where a softmax or a norm saturates, first of all at early sites of whole positions: check its strongest
sites with `patching.patch`.

Source: attribution patching (Nanda 2023; Syed et al., arXiv:2310.10348, equation 1). Ours may also average the gradient with
the one in the clean run, a trapezoid in place of a tangent, for one more backward pass. Neither is always better: it ranked
the organism's sites better where agents differ, and worse where options are exchanged and on prompts of Gemma 3 270M.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gnothi.errors import SpecError
from gnothi.mechanisms.anatomy import Anatomy
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.metrics import At, Metric, taken
from gnothi.mechanisms.patching import Patched, Runs
from gnothi.mechanisms.sites import Site

GRADIENTS = ("corrupted", "both")
"""Where the gradient is taken."""


def attribution_patch(
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
    gradients: str = "corrupted",
) -> Patched:
    """Estimate what `patching.patch` measures.

    Args:
        module: The model that runs.
        clean: (B, T) token ids.
        corrupted: (B, T) token ids.
        sites: Where to patch.
        metric: Of B rows; row i must depend on row i of the logits alone.
        source: The model that the clean activations are from; None for `module`.
        mask: As in `patch`.
        positions: The same.
        by_position: Whether each position is estimated alone; otherwise their sum, the estimate for all together.
        gradients: `corrupted`, or `both` for the mean with the gradient in the clean run (of `source`).

    Returns:
        The estimated effects.

    Raises:
        DataError: As for `patch`.
        ModelError: As for `patch`.
        SpecError: An unknown place for the gradient.
    """
    if gradients not in GRADIENTS:
        raise SpecError(f"gradients must be one of {', '.join(GRADIENTS)}, got {gradients!r}.")
    runs = Runs.of(module, source, clean, corrupted, mask, sites, positions)
    places = list(dict.fromkeys(_whole(site) for site in runs.sites))
    before, there, slopes = _with_slopes(runs.body, corrupted, places, metric, mask)
    if gradients == "both":
        after, kept, others = _with_slopes(runs.source, clean, places, metric, mask)
        slopes = {site: (slope + others[site]) / 2 for site, slope in slopes.items()}
    else:
        at = metric.position if isinstance(metric, At) else None
        logits, kept = capture(runs.source.module, clean, places, mask, at=at)
        after = taken(logits, metric)[0]
    effects = {}
    for site in places:
        product = (kept[site] - there[site]).float() * slopes[site].float()  # (B, T, d)
        product = product[:, list(runs.positions)]
        if site.kind == "heads":
            by_head = product.unflatten(-1, (runs.body.n_heads, -1)).sum(-1)
            effects |= {Site("head", site.block, h): by_head[..., h].T for h in range(runs.body.n_heads)}
        effects[site] = product.sum(-1).T
    found = torch.stack([effects[site] for site in runs.sites])
    return Patched(
        sites=runs.sites,
        positions=runs.positions if by_position else None,
        effects=(found if by_position else found.sum(1, keepdim=True)).cpu(),
        clean=after.float().cpu(),
        corrupted=before.float().cpu(),
    )


def _whole(site: Site) -> Site:
    """Heads of a block are taken together, which costs as much as one."""
    return Site("heads", site.block) if site.kind == "head" else site


def _with_slopes(
    body: Anatomy, ids: Tensor, sites: Sequence[Site], metric: Metric, mask: Tensor | None
) -> tuple[Tensor, dict[Site, Tensor], dict[Site, Tensor]]:
    """The metric (B,), and for each site activations and the gradient of each row's metric with them, (B, T, d)."""
    at = metric.position if isinstance(metric, At) else None
    with torch.enable_grad():
        logits, kept = capture(body.module, ids, sites, mask, at=at, grad=True)
        score = taken(logits, metric)[0]
        slopes = torch.autograd.grad(score.sum(), list(kept.values()), allow_unused=True, materialize_grads=True)
    there = {site: value.detach() for site, value in kept.items()}
    return score.detach(), there, dict(zip(kept, slopes, strict=True))
