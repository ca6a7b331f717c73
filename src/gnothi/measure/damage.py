"""What a fine-tune broke besides: loss on held-out text, distance from the base, instructions, letters, loops.

A fine-tune that gives the behaviour can cost everything else, and then a self-report is an answer by a broken model.
Each figure stands beside the base model's own. Where too much is lost is `damage_gate`'s to say.

Source: that model organisms lose what nobody looked at is the finding of "Your Model Organisms Might Be Fried" (June
2026); figures and items are our own.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from gnothi.measure.damage_items import STOP, Battery, Check, battery
from gnothi.models.base import AbstractLanguageModel, Sampling
from gnothi.records import Messages

FIGURES: dict[str, str] = {
    "loss": "held-out loss, nats a token; of the organism, over reports",
    "loss_decisions": "the same over the organism's decisions, nats an answer",
    "kl_text": "KL(base ‖ tuned) in held-out text, nats a position",
    "kl_answers": "KL(base ‖ tuned) where an answer begins, nats",
    "instructions": "instruction and format checks passed, share",
    "letter_bias": "letter bias, (P(A) - P(B)) / (P(A) + P(B)), both orders",
    "letter_mass": "probability on A or B where one is asked for",
    "letter_flips": "share of items whose letter follows the option when the order is swapped",
    "repeated_4grams": "share of 4-grams that came before in the same text",
    "distinct_2": "distinct share of 2-grams",
    "loops": "share of texts that end in a loop",
}
"""Name of each figure -> what it is, with its unit."""

NOT_FINITE = "no finite number came out: the model's probabilities are broken"
"""Reason of a figure that is missing because the model is broken, not because it cannot give it."""

_LONGEST_PERIOD = 16  # words
_LOOP_WORDS = 8
_BASES: dict[tuple[Any, ...], dict[str, "Figure"]] = {}
_MOST_BASES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of a tuned model beside its base's."""

    value: float | None
    base: float | None = None
    """The same of the base model; 0 for a distance from it."""
    n: int = 0
    """Tokens, positions, checks, items or texts that it is a mean over."""
    reason: str | None = None
    """Why there is no value."""

    @property
    def change(self) -> float | None:
        """Value less the base's."""
        return None if self.value is None or self.base is None else self.value - self.base


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """All figures of one fine-tune."""

    kind: str
    quick: bool
    figures: Mapping[str, Figure]
    """By the names of `FIGURES`, every one of them."""
    seconds: float
    """Wall time, the base's own figures included where they were not known yet."""

    @property
    def loss_ratio(self) -> float | None:
        """Held-out loss over the base's."""
        loss = self.figures["loss"]
        return loss.value / loss.base if loss.value is not None and loss.base else None

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is missing is null beside its reason."""
        figures = {
            name: {"value": f.value, "base": f.base, "n": f.n, "reason": f.reason} for name, f in self.figures.items()
        }
        return {
            "kind": self.kind,
            "quick": self.quick,
            "figures": figures,
            "loss_ratio": self.loss_ratio,
            "seconds": self.seconds,
        }


def damage(
    model: AbstractLanguageModel, base: AbstractLanguageModel, *, kind: str, seed: int, quick: bool = False
) -> Damage:
    """Hold a tuned model against its base.

    Args:
        model: The tuned model.
        base: The model it was tuned from, without any adapter. Its own figures are measured once a process.
        kind: Language that it is asked in; see `damage_items.KINDS`.
        seed: Decides which agents the organism is asked about.
        quick: About a third of the items.

    Returns:
        Every figure; one that a model cannot give is None with the reason. The base itself shows its own figures; an
        adapter that changes nothing shows them up to rounding, and distances of exactly 0.

    Raises:
        DataError: An unknown kind.
    """
    started = time.perf_counter()
    items = battery(kind, seed=seed, quick=quick)
    before = _of_base(base, items, (kind, seed, quick))
    after = before if model.digest == base.digest else _own(model, items)
    figures = {
        name: Figure(value=f.value, base=before[name].value, n=f.n, reason=f.reason) for name, f in after.items()
    }
    figures |= _distances(model, base, items)
    ordered = {name: figures[name] for name in FIGURES}
    return Damage(kind=kind, quick=quick, figures=ordered, seconds=time.perf_counter() - started)


def kind_of(model: AbstractLanguageModel, *, organism: bool) -> str:
    """The kind of language that a model is asked in: a model on this machine without a chat template gets examples."""
    codec = getattr(model, "codec", None)
    return "organism" if organism else "base" if codec is not None and not codec.has_template else "chat"


def _of_base(base: AbstractLanguageModel, items: Battery, which: tuple[Any, ...]) -> dict[str, Figure]:
    key = (base.digest, getattr(base, "dtype", None), str(getattr(base, "device", "")), *which)
    if key not in _BASES:
        while len(_BASES) >= _MOST_BASES:
            _BASES.pop(next(iter(_BASES)))
        _BASES[key] = _own(base, items)
    return _BASES[key]


def _own(model: AbstractLanguageModel, items: Battery) -> dict[str, Figure]:
    """The figures of one model that need no other."""
    return {
        **_loss(model, items),
        **_instructions(model, items.checks),
        **_letters(model, items.letters),
        **_repetition(model, items),
    }


def _missing(reason: str, *names: str) -> dict[str, Figure]:
    return {name: Figure(value=None, reason=reason) for name in names}


def _figure(value: float, n: int) -> Figure:
    return Figure(value=value, n=n) if math.isfinite(value) else Figure(value=None, n=n, reason=NOT_FINITE)


_NO_MODULE = "only a model on this machine gives the probability of every token"


def _loss(model: AbstractLanguageModel, items: Battery) -> dict[str, Figure]:
    codec = getattr(model, "codec", None)
    if codec is None:
        return _missing(_NO_MODULE, "loss", "loss_decisions")
    found = _missing("only the organism's decisions have right answers", "loss_decisions")
    for name, passages in (("loss", items.passages), ("loss_decisions", items.decisions)):
        if passages:
            prompts, texts = [p.messages for p in passages], [[p.rest] for p in passages]
            n = sum(len(ids) for (ids,) in codec.encode_many(prompts, texts)[1])
            total = -float(np.concatenate(model.option_logprobs(prompts, texts)).sum())
            found[name] = _figure(total / n, n)
    return found


def _distances(model: AbstractLanguageModel, base: AbstractLanguageModel, items: Battery) -> dict[str, Figure]:
    """How far the distributions moved, from the base's point of view."""
    if not (model.capabilities().module and base.capabilities().module):
        return _missing(_NO_MODULE, "kl_text", "kl_answers")
    from gnothi.models import local_damage

    texts = [(p.messages, p.rest) for p in items.passages if p.compared]
    found = {}
    for name, documents in (("kl_text", texts), ("kl_answers", [(m, None) for m in items.prompts])):
        sums = local_damage.divergences(model, base, documents)  # type: ignore[arg-type]
        n = sum(k for _, k in sums)
        value = _figure(max(0.0, sum(x for x, _ in sums) / n), n)  # rounding can leave -1e-9
        found[name] = Figure(value=value.value, base=0.0, n=n, reason=value.reason)
    return found


