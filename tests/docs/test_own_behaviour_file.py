"""The page on a behaviour of one's own as files: its example is the repository's, its fields are all there are, it runs."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

import gnothi
from gnothi import cli, pipeline
from gnothi.data import own_file

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-behaviour-file.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "politeness"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S)


def test_the_page_shows_the_example():
    assert blocks("yaml")[0] == (EXAMPLE / "politeness.yaml").read_text(encoding="utf-8")
    assert blocks("json")[0] == (EXAMPLE / "demonstrations.jsonl").read_text(encoding="utf-8").splitlines(True)[0]


def test_the_table_names_every_field():
    table = PAGE.split("## The fields")[1].split("## A fine-tune")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert set(own_file.FIELDS) <= named
    assert set(own_file.SPEC_FIELDS) <= named


def test_the_example_is_balanced_and_its_ends_differ_by_answers_alone():
    found = own_file.load(EXAMPLE / "politeness.yaml")
    assert found.facts.same_prompts and found.facts.most_alike == 0.5
    letters = [e.answer for e in found.demonstrations]
    assert letters.count("A") == letters.count("B")
    assert all(a.answer != b.answer for a, b in zip(found.demonstrations, found.opposite, strict=True))


def test_the_first_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = shlex.split(blocks("bash")[0].splitlines()[0])
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pipeline, "write_page", lambda *_: None)
    monkeypatch.setattr("sys.argv", [*words, "--out", str(tmp_path / "run"), "--engine", "inline"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (None, 0)
    found = gnothi.load(tmp_path / "run").estimates.set_index(["name", "arm"])["value"]
    assert found["self_report.difference", "courteous_minus_blunt"] > 0.8


def test_the_same_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (call,) = re.findall(r"`gnothi\.run\((.*?)\)`", PAGE)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pipeline, "write_page", lambda *_: None)
    monkeypatch.setattr(gnothi, "run", lambda *a, **k: _run(tmp_path / "run", *a, **k))
    assert eval(f"gnothi.run({call})", {"gnothi": gnothi}).spec["seeds"] == 5


_original = gnothi.run


def _run(out: Path, *words: str, **options: object) -> gnothi.Run:
    return _original(*words, out=out, engine="inline", progress=False, **options)


def test_the_example_of_a_fine_tune_that_exists_is_a_file_that_reads(tmp_path: Path):
    shutil.copytree(EXAMPLE, tmp_path / "files")
    text = (EXAMPLE / "politeness.yaml").read_text(encoding="utf-8")
    questions = "schema: 1\ntopic: politeness\nquestions:\n" + text.split("questions:\n")[1]
    (tmp_path / "files" / "questions.yaml").write_text(questions, encoding="utf-8")
    path = tmp_path / "files" / "mine.yaml"
    path.write_text(blocks("yaml")[1], encoding="utf-8")
    assert own_file.load(path).facts.demonstrations == 0
    assert own_file.fields(path) == {"adapters": [str(tmp_path / "files" / "my-adapter")]}
