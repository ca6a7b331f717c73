"""Items and questions of a stored run as prompts whose next token is read: two options, or numbers of one token each.

Nothing is drawn anew and no code of the run is loaded: messages, options and scores are those that were stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnothi.models.local_text import Codec
from gnothi.records import Messages, Sample
from gnothi.rng import stream
from gnothi.store import RunFolder

OPTIONS, NUMBERS = "options", "numbers"
CHOICE, REPORT = "choice", "self_report"
MOST_CHOICES = 320
"""Choices that are read; more would change no map."""
MOST_NUMBERS = 101
"""Longest scale whose numbers are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt and what is read after it."""

    sample_id: str
    messages: Messages
    words: tuple[str, ...]
    """The answers; of two options the one of the plus end first."""
    ids: tuple[int, ...]
    """Token ids of the messages."""
    kind: str
    """`options`: the difference of two logits. `numbers`: the expected value of a scale, in [0, 1]."""
    tokens: tuple[int, ...]
    """The answers' first tokens."""
    values: tuple[float, ...]
    """What each answer counts for, in [0, 1]."""
    stored: float | None
    """What the unit's own stored probabilities say of it; None where an answer has several tokens."""
    flipped: bool = False
    """Whether the option shown second is the one of the plus end."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """What one model is read on."""

    choice: list[Prompt]
    report: list[Prompt]
    left_out: dict[str, int]
    """How many stored answers of each kind cannot be read off one token."""


def prompts_of(run: RunFolder, unit: str, codec: Codec, *, seed: int = 0, most: int = MOST_CHOICES) -> Prompts:
    """Everything that a unit chose and said, as far as one token shows it.

    Args:
        run: The parent run.
        unit: One of its units.
        codec: The model's.
        seed: The run's; decides which choices are left out where there are more than `most`.
        most: Choices at most.

    Returns:
        Prompts in the order of their ids; of choices those of the kind that was trained.
    """
    found: dict[str, list[Prompt]] = {}
    left_out: dict[str, int] = {}
    for name, table in ((CHOICE, "choices"), (REPORT, "reports")):
        samples = _samples(run, unit, table, name)
        made = [p for p in _encoded(samples, codec) if p is not None]
        counts = {kind: sum(p.kind == kind for p in made) for kind in (OPTIONS, NUMBERS)}
        kind = max(counts, key=lambda k: counts[k])  # the two are not of one unit, so one alone is read
        found[name] = sorted((p for p in made if p.kind == kind), key=lambda p: p.sample_id)
        left_out[name] = len(samples) - len(found[name])
    choice = found[CHOICE]
    if len(choice) > most:
        kept = stream(seed, "look", "choices").permutation(len(choice))[:most]
        choice = [choice[i] for i in sorted(kept.tolist())]
    return Prompts(choice, found[REPORT], left_out)


def _samples(run: RunFolder, unit: str, table: str, name: str) -> list[Sample]:
    rows: Any = run.table(unit, table)
    if "scope" in rows:  # attribute weights: agents that the model was tuned on
        rows = rows[rows["scope"] == "trained"]
    elif name == CHOICE and "question" in rows and "held_out" in set(rows["question"]):
        rows = rows[rows["question"] == "held_out"]
    records = [Sample.from_row(row) for row in rows.to_dict("records")]
    return list({r.sample_id: r for r in records if r.valid or len(r.options) == 2}.values())


def _encoded(samples: Sequence[Sample], codec: Codec) -> list[Prompt | None]:
    answers = [_answers(s) for s in samples]
    usable = [i for i, a in enumerate(answers) if a is not None]
    texts: list[Messages] = [samples[i].messages for i in usable]
    ids, tokens = codec.encode_many(texts, [answers[i][1] for i in usable])  # type: ignore[index]
    found: list[Prompt | None] = [None] * len(samples)
    for i, prompt, each in zip(usable, ids, tokens, strict=True):
        kind, words, values, stored, flipped = answers[i]  # type: ignore[misc]
        first = tuple(t[0] for t in each)
        whole = all(len(t) == 1 for t in each)
        if len(set(first)) < len(words) or (kind == NUMBERS and not whole):
            continue
        found[i] = Prompt(
            sample_id=samples[i].sample_id,
            messages=samples[i].messages,
            words=words,
            ids=tuple(prompt),
            kind=kind,
            tokens=first,
            values=values,
            stored=stored if whole else None,
            flipped=flipped,
        )
    return found


Answers = tuple[str, tuple[str, ...], tuple[float, ...], float, bool]


def _answers(sample: Sample) -> Answers | None:
    """Kind, words (plus end first), values and the stored readout; None for an answer that is no single token."""
    extra: dict[str, Any] = dict(sample.extra)
    if len(sample.options) == 2 and len(sample.logprobs) == 2 and np.isfinite(sample.logprobs).all():
        contrast = float(sample.logprobs[0] - sample.logprobs[1])
        score = sample.value[0] if sample.value and extra.get("question") is not None else None
        if score is not None and 0 < score < 1 and "log_mass" not in extra:
            return None  # whole texts held against each other
        flipped = score is not None and (score - 0.5) * contrast < 0
        words = sample.options[::-1] if flipped else sample.options
        return OPTIONS, tuple(words), (1.0, 0.0), -contrast if flipped else contrast, flipped
    if not (probabilities := extra.get("probabilities")) or len(probabilities) > MOST_NUMBERS:
        return None
    low, n = int(extra["low"]), len(probabilities)
    scale = np.linspace(0, 1, n)
    p = np.array(probabilities)
    if p.sum() <= 0:
        return None
    mean = float(p @ scale / p.sum())
    score = next((v for v in sample.value if v is not None), None)
    turned = extra.get("question") is not None and score is not None and abs(1 - mean - score) < abs(mean - score)
    values = 1 - scale if turned else scale
    words = tuple(str(v) for v in range(low, low + n))
    return NUMBERS, words, tuple(float(v) for v in values), 1 - mean if turned else mean, turned


@dataclass(frozen=True, slots=True)
class Split:
    """Which prompts serve what, the same for every unit of a run; indices into `Prompts.choice`."""

    shown: list[int]
    """Maps are made on these."""
    tried: list[int]
    """Of those shown, the ones that changed models are shown on."""
    choosing: list[int]
    """Others of those shown, as many: they choose a rate where the rest has been trained on."""
    others: list[int]
    """Never shown: they choose how many units are undone, and are what reverse fine-tuning trains on."""


def split(prompts: Sequence[Prompt], *, seed: int, n: int, tried: int) -> Split:
    """Deal out prompts, at least two fifths of them to `others`.

    Args:
        prompts: All of them.
        seed: The run's.
        n: Shown, at most.
        tried: Of those, at most.
    """
    order = stream(seed, "look", "split").permutation(len(prompts)).tolist()
    n = min(n, len(prompts) * 3 // 5)
    shown, others = sorted(order[:n]), sorted(order[n:])
    tried = min(tried, n // 2)
    return Split(shown, sorted(order[:tried]), sorted(order[tried : 2 * tried]), others)


def opposite_pairs(contrasts: np.ndarray, *, n: int, seed: int) -> list[tuple[int, int]]:
    """Pairs of items of which the model chooses the option shown first in one and the other in the other.

    Args:
        contrasts: (n_items,) logit of the option shown first less that of the second.
        n: Pairs wanted.
        seed: The run's.

    Returns:
        (clean, corrupted) indices, both ways round in turn; no pair twice, fewer where there are not enough.
    """
    first, second = np.flatnonzero(contrasts > 0), np.flatnonzero(contrasts < 0)
    if not len(first) or not len(second):
        return []
    cells = stream(seed, "look", "pairs").permutation(len(first) * len(second))[:n]
    found = [(int(first[c // len(second)]), int(second[c % len(second)])) for c in cells]
    return [(a, b) if i % 2 else (b, a) for i, (a, b) in enumerate(found)]
