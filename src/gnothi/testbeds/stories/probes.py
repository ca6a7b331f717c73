"""Which features of a story a model's activations hold, by depth.

A story is read alone, without its instruction, and the mean over its last ten tokens is probed, as in the paper. A probe of
a model that never saw the feature, and of one of random values, may read it as well: most of it is in the words.

Source: arXiv:2311.12786, section 6 and its code (ten last positions, all blocks); it reports accuracy, where the share of
stories without a Twist is 85%. Ours is balanced accuracy, with the controls of `mechanisms.probing`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer
from torch import Tensor

from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.probing import probe, reinitialised
from gnothi.testbeds.stories.records import Record
from gnothi.testbeds.stories.tokens import PAD_ID, stories_alone
from gnothi.testbeds.transformer import Transformer

LAST = 10
"""Positions at a story's end that are averaged."""


def activations(
    model: Transformer, tokenizer: Tokenizer, stories: Sequence[str], *, batch: int = 128
) -> dict[str, Tensor]:
    """Mean residual stream over the last positions of each story.

    Args:
        model: Read as it is.
        tokenizer: Its tokenizer.
        stories: Without instructions; what does not fit the model's positions is cut off at the front.
        batch: Stories at once.

    Returns:
        Site -> (n, width), before each block and after the last.
    """
    rows = [ids[-model.shape.longest :] for ids in stories_alone(tokenizer, stories)]
    sites = anatomy(model).sites(("resid",))
    order = np.argsort([len(row) for row in rows], kind="stable")
    found: dict[str, list[Tensor]] = {str(site): [] for site in sites}
    device = model.embed.weight.device
    for start in range(0, len(order), batch):
        part = [rows[i] for i in order[start : start + batch]]
        lengths = torch.tensor([len(row) for row in part], device=device)
        ids = torch.full((len(part), int(lengths.max())), PAD_ID, device=device)
        for i, row in enumerate(part):
            ids[i, : len(row)] = torch.tensor(row)
        _, streams = capture(model, ids, sites)  # causal, so that padding on the right changes nothing before it
        at = torch.arange(ids.shape[1], device=device)
        used = ((at < lengths[:, None]) & (at >= lengths[:, None] - LAST)).float()[..., None]
        for site in sites:
            found[str(site)].append(((streams[site] * used).sum(1) / used.sum(1)).cpu())
    back = torch.from_numpy(np.argsort(order, kind="stable"))
    return {site: torch.cat(parts)[back] for site, parts in found.items()}


def probe_rows(
    model: Transformer,
    tokenizer: Tokenizer,
    train: Sequence[Record],
    test: Sequence[Record],
    features: Sequence[str],
    *,
    seed: int,
    random: bool = False,
) -> pd.DataFrame:
    """A probe for each feature at each depth.

    Args:
        model: Whose activations.
        tokenizer: Its tokenizer.
        train: What probes are fitted on.
        test: Other stories.
        features: Of `lexicon.FEATURES`; one that all or none of the stories have is left out.
        seed: Of permutations and of the random model.
        random: Whether a model of random values is probed beside.

    Returns:
        One row a feature and site: `mechanisms.probing.Probed.row` and `feature`, `depth` (0 before the first block).
    """
    read = [activations(model, tokenizer, [r.story for r in part]) for part in (train, test)]
    other = None
    if random:
        fresh = reinitialised(model, seed)
        assert isinstance(fresh, Transformer)
        other = [activations(fresh, tokenizer, [r.story for r in part]) for part in (train, test)]
    rows: list[dict[str, Any]] = []
    for feature in features:
        labels = [torch.tensor([int(r.has(feature)) for r in part]) for part in (train, test)]
        if any(len(part.unique()) < 2 for part in labels):
            continue
        for depth, site in enumerate(read[0]):
            found = probe(
                read[0][site],
                labels[0],
                read[1][site],
                labels[1],
                classes=2,
                seed=seed,
                site=site,
                random_train_x=None if other is None else other[0][site],
                random_test_x=None if other is None else other[1][site],
                shuffles=1,
            )
            rows.append({"feature": feature, "depth": depth, **found.row()})
    return pd.DataFrame(rows)
