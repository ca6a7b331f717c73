"""Any lab: its plan, its units on disk, its numbers and its page; shown on a lab small enough for a test."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gnothi import api, pipeline
from gnothi.comparison import compare_runs
from gnothi.errors import DataError, SpecError, StoreError, TrainingError
from gnothi.executor import Job
from gnothi.experiments import labs
from gnothi.experiments.labs import page, plan, unit
from gnothi.experiments.labs.base import LabJob, UnitData
from gnothi.records import Estimate
from gnothi.store import RunFolder

sys.path.insert(0, str(Path(__file__).parent))
import example_lab
import example_work

HERE = Path(__file__).parent
PLACES = os.pathsep.join([str(HERE), *filter(None, sys.path)])


@pytest.fixture(autouse=True, scope="module")
def known():
    """The example lab, known by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(labs.LABS, "example", "example_lab:Example")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, undisturbed."""
    folder = tmp_path_factory.mktemp("labs") / "whole"
    run, failures = pipeline.run(plan.build("example"), folder, engine="inline")
    assert run.finished and not failures
    return folder


def text_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_every_job_leaves_one_unit_with_a_key_of_all_that_decides_it():
    first, second = plan.jobs(plan.lab_of(plan.build("example"))), plan.jobs(plan.lab_of(plan.build("example", seed=1)))
    assert [job.name for job, _ in first][:3] == ["points", "tuned-0", "shuffled-0"]
    assert all(set(units) == {job.name} for job, units in first)
    keys = [k for _, units in first for k in units.values()]
    assert len(set(keys)) == len(keys) == 7
    assert not set(keys) & {k for _, units in second for k in units.values()}


@pytest.mark.parametrize(
    "jobs, said",
    [
        ([LabJob(name="Big")], "name of its own in small letters"),
        ([LabJob(name="../up")], "name of its own in small letters"),
        ([LabJob(name="a"), LabJob(name="a")], "name of its own"),
        ([LabJob(name="a", after=("b",)), LabJob(name="b")], "must come after jobs before it, got 'b'"),
        ([LabJob(name="a", arm="nobody")], "must be of an arm that the lab names, got 'nobody'"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(monkeypatch: pytest.MonkeyPatch, jobs: list[LabJob], said: str):
    monkeypatch.setattr(example_lab.Example, "jobs", lambda _: jobs)
    with pytest.raises(DataError, match=said):
        plan.jobs(plan.lab_of(plan.build("example")))


@pytest.mark.parametrize(
    "name, options, said",
    [
        ("exampel", {}, r"LAB must be one of .*, got 'exampel'\. Did you mean example\?"),
        ("xyz", {}, "got 'xyz'. There are "),
        ("example", {"size": "smal"}, r"--size must be one of tiny, small, paper, got 'smal'\. Did you mean small\?"),
        ("example", {"stesp": 3}, "Did you mean steps"),
        ("example", {"steps": 0}, "--set steps must be a whole number"),
        ("example", {"seeds": 0}, "--seeds must be a whole number of at least 1, got 0"),
        ("example", {"seeds": "many"}, "--seeds must be a whole number"),
        ("example", {"seed": -1}, "--seed must be a whole number of at least 0, got -1"),
        ("example", {"seed": True}, "--seed must be a whole number"),
        ("example", {"experiment": "risk"}, "--set experiment must be left out"),
    ],
)
def test_bad_words_are_refused_with_the_nearest_right_one(name: str, options: dict, said: str):
    with pytest.raises(SpecError, match=said):
        plan.build(name, **options)


def test_where_the_usual_headline_s_arm_is_no_part_of_a_run_the_first_one_that_is_answers(
    whole: Path, monkeypatch: pytest.MonkeyPatch
):
    lab, estimates = plan.lab_of(plan.build("example")), RunFolder.open(whole).estimates()
    assert plan.headline(lab, estimates) == ("example.slope", "tuned")
    monkeypatch.setattr(example_lab.Example, "headline", ("example.slope", "gone"))
    assert plan.headline(lab, estimates) == ("example.slope", "tuned")
    assert plan.headline(lab, []) == ("example.slope", "gone")


# -- units on disk -----------------------------------------------------------------------------------------------------


def folder_of_a_unit(tmp_path: Path, made: UnitData) -> unit.StoredUnits:
    run = RunFolder.create(tmp_path / "run", plan.build("example"))
    with run.writing("one", "key") as path:
        unit.write_unit(path, LabJob(name="one", arm="tuned", seed=2), made, seconds=1.5)
    return unit.StoredUnits(run)


def test_a_unit_comes_back_as_it_was_made(tmp_path: Path):
    table = pd.DataFrame({"k": [1, 2], "name": ["a", None], "x": [0.5, np.nan]})
    tensors = {
        "half": torch.ones(3, dtype=torch.bfloat16),
        "view": torch.arange(6).reshape(2, 3).T,
        "one": torch.zeros(()),
    }
    record = {
        "n": np.int64(3),
        "list": (1, np.float32(0.5)),
        "deep": {"a": np.array([1, 2])},
        "none": None,
        "losses": [1.0, None],
    }
    units = folder_of_a_unit(
        tmp_path, UnitData(record=record, tables={"t": table, "no_rows": table.iloc[:0]}, tensors=tensors)
    )
    found = units.record("one")
    assert (found["n"], found["list"], found["deep"], found["none"]) == (3, [1, 0.5], {"a": [1, 2]}, None)
    assert (found["arm"], found["seed"], found["losses"], found["seconds"]) == ("tuned", 2, [1.0, None], 1.5)
    pd.testing.assert_frame_equal(units.table("one", "t"), table)
    assert list(units.table("one", "no_rows").columns) == ["k", "name", "x"] and units.tables("one") == ["no_rows", "t"]
    for name, value in units.tensors("one").items():
        assert value.dtype == tensors[name].dtype and torch.equal(value, tensors[name])


def test_a_table_that_is_read_twice_is_one_s_own(tmp_path: Path):
    units = folder_of_a_unit(tmp_path, UnitData(tables={"t": pd.DataFrame({"k": [1]})}))
    table = units.table("one", "t")
    table.loc[0, "k"] = 99
    assert units.table("one", "t")["k"].tolist() == [1]


@pytest.mark.parametrize(
    "made, kind, said",
    [
        (UnitData(record={"x": float("nan")}), TrainingError, "record of one: x must be finite, got nan"),
        (UnitData(record={"arm": "mine"}), DataError, "must leave 'arm' to the store"),
        (UnitData(record={"x": object()}), DataError, "must be plain values, got object"),
        (UnitData(tables={"loss": pd.DataFrame()}), DataError, "must not be called 'loss'"),
        (UnitData(tables={"t": pd.DataFrame({"x": [1, "a"]})}), DataError, "must have one type in each column"),
        (UnitData(tensors={"t": np.zeros(3)}), DataError, "must hold torch tensors, got ndarray"),
    ],
)
def test_what_no_unit_can_hold_is_refused_and_leaves_nothing(tmp_path: Path, made: UnitData, kind: type, said: str):
    with pytest.raises(kind, match=said):
        folder_of_a_unit(tmp_path, made)
    assert not list((tmp_path / "run" / "units").iterdir())


def test_a_job_reads_only_what_it_waits_for(whole: Path):
    bench = unit.StoredBench(RunFolder.open(whole), LabJob(name="late", after=("points",)), lambda *_: None)
    assert torch.is_tensor(bench.parent("points").tensors["x"])
    with pytest.raises(StoreError, match="must come after what it reads, got 'tuned-0'"):
        bench.parent("tuned-0")


def test_a_stage_called_done_does_not_end_the_job():
    said = []
    run = RunFolder(Path("nowhere"), {})
    unit.StoredBench(run, LabJob(name="a"), lambda *words: said.append(words)).report(1, 2, "done")
    assert said == [("a", 1, 2, "finish")]


def test_a_job_goes_on_from_its_checkpoint_and_then_drops_it(tmp_path: Path):
    run = RunFolder.create(tmp_path / "run", plan.build("example", seeds=1))
    (points, _), (tuned, units) = plan.jobs(plan.lab_of(run.spec))[:2]
    unit.run_job(str(run.path), points, lambda *_: None)

    def stop(_job: str, done: int, _total: int, _stage: str) -> None:
        if done == 35:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unit.run_job(str(run.path), tuned, stop)
    assert run.checkpoints("tuned-0").is_dir() and not run.has("tuned-0", units["tuned-0"])
    unit.run_job(str(run.path), Job(name=tuned.name, after=tuned.after, payload=tuned.payload), lambda *_: None)
    record = unit.StoredUnits(run).record("tuned-0")
    assert record["resumed_from"] == 30 and len(record["losses"]) == 60
    assert not (run.path / "checkpoints").exists()


# -- a run -------------------------------------------------------------------------------------------------------------


def test_a_run_gives_back_what_was_planted(whole: Path):
    found = {(e.name, e.arm): e for e in RunFolder.open(whole).estimates()}
    tuned, shuffled = found["example.slope", "tuned"], found["example.slope", "shuffled"]
    assert tuned.low < 2.0 < tuned.high and shuffled.low < 0.0 < shuffled.high and tuned.n == 3
    assert found["example.never", "tuned"].value is None and found["example.never", "tuned"].reason


@pytest.mark.slow
def test_a_killed_run_loses_nothing_that_was_whole_and_ends_the_same(whole: Path, tmp_path: Path):
    spec = ["--set", "pause=0.02"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PLACES}
    command = [sys.executable, str(HERE / "example_lab.py")]
    start = [*command, "lab", "example", "--out", "run", *spec]
    process = subprocess.Popen(start, cwd=tmp_path, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    units = tmp_path / "run" / "units"
    until = time.monotonic() + 60
    while time.monotonic() < until and len(list(units.glob("[!.]*/unit.json"))) < 3:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {p.parent.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in units.glob("[!.]*/unit.json")}
    assert 3 <= len(before) < 7 and not (tmp_path / "run" / "run.json").exists()
    again = subprocess.run(
        [*command, "resume", "run"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    after = {p.parent.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in units.glob("[!.]*/unit.json")}
    assert len(after) == 7 and {u: after[u] for u in before} == before
    mine, theirs = (RunFolder.open(p).estimates() for p in (whole, tmp_path / "run"))
    assert [(e.name, e.arm, e.n, e.reason) for e in mine] == [(e.name, e.arm, e.n, e.reason) for e in theirs]
    # the example keeps its slope in single precision between two checkpoints
    assert [e.value for e in mine] == pytest.approx([e.value for e in theirs], abs=1e-7)
    assert json.loads(again.stdout.splitlines()[-1])["slope"]["n"] == 3


@pytest.fixture(scope="module")
def mended(tmp_path_factory: pytest.TempPathFactory):
    """A run of which one unit diverged, then gone on with after the cause was mended; and what was said before."""
    folder = tmp_path_factory.mktemp("labs") / "mended"
    spec = plan.build("example", seed=901, steps=20)
    with pytest.MonkeyPatch.context() as patch:
        run, failures = pipeline.run(spec, folder, engine="inline")
        before = ([f.job for f in failures], run.units(), run.estimates(), text_of(folder))
        patch.setattr(example_work, "BREAKS", 0)
        _, failures = pipeline.run(spec, folder, engine="inline")
    assert not failures
    return folder, before


def test_a_unit_that_diverges_leaves_the_others_and_is_made_again_on_resume(mended):
    folder, (failed, units, estimates, text) = mended
    assert failed == ["tuned-1"] and "shuffled-2" in units
    (tuned,) = [e for e in estimates if (e.name, e.arm) == ("example.slope", "tuned")]
    assert tuned.n == 2 and tuned.low is None and tuned.reason
    assert "Jobs that failed, and are missing from all numbers: tuned-1" in text
    assert "over 2 models, without an interval" in text
    assert "Jobs that failed" not in text_of(folder)
    assert [e.n for e in RunFolder.open(folder).estimates() if (e.name, e.arm) == ("example.slope", "tuned")] == [3]


def test_an_estimate_that_the_lab_does_not_explain_is_refused(whole: Path, monkeypatch: pytest.MonkeyPatch):
    strange = Estimate(
        name="example.strange", arm="a", value=1.0, low=None, high=None, n=1, n_points=1, method="none", reason="one"
    )
    monkeypatch.setattr(example_lab.Example, "score", lambda *_: [strange])
    with pytest.raises(DataError, match=r"must be explained, got 'example\.strange'"):
        plan.score(plan.lab_of(plan.build("example")), unit.StoredUnits(RunFolder.open(whole)))


def test_numbers_are_taken_apart_by_seed_with_all_that_a_seed_rests_on(whole: Path):
    lab = plan.lab_of(plan.build("example"))
    assert plan.of_seed(lab, 2) == ["points", "tuned-2", "shuffled-2"]
    numbers = plan.by_unit(RunFolder.open(whole))
    values = numbers["example.slope", "tuned"].values
    (tuned,) = [e for e in RunFolder.open(whole).estimates() if (e.name, e.arm) == ("example.slope", "tuned")]
    assert sorted(values) == [0, 1, 2] and np.mean(list(values.values())) == pytest.approx(tuned.value)
    assert ("example.never", "tuned") not in numbers


def test_two_runs_are_compared_as_two_groups(whole: Path, mended):
    found = compare_runs([whole, mended[0]])
    assert found.differs == {"seed": ("0", "901"), "steps": ("60", "20")}
    (row,) = [r for r in found.rows if (r["name"], r["arm"]) == ("example.slope", "tuned")]
    assert row["difference"] < 0 and row["difference_high"] < 0 and not row["paired"] and "Welch" in row["method"]


def test_a_run_opens_from_python(whole: Path):
    run = api.load(whole)
    assert "example, size=tiny, seeds=3" in repr(run)
    points = run.points
    assert list(points.columns[:4]) == ["arm", "unit", "seed", "table"] and set(points["table"]) == {"curve"}
    assert len(points) == 6 * 60 and set(run.units["unit"]) == set(RunFolder.open(whole).units())
    drawn = run.plot("the-slope-as-it-is-learned")
    assert drawn.axes and run.plot("effects").axes
    with pytest.raises(DataError, match="the-slope-as-it-is-learned-2"):
        run.plot("nosuch")


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_answers_with_interval_n_and_controls(whole: Path):
    text = text_of(whole)
    said = re.search(r'<p class="says">(.*?)</p>', text)[1]
    assert re.fullmatch(
        r"The slope learned is 2\.\d\d \[1\.\d\d, 2\.\d\d\] over 3 models \(t over 3 units, 95%\); controls beside it: "
        r"example\.loss at 0\.\d+ \[0\.\d+, 0\.\d+\], shuffled at -?0\.\d+ \[-0\.\d+, 0\.\d+\]\.",
        said,
    ), said


def test_the_page_has_pictures_tables_numbers_units_and_the_command(whole: Path):
    text = text_of(whole)
    heads = re.findall(r"<h2>(.*?)</h2>", text)
    assert heads == [
        "The answer and its controls",
        "The slope as it is learned",
        "The slope as it is learned",
        "Beside the truth",
        "All numbers",
        "Learning curves",
        "Units, one by one",
        "Methods",
        "Provenance",
    ]
    assert text.count("<img ") == 4 and "Not drawn: Nothing to see" in text
    assert "the slope that a line has learned" in text and "nothing measures it" in text
    assert "gnothi lab example --size tiny" in text and "A line has one parameter." in text
    for unit_name in RunFolder.open(whole).units():
        assert f"<code>{unit_name}</code>" in text
    for word in ("instil the behaviour", "self-reports", "hoice agreement", "Null control"):
        assert word not in text


def test_pictures_are_files_too(whole: Path):
    names = {p.name for p in (whole / "figures").iterdir()}
    assert {"the-slope-as-it-is-learned.svg", "the-slope-as-it-is-learned-2.png", "effects.csv", "losses.svg"} <= names


def test_the_page_is_written_again_the_same(whole: Path):
    before = text_of(whole)
    pipeline.rewrite(whole)
    assert text_of(whole) == before


def test_the_command_names_what_differs_from_the_size():
    lab = plan.lab_of(plan.build("example", size="small", seed=3, steps=10, quick=True))
    assert page.command(lab) == "gnothi lab example --size small --quick --seed 3 --set steps=10"


def test_names_of_files_stay_in_their_folder():
    assert page.slug("../../etc/passwd") == "etc-passwd" and page.slug("…") == "picture"