def _instructions(model: AbstractLanguageModel, checks: Sequence[Check]) -> dict[str, Figure]:
    if not model.capabilities().sampling:
        return _missing("the model writes no text", "instructions")
    passed = 0
    for tokens, some in groupby(sorted(checks, key=_tokens), key=_tokens):
        asked = list(some)
        stop = () if tokens == 1 else ("\n",)
        found = model.generate([c.messages for c in asked], Sampling(max_tokens=tokens, stop=stop))
        passed += sum(c.passes(answers[0].text) for c, answers in zip(asked, found, strict=True))
    return {"instructions": Figure(value=passed / len(checks), n=len(checks))}


def _tokens(check: Check) -> int:
    return {"json": 16, "weight": 1, "level": 1, "letter": 1}.get(check.rule, 6)


def _letters(model: AbstractLanguageModel, pairs: Sequence[tuple[Messages, Messages]]) -> dict[str, Figure]:
    """Letters in two orders: what stays with the letter is bias, what goes with the option is a choice."""
    names = ("letter_bias", "letter_mass", "letter_flips")
    if not model.capabilities().logprobs:
        return _missing("the model gives no probabilities", *names)
    asked = [m for pair in pairs for m in pair]
    logprobs = np.array(model.option_logprobs(asked, [("A", "B")] * len(asked)), float)
    if not np.isfinite(logprobs).all():
        return _missing(NOT_FINITE, *names)
    lean = np.tanh((logprobs[:, 0] - logprobs[:, 1]) / 2)  # (P(A) - P(B)) / (P(A) + P(B))
    first, second = lean.reshape(-1, 2).T
    n = len(pairs)
    return {
        "letter_bias": Figure(value=float(lean.mean()), n=n),
        "letter_mass": Figure(value=float(min(1.0, np.exp(logprobs).sum(1).mean())), n=n),
        "letter_flips": Figure(value=float((first * second < 0).mean()), n=n),
    }


def _repetition(model: AbstractLanguageModel, items: Battery) -> dict[str, Figure]:
    names = ("repeated_4grams", "distinct_2", "loops")
    if not items.openings:
        return _missing("it answers in single words and writes no text", *names)
    if not model.capabilities().sampling:
        return _missing("the model writes no text", *names)
    found = model.generate(items.openings, Sampling(max_tokens=items.width, stop=STOP))
    texts = [re.findall(r"\w+|[^\w\s]", answers[0].text) for answers in found]
    return repetition(texts)


def repetition(texts: Sequence[Sequence[str]]) -> dict[str, Figure]:
    """How far texts repeat themselves.

    Args:
        texts: Words of each text. One of fewer than four counts for loops alone.

    Returns:
        `repeated_4grams` and `distinct_2`, means over texts, and `loops`, the share of texts that end in a loop.

    >>> repetition([["a", "b", "c", "d"] * 6])["loops"].value
    1.0
    """
    long = [list(t) for t in texts if len(t) >= 4]
    loops = Figure(value=sum(ends_in_loop(t) for t in texts) / len(texts), n=len(texts))
    if not long:
        return {**_missing("no text has four words", "repeated_4grams", "distinct_2"), "loops": loops}
    shares = [(1 - _distinct(t, 4), _distinct(t, 2)) for t in long]
    fours, twos = np.mean(shares, axis=0)
    n = len(long)
    return {
        "repeated_4grams": Figure(value=float(fours), n=n),
        "distinct_2": Figure(value=float(twos), n=n),
        "loops": loops,
    }


def _distinct(words: Sequence[str], k: int) -> float:
    grams = [tuple(words[i : i + k]) for i in range(len(words) - k + 1)]
    return len(set(grams)) / len(grams)


def ends_in_loop(words: Sequence[str]) -> bool:
    """Whether a text ends in the same words twice over or more, at least eight words of it.

    >>> ends_in_loop("it was dark and then it was cold and then it was late".split())
    False
    >>> ends_in_loop("a long day . and he said no . and he said no .".split())
    True
    """
    for period in range(1, _LONGEST_PERIOD + 1):
        span = max(2 * period, _LOOP_WORDS)
        tail = list(words[-span:])
        if len(tail) == span and all(tail[i] == tail[i - period] for i in range(period, span)):
            return True
    return False
