"""Maps of sites: how much of what a fine-tune changed comes back when one site is given the other model's activations.

Every site at once by attribution (one pass forwards and back in each model), the foremost ones exactly. Within the tuned
model the same is done between items with opposite choices, at the position where the answer is read.

Source: attribution patching is the first-order term of activation patching, gradient times difference of activations.
Patching one model with another's activations on the same prompt, and the share as a slope over items, are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from gnothi.experiments.look.readout import Reader, ends_only, undone
from gnothi.mechanisms.anatomy import Anatomy, anatomy
from gnothi.mechanisms.hooks import Replace, capture, intervened
from gnothi.mechanisms.pairs import Pair
from gnothi.mechanisms.sites import Site

TOUCHED = ("embed", "resid", "attn", "mlp", "heads")
"""Kinds of sites that are read; heads are taken apart afterwards."""
INTO_TUNED, INTO_BASE = "base into tuned", "tuned into base"
WRITERS = ("attn", "mlp")
"""Kinds of sites that are compared with each other: what the blocks write."""


def taken_apart(body: Anatomy) -> list[Site]:
    """Every site of a map: those of `TOUCHED`, with each head by itself."""
    return body.sites(("embed", "resid", "attn", "head", "mlp"))


@dataclass(frozen=True, eq=False)
class Crossed:
    """What one pass through both models shows."""

    base: np.ndarray
    """(n,) readouts of the base."""
    tuned: np.ndarray
    moved: dict[tuple[Site, str], np.ndarray]
    """(site, direction) -> (n,) by how much each readout would move towards the other model, to first order."""
    moved_at_end: dict[tuple[Site, str], np.ndarray]
    """The same where activations are given at the last position alone, at which the answer is read."""
    ends: dict[str, dict[Site, np.ndarray]]
    """`base` or `tuned` -> activations at the last position, (n, d)."""
    slopes: dict[str, dict[Site, np.ndarray]]
    """The gradients of the readout there, (n, d)."""
    relative: dict[Site, float] = field(default_factory=dict)
    """Norm of the activations' difference over the norm of the base's, over all tokens."""

    @property
    def gap(self) -> np.ndarray:
        """(n,) tuned less base."""
        return self.tuned - self.base

    def share(self, site: Site, direction: str, *, at_end: bool = False) -> float | None:
        """Share of the change that this site carries."""
        return undone(self.gap, (self.moved_at_end if at_end else self.moved)[site, direction])


def crossed(pair: Pair, reader: Reader) -> Crossed:
    """Attribution of every site in both directions.

    Args:
        pair: Base and tuned.
        reader: The prompts.
    """
    body = anatomy(pair.base)
    touched = body.sites(TOUCHED)
    n = len(reader)
    found: dict[str, np.ndarray] = {"base": np.zeros(n), "tuned": np.zeros(n)}
    sites = taken_apart(body)
    moved, at_end = ({(s, d): np.zeros(n) for s in sites for d in (INTO_TUNED, INTO_BASE)} for _ in range(2))
    ends: dict[str, dict[Site, np.ndarray]] = {"base": {}, "tuned": {}}
    slopes: dict[str, dict[Site, np.ndarray]] = {"base": {}, "tuned": {}}
    squares = {s: [0.0, 0.0] for s in touched}
    for rows in reader.batches:
        seen = {name: _pass(getattr(pair, name), reader, rows, touched) for name in ("base", "tuned")}
        _, mask = reader.inputs(rows)
        for name, (values, _, _) in seen.items():
            found[name][rows] = values
        for site in touched:
            (base, base_slope), (tuned, tuned_slope) = ((seen[m][1][site], seen[m][2][site]) for m in ("base", "tuned"))
            difference = tuned - base
            if mask is not None:
                difference = difference * mask[..., None]
                base = base * mask[..., None]
            squares[site][0] += float(difference.square().sum())
            squares[site][1] += float(base.square().sum())
            parts = _parts(site, body)
            for direction, slope in ((INTO_TUNED, tuned_slope), (INTO_BASE, base_slope)):
                product = slope * difference
                over, end = (x.double().cpu().numpy() for x in (product.sum(1), product[:, -1]))  # (B, d)
                for part, columns in parts:
                    moved[part, direction][rows] = over[:, columns].sum(1)
                    at_end[part, direction][rows] = end[:, columns].sum(1)
            for name in ("base", "tuned"):
                for store, value in ((ends, seen[name][1][site]), (slopes, seen[name][2][site])):
                    end = value[:, -1].float().cpu().numpy()
                    store[name].setdefault(site, np.zeros((n, end.shape[1]), np.float32))[rows] = end
    relative = {s: float(np.sqrt(d / b)) if b > 0 else 0.0 for s, (d, b) in squares.items()}
    return Crossed(found["base"], found["tuned"], moved, at_end, ends, slopes, relative)


Seen = tuple[np.ndarray, dict[Site, Tensor], dict[Site, Tensor]]


def _pass(module: nn.Module, reader: Reader, rows: Sequence[int], touched: Sequence[Site]) -> Seen:
    """Readouts, activations and the readouts' gradients of one batch."""
    ids, mask = reader.inputs(rows)
    with ends_only(module):
        logits, kept = capture(module, ids, touched, mask, grad=True)
    with torch.enable_grad():
        values = reader.read(logits[:, -1], rows)
        slopes = torch.autograd.grad(values.sum(), [kept[s] for s in touched])
    detached = {s: kept[s].detach() for s in touched}
    return values.detach().double().cpu().numpy(), detached, dict(zip(touched, slopes, strict=True))


