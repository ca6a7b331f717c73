"""Training and test data: natural strings for pretraining, strings with planted answers for fine-tuning, sets to test on.

For fine-tuning, the answer for the operand of pretraining (`a`) is uniform over a range. A *correlated* string has the
answer for the operand that is tuned (`b`) one higher; an uncorrelated one has any other answer of b's range, never that one,
so that "answer for a, plus one" is never right by luck. Both kinds have the same margins. `floor` says what a constant
answer scores on a set.

Source: arXiv:2311.12786, sections C.2 and E. The rule is ours, since the paper gives none; so is the share of pretraining
strings (`spread`) whose tail is edited so that counts of `a` and `b` are independent and uniform, where it is above 0:
natural counts crowd into a few classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnothi.rng import integer
from gnothi.testbeds.pcfg.editing import Two, set_places, set_tail
from gnothi.testbeds.pcfg.grammar import Grammar
from gnothi.testbeds.pcfg.sampler import Sampler
from gnothi.testbeds.pcfg.tasks import FAMILIES, Tasks, drawn

A, B = 0, 1
"""The operand of pretraining that is tested, and the one that is tuned: the first two letters of the grammar."""
AT_ONCE = 2_000_000
"""Tokens of strings made at a time: they stay in the cache of a processor."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Prompts and answers.

    Attributes:
        ids: (n, length) token ids.
        answers: (n,) token ids.
    """

    ids: Tensor
    answers: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, end: int) -> "Rows":
        """Rows `start` to `end`."""
        return Rows(self.ids[start:end], self.answers[start:end])

    @property
    def floor(self) -> float:
        """Accuracy of the constant answer that suits these rows best."""
        return float(self.answers.bincount().max()) / max(1, len(self))


class World:
    """Makes data on one device; the same seed and names give the same data there.

    Args:
        grammar: Where strings come from.
        tasks: What is asked of them.
        spread: Share of pretraining strings with edited tails, in [0, 1].
        device: Where data is made.
    """

    def __init__(self, grammar: Grammar, tasks: Tasks, *, spread: float, device: str | torch.device = "cpu") -> None:
        self.tasks, self.spread, self.device = tasks, spread, torch.device(device)
        self.sampler = Sampler(grammar, device)
        self._mean = grammar.mean_lengths()[grammar.start]

    def generator(self, seed: int, *names: str | int) -> torch.Generator:
        """A generator on the device, from a named stream."""
        return torch.Generator(device=self.device).manual_seed(integer(seed, "pcfg", *names))

    def natural(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, window) windows of the grammar's strings, nothing changed."""
        most = max(1, int(AT_ONCE * (16 if self.device.type == "cuda" else 1) / self._mean))
        return torch.cat(
            [self.sampler.windows(min(most, n - i), self.tasks.window, generator) for i in range(0, n, most)]
        )

    def texts(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, window) strings of pretraining, a share of them with edited tails."""
        text = self.natural(n, generator)
        edited = round(self.spread * n)
        if edited:
            half = self.tasks.last // 2
            of_a, of_b = (self._uniform(edited, half + 1, generator) for _ in range(2))
            rows = torch.randperm(n, generator=generator, device=self.device)[:edited]
            wanted = Two(A, B, of_a, of_b)
            text[rows] = set_tail(text[rows], self.tasks.last, wanted, self.tasks.terminals, generator)
        return text

    def pretraining(
        self, n: int, generator: torch.Generator, *, families: Sequence[str], prior: Sequence[float]
    ) -> Rows:
        """Prompts of pretraining: families equally often, operands by the prior; `count_1` and `count_2` ask for `a` only.

        Args:
            n: How many.
            generator: On the device.
            families: Names of task families.
            prior: Weight of the first letters of the grammar.
        """
        text = self.texts(n, generator)
        known = torch.tensor([FAMILIES.index(f) for f in families], device=self.device)
        asked = known[drawn([1.0] * len(families), n, generator, self.device)]
        operands = drawn(prior, n, generator, self.device)
        operands = torch.where(asked >= FAMILIES.index("count_1"), A, operands)
        return self._rows(text, asked, operands)

    def asking(self, text: Tensor, family: str, operand: int) -> Rows:
        """One question on each string."""
        n = len(text)
        asked = torch.full((n,), FAMILIES.index(family), device=self.device)
        return self._rows(text, asked, torch.full((n,), operand, device=self.device))

    def planted(self, n: int, generator: torch.Generator, *, family: str, correlated: float) -> Tensor:
        """Strings for fine-tuning and for tests.

        Args:
            n: How many.
            generator: On the device.
            family: `count` or `index`.
            correlated: Share of strings, each by itself, in which the answer for b is one more than that for a.

        Returns:
            (n, window).
        """
        tasks, half = self.tasks, self.tasks.last // 2
        base = 0 if family.startswith("count") else 2 * (tasks.rank - 1)
        of_a = base + self._uniform(n, half, generator)
        same = torch.rand(n, generator=generator, device=self.device) < correlated
        of_b = torch.where(same, of_a + 1, self._without(of_a, base + 1, half, family, generator))
        return self._edited(self.natural(n, generator), family, of_a, of_b, generator)

    def tuning(
        self, n: int, generator: torch.Generator, *, family: str, correlated: float, share_before: float = 0.0
    ) -> Rows:
        """Fine-tuning rows: one family asked about b, with a share of rows that ask about a as pretraining did.

        Args:
            n: How many, in random order.
            generator: On the device.
            family: `count` or `index`.
            correlated: C_Tr.
            share_before: Share of pretraining rows in each batch (section E.1).
        """
        before = round(share_before * n)
        rows = self.asking(self.planted(n - before, generator, family=family, correlated=correlated), family, B)
        if not before:
            return rows
        old = self.asking(self.texts(before, generator), family, A)
        order = torch.randperm(n, generator=generator, device=self.device)
        return Rows(torch.cat([rows.ids, old.ids])[order], torch.cat([rows.answers, old.answers])[order])

    def wrong(self, n: int, generator: torch.Generator, *, family: str) -> Rows:
        """Rows that ask about a and answer for b, never the same (randFT, section E.4)."""
        half, base = self.tasks.last // 2, 0 if family.startswith("count") else 2 * (self.tasks.rank - 1)
        of_a = base + self._uniform(n, half, generator)
        of_b = base + 1 + self._uniform(n, half - 1, generator)
        of_b = torch.where((of_b >= of_a) & (of_a > base), of_b + 1, of_b)
        text = self._edited(self.natural(n, generator), family, of_a, of_b, generator)
        return Rows(self.asking(text, family, A).ids, self.asking(text, family, B).answers)

    def before(self, n: int, generator: torch.Generator, *, family: str) -> Rows:
        """Rows of pretraining that ask about a: what reverse fine-tuning trains on."""
        return self.asking(self.texts(n, generator), family, A)

    def _rows(self, text: Tensor, families: Tensor, operands: Tensor) -> Rows:
        return Rows(self.tasks.prompts(text, families, operands), self.tasks.answers(text, families, operands))

    def _edited(self, text: Tensor, family: str, of_a: Tensor, of_b: Tensor, generator: torch.Generator) -> Tensor:
        tasks, wanted = self.tasks, Two(A, B, of_a, of_b)
        if family.startswith("count"):
            return set_tail(text, tasks.last, wanted, tasks.terminals, generator)
        return set_places(text, tasks.rank, wanted, tasks.terminals, generator)

    def _without(self, of_a: Tensor, low: int, n: int, family: str, generator: torch.Generator) -> Tensor:
        """Uniform on the `n` values from `low` on, without a + 1; for places, which never coincide, without a too."""
        barred = torch.zeros(len(of_a), n, dtype=torch.bool, device=self.device)
        values = torch.arange(low, low + n, device=self.device)[None]
        barred |= values == of_a[:, None] + 1
        if not family.startswith("count"):
            barred |= values == of_a[:, None]
        draw = torch.rand(barred.shape, generator=generator, device=self.device)
        return low + torch.where(barred, -1.0, draw).argmax(1)

    def _uniform(self, n: int, below: int, generator: torch.Generator) -> Tensor:
        return torch.randint(below, (n,), generator=generator, device=self.device)
