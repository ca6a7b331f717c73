import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gnothi.errors import SpecError
from gnothi.executor import IDLE_DEATHS, Job, check_engine, execute, ready
from gnothi.store import RunFolder

WORK = """
import os, signal, sys, time
from pathlib import Path
from gnothi.errors import SpecError, TrainingError

def work(folder, job, report):
    folder, what = Path(folder), job.payload.get("what", "")
    with (folder / "began").open("a") as log:
        log.write(f"{job.name} {os.getpid()}\\n")
    report(job.name, 1, 2, "half")
    print("a library that chatters")
    if what == "die" or (what == "die once" and not (folder / "died").exists()):
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "mend me":
        raise SpecError("x must be y, got z.")
    if what == "diverge":
        raise TrainingError("loss must be finite, got inf.")
    if what == "bug":
        raise ZeroDivisionError("oh\\nno")
    time.sleep(job.payload.get("sleep", 0))
    (folder / job.name).write_text("whole")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "work_for_tests.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.delitem(sys.modules, "work_for_tests", raising=False)
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def go(folder, jobs, engine="pool", workers=2, report=lambda *_: None):
    options = {"function": "work_for_tests:work", "folder": folder, "engine": engine, "workers": workers}
    return execute(jobs, report=report, **options)


def job(name, *after, **payload):
    return Job(name=name, after=after, payload=payload)


def began(folder):
    return [line.split()[0] for line in (folder / "began").read_text().splitlines()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("engine", ["inline", "pool"])
def test_jobs_run_after_those_they_wait_for_and_say_how_it_goes(folder, engine, capfd):
    seen = []
    jobs = [job("c", "a", "b"), job("b", "a"), job("a"), job("d", "whole before")]
    assert go(folder, jobs, engine, report=lambda *step: seen.append(step)) == []
    order = began(folder)
    assert order.index("a") < order.index("b") < order.index("c") and sorted(order) == ["a", "b", "c", "d"]
    for name in "abcd":
        assert (folder / name).read_text() == "whole"
        assert seen.index((name, 1, 2, "half")) < seen.index((name, 1, 1, "done"))
    if engine == "pool":
        assert capfd.readouterr().out == ""  # what a library prints in a worker goes to standard error


@pytest.mark.parametrize("engine", ["inline", "pool"])
def test_a_bug_costs_its_job_and_what_waits_for_it_and_nothing_else(folder, engine):
    found = go(folder, [job("a", what="bug"), job("b", "a"), job("c"), job("d", what="diverge")], engine)
    by_name = {f.job: f for f in found}
    assert set(by_name) == {"a", "d"} and sorted(set(began(folder))) == ["a", "c", "d"]
    assert by_name["a"].message == "ZeroDivisionError: oh\nno" and "Traceback" in by_name["a"].details
    assert not by_name["a"].expected and not by_name["d"].expected
    assert by_name["d"].message == "loss must be finite, got inf." and by_name["d"].kind == "TrainingError"


@pytest.mark.parametrize("engine", ["inline", "pool"])
def test_what_the_user_must_mend_stops_the_rest(folder, engine):
    found = go(folder, [job("a", what="mend me"), *(job(f"x{i}", sleep=0.2) for i in range(9))], engine)
    assert [(f.job, f.message, f.expected, f.kind) for f in found] == [("a", "x must be y, got z.", True, "SpecError")]
    assert len(began(folder)) < 10


def test_a_job_whose_worker_is_killed_is_tried_once_more(folder):
    assert go(folder, [job("a", what="die once"), job("b", "a"), job("c")]) == []
    assert began(folder).count("a") == 2 and (folder / "b").read_text() == "whole"


def test_a_job_whose_worker_is_killed_twice_is_named(folder):
    found = go(folder, [job("a", what="die"), job("b", "a"), job("c")])
    assert [(f.job, f.expected) for f in found] == [("a", False)]
    assert found[0].message == "the worker on a ended twice without a word (exit code -9)"
    assert began(folder).count("a") == 2 and "b" not in began(folder) and (folder / "c").exists()


def test_workers_that_cannot_start_are_named_and_not_started_for_ever(folder, monkeypatch, capfd):
    monkeypatch.setattr("sys.executable", "/bin/false")
    found = go(folder, [job(f"x{i}") for i in range(2)], workers=2)
    assert {f.job for f in found} == {"x0", "x1"} and IDLE_DEATHS < 20
    assert all("ended twice" in f.message or "no worker process" in f.message for f in found)


PARENT = """
import sys
from pathlib import Path
from gnothi.executor import Job, execute
from gnothi.store import RunFolder
run = RunFolder.create(Path(sys.argv[1]), {"experiment": "x"})
jobs = [Job(name=f"slow{i}", payload={"sleep": 60}) for i in range(2)]
with run.lock() as held:
    execute(jobs, function="work_for_tests:work", folder=run.path, engine="pool", workers=2,
            report=lambda *_: None, held=(held,))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_of_a_killed_parent_end_at_once_and_let_go_of_the_run(folder, tmp_path, how):
    path = tmp_path / "run"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "code")}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(path)], env=env)
    until = time.monotonic() + 20
    while not (path / "began").exists() or len(began(path)) < 2:
        assert time.monotonic() < until and parent.poll() is None
        time.sleep(0.02)
    pids = [int(line.split()[1]) for line in (path / "began").read_text().splitlines()]
    assert all(map(alive, pids))
    os.kill(parent.pid, how)
    parent.wait()
    with RunFolder.open(path).lock():
        assert not any(map(alive, pids))


def test_a_worker_holds_the_lock_that_it_was_given(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("gnothi.store._WAIT", 0.2)
    run = RunFolder.create(tmp_path / "run", {"experiment": "x"})
    with run.lock() as held:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(held,))
    try:
        with pytest.raises(OSError, match="one process at a time"), run.lock():
            pass
    finally:
        child.communicate()
    with run.lock():
        pass


def test_jobs_are_ready_when_nothing_that_they_wait_for_is_left():
    waiting = {j.name: j for j in (job("a"), job("b", "a"), job("c", "z"))}
    assert [j.name for j in ready(waiting, set())] == ["a"]
    assert [j.name for j in ready(waiting, {"z"})] == ["a", "c"]


def test_bad_engines_are_refused():
    with pytest.raises(SpecError, match="--engine must be one of pool, inline, got 'ray'"):
        check_engine("ray", 2)
    with pytest.raises(SpecError, match="--workers must be at least 1, got 0"):
        check_engine("pool", 0)
    assert execute([], function="x:y", folder=Path("."), engine="pool", workers=1, report=lambda *_: None) == []
