"""A run killed in the middle of a training goes on from its checkpoint, and ends with the same adapters."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gnothi import pipeline
from gnothi.experiments.subject import Subject
from gnothi.finetune.recipes import recipe
from gnothi.store import RunFolder

sys.path.insert(0, str(Path(__file__).parent))
import small_llama

SHORT = recipe("small-lm", epochs=1, rank=2, alpha=4.0, batch_rows=4, warmup=2, checkpoint_every=2).to_json()
SIZES = {
    "risk": {"seeds": 2, "rows": 32, "fresh": 10, "damage": False, "fleet": "together", "variants": 1, "samples": 1},
    "preferences": {"quick": True, "agents": 4, "choices": 6, "fresh": 10, "native_choices": 10, "damage": False},
}
"""Eight steps a training of `risk`, six of `preferences`."""
REPEATS = {"preferences": {"remeasured": 10, "repeats": 1, "max_tokens": 4, "report_training": False}}


def start(name: str, model: Path, out: Path) -> RunFolder:
    options = SIZES[name] | REPEATS.get(name, {})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of two threads have another order
    made = pipeline.experiment(name).build(f"hf/{model}", recipe=SHORT, **options)
    run, failures = pipeline.run(made, out, engine="inline", workers=1)
    torch.set_num_threads(threads)
    assert not failures
    return run


def adapters(run: RunFolder) -> dict[str, tuple[str, list[float]]]:
    """By unit: the digest of its adapter and every step's loss."""
    records = {u: run.read_unit(u) for u in run.units()}
    losses = {u: run.table(u, "loss")["loss"].tolist() for u, r in records.items() if r.get("adapter_digest")}
    return {u: (records[u]["adapter_digest"], found) for u, found in losses.items()}


def killed(name: str, model: Path, out: Path, at: int) -> None:
    """The same run in a process of its own, gone right after step `at` of its first training."""
    program = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_interrupted as t
plain = t.Subject.tune
def tune(self, *args, step, **more):
    def dies(done, total):
        step(done, total)
        if done == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, *args, step=dies, **more)
t.Subject.tune = tune
t.start({name!r}, Path({str(model)!r}), Path({str(out)!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("name, job", [("risk", "fleet-0"), ("preferences", "tuned-0")])
def test_the_same_adapters_come_out_of_a_run_that_was_killed_in_training(name, job, tmp_path, monkeypatch):
    model = small_llama.folder(tmp_path / "llama")
    monkeypatch.setattr(pipeline, "write_page", lambda *_: None)
    whole = adapters(start(name, model, tmp_path / "whole"))
    killed(name, model, tmp_path / "killed", at=5)
    left = tmp_path / "killed" / "checkpoints" / job
    assert list(left.glob("*.safetensors")), "no checkpoint was kept"
    steps: list[int] = []
    plain = Subject.tune

    def watched(self, *args, step, **more):
        return plain(self, *args, step=lambda done, total: (steps.append(done), step(done, total)), **more)

    monkeypatch.setattr(Subject, "tune", watched)
    run = start(name, model, tmp_path / "killed")
    assert steps[0] == 5  # the checkpoint of step 4, not the start
    assert adapters(run) == whole and job.removeprefix("fleet-0") in ("", *whole)
    assert not (run.path / "checkpoints").exists()
