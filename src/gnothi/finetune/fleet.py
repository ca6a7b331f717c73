"""Whether models are trained together or in turn: whichever was faster when both were timed on the first steps."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gnothi.finetune.loop import TrainJob, train
from gnothi.finetune.recipes import Recipe
from gnothi.models.local import LocalModel

STEPS = 4
"""Steps that are timed each way, after one that is not."""
REPEATS = 2
"""How often both are timed; the faster one of each counts."""

WORTH = 0.95
"""A fleet is chosen if it takes at most this share of the time in turn: it takes more memory, and clocks are noisy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was measured."""

    together: bool
    seconds_together: float
    """A step of all jobs as one fleet."""
    seconds_alone: float
    """A step of all jobs in turn."""
    jobs: int
    threads: int
    device: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the run that has to keep to it."""
        return dataclasses.asdict(self)


def choose(model: LocalModel, jobs: Sequence[TrainJob], recipe: Recipe) -> Choice:
    """Time the first steps of jobs as one fleet and in turn; nothing of it is kept.

    Both ways give the same adapters up to rounding, so a run measures once and keeps to what was found.

    Args:
        model: The model that is tuned.
        jobs: What would be trained; one job is trained alone.
        recipe: How. Kind `full` is always trained in turn.
    """
    device = str(model.device)
    facts = {"jobs": len(jobs), "threads": torch.get_num_threads(), "device": device}
    if len(jobs) < 2 or recipe.kind == "full":
        return Choice(together=False, seconds_together=0.0, seconds_alone=0.0, **facts)
    seconds = {True: float("inf"), False: float("inf")}
    for repeat in range(REPEATS + 1):
        steps = 1 if repeat == 0 else STEPS
        short = dataclasses.replace(recipe, steps=steps, epochs=None, warmup=0, gate_every=0, checkpoint_every=0)
        for together in (True, False):
            started = time.perf_counter()
            train(model, jobs, short, together=together)
            if model.device.type == "cuda":
                torch.cuda.synchronize(model.device)
            if repeat > 0:
                seconds[together] = min(seconds[together], (time.perf_counter() - started) / steps)
    return Choice(
        together=seconds[True] <= WORTH * seconds[False],
        seconds_together=seconds[True],
        seconds_alone=seconds[False],
        **facts,
    )
