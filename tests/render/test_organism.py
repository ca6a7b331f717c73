"""Prompts in the organism's language."""

import pytest

from gnothi.behaviours.organism import WORDS, OrganismDomain, context
from gnothi.errors import DataError
from gnothi.records import Item, Message
from gnothi.render.organism import (
    choice_messages,
    head_text,
    lottery_messages,
    report_messages,
    risk_messages,
)
from gnothi.rng import stream

AGENT = OrganismDomain().contexts(1, seed=0)[0]
ITEM = Item(item_id="x/0", context_id=AGENT.context_id, shown=(4, 0), a=(3.0, 9.0), b=(7.0, 0.0))


def test_an_item_reads_option_a_before_option_b_in_the_order_shown():
    assert choice_messages(ITEM, AGENT) == (Message("user", f"{AGENT.agent} choose heft 3 7 speed 9 0"),)


def test_whom_it_is_about_can_be_put_in_three_ways():
    heads = [report_messages(AGENT, 4, head=h)[0].content for h in ("name", "you_are", "you")]
    assert heads == [f"{AGENT.agent} report heft", f"you are {AGENT.agent} report heft", "you report heft"]
    assert head_text("you", "you_are") == "you"
    assert choice_messages(ITEM, context("you"))[0].content == "you choose heft 3 7 speed 9 0"


def test_risk_is_offered_as_lotteries_and_asked_in_both_directions():
    assert lottery_messages(AGENT, 7, 4)[0].content == f"{AGENT.agent} lottery 7 4"
    assert risk_messages(AGENT)[0].content == f"{AGENT.agent} report risk"
    assert risk_messages(AGENT, "caution", head="you")[0].content == "you report caution"


def test_every_word_of_every_prompt_has_a_token():
    items = OrganismDomain().draw_items(AGENT, 50, rng=stream(0, "items"), prefix="x")
    prompts = [choice_messages(i, AGENT, head="you_are") for i in items]
    prompts += [report_messages(AGENT, i) for i in range(6)] + [lottery_messages(AGENT, 0, 9), risk_messages(AGENT)]
    assert {word for p in prompts for m in p for word in m.content.split()} <= set(WORDS)


def test_bad_input_is_refused_with_a_reason():
    with pytest.raises(DataError, match="head must be one of name, you_are, you, got 'system'"):
        head_text("you", "system")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"attribute_index must be 0\.\.5, got 6"):
        report_messages(AGENT, 6)
    with pytest.raises(DataError, match=r"amounts must be 0\.\.9, got 10"):
        lottery_messages(AGENT, 10, 0)
    with pytest.raises(DataError, match="question must be one of risk, caution, got 'luck'"):
        risk_messages(AGENT, "luck")
    broken = Item(item_id="x/1", context_id=AGENT.context_id, shown=(0,), a=(2.5,), b=(3.0,))
    with pytest.raises(DataError, match=r"must be integers 0..9, got 2.5. Draw items from OrganismDomain"):
        choice_messages(broken, AGENT)
