import planted
import planted_study
import pytest

from gnothi.records import Estimate
from gnothi.writeup.sentences import answer, arms_not_run, cautions, sides


def test_the_answer_gives_value_interval_n_and_controls(view):
    said = answer(view)
    assert said == (
        "Reported and learned weights correlate at r = 0.87 [0.82, 0.92] over 4 fine-tuned models (t over units, "
        "Fisher z, 95%); the null controls lie between -0.04 and 0.06."
    )


def changed(**more):
    others = [e for e in planted.estimates() if (e.name, e.arm) != ("agreement.reported_vs_learned", "tuned")]
    value = more.pop("value", 0.87)
    return planted.view(estimates=[*others, planted.estimate("agreement.reported_vs_learned", "tuned", value, **more)])


def test_a_gate_that_was_not_met_is_the_answer():
    said = answer(changed(gate="not instilled"))
    assert said.startswith("Not instilled") and "choice agreement 0.91 [0.88, 0.94] over 4" in said
    assert said.endswith("self-reports are not interpreted.") and "0.87" not in said


def test_a_missing_interval_gives_its_reason():
    said = answer(changed(half=None, n=2))
    assert "r = 0.87 over 2 fine-tuned models, without an interval (needs 3 units for an interval, got 2)" in said


def test_a_missing_value_gives_its_reason():
    said = answer(changed(value=None, reason="no report parsed", n=0))
    assert said == "No answer: agreement.reported_vs_learned of tuned has no value. no report parsed."


def test_no_estimate_at_all_is_said():
    assert answer(planted.view(estimates=[])).startswith("No answer: this run holds no estimate")


def test_an_interval_that_includes_zero_is_said():
    assert "an interval that includes 0" in answer(changed(value=0.02))


def test_a_control_off_zero_and_one_without_a_value_are_said(view):
    assert any("other_instance has no value: needs the reports of another seed" in c for c in cautions(view))
    others = [e for e in planted.estimates() if (e.name, e.arm) != ("agreement.reported_vs_learned", "untuned")]
    leak = planted.estimate("agreement.reported_vs_learned", "untuned", 0.4)
    said = cautions(planted.view(estimates=[*others, leak]))
    assert any("untuned, 0.40 [0.35, 0.45], leaves out 0: shared prior, or a leak in the prompt" in c for c in said)


HEADLINE = ("self_report.difference", "seeking_minus_averse")


def study(name=HEADLINE[0], arm=HEADLINE[1], **more):
    """The planted study with one estimate changed."""
    view = planted_study.risk()
    rows = [Estimate(**{**e.to_json(), **more}) if (e.name, e.arm) == (name, arm) else e for e in view.estimates]
    return planted_study.risk(estimates=rows)


def test_a_study_s_answer_gives_what_is_said_what_is_done_and_the_control():
    said = answer(study(value=0.62, low=0.55, high=0.69))
    assert said == (
        "What seeking models say of themselves differs from what averse models say by 0.62 [0.55, 0.69] of the scale over "
        "5 pairs of fine-tuned models (t on differences by unit over 5 units, 95%); what they do differs by 0.94 [0.91, "
        "0.98]; the one null control, shuffled_minus_untuned, lies at 0.00."
    )


def test_a_study_that_did_not_take_says_how_far_each_end_came():
    said = answer(study(value=None, low=None, high=None, reason="no unit was instilled", gate="not instilled"))
    assert said.startswith("Not instilled: the models did not come to do what they were trained to (share of held-out")
    assert "seeking 0.95 [" in said and "averse 0.95 [" in said and "weights" not in said


def test_an_end_that_is_not_told_from_the_untuned_model_is_said():
    assert cautions(study()) == []
    said = cautions(study(arm="untuned_minus_averse", value=0.01, low=-0.02, high=0.04))
    assert said == [
        "The interval of untuned_minus_averse, 0.01 [-0.02, 0.04], includes 0: this end is not told from the untuned model."
    ]


def test_a_control_of_a_study_that_leaves_out_zero_is_said():
    said = cautions(study(arm="shuffled_minus_untuned", value=0.1, low=0.05, high=0.15))
    assert said[0].startswith(
        "The interval of the control shuffled_minus_untuned, 0.10 [0.05, 0.15], leaves out 0: a leak"
    )


def test_answers_that_could_not_be_scored_are_said_beside_the_answer():
    said = cautions(study("report.validity", "averse", value=0.4, low=0.3, high=0.5))
    assert said == ["Of the self-reports of averse, a share of 0.40 [0.30, 0.50] could be scored."]


def test_units_of_both_ends_that_did_not_take_are_counted():
    units = [
        {**u, "gate": "not instilled"} if u["unit"] in ("seeking-0", "averse-1") else u
        for u in planted_study.risk().units
    ]
    assert cautions(planted_study.risk(units=units))[0] == (
        "2 of 10 fine-tuned models did not take the behaviour and are marked as not instilled."
    )


def test_an_arm_of_a_study_without_any_number_is_missed():
    view = planted_study.risk()
    assert arms_not_run(view) == []
    rows = [e for e in view.estimates if e.arm != "shuffled_minus_untuned"]
    assert arms_not_run(planted_study.risk(estimates=rows)) == ["shuffled_minus_untuned"]


@pytest.mark.parametrize("kind", planted_study.STUDIES)
def test_every_study_s_answer_is_words_and_not_a_name(kind):
    view = planted_study.STUDIES[kind]()
    said = answer(view)
    assert view.headline[0] not in said and said.endswith(".") and "fine-tuned models" in said


def test_a_headline_that_nobody_worded_is_told_by_its_name():
    e = planted_study.estimate("game.win_rate", "ring", [0.4, 0.5, 0.6])
    view = planted_study.risk(estimates=[e], headline=("game.win_rate", "ring"))
    assert answer(view).startswith("game.win_rate of ring is 0.50 [")


def test_a_comparison_has_two_sides():
    assert sides("a_b_minus_c") == ("a_b", "c") and sides("untuned") == ("untuned",)
