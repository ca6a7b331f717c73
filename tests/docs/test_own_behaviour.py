"""The page on a behaviour of one's own: its code is the example's, its commands run, its claims hold."""

import re
import shlex
from pathlib import Path

import pytest

import gnothi
from gnothi import cli, pipeline

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-behaviour.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "lexicographic.py"


def commands() -> list[list[str]]:
    (block,) = re.findall(r"```bash\n(.*?)```", PAGE, re.S)
    return [shlex.split(line)[1:] for line in block.splitlines()]


def test_the_page_shows_the_example_and_is_short():
    code = re.findall(r"```python\n(.*?)```", PAGE, re.S)[0]
    assert EXAMPLE.read_text(encoding="utf-8").partition('"""\n\n')[2] == code
    assert len(PAGE.splitlines()) < 60


def run(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> gnothi.Run:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["gnothi", *words, "--out", str(folder), "--engine", "inline"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (None, 0)
    return gnothi.load(folder)


def test_a_script_that_follows_the_rule_passes_the_gate_and_meets_the_ceiling(tmp_path, monkeypatch):
    found = run(commands()[0], tmp_path / "run", monkeypatch).estimates.set_index(["name", "arm"])["value"]
    assert found["behaviour.choice_agreement", "tuned"] == 1
    ceiling = found["reliability.perfect_chooser", "tuned"]
    assert ceiling < 0.95  # a weighted sum is not the rule
    assert found["agreement.learned_vs_target", "tuned"] == pytest.approx(ceiling)
    assert found["agreement.reported_vs_learned", "tuned"] == pytest.approx(ceiling, abs=0.01)


def test_the_same_from_python(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pipeline, "write_page", lambda *_: None)
    options = {"behaviour": "examples/lexicographic.py:Lexicographic", "report_training": False, "quick": True}
    found = gnothi.run(model="scripted/oracle", out=tmp_path / "run", engine="inline", progress=False, **options)
    assert found.spec["behaviour"] == options["behaviour"]
    assert set(found.units["unit"]) == {"base", "tuned-0", "shuffled-0"}


@pytest.mark.slow
def test_the_organism_learns_the_rule_from_choices(tmp_path, monkeypatch):
    found = run(commands()[1], tmp_path / "run", monkeypatch).estimates.set_index(["name", "arm"])
    assert found.loc[("behaviour.choice_agreement", "tuned"), "value"] > 0.75
    assert found.loc[("agreement.reported_vs_learned", "tuned"), "gate"] == "passed"
