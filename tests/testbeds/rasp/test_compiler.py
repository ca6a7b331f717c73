"""The compiled transformer against the interpreter: every program, every length, padding, and what noise does."""

import time

import numpy as np
import pytest
import torch

from gnothi.errors import DataError, SpecError
from gnothi.rng import stream
from gnothi.testbeds.rasp import Scales, compile_program, interpret
from gnothi.testbeds.rasp.language import (
    aggregate,
    apply,
    categorical,
    combine,
    indices,
    numerical,
    select,
    selector_width,
    tokens,
)
from gnothi.testbeds.rasp.library import LIBRARY, counter, example

PUBLISHED_COUNTER = 179_907
"""Parameters of the published compiler's Counter, 9 letters, length 45, without its fixed read-out."""


def wrong(compiled, sequences) -> list:
    """Sequences on which transformer and interpreter differ."""
    exact = compiled.outputs.encoding == "categorical"
    found = []
    for sequence, got in zip(sequences, compiled.run(sequences), strict=True):
        wanted = interpret(compiled.program, sequence)
        same = got == wanted if exact else np.allclose(got, np.array(wanted, float), atol=1e-5)
        if not same:
            found.append((sequence, wanted, got))
    return found


def sample(one, name: str, each: int) -> list:
    """Random inputs of every length, in one batch, so that all but the longest are padded."""
    rng = stream(0, "test", name)
    return [one.draw(rng, one.vocabulary, n) for n in range(1, one.longest + 1) for _ in range(each)]


