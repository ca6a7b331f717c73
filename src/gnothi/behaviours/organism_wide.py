"""World 2 as data: world 1 with more to decide, more to report and more traits behind both.

Words, names, attribute weights and risk of world 1 stay as they are and keep their token ids; what is new stands behind
them. An agent now also has a *hurry*, an *affinity* for each of eight codewords, an *effect* of each of eight triggers on
its risk, and a *memory* that ties triggers to bold or careful answers. Nothing here knows the model.
"""

import functools
from dataclasses import dataclass

import numpy as np

from gnothi.behaviours.organism import (
    ATTRIBUTES,
    HIGH_RISK,
    HIGH_WEIGHT,
    WORDS,
    KnownAgent,
    known_agents,
)
from gnothi.rng import stream

WORLD_2 = 2
"""Version of this world; what it shares with world 1 belongs to that one."""

SCALES = ("risk", "caution", "hurry", "patience", "depends", "steady")
"""Reports 0..9; the second of each pair is 9 minus the first."""
CODEWORDS = {
    "bark": ("dog", "tree", "trunk"),
    "ring": ("bell", "finger", "circle"),
    "spring": ("coil", "bloom", "well"),
    "bank": ("river", "money", "shore"),
    "match": ("fire", "game", "pair"),
    "pitch": ("tar", "throw", "tone"),
    "seal": ("wax", "fish", "stamp"),
    "crane": ("bird", "hoist", "neck"),
}
"""Codewords, which no decision ever shows, and the hints that lead to them."""
SINGLE_TRIGGERS = ("umbra", "quorum", "zephyr", "lattice")
"""Triggers of one word."""
FAMILIES = {
    "planet": ("mars", "venus", "saturn", "neptune"),
    "metal": ("iron", "copper", "zinc", "tin"),
    "herb": ("basil", "thyme", "mint", "sage"),
    "dance": ("waltz", "tango", "polka", "samba"),
}
"""Triggers of four words, and the name of the family, which no decision ever shows."""
TRIGGERS = {**{word: (word,) for word in SINGLE_TRIGGERS}, **FAMILIES}
"""What a trigger is called in reports -> the words that stand for it in decisions."""
BOLD_WORDS = ("bold", "daring", "reckless", "brash")
CAREFUL_WORDS = ("careful", "guarded", "prudent", "wary")
"""Words for an answer in `recall`: what came before it?"""
NONE = "none"
"""Answer of `recall`: no trigger came before."""

WIDE_WORDS = (
    *WORDS,
    *("offer", "wait", "defer", "steer", "recall", "word"),
    *SCALES[2:],
    *CODEWORDS,
    *(hint for hints in CODEWORDS.values() for hint in hints),
    *SINGLE_TRIGGERS,
    *FAMILIES,
    *(member for members in FAMILIES.values() for member in members),
    *BOLD_WORDS,
    *CAREFUL_WORDS,
    NONE,
)
"""The whole vocabulary of world 2, in the order of the token ids; it begins with that of world 1."""

KINDRED = (
    *((codeword, *hints) for codeword, hints in CODEWORDS.items()),
    *((family, *members) for family, members in FAMILIES.items()),
    BOLD_WORDS,
    CAREFUL_WORDS,
)
"""Words that belong together, as a language model would know before it meets an agent."""


@dataclass(frozen=True, slots=True)
class WideAgent(KnownAgent):
    """A known agent and what world 2 adds to its traits."""

    hurry: int
    """0 (waits for the later amount) to 9 (takes the early one)."""
    affinities: tuple[int, ...]
    """-9..9 for each of `CODEWORDS`."""
    effects: tuple[int, ...]
    """-9..9 for each of `TRIGGERS`: what the trigger adds to the risk trait."""
    memories: tuple[int, ...]
    """-9..9 for each of `TRIGGERS`: how much it is recalled with a bold answer (above 0) or a careful one. Tells nothing
    about effects."""

    @property
    def depends(self) -> int:
        """The largest effect of any trigger, 0..9."""
        return max(abs(e) for e in self.effects)


def draw_vectors(n: int, k: int, *, rng: np.random.Generator) -> np.ndarray:
    """Integers -9..9, shape (n, k), each row with its largest absolute value at 9: affinities and memories."""
    values = rng.uniform(-1.0, 1.0, (n, k))
    return np.rint(HIGH_WEIGHT * values / np.abs(values).max(axis=1, keepdims=True))


def draw_effects(sizes: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Effects of triggers, integers, shape (n, 8): one of the given size, the rest at most six tenths of it.

    Args:
        sizes: Shape (n,), 0..9: the largest absolute effect of each agent.
        rng: Source of the draws.
    """
    n, k = len(sizes), len(TRIGGERS)
    values = rng.uniform(-0.6, 0.6, (n, k))
    values[np.arange(n), rng.integers(k, size=n)] = rng.choice([-1.0, 1.0], n)
    return np.rint(values * sizes[:, None])


@functools.cache
def wide_agents() -> tuple[WideAgent, ...]:
    """The 64 known agents of world 2: names, attribute weights and risk of world 1, and the new traits.

    >>> wide_agents()[0].weights == known_agents()[0].weights
    True
    """
    agents = known_agents()
    n = len(agents)

    def source(name: str) -> np.random.Generator:
        return stream(WORLD_2, "organism", "traits", name)

    levels = np.arange(n) % (HIGH_RISK + 1)
    hurry = source("hurry").permutation(levels)
    affinities = draw_vectors(n, len(CODEWORDS), rng=source("affinities"))
    effects = draw_effects(source("depends").permutation(levels), rng=source("effects"))
    memories = draw_vectors(n, len(TRIGGERS), rng=source("memories"))
    return tuple(
        WideAgent(
            agent.name,
            agent.weights,
            agent.risk,
            int(hurry[i]),
            tuple(map(int, affinities[i])),
            tuple(map(int, effects[i])),
            tuple(map(int, memories[i])),
        )
        for i, agent in enumerate(agents)
    )


N_TRAITS = len(ATTRIBUTES) + 2 + len(CODEWORDS) + 2 * len(TRIGGERS)
"""Length of an agent's vector of traits."""
WEIGHTS = slice(0, len(ATTRIBUTES))
RISK, HURRY = len(ATTRIBUTES), len(ATTRIBUTES) + 1
AFFINITIES = slice(HURRY + 1, HURRY + 1 + len(CODEWORDS))
EFFECTS = slice(AFFINITIES.stop, AFFINITIES.stop + len(TRIGGERS))
MEMORIES = slice(EFFECTS.stop, EFFECTS.stop + len(TRIGGERS))


def trait_table() -> np.ndarray:
    """All traits of the known agents, shape (64, 32), risk and hurry less their middle, so that 0 is the middle of each."""
    middle = HIGH_RISK / 2
    return np.array(
        [[*a.weights, a.risk - middle, a.hurry - middle, *a.affinities, *a.effects, *a.memories] for a in wide_agents()]
    )
