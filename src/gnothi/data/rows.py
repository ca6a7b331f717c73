"""From items to training rows: labels, their controls, splits and chat JSONL. No model here."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from gnothi.behaviours.base import target_choice
from gnothi.errors import DataError
from gnothi.files import write_atomically
from gnothi.records import Context, Item, TrainRow, messages_to_json
from gnothi.render.base import Question, Wording

Rule = Callable[[Item, Context, np.ndarray], str]
"""(item, context, weights of shape (n_attributes,)) -> `A` or `B`: a behaviour's `target_choice`."""


def labels_for(
    items: Sequence[Item],
    contexts: Mapping[str, Context],
    weights: Mapping[str, np.ndarray],
    *,
    rule: Rule = target_choice,
) -> list[str]:
    """The choice that the behaviour wants for every item, `A` or `B`: what is trained, and what choices are held against.

    Args:
        items: In any order.
        contexts: By `context_id`; those of the items at least.
        weights: Target weights by `context_id`, each (n_attributes,).
        rule: The behaviour's. The default takes the higher utility and B in a tie.

    Returns:
        One letter an item, in order.

    Source: paper B (arXiv:2505.17120), section 2, for the default rule.
    """
    return [rule(item, contexts[item.context_id], weights[item.context_id]) for item in items]


def permuted_within_context(items: Sequence[Item], labels: Sequence[str], *, rng: np.random.Generator) -> list[str]:
    """Permute labels among the items of each context: the same letters an agent, no relation to the options."""
    where: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        where.setdefault(item.context_id, []).append(i)
    permuted: list[str] = list(labels)
    for indices in where.values():
        order = [int(j) for j in rng.permutation(indices)]
        for i, j in zip(indices, order, strict=True):
            permuted[i] = labels[j]
    return permuted


def choice_rows(
    items: Sequence[Item], labels: Sequence[str], contexts: Mapping[str, Context], wording: Wording
) -> list[TrainRow]:
    """One row an item: the decision prompt and the letter."""
    letters = dict(zip("AB", wording.options, strict=True))
    return [
        TrainRow(messages=wording.choice(i, contexts[i.context_id]), answer=letters[label], group=i.context_id)
        for i, label in zip(items, labels, strict=True)
    ]


def report_rows(questions: Sequence[Question], labels: Mapping[str, np.ndarray], wording: Wording) -> list[TrainRow]:
    """One row a question: the report prompt and the weights that `labels` gives for its context."""
    return [
        TrainRow(messages=q.messages, answer=wording.answer(q, labels[q.context_id]), group=q.context_id)
        for q in questions
    ]


def refuse_overlap(train: Sequence[Item], held_out: Sequence[Item]) -> None:
    """Refuse a held-out item that stands in the training set with the same agent, options and order.

    Raises:
        DataError: There is at least one, with the first named.
    """
    seen = {(i.context_id, i.shown, i.a, i.b) for i in train}
    both = [i.item_id for i in held_out if (i.context_id, i.shown, i.a, i.b) in seen]
    if both:
        raise DataError(
            f"held-out items must not stand in the training set, got {len(both)} that do, first {both[0]!r}. "
            "Draw them from another stream, or drop them."
        )


def fresh(items: Sequence[Item], seen: Sequence[Item]) -> list[Item]:
    """The items that do not stand in `seen` with the same agent, options and order."""
    known = {(i.context_id, i.shown, i.a, i.b) for i in seen}
    return [i for i in items if (i.context_id, i.shown, i.a, i.b) not in known]


def write_jsonl(path: Path, rows: Sequence[TrainRow]) -> None:
    """Write rows as chat JSONL, `{"messages": [...]}` a line with the answer as the last message: any trainer's input."""
    lines = [
        json.dumps(
            {"messages": [*messages_to_json(r.messages), {"role": "assistant", "content": r.answer}]},
            ensure_ascii=False,
        )
        for r in rows
    ]
    write_atomically(path, "\n".join(lines) + "\n")
