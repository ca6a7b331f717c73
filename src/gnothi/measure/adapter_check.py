"""That the adapter which is measured is the one that was trained: digest, and canaries that only it answers so.

An adapter can be lost without a word: files altered, a folder of another unit, names that match no layer, a backend that
loads the base alone. So its files are read again, and the log-probabilities of a few *canary* prompts, taken right after
training from the tensors that training left in memory, must come back at each measurement and differ from the base's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gnothi.errors import DataError, ModelError, StoreError
from gnothi.models.base import AbstractLanguageModel
from gnothi.records import Messages, TrainRow, messages_from_json, messages_to_json

LEAST, MOST = 3, 4
"""Canary prompts."""
TOLERANCE = {"float32": 1e-4}
"""Largest difference in nats between two measurements of one adapter, by the type of the parameters."""
ELSEWHERE = 0.05
"""The same in half precision, where the rounding of a batch depends on what else is in it."""
_BEGINNING = 24  # characters of an answer
_FLOOR = -1e4  # nats: below, and for broken models, a difference means nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Canaries:
    """Prompts whose answers' probabilities tell one adapter from another, and from none."""

    prompts: tuple[Messages, ...]
    options: tuple[tuple[str, ...], ...]
    """For each prompt beginnings of answers."""

    def __post_init__(self) -> None:
        if not self.prompts or len(self.prompts) != len(self.options) or not all(self.options):
            raise DataError(
                f"Canaries must have options for each prompt, got {len(self.prompts)} prompts and "
                f"{[len(o) for o in self.options]} options."
            )

    @classmethod
    def of_rows(cls, rows: Sequence[TrainRow]) -> "Canaries":
        """Canaries among what is trained on: an adapter of a few tokens' rows changes nothing where they are absent.

        Args:
            rows: Training rows; those of the first prompts that differ are taken, spread over the rows.

        Raises:
            DataError: No rows.
        """
        if not rows:
            raise DataError("Canaries.of_rows needs training rows, got none.")
        distinct = {row.messages: row for row in rows}
        chosen = list(distinct.values())[:: max(1, len(distinct) // MOST)][:MOST]
        common = list(dict.fromkeys(_beginning(row.answer) for row in rows))[:2]
        options = [tuple(dict.fromkeys([_beginning(row.answer), *common])) for row in chosen]
        while len(chosen) < LEAST:  # fewer prompts than canaries: the same again costs nothing and keeps the count
            chosen, options = [*chosen, chosen[0]], [*options, options[0]]
        return cls(prompts=tuple(r.messages for r in chosen), options=tuple(options))

    @classmethod
    def of_prompts(cls, prompts: Sequence[Messages], options: Sequence[str] = ("A", "B")) -> "Canaries":
        """Canaries where no training rows are known: the first prompts, each with the same options."""
        chosen = list(dict.fromkeys(prompts))[:MOST]
        return cls(prompts=tuple(chosen), options=(tuple(options),) * len(chosen))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"prompts": [messages_to_json(m) for m in self.prompts], "options": [list(o) for o in self.options]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Canaries":
        """The inverse of `to_json`.

        Raises:
            DataError: Anything else.
        """
        try:
            prompts = tuple(messages_from_json(m) for m in values["prompts"])
            options = tuple(tuple(str(o) for o in some) for some in values["options"])
        except (KeyError, TypeError) as error:
            raise DataError(f"Canaries must have prompts and options, got {values!r:.80}.") from error
        return cls(prompts=prompts, options=options)


def canary(model: AbstractLanguageModel, canaries: Canaries) -> list[float]:
    """Log-probabilities of every canary's options, in nats, one prompt after another.

    Args:
        model: Anything that gives log-probabilities.
        canaries: What to ask.
    """
    found = np.concatenate(model.option_logprobs(canaries.prompts, canaries.options))
    return [float(x) for x in np.maximum(np.nan_to_num(found, nan=_FLOOR), _FLOOR)]


def largest_difference(first: Sequence[float], second: Sequence[float]) -> float:
    """Largest absolute difference of two measurements, in nats.

    Raises:
        DataError: Measurements of different canaries.
    """
    if len(first) != len(second):
        raise DataError(f"canaries must be the same in both measurements, got {len(first)} and {len(second)} numbers.")
    return float(np.abs(np.subtract(first, second)).max())


def verify(
    model: AbstractLanguageModel,
    base: AbstractLanguageModel,
    folder: Path | None,
    expected_digest: str | None,
    canaries: Canaries,
    after_training: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Prove that `model` is the base with the adapter that was trained.

    Args:
        model: What is measured.
        base: The same without any adapter.
        folder: The adapter's; None checks the model alone.
        expected_digest: The digest that training recorded; None for an adapter that was made elsewhere.
        canaries: What to ask.
        after_training: What `canary` gave right after training; None where nobody asked.

    Returns:
        What to record: `digest`, `canary` (now), `from_base` and `since_training` (largest differences in nats, the
        second None without `after_training`), `tolerance`.

    Raises:
        StoreError: Files that are missing, damaged, or of another digest than training recorded.
        ModelError: An adapter that the model does not hold, that changes nothing, or that no longer answers as right
            after training.
    """
    digest = _digest_of_files(folder) if folder is not None else None
    if expected_digest is not None and digest is not None and digest != expected_digest:
        raise StoreError(
            f"adapter in {folder} must be the one that was trained (digest {expected_digest[:12]}), got {digest[:12]}. "
            "Train the unit again."
        )
    held = getattr(getattr(model, "adapter", None), "digest", None)
    if digest is not None and held != digest:
        got = "none" if held is None else held[:12]
        raise ModelError(
            f"model must hold the adapter of {folder} ({digest[:12]}), got {got}. Open it with that adapter."
        )
    now = canary(model, canaries)
    from_base = largest_difference(now, canary(base, canaries))
    if from_base == 0:
        raise ModelError(
            f"adapter must change what the model says, got the base's own probabilities on all of {len(canaries.prompts)} "
            f"canary prompts ({folder or 'in memory'}): it is ignored, or nothing was learned. Check that its layers' "
            "names are the model's, and the learning rate."
        )
    tolerance = TOLERANCE.get(str(getattr(model, "dtype", "float32")), ELSEWHERE)
    since = None if after_training is None else largest_difference(now, after_training)
    if since is not None and since > tolerance:
        raise ModelError(
            f"adapter must answer its canaries as right after training within {tolerance:g} nats, got {since:.3g}. "
            "Something else is on the model, or the base is another: train the unit again."
        )
    return {
        "digest": digest,
        "canary": now,
        "from_base": from_base,
        "since_training": since,
        "tolerance": tolerance,
    }


def _beginning(answer: str) -> str:
    """What is asked for of an answer; all of it where its beginning is nothing but space."""
    return answer[:_BEGINNING] if answer[:_BEGINNING].strip() else answer


def _digest_of_files(folder: Path) -> str:
    from gnothi.models.adapter_files import load_adapter

    return load_adapter(folder).digest  # checks the digest that the folder states, too
