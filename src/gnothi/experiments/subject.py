"""The model under test, as the stages use it: opened once a process, tuned, and asked. Scripted models stand in."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnothi.errors import ModelError
from gnothi.finetune.recipes import Recipe
from gnothi.measure.adapter_check import Canaries, canary
from gnothi.models.base import AbstractLanguageModel
from gnothi.models.registry import resolve
from gnothi.records import TrainRow

if TYPE_CHECKING:
    from gnothi.finetune.loop import TrainJob
    from gnothi.models.local import LocalModel

Step = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One model to be made: rows to train on and where it goes on from."""

    unit: str
    rows: Sequence[TrainRow]
    seed: int
    parent: Path | None
    """Folder of the parent unit's adapter."""
    script: Callable[[], AbstractLanguageModel]
    """Makes what stands in for the tuned model where the base is a script, which learns nothing by training."""
    words: tuple[str, ...] = ()
    """Words whose embedding rows may be tuned (organism)."""


@functools.lru_cache(maxsize=2)
def opened(
    name: str,
    digest: str,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    quantise: str | None = None,
    trust_remote_code: bool = False,
) -> "Subject":
    """Open a run's model; in one process it is opened once.

    Args:
        name: As given on the command line.
        digest: What the run was started with.
        dtype: What its parameters are kept in.
        device: Where.
        quantise: Bits of its linear layers, or None.
        trust_remote_code: Whether code of its folder is run.

    Raises:
        ModelError: What lies under the name is no longer what the run was started with.
    """
    info = resolve(name, digest=digest)
    if info.digest != digest:
        raise ModelError(
            f"--model {name} must be the model that the run was started with (digest {digest[:12]}), got {info.digest[:12]}. "
            "Put the old one back, or start a new run."
        )
    if info.family == "scripted":
        return Subject(name, None)
    from gnothi.models.local import LocalModel

    assert info.folder is not None
    model = LocalModel.load(
        info.folder, name=name, dtype=dtype, device=device, quantise=quantise, trust_remote_code=trust_remote_code
    )
    return Subject(name, model if info.adapter is None else model.with_adapter(info.adapter), info.adapter)


class Subject:
    """A base model that can be tuned and asked."""

    def __init__(self, name: str, local: "LocalModel | None", adapter: Path | None = None) -> None:
        """Wrap an opened model.

        Args:
            name: As given on the command line.
            local: The model, with its adapter on it if it has one; None for a script.
            adapter: Folder of that adapter: what is tuned goes on from it.
        """
        self.name, self.local, self.adapter = name, local, adapter

    def base(self, script: Callable[[], AbstractLanguageModel]) -> AbstractLanguageModel:
        """The model as it came; `script` makes the one that a scripted model's name stands for."""
        return self.local if self.local is not None else script()

    def shown(self, row: TrainRow, recipe: Recipe) -> str:
        """A training example as the model reads it, on one line, with the loss's tokens between `>>>` and `<<<`."""
        if self.local is None:
            return "none, a script is not trained"
        from gnothi.finetune.batches import show

        return show(self.local.codec, row, recipe.end_of_answer)

    def fleet_choice(self, orders: Sequence[Order], recipe: Recipe) -> dict[str, Any]:
        """Whether these orders are faster together or in turn, as measured now; see `finetune.fleet`."""
        if self.local is None:
            return {"together": False}
        from gnothi.finetune.fleet import choose

        return choose(self.local, self._jobs(orders, recipe), self._recipe(recipe)).to_json()

    def _recipe(self, recipe: Recipe) -> Recipe:
        # an adapter that came with the model has a shape of its own
        return recipe if self.adapter is None else dataclasses.replace(recipe, parent="stack")

    def _jobs(self, orders: Sequence[Order], recipe: Recipe) -> "list[TrainJob]":
        from gnothi.finetune.loop import TrainJob

        return [
            TrainJob(
                name=o.unit,
                rows=o.rows,
                seed=o.seed,
                parent=o.parent if o.parent is not None else self.adapter,
                row_words=o.words if "rows" in recipe.kind else (),
            )
            for o in orders
        ]

    def tune(
        self,
        orders: Sequence[Order],
        recipe: Recipe,
        *,
        save: Callable[[str], Path],
        step: Step,
        stop: Callable[[int, AbstractLanguageModel], bool] | None = None,
        together: bool = True,
        checkpoint: Path | None = None,
    ) -> list[tuple[AbstractLanguageModel, dict[str, Any]]]:
        """Tune once for each order, as one fleet where the recipe allows it.

        Args:
            orders: What to make.
            recipe: How.
            save: Says where a unit's adapter goes, by unit name.
            step: Called with steps done and in all.
            stop: Called with steps done and the model so far; says whether that is good enough to stop.
            together: False tunes them in turn.
            checkpoint: Where training that was cut off goes on from; the caller removes it.

        Returns:
            For each order the tuned model and what is worth recording of the training.
        """
        if self.local is None:
            return [(o.script(), {"losses": [], "steps": 0}) for o in orders]
        from gnothi.finetune.loop import train

        trained = train(
            self.local,
            self._jobs(orders, recipe),
            self._recipe(recipe),
            progress=lambda done, total, _loss: step(done, total),
            gate=None if stop is None else (lambda done, _job, model: stop(done, model)),
            together=together,
            checkpoint=checkpoint,
        )
        results = []
        for order, found in zip(orders, trained, strict=True):
            folder = save(found.name)
            found.save(folder)
            canaries = Canaries.of_rows(order.rows)
            facts = {
                "canaries": canaries.to_json(),
                "after_training": canary(self.local.with_adapter(found.adapter), canaries),
                "adapter_digest": found.digest,
                "losses": found.losses,
                "steps": found.steps,
                "tokens": found.tokens_seen,
                "answer_tokens": found.answer_tokens_seen,
                "seconds": found.seconds,
                "stopped_early": found.stopped_early,
            }
            results.append((self.local.with_adapter(folder), facts))
        return results
