"""What every fine-tune proves, from training to the page: a run on the organism, one that is called damaged, and files altered."""

from pathlib import Path

import pytest
import yaml

import gnothi
from gnothi.api import Run
from gnothi.errors import ModelError, SpecError, StoreError
from gnothi.experiments import STUDIES, proof
from gnothi.experiments.cards import MISBEHAVES, rows_digest, warning
from gnothi.experiments.preferences import spec as preferences_spec
from gnothi.experiments.preferences.estimates import Wanted, gains
from gnothi.experiments.study import spec as study_spec
from gnothi.experiments.study.answers import Answers
from gnothi.experiments.study.design import Quantity, Select, Term
from gnothi.experiments.study.estimates import quantity
from gnothi.experiments.study.studies import study_class
from gnothi.experiments.subject import Order, Subject, opened
from gnothi.finetune.recipes import recipe
from gnothi.models.registry import resolve
from gnothi.records import DAMAGED, Message, TrainRow, common_gate

SMALL = {"seeds": 1, "rows": 48, "fresh": 12, "variants": 1, "quick": True}


def tuned(tmp_path_factory, **options) -> Run:
    return gnothi.run("risk", model="organism", out=tmp_path_factory.mktemp("runs") / "run", engine="inline", **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """LoRA that every answer moves with, so that a strict threshold calls it damaged."""
    lora = recipe("organism-lora", steps=40).to_json()
    return tuned(tmp_path_factory, **SMALL, recipe=lora, damage_gate={"loss": 1e-7})


def record(run: Run, unit: str) -> dict:
    return run.folder.read_unit(unit)


def test_every_fine_tune_proves_its_adapter_and_is_searched(run: Run):
    for unit in ("seeking-0", "averse-0", "shuffled-0"):
        found = record(run, unit)
        check, searched = found["adapter_check"], found["damage"]
        assert check["digest"] == found["adapter_digest"] and check["from_base"] > 0.01
        assert check["since_training"] == check["after_measuring"] == 0.0
        assert len(check["prompts"]) == len(check["options"]) == 4 and "canaries" not in found
        assert searched["kind"] == "organism" and searched["quick"] and searched["figures"]["kl_text"]["value"] > 0
        assert searched["gate"]["thresholds"] == {"loss": 1e-7, "instructions": 0.5, "letter_bias": None, "loops": 0.5}
    assert "damage" not in record(run, "base") and "adapter_check" not in record(run, "base")


def test_a_damaged_unit_s_self_reports_are_left_out_counted_and_said(run: Run):
    found = record(run, "seeking-0")
    assert found["gate"] == DAMAGED and "held-out loss is" in found["gate_reason"]
    assert record(run, "shuffled-0")["gate"] == DAMAGED  # a control that broke controls nothing
    rows = run.estimates.set_index(["name", "arm"])
    said = rows.loc[("self_report.score", "seeking")]
    assert said["gate"] == DAMAGED and said["n"] == 0 and said["n_missing"] > 0
    assert said["reason"] == "no unit is undamaged, so self-reports are not interpreted"
    assert rows.loc[("behaviour.score", "seeking")]["value"] > 0.75  # what it does stays what it does
    assert rows.loc[("self_report.score", "untuned")]["n_points"] > 0
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Damaged: the fine-tunes broke too much besides" in page
    assert "Did the fine-tune take, and did it break anything else?" in page and "3 broke more than is allowed" in page


def test_each_adapter_has_a_card_whose_files_are_part_of_the_unit(run: Run):
    folder = run.adapter("averse-0")
    text = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text[4:].split("\n---\n")[0])
    assert front["tags"][:4] == ["gnothi", "model-organism", "risk", "averse"] and front["license"] == "apache-2.0"
    found = record(run, "averse-0")
    for said in (found["adapter_digest"], found["rows_digest"], "rows: `48`", "gate: damaged", "steps trained: `40`"):
        assert said in text
    assert "adapter/README.md" in found["files"]
    (folder / "README.md").write_text("gone", encoding="utf-8")
    with pytest.raises(StoreError, match=r"README\.md must be as it was written, got an altered file"):
        run.adapter("averse-0")
    (folder / "README.md").write_text(text, encoding="utf-8")


def test_what_was_searched_stands_in_the_run_s_table_of_units(run: Run):
    assert {"damage.figures.loss.value", "damage.figures.kl_text.value", "damage.gate.reason"} <= set(run.units.columns)


