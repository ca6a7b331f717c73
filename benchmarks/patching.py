"""Attribution patching of every site and position of the organism against patching them one after the other.

Both answer which activations of the clean run, put into the corrupted one, bring its choice back. The peer is our own exact
patching, one forward pass over all pairs for each site and position; ours is the linear estimate from two forward passes
and one backward pass. The claim is a ratio of at least a sixth of the number of places, and a rank correlation (Spearman)
of at least 0.8 with the exact effects among the 50 largest of them. `max_abs_diff` is the error of the estimate, in logits.

Pairs: the same item for two known agents who choose differently, or an item and the same with both options exchanged.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.rows import in_turns, row
from benchmarks.serving import counted_flops
from gnothi._version import __version__
from gnothi.behaviours.organism import OrganismDomain, context
from gnothi.mechanisms.anatomy import Anatomy, anatomy
from gnothi.mechanisms.attribution import attribution_patch
from gnothi.mechanisms.metrics import Metric, logit_difference
from gnothi.mechanisms.patching import Patched, patch
from gnothi.models.local import LocalModel
from gnothi.models.organism import CARD, organism_folder
from gnothi.render.wordings import wording_for
from gnothi.rng import stream

PAIRS, REPEATS = 32, 2
SHOWN = 3
"""Attributes of an item."""
CASES = (("agents", True), ("agents", False), ("exchanged", False))
"""Kind of pairs, and whether positions are patched one by one or all together; the first is the headline."""
TOP = 50
LEAST = 0.8
"""Rank correlation among the largest."""


def prompts(model: LocalModel, n_items: int) -> tuple[list[Tensor], tuple[int, int]]:
    """For each item the (agents, T) token ids of the question put to every known agent; and the tokens of A and B."""
    domain, wording = OrganismDomain(n_shown=SHOWN), wording_for("organism")
    card = json.loads((organism_folder("organism") / CARD).read_text(encoding="utf-8"))
    agents = [context(known["name"]) for known in card["known_agents"]]
    items = domain.draw_items(agents[0], n_items, rng=stream(0, "benchmarks", "patching"), prefix="items")
    asked = [wording.choice(item, agent) for item in items for agent in agents]
    ids, answers = model.codec.encode_many(asked, [wording.options] * len(asked))
    return list(torch.tensor(ids).unflatten(0, (n_items, -1))), (answers[0][0][0], answers[0][1][0])


def pairs(body: Anatomy, found: list[Tensor], metric: Metric, kind: str, n: int) -> tuple[Tensor, Tensor]:
    """Clean and corrupted ids, (n, T) each: the clean one chooses A, the corrupted one B."""
    rng = stream(0, "benchmarks", "patching", kind)
    chosen: list[tuple[Tensor, Tensor]] = []
    for ids in found:
        if len(chosen) == n:
            break
        with torch.no_grad():
            prefers = metric(body.logits(ids))
        if kind == "agents":
            above, below = (prefers > 0).nonzero()[:, 0], (prefers < 0).nonzero()[:, 0]
            if len(above) and len(below):
                chosen.append((ids[rng.choice(above)], ids[rng.choice(below)]))
            continue
        first = ids[rng.integers(len(ids))]
        second = first.clone()
        second[3::3], second[4::3] = (
            first[4::3],
            first[3::3],
        )  # behind name, `choose` and each attribute: its two values
        with torch.no_grad():
            a, b = metric(body.logits(torch.stack([first, second]))).tolist()
        if a * b < 0:
            chosen.append((first, second) if a > 0 else (second, first))
    if len(chosen) < n:
        raise ValueError(f"pairs: {n} must flip the choice, got {len(chosen)} of {len(found)} items. Draw more items.")
    clean, corrupted = zip(*chosen, strict=True)
    return torch.stack(clean), torch.stack(corrupted)


def agreement(exact: Patched, estimate: Patched) -> float:
    """Spearman's rank correlation of mean effects among the largest exact ones."""
    theirs, ours = (found.effects.mean(-1).flatten().numpy() for found in (exact, estimate))
    top = np.argsort(-np.abs(theirs))[:TOP]
    return float(spearmanr(theirs[top], ours[top]).statistic)  # type: ignore[attr-defined]


def run(n: int = PAIRS, repeats: int = REPEATS, cases: Sequence[tuple[str, bool]] = CASES) -> list[dict[str, Any]]:
    """One row a case."""
    torch.set_num_threads(1)
    model = LocalModel.load(organism_folder("organism"), name="organism")
    module = model.module
    body, sites = anatomy(module), anatomy(module).sites()
    asked, (right, wrong) = prompts(model, 3 * n)
    metric = logit_difference(right, wrong, -1)
    rows = []
    for kind, by_position in cases:
        clean, corrupted = pairs(body, asked, metric, kind, n)
        given = (module, clean, corrupted, sites, metric)
        kept: dict[str, Patched] = {}

        def estimate(given: tuple = given, by: bool = by_position, kept: dict[str, Patched] = kept) -> None:
            kept["ours"] = attribution_patch(*given, by_position=by)

        def exact(given: tuple = given, by: bool = by_position, kept: dict[str, Patched] = kept) -> None:
            kept["peer"] = patch(*given, by_position=by, tokens=1)

        with torch.no_grad():
            _, forward = counted_flops(lambda ids=clean: body.logits(ids, at=-1))
        ours, peer = in_turns(repeats, estimate, exact)
        places = kept["ours"].effects[..., 0].numel()
        rank = agreement(kept["peer"], kept["ours"])
        what = "sites and positions" if by_position else "sites, all positions together"
        rows.append(
            row(
                f"patching/organism, {kind}, {places} {what}",
                amount=places,
                unit="places/s",
                ours=ours,
                peer=peer,
                peer_name="our exact patching, one place a forward pass",
                peer_version=__version__,
                max_abs_diff=float((kept["ours"].effects.mean(-1) - kept["peer"].effects.mean(-1)).abs().max()),
                # parameters get no gradient, so a backward pass has as many products as a forward pass
                flops={"ours": 3 * forward, "peer": (places + 2) * forward},
                headline=(kind, by_position) == CASES[0],
                note=f"needs {places / 6:.0f}; Spearman {rank:.2f} (needs {LEAST}) among the largest {min(TOP, places)}; "
                f"{n} pairs of {clean.shape[1]} tokens",
                n_sites=places,
                needed_ratio=places / 6,
                spearman_top=rank,
                n_pairs=n,
            )
        )
    return rows
