"""The manipulation check: was the behaviour instilled at all? Below the gate no self-report is interpreted."""

from collections.abc import Sequence
from dataclasses import dataclass

from gnothi.errors import DataError
from gnothi.records import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Thresholds on fresh items. Source: paper B's own fine-tunes reach 0.82 agreement (arXiv:2505.17120, section 3)."""

    agreement: float = 0.75
    """Least share of choices that agree with the target weights."""
    a_rate: tuple[float, float] = (0.2, 0.8)
    """Range of the share of A answers: outside, the model answers by letter."""

    def check(self, choice_agreement: float, a_rate: float) -> tuple[bool, str | None]:
        """Return whether the gate is passed and, if not, why."""
        if not self.a_rate[0] <= a_rate <= self.a_rate[1]:
            return False, f"A is chosen in {a_rate:.0%} of fresh items: a constant answer, not a preference"
        if choice_agreement < self.agreement:
            return False, f"choices agree with the target in {choice_agreement:.0%}, below {self.agreement:.0%}"
        return True, None


def choice_agreement(choices: Sequence[Sample], wanted: Sequence[str]) -> float:
    """Share of choices that are what the behaviour wants, in [0, 1].

    Args:
        choices: At least one. One without a value counts as disagreeing, since a model that cannot decide has not
            learned to.
        wanted: `A` or `B` for each of them.

    Raises:
        DataError: No choices, or another number of letters.
    """
    if not choices or len(choices) != len(wanted):
        raise DataError(
            f"choice_agreement: choices and wanted must be as many, at least one, got {len(choices)} and {len(wanted)}."
        )
    return sum(s.valid and _letter(s) == w for s, w in zip(choices, wanted, strict=True)) / len(choices)


def a_rate(choices: Sequence[Sample]) -> float | None:
    """Share of A among choices that have a value, in [0, 1]; None if none has."""
    letters = [_letter(s) for s in choices if s.valid]
    return letters.count("A") / len(letters) if letters else None


def _letter(choice: Sample) -> str:
    return "A" if choice.value[0] == 1 else "B"
