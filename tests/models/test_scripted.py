import numpy as np
import pytest

from gnothi.errors import ModelError
from gnothi.models.base import Sampling
from gnothi.models.scripted import ScriptedModel
from gnothi.records import Message

HI = (Message("user", "hi"),)


def says(answer, **more):
    return ScriptedModel(lambda _: answer, name="scripted/test", **more)


def test_the_scripted_option_gets_its_certainty_and_the_rest_is_shared():
    (found,) = says("B", certainty=0.9).option_logprobs([HI], [("A", " B", "C")])
    np.testing.assert_allclose(np.exp(found), [0.05, 0.9, 0.05])
    (found,) = says("B", certainty=1.0).option_logprobs([HI], [("A", "B")])
    assert np.isfinite(found).all() and found[1] == 0 and found[0] < -20


def test_an_answer_that_is_no_option_leaves_all_options_unlikely_and_tied():
    (found,) = says("perhaps").option_logprobs([HI], [("A", "B")])
    assert found[0] == found[1] and np.exp(found).sum() < 1e-5


def test_numbers_are_said_with_certainty_and_other_words_are_missing_mass():
    (found,) = says(" -3 ").number_distribution([HI], -9, 9)
    assert found.mode == -3 and found.mean == pytest.approx(-3) and found.missing == pytest.approx(0.01)
    for answer in ("10", "three", "", "3.5"):
        (found,) = says(answer).number_distribution([HI], -9, 9)
        assert found.mean is None and found.missing == 1 and not found.probabilities.any()


def test_texts_come_as_often_as_asked_and_depend_on_the_prompt():
    model = ScriptedModel(lambda m: m[-1].content.upper(), name="x")
    (answers,) = model.generate([HI], Sampling(n=3))
    assert [a.text for a in answers] == ["HI"] * 3 and answers[0].finished and answers[0].n_tokens == 1
    assert not model.capabilities().training and model.capabilities().logprobs


def test_the_digest_is_the_name_and_the_certainty():
    assert says("A").digest == says("B").digest != says("A", certainty=0.8).digest


def test_certainty_must_be_a_majority():
    for certainty in (0.5, 1.1, float("nan")):
        with pytest.raises(ModelError, match=r"certainty must be in \(0.5, 1\]"):
            says("A", certainty=certainty)
