"""Asks a model what it does: questions in, raw answers out, kept as they were, with the parsed value or a reason."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gnothi.elicit.parse import parse_weights
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """Reports as arrays over contexts x attributes; False in `valid` means that nothing was reported there."""

    mean: np.ndarray
    """Mean over valid answers, shape (n_contexts, n_attributes); meaningless where not valid."""
    mode: np.ndarray
    """The same of the likeliest numbers (equal to `mean` for text answers)."""
    valid: np.ndarray
    """Shape (n_contexts, n_attributes), bool."""
    repeats: np.ndarray
    """Single answers, shape (n_contexts, k, n_attributes)."""
    repeats_valid: np.ndarray
    """Shape (n_contexts, k, n_attributes), bool."""


def gather(samples: Sequence[Sample], contexts: Sequence[Context]) -> Reports:
    """Line samples up by context and attribute; the i-th answer about a point is repeat i."""
    width = max(c.n_attributes for c in contexts)
    row = {c.context_id: i for i, c in enumerate(contexts)}
    points: dict[tuple[int, int], list[tuple[float, float] | None]] = {}
    for sample in samples:
        for index in sample.extra["attributes"]:
            value = sample.value[index] if sample.valid else None
            pair = None if value is None else (value, float(sample.extra.get("mode", value)))
            points.setdefault((row[sample.context_id], index), []).append(pair)
    k = max((len(v) for v in points.values()), default=1)
    shape = (len(contexts), k, width)
    values, modes, valid = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    for (context, attribute), pairs in points.items():
        for i, pair in enumerate(pairs):
            if pair is not None:
                values[context, i, attribute], modes[context, i, attribute] = pair
                valid[context, i, attribute] = True
    count = np.maximum(valid.sum(axis=1), 1)
    return Reports(
        mean=(values * valid).sum(axis=1) / count,
        mode=(modes * valid).sum(axis=1) / count,
        valid=valid.any(axis=1),
        repeats=values,
        repeats_valid=valid,
    )
