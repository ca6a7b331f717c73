"""What stands in for a tuned model where the base is a script: every prompt of the run with its answer."""

from collections.abc import Mapping

import numpy as np

from gnothi.experiments.preferences.bench import Bench
from gnothi.models.scripted import ScriptedModel
from gnothi.records import Context, Item, Messages
from gnothi.render.base import Question
from gnothi.rng import stream


def script(name: str, bench: Bench, table: Mapping[str, np.ndarray] | None, unit: str) -> ScriptedModel:
    """A scripted model for one unit: it recognises every prompt that the run can ask.

    `oracle` chooses and reports by `table` (where it has none, at random); `constant-a` always says the first option
    and reports at random; `guess` chooses by the table and reports at random; `nonsense`
    chooses by the table and reports what does not parse.
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
        known = None if table is None or kind in ("constant-a", "guess") else table.get(context.context_id)
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
