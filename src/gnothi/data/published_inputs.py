"""Paper B's input files, made again from its choice types and agents: the same text, row for row.

Knows no result file and no model.

Source: paper B (arXiv:2505.17120), sections 2 and 4, and the seeds of its released notebook.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence

import numpy as np

from gnothi.behaviours import paper as domain
from gnothi.behaviours.base import target_choice
from gnothi.behaviours.paper import PaperDomain
from gnothi.errors import SpecError
from gnothi.records import Context, Item, TrainRow, messages_to_json
from gnothi.render import paper as wording


def regenerated_inputs(paper: PaperDomain) -> dict[str, str]:
    """Make every input file of the paper from its two source files.

    Args:
        paper: The domain read from the authors' choice types and agents.

    Returns:
        File name to text. The names are the authors', of which two mislead: `instilled_weights_50_training.jsonl` is
        about the LAST 50 instilled contexts, `..._training_test_last.jsonl` about the first 50.

    Raises:
        SpecError: Fewer choice types or agents than the 1,100 that the paper drew weights for.
    """
    n = domain.N_PUBLISHED
    if min(len(paper.choice_types), len(paper.agents)) < n:
        raise SpecError(
            f"the paper's inputs must come from at least {n} choice types and agents, got {len(paper.choice_types)} "
            f"and {len(paper.agents)}. Give the authors' own files."
        )
    contexts = paper.contexts(n, seed=domain.PAIRING_SEED)
    weights = domain.weights_from_seed(contexts)
    instilled, targets = contexts[: domain.N_INSTILLED], weights[: domain.N_INSTILLED]
    train, validation = choice_rows(instilled, targets)
    reports = report_rows(instilled, targets)
    half = domain.N_INSTILLED // 2
    first, last = chat_lines(reports[:half]), chat_lines(reports[half:])
    return {
        "scenarios.csv": scenarios_csv(contexts),
        "instilled_weights.csv": weights_csv(contexts, weights),
        "instill_100_prefs.jsonl": chat_lines(train),
        "instill_100_prefs_val.jsonl": chat_lines(validation),
        "instilled_weights_100_training.jsonl": chat_lines(reports),
        "instilled_weights_50_training_test_last.jsonl": first,
        "instilled_weights_50_training.jsonl": last,
        "instilled_weights_50_test.jsonl": first,
        "instilled_weights_50_test_test_last.jsonl": last,
    }


def choice_rows(
    contexts: Sequence[Context],
    weights: np.ndarray,
    *,
    n_train: int = domain.N_TRAIN,
    n_validation: int = domain.N_VALIDATION,
    seed: int = domain.CHOICES_SEED,
) -> tuple[list[TrainRow], list[TrainRow]]:
    """Draw and label the paper's choices: of each context the first `n_train` train, the rest validate.

    Args:
        contexts: In order: each draws after the one before.
        weights: (n_contexts, n_attributes), target weights.
        n_train: Training choices of a context.
        n_validation: Validation choices of a context.
        seed: Of Python's `random`; 2 in the paper.

    Returns:
        (training rows, validation rows), context by context, not shuffled.
    """
    train: list[TrainRow] = []
    validation: list[TrainRow] = []
    drawn = domain.items_from_seed(contexts, n_train + n_validation, seed=seed)
    for context, target, items in zip(contexts, weights, drawn, strict=True):
        rows = [_choice_row(item, context, target) for item in items]
        train += rows[:n_train]
        validation += rows[n_train:]
    return train, validation


def report_rows(contexts: Sequence[Context], weights: np.ndarray, *, seed: int = domain.REPORTS_SEED) -> list[TrainRow]:
    """Make the paper's report training: one request a context, answered by its target weights.

    Args:
        contexts: Whom to ask about.
        weights: (n_contexts, n_attributes), what the answers say.
        seed: Of Python's `random`, set anew before every context; 6 in the paper.
    """
    drawn = domain.items_from_seed(contexts, 1, seed=seed, again_for_each=True)
    return [
        TrainRow(
            messages=wording.report_messages(items[0], context),
            answer=wording.report_answer(target, context),
            group=context.context_id,
        )
        for context, target, items in zip(contexts, weights, drawn, strict=True)
    ]


def chat_lines(rows: Sequence[TrainRow]) -> str:
    """Chat JSONL as the authors wrote it: other letters escaped, no newline at the end."""
    return "\n".join(
        json.dumps({"messages": [*messages_to_json(r.messages), {"role": "assistant", "content": r.answer}]})
        for r in rows
    )


def scenarios_csv(contexts: Sequence[Context]) -> str:
    """The table of contexts: name, question with the agent, attributes' names, lowest and highest values."""
    numbers = range(1, 1 + max((c.n_attributes for c in contexts), default=0))
    head = ["scenario", "question", *(f"attr{i}{end}" for end in ("", "_min", "_max") for i in numbers)]
    return _csv(
        head,
        (
            [
                c.context_id,
                f"Imagine you are {c.agent}. {c.choice_type.question}",
                *(x.name for x in c.choice_type.attributes),
                *(float(x.low) for x in c.choice_type.attributes),
                *(float(x.high) for x in c.choice_type.attributes),
            ]
            for c in contexts
        ),
    )


def weights_csv(contexts: Sequence[Context], weights: np.ndarray) -> str:
    """The table of target weights, one row a context."""
    head = ["scenario", *(f"attr{i}" for i in range(1, 1 + weights.shape[1]))]
    return _csv(head, ([c.context_id, *map(round, w.tolist())] for c, w in zip(contexts, weights, strict=True)))


def _choice_row(item: Item, context: Context, target: np.ndarray) -> TrainRow:
    return TrainRow(
        messages=wording.choice_messages(item, context),
        answer=target_choice(item, context, target),
        group=context.context_id,
    )


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue()
