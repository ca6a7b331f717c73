"""A run on a language model stops at the gate, says so plainly, and shows its learning curve."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gnothi
from gnothi import cli, pipeline
from gnothi.api import Run
from gnothi.experiments.preferences import curve, plan, spec, stopping
from gnothi.experiments.preferences.evidence import evidences_of
from gnothi.finetune.recipes import recipe
from gnothi.models.organism import organism_folder
from gnothi.models.registry import resolve
from gnothi.store import RunFolder

sys.path.insert(0, str(Path(__file__).parent))
import small_llama

SMALL = {"choices": 4, "fresh": 10, "native_choices": 10, "remeasured": 10, "repeats": 1, "max_tokens": 8}


def command(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["gnothi", *words])
        cli.main()
    return 0 if ended.value.code is None else int(ended.value.code)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A random model, by the command line: nothing is instilled by 16 rows."""
    folder = tmp_path_factory.mktemp("stopped")
    model = small_llama.folder(folder / "llama")
    sets = [word for k, v in SMALL.items() for word in ("--set", f"{k}={v}")]
    where = ("--model", f"hf/{model}", "--quick", "--engine", "inline", "--out", str(folder / "run"))
    assert command("run", "preferences", *where, *sets) == 0
    assert command("run", "preferences", *where, *sets, "--strict") == 1
    return gnothi.load(folder / "run")


def test_nothing_is_trained_on_what_was_not_instilled(stopped: Run):
    records = {u: stopped.folder.read_unit(u) for u in stopped.folder.units()}
    assert set(records) == {u.name for u in plan.units(spec.parse(stopped.spec))}
    assert records["tuned-0"]["gate"] == "not instilled" and "skipped" not in records["tuned-0"]
    assert records["shuffled-0"]["skipped"] == stopping.NO_TUNED
    reported = {u: r for u, r in records.items() if r["arm"] in spec.REPORT_ARMS or r["arm"] == "native_introspection"}
    assert len(reported) == 11 and {r["skipped"] for r in reported.values()} == {stopping.NO_PARENT}
    adapters = [p.parent.name for p in (stopped.path / "units").glob("*/adapter")]
    assert adapters == ["tuned-0"]
    with pytest.raises(gnothi.SpecError, match=r"fine-tuned here \(tuned-0\), got 'shuffled-0'"):
        stopped.adapter("shuffled-0")


def test_every_arm_that_was_left_out_says_why(stopped: Run):
    reasons = stopped.estimates.set_index(["name", "arm"])["reason"]
    headline = "agreement.reported_vs_learned"
    assert "not instilled" in reasons[headline, "tuned"]
    assert reasons[headline, "introspection"] == stopping.NO_PARENT
    assert reasons[headline, "shuffled"] == reasons[headline, "shuffled_own"] == stopping.NO_TUNED
    assert reasons["behaviour.choice_agreement", "shuffled"] == stopping.NO_TUNED
    assert pd.notna(stopped.estimates.set_index(["name", "arm"]).loc[(headline, "untuned_own"), "n"])


def test_the_page_says_not_instilled_and_shows_the_learning_curve(stopped: Run):
    page = stopped.page.read_text(encoding="utf-8")
    assert "Not instilled: the models did not come to choose by the target weights" in page
    reason = stopped.folder.read_unit("tuned-0")["gate_reason"]
    assert f"tuned-0 is not instilled: {reason}." in page
    assert "The run stopped at the gate: 12 models were not trained." in page
    assert "Learning curve of choices" in page and "share of choices that agree with the target" in page


def test_the_learning_curve_goes_from_the_untuned_model_to_the_end(stopped: Run):
    points = curve.curve(evidences_of(stopped.folder))
    record = stopped.folder.read_unit("tuned-0")
    assert points["step"].tolist() == [0, *(c["step"] for c in record["checks"]), record["steps"]]
    assert points["items"].tolist() == ["fresh", *["validation"] * len(record["checks"]), "fresh"]
    assert points["agreement"].iloc[-1] == record["choice_agreement"]
    assert points["agreement"].between(0, 1).all() and np.isnan(points["loss"].iloc[0])
    losses = stopped.folder.table("tuned-0", "loss")["loss"].to_numpy()
    first = int(points["step"].iloc[1])
    assert points["loss"].iloc[1] == pytest.approx(losses[:first].mean())
    assert len(record["checks"]) == 2  # of six steps: short trainings are looked at too


def test_the_curve_of_a_model_that_learns_rises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipeline, "write_page", lambda *_: None)
    short = recipe("organism-rows", steps=80).to_json()
    options = {"domain": "organism", "recipe": short, "report_training": False, "early_stop": 0.99}
    options |= {"agents": 6, "untrained_agents": 4, "choices": 80, "fresh": 30, "native_choices": 10, "repeats": 1}
    options |= {"damage": False}
    run = gnothi.run(
        model=f"hf/{organism_folder('organism')}",
        out=tmp_path / "r",
        engine="inline",
        progress=False,
        quick=True,
        **options,
    )
    points = curve.curve(evidences_of(run.folder))
    assert points["agreement"].iloc[0] < 0.65 and points["agreement"].iloc[-1] > 0.75
    assert points["loss"].iloc[-1] < points["loss"].iloc[1]
    assert run.folder.read_unit("tuned-0")["gate"] == "passed"
    assert "skipped" not in run.folder.read_unit("shuffled-0")  # it was instilled, so the control is trained
    drawn = curve.figure(evidences_of(run.folder), points)
    assert drawn is not None and drawn["svg"].startswith("<?xml")


def test_a_run_that_was_not_looked_at_in_training_has_no_curve():
    empty = pd.DataFrame(columns=list(curve.COLUMNS))
    assert curve.table(empty) is None


def test_models_on_shuffled_labels_wait_only_where_the_run_may_stop():
    def after(**options) -> dict[str, tuple[str, ...]]:
        options = {"seeds": 2, "quick": True, **options}
        return {job.name: job.after for job, _ in plan.jobs(spec.build(resolve("scripted/oracle"), **options))}

    assert after()["shuffled-0"] == () and after()["reports-0"] == ("tuned-0",)
    assert after(stop_at_gate=True)["shuffled-1"] == ("tuned-0", "tuned-1")


@pytest.mark.parametrize(
    "gates, shuffled, reports",
    [
        (("passed", "passed"), None, (None, None)),
        (("passed", "not instilled"), None, (None, stopping.NO_PARENT)),
        (("damaged", "not instilled"), stopping.NO_TUNED, (stopping.NO_PARENT, stopping.NO_PARENT)),
    ],
)
def test_one_model_that_took_is_enough_for_the_control_and_each_goes_on_by_itself(tmp_path, gates, shuffled, reports):
    made = spec.build(resolve("scripted/oracle"), seeds=2, stop_at_gate=True)
    run = RunFolder.create(tmp_path / "run", made.to_json())
    for i, gate in enumerate(gates):
        with run.writing(f"tuned-{i}", "0" * 64) as folder:
            (folder / "record.json").write_text(json.dumps({"arm": "tuned", "seed": i, "gate": gate}))
    by_name = {u.name: u for u in plan.units(made)}
    assert stopping.stopped(run, made, by_name["shuffled-1"]) == shuffled
    assert tuple(stopping.stopped(run, made, by_name[f"introspection-{i}-0"]) for i in (0, 1)) == reports
    assert stopping.stopped(run, made, by_name["tuned-0"]) is None
    free = made.model_copy(update={"stop_at_gate": False})
    assert stopping.stopped(run, free, by_name["shuffled-1"]) is None
