"""What units below the gate, one model asked once, and a run's own command do to the numbers and the page."""

import shlex
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from gnothi.experiments.preferences.estimates import STATISTICS, Wanted, _estimate, _gate, gains
from gnothi.experiments.preferences.evidence import Evidence
from gnothi.experiments.preferences.page import command
from gnothi.experiments.preferences.spec import REPORT_ARMS, build
from gnothi.models.registry import ModelInfo
from gnothi.records import Attribute, ChoiceType, Context

KIND = ChoiceType(name="x", question="Which?", attributes=tuple(Attribute(name=n, low=0, high=9) for n in "abc"))
AGENTS = [Context(context_id=f"agent {i}", agent=f"agent {i}", choice_type=KIND) for i in range(12)]
INFO = ModelInfo(name="organism", family="organism", digest="0" * 64)


@dataclass
class Run:
    """As much of a run's evidence as one estimate needs."""

    spec: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(seed=0, seeds=4, report_training=True))
    skipped: dict = field(default_factory=dict)


def piece(seed: int, gate: str | None, *, arm: str = "tuned", unit: str | None = None) -> Evidence:
    rng = np.random.default_rng(0 if unit else seed)
    reported = rng.normal(size=(12, 3))
    learned = reported + 0.3 * np.random.default_rng(seed + 1).normal(size=(12, 3))
    everywhere = np.ones((12, 3), bool)
    return Evidence(
        arm=arm,
        seed=seed,
        units=(unit or f"tuned-{seed}",),
        contexts=AGENTS,
        fold=np.zeros(12, int),
        repeats=reported[:, None],
        repeats_valid=everywhere[:, None],
        places=np.full((12, 1, 3), -1),
        modes=reported,
        reported=reported,
        valid=everywhere,
        learned=learned,
        learned_low=learned,
        learned_high=learned,
        target=learned,
        own=learned,
        gate=gate,
    )


def estimate(name: str, pieces: list[Evidence]):
    kind, statistic = STATISTICS[name]
    return _estimate(Wanted(name=name, arm=pieces[0].arm, kind=kind, statistic=statistic), pieces, Run())


def test_a_unit_below_the_gate_is_left_out_and_counted_and_the_others_still_speak():
    pieces = [piece(i, "not instilled" if i == 1 else "passed") for i in range(4)]
    found = estimate("agreement.reported_vs_learned", pieces)
    assert found.n == 3 and found.gate == "passed" and found.n_missing == 36
    assert found.value is not None and found.value > 0.9 and "3 of 4 units" in found.method


def test_no_unit_above_the_gate_gives_no_number_and_says_why():
    found = estimate("agreement.reported_vs_learned", [piece(i, "not instilled") for i in range(4)])
    assert found.value is None and found.gate == "not instilled"
    assert found.reason == "not instilled in any of 4 units, so self-reports are not interpreted"
    assert _gate("tuned", [piece(0, "passed"), piece(1, "not instilled")]) == "passed"


def test_a_gain_over_a_control_that_broke_has_no_value_and_says_that_it_broke():
    arms = {
        a: [piece(i, None, arm=a) for i in range(4)] for a in (*REPORT_ARMS, "tuned", "native_introspection", "native")
    }
    arms["introspection_permuted"] = [piece(i, "damaged", arm="introspection_permuted") for i in range(4)]
    found = {(e.name, e.arm): e for e in gains(arms)}
    over = found["agreement.gain_over_control", "introspection_permuted"]
    assert (over.value, over.gate) == (None, "damaged")
    assert over.reason == "damaged in all of 4 units, so self-reports are not interpreted"
    assert found["agreement.gain_over_control", "introspection_other_table"].n == 4


def test_what_one_model_said_once_is_not_counted_for_every_unit():
    pieces = [piece(i, "passed", arm="untuned", unit="base") for i in range(4)]
    assert estimate("report.spread", pieces).n == 1
    assert estimate("agreement.reported_vs_learned", pieces).n == 4  # four tables to be scored against


def test_equal_shares_are_one_measurement_and_get_no_interval():
    pieces = [piece(5, "passed", arm="native") for _ in range(4)]
    found = estimate("agreement.sign_match", pieces)
    assert found.value is not None and 0 < found.value < 1 and found.low is None
    assert found.reason == "4 units gave the same number, so there is no spread to make an interval from"


def test_a_question_about_one_attribute_has_no_place_in_a_list():
    found = estimate("report.position", [piece(i, "passed") for i in range(4)])
    assert found.value is None and found.reason is not None and "about one attribute" in found.reason


def test_each_number_says_what_it_is_scored_against():
    pieces = [piece(i, "passed") for i in range(4)]
    assert estimate("agreement.reported_vs_target", pieces).against == "the target table"
    assert estimate("report.spread", pieces).against == ""


def test_the_command_on_the_page_names_everything_that_is_not_a_default():
    plain = build(INFO, seed=7, seeds=5)
    assert command(plain) == "gnothi run preferences --model organism --seed 7 --seeds 5"
    changed = build(INFO, quick=True, seed=7, recipe="organism-full", report_training=False, crossed_agents=True)
    words = shlex.split(command(changed))
    assert "--quick" in words and "--crossed-agents" in words
    assert "recipe=organism-full" in words and "report_training=false" in words
