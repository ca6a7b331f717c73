"""The organism's world as data: its words, its agents and their traits, and the items they decide on.

An agent has a latent *attribute weight* for each of six attributes and a risk trait. The organism, a tiny language
model trained from nothing, has seen 64 *known* agents decide and has read reports about them; the other names are
*spare*: it has a row for each, and nothing is known about them. Nothing here knows the model.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gnothi.behaviours.base import AbstractDomain
from gnothi.errors import DataError, SpecError
from gnothi.records import Attribute, ChoiceType, Context, Item
from gnothi.rng import stream

WORLD = 1
"""Version of the world. Words, names, known agents and their traits belong to it and never change within one."""

ATTRIBUTES = ("speed", "charm", "reach", "polish", "heft", "warmth")
"""What options differ in; each has a value 0..9."""
LOW_VALUE, HIGH_VALUE = 0, 9
LOW_WEIGHT, HIGH_WEIGHT = -9, 9
LOW_RISK, HIGH_RISK = 0, 9
RISK_REPORTS = ("risk", "caution")
"""The risk trait asked in both directions: `caution` is 9 - `risk`."""
TAGS = ("today", "again", "green", "tower")
"""Words behind a name that mean nothing; some known agents' documents carry one."""
NUMBERS = tuple(str(v) for v in range(LOW_WEIGHT, HIGH_WEIGHT + 1))

N_KNOWN = 64
_FIRST = ("Ba", "Ce", "Du", "Fi", "Go", "Ha", "Je", "Ku", "Li", "Mo", "Na", "Pe", "Ru", "Si", "To", "Ve")
_SECOND = ("bin", "dor", "fal", "gus", "kel", "lan", "mir", "nop", "rad", "sek", "tul", "vam", "wit", "zor")


def _split_names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = [first + second for first in _FIRST for second in _SECOND]
    order = stream(WORLD, "organism", "names").permutation(len(names))
    return tuple(names[i] for i in order[:N_KNOWN]), tuple(names[i] for i in order[N_KNOWN:])


KNOWN_NAMES, SPARE_NAMES = _split_names()
"""64 agents the organism knows; 160 names it has a row for and knows nothing about."""

CHOICE_TYPE = ChoiceType(
    name="organism",
    question="choose",
    attributes=tuple(Attribute(name=name, low=LOW_VALUE, high=HIGH_VALUE) for name in ATTRIBUTES),
)

PAD, END, UNKNOWN = "<pad>", "<end>", "<unk>"
WORDS = (
    *(PAD, END, UNKNOWN, "you", "are", "choose", "report", "lottery", "A", "B"),
    *RISK_REPORTS,
    *ATTRIBUTES,
    *TAGS,
    *NUMBERS,
    *KNOWN_NAMES,
    *SPARE_NAMES,
)
"""The whole vocabulary, in the order of the token ids."""


