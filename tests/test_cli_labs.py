"""`gnothi lab`, and every other command on a lab's run: stdout is for machines, bad input is one line and exit code 2."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gnothi import cli
from gnothi.experiments import labs

sys.path.insert(0, str(Path(__file__).parent / "experiments" / "labs"))

HEAVY = ("torch", "transformers", "pandas", "pyarrow", "matplotlib", "scipy.stats")


class Said:
    """What a command said and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture(scope="module", autouse=True)
def known():
    """The example lab, known by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(labs.LABS, "example", "example_lab:Example")
        yield


@pytest.fixture
def gnothi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command line in this process."""

    def call(*words: object) -> Said:
        monkeypatch.setattr("sys.argv", ["gnothi", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Said(ended.value.code or 0, said.out, said.err)

    return call


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made by the command."""
    folder = tmp_path_factory.mktemp("runs") / "example"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["gnothi", "lab", "example", "--quick", "--out", str(folder), "--engine", "inline"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert not ended.value.code and (folder / "report.html").is_file()
    return folder


def test_a_lab_is_run_and_its_last_line_is_json(gnothi, tmp_path: Path):
    words = ("lab", "example", "--quick", "--seeds", 2, "--seed", 5, "--set", "steps=12", "--engine", "inline")
    said = gnothi(*words, "--out", tmp_path / "a")
    assert said.code == 0 and len(said.out.splitlines()) == 1
    found = json.loads(said.out)
    assert found["slope"]["arm"] == "tuned" and found["slope"]["n"] == 2 and found["slope"]["low"] is None
    assert "example.slope:" in said.err and "control" in said.err and "null control" not in said.err
    spec = json.loads((tmp_path / "a" / "spec.json").read_text())["spec"]
    assert (spec["seed"], spec["seeds"], spec["steps"], spec["quick"]) == (5, 2, 12, True)
    again = gnothi(*words, "--out", tmp_path / "a")  # the same words go on with a run; here nothing is left to do
    assert again.out == said.out


def test_a_dry_run_prints_spec_and_jobs_and_does_nothing(gnothi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    said = gnothi("lab", "example", "--dry-run")
    found = json.loads(said.out)
    assert said.code == 0 and found["spec"]["experiment"] == "example" and found["jobs"]["tuned-0"] == ["tuned-0"]
    assert not list(tmp_path.iterdir())


def test_without_out_a_run_goes_to_a_folder_of_its_own(gnothi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert gnothi("lab", "example", "--quick", "--engine", "inline").code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("lab-example-tiny-")


@pytest.mark.parametrize(
    "words, said",
    [
        (("lab", "exampel"), "LAB must be one of tracr, pcfg, stories"),
        (("lab", "exampel"), "Did you mean example?"),
        (("lab", "tracer"), "Did you mean tracr?"),
        (("lab", "lsit"), "Did you mean list?"),
        (("lab", "example", "--size", "larg"), "--size must be one of tiny, small, paper, got 'larg'"),
        (("lab", "example", "--set", "stpes=3"), "Did you mean steps?"),
        (("lab", "example", "--set", "steps"), "--set must be field=value, got 'steps'"),
        (("lab", "example", "--set", "seeds=0"), "--seeds must be a whole number of at least 1, got 0"),
        (("lab", "example", "--set", "steps=[1"), "--set steps must have a plain value"),
        (("lab", "example", "--engine", "rocket"), "--engine must be one of pool, inline"),
        (("lab", "example", "--out", "file"), "--out must name a folder, got the file file"),
        (("run", "tracr"), "got the lab tracr. Start it with `gnothi lab tracr`."),
        (("run", "example", "--quick"), "`gnothi lab example`"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    gnothi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple, said: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    found = gnothi(*words)
    assert found.code == 2 and not found.out
    assert len(found.err.splitlines()) == 1 and found.err.startswith("gnothi: ") and said in found.err, found.err
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "words", [("--seeds", "0"), ("--seed", "-1"), ("--seeds", "many"), ("--nosuch",), ("--workers", "0")]
)
def test_what_the_terminal_library_refuses_ends_with_2_as_well(gnothi, words: tuple[str, ...]):
    assert gnothi("lab", "example", *words).code == 2


def test_a_run_is_shown_in_every_form(gnothi, run: Path):
    rows = json.loads(gnothi("show", run, "--json").out)
    contract = {"name", "arm", "value", "low", "high", "n", "n_points", "n_missing", "method", "reason"}
    assert all(contract <= set(row) for row in rows)
    slope = next(r for r in rows if (r["name"], r["arm"]) == ("example.slope", "tuned"))
    assert abs(slope["value"] - 2) < 0.3 and slope["low"] is None and slope["reason"]
    assert next(r for r in rows if r["name"] == "example.never")["value"] is None
    assert gnothi("show", run, "--csv").out.count("\n") == 1 + len(rows)
    assert r"\toprule" in gnothi("show", run, "--latex").out
    assert "example.slope\ttuned" in gnothi("show", run).out


def test_on_a_terminal_each_name_says_what_it_is(gnothi, run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    plain = re.sub(r"\x1b\[[\d;]*m", "", gnothi("show", run).out)
    assert "example.slope  the slope that a line has learned" in plain


def test_a_run_is_listed_reported_resumed_compared_and_removed(gnothi, run: Path, tmp_path: Path):
    other = tmp_path / "other"
    assert gnothi("lab", "example", "--quick", "--seed", 3, "--out", other, "--engine", "inline").code == 0
    header, row = gnothi("list", run.parent).out.splitlines()
    found = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert (found["experiment"], found["model"], found["state"]) == ("example", "size tiny", "finished")
    assert gnothi("report", run).out.strip() == str(run / "report.html")
    resumed = gnothi("resume", other, "--engine", "inline")
    assert resumed.code == 0 and json.loads(resumed.out)["slope"]["n"] == 1
    compared = gnothi("compare", run, other, "--json")
    assert compared.code == 0 and compared.err == "seed: 0 | 3\n"
    assert {r["arm"] for r in json.loads(compared.out) if r["name"] == "example.slope"} == {"tuned", "shuffled"}
    assert gnothi("clean", other, "--yes").code == 0 and not other.exists()


def test_an_altered_run_is_refused(gnothi, run: Path, tmp_path: Path):
    import shutil

    altered = shutil.copytree(run, tmp_path / "altered")
    table = altered / "units" / "tuned-0" / "curve.parquet"
    table.write_bytes(table.read_bytes()[:-1])
    said = gnothi("show", altered)
    assert said.code == 2 and "curve.parquet must be as it was written, got an altered file" in said.err


def test_every_lab_is_listed_with_what_it_shows_and_costs(gnothi, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(labs, "LABS", {"example": labs.LABS["example"]})
    header, first, second = gnothi("lab", "list").out.splitlines()
    assert header.split("\t") == ["lab", "command", "cost", "shows"]
    assert first.split("\t")[:3] == ["example", "gnothi lab example --size tiny", "a second"]
    assert second.split("\t")[1] == "gnothi lab example --quick"


@pytest.mark.parametrize("words", [("--help",), ("lab", "--help"), ("lab", "list"), ("lab", "nosuch")])
def test_nothing_heavy_is_loaded_to_say_what_there_is(words: tuple[str, ...]):
    code = (
        "import sys, contextlib, io\nfrom gnothi.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n    main()\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stdout.split(), (done.stdout, done.stderr)
