"""A model whose answers are given: the oracle and the null of every stage. No torch."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from gnothi.errors import ModelError
from gnothi.models.base import AbstractLanguageModel, Answer, Capabilities, NumberDistribution, Sampling
from gnothi.records import Messages

Script = Callable[[Messages], str]
"""Says, for a prompt, the whole answer."""

UNASKED = 1e-6
"""Probability of each option where the scripted answer is none of them."""


class ScriptedModel(AbstractLanguageModel):
    """Answers what its script says, with probability `certainty`; the rest goes to nothing that was asked about."""

    def __init__(self, script: Script, *, name: str, certainty: float = 0.99) -> None:
        """Wrap a script.

        Args:
            script: The answers.
            name: As shown in runs, e.g. `scripted/oracle`.
            certainty: Probability of the scripted answer, in (0.5, 1].
        """
        if not 0.5 < certainty <= 1:
            raise ModelError(f"ScriptedModel.certainty must be in (0.5, 1], got {certainty}.")
        self.script, self.name, self.certainty = script, name, certainty
        self.digest = hashlib.sha256(f"{name}/{certainty}".encode()).hexdigest()

    def capabilities(self) -> Capabilities:
        """Everything but training and a module."""
        return Capabilities(logprobs=True, sampling=True, training=False, module=False, system_role=True)

    def option_logprobs(self, prompts: Sequence[Messages], options: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """The scripted option gets `certainty`, the others share the rest; all get little if it is none of them."""
        found = []
        for prompt, texts in zip(prompts, options, strict=True):
            answer = self.script(prompt).strip()
            said = np.array([t.strip() == answer for t in texts])
            rest = (1 - self.certainty) / max(1, len(texts) - 1) if said.any() else UNASKED
            found.append(np.log(np.maximum(np.where(said, self.certainty, rest), 1e-12)))
        return found

    def number_distribution(self, prompts: Sequence[Messages], low: int, high: int) -> list[NumberDistribution]:
        """`certainty` on the scripted integer; all mass missing if it is none in range."""
        found = []
        for prompt in prompts:
            p = np.zeros(high - low + 1)
            try:
                number = int(self.script(prompt).strip())
            except ValueError:
                number = high + 1
            if low <= number <= high:
                p[number - low] = self.certainty
            found.append(NumberDistribution(low=low, probabilities=p, missing=1 - float(p.sum())))
        return found

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[list[Answer]]:
        """The scripted text, `sampling.n` times."""
        answers = [self.script(p) for p in prompts]
        return [[Answer(text=t, n_tokens=len(t.split()), finished=True)] * sampling.n for t in answers]
