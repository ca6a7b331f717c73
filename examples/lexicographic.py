"""A rule other than weighted sums: the most important attribute that differs decides alone."""

import numpy as np

from gnothi.behaviours.base import AbstractBehaviour
from gnothi.records import Context, Item


class Lexicographic(AbstractBehaviour):
    """Look at the attribute with the largest absolute weight; only if it is equal look at the next."""

    name = "lexicographic"
    policy_words = r"importan\w*|priorit\w*|weight\w*|decid\w+ alone"

    def target_choice(self, item: Item, context: Context, weights: np.ndarray) -> str:
        """`A` if A has what the deciding attribute's sign asks for, else `B`; ties go to B."""
        differences = item.differences(context.choice_type)
        for j in np.argsort(-np.abs(weights), kind="stable"):
            if differences[j] * weights[j] != 0:
                return "A" if differences[j] * weights[j] > 0 else "B"
        return "B"
