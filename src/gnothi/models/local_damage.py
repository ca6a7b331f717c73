"""How far a local model's distributions moved from its base's: exact over the vocabulary. Tensors stay here."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gnothi.models.local import LocalModel, pad_left
from gnothi.models.local_scoring import vocabulary_size
from gnothi.records import Messages

TOKENS = 2048
"""Tokens of one forward pass, padding included."""
LOGITS = 2**25
"""Logits held of one model at a time (positions x vocabulary): 128 MB in float32."""

Document = tuple[Messages, str | None]
"""A prompt and the answer at whose tokens distributions are compared; None for the answer's first position alone."""


def divergences(model: LocalModel, base: LocalModel, documents: Sequence[Document]) -> list[tuple[float, int]]:
    """KL(base || model) where an answer's tokens are predicted.

    Args:
        model: The tuned model.
        base: The same model without its adapter; they may share one module.
        documents: (n_documents,) prompts, each with or without an answer.

    Returns:
        For each document the sum over its positions in nats, and how many positions those are. The same logits give
        exactly 0.

    Raises:
        DataError: An empty prompt or answer.
    """
    asked = [[] if a is None else [a] for _, a in documents]
    prompts, answers = model.codec.encode_many([m for m, _ in documents], asked)
    sequences = [p + (a[0][:-1] if a else []) for p, a in zip(prompts, answers, strict=True)]
    keeps = [len(a[0]) if a else 1 for a in answers]
    found: dict[int, tuple[float, int]] = {}
    for i, of_base, of_model in _logprobs(base, model, sequences, keeps):
        gap = (of_base.exp() * (of_base - of_model)).sum(-1)
        found[i] = (float(gap.double().sum()), keeps[i])
    return [found[i] for i in range(len(documents))]


def _logprobs(
    base: LocalModel, model: LocalModel, sequences: Sequence[Sequence[int]], keeps: Sequence[int]
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (i, base's and model's (keep_i, d_vocab) log-probabilities at the last keep_i positions of sequence i)."""
    vocabulary = vocabulary_size(model.module)
    order = sorted(range(len(sequences)), key=lambda i: (keeps[i], len(sequences[i])))
    with torch.inference_mode():
        while order:
            # few short texts: reading the parameters once more costs more than padding does
            rows = min(LOGITS // (keeps[order[-1]] * vocabulary), TOKENS // max(len(sequences[i]) for i in order))
            part, order = order[-max(1, rows) :], order[: -max(1, rows)]
            ids, mask = pad_left([sequences[i] for i in part], model.device)
            mask = torch.ones_like(ids) if mask is None else mask  # one way through the module with and without adapter
            keep = max(keeps[i] for i in part)
            found = []
            for one in (base, model):
                with one.attached() as module:
                    logits = one.end_logits(ids, mask, keep, module=module)
                    found.append(torch.log_softmax(logits.float(), -1))
            for row, i in enumerate(part):
                yield i, *(logprobs[row, keep - keeps[i] :] for logprobs in found)
