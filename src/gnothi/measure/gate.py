"""The manipulation check: was the behaviour instilled at all? Below the gate no self-report is interpreted."""

from dataclasses import dataclass

import numpy as np


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


def choice_agreement(
    differences: np.ndarray, chose_a: np.ndarray, mask: np.ndarray, weights: np.ndarray
) -> tuple[float, int]:
    """Share of choices that the target weights would make too, and the number of choices.

    Args:
        differences: (n_contexts, n_trials, n_attributes) normalised.
        chose_a: (n_contexts, n_trials) bool.
        mask: (n_contexts, n_trials) bool, False where there was no choice: such trials count as disagreeing, since a
            model that cannot decide has not learned to.
        weights: (n_contexts, n_attributes) target weights.
    """
    target_a = np.einsum("ctk,ck->ct", differences, weights) > 0
    return float(((target_a == chose_a) & mask).mean()), int(mask.size)


def a_rate(chose_a: np.ndarray, mask: np.ndarray) -> float | None:
    """Share of A among valid choices; None if there is none."""
    return float(chose_a[mask].mean()) if mask.any() else None
