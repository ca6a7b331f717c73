import json

import numpy as np
import pytest

from gnothi.behaviours.organism import OrganismDomain
from gnothi.elicit.ask import ask
from gnothi.errors import DataError
from gnothi.models.base import NumberDistribution, Sampling
from gnothi.models.scripted import ScriptedModel
from gnothi.records import Attribute, ChoiceType, Context, Message
from gnothi.render.base import Question
from gnothi.render.wordings import wording_for

ATTRIBUTES = tuple(Attribute(name=n, low=0, high=1) for n in ("price", "size", "weight"))
CUP = Context(context_id="c", agent="Anna", choice_type=ChoiceType(name="cup", question="?", attributes=ATTRIBUTES))


def question(k=0, kind="json", attributes=(0, 1, 2), **more):
    names = tuple(ATTRIBUTES[j].name for j in attributes)
    fields = {"question_id": f"q{k}", "context_id": "c", "messages": (Message("user", f"say {k}"),)}
    return Question(**fields, kind=kind, attributes=attributes, names=names, low=-100, high=100, **more)


def says(answer):
    return ScriptedModel(lambda _: answer, name="scripted/test")


def test_a_written_report_is_kept_raw_and_lined_up_with_the_attributes():
    text = '```json\n{"weight": 3, "price": -100}\n```'
    (sample,) = ask(says(text), [question(attributes=(2, 0))], [CUP], sampling=Sampling())
    assert sample.text == text and sample.value == (-100.0, None, 3.0) and sample.valid
    assert sample.sample_id == "q0" and sample.extra == {"attributes": [2, 0]} and sample.seconds >= 0


@pytest.mark.parametrize("text", ["", "no", "{}", '{"price": 1, "size": 2, "weight": 999}', "\ud800 bad", "[" * 9_999])
def test_an_answer_that_does_not_parse_is_kept_with_its_reason_and_no_number(text):
    (sample,) = ask(says(text), [question()], [CUP], sampling=Sampling())
    assert not sample.valid and sample.value == () and sample.reason
    assert sample.text == text.replace("\ud800", "\\ud800")


def test_numbers_are_read_off_the_distribution():
    (sample,) = ask(says("-7"), [question(kind="number", attributes=(1,))], [CUP], sampling=Sampling())
    assert sample.value == (None, pytest.approx(-7.0), None) and sample.text is None
    assert sample.extra["mode"] == -7 and sample.extra["missing"] == pytest.approx(0.01)
    assert np.sum(sample.extra["probabilities"]) == pytest.approx(0.99)
    json.dumps(sample.to_row())


def test_a_model_that_says_no_number_gives_none():
    (sample,) = ask(says("lots"), [question(kind="number", attributes=(1,))], [CUP], sampling=Sampling())
    assert sample.value == () and sample.reason == "numbers unlikely" and sample.extra["missing"] == 1.0


class Unsure(ScriptedModel):
    def number_distribution(self, prompts, low, high):
        p = np.full(high - low + 1, 0.4 / (high - low + 1))
        return [NumberDistribution(low=low, probabilities=p, missing=0.6)] * len(prompts)


def test_a_number_that_the_model_would_hardly_say_is_not_read_off():
    (sample,) = ask(Unsure(str, name="x"), [question(kind="number", attributes=(1,))], [CUP], sampling=Sampling())
    assert sample.reason == "numbers unlikely"


def test_samples_come_in_the_order_of_the_questions_whatever_their_kinds():
    questions = [question(k, *(("number", (1,)) if k % 2 else ("json", (0,)))) for k in range(6)]
    found = ask(says("5"), questions, [CUP], sampling=Sampling(n=3))
    assert [s.sample_id for s in found] == [f"q{k}" for k in range(6)]
    with pytest.raises(DataError, match="an id of their own each"):
        ask(says("5"), [question(), question()], [CUP], sampling=Sampling())


def test_an_oracle_reports_the_weights_that_it_was_given():
    domain, wording = OrganismDomain(), wording_for("organism")
    (agent,) = domain.contexts(1, seed=0)
    weights = np.array([9, -4, 0, 3, -9, 1.0])
    questions = wording.questions(agent, [], k=1)
    answers = {q.messages: wording.answer(q, weights) for q in questions}
    found = ask(ScriptedModel(answers.__getitem__, name="x"), questions, [agent], sampling=Sampling())
    told = np.full(6, np.nan)
    for sample in found:
        for j, value in enumerate(sample.value):
            if value is not None:
                told[j] = value
    np.testing.assert_allclose(told, weights, atol=1e-9)
