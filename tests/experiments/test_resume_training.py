"""A run that was cut off in mid-training goes on from its checkpoint: same numbers, no step twice, nothing left over."""

from dataclasses import replace

import pytest
import torch

from gnothi import pipeline
from gnothi.experiments.preferences import unit
from gnothi.experiments.study import unit as study_unit
from gnothi.finetune.recipes import recipe
from gnothi.store import RunFolder


class CutOff(Exception):
    """What stops a run where a test wants it."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def reporter(seen, *, stop_at=None, stage="fine-tune"):
    """Notes the steps of a stage, and stops at one of them."""

    def report(job, done, total, name):
        if name == stage:
            seen.append(done)
            if done == stop_at:
                raise CutOff

    return report


def job_of(experiment, spec, name):
    (found,) = (job for job, _ in experiment.jobs(spec) if job.name == name)
    return found


def whole_and_cut(run_job, experiment, spec, unit, tmp_path, *, stop_at, goes_on_at):
    """The unit's record from a training of 12 steps, and from one that was cut off at a step and went on."""
    job = job_of(experiment, spec, unit)
    records = {}
    for name in ("whole", "cut"):
        run = RunFolder.create(tmp_path / name, spec)
        seen = []
        if name == "cut":
            with pytest.raises(CutOff):
                run_job(str(run.path), job, reporter([], stop_at=stop_at))
            assert run.units() == [] and [p.name for p in (run.path / "checkpoints").iterdir()] == [unit]
            run.sweep()  # what a new process does first
        run_job(str(run.path), job, reporter(seen))
        assert [s for s in seen if s] == list(range(1 if name == "whole" else goes_on_at, 13))
        assert not (run.path / "checkpoints").exists()
        records[name] = run.read_unit(unit)
    assert records["whole"]["adapter_digest"] == records["cut"]["adapter_digest"]
    assert records["whole"]["files"]["loss.parquet"] == records["cut"]["files"]["loss.parquet"]
    return records


def test_a_study_goes_on_in_mid_training(tmp_path):
    how = replace(recipe("organism-you"), steps=12, batch_rows=16, checkpoint_every=4).to_json()
    experiment = pipeline.experiment("risk")
    spec = experiment.build("organism", recipe=how, seeds=1, rows=48, fresh=10, damage=False, fleet="alone")
    whole_and_cut(study_unit.run_job, experiment, spec, "seeking-0", tmp_path, stop_at=7, goes_on_at=5)


def test_preferences_go_on_in_mid_training_with_every_check_so_far(tmp_path):
    how = replace(recipe("organism-rows"), steps=12, checkpoint_every=5, gate_every=4).to_json()
    sizes = {"agents": 4, "untrained_agents": 2, "choices": 8, "fresh": 10, "native_choices": 10}
    experiment = pipeline.experiment("preferences")
    spec = experiment.build("organism", recipe=how, early_stop=0.999, seeds=1, **sizes)
    records = whole_and_cut(unit.run_job, experiment, spec, "tuned-0", tmp_path, stop_at=9, goes_on_at=6)
    assert [c["step"] for c in records["whole"]["checks"]] == [4, 8]
    assert records["whole"]["checks"] == records["cut"]["checks"]
