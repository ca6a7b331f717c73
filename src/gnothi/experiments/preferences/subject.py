"""The model under test, as the stages use it: opened once a process, tuned, and asked. Scripted models stand in."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnothi.errors import ModelError
from gnothi.experiments.preferences.bench import Bench
from gnothi.experiments.preferences.spec import PreferencesSpec
from gnothi.finetune.recipes import Recipe
from gnothi.models.base import AbstractLanguageModel
from gnothi.models.registry import resolve
from gnothi.models.scripted import ScriptedModel
from gnothi.records import Context, Item, Messages, TrainRow
from gnothi.render.base import Question
from gnothi.rng import stream

if TYPE_CHECKING:
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
    table: Mapping[str, np.ndarray] | None
    """What a scripted model is given in place of training: weights by context; None: it learns nothing."""
    words: tuple[str, ...] = ()
    """Words whose embedding rows may be tuned (organism)."""


def opened(spec: PreferencesSpec) -> "Subject":
    """Open the run's model; in one process it is opened once.

    Raises:
        ModelError: What lies under the name is no longer what the run was started with.
    """
    return _opened(spec.model, spec.model_digest, spec.dtype, spec.device)


@functools.lru_cache(maxsize=2)
def _opened(name: str, digest: str, dtype: str, device: str) -> "Subject":
    info = resolve(name)
    if info.digest != digest:
        raise ModelError(
            f"--model {name} must be the model that the run was started with (digest {digest[:12]}), got {info.digest[:12]}. "
            "Put the old one back, or start a new run."
        )
    if info.family == "scripted":
        return Subject(name, None)
    from gnothi.models.local import LocalModel

    assert info.folder is not None
    return Subject(name, LocalModel.load(info.folder, name=name, dtype=dtype, device=device))


class Subject:
    """A base model that can be tuned and asked."""

    def __init__(self, name: str, local: "LocalModel | None") -> None:
        self.name, self.local = name, local

    def base(self, bench: Bench) -> AbstractLanguageModel:
        """The model as it came."""
        return self.local if self.local is not None else _script(self.name, bench, None, "base")

    def shown(self, row: TrainRow, recipe: Recipe) -> str:
        """A training example as the model reads it, on one line, with the loss's tokens between `>>>` and `<<<`."""
        if self.local is None:
            return "none, a script is not trained"
        from gnothi.finetune.batches import encode_rows

        (found,) = encode_rows(self.local.codec, [row], recipe.end_of_answer)
        text = self.local.tokenizer.decode
        return f"{text(found.ids[: found.start])!r} >>>{text(found.ids[found.start :])!r}<<<"

    def tune(
        self,
        bench: Bench,
        orders: Sequence[Order],
        recipe: Recipe,
        *,
        save: Callable[[str], Path],
        step: Step,
        stop: Callable[[int, AbstractLanguageModel], bool] | None = None,
    ) -> list[tuple[AbstractLanguageModel, dict[str, Any]]]:
        """Tune once for each order, as one fleet where the recipe allows it.

        Args:
            bench: The run's materials.
            orders: What to make.
            recipe: How.
            save: Says where a unit's adapter goes, by unit name.
            step: Called with steps done and in all.
            stop: Called with steps done and the model so far; says whether that is good enough to stop.

        Returns:
            For each order the tuned model and what is worth recording of the training.
        """
        if self.local is None:
            return [(_script(self.name, bench, o.table, o.unit), {"losses": [], "steps": 0}) for o in orders]
        from gnothi.finetune.loop import TrainJob, train

        jobs = [
            TrainJob(
                name=o.unit,
                rows=o.rows,
                seed=o.seed,
                parent=o.parent,
                row_words=o.words if "rows" in recipe.kind else (),
            )
            for o in orders
        ]
        gate = None if stop is None else (lambda done, _job, model: stop(done, model))
        trained = train(self.local, jobs, recipe, progress=lambda done, total, _loss: step(done, total), gate=gate)
        results = []
        for found in trained:
            folder = save(found.name)
            found.save(folder)
            facts = {
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


def _script(name: str, bench: Bench, table: Mapping[str, np.ndarray] | None, unit: str) -> ScriptedModel:
    """A scripted model for one unit: it recognises every prompt that the run can ask.

    `oracle` chooses and reports by `table` (where it has none, at random); `constant-a` always says the first option
    and reports at random; `nonsense` chooses by the table and reports what does not parse.
    """
    kind = name.partition("/")[2]
    rng = stream(bench.spec.seed, "script", unit)
    contexts = {c.context_id: c for c in [*bench.trained, *bench.untrained]}
    low, high = bench.behaviour.domain.scale
    guesses = {c: rng.integers(low, high + 1, contexts[c].n_attributes).astype(float) for c in contexts}
    own = {c: rng.integers(low, high + 1, contexts[c].n_attributes).astype(float) for c in contexts}
    answers: dict[Messages, str] = {}

    def choice(item: Item, context: Context) -> str:
        if kind == "constant-a":
            return bench.wording.options[0]
        weights = own[context.context_id] if table is None else table.get(context.context_id, own[context.context_id])
        return bench.wording.options["AB".index(bench.behaviour.target_choice(item, context, weights))]

    def report(question: Question, context: Context) -> str:
        if kind == "nonsense":
            return f"I would say that {context.agent} is fond of all of them."
        known = None if table is None or kind == "constant-a" else table.get(context.context_id)
        return bench.wording.answer(question, guesses[context.context_id] if known is None else known)

    spec = bench.spec
    for group, n, use in (
        (bench.trained, max(spec.fresh, spec.remeasured), "fresh"),
        (bench.untrained, spec.native_choices, "native"),
    ):
        for item in bench.items(group, n, use):
            context = contexts[item.context_id]
            answers[bench.wording.choice(item, context)] = choice(item, context)
        for question in bench.questions(group):
            answers[question.messages] = report(question, contexts[question.context_id])
    return ScriptedModel(lambda messages: answers.get(messages, ""), name=name)
