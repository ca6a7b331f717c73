"""What is asked: the interface of a language model, over message lists. No torch here."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gnothi.records import Messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a model can do; stages ask before they try."""

    logprobs: bool
    sampling: bool
    training: bool
    module: bool
    """Whether `.module` is a torch module on this machine."""
    system_role: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample answers."""

    n: int = 1
    """Answers a prompt."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps the whole vocabulary."""
    max_tokens: int = 64
    stop: tuple[str, ...] = ()
    seed: int = 0
    """Sample i of prompt j depends on (seed, j, i) alone, so that more samples later keep the earlier ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One sampled answer."""

    text: str
    n_tokens: int
    finished: bool
    """False if it was cut off at `max_tokens`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberDistribution:
    """Probabilities of the integers low..high as the whole answer."""

    low: int
    probabilities: np.ndarray
    """Shape (high - low + 1,), over the whole vocabulary; sums to 1 - `missing`."""
    missing: float
    """Probability of anything that is no integer in range, in [0, 1]."""

    @property
    def mean(self) -> float | None:
        """Expected value over the numbers, in their units; None if no number has any probability."""
        total = float(self.probabilities.sum())
        if total <= 0:
            return None
        return float(self.probabilities @ np.arange(self.low, self.low + len(self.probabilities))) / total

    @property
    def mode(self) -> int:
        """The likeliest number."""
        return self.low + int(self.probabilities.argmax())


class AbstractLanguageModel(abc.ABC):
    """Anything that can be asked. Knows nothing about behaviours."""

    name: str
    """As given on the command line, e.g. `organism`."""
    digest: str
    """sha256 over what decides the answers: parameters, tokenizer, template, adapter."""

    @abc.abstractmethod
    def capabilities(self) -> Capabilities:
        """What this model can do."""

    @abc.abstractmethod
    def option_logprobs(self, prompts: Sequence[Messages], options: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Natural-log probability of each option as the beginning of the answer.

        Args:
            prompts: (n_prompts,) conversations; a last assistant message is a started answer.
            options: For each prompt its options' texts, any number of tokens each.

        Returns:
            For each prompt an array (n_options,), nats, over the whole vocabulary, so sums of exp are <= 1 when
            no option is a prefix of another.
        """

    @abc.abstractmethod
    def number_distribution(self, prompts: Sequence[Messages], low: int, high: int) -> list[NumberDistribution]:
        """Probabilities of the integers low..high (both included) as the answer, for each prompt."""

    @abc.abstractmethod
    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[list[Answer]]:
        """Sample `sampling.n` answers for each prompt; greedy at temperature 0."""
