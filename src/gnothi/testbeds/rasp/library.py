"""Programs that are known from the literature, each with a vocabulary and a length it is tried on.

Source: Weiss et al. 2021 (arXiv:2106.06981) for reverse, sort, histogram, hist-of-hist, most frequent, balance and
shuffle-Dyck; Lindner et al. 2023 for the fraction of a token so far; arXiv:2311.12786, appendix C.1, for the counter and
the k-th largest. All are written anew here.
"""

import difflib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnothi.errors import SpecError
from gnothi.testbeds.rasp.language import (
    SOp,
    aggregate,
    apply,
    combine,
    indices,
    numerical,
    select,
    selector_width,
    tokens,
)

ANSWER_AT = 1
"""Index at which `counter` and `kth_smallest` give their answer: their selectors compare true or false with the index."""


Draw = Callable[[np.random.Generator, tuple[Any, ...], int], list[Any]]
"""A random input of a length over a vocabulary."""


def drawn(rng: np.random.Generator, vocabulary: tuple[Any, ...], n: int) -> list[Any]:
    """Each of `n` tokens is drawn from all."""
    return [vocabulary[i] for i in rng.integers(len(vocabulary), size=n)]


def drawn_different(rng: np.random.Generator, vocabulary: tuple[Any, ...], n: int) -> list[Any]:
    """No token comes twice among the `n`."""
    return [vocabulary[i] for i in rng.permutation(len(vocabulary))[:n]]


