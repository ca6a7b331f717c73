"""Paper B's own domain: choices between two options with five attributes in units, on behalf of different agents.

The same draws twice: from Python's `random` and the paper's integer seeds, which gives the published inputs again row
for row (`pair`, `weights_from_seed`, `items_from_seed`), and from named numpy streams for runs of our own
(`PaperDomain`). No model and no wording here.

Source: paper B (arXiv:2505.17120), section 2 and appendix A. Where text and published data differ, the data count:
weights are stretched to the scale's end and rounded, and ranges below 1 get one digit more than their first one.
"""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gnothi.behaviours.base import AbstractDomain
from gnothi.behaviours.paper_schema import N_ATTRIBUTES, read_agents, read_choice_types
from gnothi.errors import DataError, SpecError
from gnothi.records import Attribute, ChoiceType, Context, Item

LOW_WEIGHT, HIGH_WEIGHT = -100, 100

PAIRING_SEED, WEIGHTS_SEED, CHOICES_SEED, REPORTS_SEED = 0, 1, 2, 6
"""The paper's seeds: pairing of agents with choice types, target weights, training choices, report-training options."""
N_PUBLISHED = 1100
"""Contexts for which the paper drew weights; the first 100 are instilled, the next 100 are its native contexts."""
N_INSTILLED = 100
N_TRAIN, N_VALIDATION = 50, 10
"""Choices of each instilled context in the training and in the validation file."""

_HERE = Path(__file__).parent
CHOICE_TYPES_FILE, AGENTS_FILE = _HERE / "paper_choice_types.json", _HERE / "paper_agents.txt"
"""Our own choice types and agents, in the layout of the paper's."""


class PaperDomain(AbstractDomain):
    """Choice types and agents from two files; agent and choice type belong together one to one, as in the paper."""

    name = "paper"

    def __init__(self, choice_types: str | Path | None = None, agents: str | Path | None = None) -> None:
        """Read the two files.

        Args:
            choice_types: JSON as `paper_schema.validate_choice_types` describes it; None: the package's own.
            agents: One agent a line; None: the package's own.

        Raises:
            SpecError: A file that is missing or wrong, e.g. a choice type that has not exactly 5 attributes.
        """
        self.choice_types = read_choice_types(CHOICE_TYPES_FILE if choice_types is None else choice_types)
        self.agents = read_agents(AGENTS_FILE if agents is None else agents)

    def contexts(self, n: int, *, skip: int = 0, seed: int) -> list[Context]:
        """Return `n` contexts after the first `skip`: choice types in the file's order, agents shuffled by `seed`.

        With the paper's files and seed 0 these are the published contexts. Where the agents' file names someone twice,
        two contexts may share an agent; `context_id` is the choice type's name, which is unique.

        Raises:
            SpecError: More than there are.
        """
        most = min(len(self.choice_types), len(self.agents))
        if n < 0 or skip < 0 or n + skip > most:
            raise SpecError(
                f"PaperDomain.contexts: skip + n must be within {most} ({len(self.choice_types)} choice types, "
                f"{len(self.agents)} agents), got {skip} + {n}. Ask for fewer, or give longer files."
            )
        return pair(self.choice_types, self.agents, seed=seed)[skip : skip + n]

    def draw_items(self, context: Context, n: int, *, rng: np.random.Generator, prefix: str) -> list[Item]:
        """Draw `n` items that show all attributes in order; nothing keeps one option from dominating the other."""
        return [draw_item(context, rng.uniform, item_id=f"{prefix}/{context.context_id}/{k}") for k in range(n)]

    def draw_weights(self, contexts: Sequence[Context], *, rng: np.random.Generator) -> np.ndarray:
        """Draw target weights, shape (n_contexts, 5): whole numbers, the largest absolute one of each row 100."""
        drawn = [stretched([rng.uniform(LOW_WEIGHT, HIGH_WEIGHT) for _ in range(c.n_attributes)]) for c in contexts]
        return np.array(drawn, float).reshape(len(contexts), N_ATTRIBUTES)

    @property
    def scale(self) -> tuple[int, int]:
        """Lowest and highest weight that a report can state."""
        return LOW_WEIGHT, HIGH_WEIGHT


