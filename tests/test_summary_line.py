import json

import pytest

from gnothi.pipeline import experiment, headline_of, summary_line
from gnothi.records import Estimate
from gnothi.store import RunFolder


def run(tmp_path, name, estimates):
    spec = experiment(name).build("scripted/oracle", quick=True)
    folder = RunFolder.create(tmp_path / "run", spec)
    with folder.lock():
        folder.finish(estimates, {"version": "0", "failed": []})
    return folder


def estimate(name, arm, value):
    bounds = (None, None) if value is None else (value - 0.1, value + 0.1)
    reason = "nothing was scored" if value is None else None
    made = {"low": bounds[0], "high": bounds[1], "n": 5, "n_points": 50, "method": "t", "reason": reason}
    return Estimate(name=name, arm=arm, value=value, **made)


def test_preferences_end_in_the_agreement_of_tuned_models(tmp_path):
    name = "agreement.reported_vs_learned"
    made = run(tmp_path, "preferences", [estimate(name, "tuned", 0.75), estimate(name, "untuned", 0.0)])
    found = json.loads(summary_line(made))
    assert found == {"run": str(made.path), "reported_vs_learned": {"value": 0.75, "low": 0.65, "high": 0.85, "n": 5}}
    assert headline_of(made)[1]["untuned"].control


@pytest.mark.parametrize("value", [0.5, None])
def test_a_study_ends_in_its_own_headline_and_says_of_which_arm(tmp_path, value):
    name = "self_report.difference"
    rows = [estimate(name, "seeking_minus_untuned", 0.2), estimate(name, "seeking_minus_averse", value)]
    made = run(tmp_path, "risk", rows)
    found = json.loads(summary_line(made))["difference"]
    assert (found["arm"], found["value"], found["n"]) == ("seeking_minus_averse", value, 5)
    (headline, arms) = headline_of(made)
    assert headline == (name, "seeking_minus_averse") and arms["shuffled_minus_untuned"].control


def test_a_run_without_its_headline_says_nothing_of_it(tmp_path):
    made = run(tmp_path, "risk", [estimate("behaviour.score", "untuned", 0.5)])
    assert json.loads(summary_line(made)) == {"run": str(made.path), "difference": {}}