def drawn_brackets(rng: np.random.Generator, vocabulary: tuple[Any, ...], n: int) -> list[Any]:
    """Balanced in half of the cases where the length is even, else any brackets: by chance few are balanced.

    Args:
        rng: Where it comes from.
        vocabulary: Opening and closing bracket of each kind in turn.
        n: Length.
    """
    if n % 2 or rng.random() < 0.5:
        return drawn(rng, vocabulary, n)
    found: list[Any] = []
    for _ in range(n // 2):  # a pair anywhere keeps every kind balanced
        kind = 2 * int(rng.integers(len(vocabulary) // 2))
        first, second = sorted(int(i) for i in rng.integers(len(found) + 1, size=2))
        found = [*found[:first], vocabulary[kind], *found[first:second], vocabulary[kind + 1], *found[second:]]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A program of the library, ready to compile."""

    summary: str
    build: Callable[[], SOp]
    vocabulary: tuple[Any, ...]
    longest: int
    draw: Draw = drawn
    """Random inputs that it is meant for."""


def length() -> SOp:
    """Number of tokens, everywhere."""
    return selector_width(select(tokens, tokens, "true"), label="length")


def counter(letter: Any) -> SOp:
    """How often a letter stands in the sequence, at index 1.

    The comparison is of true or false with the index, as in the paper: index 0 counts all other letters, and from index
    2 on nothing is selected.
    """
    is_letter = tokens.equals(letter).named("is_letter")
    count = selector_width(select(is_letter, indices, "=="), label="count")
    return aggregate(select(indices, indices, "=="), count, label="answer")


def kth_smallest(k: int) -> SOp:
    """The token with exactly k - 1 smaller ones, at index 1; None where there is none. Tokens must differ.

    With letters in alphabetical order as sizes that fall, it is the paper's k-th largest. The paper compares true or
    false with the index here too, and so reads all other tokens at once at index 0, which is no category: we don't.
    """
    rank = selector_width(select(tokens, tokens, "<"), label="rank")
    hit = rank.equals(k - 1).named("hit")
    return aggregate(select(hit, indices, lambda is_hit, i: is_hit and i == ANSWER_AT), tokens, label="answer")


def reverse() -> SOp:
    """The sequence from its end."""
    mirrored = combine(lambda n, i: n - 1 - i, length(), indices, label="mirrored")
    return aggregate(select(indices, mirrored, "=="), tokens, label="reversed")


def sort() -> SOp:
    """Tokens in rising order; equal ones stay."""
    smaller = selector_width(select(tokens, tokens, "<"), label="smaller")
    equal_before = selector_width(select(tokens, tokens, "==") & select(indices, indices, "<"), label="equal_before")
    place = combine(operator.add, smaller, equal_before, label="place")
    return aggregate(select(place, indices, "=="), tokens, label="sorted")


def histogram() -> SOp:
    """How often each position's token stands in the sequence."""
    return selector_width(select(tokens, tokens, "=="), label="histogram")


def histogram_of_histogram() -> SOp:
    """How many different tokens stand in the sequence as often as this one."""
    first = _first_of_its_kind()
    often = histogram()
    same = select(often, often, "==") & select(first, indices, lambda is_first, i: is_first)
    return selector_width(same, label="hist_of_hist")


def most_frequent() -> SOp:
    """Tokens by how often they stand there, most often first, each once; ties by position; None after the last."""
    first, often = _first_of_its_kind(), histogram()
    of_firsts = select(first, indices, lambda is_first, i: is_first)
    more = selector_width(select(often, often, ">") & of_firsts, label="more")
    earlier = select(often, often, "==") & select(indices, indices, "<")  # of two as frequent ones
    ahead = combine(operator.add, more, selector_width(earlier & of_firsts), label="ahead")
    place = combine(lambda n, is_first: n if is_first else -1, ahead, first, label="place")
    return aggregate(select(place, indices, "=="), tokens, label="most_frequent")


def remove_duplicates() -> SOp:
    """The first of each token, moved together; None after the last."""
    first = _first_of_its_kind()
    before = select(indices, indices, "<") & select(first, indices, lambda is_first, i: is_first)
    place = combine(lambda n, is_first: n if is_first else -1, selector_width(before), first, label="place")
    return aggregate(select(place, indices, "=="), tokens, label="distinct")


def fraction_so_far(token: Any) -> SOp:
    """The share of a token among all tokens up to here; numerical."""
    return aggregate(select(indices, indices, "<="), numerical(tokens.equals(token)), label="fraction")


def pair_balance(opening: Any, closing: Any) -> SOp:
    """Openings less closings, over tokens so far; numerical, 0 where they are balanced."""
    return (fraction_so_far(opening) - fraction_so_far(closing)).named("balance")


def shuffle_dyck(pairs: tuple[tuple[Any, Any], ...]) -> SOp:
    """Whether the whole sequence closes all brackets of each kind, none before it opened; kinds may cross."""
    fine: SOp | None = None
    for opening, closing in pairs:
        balance = pair_balance(opening, closing)
        never_below = aggregate(select(indices, indices, "true"), numerical(balance < 0)) <= 0
        last = combine(lambda n, i: i == n - 1, length(), indices, label="last")
        is_zero = apply(lambda x: x == 0, balance)
        ends_at_zero = aggregate(select(last, indices, lambda is_last, i: is_last), is_zero, default=False)
        both = never_below & ends_at_zero
        fine = both if fine is None else fine & both
    if fine is None:
        raise SpecError("pairs must hold at least one pair of brackets, got none.")
    return fine.named("balanced")


def shift(steps: int) -> SOp:
    """Each position reads the token `steps` before it; None where there is none."""
    return aggregate(select(indices, indices, lambda k, q: k == q - steps), tokens, label="shifted")


def last_seen_before() -> SOp:
    """How many tokens ago the same token stood last; 0 where it is new. An induction head's first half."""
    same_before = select(tokens, tokens, "==") & select(indices, indices, "<")
    number = selector_width(same_before, label="number")
    previous = apply(lambda n: n - 1, number, label="previous")
    found = aggregate(select(tokens, tokens, "==") & select(number, previous, "=="), indices, default=-1, label="found")
    return combine(lambda at, i: i - at if at >= 0 else 0, found, indices, label="distance")


def _first_of_its_kind() -> SOp:
    same_before = select(tokens, tokens, "==") & select(indices, indices, "<")
    return selector_width(same_before, label="same_before").equals(0).named("first")


_LETTERS = tuple("abcdef")
_BRACKETS = (("(", ")"), ("{", "}"))

LIBRARY: Mapping[str, Example] = {
    "counter": Example(summary="count of a letter", build=lambda: counter("a"), vocabulary=_LETTERS, longest=12),
    "kth_largest": Example(
        summary="the token with k - 1 before it",
        build=lambda: kth_smallest(3),
        vocabulary=tuple("abcdefghijklmn"),
        longest=12,
        draw=drawn_different,
    ),
    "reverse": Example(summary="from the end", build=reverse, vocabulary=_LETTERS, longest=12),
    "sort": Example(summary="in rising order", build=sort, vocabulary=_LETTERS, longest=10),
    "histogram": Example(summary="how often each token stands there", build=histogram, vocabulary=_LETTERS, longest=12),
    "fraction_so_far": Example(
        summary="share of a token so far", build=lambda: fraction_so_far("a"), vocabulary=tuple("abc"), longest=12
    ),
    "shuffle_dyck": Example(
        summary="brackets of two kinds, all closed",
        build=lambda: shuffle_dyck(_BRACKETS),
        vocabulary=tuple("(){}"),
        longest=12,
        draw=drawn_brackets,
    ),
    "hist_of_hist": Example(
        summary="tokens that are as frequent", build=histogram_of_histogram, vocabulary=tuple("abcde"), longest=10
    ),
    "most_frequent": Example(summary="tokens by frequency", build=most_frequent, vocabulary=_LETTERS, longest=10),
    "length": Example(summary="number of tokens", build=length, vocabulary=tuple("ab"), longest=12),
    "pair_balance": Example(
        summary="openings less closings so far",
        build=lambda: pair_balance("(", ")"),
        vocabulary=tuple("()x"),
        longest=12,
    ),
    "remove_duplicates": Example(
        summary="the first of each token", build=remove_duplicates, vocabulary=tuple("abcde"), longest=10
    ),
    "shift": Example(summary="the token two before", build=lambda: shift(2), vocabulary=_LETTERS, longest=12),
    "last_seen_before": Example(
        summary="distance to the same token before", build=last_seen_before, vocabulary=tuple("abcd"), longest=10
    ),
}


def example(name: str) -> Example:
    """A program of the library by name.

    Raises:
        SpecError: An unknown name, with the nearest right one.
    """
    if name not in LIBRARY:
        near = difflib.get_close_matches(name, LIBRARY, n=1, cutoff=0.0)
        raise SpecError(f"program must be one of {', '.join(LIBRARY)}, got {name!r}. Did you mean {near[0]!r}?")
    return LIBRARY[name]