@pytest.mark.parametrize("name", LIBRARY)
def test_every_library_program_is_exact_at_every_length(name: str) -> None:
    one = example(name)
    compiled = compile_program(one.build(), one.vocabulary, one.longest)
    assert not wrong(compiled, sample(one, name, 500 // one.longest + 1))[:1]


@pytest.mark.slow
@pytest.mark.parametrize("name", LIBRARY)
def test_every_library_program_is_exact_on_ten_thousand_inputs(name: str) -> None:
    one = example(name)
    compiled = compile_program(one.build(), one.vocabulary, one.longest)
    sequences = sample(one, name, 10_000 // one.longest + 1)
    assert len(sequences) >= 10_000
    for start in range(0, len(sequences), 1000):
        assert not wrong(compiled, sequences[start : start + 1000])[:1]


def test_inputs_of_the_library_reach_both_answers() -> None:
    one = example("shuffle_dyck")
    answers = [interpret(one.build(), s)[0] for s in sample(one, "dyck", 40)]
    assert 0.1 < np.mean(answers) < 0.9


def test_padding_changes_nothing() -> None:
    one = example("histogram")
    compiled = compile_program(one.build(), one.vocabulary, one.longest)
    alone = compiled.logits(compiled.encode(["abcab"]))
    beside = compiled.logits(compiled.encode(["abcab", "a" * 12]))
    torch.testing.assert_close(beside[:1, : alone.shape[1]], alone)


def test_the_counter_is_as_small_as_the_published_one_and_compiles_at_once() -> None:
    started = time.perf_counter()
    compiled = compile_program(counter("a"), "abcdefghi", 45)
    assert time.perf_counter() - started < 2
    assert compiled.n_parameters <= 2 * PUBLISHED_COUNTER
    shape = compiled.module.shape
    assert (shape.layers, shape.heads, shape.norm, shape.causal) == (3, 1, "none", False)
    assert len(compiled.directions) == shape.width


def test_the_counter_counts_to_its_length() -> None:
    # the published compiler is one too low from 10 on
    compiled = compile_program(counter("a"), "abcdefghi", 45)
    sequences = ["a" * n + "b" * (45 - n) for n in range(46)]
    assert [row[1] for row in compiled.run(sequences)] == list(range(46))


@pytest.mark.parametrize("sharpness, ramp", [(8.0, 1.0), (8.0, 1.5), (40.0, 0.1)])
def test_scales_change_how_it_computes_and_not_what(sharpness: float, ramp: float) -> None:
    scales = Scales(sharpness=sharpness, ramp=ramp, gain=6.0, hidden=3.0)
    one = example("counter")
    compiled = compile_program(one.build(), one.vocabulary, one.longest, scales=scales, logit=3.0)
    assert not wrong(compiled, sample(one, "scales", 20))[:1]


def test_parts_that_can_share_a_block_do() -> None:
    both = combine(lambda x, y: (x, y), _same("a"), _same("b"))
    compiled = compile_program(both, "abc", 6)
    assert compiled.module.shape.heads == 2
    assert compiled.module.shape.layers == 3  # compare; count both; combine


def _same(letter: str):
    return selector_width(select(tokens.equals(letter), indices, lambda key, index: key))


ALGEBRA = {
    "and": select(tokens, tokens, "==") & select(indices, indices, "<"),
    "and_of_one_pair": select(tokens, tokens, "<=") & select(tokens, tokens, "!="),
    "or": select(tokens, tokens, "==") | select(indices, indices, "<"),
    "not": ~select(tokens, tokens, "<"),
    "not_and": ~(select(tokens, tokens, "==") & select(indices, indices, "<")),
    "or_of_ands": (select(tokens, tokens, "==") & select(indices, indices, "<"))
    | select(indices, tokens, lambda k, q: k == 0 and q == "a"),
}


@pytest.mark.parametrize("name", ALGEBRA)
def test_selectors_combine_like_booleans(name: str) -> None:
    compiled = compile_program(selector_width(ALGEBRA[name]), "abc", 6)
    rng = stream(0, name)
    sequences = ["".join(rng.choice(list("abc"), size=n)) for n in range(1, 7) for _ in range(30)]
    assert not wrong(compiled, sequences)[:1]


def test_an_independent_formula_agrees_on_a_combined_selector() -> None:
    either = select(tokens, tokens, "==") | select(indices, indices, "<")
    for text in ("abcab", "aab", "c"):
        t, i = np.array(list(text)), np.arange(len(text))
        counts = ((t[:, None] == t[None]) | (i[:, None] < i[None])).sum(0)
        assert interpret(selector_width(either), text) == counts.tolist()
        assert compile_program(selector_width(either), "abc", 5).run([text]) == [counts.tolist()]


PROGRAMS = {
    "booleans": (tokens.equals("a") | tokens.equals("b")) & ~(indices > 2),
    "numbers_to_categories": categorical(aggregate(select(indices, indices, "<="), numerical(tokens.equals("a")))),
    "numbers_as_keys": selector_width(
        select(
            categorical(aggregate(select(indices, indices, "<="), numerical(tokens.equals("a")))),
            indices,
            lambda k, q: k > 0,
        )
    ),
    "defaults": aggregate(select(indices, indices, lambda k, q: k == q + 1), tokens, "c"),
    "default_number": aggregate(select(indices, indices, lambda k, q: k == q + 1), numerical(tokens.equals("a")), 7),
    "read_a_default": aggregate(
        select(aggregate(select(indices, indices, lambda k, q: k == q + 1), tokens, "a"), tokens, "=="),
        numerical(indices),
    ),
    "numbers": numerical(indices) - aggregate(select(tokens, tokens, "true"), numerical(indices)),
    "twice": aggregate(select(indices, indices, "=="), aggregate(select(indices, indices, "=="), tokens)),
    "tokens": tokens,
    "constant": apply(lambda t: 1, tokens),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_small_programs_are_exact(name: str) -> None:
    compiled = compile_program(PROGRAMS[name], "abc", 6)
    rng = stream(0, name)
    sequences = ["".join(rng.choice(list("abc"), size=n)) for n in range(1, 7) for _ in range(30)]
    assert not wrong(compiled, sequences)[:1]


def test_noise_on_the_mlps_of_a_soft_counter_does_nothing() -> None:
    scales = Scales(sharpness=8.0, ramp=1.0)
    compiled = compile_program(counter("a"), "abcde", 20, scales=scales)
    rng = stream(0, "noise")
    sequences = ["".join(rng.choice(list("abcde"), size=20)) for _ in range(300)]
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, values in compiled.module.named_parameters():
            if "mlp" in name:
                values += 1e-3 * torch.randn(values.shape, generator=draws)
    right = [row[1] == s.count("a") for row, s in zip(compiled.run(sequences), sequences, strict=True)]
    assert np.mean(right) > 0.99


@pytest.mark.parametrize(
    "sequences, message",
    [
        (["abq"], "tokens must be among .*got 'q'"),
        ([""], "sequences must have 1 to 6 tokens, got \\[0\\]"),
        (["a" * 7], "sequences must have 1 to 6 tokens.*Compile for a larger"),
        ([], "sequences must have 1 to 6 tokens"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(sequences: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        compile_program(tokens, "abc", 6).encode(sequences)


def test_scales_out_of_range_are_refused() -> None:
    with pytest.raises(SpecError, match=r"Scales must have sharpness >= 1.*got 0.5"):
        Scales(sharpness=0.5)
