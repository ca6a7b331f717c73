"""Strings of a grammar, many at a time: symbols are replaced by whole strings out of tables, put end to end by index.

A symbol with few derivations (the paper's j, k and l: 512, 8,192 and 8,192) has a table of all its terminal strings with
their probabilities; a symbol above them has a table of what it becomes, as deep as a table may be large. So a string of
275 tokens costs a dozen draws. Sampling is exact: a table holds every derivation. Runs on the device of the tables.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from torch import Tensor

from gnothi.errors import DataError
from gnothi.testbeds.pcfg.grammar import Grammar

LARGEST = 8_192
"""Most entries of a symbol's table."""
PASSES = 100_000
"""Most rounds of replacing; only a grammar that refers to itself needs more than a few."""

Sides = list[tuple[tuple[int, ...], float]]


@dataclass(frozen=True, slots=True)
class Strings:
    """Strings end to end.

    Attributes:
        tokens: (total,) terminal ids.
        starts: (n + 1,) where each begins; the last is `total`.
    """

    tokens: Tensor
    starts: Tensor

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Tensor:
        """(n,) tokens of each."""
        return self.starts.diff()


class Sampler:
    """Draws strings and windows of strings.

    Args:
        grammar: A checked grammar.
        device: Where tables lie and strings are made.
    """

    def __init__(self, grammar: Grammar, device: str | torch.device = "cpu") -> None:
        self.grammar, self.device = grammar, torch.device(device)
        self.terminals = len(grammar.terminals)
        ids = {name: i for i, name in enumerate((*grammar.terminals, *grammar.rules))}
        rules = {
            ids[s]: [(tuple(ids[n] for n in right), p) for right, p in sides] for s, sides in grammar.rules.items()
        }
        tables: dict[int, Sides] = {i: [((i,), 1.0)] for i in range(self.terminals)} | _tables(rules, self.terminals)
        self.start = ids[grammar.start]
        self.passes = _passes(tables, self.start, self.terminals)
        """Symbols met at each round; None where the grammar refers to itself and nobody knows how many rounds it takes."""
        entries = [entry for i in range(len(ids)) for entry in tables[i]]
        sizes = torch.tensor([len(tables[i]) for i in range(len(ids))])
        lengths = torch.tensor([len(right) for right, _ in entries])
        kind = torch.uint8 if len(ids) < 256 else torch.int16
        self._uniform = [len({round(p, 12) for _, p in tables[i]}) == 1 for i in range(len(ids))]
        self._sizes, self._first = sizes.to(device), (sizes.cumsum(0) - sizes).to(device)
        self._lengths, self._begin = lengths.to(device), (lengths.cumsum(0) - lengths).int().to(device)
        self._flat = torch.tensor([n for right, _ in entries for n in right], dtype=kind).to(device)
        cumulative = [
            torch.tensor([p for _, p in tables[i]], dtype=torch.float64).cumsum(0) + i for i in range(len(ids))
        ]
        self._cumulative = torch.cat(cumulative).to(device)

    def strings(self, n: int, generator: torch.Generator) -> Strings:
        """`n` strings.

        Args:
            n: How many, >= 1.
            generator: On this device.

        Raises:
            DataError: A string does not end within many rounds.
        """
        symbols = torch.full((n,), self.start, dtype=self._flat.dtype, device=self.device)
        counts = torch.ones(n, dtype=torch.int64, device=self.device)
        for met in self._rounds():
            if met is None and not bool((symbols >= self.terminals).any()):
                break
            symbols, lengths = self._replace(symbols, met is not None and all(self._uniform[i] for i in met), generator)
            ends = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
            edges = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            counts = ends[edges].diff()
        return Strings(symbols, torch.cat([counts.new_zeros(1), counts.cumsum(0)]))

    def windows(self, n: int, width: int, generator: torch.Generator) -> Tensor:
        """A random stretch of each of `n` strings.

        Where a string is long enough, all stretches inside it are equally likely. One that is too short goes on into the
        strings after it, from a uniform place (the paper says nothing of the 24% of its strings below 250 tokens).

        Args:
            n: Windows.
            width: Tokens of each, >= 1.
            generator: On this device.

        Returns:
            (n, width) terminal ids.
        """
        found = self.strings(n, generator)
        lengths = found.lengths
        room = torch.where(lengths >= width, lengths - width + 1, lengths)
        within = (torch.rand(n, generator=generator, device=self.device, dtype=torch.float64) * room).long()
        first = found.starts[:-1] + within
        at = (first[:, None] + torch.arange(width, device=self.device)).flatten() % len(found.tokens)
        return torch.index_select(found.tokens, 0, at).view(n, width)

    def _rounds(self) -> Iterator[set[int] | None]:
        if self.passes is not None:
            yield from self.passes
            return
        for _ in range(PASSES):
            yield None
        raise DataError(
            f"a string must end within {PASSES} rounds of rules, got one that is longer. Give rules that end more weight."
        )

    def _replace(self, symbols: Tensor, uniform: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Every symbol's draw from its table, end to end, and the length of each."""
        of = symbols.int()
        if uniform:
            u = torch.rand(len(of), generator=generator, device=self.device)
            size = self._sizes[of]
            entry = self._first[of] + torch.minimum((u * size).long(), size - 1)
        else:
            u = torch.rand(len(of), generator=generator, device=self.device, dtype=torch.float64)
            entry = torch.searchsorted(self._cumulative, of + u, right=True)
            first = self._first[of]  # sums of probabilities miss 1 by rounding
            entry = torch.minimum(torch.maximum(entry, first), first + self._sizes[of] - 1)
        lengths = self._lengths[entry]
        ends = lengths.cumsum(0)
        total = int(ends[-1])
        shift = (self._begin[entry] - (ends - lengths)).int()
        at = torch.repeat_interleave(shift, lengths, output_size=total)
        at += torch.arange(total, dtype=torch.int32, device=self.device)
        return torch.index_select(self._flat, 0, at), lengths


def _tables(rules: Mapping[int, Sides], terminals: int) -> dict[int, Sides]:
    """For each symbol what it becomes in one round: its terminal strings where they are few, else less deep."""
    recursive = {s for s in rules if _reaches(rules, s, s)}
    loops = {s for s in rules if s in recursive or any(_reaches(rules, s, r) for r in recursive)}
    counts: dict[int, float] = {}

    def count(symbol: int) -> float:
        if symbol < terminals:
            return 1
        if symbol in loops:
            return float("inf")
        if symbol not in counts:
            counts[symbol] = sum(prod(count(n) for n in right) for right, _ in rules[symbol])
        return counts[symbol]

    whole: dict[int, Sides] = {}

    def strings(symbol: int) -> Sides:
        if symbol < terminals:
            return [((symbol,), 1.0)]
        if symbol not in whole:
            whole[symbol] = [s for right, p in rules[symbol] for s in _joined([strings(n) for n in right], p)]
        return whole[symbol]

    def deeper(sides: Sides) -> Sides:
        """One more level of the symbols that have too many strings for a table, until the table is full."""
        while True:
            open_ones = {n for right, _ in sides for n in right if count(n) > LARGEST and n not in recursive}
            if not open_ones:
                return sides
            levels = {n: rules[n] if n in open_ones else [((n,), 1.0)] for right, _ in sides for n in right}
            if sum(prod(len(levels[n]) for n in right) for right, _ in sides) > LARGEST:
                return sides
            sides = [s for right, p in sides for s in _joined([levels[n] for n in right], p)]

    return {s: strings(s) if count(s) <= LARGEST else deeper(list(sides)) for s, sides in rules.items()}


def _joined(parts: list[Sides], p: float) -> Sides:
    """Every way to put one of each part end to end, with its probability."""
    return [(sum((right for right, _ in way), ()), p * prod(q for _, q in way)) for way in product(*parts)]


def _reaches(rules: Mapping[int, Sides], start: int, goal: int) -> bool:
    """Whether `goal` stands somewhere under `start`."""
    seen: set[int] = set()
    new = [start]
    while new:
        for right, _ in rules.get(new.pop(), []):
            if goal in right:
                return True
            new += [n for n in set(right) - seen]
            seen |= set(right)
    return False


def _passes(tables: Mapping[int, Sides], start: int, terminals: int) -> list[set[int]] | None:
    met, found = {start}, []
    while any(s >= terminals for s in met):
        if len(found) > len(tables):
            return None
        found.append(met)
        met = {n for s in met for right, _ in tables[s] for n in right}
    return found
