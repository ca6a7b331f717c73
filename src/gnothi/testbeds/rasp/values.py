"""The values that each operator can have, and everything that keeps a program from being compiled.

A compiled transformer spends a direction on every category and a threshold on every number that a function tells apart,
so all values must be known and finite in number. One walk over the program finds them; what is wrong is collected, and
told all at once.
"""

import difflib
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import singledispatch
from numbers import Real
from typing import Any

from gnothi.errors import SpecError
from gnothi.testbeds.rasp import language
from gnothi.testbeds.rasp.language import CATEGORICAL, NUMERICAL, Selector, SOp, Term

MOST_CATEGORIES = 4096
"""An operator with more is refused: each takes a direction."""
MOST_NUMBERS = 100_000
"""An operator with more different numbers is refused."""


@dataclass(frozen=True, slots=True)
class Domain:
    """What an operator's value can be."""

    encoding: str
    values: tuple[Any, ...]
    """Categories in the order of their directions; numbers in rising order. Some may never occur."""

    def position(self) -> dict[Any, int]:
        """Value -> its number in `values`."""
        return {value: i for i, value in enumerate(self.values)}


Domains = Mapping[SOp, Domain]


@dataclass(frozen=True, slots=True)
class _Walk:
    """One program being read."""

    vocabulary: tuple[Any, ...]
    longest: int
    names: Mapping[SOp, str]
    domains: dict[SOp, Domain] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def known(self, *operators: Any) -> bool:
        """Whether all inputs are in order; what is wrong with them has been said already."""
        return all(o in self.domains for o in operators)


def checked(program: SOp, vocabulary: Sequence[Any], longest: int) -> dict[SOp, Domain]:
    """The domain of every operator of a program, in order, or all reasons why it can't be compiled.

    Args:
        program: The output operator.
        vocabulary: All tokens, each once.
        longest: Most tokens in a sequence.

    Raises:
        SpecError: Every problem, one a line.
    """
    problems = _of_arguments(vocabulary, longest)
    if isinstance(program, Selector):
        problems.append(
            "program must be a sequence operator, got a selector. Count with selector_width or read with aggregate."
        )
    elif not isinstance(program, SOp):
        problems.append(f"program must be a sequence operator, got {_shown(program)}. Build one from tokens.")
    if not problems:
        order = language.in_order(program)
        walk = _Walk(tuple(vocabulary), longest, _names(order))
        for operator in order:
            domain = None
            if _inputs_are_operators(operator, walk):
                domain = _domain(operator, walk)
            if domain is not None:
                walk.domains[operator] = domain
        if not walk.problems:
            return walk.domains
        problems = walk.problems
    if len(problems) == 1:
        raise SpecError(problems[0])
    raise SpecError(f"program must be one that can be compiled, got {len(problems)} problems:\n" + "\n".join(problems))


def always_selects(selector: Selector, domains: Domains) -> bool:
    """Whether every position selects at least itself, whatever the sequence."""
    return all(t.keys is t.queries and all(t.predicate(v, v) for v in domains[t.keys].values) for t in selector.terms)


def names(program: SOp) -> dict[SOp, str]:
    """A name for every operator: its label, or its kind and number."""
    return _names(language.in_order(program))


def _names(order: Sequence[SOp]) -> dict[SOp, str]:
    found: dict[SOp, str] = {}
    for number, operator in enumerate(order):
        label = operator.label
        if not label or label in found.values():
            label = f"{label or type(operator).__name__.lower()}.{number}"
        found[operator] = label
    return found


def _of_arguments(vocabulary: Sequence[Any], longest: int) -> list[str]:
    problems = []
    if not len(vocabulary) or len(set(vocabulary)) < len(vocabulary):
        problems.append(f"vocabulary must hold at least one token and none twice, got {_shown(tuple(vocabulary))}.")
    if isinstance(longest, bool) or not isinstance(longest, int) or longest < 1:
        problems.append(f"longest must be a whole number of at least 1, got {longest!r}.")
    return problems


