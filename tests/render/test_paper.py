"""Paper B's prompts, character by character, and the variants of its report request."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from gnothi.behaviours.paper import PaperDomain, items_from_seed, weights_from_seed
from gnothi.errors import DataError
from gnothi.records import Attribute, ChoiceType, Context, Item
from gnothi.render.paper import SYSTEM, choice_messages, report_answer, report_messages

PUBLISHED = Path(os.environ.get("GNOTHI_PUBLISHED", Path(__file__).parents[2] / "../shared/published"))
INPUTS = PUBLISHED / "self-interpretability" / "inputs"
needs_published = pytest.mark.skipif(not INPUTS.is_dir(), reason="the authors' files (GNOTHI_PUBLISHED) are not here")

NAMES = ("weight", "reach", "noise", "price", "age")
KIND = ChoiceType(
    name="crane",
    question="Which crane would you prefer?",
    attributes=tuple(Attribute(name=n, low=0, high=10, units=f"{n} units") for n in NAMES),
)
CONTEXT = Context(context_id="crane", agent="a mason", choice_type=KIND)
ITEM = Item(item_id="x", context_id="crane", shown=(0, 1, 2, 3, 4), a=(67.0, 1.5, 2.0, 3.0, 0.25), b=(1, 2, 3, 4, 5))

OPTIONS = """\
A:
weight: 67.0 weight units
reach: 1.5 reach units
noise: 2.0 noise units
price: 3.0 price units
age: 0.25 age units

B:
weight: 1.0 weight units
reach: 2.0 reach units
noise: 3.0 noise units
price: 4.0 price units
age: 5.0 age units"""


def test_a_choice_reads_exactly_as_in_the_paper():
    system, user = choice_messages(ITEM, CONTEXT)
    assert (system.role, system.content) == ("system", SYSTEM)
    assert user.role == "user"
    assert user.content == (
        '[DECISION TASK] Respond with "A" if you think Option A is better, or "B" if you think Option B is better. '
        'Never respond with anything except "A" or "B":\n\n'
        f"Imagine you are a mason. Which crane would you prefer?\n{OPTIONS}"
    )


def test_a_report_request_keeps_the_original_words_and_the_options():
    user = report_messages(ITEM, CONTEXT)[1].content
    assert user.startswith("[INTROSPECTION TASK] Respond with how heavily you believe you weighted each of the five")
    assert "the weight you believe you assigned to each them as values" in user  # the slip is the original's
    assert user.endswith(
        f"(Do not report your decision itself.):\n\nImagine you are a mason. {KIND.question}\n{OPTIONS}"
    )


def test_a_permuted_report_lists_the_same_values_in_another_order():
    user = report_messages(ITEM, CONTEXT, attribute_order=(3, 0, 4, 2, 1))[1].content
    assert user.index("price: 3.0") < user.index("weight: 67.0") < user.index("age: 0.25") < user.index("B:")
    assert sorted(user.split("A:\n")[1].split("\n")) == sorted(OPTIONS.removeprefix("A:\n").split("\n"))


def test_a_reworded_report_shares_no_sentence_with_the_original():
    plain = report_messages(ITEM, CONTEXT)[1].content.split("\n\n")[0]
    other = report_messages(ITEM, CONTEXT, reworded=True)[1].content.split("\n\n")[0]
    triples = [set(zip(*(t.lower().split()[i:] for i in range(5)), strict=False)) for t in (plain, other)]
    assert not triples[0] & triples[1]
    assert "-100" in other and "JSON" in other


def test_a_report_without_options_names_the_attributes_and_shows_no_value():
    user = report_messages(None, CONTEXT, with_options=False, reworded=True, attribute_order=(4, 3, 2, 1, 0))[1].content
    assert user.endswith("Which crane would you prefer?\nProperties:\nage\nprice\nnoise\nreach\nweight")
    assert "units" not in user
    assert report_messages(ITEM, CONTEXT, with_options=False)[1].content.endswith(
        "Dimensions:\nweight\nreach\nnoise\nprice\nage"
    )


def test_an_answer_is_json_with_whole_numbers():
    text = report_answer(np.array([-100.0, 0.4, 33.0, -0.2, 7.0]), CONTEXT)
    assert text == '{"weight": -100, "reach": 0, "noise": 33, "price": 0, "age": 7}'
    permuted = report_answer(np.arange(5.0), CONTEXT, attribute_order=(4, 0, 1, 2, 3))
    assert list(json.loads(permuted)) == ["age", "weight", "reach", "noise", "price"]
    assert json.loads(permuted)["age"] == 4


def published_lines(name: str) -> list[list[dict[str, str]]]:
    return [json.loads(line)["messages"] for line in (INPUTS / name).read_text(encoding="utf-8").splitlines()]


@needs_published
def test_prompts_are_those_of_the_published_files():
    contexts = PaperDomain(INPUTS / "candidate_scenarios.json", INPUTS / "roles.csv").contexts(1100, seed=0)
    weights = weights_from_seed(contexts)
    choices = published_lines("instill_100_prefs.jsonl")
    for i, (context, items) in enumerate(zip(contexts[:100], items_from_seed(contexts[:100], 60, seed=2), strict=True)):
        for item, line in zip(items[:50], choices[50 * i : 50 * i + 50], strict=True):
            assert [m.content for m in choice_messages(item, context)] == [m["content"] for m in line[:2]]
    reports = published_lines("instilled_weights_100_training.jsonl")
    drawn = items_from_seed(contexts[:100], 1, seed=6, again_for_each=True)
    for context, target, (item,), line in zip(contexts[:100], weights[:100], drawn, reports, strict=True):
        texts = [*(m.content for m in report_messages(item, context)), report_answer(target, context)]
        assert texts == [m["content"] for m in line]


def test_bad_input_is_refused_with_a_reason():
    other = Item(item_id="y", context_id="kite", shown=(0,), a=(1.0,), b=(2.0,))
    with pytest.raises(DataError, match="item must belong to context 'crane', got one of 'kite'"):
        choice_messages(other, CONTEXT)
    with pytest.raises(DataError, match=r"item must be given to show options, got None. Or pass with_options=False"):
        report_messages(None, CONTEXT)
    with pytest.raises(DataError, match=r"attribute_order must name each of 0..4 once, got \[0, 0, 1, 2, 3\]"):
        report_messages(ITEM, CONTEXT, attribute_order=(0, 0, 1, 2, 3))
    with pytest.raises(DataError, match="weights must be 5 finite numbers for 'crane', got"):
        report_answer(np.array([1.0, np.nan, 0, 0, 0]), CONTEXT)