def decimals(attribute: Attribute) -> int:
    """Digits after the point that an attribute's values are shown with; by its range, as in the paper's files.

    >>> [decimals(Attribute(name="x", low=0, high=h)) for h in (70, 5, 4.9, 1, 0.5, 0.09)]
    [0, 0, 1, 1, 2, 3]
    """
    width = attribute.high - attribute.low
    if width >= 5:
        return 0
    return 1 if width >= 1 else abs(math.floor(math.log10(width))) + 1


def draw_item(context: Context, uniform: Callable[[float, float], float], *, item_id: str) -> Item:
    """Draw one item: option A's values in the attributes' order, then option B's.

    Args:
        context: Whose choice type it is.
        uniform: Draws between two ends: `random.Random(seed).uniform` or a numpy generator's `uniform`.
        item_id: The item's id.
    """

    def option() -> tuple[float, ...]:
        return tuple(round(float(uniform(x.low, x.high)), decimals(x)) for x in context.choice_type.attributes)

    a, b = option(), option()
    return Item(item_id=item_id, context_id=context.context_id, shown=tuple(range(context.n_attributes)), a=a, b=b)


def stretched(weights: Sequence[float]) -> list[int]:
    """Scale weights so that the largest absolute one is 100, and round to whole numbers.

    >>> stretched([20.0, -50.0, 1.0])
    [40, -100, 2]
    """
    largest = max(map(abs, weights))
    if not (math.isfinite(largest) and largest > 0):
        raise DataError(f"weights must be finite and not all 0, got {list(weights)}. Draw them again.")
    return [round(float(w) * HIGH_WEIGHT / largest) for w in weights]


def pair(choice_types: Sequence[ChoiceType], agents: Sequence[str], *, seed: int = PAIRING_SEED) -> list[Context]:
    """Give the i-th choice type the i-th agent after a shuffle of all agents.

    Args:
        choice_types: Those of one file, in its order.
        agents: Those of one file, in its order; all take part in the shuffle, whether they are used or not.
        seed: Of Python's `random`; 0 in the paper.

    Returns:
        As many contexts as the shorter of the two allows.
    """
    shuffled = list(agents)
    random.Random(seed).shuffle(shuffled)
    return [
        Context(context_id=kind.name, agent=agent, choice_type=kind)
        for kind, agent in zip(choice_types, shuffled, strict=False)
    ]


def weights_from_seed(contexts: Sequence[Context], *, seed: int = WEIGHTS_SEED) -> np.ndarray:
    """Draw target weights as the paper did, shape (n_contexts, 5), whole numbers.

    Args:
        contexts: In order: each draws after the one before.
        seed: Of Python's `random`; 1 in the paper.
    """
    rng = random.Random(seed)
    drawn = [stretched([rng.uniform(LOW_WEIGHT, HIGH_WEIGHT) for _ in range(c.n_attributes)]) for c in contexts]
    return np.array(drawn, float).reshape(len(contexts), N_ATTRIBUTES)


def items_from_seed(
    contexts: Sequence[Context], n: int, *, seed: int, again_for_each: bool = False, prefix: str = "published"
) -> list[list[Item]]:
    """Draw `n` items for each context as the paper did.

    Args:
        contexts: In order: each draws after the one before.
        n: Items of a context.
        seed: Of Python's `random`; 2 for the paper's training and validation choices, 6 for its report training.
        again_for_each: Set the seed anew before every context, as the paper's report training does: all its examples
            then show nearly the same place within the ranges.
        prefix: Ids are `<prefix>/<context>/<k>`.
    """
    rng = random.Random(seed)
    found = []
    for context in contexts:
        if again_for_each:
            rng = random.Random(seed)
        found.append([draw_item(context, rng.uniform, item_id=f"{prefix}/{context.context_id}/{k}") for k in range(n)])
    return found
