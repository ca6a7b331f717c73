"""A run survives being killed, interrupted, cut short of disk and edited by hand; its numbers never differ."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

import gnothi as gnothi_api
from gnothi import pipeline
from gnothi.errors import SpecError, StoreError
from gnothi.experiments.preferences import EXPERIMENT
from gnothi.housekeeping import list_runs, remove_run
from gnothi.store import RunFolder


def copied(finished, tmp_path, name="run"):
    shutil.copytree(finished, tmp_path / name)
    return tmp_path / name


def numbers(path):
    """Every estimate, exactly."""
    return [e.to_json() for e in RunFolder.open(path).estimates()]


def whole_units(path):
    """Files of units that are whole, with the time they were written."""
    units = path / "units"
    if not units.exists():
        return {}
    found = [f for u in units.glob("[!.]*") for f in u.rglob("*") if f.is_file()]
    return {f: f.stat().st_mtime_ns for f in found}


def temporaries(path):
    return [p for p in path.rglob(".*") if p.name != ".lock"]


def wait_for(condition, process, seconds=60):
    until = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.002)


def kill_group(process, number=signal.SIGKILL):
    os.killpg(process.pid, number)
    return process.wait()


def test_numbers_after_kills_at_every_stage_are_those_of_an_undisturbed_run(gnothi, finished, tmp_path):
    path = tmp_path / "run"
    args = [*gnothi.small, "--out", "run", "--workers", "2"]
    moments = {
        "spec": lambda: (path / "spec.json").exists(),
        "a unit under way": lambda: bool(list((path / "units").glob(".*"))) if path.exists() else False,
        "one unit whole": lambda: len(whole_units(path)) >= 4,
        "numbers, no page": lambda: (path / "run.json").exists(),
    }
    kills, before = 0, {}
    for n, (moment, reached) in enumerate(moments.items()):
        process = gnothi.start(*(args if n % 2 == 0 else ["resume", "run"]))
        wait_for(reached, process)
        if process.poll() is None:
            kill_group(process)
            kills += 1
        after = whole_units(path)
        assert before.items() <= after.items(), moment
        before = after
    assert kills == len(moments) and not (path / "report.html").exists()
    assert numbers(path) == numbers(finished)
    done = gnothi("resume", "run")
    assert done.returncode == 0, done.stderr
    assert whole_units(path) == before and not temporaries(path)
    assert numbers(path) == numbers(finished) and (path / "report.html").exists()


@pytest.mark.slow
def test_an_organism_killed_while_it_trains_gives_the_same_numbers(gnothi, tmp_path):
    args = ["run", "preferences", "--quick", "--seed", "3", "--out"]
    assert gnothi(*args, "a", timeout=1200).returncode == 0
    before = {}
    path = tmp_path / "b"
    for units in (0, 1, 3):
        process = gnothi.start(*args, "b")
        wait_for(lambda units=units: path.exists() and len(list(path.glob("units/[!.]*"))) >= units, process, 900)
        time.sleep(2)
        kill_group(process)
        assert before.items() <= whole_units(path).items()
        before = whole_units(path)
    assert gnothi(*args, "b", timeout=1200).returncode == 0
    assert before.items() <= whole_units(path).items() and before
    assert numbers(tmp_path / "a") == numbers(path) and not temporaries(path)


def test_ctrl_c_is_one_line_and_the_run_goes_on_later(gnothi, finished, tmp_path):
    path = tmp_path / "run"
    process = gnothi.start(*gnothi.small, "--out", "run")
    wait_for(lambda: len(whole_units(path)) >= 4, process)
    assert kill_group(process, signal.SIGINT) == 130
    words = (tmp_path / "words").read_text()
    assert "Traceback" not in words and words.splitlines()[-1].startswith("gnothi: interrupted; `gnothi resume RUN`")
    assert not temporaries(path)
    before = whole_units(path)
    process = gnothi.start("resume", "run")
    wait_for((path / "run.json").exists, process)
    kill_group(process)
    assert numbers(path) == numbers(finished) and before.items() <= whole_units(path).items()


def test_a_worker_killed_alone_costs_nothing_but_time(gnothi, finished, tmp_path):
    path = tmp_path / "run"
    process = gnothi.start(*gnothi.small, "--out", "run", "--workers", "1")
    wait_for(lambda: path.exists() and bool(list((path / "units").glob(".*"))), process)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    for child in children.stdout.split():
        os.kill(int(child), signal.SIGKILL)
    assert children.stdout.split()
    wait_for((path / "run.json").exists, process)
    kill_group(process)
    assert numbers(path) == numbers(finished)


def test_a_second_process_is_refused_while_the_first_goes_on(gnothi, finished, tmp_path, monkeypatch):
    path = copied(finished, tmp_path)
    with RunFolder.open(path).lock():
        assert "one process at a time, got a run already under way there" in gnothi.refused("resume", "run")
        monkeypatch.setattr("gnothi.store._WAIT", 0.0)
        for write in (pipeline.rewrite, remove_run):
            with pytest.raises(OSError, match="one process at a time"):
                write(path)
    assert numbers(path) == numbers(finished)


@pytest.mark.parametrize(
    "limit", [pytest.param(6_000, id="workers"), pytest.param(300_000, id="page", marks=pytest.mark.slow)]
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(gnothi, finished, tmp_path, limit):
    path = tmp_path / "run"

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    said = gnothi.refused(*gnothi.small, "--out", "run", preexec_fn=small_disk)
    assert "must be writable, got File too large. Free space" in said and str(path.name) in said
    assert not temporaries(path) and not (path / "report.html").exists()
    before = whole_units(path)
    if limit > 100_000:
        assert numbers(path) == numbers(finished)
    else:
        assert not (path / "run.json").exists()
        process = gnothi.start("resume", "run")
        wait_for((path / "run.json").exists, process)
        kill_group(process)
    assert numbers(path) == numbers(finished) and before.items() <= whole_units(path).items()


def test_a_folder_that_cannot_be_written_is_one_line(finished, gnothi, tmp_path):
    path = copied(finished, tmp_path)
    folders = [p for p in (path, *path.rglob("*")) if p.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        if (
            parent.owner() == "root" == tmp_path.owner()
            and parent != parent.parent
            and parent.name.startswith("pytest")
        ):
            parent.chmod(0o755)
    options = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    try:
        if (
            options
            and subprocess.run(["ls", sys.executable, path], **options, check=False, capture_output=True).returncode
        ):
            pytest.skip("another user cannot read the environment that tests run in")
        (path / ".lock").unlink(missing_ok=True)
        assert "must be writable, got Permission denied" in gnothi.refused("report", "run", **options)
        assert "must be writable, got Permission denied" in gnothi.refused("resume", "run", **options)
        assert gnothi("show", "run", "--json", **options).returncode == 0
    finally:
        for folder in folders:
            folder.chmod(0o755)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "a table flipped": lambda p: flip(p / "units/tuned-0/choices.parquet"),
    "a table cut": lambda p: os.truncate(p / "units/base/reports.parquet", 50),
    "a record edited": lambda p: flip(p / "units/base/unit.json"),
    "a unit gone": lambda p: shutil.rmtree(p / "units/shuffled-0"),
    "the closing record edited": lambda p: flip(p / "run.json"),
    "the closing record cut": lambda p: os.truncate(p / "run.json", 5),
    "the estimates flipped": lambda p: flip(p / "estimates.parquet"),
    "the estimates gone": lambda p: (p / "estimates.parquet").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_and_the_advice_mends_it(finished, tmp_path, damage):
    path = copied(finished, tmp_path)
    damage(path)
    spec = json.loads((path / "spec.json").read_text())["spec"]
    messages = set()
    for read in (
        lambda: RunFolder.open(path).estimates(),
        lambda: pipeline.run(spec, path),
        lambda: pipeline.rewrite(path),
    ):
        with pytest.raises(OSError, match=r"(D|d)elete") as caught:
            read()
        messages.add(str(caught.value))
    assert len(messages) == 1
    said = messages.pop()
    # the advice, taken at its word
    if "Delete that unit's folder and run.json, then resume" in said:
        unit = said.split("/units/")[1].split("/")[0].split()[0]
        shutil.rmtree(path / "units" / unit)
        (path / "run.json").unlink()
    else:
        assert "Delete run.json and resume" in said
        (path / "run.json").unlink()
    (path / "report.html").unlink()
    pipeline_run_without_page(spec, path)
    assert numbers(path) == numbers(finished)


def pipeline_run_without_page(spec, path):
    """`resume`, stopped once the numbers are there: pictures take longest and nothing here is about them."""
    code = "import json, sys; from pathlib import Path; from gnothi import pipeline; "
    code += "pipeline.run(json.loads(sys.argv[1]), Path(sys.argv[2]), engine='inline')"
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(spec), str(path)])
    wait_for((path / "run.json").exists, process)
    process.kill()
    process.wait()


def test_a_unit_put_there_by_hand_is_not_scored(finished, tmp_path):
    path = copied(finished, tmp_path)
    shutil.copytree(path / "units/tuned-0", path / "units/tuned-7")
    spec = json.loads((path / "spec.json").read_text())["spec"]
    with pytest.raises(OSError, match=r"put there later\. Take it out"):
        pipeline.run(spec, path)
    (path / "run.json").unlink()
    with pytest.raises(OSError, match=r"tuned-7 must be a unit of this run's plan.*Take it out"):
        pipeline.run(spec, path)


def test_the_base_unit_can_be_deleted_and_only_it_is_made_again(finished, tmp_path):
    path = copied(finished, tmp_path)
    shutil.rmtree(path / "units/base")
    (path / "run.json").unlink()
    before = whole_units(path)
    pipeline_run_without_page(json.loads((path / "spec.json").read_text())["spec"], path)
    assert before.items() < whole_units(path).items() and numbers(path) == numbers(finished)


def test_no_scripted_run_loads_torch(tmp_path, gnothi):
    code = "import sys; from gnothi.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "sys.exit(str([m for m in ('torch', 'transformers') if m in sys.modules]))"
    args = [*gnothi.small, "--out", "run", "--engine", "inline", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"
    code = (
        "import sys; import gnothi.worker, gnothi.experiments.preferences.unit, gnothi.experiments.preferences.page\n"
    )
    code += "sys.exit(str([m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


OWN = """
from pathlib import Path
from gnothi.behaviours.preferences import Preferences
Path("it-ran").touch()

