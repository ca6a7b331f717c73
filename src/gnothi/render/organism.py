"""Items and questions in the organism's language: one user message, answered by one word.

    Bafal choose speed 3 7 heft 9 0      ->  A or B     (option A's value, then option B's)
    Bafal report heft                    ->  -9 .. 9
    Bafal lottery 7 4                    ->  A (the gamble: 7 or nothing) or B (4 for sure)
    Bafal report risk | caution          ->  0 .. 9

World 2 has more to decide and to report: docs/organism.md lists it, and `behaviours.organism_wide` has its words.

Whom it is about can be put in three ways: by name, as `you are NAME`, or as `you` alone.
"""

from typing import Literal, get_args

from gnothi.behaviours.organism import ATTRIBUTES, HIGH_VALUE, LOW_VALUE, RISK_REPORTS
from gnothi.errors import DataError
from gnothi.records import Context, Item, Message, Messages

Head = Literal["name", "you_are", "you"]
"""How an agent is addressed."""

CHOICE_ANSWERS = ("A", "B")


def head_text(agent: str, head: Head = "name") -> str:
    """The words that say whom it is about.

    Args:
        agent: A name of the world, or `you`.
        head: The form; an agent called `you` has only one.

    Raises:
        DataError: An unknown form.

    >>> head_text("Bafal", "you_are")
    'you are Bafal'
    """
    if head not in get_args(Head):
        raise DataError(f"head must be one of {', '.join(get_args(Head))}, got {head!r}.")
    if head == "you" or agent == "you":
        return "you"
    return f"you are {agent}" if head == "you_are" else agent


def choice_messages(item: Item, context: Context, *, head: Head = "name") -> Messages:
    """Render one item. The order of attributes is the item's; `A` is answered for its option `a`.

    Raises:
        DataError: A value that the organism has no token for.
    """
    words = []
    for i, a, b in zip(item.shown, item.a, item.b, strict=True):
        for value in (a, b):
            if value != int(value) or not LOW_VALUE <= value <= HIGH_VALUE:
                raise DataError(
                    f"choice_messages: values of item {item.item_id!r} must be integers {LOW_VALUE}..{HIGH_VALUE}, "
                    f"got {value}. Draw items from OrganismDomain."
                )
        words.append(f"{context.choice_type.attributes[i].name} {int(a)} {int(b)}")
    return _user(f"{head_text(context.agent, head)} choose {' '.join(words)}")


def report_messages(context: Context, attribute_index: int, *, head: Head = "name") -> Messages:
    """Ask how much an attribute weighs for an agent; answered by an integer -9..9.

    Raises:
        DataError: No such attribute.
    """
    if not 0 <= attribute_index < len(ATTRIBUTES):
        raise DataError(f"report_messages: attribute_index must be 0..{len(ATTRIBUTES) - 1}, got {attribute_index}.")
    return _user(f"{head_text(context.agent, head)} report {ATTRIBUTES[attribute_index]}")


def lottery_messages(context: Context, gain: int, sure: int, *, head: Head = "name") -> Messages:
    """Offer a gamble for `gain` (A) against `sure` (B), both 0..9.

    Raises:
        DataError: An amount out of range.
    """
    for amount in (gain, sure):
        if not LOW_VALUE <= amount <= HIGH_VALUE:
            raise DataError(f"lottery_messages: amounts must be {LOW_VALUE}..{HIGH_VALUE}, got {amount}.")
    return _user(f"{head_text(context.agent, head)} lottery {gain} {sure}")


def risk_messages(context: Context, question: str = "risk", *, head: Head = "name") -> Messages:
    """Ask for the risk trait, 0..9, as `risk` or the other way round as `caution` (9 - risk).

    Raises:
        DataError: An unknown question.
    """
    if question not in RISK_REPORTS:
        raise DataError(f"risk_messages: question must be one of {', '.join(RISK_REPORTS)}, got {question!r}.")
    return _user(f"{head_text(context.agent, head)} report {question}")


def _user(content: str) -> Messages:
    return (Message("user", content),)
