"""What a model does: its probability of each option on fresh items, not only the letter."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from gnothi.models.base import AbstractLanguageModel
from gnothi.records import Context, Item, Sample
from gnothi.render.base import Wording


def measure_choices(
    model: AbstractLanguageModel, items: Sequence[Item], contexts: Mapping[str, Context], wording: Wording
) -> list[Sample]:
    """Score both options of every item.

    Returns:
        One sample an item, in order: log-probabilities of (A, B) over the whole vocabulary, and value 1 if A is the
        likelier, 0 if B. A tie has no value, with the reason `tie`; nor has what a broken model says, `not a number`.
    """
    started = time.perf_counter()
    prompts = [wording.choice(item, contexts[item.context_id]) for item in items]
    scored = model.option_logprobs(prompts, [wording.options] * len(prompts))
    each = (time.perf_counter() - started) / max(1, len(items))
    reasons = [
        "not a number" if np.isnan(logprobs).any() else "tie" if logprobs[0] == logprobs[1] else None
        for logprobs in scored
    ]
    return [
        Sample(
            sample_id=item.item_id,
            kind="choice",
            context_id=item.context_id,
            messages=prompt,
            item=item,
            options=wording.options,
            logprobs=() if reason == "not a number" else tuple(float(x) for x in logprobs),
            value=() if reason else (float(logprobs[0] > logprobs[1]),),
            reason=reason,
            seconds=each,
        )
        for item, prompt, logprobs, reason in zip(items, prompts, scored, reasons, strict=True)
    ]


def option_mass(samples: Sequence[Sample]) -> float:
    """Mean probability that the model answers with an option at all, in [0, 1]."""
    return float(np.mean([np.exp(s.logprobs).sum() for s in samples]))


def as_arrays(samples: Sequence[Sample], contexts: Sequence[Context]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Line choices up by context.

    Returns:
        differences (n_contexts, n_trials, n_attributes), chose_a (n_contexts, n_trials) bool, and a mask
        (n_contexts, n_trials) that is False where a context has fewer trials or the choice was a tie.
    """
    width = max(c.n_attributes for c in contexts)
    by_context: dict[str, list[Sample]] = {c.context_id: [] for c in contexts}
    for sample in samples:
        by_context[sample.context_id].append(sample)
    trials = max(len(v) for v in by_context.values())
    differences = np.zeros((len(contexts), trials, width))
    chose_a, mask = np.zeros((len(contexts), trials), dtype=bool), np.zeros((len(contexts), trials), dtype=bool)
    for i, context in enumerate(contexts):
        for j, sample in enumerate(by_context[context.context_id]):
            assert sample.item is not None
            differences[i, j, : context.n_attributes] = sample.item.differences(context.choice_type)
            mask[i, j] = sample.valid
            chose_a[i, j] = sample.valid and sample.value[0] == 1
    return differences, chose_a, mask
