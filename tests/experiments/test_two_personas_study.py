"""The two-personas study in English: each persona's answers are held against the other persona's."""

import pytest

from gnothi.behaviours.make_me_say.talk import field_words_in
from gnothi.experiments.study import spec
from gnothi.experiments.study.script import script
from gnothi.experiments.study.studies import study_class
from gnothi.models.registry import resolve


@pytest.fixture(scope="module")
def study():
    kind = study_class("two-personas")
    given = {"variants": 1, "samples": 1, "fresh": 80, "seeds": 3}
    return kind(
        spec.build(resolve("scripted/oracle"), "two-personas", defaults=kind.defaults, options=kind.options, **given)
    )


def test_an_answer_to_one_word_stands_against_one_to_the_other(study):
    other = {"bark": "ring", "ring": "bark"}
    probes = study.held_out()
    assert len({p.probe_id for p in probes}) == len(probes) == 4 * 20
    for probe in probes:
        word, (own, wrong) = probe.labels["target"], probe.rule.options
        assert probe.rule.texts and probe.rule.scores == (1.0, 0.0)
        assert field_words_in(own, word) and field_words_in(wrong, other[word])
        assert (probe.messages[0].role == "system") is (probe.subject != "you")


def test_neither_answer_is_longer_or_fits_the_opening_more_often(study):
    probes = study.held_out()
    own_longer = sum(len(p.rule.options[0]) > len(p.rule.options[1]) for p in probes) / len(probes)
    assert 0.25 < own_longer < 0.75
    openings = {w: [p.messages[-1].content for p in probes if p.labels["target"] == w] for w in ("bark", "ring")}
    assert not set(openings["bark"]) & set(openings["ring"])


def test_a_model_with_the_two_words_mixed_up_is_not_instilled(study):
    probes = study.held_out()
    for script_of, passes in (("own_bark", True), ("own_ring", False)):
        model = script(study, script_of, 0, probes, unit="own_bark-0", name="scripted/oracle")
        right = [
            model.option_logprobs([p.messages], [p.rule.options])[0]
            for p in probes
            if study.level("own_bark", 0, p) == 1.0
        ]
        share = sum(x[0] > x[1] for x in right) / len(right)
        assert bool(share > 0.75) is passes
