"""Revival: does a capability come back sooner in a tuned model than in models that never had it?

Several starts (arms) are trained on the old task with one recipe, each at the learning rate that suits it best, over
seeds; what counts is the steps until a level is reached. A rate is tuned for each arm on seeds and data of its own: with
one rate for all, an arm looks slow because the rate is not its rate.

A start that does not get there within the horizon is right-censored: it is reported as such, and never averaged in.

Source: reverse fine-tuning is arXiv:2311.12786, sections 4.7 and D. Tuning by arm, levels, intervals over seeds, and the
arms that never had the capability or never lost it, are ours.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from gnothi.errors import SpecError, StoreError
from gnothi.files import digest, write_atomically
from gnothi.mechanisms.curves import (
    Curve,
    RateChoice,
    RateTrial,
    Reached,
    Steps,
    choose_rate,
    speed_up,
    steps_over_seeds,
    steps_to,
)
from gnothi.mechanisms.reversal import Course, Evaluate, train_back
from gnothi.mechanisms.training_state import FILE

__all__ = [
    "ARMS",
    "ArmRevival",
    "Curve",
    "RateChoice",
    "RateTrial",
    "Reached",
    "Start",
    "Steps",
    "choose_rate",
    "revive",
    "speed_up",
    "steps_over_seeds",
    "steps_to",
]

Batch = TypeVar("Batch")

_CURVE = "curve.json"

Start = Callable[[int], nn.Module]
"""Seed -> the module that an arm starts from: a fresh copy each time, since it is trained in place."""

ARMS = {
    "tuned": "the model that lost the capability in fine-tuning",
    "scratch": "random values (Scr.)",
    "scratch_tuned": "trained on the other task only, from random values (Scr.+FT)",
    "never_had_it": "pretrained alike, without the capability: true deletion",
    "base": "the model before fine-tuning, which still has it",
}
"""Usual names of arms, for pages; any others may be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRevival:
    """One start: its rate, and its curves over seeds."""

    arm: str
    rate: RateChoice
    curves: Mapping[int, Curve]
    """By seed."""
    reached: tuple[Reached, ...]
    """In the order of `curves`."""


def revive(
    arms: Mapping[str, Start],
    *,
    batches: Callable[[int], Iterator[Batch]],
    loss: Callable[[nn.Module, Batch], Tensor],
    evaluate: Evaluate,
    tune_evaluate: Evaluate,
    course: Course,
    rates: Sequence[float],
    level: float,
    seeds: Sequence[int],
    tuning_seeds: Sequence[int],
    also: Mapping[str, Evaluate] | None = None,
    parameters: Callable[[nn.Module], Mapping[str, Tensor]] | None = None,
    folder: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, ArmRevival]:
    """Train every arm back: its rate first, then its curves.

    Args:
        arms: Name -> start.
        batches: Seed -> endless batches of the old task. All arms of a seed see the same ones.
        loss: (module, batch) -> a scalar.
        evaluate: What the curves show.
        tune_evaluate: The same on other held-out data, by which rates are chosen.
        course: How; its rate is replaced, and trials of a rate stop at the level.
        rates: The grid for every arm.
        level: What must be reached.
        seeds: Of the curves.
        tuning_seeds: Of the trials; none of `seeds`.
        also: Further evaluations of the curves.
        parameters: What of a start is trained, by name; every parameter if left out.
        folder: Where checkpoints and finished curves go, so that the same call goes on where it was cut off; the caller
            removes it, and gives another one for another task.
        progress: Called after each training with the arm, trainings done and in all.

    Returns:
        By arm.

    Raises:
        SpecError: Seeds that tune and count, or no arms.
        StoreError: A folder that holds trainings by another recipe.
    """
    both = sorted(set(seeds) & set(tuning_seeds))
    if both or not arms or not seeds:
        raise SpecError(
            f"revive must have arms, seeds, and tuning seeds that are none of the seeds, got {both} in both."
        )
    total = len(arms) * (len(rates) * len(tuning_seeds) + len(seeds))
    done, found = 0, {}
    for arm, start in arms.items():

        def run(lr: float, seed: int, trial: bool, arm: str = arm, start: Start = start) -> Curve:
            nonlocal done
            how = replace(course, lr=lr, until=level if trial else course.until)
            place = None if folder is None else folder / f"{arm}-{lr:g}-{seed}"
            key = digest([arm, seed, trial, level, how.to_json()])
            curve = _kept(place, key)
            if curve is None:
                module = start(seed)
                curve = train_back(
                    module,
                    batches(seed),
                    loss,
                    tune_evaluate if trial else evaluate,
                    how,
                    seed=seed,
                    also=None if trial else also,
                    parameters=None if parameters is None else parameters(module),
                    folder=place,
                    key=key,
                )
                _keep(place, key, curve)
            done += 1
            if progress is not None:
                progress(arm, done, total)
            return curve

        rate = choose_rate(rates, lambda lr, seed: run(lr, seed, True), tuning_seeds, level)
        curves = {seed: run(rate.lr, seed, False) for seed in seeds}
        reached = tuple(steps_to(curve, level) for curve in curves.values())
        found[arm] = ArmRevival(arm=arm, rate=rate, curves=curves, reached=reached)
    return found


def _kept(folder: Path | None, key: str) -> Curve | None:
    """The curve of a training that is over."""
    path = None if folder is None else folder / _CURVE
    if path is None or not path.is_file():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["key"] != key:
        raise StoreError(f"{path} must be of this training, got one of another. Delete it to train from the start.")
    return Curve.of_json(kept["curve"])


def _keep(folder: Path | None, key: str, curve: Curve) -> None:
    """Keep the curve of a training that is over, and its state no longer."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _CURVE, json.dumps({"key": key, "curve": curve.to_json()}))
        (folder / FILE).unlink(missing_ok=True)
