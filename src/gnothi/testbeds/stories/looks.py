"""What a story model does: how often its stories have the feature when asked for it, by rule and by judge, and its loss.

Generated stories are as many as give a share a half-width of 5 points (`enough`). A story in which no expectation is
resolved has no Twist and says little of the feature: the share of resolved ones stands beside, since a model that broke
would look as if the feature were deleted.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from tokenizers import Tokenizer
from torch import nn

from gnothi.errors import DataError
from gnothi.testbeds.stories.checker import read
from gnothi.testbeds.stories.judge import Judge
from gnothi.testbeds.stories.records import Record
from gnothi.testbeds.stories.rows import Rows, mean_loss
from gnothi.testbeds.stories.sampling import continuations
from gnothi.testbeds.stories.tokens import prompts, story_of
from gnothi.testbeds.transformer import Transformer


def enough(half_width: float = 0.05, level: float = 0.95) -> int:
    """Answers that give a share Wilson's interval of at most this half-width, wherever it lies.

    >>> enough(), enough(0.1)
    (381, 93)
    """
    if not 0 < half_width < 0.5 or not 0 < level < 1:
        raise DataError(f"half_width must be in (0, 0.5) and level in (0, 1), got {half_width} and {level}.")
    z = NormalDist().inv_cdf((1 + level) / 2)
    return math.ceil(z * z * (1 / (4 * half_width**2) - 1))  # Wilson's half-width at 1/2 is z / 2 sqrt(n + z^2)


@dataclass(frozen=True)
class Asker:
    """Instructions, with the random numbers that each is answered with.

    Attributes:
        tokenizer: Of the models.
        prompts: (n,) token ids.
        uniform: (n, most) numbers in [0, 1).
        name: The feature that counts.
        judge: Says which stories have it.
        by_rule: Whether the checker can read these stories.
    """

    tokenizer: Tokenizer
    prompts: Sequence[Sequence[int]]
    uniform: np.ndarray
    name: str
    judge: Judge
    by_rule: bool = True

    @classmethod
    def of(
        cls,
        tokenizer: Tokenizer,
        records: Sequence[Record],
        rng: np.random.Generator,
        *,
        most: int,
        name: str,
        judge: Judge,
        by_rule: bool,
    ) -> "Asker":
        """From records, whose stories are not shown.

        Args:
            tokenizer: Of the models.
            records: What is asked for.
            rng: Order of lines, and the random numbers.
            most: Tokens of a story at most.
            name: The feature that counts.
            judge: Says which stories have it.
            by_rule: Whether the checker can read these stories.
        """
        if not records:
            raise DataError("there must be instructions to ask with, got none. Give more held-out stories.")
        found = prompts(tokenizer, records, rng)
        return cls(tokenizer, found, rng.random((len(found), most)), name, judge, by_rule)

    def ask(self, model: Transformer) -> "Told":
        """Have a story written for each instruction."""
        ids = continuations(model, self.prompts, self.uniform)
        stories = [story_of(self.tokenizer, row) for row in ids]
        judged = self.judge.verdicts(stories)
        if not self.by_rule:
            return Told(stories, judged, None, None)
        readings = [read(story) for story in stories]
        has = np.array([r.has(self.name) for r in readings])
        return Told(stories, judged, has, np.array([r.resolved for r in readings]))


@dataclass(frozen=True, slots=True)
class Told:
    """Stories of a model."""

    stories: Sequence[str]
    judged: np.ndarray
    """(n,) whether the judge finds the feature."""
    has: np.ndarray | None
    """(n,) whether it is there by rule; None where no rule reads them."""
    resolved: np.ndarray | None
    """(n,) whether an expectation is resolved."""

    def numbers(self) -> dict[str, float]:
        """Shares in [0, 1]: `rate` (by rule, or by judge where there is no rule), `judged`, `resolved`."""
        judged = float(self.judged.mean())
        found = {"rate": judged if self.has is None else float(self.has.mean()), "judged": judged}
        return found if self.resolved is None else {**found, "resolved": float(self.resolved.mean())}


@dataclass
class Look:
    """What `train_back` is given to look at a model with: several numbers, for one pass of asking.

    Attributes:
        asker: Asks for the feature.
        rows: Held-out stories with the feature, for the loss.
        told: The stories of the last look.
    """

    asker: Asker
    rows: Rows
    told: Told | None = None
    _numbers: dict[str, float] = field(default_factory=dict)
    _known: dict[str, tuple[Told, dict[str, float]]] = field(default_factory=dict)
    """By digest of the model's values."""

    def numbers(self, model: nn.Module) -> dict[str, float]:
        """Shares as `Told.numbers`, and `loss`, nats a token of stories with the feature."""
        assert isinstance(model, Transformer)
        values = hashlib.sha256()
        for parameter in model.parameters():
            values.update(parameter.detach().float().cpu().numpy().tobytes())
        if values.hexdigest() not in self._known:  # every reversal of a model begins with the same look
            told = self.asker.ask(model)
            self._known[values.hexdigest()] = told, {**told.numbers(), "loss": mean_loss(model, self.rows)}
        self.told, self._numbers = self._known[values.hexdigest()]
        return self._numbers

    def rate(self, model: nn.Module) -> float:
        """The rate; looks at the model anew."""
        return self.numbers(model)["rate"]

    def others(self) -> Mapping[str, Callable[[nn.Module], float]]:
        """The other numbers of the look that `rate` has just taken."""
        names = ("judged", "resolved", "loss") if self.asker.by_rule else ("judged", "loss")
        return {name: (lambda _, name=name: self._numbers[name]) for name in names}
