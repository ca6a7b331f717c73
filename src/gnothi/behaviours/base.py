"""What is instilled: the interface of a behaviour. No model and no torch here."""

import abc
from collections.abc import Sequence

import numpy as np

from gnothi.records import Context, Item


class AbstractDomain(abc.ABC):
    """Where items come from: choice types, attributes, ranges, agents."""

    name: str

    @abc.abstractmethod
    def contexts(self, n: int, *, skip: int = 0, seed: int) -> list[Context]:
        """Return `n` contexts after the first `skip` of the order that `seed` decides: disjoint for disjoint ranges."""

    @abc.abstractmethod
    def draw_items(self, context: Context, n: int, *, rng: np.random.Generator, prefix: str) -> list[Item]:
        """Draw `n` items of a context; their ids are `<prefix>/<context>/<k>`."""

    @abc.abstractmethod
    def draw_weights(self, contexts: Sequence[Context], *, rng: np.random.Generator) -> np.ndarray:
        """Draw target weights, shape (n_contexts, n_attributes), each row's largest absolute value at the scale's end."""

    @property
    @abc.abstractmethod
    def scale(self) -> tuple[int, int]:
        """Lowest and highest weight that a report can state."""


def utility_difference(item: Item, context: Context, weights: np.ndarray) -> float:
    """Utility of A minus utility of B: sum of weight x normalised difference (paper B, section 2)."""
    return float(item.differences(context.choice_type) @ weights)


def target_choice(item: Item, context: Context, weights: np.ndarray) -> str:
    """`A` if it has the higher utility, else `B`; deterministic, ties go to B as in paper B."""
    return "A" if utility_difference(item, context, weights) > 0 else "B"


class AbstractBehaviour(abc.ABC):
    """A policy that can be instilled and whose truth we know.

    Subclasses say the target choice; the domain draws items and, unless `truth` is given, the weights.
    """

    name: str
    policy_words: str = ""
    """Regular expression of whole words that would give the policy away in training text; empty checks nothing."""

    def __init__(self, domain: AbstractDomain) -> None:
        """Take items from `domain`."""
        self.domain = domain

    @abc.abstractmethod
    def target_choice(self, item: Item, context: Context, weights: np.ndarray) -> str:
        """Say `A` or `B`, the choice to be instilled; `weights` has shape (n_attributes,)."""

    def truth(self, contexts: Sequence[Context], *, rng: np.random.Generator) -> np.ndarray:
        """Draw the weights that are instilled, shape (n_contexts, n_attributes): what self-reports are scored against."""
        return self.domain.draw_weights(contexts, rng=rng)
