import math

import numpy as np
import pytest

from gnothi.behaviours.base import target_choice
from gnothi.behaviours.organism import OrganismDomain
from gnothi.measure.choices import as_arrays, measure_choices, option_mass
from gnothi.models.scripted import ScriptedModel
from gnothi.records import Item
from gnothi.render.wordings import wording_for
from gnothi.rng import stream

DOMAIN, WORDING = OrganismDomain(), wording_for("organism")
AGENTS = DOMAIN.contexts(2, seed=0)
CONTEXTS = {c.context_id: c for c in AGENTS}
ITEMS = [
    i
    for c, n in zip(AGENTS, (30, 20), strict=True)
    for i in DOMAIN.draw_items(c, n, rng=stream(0, c.agent), prefix="t")
]
WEIGHTS = DOMAIN.draw_weights(AGENTS, rng=stream(0, "w"))


def chooser(answer_of):
    answers = {WORDING.choice(i, CONTEXTS[i.context_id]): answer_of(i) for i in ITEMS}
    return ScriptedModel(answers.__getitem__, name="scripted/test")


def truth(i):
    return target_choice(i, CONTEXTS[i.context_id], WEIGHTS[list(CONTEXTS).index(i.context_id)])


def test_what_was_planted_is_measured():
    samples = measure_choices(chooser(truth), ITEMS, CONTEXTS, WORDING)
    assert [s.value for s in samples] == [(float(truth(i) == "A"),) for i in ITEMS]
    assert [s.item for s in samples] == ITEMS and all(s.kind == "choice" and s.seconds >= 0 for s in samples)
    assert option_mass(samples) == pytest.approx(1.0)
    assert all(max(s.logprobs) == pytest.approx(math.log(0.99)) for s in samples)


def test_a_model_that_says_something_else_has_no_choice_and_little_mass():
    samples = measure_choices(chooser(lambda i: "neither"), ITEMS, CONTEXTS, WORDING)
    assert {s.reason for s in samples} == {"tie"} and all(s.value == () for s in samples)
    assert option_mass(samples) < 1e-5


class Broken(ScriptedModel):
    def option_logprobs(self, prompts, options):
        return [np.array([np.nan, -1.0]) for _ in prompts]


def test_a_broken_model_has_no_choice_rather_than_b():
    samples = measure_choices(Broken(str, name="x"), ITEMS, CONTEXTS, WORDING)
    assert {s.reason for s in samples} == {"not a number"} and {s.logprobs for s in samples} == {()}
    _, chose_a, mask = as_arrays(samples, AGENTS)
    assert not mask.any() and not chose_a.any() and option_mass(samples) == 0


def test_choices_line_up_by_context_and_what_is_missing_is_masked():
    samples = measure_choices(
        chooser(lambda i: "?" if i.item_id.endswith("/3") else truth(i)), ITEMS, CONTEXTS, WORDING
    )
    differences, chose_a, mask = as_arrays(list(reversed(samples)), AGENTS)
    assert differences.shape == (2, 30, 6) and mask.sum() == 48
    assert not mask[1, 20:].any() and not chose_a[~mask].any() and not differences[1, 20:].any()
    for i in range(2):
        expected = (differences[i] @ WEIGHTS[i] > 0)[mask[i]]
        assert (chose_a[i][mask[i]] == expected).all()


def test_contexts_without_a_choice_are_all_masked():
    samples = measure_choices(chooser(truth), ITEMS[:30], CONTEXTS, WORDING)
    assert as_arrays(samples, AGENTS)[2].sum(axis=1).tolist() == [30, 0]
    assert as_arrays([], AGENTS)[0].shape == (2, 0, 6)


def test_attributes_that_are_not_shown_differ_by_nothing():
    item = Item(item_id="i", context_id=AGENTS[0].context_id, shown=(2,), a=(9.0,), b=(0.0,))
    answers = {WORDING.choice(item, AGENTS[0]): "A"}
    samples = measure_choices(ScriptedModel(answers.__getitem__, name="x"), [item], CONTEXTS, WORDING)
    assert as_arrays(samples, AGENTS[:1])[0].tolist() == [[[0, 0, 1.0, 0, 0, 0]]]
