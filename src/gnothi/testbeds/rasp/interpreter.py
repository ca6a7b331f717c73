"""What a program means: evaluated on one sequence, in plain Python, without any transformer.

It is the oracle of the compiler and shares nothing with it but the language. Means are exact fractions.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import singledispatch
from typing import Any

from gnothi.errors import DataError
from gnothi.testbeds.rasp import language
from gnothi.testbeds.rasp.language import NUMERICAL, Selector, SOp

Values = dict[SOp, list[Any]]


def interpret(program: SOp, sequence: Sequence[Any]) -> list[Any]:
    """Run a program.

    Args:
        program: What to run.
        sequence: Tokens, at least one, without any marks of beginning or padding.

    Returns:
        One value a token. Means are fractions.

    Raises:
        DataError: An empty sequence, or a categorical aggregate that selects values which differ.

    >>> from gnothi.testbeds.rasp.language import aggregate, indices, select, selector_width, tokens
    >>> interpret(selector_width(select(tokens, tokens, "==")), "abba")
    [2, 2, 2, 2]
    """
    if not len(sequence):
        raise DataError("sequence must have at least one token, got none.")
    done: Values = {}
    for operator in language.in_order(program):
        done[operator] = _value(operator, done, sequence)
    return done[program]


@singledispatch
def _value(operator: SOp, done: Values, sequence: Sequence[Any]) -> list[Any]:
    raise DataError(f"operator must be of the language, got {type(operator).__name__}.")


@_value.register
def _(operator: language.Tokens, done: Values, sequence: Sequence[Any]) -> list[Any]:
    return list(sequence)


@_value.register
def _(operator: language.Indices, done: Values, sequence: Sequence[Any]) -> list[Any]:
    return list(range(len(sequence)))


@_value.register
def _(operator: language.Map, done: Values, sequence: Sequence[Any]) -> list[Any]:
    return [_encoded(operator, operator.function(x)) for x in done[operator.inner]]


@_value.register
def _(operator: language.SequenceMap, done: Values, sequence: Sequence[Any]) -> list[Any]:
    pairs = zip(done[operator.left], done[operator.right], strict=True)
    return [_encoded(operator, operator.function(x, y)) for x, y in pairs]


@_value.register
def _(operator: language.LinearMap, done: Values, sequence: Sequence[Any]) -> list[Any]:
    pairs = zip(done[operator.left], done[operator.right], strict=True)
    return [operator.times_left * x + operator.times_right * y for x, y in pairs]


@_value.register
def _(operator: language.SelectorWidth, done: Values, sequence: Sequence[Any]) -> list[Any]:
    return [len(row) for row in _selected(operator.selector, done)]


@_value.register
def _(operator: language.Aggregate, done: Values, sequence: Sequence[Any]) -> list[Any]:
    values, found = done[operator.values], []
    for row in _selected(operator.selector, done):
        taken = [values[k] for k in row]
        if not taken:
            none = operator.default is None and operator.encoding == NUMERICAL
            found.append(0 if none else operator.default)
        elif operator.encoding == NUMERICAL:
            found.append(sum(taken, start=Fraction(0)) / len(taken))
        elif any(value != taken[0] for value in taken):
            raise DataError(
                f"aggregate of categories must select positions with one value, got {taken[:8]!r:.80}. "
                "Take the mean of `numerical(...)`, or select fewer positions."
            )
        else:
            found.append(taken[0])
    return found


def _selected(selector: Selector, done: Values) -> list[list[int]]:
    """For each query position, the key positions at which all terms hold."""
    terms = [(done[t.keys], done[t.queries], t.predicate) for t in selector.terms]
    n = len(terms[0][0])
    return [[k for k in range(n) if all(p(keys[k], queries[q]) for keys, queries, p in terms)] for q in range(n)]


def _encoded(operator: SOp, value: Any) -> Any:
    return value + 0 if operator.encoding == NUMERICAL else value  # true is 1
