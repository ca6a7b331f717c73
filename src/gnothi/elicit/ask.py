"""Asks a model what it does: questions in, raw answers out, kept as they were, with the parsed value or a reason."""

import time
from collections.abc import Sequence
from dataclasses import replace

from gnothi.elicit.parse import parse_weights
from gnothi.errors import DataError
from gnothi.models.base import AbstractLanguageModel, NumberDistribution, Sampling
from gnothi.records import Context, Sample
from gnothi.render.base import Question

LEAST_NUMBER_MASS = 0.5
"""A number is read off a distribution only if numbers hold at least this probability."""


def ask(
    model: AbstractLanguageModel, questions: Sequence[Question], contexts: Sequence[Context], *, sampling: Sampling
) -> list[Sample]:
    """Ask every question once, each in a conversation of its own.

    Args:
        model: Whom to ask.
        questions: What to ask; each keeps the options that it showed.
        contexts: Those that the questions are about: a report's `value` has one entry for each attribute, None
            where it was not asked.
        sampling: For `json` questions; `number` questions are read off the distribution and not sampled.

    Returns:
        One sample a question, in order.
    """
    if len({q.question_id for q in questions}) < len(questions):
        raise DataError("questions must have an id of their own each, got one twice. Ask each once, or rename it.")
    sizes = {c.context_id: c.n_attributes for c in contexts}
    started = time.perf_counter()
    numbers = [q for q in questions if q.kind == "number"]
    texts = [q for q in questions if q.kind == "json"]
    found: dict[str, Sample] = {}
    for low, high in sorted({(q.low, q.high) for q in numbers}):
        group = [q for q in numbers if (q.low, q.high) == (low, high)]
        for question, numbers_seen in zip(
            group, model.number_distribution([q.messages for q in group], low, high), strict=True
        ):
            found[question.question_id] = _from_distribution(question, numbers_seen, sizes)
    if texts:
        for question, answers in zip(
            texts, model.generate([q.messages for q in texts], replace(sampling, n=1)), strict=True
        ):
            found[question.question_id] = _from_text(question, answers[0].text, answers[0].n_tokens, sizes)
    each = (time.perf_counter() - started) / max(1, len(questions))
    return [replace(found[q.question_id], seconds=each) for q in questions]


def _sample(question: Question, **fields: object) -> Sample:
    return Sample(
        sample_id=question.question_id,
        kind="report",
        context_id=question.context_id,
        messages=question.messages,
        item=question.item,
        **fields,  # type: ignore[arg-type]
    )


def _spread(question: Question, values: Sequence[float], sizes: dict[str, int]) -> tuple[float | None, ...]:
    whole: list[float | None] = [None] * sizes[question.context_id]
    for index, value in zip(question.attributes, values, strict=True):
        whole[index] = value
    return tuple(whole)


def _from_distribution(question: Question, numbers: NumberDistribution, sizes: dict[str, int]) -> Sample:
    extra = {
        "attributes": list(question.attributes),
        "mode": numbers.mode,
        "missing": round(float(numbers.missing), 9),
        "probabilities": [round(float(p), 6) for p in numbers.probabilities],
        "low": numbers.low,
    }
    mean = numbers.mean
    if mean is None or 1 - numbers.missing < LEAST_NUMBER_MASS:
        return _sample(question, reason="numbers unlikely", extra=extra)
    return _sample(question, value=_spread(question, [mean], sizes), extra=extra)


def _from_text(question: Question, text: str, n_tokens: int, sizes: dict[str, int]) -> Sample:
    values, reason = parse_weights(text, question.names, low=question.low, high=question.high)
    value = () if values is None else _spread(question, values, sizes)
    extra = {"attributes": list(question.attributes)}
    return _sample(question, text=text, value=value, reason=reason, answer_tokens=n_tokens, extra=extra)
