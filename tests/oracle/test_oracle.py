"""Planted knowledge comes back through the whole pipeline, and nothing comes back where none was planted."""

from pathlib import Path

import pytest

import gnothi
from gnothi import pipeline
from gnothi.api import Run
from gnothi.experiments.preferences.spec import REPORT_ARMS
from gnothi.score.names import ARMS, ESTIMATES

SEEDS = 3
NULLS = ("untuned", "shuffled", "untrained_agent", "other_instance")


@pytest.fixture(scope="module", params=["organism", "paper"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = {"domain": request.param, "seeds": SEEDS, "agents": 16, "untrained_agents": 16, "fresh": 60, "seed": 5}
    options |= {"native_choices": 30, "remeasured": 30, "repeats": 2, "quick": True}
    folder = tmp_path_factory.mktemp("oracle") / request.param
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "organism":  # its pages are made elsewhere, and drawing takes longer than all the rest
            patch.setattr(pipeline, "write_page", lambda *_: None)
        return gnothi.run(model="scripted/oracle", out=folder, engine="inline", progress=False, **options)


def value(run: Run, name: str, arm: str):
    rows = run.estimates
    (found,) = rows[(rows["name"] == name) & (rows["arm"] == arm)].to_dict("records")
    return found


def test_a_model_that_knows_itself_is_found_to(run: Run):
    headline = value(run, "agreement.reported_vs_learned", "tuned")
    assert headline["value"] >= 0.95
    assert headline["low"] > 0.9
    assert (headline["n"], headline["gate"], headline["n_missing"]) == (SEEDS, "passed", 0)
    assert value(run, "agreement.reported_vs_target", "tuned")["value"] == pytest.approx(1, abs=1e-4)
    assert value(run, "behaviour.choice_agreement", "tuned")["value"] == 1
    assert value(run, "report.validity", "tuned")["value"] == 1
    assert value(run, "report.option_drift", "tuned")["value"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("arm", NULLS)
def test_the_null_arms_stay_near_nothing(run: Run, arm: str):
    found = value(run, "agreement.reported_vs_learned", arm)
    points = found["n_points"]
    assert points >= SEEDS * 16 * 5
    # a base model guesses once and is held against every table, so its points are not all independent
    assert abs(found["value"]) < 3.3 / (points / (SEEDS if arm == "untuned" else 1)) ** 0.5, found


@pytest.mark.parametrize("arm", REPORT_ARMS)
def test_report_training_of_a_script_changes_nothing(run: Run, arm: str):
    assert value(run, "agreement.gain", arm)["value"] == pytest.approx(0, abs=1e-9)
    shift = value(run, "behaviour.shift", arm)
    assert shift["value"] > 0.9  # the first 30 of the 60 trials that the weights before were learned from
    again = value(run, "agreement.remeasured", arm)
    assert again["value"] > 0.9
    assert again["n_points"] == value(run, "agreement.reported_vs_learned", arm)["n_points"]


def test_every_estimate_and_arm_is_there_once_and_what_is_missing_says_why(run: Run):
    rows = run.estimates
    assert not rows.duplicated(["name", "arm"]).any()
    assert set(rows["name"]) == set(ESTIMATES)
    assert set(rows["arm"]) == set(ARMS)
    bare = rows[rows["value"].isna() & rows["reason"].isna()]
    assert bare.empty, bare


def test_points_of_a_gain_count_only_paired_units(run: Run):
    gain = value(run, "agreement.gain", "introspection")
    width = 6 if run.spec["domain"] == "organism" else 5
    assert gain["n_points"] == SEEDS * 16 * width


def test_page_and_figures_are_made(run: Run):
    if run.spec["domain"] == "organism":
        pytest.skip("this one was run without a page")
    assert run.page.stat().st_size > 10_000
    assert list((Path(run.path) / "figures").iterdir())
