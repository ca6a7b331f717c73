"""Which rows a step trains on, and those rows as token ids. No torch here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gnothi.errors import TrainingError
from gnothi.finetune.recipes import Recipe
from gnothi.models.local_text import Codec
from gnothi.records import TrainRow
from gnothi.rng import stream


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row as token ids."""

    ids: tuple[int, ...]
    """Prompt and answer."""
    start: int
    """Position of the answer's first token, >= 1."""
    weight: float
    group: str

    @property
    def n_answer(self) -> int:
        """Tokens that the loss is on."""
        return len(self.ids) - self.start


def encode_rows(codec: Codec, rows: Sequence[TrainRow], end_of_answer: bool) -> list[Encoded]:
    """Rows as token ids; with `end_of_answer`, the token that ends an answer belongs to it.

    Raises:
        TrainingError: No rows, or an end that is wanted and that the tokenizer does not have.
    """
    if not rows:
        raise TrainingError("training rows must be at least one, got none. Draw examples first.")
    if end_of_answer and not codec.end_ids:
        raise TrainingError("end_of_answer must be False for a tokenizer without an end token, got True.")
    end = codec.end_ids if end_of_answer else ()
    prompts, answers = codec.encode_many([r.messages for r in rows], [[r.answer] for r in rows])
    return [
        Encoded((*p, *a[0], *end), len(p), r.weight, r.group) for p, a, r in zip(prompts, answers, rows, strict=True)
    ]


def show(codec: Codec, row: TrainRow, end_of_answer: bool) -> str:
    """A training example as the model reads it, on one line, with the tokens that the loss is on between `>>>` and `<<<`.

    Args:
        codec: Of the model's tokenizer.
        row: What would be trained on.
        end_of_answer: Whether the token that ends an answer belongs to it.
    """
    (found,) = encode_rows(codec, [row], end_of_answer)
    text = codec.tokenizer.decode
    return f"{text(found.ids[: found.start])!r} >>>{text(found.ids[found.start :])!r}<<<"


def n_steps(groups: Sequence[str], recipe: Recipe) -> int:
    """Optimiser steps of a job: `steps`, or as many as `epochs` passes over its largest group (or all rows) take."""
    if recipe.steps is not None:
        return recipe.steps
    assert recipe.epochs is not None
    if recipe.per_group is not None:
        largest = max(groups.count(g) for g in set(groups))
        return max(1, math.ceil(recipe.epochs * largest / recipe.per_group))
    assert recipe.batch_rows is not None
    return max(1, math.ceil(recipe.epochs * len(groups) / min(recipe.batch_rows, len(groups))))


def plan(groups: Sequence[str], recipe: Recipe, seed: int) -> list[list[int]]:
    """Which rows each step takes; depends on the seed, the groups and the recipe alone.

    With `batch_rows` the rows are shuffled anew for each pass and taken in turn; with `per_group` every step takes that
    many of each group, and each group is shuffled and passed through by itself.

    Args:
        groups: (n_rows,) group of each row.
        recipe: Sizes and number of steps.
        seed: The job's seed.

    Returns:
        For each step the indices of its rows.
    """
    rng = stream(seed, "order")
    steps = n_steps(groups, recipe)
    if recipe.per_group is None:
        assert recipe.batch_rows is not None
        pools, take = [np.arange(len(groups))], min(recipe.batch_rows, len(groups))
    else:
        names = list(dict.fromkeys(groups))
        array = np.array(groups)
        pools, take = [np.flatnonzero(array == g) for g in names], recipe.per_group
    orders = []
    for pool in pools:
        passes = math.ceil(steps * take / len(pool))
        orders.append(np.concatenate([rng.permutation(pool) for _ in range(passes)]))
    return [[int(i) for order in orders for i in order[s * take : (s + 1) * take]] for s in range(steps)]
