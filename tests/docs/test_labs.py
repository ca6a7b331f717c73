"""A page for each lab: it names every estimate, arm and field there is, and its commands plan a run."""

import json
import re
import shlex
import tarfile
from pathlib import Path

import pytest

from gnothi import cli
from gnothi.experiments.labs import LABS
from gnothi.experiments.labs.base import SIZES, AbstractLab
from gnothi.experiments.labs.plan import build, jobs, lab_class, lab_of
from gnothi.experiments.labs.plan import headline as headline_of
from gnothi.experiments.labs.unit import StoredUnits
from gnothi.store import RunFolder

DOCS = Path(__file__).parents[2] / "docs"
NAMES = list(LABS)


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def quoted(text: str) -> set[str]:
    """What stands in code quotes, one name each."""
    found = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return {part.strip().replace(r"\|", "|") for one in found for part in one.split(", ")}


def lab(name: str, **options: object) -> AbstractLab:
    return lab_of(build(name, **options))


def commands() -> list[str]:
    rows = [
        line.partition("  #")[0].strip()
        for path in [DOCS / "labs.md", *sorted(DOCS.glob("lab-*.md")), DOCS.parent / "README.md"]
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.S)
        for line in block.splitlines()
    ]
    return sorted({row for row in rows if row.startswith("gnothi lab ") and not row.startswith("gnothi lab list")})


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_the_headline_and_most_estimates(name: str):
    kind, known = lab_class(name), quoted(page(f"lab-{name}.md"))
    words = {word.partition("/")[0] for word in known}
    assert kind.headline[0].partition("/")[0] in words & set(kind.estimates)
    assert len(words & set(kind.estimates)) >= 0.6 * len(kind.estimates), set(kind.estimates) - words


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{"quick": True}, *({"size": size} for size in SIZES)], ids=str)
def test_every_size_has_a_plan_whose_arms_are_named_and_a_specification_that_comes_back(name: str, options: dict):
    it = lab(name, **options)
    assert lab_class(name).check(json.loads(json.dumps(it.spec))) == it.spec
    plan = jobs(it)
    assert plan and (it.headline[1] in it.arms() or options.get("size", "tiny") != "tiny")
    assert {"experiment", "size", "quick", "seed", "seeds"} <= set(it.spec)
    assert set(it.costs) == {"quick", *SIZES}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_without_any_unit_has_every_headline_missing_with_a_reason(name: str, tmp_path: Path):
    it = lab(name, quick=True)
    run = RunFolder.create(tmp_path / "run", it.spec)
    found = it.score(StoredUnits(run))
    assert {e.name.partition("/")[0] for e in found} <= set(it.estimates)
    (headline,) = [e for e in found if (e.name, e.arm) == headline_of(it, found)]
    assert headline.value is None and headline.reason
    assert all(e.value is None and e.reason for e in found)


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_explained(name: str):
    table = page("runs.md").split("## The specification of a lab")[1].split("\n## ")[0]
    (row,) = [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]
    common = {"experiment", "size", "quick", "seed", "seeds"}
    assert set(lab(name).spec) - common <= set(re.findall(r"`(\w+)`", row))
    assert common <= set(re.findall(r"`(\w+)`", table))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_lab_puts_beside_its_headline_is_there(name: str):
    it = lab(name)
    assert all(estimate.partition("/")[0] in it.estimates and arm in it.arms() for estimate, arm in it.beside)


@pytest.mark.parametrize("command", commands(), ids=lambda c: c.removeprefix("gnothi lab "))
def test_a_command_plans_a_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "mine.yaml").write_text(
        "start: s\nterminals: [a, b, c]\nrules:\n  s: [x y, y x]\n  x: [a b, a c]\n  y: [b c, b c a]\n"
    )
    with tarfile.open(tmp_path / "TinyStories_all_data.tar.gz", "w:gz"):
        pass  # what is in it is read by the run, not by its plan
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [*shlex.split(command.partition("&&")[0]), "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code in (None, 0), said.err
    assert json.loads(said.out)["jobs"]
