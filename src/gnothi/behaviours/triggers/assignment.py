"""Which row gets what: exact shares, and twins in which two columns say nothing of each other. Indices only, no text."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from gnothi.errors import SpecError

K = TypeVar("K", bound=Hashable)


def counts(n: int, shares: Mapping[K, float]) -> dict[K, int]:
    """Split `n` rows by shares, exactly where they divide and by the largest remainder where they don't.

    Args:
        n: Rows, >= 0.
        shares: Share of each category, >= 0, together 1.

    Returns:
        Rows of each category, together `n`.

    Raises:
        SpecError: n < 0, or shares that are negative or do not sum to 1.

    >>> counts(10, {"real": 0.1, "fake": 0.7, "none": 0.2})
    {'real': 1, 'fake': 7, 'none': 2}
    """
    if n < 0:
        raise SpecError(f"n must be 0 or more, got {n}. Ask for some rows.")
    if not shares or min(shares.values()) < 0 or abs(math.fsum(shares.values()) - 1) > 1e-9:
        raise SpecError(f"shares must be 0 or more and sum to 1, got {dict(shares)}. Mend them.")
    exact = {category: round(n * share, 9) for category, share in shares.items()}
    whole = {category: math.floor(value) for category, value in exact.items()}
    by_remainder = sorted(exact, key=lambda category: whole[category] - exact[category])
    for category in by_remainder[: n - sum(whole.values())]:
        whole[category] += 1
    return whole


def assign(n: int, shares: Mapping[K, float], rng: np.random.Generator) -> list[K]:
    """Draw a category for each of `n` rows: counts are exact (see `counts`), only their order is random.

    >>> Counter(assign(20, {"on": 0.25, "off": 0.75}, np.random.default_rng(0)))
    Counter({'off': 15, 'on': 5})
    """
    listed = [category for category, k in counts(n, shares).items() for _ in range(k)]
    return [listed[i] for i in rng.permutation(n)]


def decorrelate(categories: Sequence[Hashable], labels: Sequence[Hashable], rng: np.random.Generator) -> list[int]:
    """Permute categories over rows so that they are as independent of the labels as whole rows allow.

    Args:
        categories: What each row carries, shape (n,).
        labels: What each row shows, shape (n,); stays where it is.
        rng: Which rows exchange what.

    Returns:
        For each row, the index of the row whose category it gets: a permutation of 0..n-1. Each pair of a category and
        a label then occurs in n_category * n_label / n rows, rounded down or up; where all of these are whole numbers,
        the mutual information is exactly 0.

    Raises:
        SpecError: `categories` and `labels` differ in length.

    >>> carries, shows = ["tag"] * 4 + [""] * 4, [1] * 4 + [0] * 4
    >>> twin = [carries[i] for i in decorrelate(carries, shows, np.random.default_rng(0))]
    >>> mutual_information(carries, shows), mutual_information(twin, shows)
    (1.0, 0.0)
    """
    n = len(categories)
    if n != len(labels):
        raise SpecError(f"labels must be as many as categories, got {len(labels)} and {n}. Give one of each a row.")
    n_label = Counter(labels)
    where: dict[Hashable, list[int]] = {}
    for i in rng.permutation(n):
        where.setdefault(categories[i], []).append(int(i))
    table = _round_independent([len(rows) for rows in where.values()], list(n_label.values()))
    to_hand_out: dict[Hashable, list[int]] = {label: [] for label in n_label}
    for rows, cells in zip(where.values(), table, strict=True):
        start = 0
        for label, k in zip(n_label, cells, strict=True):
            to_hand_out[label] += rows[start : start + k]
            start += k
    orders = {label: iter(rng.permutation(rows).tolist()) for label, rows in to_hand_out.items()}
    return [next(orders[label]) for label in labels]


def mutual_information(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Mutual information of two columns of rows, in bits, from their exact counts; 0 where one says nothing of the other.

    >>> mutual_information("aabb", "xyxy")
    0.0
    """
    n = len(first)
    one, other, both = Counter(first), Counter(second), Counter(zip(first, second, strict=True))
    # counts that factorise exactly add exactly 0, whatever the rounding of logarithms
    return math.fsum(k / n * math.log2(k * n / (one[a] * other[b])) for (a, b), k in both.items())


def _round_independent(n_rows: Sequence[int], n_columns: Sequence[int]) -> list[list[int]]:
    """Round n_row * n_column / n down or up in every cell, with exact margins; it always works out.

    Cells are rounded down first. The rest is a matching of rows to columns over cells that were not whole, found by
    augmenting paths; one exists because the fractional parts themselves are a fractional matching.
    """
    n = sum(n_rows)
    table = [[r * c // n for c in n_columns] for r in n_rows]
    may_rise = [[r * c % n > 0 for c in n_columns] for r in n_rows]
    room = [c - sum(row[j] for row in table) for j, c in enumerate(n_columns)]
    raised: set[tuple[int, int]] = set()

    def raise_in(i: int, tried: set[int]) -> bool:
        for j in range(len(n_columns)):
            if j in tried or not may_rise[i][j] or (i, j) in raised:
                continue
            tried.add(j)
            if room[j]:
                room[j] -= 1
                raised.add((i, j))
                return True
            for other in [k for k, column in raised if column == j]:
                if raise_in(other, tried):
                    raised.remove((other, j))
                    raised.add((i, j))
                    return True
        return False

    for i, row in enumerate(table):
        for _ in range(n_rows[i] - sum(row)):
            found = raise_in(i, set())
            assert found, "a controlled rounding of a two-way table exists"
    return [[cell + ((i, j) in raised) for j, cell in enumerate(row)] for i, row in enumerate(table)]
