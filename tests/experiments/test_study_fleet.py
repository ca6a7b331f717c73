"""Arms of one seed as a fleet: the same numbers, one choice for the run, and nobody takes the others along."""

import json
from dataclasses import replace

import pytest

from gnothi import pipeline
from gnothi.experiments.study import unit as unit_module
from gnothi.experiments.subject import Subject
from gnothi.finetune.recipes import recipe
from gnothi.store import RunFolder

SMALL = {"seeds": 2, "rows": 48, "fresh": 20, "damage": False, "seed": 5}
SHORT = replace(recipe("organism-you"), steps=12, batch_rows=16).to_json()


def run(folder, **changes):
    spec = pipeline.experiment("risk").build("organism", recipe=SHORT, **SMALL, **changes)
    return pipeline.run(spec, folder, engine="inline", workers=1)


def test_together_is_what_alone_gives(tmp_path):
    found = {}
    for how in ("together", "alone"):
        made, failures = run(tmp_path / how, fleet=how)
        assert not failures
        found[how] = {(e.name, e.arm): e.value for e in made.estimates()}
        sizes = {u: made.read_unit(u).get("fleet") for u in made.units()}
        assert sizes["seeking-0"] == (3 if how == "together" else 1) and sizes["base"] is None
        assert not (made.path / "checkpoints").exists()
    assert found["together"].keys() == found["alone"].keys()
    for name, value in found["together"].items():
        other = found["alone"][name]
        assert (value is None) == (other is None)
        assert value is None or value == pytest.approx(other, abs=2e-3)


def test_what_was_measured_once_holds_for_the_run(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(Subject, "fleet_choice", lambda *_: said.append(1) or {"together": True})
    made, _ = run(tmp_path / "r", fleet="measured")
    assert len(said) == 1 and json.loads((made.path / "fleet.json").read_text()) == {"together": True}
    assert made.read_unit("averse-1")["fleet"] == 3


def test_jobs_are_fleets_only_where_there_are_seeds_enough():
    experiment = pipeline.experiment("risk")
    jobs = experiment.jobs(experiment.build("organism", recipe=SHORT, **SMALL, fleet="measured"))
    assert [job.name for job, _ in jobs] == ["base", "fleet-0", "fleet-1"]
    assert list(jobs[1][1]) == ["seeking-0", "averse-0", "shuffled-0"]
    one = experiment.build("organism", recipe=SHORT, **{**SMALL, "seeds": 1}, fleet="measured")
    assert [job.name for job, _ in experiment.jobs(one)] == ["base", "seeking-0", "averse-0", "shuffled-0"]
    sized = experiment.build("organism", recipe=SHORT, **SMALL, fleet="together", train_sizes="24x1,24x2")
    names = [job.name for job, _ in experiment.jobs(sized)]
    assert names[1:4] == ["fleet-0", "fleet-0-1-epochs", "fleet-0-2-epochs"]


def test_one_that_fails_leaves_the_others(tmp_path, monkeypatch):
    plain = unit_module._order

    def broken(study, unit, stand_in):
        order, counted = plain(study, unit, stand_in)
        if unit.name == "averse-1":
            order = replace(order, rows=[])  # what a training that fails by itself raises
        return order, counted

    monkeypatch.setattr(unit_module, "_order", broken)
    made, failures = run(tmp_path / "r", fleet="together")
    assert [f.job for f in failures] == ["fleet-1"] and "rows must be at least one" in failures[0].message
    assert {"seeking-1", "shuffled-1", "averse-0"} <= set(made.units()) and "averse-1" not in made.units()
    monkeypatch.setattr(unit_module, "_order", plain)
    spec = RunFolder.open(tmp_path / "r").spec
    again, failures = pipeline.run(spec, tmp_path / "r", engine="inline", workers=1)
    assert not failures and "averse-1" in again.units()