class Mine(Preferences):
    name = "mine"
"""


def test_a_foreign_run_folder_runs_no_code_of_its_own(gnothi, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    path, ran = tmp_path / "run", tmp_path / "it-ran"
    done = gnothi(*gnothi.small, "--behaviour", "mine.py:Mine", "--dry-run")
    spec = json.loads(done.stdout)["spec"]
    assert spec["behaviour"] == "mine.py:Mine" and len(spec["behaviour_digest"]) == 64
    pipeline_run_without_page(spec, path)
    ran.unlink()
    for command in ("resume", "report"):
        said = gnothi.refused(command, "run")
        assert "must name the code that run loads, got none" in said and "`--behaviour mine.py:Mine`" in said
    for read in (pipeline.rewrite, pipeline.checked_spec):
        with pytest.raises(SpecError, match=r"must be what the run was started with, 'mine\.py:Mine', got 'other"):
            read(path, behaviour="other.py:Mine")
    with pytest.raises(SpecError, match="must name the code"):
        _ = gnothi_api.load(path).points
    assert numbers(path) and str(path) in str(list_runs(tmp_path))
    assert not ran.exists()
    (tmp_path / "mine.py").write_text(OWN + "\n# edited\n")
    for read in (pipeline.rewrite, pipeline.checked_spec):
        with pytest.raises(SpecError, match="got a file edited since"):
            read(path, behaviour="mine.py:Mine")
    edited = EXPERIMENT.build("scripted/oracle", quick=True, behaviour="mine.py:Mine")
    with pytest.raises(StoreError, match=r"differs in .*behaviour_digest"):
        RunFolder.create(path, edited)
    (tmp_path / "mine.py").write_text(OWN)
    assert pipeline.checked_spec(path, behaviour="mine.py:Mine") == spec
    assert len(gnothi_api.load(path, behaviour="mine.py:Mine").points)


def test_python_opens_a_run_of_ours_without_asking(finished):
    run = gnothi_api.load(finished)
    assert len(run.points) and len(run.answers) and set(run.units["arm"]) == {"untuned", "tuned", "shuffled"}
    with pytest.raises(SpecError, match="must be what the run was started with, 'preferences'"):
        pipeline.open_trusted(finished, "other.py:Mine")
