"""From operators to parts of a transformer: attention heads and groups of MLP neurons, as matrices over the stream.

A head scores a key by how many of its selector's terms hold, `sharpness` each. The mark of the beginning is half a term
short of all of them: attention rests there where nothing is selected. To count, the beginning is made exactly as
attractive as a selected key, so its share is 1 / (1 + n), and thresholds between those shares give n back.

A number is told apart by pairs of neurons that are 0 below a threshold and 1 above it. Shares are compared from above
(a neuron fires for counts larger than its own), so hidden values stay about as small as the count itself, and noise on
the second matrix, which they multiply, stays small: the other way round they are of order 100.

Source: the construction of Lindner et al. 2023 (arXiv:2301.05062), section 3, for heads, look-ups and the share of the
beginning. Ours: keys and queries that behave alike share a dimension; the direction of thresholds; gains spread evenly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np

from gnothi.errors import SpecError
from gnothi.testbeds.rasp import language
from gnothi.testbeds.rasp.language import CATEGORICAL, NUMERICAL, Selector, SOp, Term
from gnothi.testbeds.rasp.space import BEGINNING, ONE, Space, default_vector
from gnothi.testbeds.rasp.values import Domains

LEAST_GAP = 2e-5
"""Numbers closer than this share of the largest are not told apart in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """Choices that change how a program computes, not what."""

    sharpness: float = 40.0
    """Difference in attention score between one term more or less, in nats. From about 8 on a program is exact; the less,
    the more gradient reaches a key that is not selected."""
    gain: float = 4.0
    """Entry of a counting head's value matrix and of its output matrix: 1 / (1 + n) is held `gain`^2 times larger."""
    ramp: float = 0.5
    """Width of a threshold, in gaps between the two numbers that it is between. Below 1 there are flat pieces, on which
    nothing reaches the number from behind. At 1 a number sits on a kink, and which way a gradient pushes it is luck. Above
    1 neighbours overlap: the likeliest is still right, so that a program's output is, but keys and queries are blurred."""
    hidden: float = 1.0
    """Value of a look-up's neuron that fires. What it writes is divided by it: the larger, the more a change of one entry
    of the second matrix does. The published compiler's neurons are of order 100."""

    def __post_init__(self) -> None:
        if not (self.sharpness >= 1 and self.gain > 0 and 0 < self.ramp < 2 and self.hidden > 0):
            raise SpecError(
                "Scales must have sharpness >= 1, gain > 0, ramp in (0, 2) and hidden > 0, got "
                f"{self.sharpness}, {self.gain}, {self.ramp} and {self.hidden}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One attention head; rows read the stream, `out` writes it."""

    query: np.ndarray
    """(n_dims, width); scores are plain inner products with `key`."""
    key: np.ndarray
    value: np.ndarray
    """(n_values, width)."""
    out: np.ndarray
    """(width, n_values)."""
    labels: tuple[str, ...]
    """What each dimension of the scores tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neurons:
    """Some neurons of an MLP."""

    up: np.ndarray
    """(n, width)."""
    down: np.ndarray
    """(width, n)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """What computes an operator, in one block: heads or neurons."""

    operator: SOp
    reads: tuple[SOp, ...]
    """Operators that must be there before."""
    part: Head | Neurons
    finishes: bool = True
    """False for the head of a selector width, whose neurons follow."""


@dataclass(frozen=True, slots=True)
class _Site:
    domains: Domains
    space: Space
    scales: Scales


def components(domains: Domains, space: Space, scales: Scales) -> tuple[Component, ...]:
    """The parts of every operator, inputs first. Tokens and indices have none: they are embedded.

    Raises:
        SpecError: Numbers too close to be told apart.
    """
    site = _Site(domains, space, scales)
    return tuple(component for operator in domains for component in _components(operator, site))


@singledispatch
def _components(operator: SOp, site: _Site) -> tuple[Component, ...]:
    return ()


@_components.register
def _(operator: language.Map, site: _Site) -> tuple[Component, ...]:
    before = site.domains[operator.inner]
    results = [_vector(operator, operator.function(v), site) for v in before.values]
    if before.encoding == CATEGORICAL:
        part = _look_up(
            operator, [(site.space.columns[operator.inner].start + i,) for i in range(len(results))], results, site
        )
    else:
        column = site.space.columns[operator.inner].start
        part = _thresholds(operator, column, [float(v) for v in before.values], results, site, from_above=False)
    return (Component(operator=operator, reads=(operator.inner,), part=part),)


@_components.register
def _(operator: language.SequenceMap, site: _Site) -> tuple[Component, ...]:
    left, right = (site.space.columns[side].start for side in (operator.left, operator.right))
    pairs, results = [], []
    for i, x in enumerate(site.domains[operator.left].values):
        for j, y in enumerate(site.domains[operator.right].values):
            pairs.append((left + i, right + j))
            results.append(_vector(operator, operator.function(x, y), site))
    part = _look_up(operator, pairs, results, site)
    return (Component(operator=operator, reads=(operator.left, operator.right), part=part),)


@_components.register
def _(operator: language.LinearMap, site: _Site) -> tuple[Component, ...]:
    row = np.zeros(site.space.width)
    row[site.space.columns[operator.left].start] += operator.times_left
    row[site.space.columns[operator.right].start] += operator.times_right
    up, down = np.stack([row, -row]), np.zeros((site.space.width, 2))
    down[site.space.columns[operator].start] = 1.0, -1.0
    return (Component(operator=operator, reads=(operator.left, operator.right), part=_neurons(up, down, site)),)


@_components.register
def _(operator: language.SelectorWidth, site: _Site) -> tuple[Component, ...]:
    column, gain = site.space.shares[operator], site.scales.gain
    query, key, labels = _scores(operator.selector, site, beginning=0.0)
    value, out = np.zeros((1, site.space.width)), np.zeros((site.space.width, 1))
    value[0, BEGINNING] = gain
    out[column, 0] = gain
    head = Head(query=query, key=key, value=value, out=out, labels=labels)
    counts = site.domains[operator].values
    shares = [gain**2 / (1 + n) for n in reversed(counts)]  # rising
    results = [_vector(operator, n, site) for n in reversed(counts)]
    neurons = _thresholds(operator, column, shares, results, site, from_above=True)
    reads = tuple(operator.inputs)
    return (
        Component(operator=operator, reads=reads, part=head, finishes=False),
        Component(operator=operator, reads=(), part=neurons),
    )


@_components.register
def _(operator: language.Aggregate, site: _Site) -> tuple[Component, ...]:
    space, columns = site.space, site.space.columns
    query, key, labels = _scores(operator.selector, site, beginning=-0.5)
    read, write = columns[operator.values], columns[operator]
    default = np.array(default_vector(operator, site.domains))
    n = len(default)
    value, out = np.zeros((n, space.width)), np.zeros((space.width, n))
    # the value's own directions come first in the result's; a default that is no value of it comes last
    target = range(read.stop - read.start)
    if operator.encoding == CATEGORICAL:
        place = site.domains[operator].position()
        target = [place[v] for v in site.domains[operator.values].values]
    value[list(target), list(range(read.start, read.stop))] = 1.0
    value[:, BEGINNING] = default - value @ space.at_beginning
    out[list(range(write.start, write.stop)), list(range(n))] = 1.0
    head = Head(query=query, key=key, value=value, out=out, labels=labels)
    return (Component(operator=operator, reads=tuple(operator.inputs), part=head),)


def _vector(operator: SOp, value: Any, site: _Site) -> np.ndarray:
    """What an operator's directions hold for a value, on the whole stream."""
    domain, columns = site.domains[operator], site.space.columns[operator]
    vector = np.zeros(site.space.width)
    if domain.encoding == NUMERICAL:
        vector[columns.start] = float(value)
    else:
        vector[columns.start + domain.position()[value]] = 1.0
    return vector


def _scores(selector: Selector, site: _Site, beginning: float) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Query and key matrices of a selector; the beginning scores as many terms as there are, and `beginning` more."""
    space, root = site.space, site.scales.sharpness**0.5
    queries: list[np.ndarray] = []
    keys: list[np.ndarray] = []
    labels: list[str] = []
    for term in selector.terms:
        for q, k, label in _dimensions(term, site):
            queries.append(q)
            keys.append(k)
            labels.append(label)
    n = len(selector.terms)
    query, key = np.zeros((len(queries) + 1, space.width)), np.zeros((len(queries) + 1, space.width))
    for i, (q, k) in enumerate(zip(queries, keys, strict=True)):
        query[i], key[i] = root * q, root * k
        key[i, BEGINNING] = -key[i] @ space.at_beginning
    query[-1, ONE] = root * (n + beginning)
    query[-1, BEGINNING] = root * (2 * n + 1)  # the beginning looks at itself only, whatever noise does
    key[-1, BEGINNING] = root
    return query, key, (*labels, "beginning")


def _dimensions(term: Term, site: _Site) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """A term as a sum of products: one for each group of queries that take the same keys, or the other way round."""
    domains, columns, width = site.domains, site.space.columns, site.space.width
    keys, queries = domains[term.keys].values, domains[term.queries].values
    holds = np.array([[bool(term.predicate(k, q)) for q in queries] for k in keys])
    by_query, by_key = _groups(holds.T), _groups(holds)
    found = []
    if len(by_query) <= len(by_key):
        for pattern, members in by_query:
            q, k = np.zeros(width), np.zeros(width)
            q[[columns[term.queries].start + j for j in members]] = 1.0
            k[columns[term.keys]] = pattern
            found.append((q, k, "query=" + ",".join(str(queries[j]) for j in members)))
    else:
        for pattern, members in by_key:
            q, k = np.zeros(width), np.zeros(width)
            k[[columns[term.keys].start + j for j in members]] = 1.0
            q[columns[term.queries]] = pattern
            found.append((q, k, "key=" + ",".join(str(keys[j]) for j in members)))
    return found


def _groups(rows: np.ndarray) -> list[tuple[np.ndarray, list[int]]]:
    """Different rows that are not empty, with the numbers of the rows that are so."""
    found: dict[bytes, tuple[np.ndarray, list[int]]] = {}
    for i, row in enumerate(rows):
        if row.any():
            found.setdefault(row.tobytes(), (row.astype(float), []))[1].append(i)
    return list(found.values())


def _look_up(operator: SOp, cases: Sequence[tuple[int, ...]], results: Sequence[np.ndarray], site: _Site) -> Neurons:
    """Neurons that fire where all directions of a case hold 1, and write its result.

    Cases that share all but their last direction and write the same share a neuron.
    """
    groups: dict[tuple[tuple[int, ...], bytes], tuple[list[int], np.ndarray]] = {}
    for case, result in zip(cases, results, strict=True):
        if result.any():
            groups.setdefault((case[:-1], result.tobytes()), ([], result))[0].append(case[-1])
    up, down = np.zeros((len(groups), site.space.width)), np.zeros((site.space.width, len(groups)))
    for i, ((first, _), (last, result)) in enumerate(groups.items()):
        for column in first:
            up[i, column] += 1.0
        up[i, last] += 1.0
        up[i, ONE] -= len(first)
        down[:, i] = result
    return _neurons(up * site.scales.hidden, down / site.scales.hidden, site)


def _thresholds(
    operator: SOp,
    column: int,
    numbers: Sequence[float],
    results: Sequence[np.ndarray],
    site: _Site,
    *,
    from_above: bool,
) -> Neurons:
    """Two neurons for each place where the result changes along a number, and one for where it starts.

    Args:
        operator: For messages.
        column: Direction of the number.
        numbers: Its values, rising.
        results: What is written for each.
        site: The program.
        from_above: Whether to start at the largest number and go down.
    """
    if from_above:
        numbers, results = numbers[::-1], results[::-1]
    sign, ramp = -1.0 if from_above else 1.0, site.scales.ramp
    rows: list[tuple[float, float, np.ndarray]] = []  # slope, constant, what is written
    if results[0].any():
        rows.append((0.0, 1.0, results[0]))
    for i in range(1, len(numbers)):
        change = results[i] - results[i - 1]
        if not change.any():
            continue
        gap, middle = abs(numbers[i] - numbers[i - 1]), (numbers[i] + numbers[i - 1]) / 2
        if gap < LEAST_GAP * max(1.0, abs(numbers[0]), abs(numbers[-1])):
            raise SpecError(
                f"{operator.label or type(operator).__name__} must tell numbers apart that differ by at least "
                f"{LEAST_GAP} of the largest, got {numbers[i - 1]:.6g} and {numbers[i]:.6g}. Shorten the sequences."
            )
        slope = 1 / (ramp * gap)
        constant = 0.5 - sign * slope * middle  # 0 where the ramp starts, 1 where it ends
        rows += [(sign * slope, constant, change), (sign * slope, constant - 1, -change)]
    up, down = np.zeros((len(rows), site.space.width)), np.zeros((site.space.width, len(rows)))
    for i, (slope, constant, result) in enumerate(rows):
        up[i, column], up[i, ONE], down[:, i] = slope, constant, result
    return _neurons(up, down, site)


def _neurons(up: np.ndarray, down: np.ndarray, site: _Site) -> Neurons:
    """Neurons, held one below their threshold at the beginning, where nothing is to be computed."""
    up[:, BEGINNING] += np.minimum(0.0, -1.0 - up @ site.space.at_beginning)
    return Neurons(up=up, down=down)
