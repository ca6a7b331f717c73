import planted

from gnothi.writeup.sentences import answer, cautions


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
