"""When a fine-tune broke too much for its self-reports to be interpreted: thresholds with their reasons, in one place."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from gnothi.errors import SpecError
from gnothi.measure.damage import NOT_FINITE, Damage

LEAST_BASE_INSTRUCTIONS = 0.25
"""Below this share the base itself does not follow, and losing it says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """How much may be lost. None leaves that figure out."""

    loss: float | None = 1.5
    """Nats a token that held-out loss may lie above the base's; of the organism, in reports and in decisions both."""
    instructions: float | None = 0.5
    """Least share of the base's passed checks that must still pass."""
    letter_bias: float | None = 0.4
    """How far |letter bias| may lie above the base's."""
    loops: float | None = 0.5
    """Largest share of texts that end in a loop, where the base stays below it."""

    def __post_init__(self) -> None:
        wrong = [
            f"{name} must be a number above 0 or null, got {value!r:.40}"
            for name, value in asdict(self).items()
            if value is not None
            and not (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf)
        ]
        if wrong:
            raise SpecError(f"damage_gate: {'; '.join(wrong)}. See docs/damage.md.")

    @classmethod
    def from_json(cls, values: Mapping[str, Any], kind: str = "chat") -> "Thresholds":
        """The defaults of a kind of language with some of them changed.

        Args:
            values: Thresholds by name.
            kind: One of `damage_items.KINDS`, or `silent`.

        Raises:
            SpecError: A figure that has no threshold, or a value that is none.
        """
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise SpecError(
                f"damage_gate must have fields among {', '.join(known)}, got {unknown}. See docs/damage.md."
            )
        return cls(**{**_DEFAULTS.get(kind, {}), **values})

    def to_json(self) -> dict[str, float | None]:
        """Plain values."""
        return asdict(self)


SILENT = "silent"
"""A kind of language for `Thresholds.from_json`: of a model that is let to write nothing."""
_DEFAULTS: dict[str, dict[str, Any]] = {"organism": {"letter_bias": None}, SILENT: {"loops": None}}
"""Where a kind differs: the organism reports in numbers and words, so its letters decide no self-report; and what a model
would write decides none of those that are read off its probabilities."""

WHY: dict[str, str] = {
    "loss": "a model that has lost this much of its language answers questions about itself with what is left (the "
    "package's own recipes lose at most half of it: docs/damage.md)",
    "instructions": "a question is an instruction: who follows half as many no longer answers what is asked",
    "letter_bias": "answers by letter then say which letter, and no longer which option",
    "loops": "written answers are then the loop's and not the model's",
}
"""Threshold -> why it is there."""


def verdict(found: Damage, thresholds: Thresholds) -> tuple[bool, str | None]:
    """Whether so little is broken that self-reports can be interpreted, and if not, why.

    A figure that a model cannot give decides nothing; one that came out as no finite number fails. The base model
    itself is never judged.

    Returns:
        Whether it passed, and everything that did not, in one line.
    """
    wrong = [f"{name}: {NOT_FINITE}" for name, f in found.figures.items() if f.reason == NOT_FINITE]
    for name, broken in _CHECKS.items():
        limit, figure = getattr(thresholds, name), found.figures[name]
        if name == "loss" and (decisions := found.figures["loss_decisions"]).change is not None:
            figure = min(figure, decisions, key=lambda f: math.inf if f.change is None else f.change)
        if limit is not None and figure.value is not None and figure.base is not None:
            wrong += [said] if (said := broken(figure.value, figure.base, limit)) else []
    return not wrong, "; ".join(wrong) or None


def is_damaged(record: Mapping[str, Any]) -> bool:
    """Whether a unit's record says that its fine-tune broke too much; one that was not searched says nothing."""
    gate = (record.get("damage") or {}).get("gate") or {}
    return gate.get("passed") is False


def _loss(value: float, base: float, limit: float) -> str | None:
    if value - base <= limit:
        return None
    return f"held-out loss is {value:.2f} nats a token against the base's {base:.2f}, more than {limit:g} above it"


def _instructions(value: float, base: float, limit: float) -> str | None:
    if base < LEAST_BASE_INSTRUCTIONS or value >= limit * base:
        return None
    return f"{value:.0%} of instructions are followed against the base's {base:.0%}"


def _letters(value: float, base: float, limit: float) -> str | None:
    if abs(value) - abs(base) <= limit:
        return None
    return f"letter bias is {value:+.2f} against the base's {base:+.2f}: the letter is answered, not the option"


def _loops(value: float, base: float, limit: float) -> str | None:
    if base > limit or value <= limit:
        return None
    return f"{value:.0%} of texts end in a loop against the base's {base:.0%}"


_CHECKS: dict[str, Callable[[float, float, float], str | None]] = {
    "loss": _loss,
    "instructions": _instructions,
    "letter_bias": _letters,
    "loops": _loops,
}
"""Threshold -> what is wrong with (value, base's value, threshold), or None."""
