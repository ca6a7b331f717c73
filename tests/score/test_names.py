import re

import pytest

from gnothi.score.names import ARMS, ESTIMATES, STUDY_ESTIMATES, meaning


@pytest.mark.parametrize("name", [*ESTIMATES, *STUDY_ESTIMATES])
def test_a_fixed_word_is_a_stage_and_a_name_and_means_something(name):
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+", name)
    assert len(meaning(name)) > 20 and len(meaning(name, study=True)) > 20


def test_a_member_of_a_family_means_what_its_family_does():
    assert meaning("self_report.by_question/<b>x</b>", study=True) == STUDY_ESTIMATES["self_report.by_question"]


def test_a_name_that_both_kinds_of_run_have_is_told_in_the_run_s_own_way():
    name = "behaviour.choice_agreement"
    assert "target weights" in meaning(name) and "as trained" in meaning(name, study=True)


def test_a_name_that_is_not_fixed_means_nothing():
    assert meaning("mine.own") == meaning("mine.own", study=True) == ""


def test_controls_of_preferences_are_those_expected_at_nothing():
    assert {a for a, arm in ARMS.items() if arm.control} == {"untuned", "shuffled", "untrained_agent", "other_instance"}
