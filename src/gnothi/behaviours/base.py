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