def _inputs_are_operators(operator: SOp, walk: _Walk) -> bool:
    strangers = [i for i in operator.inputs if not isinstance(i, SOp)]
    for stranger in strangers:
        if isinstance(stranger, Selector):
            what, fix = "a selector", "Count with selector_width or read with aggregate."
        elif isinstance(operator, language.SelectorWidth | language.Aggregate):
            what, fix = _shown(stranger), "Make selectors with select(keys, queries, predicate)."
        else:
            what, fix = _shown(stranger), "A fixed value goes into the function."
        walk.problems.append(f"{walk.names[operator]} must read sequence operators, got {what}. {fix}")
    selector = getattr(operator, "selector", None)
    if isinstance(selector, SOp):
        walk.problems.append(
            f"{walk.names[operator]} must read a selector, got {walk.names[selector]}. "
            "Make one with select(keys, queries, predicate)."
        )
        return False
    return not strangers and walk.known(*operator.inputs)


@singledispatch
def _domain(operator: SOp, walk: _Walk) -> Domain | None:
    walk.problems.append(f"operator must be of the language, got {type(operator).__name__}.")
    return None


@_domain.register
def _(operator: language.Tokens, walk: _Walk) -> Domain | None:
    return Domain(CATEGORICAL, walk.vocabulary)


@_domain.register
def _(operator: language.Indices, walk: _Walk) -> Domain | None:
    return Domain(CATEGORICAL, tuple(range(walk.longest)))


@_domain.register
def _(operator: language.Map, walk: _Walk) -> Domain | None:
    before = walk.domains[operator.inner].values
    if operator.boolean and not _are_boolean(operator.inner, operator, walk):
        return None
    if operator.against is not None and operator.against not in before:
        near = difflib.get_close_matches(str(operator.against), [str(v) for v in before], n=1, cutoff=0.0)
        hint = f"The nearest is {near[0]!r}." if near else "Compare with one of its values."
        walk.problems.append(
            f"{walk.names[operator]} must compare {walk.names[operator.inner]} with a value that it can have, "
            f"got {operator.against!r}. {hint}"
        )
        return None
    return _results(operator, walk, operator.function, [(v,) for v in before])


@_domain.register
def _(operator: language.SequenceMap, walk: _Walk) -> Domain | None:
    left, right = walk.domains[operator.left], walk.domains[operator.right]
    for side in (operator.left, operator.right):
        if walk.domains[side].encoding == NUMERICAL:
            walk.problems.append(
                f"{walk.names[operator]} must combine categories, got numerical {walk.names[side]}. "
                "Wrap it in categorical(...), or add numbers with + and -."
            )
            return None
        if operator.boolean and not _are_boolean(side, operator, walk):
            return None
    if len(left.values) * len(right.values) > MOST_NUMBERS:
        n = len(left.values) * len(right.values)
        walk.problems.append(
            f"{walk.names[operator]} must combine at most {MOST_NUMBERS} pairs of values, got {n}. Combine fewer values."
        )
        return None
    return _results(operator, walk, operator.function, [(x, y) for x in left.values for y in right.values])


@_domain.register
def _(operator: language.LinearMap, walk: _Walk) -> Domain | None:
    left, right = walk.domains[operator.left].values, walk.domains[operator.right].values
    if len(left) * len(right) > 50 * MOST_NUMBERS:
        return _numbers(range(MOST_NUMBERS + 1), operator, walk)
    a, b = operator.times_left, operator.times_right
    return _numbers((a * x + b * y for x in left for y in right), operator, walk)


@_domain.register
def _(operator: language.SelectorWidth, walk: _Walk) -> Domain | None:
    if not _can_select(operator.selector, operator, walk):
        return None
    return Domain(CATEGORICAL, tuple(range(walk.longest + 1)))


@_domain.register
def _(operator: language.Aggregate, walk: _Walk) -> Domain | None:
    if not _can_select(operator.selector, operator, walk):
        return None
    values = walk.domains[operator.values].values
    always = always_selects(operator.selector, walk.domains)
    if operator.encoding == CATEGORICAL:
        if not isinstance(operator.default, Hashable):
            walk.problems.append(f"{walk.names[operator]} must have a default that hashes, got {operator.default!r}.")
            return None
        return _categories(values if always else (*values, operator.default), operator, walk)
    default = 0 if operator.default is None else operator.default
    return _numbers(_means(values, walk.longest, default), operator, walk)


