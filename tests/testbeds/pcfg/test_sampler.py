"""The vectorised sampler against one that follows the rules a symbol at a time."""

import random

import numpy as np
import pytest
import torch

from gnothi.testbeds.pcfg.grammar import Grammar, make_grammar, read_grammar
from gnothi.testbeds.pcfg.sampler import Sampler, Strings


def naive(grammar: Grammar, rng: random.Random) -> list[int]:
    """One string by recursion."""
    found, stack = [], [grammar.start]
    while stack:
        symbol = stack.pop()
        if symbol in grammar.rules:
            sides, weights = zip(*grammar.rules[symbol], strict=True)
            stack += reversed(rng.choices(sides, weights)[0])
        else:
            found.append(grammar.terminals.index(symbol))
    return found


def listed(strings: Strings) -> list[list[int]]:
    return [part.tolist() for part in strings.tokens.split(strings.lengths.tolist())]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_strings_of_the_paper_have_the_lengths_and_pairs_of_a_naive_samplers():
    grammar, rng = read_grammar("paper"), random.Random(0)
    theirs = [naive(grammar, rng) for _ in range(1500)]
    ours = Sampler(grammar).strings(20_000, generator())
    lengths = ours.lengths.double()
    assert float(lengths.mean()) == pytest.approx(275.6, abs=1.0)
    assert float(lengths.std()) == pytest.approx(42.0, abs=1.0)
    assert float((lengths < 250).double().mean()) == pytest.approx(0.24, abs=0.015)
    assert np.mean([len(t) for t in theirs]) == pytest.approx(float(lengths.mean()), abs=5)
    pairs = lambda tokens: np.bincount(3 * tokens[:-1] + tokens[1:], minlength=9) / (len(tokens) - 1)  # noqa: E731
    mine, naively = pairs(ours.tokens.numpy().astype(int)), pairs(np.concatenate([np.array(t) for t in theirs]))
    assert np.abs(mine - naively).max() < 0.005
    assert mine[0] == pytest.approx(0.035, abs=0.003)  # a a is rare


def test_strings_of_a_small_grammar_come_as_often_as_its_rules_say():
    given = {"start": "s", "terminals": ["a", "b", "c"], "rules": {"s": {"a x": 3, "b": 1}, "x": ["c", "b c"]}}
    found = listed(Sampler(make_grammar(given)).strings(40_000, generator()))
    share = {k: sum(f == list(k) for f in found) / len(found) for k in ((0, 2), (0, 1, 2), (1,))}
    assert share[0, 2] == pytest.approx(0.375, abs=0.015)
    assert share[0, 1, 2] == pytest.approx(0.375, abs=0.015)
    assert share[1,] == pytest.approx(0.25, abs=0.015)


def test_a_grammar_that_refers_to_itself_is_sampled_to_its_end():
    given = {"start": "s", "terminals": ["a", "b", "c"], "rules": {"s": {"a s b": 2, "c": 3}}}
    sampler = Sampler(make_grammar(given))
    assert sampler.passes is None
    found = listed(sampler.strings(20_000, generator()))
    assert all(f == [0] * (len(f) // 2) + [2] + [1] * (len(f) // 2) for f in found)
    deep = np.bincount([len(f) // 2 for f in found]) / len(found)
    assert deep[:3] == pytest.approx([0.6, 0.24, 0.096], abs=0.015)


def test_a_long_rule_below_a_recursive_one_is_sampled_too():
    rules = {"s": {"x s": 1, "x": 1}, "x": ["y y", "y"], "y": ["a b", "c"]}
    found = Sampler(make_grammar({"start": "s", "terminals": ["a", "b", "c"], "rules": rules})).strings(
        20_000, generator()
    )
    assert float(found.lengths.double().mean()) == pytest.approx(2 * 1.5 * 1.5, abs=0.1)


def test_windows_are_stretches_of_strings_and_go_on_into_the_next_where_one_is_short():
    given = {"start": "s", "terminals": ["a", "b", "c"], "rules": {"s": ["a a a b b b c c c"]}}
    sampler = Sampler(make_grammar(given))
    inside = sampler.windows(6000, 4, generator())
    kinds, counts = inside.unique(dim=0, return_counts=True)
    assert len(kinds) == 6  # the six places inside nine tokens, equally often
    assert counts.min() > 850
    across = sampler.windows(500, 20, generator())
    assert across.shape == (500, 20)
    assert len(across.unique(dim=0)) == 9  # every place; strings follow one another without a gap
    assert torch.equal(across[:, :11], across[:, 9:])


def test_the_same_generator_gives_the_same_windows():
    sampler = Sampler(read_grammar("paper"))
    assert torch.equal(sampler.windows(50, 30, generator(3)), sampler.windows(50, 30, generator(3)))
    assert not torch.equal(sampler.windows(50, 30, generator(3)), sampler.windows(50, 30, generator(4)))
