import json

import numpy as np
import pytest

from gnothi.behaviours.organism import OrganismDomain
from gnothi.behaviours.paper import PaperDomain
from gnothi.elicit.parse import parse_weights
from gnothi.errors import SpecError
from gnothi.records import Attribute, ChoiceType, Context
from gnothi.render.wordings import wording_for
from gnothi.rng import stream

PAPER = PaperDomain()
CONTEXT = PAPER.contexts(1, seed=0)[0]
ITEMS = PAPER.draw_items(CONTEXT, 5, rng=stream(0, "items"), prefix="x")
WEIGHTS = np.array([100.0, -3.4, 0.0, 55.5, -100.0])


@pytest.mark.parametrize("crossed", [False, True])
def test_what_a_knowing_model_would_answer_parses_back_to_the_weights(crossed: bool):
    wording = wording_for("paper", crossed=crossed)
    for question in wording.questions(CONTEXT, [] if crossed else ITEMS, k=5):
        values, reason = parse_weights(
            wording.answer(question, WEIGHTS), question.names, low=question.low, high=question.high
        )
        assert reason is None
        assert dict(zip(question.attributes, values, strict=True)) == {0: 100, 1: -3, 2: 0, 3: 56, 4: -100}


def test_names_that_json_has_to_escape_come_back():
    attributes = tuple(Attribute(name=n, low=0, high=1) for n in ('6" lens', "back\\slash", "größe"))
    context = Context(
        context_id="c", agent="a", choice_type=ChoiceType(name="x", question="Which?", attributes=attributes)
    )
    wording = wording_for("paper", crossed=True)
    (question,) = wording.questions(context, [], k=1)
    answer = wording.answer(question, np.array([1.0, 2.0, 3.0]))
    assert json.loads(answer) == {'6" lens': 1, "back\\slash": 2, "größe": 3}
    assert "größe" in answer


def test_the_papers_questions_show_the_next_options_each_time_and_keep_them():
    questions = wording_for("paper").questions(CONTEXT, ITEMS, k=3)
    assert [q.item for q in questions] == ITEMS[:3]
    assert len({q.messages for q in questions}) == 3
    assert all(q.attributes == (0, 1, 2, 3, 4) for q in questions)


def test_crossed_questions_list_attributes_in_an_order_that_no_decision_has():
    questions = wording_for("paper", crossed=True).questions(CONTEXT, [], k=10)
    orders = [q.attributes for q in questions]
    assert all(sorted(o) == [0, 1, 2, 3, 4] and o != (0, 1, 2, 3, 4) for o in orders)
    for j in range(5):  # over five askings each attribute stands in each place once
        assert sorted(o.index(j) for o in orders[:5]) == [0, 1, 2, 3, 4]
    for question in questions:
        body = question.messages[-1].content.rsplit("Properties:", 1)[1]
        places = [body.index(f"\n{name}") for name in question.names]
        assert places == sorted(places)


def test_the_organism_is_asked_for_one_attribute_at_a_time():
    domain = OrganismDomain()
    context = domain.contexts(1, seed=0)[0]
    wording = wording_for("organism")
    questions = wording.questions(context, [], k=2)
    assert [q.attributes for q in questions] == [(j,) for j in range(6)] * 2
    assert wording.answer(questions[3], np.arange(6.0)) == "3"
    assert not wording.draws_options()
    crossed = wording_for("organism", crossed=True).questions(context, [], k=2)
    assert crossed[0].messages != crossed[6].messages
    assert "you are" in crossed[0].messages[-1].content


def test_an_unknown_domain_is_refused():
    with pytest.raises(SpecError, match="domain must be organism or paper, got 'wine'"):
        wording_for("wine")