def _can_select(selector: Selector, operator: SOp, walk: _Walk) -> bool:
    """Whether keys and queries are categories and every predicate can tell for each pair of values."""
    fine = True
    for term in selector.terms:
        for side, what in ((term.keys, "keys"), (term.queries, "queries")):
            if walk.domains[side].encoding == NUMERICAL:
                walk.problems.append(
                    f"{what} of {walk.names[operator]} must be categorical, got numerical {walk.names[side]}. "
                    "Wrap it in categorical(...)."
                )
                fine = False
        fine = fine and _can_compare(term, operator, walk)
    return fine


def _can_compare(term: Term, operator: SOp, walk: _Walk) -> bool:
    for key in walk.domains[term.keys].values:
        for query in walk.domains[term.queries].values:
            try:
                bool(term.predicate(key, query))
            except Exception as error:
                walk.problems.append(
                    f"predicate of {walk.names[operator]} must be defined for every key and query, got "
                    f"{type(error).__name__} for {key!r} and {query!r} ({error}). Give a default to what is None."
                )
                return False
    return True


def _are_boolean(inner: SOp, operator: SOp, walk: _Walk) -> bool:
    wrong = [v for v in walk.domains[inner].values if v not in (True, False)]
    if wrong:
        walk.problems.append(
            f"{walk.names[operator]} must read true or false, got {_shown(wrong[0])} from {walk.names[inner]}. "
            "Compare first, or give aggregate a default of False."
        )
    return not wrong


def _results(
    operator: Any, walk: _Walk, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]
) -> Domain | None:
    """The values of a function over all its arguments."""
    found = []
    for given in arguments:
        try:
            found.append(function(*given))
            hash(found[-1])
        except Exception as error:
            walk.problems.append(
                f"{walk.names[operator]} must be defined for every value of its inputs, got {type(error).__name__} for "
                f"{', '.join(map(repr, given))} ({error}). Give a default to what is None."
            )
            return None
    return (_numbers if operator.encoding == NUMERICAL else _categories)(found, operator, walk)


def _categories(values: Iterable[Any], operator: SOp, walk: _Walk) -> Domain | None:
    distinct = tuple(dict.fromkeys(values))
    if len(distinct) <= MOST_CATEGORIES:
        return Domain(CATEGORICAL, distinct)
    walk.problems.append(
        f"{walk.names[operator]} must have at most {MOST_CATEGORIES} different values, got {len(distinct)}. "
        "Each takes a direction of its own: compare or round first."
    )
    return None


def _numbers(values: Iterable[Any], operator: SOp, walk: _Walk) -> Domain | None:
    distinct: set[Any] = set()
    for value in values:
        if not isinstance(value, Real) or not math.isfinite(value):
            walk.problems.append(
                f"{walk.names[operator]} must have finite numbers as values, got {_shown(value)}. "
                "Give a number for every value."
            )
            return None
        distinct.add(value + 0)
        if len(distinct) > MOST_NUMBERS:
            walk.problems.append(
                f"{walk.names[operator]} must have at most {MOST_NUMBERS} different numbers, got more. "
                "Its values have no bound that helps: compare or round first, or shorten the sequences."
            )
            return None
    return Domain(NUMERICAL, tuple(sorted(distinct)))


def _means(values: Sequence[Any], longest: int, default: Any) -> Iterable[Any]:
    """Everything that a mean of 1 to `longest` of these can be, and some numbers more."""
    yield default
    exact = [Fraction(v) for v in values]
    grid = math.lcm(*(v.denominator for v in exact))
    low, high = int(min(exact) * grid), int(max(exact) * grid)
    step = math.gcd(*(int(v * grid) - low for v in exact)) or 1
    for n in range(1, longest + 1):
        for total in range(n * low, n * high + 1, step):
            yield Fraction(total, n * grid)


def _shown(value: object) -> str:
    return f"{value!r:.60}"