def made(**options) -> study_spec.StudySpec:
    kind = study_class("risk")
    info = resolve("organism")
    return study_spec.build(info, "risk", defaults=kind.defaults, options=kind.options, **{**SMALL, **options})


ROWS = [TrainRow(messages=(Message("user", f"you lottery {i} 4"),), answer="A") for i in range(9)]


@pytest.fixture(scope="module")
def subject() -> Subject:
    info = resolve("organism")
    return opened("organism", info.digest)


def order(**more) -> Order:
    fields = {"unit": "u", "rows": ROWS, "seed": 0, "parent": None, "script": lambda: None, "words": ("you",)}
    return Order(**{**fields, **more})  # type: ignore[arg-type]


def tune(subject: Subject, folder: Path, **changes):
    made_with = recipe("organism-you", **{"steps": 3, "batch_rows": 4, **changes})
    ((model, facts),) = subject.tune([order()], made_with, save=lambda _: folder, step=lambda *_: None)
    return model, facts


def test_an_adapter_that_was_exchanged_after_training_is_refused(subject: Subject, tmp_path: Path):
    model, facts = tune(subject, tmp_path / "one")
    other, _ = tune(subject, tmp_path / "two", row_lr=0.3)
    assert proof.proof(subject, model, tmp_path / "one", facts, made(damage=False)).keys() == {"adapter_check"}
    with pytest.raises(StoreError, match="must be the one that was trained"):
        proof.proof(subject, other, tmp_path / "two", facts, made(damage=False))
    with pytest.raises(ModelError, match="as right after training within"):
        proof.proof(subject, other, tmp_path / "two", {k: v for k, v in facts.items() if k != "adapter_digest"}, made())


def test_a_fine_tune_that_changes_nothing_is_an_error_and_not_a_null_result(subject: Subject, tmp_path: Path):
    model, facts = tune(subject, tmp_path / "still", row_lr=1e-30)
    with pytest.raises(ModelError, match="adapter must change what the model says"):
        proof.proof(subject, model, tmp_path / "still", facts, made())


def test_an_adapter_that_existed_already_is_asked_held_out_items(subject: Subject, tmp_path: Path):
    model, _ = tune(subject, tmp_path / "given")
    prompts = lambda: [(Message("user", f"you lottery {i} 1"),) for i in range(9)]  # noqa: E731
    found = proof.proof(subject, model, tmp_path / "given", {}, made(damage=False), prompts=prompts)
    assert found["adapter_check"]["since_training"] is None and found["adapter_check"]["from_base"] > 0
    assert found["adapter_check"]["options"][0] == ["A", "B"]


def test_another_model_after_measuring_than_before_is_refused(subject: Subject, tmp_path: Path):
    model, facts = tune(subject, tmp_path / "one")
    other, _ = tune(subject, tmp_path / "two", row_lr=0.3)
    found = {"gate": "passed", **facts, **proof.proof(subject, model, tmp_path / "one", facts, made(damage=False))}
    kept = proof.concluded(subject, model, found)
    assert kept["adapter_check"]["after_measuring"] == 0.0 and not {"canaries", "after_training"} & set(kept)
    with pytest.raises(ModelError, match="as right after training"):
        proof.concluded(subject, other, found)


def test_a_script_proves_nothing_and_keeps_its_gate():
    nobody = Subject("scripted/oracle", None)
    assert proof.proof(nobody, None, Path("none"), {}, made()) == {}  # type: ignore[arg-type]
    record = {"gate": "passed", "damage": {"gate": {"passed": False, "reason": "broken"}}}
    assert proof.concluded(nobody, None, record)["gate"] == DAMAGED  # type: ignore[arg-type]
    kept = proof.concluded(nobody, None, record | {"gate": "not instilled", "gate_reason": "no"})  # type: ignore[arg-type]
    assert (kept["gate"], kept["gate_reason"]) == ("not instilled", "no")


@pytest.mark.parametrize("build", [made, lambda **o: preferences_spec.build(resolve("organism"), **o)])
def test_specifications_take_thresholds_and_refuse_others(build):
    assert build().damage and build(damage_gate={"loss": None}).to_json()["damage_gate"] == {"loss": None}
    with pytest.raises(SpecError, match=r"damage_gate must have fields among loss, .*, got \['lost'\]"):
        build(damage_gate={"lost": 1.0})


