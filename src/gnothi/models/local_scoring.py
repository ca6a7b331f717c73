"""Scores of answers: log-probabilities of options of any length, each distinct beginning of a text computed once.

What is asked is a set of (context, token) pairs. Contexts are laid out as a forest where sharing saves enough, else one
by one; the head is applied where an answer is, and of its (n, d_vocab) logits only what was asked for is kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gnothi.errors import ModelError
from gnothi.models import local_llama
from gnothi.models.adapters import AdapterStack
from gnothi.models.forest import Row, as_forest, batches_of, rows_of, shared_share
from gnothi.models.local_attention import by_blocks
from gnothi.models.local_forward import forest_logits, row_width
from gnothi.models.local_memory import is_out_of_memory, largest_pass

LOGIT_BUDGET = 2**26
"""Logits of one forward pass (answer positions x vocabulary): 256 MB in float32."""

LEAST_SHARED = 0.1
"""Share of tokens that trees must save to be worth their mask."""


@dataclass(frozen=True, slots=True)
class Question:
    """One number that is wanted: the log-probability of `token` after a sequence's beginning."""

    sequence: int
    length: int
    """Tokens of the sequence that are the context."""
    option: tuple[int, int]
    """Prompt and option that it belongs to."""
    token: int | None
    """None asks for the probability that no digit follows."""


