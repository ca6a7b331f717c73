"""Sampling from a local model, with a key-value cache, in batches of prompts of equal length."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gnothi.models.base import Answer, Sampling
from gnothi.models.local_text import Codec
from gnothi.rng import stream

SAMPLE_BUDGET = 8192
"""Tokens (prompt and answer) of the samples that are drawn together."""


def sample(
    module: nn.Module, codec: Codec, prompt_ids: Sequence[Sequence[int]], sampling: Sampling, device: torch.device
) -> list[list[Answer]]:
    """Draw answers; prompts of equal length are drawn together, so nothing is padded.

    Args:
        module: A transformers causal language model.
        codec: Its tokenizer, for text and for what ends an answer.
        prompt_ids: (n_prompts,) token ids of each prompt.
        sampling: How to sample.
        device: Where the module lies.

    Returns:
        For each prompt its `sampling.n` answers.
    """
    by_length: dict[int, list[tuple[int, int]]] = {}
    repeats = sampling.n if sampling.temperature > 0 else 1  # greedy answers are all the same
    for j, ids in enumerate(prompt_ids):
        by_length.setdefault(len(ids), []).extend((j, i) for i in range(repeats))
    answers: dict[tuple[int, int], Answer] = {}
    for length, jobs in sorted(by_length.items()):
        width = max(1, SAMPLE_BUDGET // (length + sampling.max_tokens))
        for start in range(0, len(jobs), width):
            batch = jobs[start : start + width]
            ids = torch.tensor([prompt_ids[j] for j, _ in batch], device=device)
            answers.update(zip(batch, _draw(module, codec, ids, batch, sampling), strict=True))
    return [[answers[j, i % repeats] for i in range(sampling.n)] for j in range(len(prompt_ids))]


def _ends(module: Any, codec: Codec) -> set[int]:
    config = getattr(module, "generation_config", None)
    eos = getattr(config, "eos_token_id", None)
    own = [] if eos is None else eos if isinstance(eos, list) else [eos]
    return {int(i) for i in (*own, *codec.end_ids)}


def _draw(
    module: nn.Module, codec: Codec, ids: Tensor, batch: Sequence[tuple[int, int]], sampling: Sampling
) -> list[Answer]:
    accepts = inspect.signature(module.forward).parameters
    cache_name = "cache" if "cache" in accepts else "past_key_values"  # transformers renames it from 5.24 on
    keep = {"logits_to_keep": 1} if "logits_to_keep" in accepts else {}
    ends = _ends(module, codec)
    uniform = None
    if sampling.temperature > 0:
        uniform = np.stack([stream(sampling.seed, "sample", j, i).random(sampling.max_tokens) for j, i in batch])
    drawn: list[list[int]] = [[] for _ in batch]
    done: list[Answer | None] = [None] * len(batch)
    cache, step_ids = None, ids
    for step in range(sampling.max_tokens):
        out = module(input_ids=step_ids, use_cache=True, **({cache_name: cache} if cache is not None else {}), **keep)
        cache = getattr(out, "cache", None)
        if cache is None:
            cache = out.past_key_values
        logits = out.logits[:, -1].float()
        tokens = _pick(logits, sampling, None if uniform is None else uniform[:, step])
        for row, token in enumerate(tokens.tolist()):
            if done[row] is None:
                done[row] = _append(codec, drawn[row], token, ends, sampling)
        if all(answer is not None for answer in done):
            break
        step_ids = tokens[:, None]
    return [
        answer or Answer(text=_text(codec, found), n_tokens=len(found), finished=False)
        for answer, found in zip(done, drawn, strict=True)
    ]


def _text(codec: Codec, ids: list[int]) -> str:
    return codec.tokenizer.decode(ids, skip_special_tokens=True)


def _append(codec: Codec, found: list[int], token: int, ends: set[int], sampling: Sampling) -> Answer | None:
    """Add a token; the answer if it is finished by an end token or a stop text (which is cut off)."""
    if token in ends:
        return Answer(text=_text(codec, found), n_tokens=len(found), finished=True)
    found.append(token)
    if sampling.stop:
        text = _text(codec, found)
        at = [text.find(stop) for stop in sampling.stop if stop and stop in text]
        if at:
            return Answer(text=text[: min(at)], n_tokens=len(found), finished=True)
    return None


def _pick(logits: Tensor, sampling: Sampling, uniform: np.ndarray | None) -> Tensor:
    """One token a row: (batch, d_vocab) logits to (batch,) ids; the inverse of the distribution function at `uniform`."""
    if uniform is None:
        return logits.argmax(-1)
    probabilities, order = torch.softmax(logits / sampling.temperature, -1).sort(dim=-1, stable=True, descending=True)
    if sampling.top_k > 0:
        probabilities[:, sampling.top_k :] = 0
    if sampling.top_p < 1:
        before = probabilities.cumsum(-1) - probabilities  # the token that crosses top_p is kept
        probabilities = probabilities * (before < sampling.top_p)
    total = probabilities.double().cumsum(-1)
    at = torch.from_numpy(uniform).to(total.device)[:, None] * total[:, -1:]
    # rounding must not choose a token whose probability was set to 0
    last = (probabilities > 0).sum(-1, keepdim=True) - 1
    place = torch.searchsorted(total, at, right=True).minimum(last)
    return order.gather(-1, place)[:, 0]
