"""Training that is killed goes on, and gives the adapter that it would have given, bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gnothi.errors import StoreError, TrainingError
from gnothi.finetune.checkpoint import Checkpoint
from gnothi.finetune.loop import TrainJob, train
from gnothi.finetune.recipes import Recipe
from gnothi.records import TrainRow

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import tiny

STEPS = 9


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows(n=24, shift=0):
    return [
        TrainRow(
            messages=tiny.user(f"agent{(i + shift) % 3} choose x {i % 9} {i % 4}"),
            answer="AB"[i % 2],
            group=f"agent{(i + shift) % 3}",
        )
        for i in range(n)
    ]


def made(kind, **changes):
    values = {
        "name": "t",
        "kind": kind,
        "lr": 1e-2,
        "row_lr": 0.05,
        "rank": 3,
        "alpha": 6.0,
        "steps": STEPS,
        "batch_rows": 8,
        "warmup": 2,
        "clip": 1.0,
        "checkpoint_every": 2,
    }
    return Recipe(**(values | changes))


def jobs(kind):
    first = TrainJob(name="a", rows=rows(), seed=0)
    if kind == "full":
        return [first]
    own = {"rank": 2, "lr": 3e-3} if "lora" in kind else {"row_lr": 0.01}
    return [first, TrainJob(name="b", rows=rows(shift=1), seed=1, **own)]


def stop_b(step, name, model):
    """A gate that stops the second job after four steps."""
    return name == "b" and step >= 4


def killed(kind, folder, at):
    """Train in a process that is killed right after step `at`."""
    program = f"""
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(tiny.__file__).parent)!r}]
import torch, tiny
import test_checkpoint as t
torch.set_num_threads(1)
def progress(done, total, loss):
    if done == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
recipe = t.made({kind!r}, gate_every=4 if {kind!r} == "lora" else 0)
t.train(tiny.model(), t.jobs({kind!r}), recipe, progress=progress, gate=t.stop_b, checkpoint=Path({str(folder)!r}))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("kind, at", [("lora", 7), ("full", 4)])
def test_what_a_killed_training_would_have_given_comes_out(kind, at, tmp_path):
    recipe = made(kind, gate_every=4 if kind == "lora" else 0)
    model = tiny.model()
    plain = train(model, jobs(kind), recipe, gate=stop_b)
    killed(kind, tmp_path / "c", at)
    steps = []
    resumed = train(
        model, jobs(kind), recipe, gate=stop_b, checkpoint=tmp_path / "c", progress=lambda done, *_: steps.append(done)
    )
    assert steps[0] == 2 * ((at - 1) // 2) + 1 and steps[-1] == STEPS  # from the last checkpoint, not from the start
    for one, other in zip(plain, resumed, strict=True):
        assert one.digest == other.digest and one.losses == other.losses
        assert (one.tokens_seen, one.steps, one.stopped_early) == (other.tokens_seen, other.steps, other.stopped_early)
    if kind == "lora":
        assert [t.stopped_early for t in resumed] == [False, True]


def test_a_fleet_that_is_trained_is_not_trained_again_whole_or_in_part(tmp_path):
    model, recipe = tiny.model(), made("lora+rows")
    first = train(model, jobs("lora+rows"), recipe, checkpoint=tmp_path)
    steps = []
    for own in (jobs("lora+rows"), jobs("lora+rows")[1:]):
        again = train(model, own, recipe, checkpoint=tmp_path, progress=lambda *found: steps.append(found))
        for found in again:
            (before,) = (t for t in first if t.name == found.name)
            assert found.digest == before.digest and found.losses == before.losses and found.seconds == before.seconds
            assert found.adapter.spec == before.adapter.spec
    assert not steps


def test_the_last_checkpoint_alone_is_kept_and_nothing_is_where_none_is_wanted(tmp_path):
    model = tiny.model()
    train(model, jobs("rows"), made("rows"), checkpoint=tmp_path / "a")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["fleet-0.safetensors"]
    train(model, jobs("rows"), made("rows", checkpoint_every=0), checkpoint=tmp_path / "b")
    assert not (tmp_path / "b").exists()
    train(model, jobs("rows")[:1], made("rows", checkpoint_every=None), checkpoint=tmp_path / "c")  # done in no time
    assert not (tmp_path / "c").exists()
    train(model, jobs("full"), made("full"), checkpoint=tmp_path / "d")
    assert (tmp_path / "d" / "fleet-0.safetensors").exists()


def test_training_in_turn_keeps_each_by_itself(tmp_path):
    model, recipe = tiny.model(), made("lora")
    first = train(model, jobs("lora"), recipe, together=False, checkpoint=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    again = train(model, jobs("lora"), recipe, together=False, checkpoint=tmp_path)
    assert [t.digest for t in first] == [t.digest for t in again]


@pytest.mark.parametrize(
    "other",
    [
        lambda: (jobs("lora"), made("lora", lr=2e-2)),
        lambda: ([TrainJob(name="a", rows=rows(23), seed=0)], made("lora")),
        lambda: ([TrainJob(name="a", rows=rows(), seed=5)], made("lora")),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, other):
    model = tiny.model()
    train(model, jobs("lora"), made("lora"), checkpoint=tmp_path)
    their_jobs, recipe = other()
    with pytest.raises(
        StoreError, match=r"must be of this model, recipe and rows, got one of another training\. Delete"
    ):
        train(model, their_jobs, recipe, checkpoint=tmp_path)
    with pytest.raises(StoreError, match="got one of another training"):
        train(tiny.model(seed=1), jobs("lora"), made("lora"), checkpoint=tmp_path)


def test_how_often_checkpoints_are_written_may_change(tmp_path):
    killed("lora+rows", tmp_path, at=5)
    (found, _) = train(tiny.model(), jobs("lora+rows"), made("lora+rows", checkpoint_every=5), checkpoint=tmp_path)
    (plain, _) = train(tiny.model(), jobs("lora+rows"), made("lora+rows"))
    assert found.digest == plain.digest


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "fleet-0.safetensors"
    train(tiny.model(), jobs("lora"), made("lora"), checkpoint=tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        StoreError, match=r"checkpoint must be a whole file of ours, got one that cannot be read\. Delete"
    ):
        train(tiny.model(), jobs("lora"), made("lora"), checkpoint=tmp_path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="must be writable, got"):
        train(tiny.model(), jobs("lora"), made("lora"), checkpoint=tmp_path / "file")


def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint(tmp_path):
    recipe = made("full", lr=1e30, warmup=0, clip=None, checkpoint_every=1)
    for _ in range(2):  # the second time it goes on from there and fails alike
        with pytest.raises(TrainingError, match="must be finite, got nan at step 1"):
            train(tiny.model(), jobs("full"), recipe, checkpoint=tmp_path)
        assert (tmp_path / "fleet-0.safetensors").exists()


def test_one_is_due_after_a_minute(tmp_path, monkeypatch):
    import gnothi.finetune.checkpoint as module

    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    kept = Checkpoint(tmp_path / "c", ["key"], None)
    assert kept.load() is None and not kept.due(1)
    clock[0] += 59
    assert not kept.due(2) and kept.due_at_end()
    clock[0] += 2
    assert kept.due(3)
    kept.save({"x": torch.ones(1)}, {"step": 3})
    assert not kept.due(4) and not kept.due_at_end()
    found = kept.load()
    assert found is not None and found.facts == {"step": 3} and not found.over and found.tensors["x"] == 1