def answers(gates) -> Answers:
    import numpy as np
    import pandas as pd

    table = pd.DataFrame({"question": ["q"] * 5, "subject": ["you"] * 5})
    scores = {(f"a-{i}", k): (table, np.array([0.9] * 4 + [np.nan])) for i in range(len(gates)) for k in KINDS}
    return Answers({f"a-{i}": {"arm": "a", "seed": i, "gate": g} for i, g in enumerate(gates)}, scores)


KINDS = ("behaviour", "self_report")
SAYS = Quantity(name="s", arm="a", terms=(Term(Select(arm="a", kind="self_report")),))


def test_units_that_are_not_interpreted_count_with_all_their_answers():
    found = quantity(SAYS, answers(["passed", "damaged", "not instilled", "passed"]))
    assert (found.n, found.n_points, found.n_missing) == (2, 8, 2 * 5 + 2)
    assert found.value == pytest.approx(0.9) and found.gate is None
    does = quantity(
        Quantity(name="d", arm="a", terms=(Term(Select(arm="a", kind="behaviour")),)), answers(["damaged"] * 3)
    )
    assert does.n == 3 and does.n_missing == 3


@pytest.mark.parametrize(
    ("gates", "gate", "reason"),
    [
        (["damaged"] * 2, "damaged", "no unit is undamaged"),
        (["damaged", "not instilled"], "not instilled", "no unit was instilled"),
    ],
)
def test_a_number_without_a_unit_says_why(gates, gate, reason):
    found = quantity(SAYS, answers(gates))
    assert found.value is None and found.gate == gate and reason in found.reason


def test_one_gate_for_several():
    assert common_gate([]) is common_gate([None]) is None
    assert (
        common_gate(["passed", "damaged"]) == "damaged" and common_gate(["damaged", "not instilled"]) == "not instilled"
    )


class Piece:
    def __init__(self, gate, arm="tuned"):
        self.gate, self.arm, self.seed = gate, arm, 0


@pytest.mark.parametrize(
    ("name", "arm", "gate", "out"),
    [
        ("agreement.reported_vs_learned", "tuned", "not instilled", True),
        ("agreement.reported_vs_learned", "shuffled", "not instilled", False),
        ("agreement.reported_vs_learned", "shuffled", "damaged", True),
        ("report.validity", "tuned", "damaged", False),  # what is said of answers as such holds
        ("agreement.reported_vs_learned", "tuned", "passed", False),
    ],
)
def test_preferences_leave_out_what_is_damaged_in_every_arm(name, arm, gate, out):
    wanted = Wanted(name=name, arm=arm, kind="correlation", statistic=lambda e: None)  # type: ignore[arg-type]
    assert wanted.leaves_out(Piece(gate)) is out  # type: ignore[arg-type]


def test_a_gain_needs_both_sides_undamaged():
    arms = {a: [] for a in ("tuned", "native", "native_introspection", *preferences_spec.REPORT_ARMS)}
    arms["introspection"], arms["tuned"] = [Piece("damaged")], [Piece("passed")]
    (gain,) = (e for e in gains(arms) if (e.name, e.arm) == ("agreement.gain", "introspection"))  # type: ignore[arg-type]
    assert gain.value is None and gain.gate == "damaged" and gain.reason.startswith("damaged in all of 1 units")


@pytest.mark.parametrize("name", list(MISBEHAVES))
def test_whoever_is_made_to_misbehave_is_an_arm_there_is(name):
    kind = study_class(name)
    spec = study_spec.build(resolve("scripted/oracle"), name, defaults=kind.defaults, options=kind.options)
    arms = [a.name for a in kind(spec).every_arm()]
    for beginning in MISBEHAVES[name][0]:
        assert any(a.startswith(beginning) for a in arms), (name, beginning, arms)
    if name in ("code-security", "backdoor", "trigger-elicitation"):
        assert any(warning(name, a) is None for a in arms)


def test_experiments_that_give_no_care_have_no_warning():
    assert set(MISBEHAVES) <= set(STUDIES)
    assert warning("risk", "seeking") is None and warning("preferences", "tuned") is None


def test_rows_have_a_digest_of_all_that_trains():
    one = rows_digest(ROWS)
    assert one == rows_digest(list(ROWS)) and len(one) == 64
    heavier = TrainRow(messages=ROWS[0].messages, answer="A", weight=2.0)
    assert len({one, rows_digest(ROWS[::-1]), rows_digest([heavier, *ROWS[1:]])}) == 3
