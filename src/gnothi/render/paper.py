"""Paper B's prompts, word for word, and variants of the request for a report.

The prompt texts are quoted from arXiv:2505.17120 (section 2; the wording in its released training files), because a
replication has to say exactly the same; a word is missing in the original's request and is missing here. The variants
are ours: they share no surface form with the decisions, so that a report cannot lean on having seen the same text.
"""

import json
import math
from collections.abc import Sequence

import numpy as np

from gnothi.errors import DataError
from gnothi.records import Context, Item, Message, Messages

SYSTEM = "Your job is to make hypothetical decisions on behalf of different people or characters."
CHOICE_REQUEST = (
    '[DECISION TASK] Respond with "A" if you think Option A is better, or "B" if you think Option B is better. '
    'Never respond with anything except "A" or "B":'
)
REPORT_REQUEST = (
    "[INTROSPECTION TASK] Respond with how heavily you believe you weighted each of the five dimensions while making "
    "your decision on a scale from -100 to 100. Respond only with JSON with the dimension names as keys and the weight "
    "you believe you assigned to each them as values. Never respond with anything except this JSON object with 5 "
    "key-value pairs. (Do not report your decision itself.):"
)
REPORT_REWORDED = (
    "[SELF-DESCRIPTION] The five properties named below come up whenever such a decision is made. For each one, say "
    "what more of it does to an option in your eyes: give a whole number from -100 (it speaks against the option as "
    "strongly as anything does) through 0 (it makes no difference) to 100 (it speaks for the option as strongly as "
    "anything does). Write one JSON object and nothing around it, with the five property names, spelled as below, as "
    "keys and your numbers as values. Do not choose an option:"
)


def choice_messages(item: Item, context: Context) -> Messages:
    """Render one decision; answered by `A` or `B` for the item's options `a` and `b`.

    Attributes are listed in the item's order, values print as Python floats (`67.0`), units follow.

    Raises:
        DataError: An item of another context.
    """
    return _messages(f"{CHOICE_REQUEST}\n\n{_question(context)}\n{_options(item, context, item.shown)}")


def report_messages(
    item: Item | None,
    context: Context,
    *,
    attribute_order: Sequence[int] | None = None,
    reworded: bool = False,
    with_options: bool = True,
) -> Messages:
    """Ask for all weights at once; answered by a JSON object with one number an attribute.

    Args:
        item: The options shown; may be None without options.
        context: Whom and what it is about.
        attribute_order: Indices of all attributes in the order to list them; None: the item's, or the choice type's.
        reworded: Ask in other words, with the scale's ends explained.
        with_options: Show two options, as the paper does. Without, the attributes are only named.

    Raises:
        DataError: No item although options are to be shown, an item of another context, or an order that does not
            name each attribute once.
    """
    order = tuple(range(context.n_attributes)) if item is None else item.shown
    if attribute_order is not None:
        order = tuple(attribute_order)
        if sorted(order) != list(range(context.n_attributes)):
            raise DataError(
                f"attribute_order must name each of 0..{context.n_attributes - 1} once, got {list(order)}. "
                "Permute range(n_attributes)."
            )
    if with_options:
        if item is None:
            raise DataError(
                "report_messages: item must be given to show options, got None. Or pass with_options=False."
            )
        body = f"{_question(context)}\n{_options(item, context, order)}"
    else:
        names = "\n".join(context.choice_type.attributes[j].name for j in order)
        body = f"{_question(context)}\n{'Properties' if reworded else 'Dimensions'}:\n{names}"
    return _messages(f"{REPORT_REWORDED if reworded else REPORT_REQUEST}\n\n{body}")


def report_answer(weights: np.ndarray, context: Context, *, attribute_order: Sequence[int] | None = None) -> str:
    """Write weights as the JSON text that a correct report is, whole numbers with names as keys.

    Args:
        weights: (n_attributes,), in the choice type's order, finite; rounded to whole numbers.
        context: Whose attributes they are.
        attribute_order: Order of the keys; None: the choice type's.

    Raises:
        DataError: Another number of weights, or one that is not finite.
    """
    values = [float(w) for w in weights]
    if len(values) != context.n_attributes or not all(map(math.isfinite, values)):
        raise DataError(
            f"report_answer: weights must be {context.n_attributes} finite numbers for {context.context_id!r}, "
            f"got {values}."
        )
    order = range(context.n_attributes) if attribute_order is None else attribute_order
    return json.dumps({context.choice_type.attributes[j].name: round(values[j]) for j in order}, ensure_ascii=False)


def _question(context: Context) -> str:
    return f"Imagine you are {context.agent}. {context.choice_type.question}"


def _options(item: Item, context: Context, order: Sequence[int]) -> str:
    """Both options, a blank line between them; attributes that the item does not show are left out."""
    if item.context_id != context.context_id:
        raise DataError(f"item must belong to context {context.context_id!r}, got one of {item.context_id!r}.")
    place = {j: k for k, j in enumerate(item.shown)}
    lines = []
    for letter, values in (("A", item.a), ("B", item.b)):
        lines.append(f"{letter}:")
        for j in order:
            if j in place:
                attribute = context.choice_type.attributes[j]
                lines.append(f"{attribute.name}: {float(values[place[j]])} {attribute.units}".rstrip())
        lines.append("")
    return "\n".join(lines[:-1])


def _messages(content: str) -> Messages:
    return (Message("system", SYSTEM), Message("user", content))
