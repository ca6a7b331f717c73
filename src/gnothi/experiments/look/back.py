"""Reverse fine-tuning: the adapter is trained on what the base would have answered, and looked at as it goes.

Rows are the base's own two options on items that are not shown, each weighing as much as the base gave it. The recipe is
the run's with a constant rate, from which each rate of the look is a multiple; the rate that is reported is chosen on
other items than it is shown on, in every model by itself.

Source: arXiv:2311.12786, section 4.7 (reverse fine-tuning), there on the pretraining task with its right answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gnothi.errors import TrainingError
from gnothi.experiments.look.prompts import REPORT, Prompt
from gnothi.experiments.look.readout import Reader, undone
from gnothi.finetune.loop import TrainJob, train
from gnothi.finetune.recipes import Recipe
from gnothi.mechanisms.curves import Curve, RateChoice, choose_rate
from gnothi.models.local import LocalModel
from gnothi.records import TrainRow

BACK = 0.9
"""Share of the fine-tune's change that has to be undone to count as back at the base's level."""
LEAST = 1e-3
"""Smallest share of the base's answers that an option has to have for a row of its own."""
BATCH = 32
Items = Mapping[str, tuple[Reader, np.ndarray, np.ndarray]]
"""Items by name, with readouts of the base and of the tuned model."""


def looks(steps: int) -> list[int]:
    """Steps after which the model is looked at: 1, 2, 3, 4, 6, 8, 12, 16, 24, …

    >>> looks(20)
    [1, 2, 3, 4, 6, 8, 12, 16, 20]
    """
    every = sorted({2**k for k in range(30)} | {3 * 2**k for k in range(30)})
    return [*(step for step in every if step < steps), steps]


def rows(prompts: Sequence[Prompt], base: np.ndarray) -> list[TrainRow]:
    """What the base would have answered.

    Args:
        prompts: Items with two options.
        base: (n,) the base's readouts of them: logit of the first option less that of the second.
    """
    found = []
    for prompt, contrast in zip(prompts, base, strict=True):
        plus = 1 / (1 + np.exp(-contrast))
        for word, share in zip(prompt.words, (plus, 1 - plus), strict=True):
            if share >= LEAST:
                found.append(TrainRow(messages=prompt.messages, answer=word, weight=float(share)))
    return found


def recipe_back(recipe: Recipe, factor: float, steps: int, n_rows: int) -> Recipe:
    """The recipe of one rate."""
    return replace(
        recipe,
        name=f"{recipe.name}-back",
        lr=recipe.lr * factor,
        row_lr=recipe.row_lr * factor,
        steps=steps,
        epochs=None,
        batch_rows=min(recipe.batch_rows or BATCH, n_rows),
        per_group=None,
        warmup=0,
        decay=0.0,
        end_of_answer=False,
        parent="continue",
        gate_every=1,
        checkpoint_every=0,
    )


def trained_back(
    local: LocalModel,
    adapter: Path,
    recipe: Recipe,
    train_on: Sequence[TrainRow],
    items: Items,
    *,
    factor: float,
    steps: int,
    seed: int,
    step: Callable[[int, int], None] | None = None,
) -> dict[str, Curve]:
    """One reverse fine-tuning.

    Args:
        local: The base model.
        adapter: Folder of the fine-tune.
        recipe: The run's.
        train_on: See `rows`.
        items: What is looked at.
        factor: Of the recipe's learning rates.
        steps: At most; it ends where the choice is back at two looks in a row.
        seed: Decides the order of the rows.
        step: Told steps done and in all.

    Returns:
        Items -> share of the fine-tune's change that is undone, by step; it ends early where the loss is no number.
    """
    done_at, shares = [0], {name: [0.0] for name in items}
    due = set(looks(steps))

    def look(done: int, _: str, view: LocalModel) -> bool:
        if done not in due:
            return False
        done_at.append(done)
        with view.attached() as module:
            for name, (reader, base, tuned) in items.items():
                shares[name].append(undone(tuned - base, tuned - reader.values(module)) or 0.0)
        return all(len(s) > 2 and min(s[-2:]) >= BACK for name, s in shares.items() if name != REPORT)

    how = recipe_back(recipe, factor, steps, len(train_on))
    words = _words(local, adapter, train_on) if "rows" in how.kind else ()
    job = TrainJob(name="back", rows=train_on, seed=seed, parent=adapter, row_words=words)
    progress = None if step is None else (lambda done, total, _: step(done, total))
    try:
        (found,) = train(local, [job], how, progress=progress, gate=look)
        ended = "reached" if found.stopped_early else "whole"
    except TrainingError:  # this rate is too large: the curve ends here, and another is chosen
        ended = "broke"
    return {
        name: Curve(steps=tuple(done_at), values=tuple(values), horizon=steps, ended=ended)
        for name, values in shares.items()
    }


def _words(local: LocalModel, folder: Path, train_on: Sequence[TrainRow]) -> tuple[str, ...]:
    """Words whose rows the fine-tune has, as far as there is a row with them to train on."""
    adapter = local.with_adapter(folder).adapter
    assert adapter is not None
    seen = {i for row in train_on for i in local.encode(row.messages)[0]}
    texts = [local.tokenizer.decode([i]).strip() for i in adapter.spec.row_token_ids if i in seen]
    return tuple(dict.fromkeys(texts))


def chosen_rate(curves: Mapping[float, Mapping[str, Curve]], items: str) -> RateChoice:
    """The rate that is back soonest on these items.

    Args:
        curves: Rate -> items -> curve.
        items: What the rate is chosen on.
    """
    return choose_rate(list(curves), lambda rate, _: curves[rate][items], [0], BACK)