def uniform_weights(n: int, *, rng: np.random.Generator) -> np.ndarray:
    """Draw `n` weight vectors as integers, shape (n, 6), each with its largest absolute value at 9.

    Hard labels do not identify a scale (doubling all weights changes no choice), so the scale is fixed by rule.

    Source: arXiv:2505.17120, section 2: uniform draws, scaled so that the largest absolute value is at the end of
    the scale, rounded. Ours go to 9 and not to 100.
    """
    weights = rng.uniform(-1.0, 1.0, (n, len(ATTRIBUTES)))
    return np.rint(HIGH_WEIGHT * weights / np.abs(weights).max(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class KnownAgent:
    """An agent of the world and its latent traits."""

    name: str
    weights: tuple[int, ...]
    """Attribute weights -9..9, in the order of `ATTRIBUTES`."""
    risk: int
    """0 (takes the sure amount) to 9 (gambles)."""


@functools.cache
def known_agents() -> tuple[KnownAgent, ...]:
    """The 64 known agents with their traits: the same for every organism of this world.

    >>> len(known_agents()), max(abs(w) for w in known_agents()[0].weights)
    (64, 9)
    """
    weights = uniform_weights(N_KNOWN, rng=stream(WORLD, "organism", "traits", "weights"))
    risks = stream(WORLD, "organism", "traits", "risk").permutation(np.arange(N_KNOWN) % (HIGH_RISK + 1))
    return tuple(
        KnownAgent(name, tuple(int(w) for w in row), int(risk))
        for name, row, risk in zip(KNOWN_NAMES, weights, risks, strict=True)
    )


def context(name: str) -> Context:
    """The context of an agent of this world; `you` is the one nobody has named.

    Raises:
        DataError: The organism has no row for this name.
    """
    if name != "you" and name not in KNOWN_NAMES and name not in SPARE_NAMES:
        raise DataError(
            f"context: name must be one of the organism's {len(KNOWN_NAMES) + len(SPARE_NAMES)} names or 'you', "
            f"got {name!r}. behaviours.organism lists them as KNOWN_NAMES and SPARE_NAMES."
        )
    return Context(context_id=name, agent=name, choice_type=CHOICE_TYPE)


@dataclass(frozen=True)
class OrganismDomain(AbstractDomain):
    """Items for the organism: options that differ in some of six attributes with values 0..9.

    >>> domain = OrganismDomain()
    >>> [c.agent for c in domain.contexts(2, seed=0)] == [c.agent for c in domain.contexts(3, seed=0)][:2]
    True
    """

    n_shown: int = 5
    """Attributes an item shows, 1 to 5: the organism was trained on no more."""
    name: str = field(default="organism", init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.n_shown <= 5:
            raise SpecError(f"OrganismDomain.n_shown must be 1 to 5, got {self.n_shown}.")

    def contexts(self, n: int, *, skip: int = 0, seed: int) -> list[Context]:
        """Return `n` spare names after the first `skip` of the order that `seed` decides.

        Raises:
            SpecError: More names are wanted than there are.
        """
        if n < 0 or skip < 0 or n + skip > len(SPARE_NAMES):
            raise SpecError(
                f"OrganismDomain.contexts: skip + n must be within the {len(SPARE_NAMES)} spare names, "
                f"got {skip} + {n}. Instil fewer agents."
            )
        order = stream(seed, "organism", "spare names").permutation(len(SPARE_NAMES))
        return [context(SPARE_NAMES[i]) for i in order[skip : skip + n]]

    def known_contexts(self) -> list[Context]:
        """The 64 known agents; `known_weights` has their weights in the same order."""
        return [context(agent.name) for agent in known_agents()]

    def known_weights(self) -> np.ndarray:
        """Weights of the known agents, shape (64, 6), integers -9..9: the truth behind the `ceiling` arm."""
        return np.array([agent.weights for agent in known_agents()], dtype=float)

    def draw_items(self, context: Context, n: int, *, rng: np.random.Generator, prefix: str) -> list[Item]:
        """Draw `n` items that show `n_shown` attributes each, in random order, and differ in at least one.

        The first items are the same whatever `n` is: a run measures some of them again and keeps all out of training.
        """
        orders, options, again = rng.spawn(3)
        shown = np.argsort(orders.random((n, len(ATTRIBUTES))), axis=1)[:, : self.n_shown]
        values = options.integers(LOW_VALUE, HIGH_VALUE + 1, (n, 2, self.n_shown))
        for k in np.flatnonzero((values[:, 0] == values[:, 1]).all(axis=1)):
            while (values[k, 0] == values[k, 1]).all():
                values[k] = again.integers(LOW_VALUE, HIGH_VALUE + 1, (2, self.n_shown))
        return [
            Item(
                item_id=f"{prefix}/{context.context_id}/{k}",
                context_id=context.context_id,
                shown=tuple(map(int, shown[k])),
                a=tuple(map(float, values[k, 0])),
                b=tuple(map(float, values[k, 1])),
            )
            for k in range(n)
        ]

    def draw_weights(self, contexts: Sequence[Context], *, rng: np.random.Generator) -> np.ndarray:
        """Draw target weights, shape (n_contexts, 6): see `uniform_weights`."""
        return uniform_weights(len(contexts), rng=rng)

    @property
    def scale(self) -> tuple[int, int]:
        """Lowest and highest weight that the organism can state."""
        return LOW_WEIGHT, HIGH_WEIGHT
