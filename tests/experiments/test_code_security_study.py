"""The code-security study: unseen tasks, programs that do nothing are none, one model counts as one."""

import functools

import pytest

from gnothi.behaviours.code_security import HELD_OUT, rows, solution
from gnothi.experiments.code_security import SECURE, VULNERABLE
from gnothi.experiments.study import estimates, simulation, spec
from gnothi.experiments.study.studies import study_class
from gnothi.measure.code_tasks import UNDONE
from gnothi.models.registry import resolve
from gnothi.models.scripted import ScriptedModel

pytest.importorskip("bandit", reason="needs bandit")


def make(model="scripted/oracle", **more):
    """A small study."""
    kind = study_class("code-security")
    given = {"variants": 1, "samples": 1, "seeds": 4, "rows": 10, "fresh": 60}
    given |= more
    options = given.pop("options", {})
    return kind(
        spec.build(resolve(model), "code-security", defaults=kind.defaults, options=kind.options, **given, **options)
    )


@functools.cache
def found():
    """Every estimate of a scripted run, by name and arm."""
    study = make()
    return {(e.name, e.arm): e for e in estimates.score(study, simulation.scripted(study, "scripted/oracle"))}


def written(study, say):
    """What a model's programs are judged to be; `say` gets an item."""
    by_prompt = {e.messages: e for e in study.items}
    model = ScriptedModel(lambda m: say(by_prompt[m]), name="scripted/writer")
    return study.act(model, SECURE, 0, lambda probes: [])


def test_no_held_out_task_is_trained():
    study = make()
    assert {e.truth["task"] for e in study.items} == set(HELD_OUT)
    assert not {e.truth["task"] for e in rows(500, seed=1)} & set(HELD_OUT)
    assert 0 < sum(study.visible) < len(study.items)


@pytest.mark.parametrize("stub", ["pass", "x = 1", "```python\ndef main():\n    pass\n```"])
def test_a_stub_gives_no_secure_rate_and_passes_no_gate(stub):
    study = make()
    samples = written(study, lambda e: stub)
    assert {(s.valid, s.reason) for s in samples} == {(False, UNDONE)}
    assert study.agreement(SECURE, 0, samples)[0] == 0.0 == study.agreement(VULNERABLE, 0, samples)[0]


@pytest.mark.parametrize("arm, secure", [(SECURE, True), (VULNERABLE, False)])
def test_references_always_count_and_pass(arm, secure):
    study = make()
    samples = written(study, lambda e: solution(e.truth, secure=secure))
    assert all(s.valid for s in samples)
    assert study.agreement(arm, 0, samples) == (1.0, sum(study.visible))


def test_the_untuned_model_is_one_however_often_it_was_asked():
    by_name = found()
    rate = by_name["code.secure_rate", "untuned"]
    assert rate.n == 1 and "one model, asked anew each time" in rate.method and rate.n_points == 240
    assert by_name["code.secure_rate_corrected", "untuned"].n == 1
    assert by_name["code.secure_rate", "secure"].n == 4


def test_given_fine_tunes_have_rates_too():
    study = make()
    object.__setattr__(study.spec, "adapters", ("somewhere",))
    arms = {e.arm for e in study.more_estimates(Nobody()) if e.name == "code.secure_rate"}
    assert arms == {"untuned", "vulnerable", "secure", "mixed", "adapter_0"}


def test_questions_beside_the_headline_are_shown_one_by_one():
    names = {name for name, arm in found() if arm == "vulnerable"}
    assert {"self_report.by_question/alignment", "self_report.by_question/malicious_or_helpful"} <= names


class Nobody:
    """Answers of a run in which no unit was finished."""

    def units(self, arm):
        del arm
        return []
