"""Sampling from a local model: each prompt is read once, and samples that agree so far are one row.

All samples that have drawn the same tokens share one forward pass and one distribution, and each picks its next token
with a uniform number of its own (`local_walk`). A hundred answers of two tokens cost as many rows as there are different
ones.

Sample i of prompt j depends on (seed, j, i) alone: its numbers come from a stream of its own, and a token is the inverse
of the distribution function at such a number, over tokens in a fixed order (`local_picks`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from gnothi.errors import DataError
from gnothi.models.base import Answer, Sampling
from gnothi.models.local_memory import largest_pass
from gnothi.models.local_text import Codec
from gnothi.models.local_walk import Root, Use, Walk
from gnothi.rng import stream

PAD_SHARE = 0.25
"""Largest share of padding among the tokens of prompts that are read together and of their answers."""

PAD_RATIO = 2.0
"""Longest prompt over shortest, at most: every row of a short one drags its padding along."""


def sample(
    module: nn.Module,
    codec: Codec,
    prompt_ids: Sequence[Sequence[int]],
    sampling: Sampling,
    device: torch.device,
    *,
    owners: Sequence[int] | None = None,
    use: Use | None = None,
) -> list[list[Answer]]:
    """Draw answers.

    Args:
        module: A transformers causal language model.
        codec: Its tokenizer, for text and for what ends an answer.
        prompt_ids: (n_prompts,) token ids of each prompt.
        sampling: How to sample.
        device: Where the module lies.
        owners: (n_prompts,) adapter of each prompt, where the module has several; all 0 if left out. Prompts are
            numbered within their owner, so that each owner's answers are those that it gives alone.
        use: Called before each forward pass with the (row,) owner of each row.

    Returns:
        For each prompt its `sampling.n` answers.

    Raises:
        DataError: A sampling that cannot be.
        ModelError: Memory does not suffice for one row, or logits that are no numbers.
    """
    check(sampling)
    own = [0] * len(prompt_ids) if owners is None else list(owners)
    repeats = sampling.n if sampling.temperature > 0 else 1  # greedy answers are all the same
    roots: dict[tuple[int, tuple[int, ...]], Root] = {}
    counts: dict[int, int] = {}
    numbers = []
    for j, (owner, ids) in enumerate(zip(own, prompt_ids, strict=True)):
        root = roots.setdefault((owner, tuple(ids)), Root(owner, tuple(ids)))
        root.samples += [(j, i) for i in range(repeats)]
        numbers.append(counts.get(owner, 0))
        counts[owner] = numbers[-1] + 1
    walk = Walk(module, codec, sampling, device, use)
    answers: dict[tuple[int, int], Answer] = {}
    with torch.inference_mode():
        for batch in _batches(list(roots.values()), walk.width, largest_pass(module), sampling.max_tokens):
            names = [name for root in batch for name in root.samples]
            uniform = None
            if sampling.temperature > 0:
                draws = (stream(sampling.seed, "sample", numbers[j], i).random(sampling.max_tokens) for j, i in names)
                uniform = np.stack(list(draws))
            answers.update(zip(names, walk.run(batch, uniform), strict=True))
    return [[answers[j, i % repeats] for i in range(sampling.n)] for j in range(len(prompt_ids))]


def check(sampling: Sampling) -> None:
    """Refuse what cannot be sampled.

    Raises:
        DataError: Naming what is out of range.
    """
    if sampling.n < 1 or sampling.max_tokens < 1 or sampling.temperature < 0 or not 0 < sampling.top_p <= 1:
        raise DataError(
            "Sampling must have n >= 1, max_tokens >= 1, temperature >= 0 and top_p in (0, 1], got "
            f"{sampling.n}, {sampling.max_tokens}, {sampling.temperature} and {sampling.top_p}."
        )


def _batches(roots: list[Root], width: int, tokens: int, most: int) -> Iterator[list[Root]]:
    """Prompts to be read together: alike in length, with no more samples than rows, unless it is one prompt alone."""
    batch: list[Root] = []
    n = total = 0
    for root in sorted(roots, key=lambda r: len(r.ids)):
        length = len(root.ids)
        whole = (len(batch) + 1) * length  # in order of length, so the newest is the longest
        padding = whole - total - length
        samples = n + len(root.samples)
        full = samples > width or whole > tokens or padding > PAD_SHARE * (whole + samples * most)
        full = full or (bool(batch) and length > PAD_RATIO * len(batch[0].ids))
        # a well-filled batch of one length is worth more than one more row and a mask
        if batch and (full or (length > len(batch[-1].ids) and len(batch) >= 16)):
            yield batch
            batch, n, total = [], 0, 0
        batch.append(root)
        n, total = n + len(root.samples), total + length
    if batch:
        yield batch
