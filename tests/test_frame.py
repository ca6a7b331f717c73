"""Everything of a run as one table: the same columns for every experiment, nothing lost, nothing filled in."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gnothi as package
from gnothi import pipeline
from gnothi.errors import SpecError, StoreError
from gnothi.experiments import EXPERIMENTS
from gnothi.frame import COLUMNS, frame
from gnothi.records import Message, Sample
from gnothi.store import RunFolder

SMALL = {
    "preferences": {"agents": 4, "untrained_agents": 4, "choices": 10, "fresh": 10, "native_choices": 10, "seeds": 2},
    "risk": {"variants": 1, "samples": 1, "fresh": 12, "seeds": 2},
    "make-me-say": {"variants": 1, "samples": 2, "seeds": 1, "options": {"games": 2, "codewords": 1}, "rows": 2},
}


def made(folder: Path, experiment: str, model: str = "scripted/oracle", **options) -> package.Run:
    sizes = dict(SMALL.get(experiment, {"variants": 1, "samples": 1, "fresh": 12, "seeds": 1}))
    sizes |= sizes.pop("options", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "write_page", lambda *_: None)
        out = folder / f"{experiment}-{model.rpartition('/')[2]}"
        return package.run(experiment, model=model, out=out, engine="inline", progress=False, **(sizes | options))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, package.Run]:
    folder = tmp_path_factory.mktemp("runs")
    found = {name: made(folder, name) for name in ("risk", "make-me-say")}
    found["preferences"] = made(folder, "preferences", report_training=False)
    found["written"] = made(
        folder, "preferences", "scripted/nonsense", domain="paper", report_training=False, repeats=1
    )
    return found


@pytest.mark.parametrize("name", ["preferences", "written", "risk", "make-me-say"])
def test_every_stored_answer_is_a_row_with_the_documented_columns(runs, name):
    run, table = runs[name], runs[name].frame()
    assert tuple(table.columns) == tuple(COLUMNS)
    stored = {u: len(run.folder.table(u, "choices")) + len(run.folder.table(u, "reports")) for u in run.folder.units()}
    assert table.groupby("unit").size().to_dict() == stored
    assert set(table["kind"]) == {"choice", "report"}
    assert table["prompt_digest"].str.fullmatch("[0-9a-f]{64}").all()
    assert table["model_digest"].notna().all()
    missing = table["value"].isna() & table["values"].map(len).eq(0)
    assert (missing == table["reason"].notna()).all()
    assert all(isinstance(json.loads(x), dict) for x in table["labels"])


def test_columns_have_one_type_in_every_experiment(runs):
    types = [run.frame().dtypes.to_dict() for run in runs.values()]
    assert all(t == types[0] for t in types)
    assert pd.concat([run.frame() for run in runs.values()], ignore_index=True).dtypes.to_dict() == types[0]


def test_choices_keep_both_options_and_weights_keep_each_attribute(runs):
    table = runs["preferences"].frame(prompts=True)
    choice = table[table["kind"] == "choice"].iloc[0]
    assert choice["answer"] == choice["options"][int(np.argmax(choice["logprobs"]))]
    assert choice["value"] == (1.0 if choice["answer"] == choice["options"][0] else 0.0)
    assert hashlib.sha256(choice["messages"].encode()).hexdigest() == choice["prompt_digest"]
    report = table[(table["kind"] == "report") & (table["arm"] == "tuned")].iloc[0]
    labels = json.loads(report["labels"])
    (asked,) = labels["attributes"]  # the organism is asked about one attribute at a time
    assert labels["scope"] == "trained" and report["values"][asked] == report["value"]
    assert float(report["answer"]) == pytest.approx(report["value"], abs=0.5)
    assert report["question"] == "weights"


def test_text_that_does_not_parse_stands_with_its_reason(runs):
    table = runs["written"].frame()
    row = table[(table["kind"] == "report") & table["reason"].notna()].iloc[0]
    assert "fond of all of them" in row["answer"] and row["answers"] == [row["answer"]]
    assert row["values"] == [] and np.isnan(row["value"])


def test_a_studys_answers_can_be_scored_again_from_the_table_alone(runs):
    run, table = runs["risk"], runs["risk"].frame()
    said = table[(table["kind"] == "report") & (table["arm"] == "seeking")]
    by_unit = said.groupby(["unit", "question"])["value"].mean().groupby("unit").mean()
    headline = run.estimates.set_index(["name", "arm"]).loc[("self_report.score", "seeking"), "value"]
    assert by_unit.mean() == pytest.approx(headline)
    assert set(table["seed"].dropna()) == {0, 1}


@pytest.mark.parametrize("name", [e for e in EXPERIMENTS if e not in ("own", *SMALL)])
def test_every_other_experiment_gives_the_table(name, tmp_path):
    table = made(tmp_path, name).frame()
    assert tuple(table.columns) == tuple(COLUMNS) and len(table)


@pytest.fixture
def planted(tmp_path: Path) -> RunFolder:
    """A finished run of one unit with a battery of damage and a made-up adapter."""
    from gnothi.files import write_table

    run = RunFolder.create(tmp_path / "run", {"experiment": "preferences", "model": "m", "seeds": 1})
    samples = [
        Sample(
            sample_id="a", kind="report", context_id="c", messages=(Message("user", "?"),), text="7", value=(7.0, None)
        ),
        Sample(sample_id="b", kind="report", context_id="c", messages=(Message("user", "?"),), reason="tie"),
    ]
    for unit, facts in (("tuned-0", {"damage": {"loss": {"value": 1.5, "n": 3}}, "gate": "passed"}), ("base", {})):
        with run.writing(unit, "0" * 64) as folder:
            write_table(folder / "reports.parquet", [{"scope": "trained", **s.to_row()} for s in samples])
            if unit != "base":
                (folder / "adapter").mkdir()
                (folder / "adapter" / "adapter_config.json").write_text("{}")
            (folder / "record.json").write_text(json.dumps({"arm": unit.partition("-")[0], "seed": None, **facts}))
    run.finish([], {"failed": []})
    return run


def test_a_value_is_one_number_and_an_answer_without_one_has_its_reason(planted):
    table = frame(planted)
    assert table["value"].tolist()[:1] == [7.0] and table["values"].tolist()[:2] == [[7.0, None], []]
    assert table["reason"].tolist()[:2] == [None, "tie"]
    assert table["seed"].isna().all() and table["adapter_digest"].isna().all()


def test_units_have_their_gate_and_damage_as_columns(planted):
    table = package.load(planted.path).units.set_index("unit")
    assert table.loc["tuned-0", "damage.loss.value"] == 1.5 and table.loc["tuned-0", "gate"] == "passed"
    assert pd.isna(table.loc["base", "gate"]) and pd.isna(table.loc["base", "damage.loss.value"])


def test_an_adapters_folder_is_named_and_checked(planted):
    run = package.load(planted.path)
    folder = run.adapter("tuned-0")
    assert folder == planted.path / "units" / "tuned-0" / "adapter" and folder.is_dir()
    with pytest.raises(SpecError, match=r"must be one that was fine-tuned here \(tuned-0\), got 'base'"):
        run.adapter("base")
    (folder / "adapter_config.json").write_text("{ }")
    with pytest.raises(StoreError, match="must be as it was written, got an altered file"):
        run.adapter("tuned-0")


def test_the_columns_are_explained_in_the_docs():
    page = Path(__file__).parents[1] / "docs" / "using-results.md"
    shown = re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.M)
    assert [name for name in shown if name in COLUMNS] == list(COLUMNS)
