"""RASP: a small language for what a transformer can do with a sequence.

A **sequence operator** (`SOp`) is a function from a sequence to a sequence of the same length. `tokens` and `indices`
are given; others come from them: `apply` (one input, position by position), `combine` (two), `aggregate` and
`selector_width`. A **selector** says, for each query position, which key positions are looked at: `select` compares the
keys' values with the query's.

Every value is **categorical** (one of finitely many things, one direction of the residual stream each) or **numerical**
(a number on one direction). Operators are frozen values that point to their inputs; building a program computes nothing.

Source: Weiss et al. 2021 (arXiv:2106.06981) for the language, Lindner et al. 2023 (arXiv:2301.05062) for the two
encodings. Ours: a selector is a conjunction of comparisons, and `|` and `~` pair keys or queries where they must.

>>> is_a = tokens.equals("a")
>>> count = selector_width(select(is_a, indices, lambda key, index: key and index == 1))
"""

import difflib
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gnothi.errors import SpecError

CATEGORICAL, NUMERICAL = "categorical", "numerical"

PREDICATES: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "true": lambda key, query: True,
}
"""Comparisons by name, of key (left) with query (right)."""


class SOp:
    """A sequence operator. Operators compare by identity; `==` in a program is `equals`."""

    label: str

    @property
    def inputs(self) -> "tuple[Any, ...]":
        """Operators that it reads, selectors' keys and queries included."""
        return ()

    @property
    def encoding(self) -> str:
        """`categorical` or `numerical`."""
        return CATEGORICAL

    def named(self, label: str) -> "Any":
        """The same operator with a name for messages and pictures."""
        return replace(self, label=label)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def equals(self, other: Any) -> "SOp":
        """Whether the value is `other`, a value or an operator."""
        return _compared(self, other, operator.eq)

    def differs(self, other: Any) -> "SOp":
        """Whether the value is not `other`."""
        return _compared(self, other, operator.ne)

    def __lt__(self, other: Any) -> "SOp":
        return _compared(self, other, operator.lt)

    def __le__(self, other: Any) -> "SOp":
        return _compared(self, other, operator.le)

    def __gt__(self, other: Any) -> "SOp":
        return _compared(self, other, operator.gt)

    def __ge__(self, other: Any) -> "SOp":
        return _compared(self, other, operator.ge)

    def __invert__(self) -> "SOp":
        return Map(self, operator.not_, boolean=True)

    def __and__(self, other: Any) -> "SOp":
        return SequenceMap(self, other, lambda x, y: x and y, boolean=True)

    def __or__(self, other: Any) -> "SOp":
        return SequenceMap(self, other, lambda x, y: x or y, boolean=True)

    def __add__(self, other: Any) -> "SOp":
        return _sum(self, other, operator.add, 1)

    def __sub__(self, other: Any) -> "SOp":
        return _sum(self, other, operator.sub, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Tokens(SOp):
    """The sequence itself."""

    label: str = "tokens"


@dataclass(frozen=True, slots=True, eq=False)
class Indices(SOp):
    """The position, from 0."""

    label: str = "indices"


@dataclass(frozen=True, slots=True, eq=False)
class Map(SOp):
    """A function of one operator's value."""

    inner: SOp
    function: Callable[[Any], Any]
    kind: str = CATEGORICAL
    """How the result is encoded."""
    boolean: bool = False
    """Whether the input must be true or false."""
    against: Any = None
    """What the input is compared with, if it is a comparison for equality: a value that the input must be able to have."""
    label: str = ""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What it reads."""
        return (self.inner,)

    @property
    def encoding(self) -> str:
        """How its value is held."""
        return self.kind


@dataclass(frozen=True, slots=True, eq=False)
class SequenceMap(SOp):
    """A function of two categorical operators' values at the same position."""

    left: SOp
    right: SOp
    function: Callable[[Any, Any], Any]
    kind: str = CATEGORICAL
    boolean: bool = False
    label: str = ""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What it reads."""
        return (self.left, self.right)

    @property
    def encoding(self) -> str:
        """How its value is held."""
        return self.kind


@dataclass(frozen=True, slots=True, eq=False)
class LinearMap(SOp):
    """The sum of two numerical operators, each times a number."""

    left: SOp
    right: SOp
    times_left: int = 1
    times_right: int = 1
    label: str = ""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What it reads."""
        return (self.left, self.right)

    @property
    def encoding(self) -> str:
        """How its value is held."""
        return NUMERICAL


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One comparison of a key's value with a query's."""

    keys: SOp
    queries: SOp
    predicate: Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Selector:
    """What each query position looks at: key positions at which all terms hold."""

    terms: tuple[Term, ...]

    def __and__(self, other: "Selector") -> "Selector":
        if len(self.terms) == len(other.terms) == 1 and _same(self.terms[0], other.terms[0]):
            return Selector((_joined(self.terms[0], other.terms[0], lambda x, y: x and y),))
        return Selector(self.terms + other.terms)

    def __or__(self, other: "Selector") -> "Selector":
        return Selector((_joined(_single(self), _single(other), lambda x, y: x or y),))

    def __invert__(self) -> "Selector":
        term = _single(self)
        return Selector((replace(term, predicate=lambda k, q: not term.predicate(k, q)),))


@dataclass(frozen=True, slots=True, eq=False)
class SelectorWidth(SOp):
    """How many positions are selected."""

    selector: Selector
    label: str = ""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What it reads."""
        return _read_by(self.selector)


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate(SOp):
    """What stands at the selected positions: the mean of numbers, or the one category that all of them have."""

    selector: Selector
    values: SOp
    default: Any = None
    """Where nothing is selected; None is 0 among numbers."""
    label: str = ""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What it reads."""
        return (*_read_by(self.selector), self.values)

    @property
    def encoding(self) -> str:
        """How its value is held."""
        return getattr(self.values, "encoding", CATEGORICAL)


tokens = Tokens()
indices = Indices()


def apply(function: Callable[[Any], Any], inner: SOp, *, label: str = "") -> SOp:
    """A function of the value at each position; the result is categorical (see `numerical`)."""
    return Map(inner, function, label=label)


def combine(function: Callable[[Any, Any], Any], left: SOp, right: SOp, *, label: str = "") -> SOp:
    """A function of two categorical values at each position; the result is categorical."""
    return SequenceMap(left, right, function, label=label)


def numerical(inner: SOp) -> SOp:
    """The same values as numbers on one direction (true is 1), so that `aggregate` takes their mean."""
    if isinstance(inner, Map | SequenceMap) and inner.kind == CATEGORICAL:
        return replace(inner, kind=NUMERICAL)
    return inner if getattr(inner, "encoding", "") == NUMERICAL else Map(inner, lambda value: value, NUMERICAL)


def categorical(inner: SOp) -> SOp:
    """The same values with one direction each, so that they can be compared and combined."""
    return inner if getattr(inner, "encoding", "") == CATEGORICAL else Map(inner, lambda value: value)


def select(keys: SOp, queries: SOp, predicate: str | Callable[[Any, Any], bool]) -> Selector:
    """Look at positions whose key goes with the query's value.

    Args:
        keys: Categorical; read at the position looked at.
        queries: Categorical; read at the position that looks.
        predicate: A function (key, query) -> bool, or a name from `PREDICATES`.

    Raises:
        SpecError: An unknown name.
    """
    if isinstance(predicate, str):
        if predicate not in PREDICATES:
            near = difflib.get_close_matches(predicate, PREDICATES, n=1, cutoff=0.3)
            hint = f"Did you mean {near[0]!r}?" if near else "Or give a function (key, query) -> bool."
            names = ", ".join(PREDICATES)
            raise SpecError(f"predicate must be a function or one of {names}, got {predicate!r}. {hint}")
        predicate = PREDICATES[predicate]
    return Selector((Term(keys, queries, predicate),))


def selector_width(selector: Selector, *, label: str = "") -> SOp:
    """How many positions are selected, 0 to the length; categorical."""
    return SelectorWidth(selector, label)


def aggregate(selector: Selector, values: SOp, default: Any = None, *, label: str = "") -> SOp:
    """The mean of selected numbers, or the category at the selected position.

    Args:
        selector: Where to look.
        values: What to read. If categorical, all selected positions must agree.
        default: The result where nothing is selected. None is 0 for numbers, and a category of its own otherwise.
        label: A name.
    """
    return Aggregate(selector, values, default, label)


def children(operator_: SOp) -> tuple[SOp, ...]:
    """The operators among an operator's inputs; what is no operator is left out (`values` complains of it)."""
    return tuple(i for i in operator_.inputs if isinstance(i, SOp))


def in_order(program: SOp) -> tuple[SOp, ...]:
    """Every operator of a program once, inputs before what reads them, the program last."""
    done: dict[SOp, None] = {}
    stack: list[tuple[SOp, bool]] = [(program, False)]
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        if ready:
            done[node] = None
        else:
            stack.append((node, True))
            stack += [(child, False) for child in reversed(children(node)) if child not in done]
    return tuple(done)


def _read_by(selector: Any) -> tuple[Any, ...]:
    if not isinstance(selector, Selector):
        return (selector,)
    return tuple(operator_ for term in selector.terms for operator_ in (term.keys, term.queries))


def _compared(left: SOp, other: Any, how: Callable[[Any, Any], bool]) -> SOp:
    if isinstance(other, SOp):
        return SequenceMap(left, other, how)
    exact = how in (operator.eq, operator.ne)
    return Map(left, lambda value: how(value, other), against=other if exact else None)


def _sum(left: SOp, other: Any, how: Callable[[Any, Any], Any], sign: int) -> SOp:
    """Numbers add on their directions; categories, and a number that is fixed, by a look-up."""
    if not isinstance(other, SOp):
        return Map(left, lambda value: how(value, other), left.encoding)
    if left.encoding == other.encoding == NUMERICAL:
        return LinearMap(left, other, 1, sign)
    return SequenceMap(left, other, how)


def _same(one: Term, other: Term) -> bool:
    return one.keys is other.keys and one.queries is other.queries


def _joined(one: Term, other: Term, how: Callable[[bool, bool], bool]) -> Term:
    """One term that compares what both compare, pairs of values where they read different operators."""
    pair_keys, pair_queries = one.keys is not other.keys, one.queries is not other.queries
    keys = SequenceMap(one.keys, other.keys, lambda x, y: (x, y)) if pair_keys else one.keys
    queries = SequenceMap(one.queries, other.queries, lambda x, y: (x, y)) if pair_queries else one.queries

    def predicate(key: Any, query: Any) -> bool:
        k1, k2 = key if pair_keys else (key, key)
        q1, q2 = query if pair_queries else (query, query)
        return how(bool(one.predicate(k1, q1)), bool(other.predicate(k2, q2)))

    return Term(keys, queries, predicate)


def _single(selector: Selector) -> Term:
    first, *rest = selector.terms
    for term in rest:
        first = _joined(first, term, lambda x, y: x and y)
    return first