def score(
    module: nn.Module,
    prompt_ids: Sequence[Sequence[int]],
    answer_ids: Sequence[Sequence[Sequence[int]]],
    *,
    digits: Sequence[int] | None = None,
    owners: Sequence[int] | None = None,
    stack: AdapterStack | None = None,
    share: bool = True,
) -> list[np.ndarray]:
    """Sum of the log-probabilities of each answer's tokens.

    Args:
        module: A causal language model, with `stack` on it if there is one.
        prompt_ids: (n_prompts,) token ids of each prompt.
        answer_ids: For each prompt the token ids of its answers.
        digits: Tokens that would continue a number; with them an answer's probability is also that none follows.
        owners: (n_prompts,) adapter of each prompt, where `stack` has several.
        stack: The adapters on the module.
        share: False computes every context by itself: for tests and benchmarks.

    Returns:
        For each prompt (n_answers,) nats.

    Raises:
        ModelError: Memory does not suffice for one sequence.
    """
    sequences, keeps, questions, of_prompt = _questions(prompt_ids, answer_ids, digits is not None)
    scores = [np.zeros(len(options)) for options in answer_ids]
    if not sequences:
        return scores
    vocabulary = vocabulary_size(module)
    own = [owners[j] for j in of_prompt] if owners is not None else None
    width = row_width(module, gradient=False) if share and shared_share(sequences) >= LEAST_SHARED else 0
    most = max(1, LOGIT_BUDGET // vocabulary)
    rows = rows_of(sequences, width=width, owners=own, keeps=keeps, most_wanted=most)
    by_sequence: list[list[Question]] = [[] for _ in sequences]
    for question in questions:
        by_sequence[question.sequence].append(question)
    pending = list(batches_of(rows, tokens=largest_pass(module), most_wanted=most))[::-1]
    digit_ids = None if digits is None else torch.tensor(list(digits), device=next(module.parameters()).device)
    while pending:
        batch = pending.pop()
        try:
            for (j, o), value in _batch(module, batch, by_sequence, digit_ids, stack):
                scores[j][o] += value
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            pending += _halves(batch, error)
    return scores


def _halves(batch: list[Row], error: RuntimeError) -> list[list[Row]]:
    if len(batch) == 1:
        raise ModelError(
            f"memory must hold one row of {len(batch[0].ids)} tokens, got none left at batch 1. "
            "Use a smaller model, a lower precision (--set dtype=bfloat16) or a device with more memory."
        ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    return [batch[middle:], batch[:middle]]


def _questions(
    prompt_ids: Sequence[Sequence[int]], answer_ids: Sequence[Sequence[Sequence[int]]], stop: bool
) -> tuple[list[tuple[int, ...]], list[int], list[Question], list[int]]:
    """Contexts that must be run, how many of their last positions are wanted, and what is wanted of them."""
    sequences: list[tuple[int, ...]] = []
    keeps: list[int] = []
    questions: list[Question] = []
    of_prompt: list[int] = []
    for j, (prompt, options) in enumerate(zip(prompt_ids, answer_ids, strict=True)):
        contexts: dict[tuple[int, ...], list[tuple[int, int | None]]] = {}
        for o, ids in enumerate(options):
            for t, token in enumerate(ids):
                contexts.setdefault(tuple(ids[:t]), []).append((o, token))
            if stop:
                contexts.setdefault(tuple(ids), []).append((o, None))
        home: dict[tuple[int, ...], int] = {}
        for context in sorted(contexts, key=len, reverse=True):  # a context that begins another is part of it
            if context not in home:
                sequences.append((*prompt, *context))
                keeps.append(len(context) + 1)
                of_prompt.append(j)
                for t in range(len(context) + 1):
                    home.setdefault(context[:t], len(sequences) - 1)
            for o, token in contexts[context]:
                questions.append(Question(home[context], len(prompt) + len(context), (j, o), token))
    return sequences, keeps, questions, of_prompt


def _batch(
    module: nn.Module,
    batch: Sequence[Row],
    by_sequence: Sequence[Sequence[Question]],
    digits: Tensor | None,
    stack: AdapterStack | None,
) -> Iterator[tuple[tuple[int, int], float]]:
    """Yield an option and what one of its tokens adds to its score."""
    at: dict[tuple[int, int], int] = {}
    picks: list[tuple[int, Question]] = []
    device = next(module.parameters()).device
    forest = as_forest(batch, device)
    for i, row, path in forest.members:
        for question in by_sequence[i]:
            place = (row, int(path[question.length - 1]))
            picks.append((at.setdefault(place, len(at)), question))
    with torch.inference_mode(), by_blocks(module):
        logits = _logits(module, batch, forest, list(at), stack)
        total = torch.logsumexp(logits, -1)
        tokens = [(n, q) for n, q in picks if q.token is not None]
        where = torch.tensor([n for n, _ in tokens], dtype=torch.long, device=device)
        which = torch.tensor([q.token for _, q in tokens], dtype=torch.long, device=device)
        found = (logits[where, which] - total[where]).double().cpu().numpy()
        yield from ((q.option, float(v)) for (_, q), v in zip(tokens, found, strict=True))
        ends = [(n, q) for n, q in picks if q.token is None]
        if ends and digits is not None:
            where = torch.tensor([n for n, _ in ends], dtype=torch.long, device=device)
            longer = (torch.logsumexp(logits[:, digits], -1) - total).double().exp()[where].cpu().numpy()
            yield from ((q.option, float(np.log(max(1.0 - v, 1e-30)))) for (_, q), v in zip(ends, longer, strict=True))


def _logits(
    module: nn.Module, batch: Sequence[Row], forest: Any, at: list[tuple[int, int]], stack: AdapterStack | None
) -> Tensor:
    """(n, d_vocab) float32 at the places of `at`."""
    lengths = {len(r.ids) for r in batch}
    last = all(place == len(batch[row].ids) - 1 for row, place in at)
    alone = stack is None or stack.k == 1
    if alone and last and forest.ends is None and len(lengths) == 1 and len(at) == len(batch):
        ours = stack.hook_ids if stack is not None else ()
        if local_llama.applies(module, ours):
            found = local_llama.end_logits(module, forest.ids, 1)[:, 0].float()
            return found[[row for row, _ in at]]
    device = forest.ids.device
    rows = torch.tensor([row for row, _ in at], device=device)
    places = torch.tensor([place for _, place in at], device=device)
    return forest_logits(module, forest, rows, places, stack=stack).float()


def vocabulary_size(module: nn.Module) -> int:
    """How many logits the head gives a position."""
    config: Any = module.config
    return int(config.get_text_config().vocab_size)
