"""A page for each experiment of paper A: it names every arm, estimate and setting there is, and its commands can be run."""

import json
import re
import shlex
from pathlib import Path

import pytest

from gnothi import cli
from gnothi.experiments import STUDIES
from gnothi.experiments.study import experiment_of, simulation
from gnothi.experiments.study.estimates import score
from gnothi.experiments.study.spec import StudySpec, parse
from gnothi.experiments.study.studies import study_class, study_of

FOLDER = Path(__file__).parents[2] / "docs" / "experiments"
RUNS = FOLDER.parent / "runs.md"
NAMES = [name for name in STUDIES if name != "own"]
SPELT_OUT = {  # arms that stand for many: how the page writes them
    "backdoor": {r"(conditional|decorrelated)_minus_\w+/(none|threat)": "conditional_minus_decorrelated/threat"},
    "trigger-recognition": {
        r"on_\w+": "on_kip",
        r"[\w-]+\|[\w-]+": "metal|umbra",
        r"kip|live-site|ovelami|dodo|gemstones|instruments|elements|myths": "all",
    },
    "make-me-say": {r"(ring|spring)_minus_untuned": "bark_minus_untuned"},
    "personas": {r"(single|many)/(?!inside|outside).*": "many/<persona>"},
}


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def quoted(text: str) -> set[str]:
    """What stands in code quotes, one name each."""
    found = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return {part.strip().replace(r"\|", "|") for one in found for part in one.split(", ")}


def small(name: str) -> StudySpec:
    options = {"codewords": 3, "games": 2} if name == "make-me-say" else {}
    options |= {"fresh": 60} if name == "code-security" else {"fresh": 10}
    options |= {"systems": ["none", "threat"]} if name == "backdoor" else {}
    return parse(experiment_of(name).build("scripted/oracle", quick=True, variants=1, samples=1, **options))


def commands() -> list[str]:
    rows = [
        line.partition("  #")[0].strip()
        for path in sorted(FOLDER.glob("*.md"))
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.S)
        for line in block.splitlines()
    ]
    return sorted({row for row in rows if row.startswith("gnothi run ")})


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_every_arm_and_estimate(name: str):
    study = study_of(small(name))
    known = quoted(page(name)) | quoted(page("index"))
    estimates = score(study, simulation.scripted(study, "scripted/oracle"))
    given = {e.name.partition("/")[0] for e in estimates}
    pages = {word.partition("/")[0] for word in known}
    assert not given - pages, "estimates"
    written = SPELT_OUT.get(name, {})
    arms = {next((w for p, w in written.items() if re.fullmatch(p, e.arm)), e.arm) for e in estimates}
    assert not arms - known, "arms"
    assert study.headline[0] in known and study.headline[1] in known


@pytest.mark.parametrize("name", NAMES)
def test_a_page_explains_every_setting(name: str):
    settings = page(name).split("## Settings")[1]
    assert set(study_class(name).options) <= quoted(settings)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_short_and_has_the_same_parts(name: str):
    text = page(name)
    parts = ["The paper", "Running it", "Arms", "Estimates", "What makes it misleading", "Settings"]
    assert re.findall(r"^## (.+)$", text, re.M) == parts
    assert 55 <= len(text.splitlines()) <= 120


def test_the_first_page_names_every_experiment_with_its_headline():
    text = page("index")
    for name in NAMES:
        estimate, arm = study_class(name).headline
        assert re.search(rf"^\| \[{name}\]\({name}\.md\) \| .* \| `{estimate}`, `{arm}` \|$", text, re.M), name


@pytest.mark.parametrize("command", commands(), ids=lambda c: c.removeprefix("gnothi run "))
def test_a_command_plans_a_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "adapter_model.safetensors").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    words = ["scripted/oracle" if w.startswith("hf/") else w for w in shlex.split(command)]
    monkeypatch.setattr("sys.argv", [*[re.sub(r"=hf/.*", "=scripted/oracle", w) for w in words], "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code in (None, 0), said.err
    assert json.loads(said.out)["jobs"]


def test_every_field_of_a_study_is_explained():
    table = RUNS.read_text(encoding="utf-8").split("## The specification of a study")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert not set(StudySpec.model_fields) - named


def test_every_setting_of_a_study_is_listed_with_the_fields():
    table = RUNS.read_text(encoding="utf-8").split("## The specification of a study")[1].split("\n## ")[0]
    for name in STUDIES:
        if not study_class(name).options:
            continue
        (row,) = (line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
        assert set(study_class(name).options) <= set(re.findall(r"`(\w+)`", row)), name
