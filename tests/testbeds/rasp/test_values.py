"""Programs that can't be compiled: every problem is told at once, with what to do."""

from fractions import Fraction

import pytest

from gnothi.errors import DataError, SpecError
from gnothi.testbeds.rasp import compile_program, interpret
from gnothi.testbeds.rasp.language import (
    aggregate,
    apply,
    combine,
    in_order,
    indices,
    numerical,
    select,
    selector_width,
    tokens,
)
from gnothi.testbeds.rasp.library import example, shuffle_dyck
from gnothi.testbeds.rasp.values import checked

MEAN = aggregate(select(indices, indices, "<="), numerical(tokens.equals("a")))

BAD = {
    "a selector is no output": (
        select(tokens, tokens, "=="),
        "program must be a sequence operator, got a selector. Count",
    ),
    "text is no output": ("tokens", "program must be a sequence operator, got 'tokens'"),
    "numbers are no keys": (
        selector_width(select(MEAN, indices, "<")),
        "keys of .* must be categorical, got numerical",
    ),
    "numbers are no queries": (
        selector_width(select(indices, MEAN, "<")),
        "queries of .* must be categorical.*Wrap it in",
    ),
    "numbers don't combine": (combine(lambda x, y: x, MEAN, indices), "must combine categories, got numerical"),
    "a token that isn't there": (
        tokens.equals("A"),
        "must compare tokens with a value that it can have, got 'A'. The nearest is",
    ),
    "a count that can't be": (selector_width(select(tokens, tokens, "==")).equals(9), "got 9. The nearest is"),
    "a function that fails": (
        apply(lambda t: 1 / 0, tokens),
        "must be defined for every value.*ZeroDivisionError for 'a'",
    ),
    "a result that doesn't hash": (apply(lambda t: [t], tokens), "must be defined for every value.*TypeError"),
    "a predicate that fails": (
        selector_width(select(tokens, indices, "<")),
        "predicate of .* must be defined.*'a' and 0",
    ),
    "None among letters": (
        selector_width(select(aggregate(select(indices, indices, "<"), tokens), tokens, "<")),
        "must be defined for every key and query.*None.*Give a default",
    ),
    "letters are no booleans": (~tokens, "must read true or false, got 'a' from tokens"),
    "a number that is none": (numerical(apply(lambda t: "x", tokens)), "must have finite numbers as values, got 'x'"),
    "a number without end": (numerical(apply(lambda t: float("inf"), tokens)), "must have finite numbers.*got inf"),
    "too many numbers": (
        aggregate(select(indices, indices, "<="), numerical(apply({"a": 0.1, "b": 2**0.5, "c": 3**0.5}.get, tokens))),
        "must have at most 100000 different numbers, got more",
    ),
    "a selector where an operator goes": (
        combine(max, tokens, select(tokens, tokens, "==")),
        "must read sequence operators, got a selector",
    ),
    "an operator where a selector goes": (
        selector_width(tokens),
        "must read a selector, got tokens. Make one with select",
    ),
    "text where an operator goes": (apply(len, "tokens"), "must read sequence operators, got 'tokens'"),
    "a default that doesn't hash": (
        aggregate(select(indices, indices, "<"), tokens, []),
        "must have a default that hashes",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_program_that_cannot_be_compiled_is_refused(name: str) -> None:
    program, message = BAD[name]
    with pytest.raises(SpecError, match=message):
        compile_program(program, "abc", 8)


def test_all_problems_are_told_at_once() -> None:
    one = selector_width(select(MEAN, indices, "<"))
    other = tokens.equals("z")
    with pytest.raises(SpecError, match=r"2 problems:\n.*must be categorical(.|\n)*got 'z'"):
        compile_program(combine(max, one, other), "abc", 8)


@pytest.mark.parametrize(
    "vocabulary, longest, message",
    [
        ("", 4, "vocabulary must hold at least one"),
        ("aa", 4, "none twice"),
        ("ab", 0, "longest must be a whole number"),
    ],
)
def test_a_vocabulary_or_length_that_cannot_be_is_refused(vocabulary: str, longest: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        compile_program(tokens, vocabulary, longest)


def test_numbers_too_close_for_float32_are_refused() -> None:
    close = numerical(apply(lambda t: {"a": 0, "b": 1, "c": 10**6}[t], tokens))
    with pytest.raises(SpecError, match="must tell numbers apart that differ by at least"):
        compile_program(close > 0, "abc", 4)


def test_names_that_are_wrong_get_the_nearest_right_one() -> None:
    with pytest.raises(SpecError, match=r"predicate must be a function or one of.*got '=<'. Did you mean"):
        select(tokens, tokens, "=<")
    with pytest.raises(SpecError, match=r"got 'revers'. Did you mean 'reverse'"):
        example("revers")
    with pytest.raises(SpecError, match="pairs must hold at least one pair"):
        shuffle_dyck(())


def test_values_hold_everything_that_occurs() -> None:
    program = aggregate(select(indices, indices, "<="), numerical(apply(lambda t: {"a": -1, "b": 2}[t], tokens)))
    known = set(checked(program, "ab", 4)[program].values)
    for text in ("a", "ab", "abb", "bbaa", "baba"):
        assert set(interpret(program, text)) <= known
    assert Fraction(1, 2) in known


def test_operators_come_once_and_inputs_first() -> None:
    program = example("hist_of_hist").build()
    order = in_order(program)
    assert order[-1] is program and len(set(order)) == len(order)
    for i, operator in enumerate(order):
        assert all(read in order[:i] for read in operator.inputs)


def test_the_interpreter_refuses_what_means_nothing() -> None:
    with pytest.raises(DataError, match="sequence must have at least one token"):
        interpret(tokens, "")
    with pytest.raises(DataError, match=r"must select positions with one value, got \['a', 'b'\]"):
        interpret(aggregate(select(indices, indices, "true"), tokens), "ab")
