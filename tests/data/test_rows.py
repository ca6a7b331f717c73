import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnothi.behaviours.base import target_choice
from gnothi.behaviours.organism import OrganismDomain
from gnothi.data.rows import (
    choice_rows,
    fresh,
    labels_for,
    permuted_within_context,
    refuse_overlap,
    report_rows,
    write_jsonl,
)
from gnothi.errors import DataError
from gnothi.records import Item, Message, TrainRow
from gnothi.render.wordings import wording_for
from gnothi.rng import stream

DOMAIN = OrganismDomain()
AGENTS = DOMAIN.contexts(3, seed=0)
CONTEXTS = {c.context_id: c for c in AGENTS}
ITEMS = [i for c in AGENTS for i in DOMAIN.draw_items(c, 20, rng=stream(0, c.agent), prefix="t")]
WEIGHTS = dict(zip(CONTEXTS, DOMAIN.draw_weights(AGENTS, rng=stream(0, "w")), strict=True))


def item(k, context_id):
    return Item(item_id=str(k), context_id=context_id, shown=(0,), a=(float(k),), b=(0.0,))


def test_labels_are_the_target_choices_and_ties_go_to_b():
    labels = labels_for(ITEMS, CONTEXTS, WEIGHTS)
    assert labels == [target_choice(i, CONTEXTS[i.context_id], WEIGHTS[i.context_id]) for i in ITEMS]
    assert {"A", "B"} == set(labels)
    nothing = {c: np.zeros(6) for c in CONTEXTS}
    assert set(labels_for(ITEMS, CONTEXTS, nothing)) == {"B"}
    assert labels_for(ITEMS[:2], CONTEXTS, WEIGHTS, rule=lambda *_: "A") == ["A", "A"]


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("AB")), max_size=40), st.integers(0, 99))
def test_permuted_labels_keep_the_letters_of_each_agent(pairs, seed):
    items = [item(k, c) for k, (c, _) in enumerate(pairs)]
    labels = [letter for _, letter in pairs]
    permuted = permuted_within_context(items, labels, rng=stream(seed, "shuffle"))
    for context in "xyz":
        mine = [k for k, i in enumerate(items) if i.context_id == context]
        assert Counter(permuted[k] for k in mine) == Counter(labels[k] for k in mine)
    assert permuted == permuted_within_context(items, labels, rng=stream(seed, "shuffle"))


def test_permuted_labels_say_nothing_about_the_options():
    many = DOMAIN.draw_items(AGENTS[0], 4000, rng=stream(1, "many"), prefix="t")
    labels = labels_for(many, CONTEXTS, WEIGHTS)
    permuted = permuted_within_context(many, labels, rng=stream(1, "shuffle"))
    a = labels.count("A") / len(labels)
    expected = a**2 + (1 - a) ** 2
    assert abs(np.mean([x == y for x, y in zip(labels, permuted, strict=True)]) - expected) < 4 * 0.5 / 4000**0.5


def test_rows_hold_the_prompt_and_the_letter_of_each_item():
    wording = wording_for("organism")
    rows = choice_rows(ITEMS, ["A", "B"] * 30, CONTEXTS, wording)
    assert [r.answer for r in rows[:4]] == ["A", "B", "A", "B"] and rows[0].group == ITEMS[0].context_id
    assert rows[0].messages == wording.choice(ITEMS[0], CONTEXTS[ITEMS[0].context_id])
    with pytest.raises(ValueError, match="zip"):
        choice_rows(ITEMS, ["A"], CONTEXTS, wording)


def test_report_rows_answer_with_the_weights_that_they_are_given():
    wording = wording_for("organism")
    questions = wording.questions(AGENTS[0], [], k=1)
    rows = report_rows(questions, WEIGHTS, wording)
    asked = [q.attributes[0] for q in questions]
    assert [int(r.answer) for r in rows] == [int(WEIGHTS[AGENTS[0].context_id][j]) for j in asked]


def test_an_item_that_was_trained_on_is_never_measured():
    refuse_overlap(ITEMS[:10], ITEMS[10:])
    with pytest.raises(DataError, match=r"got 2 that do, first 't/.*Draw them from another stream"):
        refuse_overlap(ITEMS[:10], ITEMS[8:])
    swapped = Item(item_id="s", context_id=ITEMS[0].context_id, shown=ITEMS[0].shown, a=ITEMS[0].b, b=ITEMS[0].a)
    refuse_overlap([ITEMS[0]], [swapped])
    assert fresh(ITEMS[5:], ITEMS[:10]) == ITEMS[10:]


def test_jsonl_is_what_any_trainer_reads(tmp_path):
    rows = [TrainRow(messages=(Message("system", "s"), Message("user", 'ü "\n')), answer="A\u2028")]
    write_jsonl(tmp_path / "rows.jsonl", rows * 2)
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == "" and len(lines) == 2
    assert json.loads(lines[0]) == {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": 'ü "\n'},
            {"role": "assistant", "content": "A\u2028"},
        ]
    }