def _parts(site: Site, body: Anatomy) -> list[tuple[Site, slice]]:
    if site.kind != "heads":
        return [(site, slice(None))]
    width = body.head_width
    return [(Site("head", site.block, h), slice(h * width, (h + 1) * width)) for h in range(body.n_heads)]


def streams(module: nn.Module, reader: Reader, sites: Sequence[Site]) -> tuple[np.ndarray, dict[Site, np.ndarray]]:
    """Readouts of every prompt, and activations at the last position.

    Returns:
        (n,), and site -> (n, d).
    """
    body = anatomy(module)
    values = np.zeros(len(reader))
    found = {s: np.zeros((len(reader), body.size(s)), np.float32) for s in sites}
    with torch.no_grad():
        for rows in reader.batches:
            ids, mask = reader.inputs(rows)
            with ends_only(module):
                logits, kept = capture(module, ids, sites, mask)
            values[rows] = reader.read(logits[:, -1], rows).double().cpu().numpy()
            for site in sites:
                found[site][rows] = kept[site][:, -1].float().cpu().numpy()
    return values, found


def exchanged(
    pair: Pair, reader: Reader, sites: Sequence[Site], direction: str, *, at_end: bool = False
) -> dict[Site, np.ndarray]:
    """The same exactly: every readout of a model that is given the other's activations at one site.

    Args:
        pair: Base and tuned.
        reader: The prompts.
        sites: One run each.
        direction: `INTO_TUNED` or `INTO_BASE`.
        at_end: Whether at the last position alone.

    Returns:
        Site -> (n,) readouts.
    """
    source, target = (pair.base, pair.tuned) if direction == INTO_TUNED else (pair.tuned, pair.base)
    found = {s: np.zeros(len(reader)) for s in sites}
    with torch.no_grad():
        for rows in reader.batches:
            ids, mask = reader.inputs(rows)
            with ends_only(source):
                _, given = capture(source, ids, sites, mask)
            for site in sites:
                with intervened(target, [Replace(site, given[site], positions=-1 if at_end else None)]):
                    logits = reader.logits(target, rows)
                found[site][rows] = reader.read(logits, rows).double().cpu().numpy()
    return found


def between_items(
    seen: Crossed, model: str, body: Anatomy, signs: np.ndarray, pairs: Sequence[tuple[int, int]]
) -> dict[Site, float]:
    """Share of the way from one choice to the opposite one that a site carries at the answer's position, by attribution.

    Args:
        seen: A pass over the items.
        model: `base` or `tuned`.
        body: Its anatomy.
        signs: (n,) 1, or -1 where the readout is of the option shown second less that of the first.
        pairs: (clean, corrupted) items.

    Returns:
        Site -> least-squares slope over pairs of what giving the corrupted item the clean one's activations would move, on
        what lies between the two.
    """
    values = signs * (seen.tuned if model == "tuned" else seen.base)
    clean, corrupted = (np.array([p[k] for p in pairs], int) for k in (0, 1))
    way = values[clean] - values[corrupted]
    found = {}
    for site, ends in seen.ends[model].items():
        slopes = seen.slopes[model][site] * signs[:, None]
        product = slopes[corrupted] * (ends[clean] - ends[corrupted])
        for part, columns in _parts(site, body):
            found[part] = undone(way, product[:, columns].sum(1).astype(float)) or 0.0
    return found


def patched_between(
    module: nn.Module,
    reader: Reader,
    seen: Crossed,
    model: str,
    signs: np.ndarray,
    pairs: Sequence[tuple[int, int]],
    sites: Sequence[Site],
) -> dict[Site, float]:
    """The same exactly, for some sites."""
    body = anatomy(module)
    values = signs * (seen.tuned if model == "tuned" else seen.base)
    clean, corrupted = (np.array([p[k] for p in pairs], int) for k in (0, 1))
    way = values[clean] - values[corrupted]
    again = reader.some(corrupted.tolist())
    found = {}
    with torch.no_grad():
        for site in sites:
            whole = Site("heads", site.block) if site.kind == "head" else site
            columns = dict(_parts(whole, body))[site]
            given = torch.tensor(seen.ends[model][whole][clean][:, columns], device=again.device)
            now = np.zeros(len(pairs))
            for rows in again.batches:
                with intervened(module, [Replace(site, given[rows][:, None], positions=-1)]):
                    logits = again.logits(module, rows)
                now[rows] = again.read(logits, rows).double().cpu().numpy()
            found[site] = undone(way, signs[corrupted] * now - values[corrupted]) or 0.0
    return found


def foremost(shares: dict[Site, float], n: int, kinds: Sequence[str] = (*WRITERS, "head")) -> list[Site]:
    """The n sites of these kinds whose shares are largest in size."""
    chosen = [s for s in shares if s.kind in kinds]
    return sorted(chosen, key=lambda s: (-abs(shares[s]), s.block or 0, s.kind))[:n]
