"""docs/coverage.md says what of the three papers is here. This reads it and holds it against the package.

`python tests/docs/test_coverage.py` writes the tables of names anew from `gnothi.score.names`.
"""

import re
import shlex
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from gnothi.errors import SpecError
from gnothi.experiments import STUDIES
from gnothi.experiments.labs import LABS
from gnothi.experiments.labs.base import AbstractLab
from gnothi.experiments.labs.plan import build, lab_class, lab_of
from gnothi.experiments.look.names import ESTIMATES as LOOK_ESTIMATES
from gnothi.experiments.study import experiment_of
from gnothi.experiments.study.design import UNTUNED
from gnothi.experiments.study.spec import parse
from gnothi.experiments.study.studies import study_of
from gnothi.score.names import ARMS, ESTIMATES, STUDY_ESTIMATES

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
HEAD = ("paper item", "what it shows", "command", "arm(s)", "estimate name(s)", "state")
BEGIN, END = "<!-- names: written by tests/docs/test_coverage.py -->", "<!-- end of names -->"
PAPERS = ("Paper A", "Paper B", "Paper C")


@dataclass(frozen=True)
class Row:
    """One line of a coverage table; the middle cells as the words that stand in code quotes."""

    section: str
    item: str
    commands: tuple[str, ...]
    arms: tuple[str, ...]
    estimates: tuple[str, ...]
    state: str
    note: str


def cells(line: str) -> list[str]:
    """The cells of a Markdown table line; an escaped bar belongs to its cell."""
    return [c.strip().replace(r"\|", "|") for c in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def quoted(cell: str) -> tuple[str, ...]:
    """What stands in code quotes in a cell."""
    return tuple(re.findall(r"`([^`]+)`", cell))


def coverage(text: str) -> list[Row]:
    """Every row of every table that has the six columns."""
    rows, section, inside = [], "", False
    for line in text.splitlines():
        if line.startswith("#"):
            section, inside = line.lstrip("# "), False
        elif not line.startswith("|"):
            inside = False
        elif tuple(cells(line)) == HEAD:
            inside = True
        elif inside and not set(line) <= set("|-: "):
            item, note, command, arms, estimates, state = cells(line)
            rows.append(Row(section, item, quoted(command), quoted(arms), quoted(estimates), state, note))
    return rows


def names_tables() -> str:
    """The tables of fixed words, as the page must show them."""
    lines = ["| arm | who reports | scored against | what a value away from 0 would mean | null control |"]
    lines += ["|---|---|---|---|---|"]
    for name, arm in ARMS.items():
        null = "yes" if arm.control else "no"
        lines.append(f"| `{name}` | {arm.reporter} | {arm.against} | {arm.meaning} | {null} |")
    lines += ["", "| estimate | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in ESTIMATES.items()]
    lines += ["", "| estimate of a study of paper A | what it is |", "|---|---|"]
    lines += ["| `{}` | {} |".format(name, said.replace("|", r"\|")) for name, said in STUDY_ESTIMATES.items()]
    for title, named in [
        *((f"estimate of the lab `{name}`", lab_class(name).estimates) for name in LABS),
        ("estimate of a look", LOOK_ESTIMATES),
    ]:
        lines += ["", f"| {title} | what it is |", "|---|---|"]
        lines += ["| `{}` | {} |".format(name, said.replace("|", r"\|")) for name, said in named.items()]
    return "\n".join(lines)


def _is_fixed(name: str) -> bool:
    return name in ESTIMATES or name.partition("/")[0] in STUDY_ESTIMATES


def lab_of_row(row: Row) -> AbstractLab | None:
    """The lab that a row's command runs, with its options; files that it names are not looked for."""
    words = shlex.split(row.commands[0]) if row.commands else []
    if words[:2] != ["gnothi", "lab"] or words[2] == "list":
        return None
    options: dict[str, Any] = {}
    for flag, value in pairwise(words):
        if flag == "--size":
            options["size"] = value
        if flag == "--set":
            name, _, text = value.partition("=")
            options[name] = yaml.safe_load(text)
    if str(options.get("grammar", "")).endswith(".yaml") or "source" in options:
        options.pop("grammar", options.pop("source", None))
    return lab_of(build(words[2], **options))


@pytest.fixture(scope="module")
def text() -> str:
    """The page."""
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows(text: str) -> list[Row]:
    """Its rows."""
    return coverage(text)


@pytest.fixture(scope="module")
def commands() -> dict[str, Any]:
    """The commands of the command line, by name."""
    from gnothi.cli import app

    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_each_paper_has_a_table(rows: list[Row]):
    for paper in PAPERS:
        assert sum(row.section.startswith(paper) for row in rows) >= 20, paper


def test_no_line_of_a_coverage_table_is_lost(text: str, rows: list[Row]):
    wide = [line for line in text.splitlines() if line.startswith("|") and len(cells(line)) == len(HEAD)]
    tables = sum(tuple(cells(line)) == HEAD for line in wide)
    assert len(rows) == len(wide) - 2 * tables


def test_every_item_stands_once(rows: list[Row]):
    seen = [(row.section, row.item) for row in rows]
    assert len(seen) == len(set(seen)), sorted({s for s in seen if seen.count(s) > 1})


def test_every_state_is_one_of_three(rows: list[Row]):
    wrong = [row.item for row in rows if not re.fullmatch(r"yes|not yet|left out because .{10,}", row.state)]
    assert not wrong, wrong


def test_what_is_here_says_how_to_get_it(rows: list[Row]):
    wrong = [r.item for r in rows if r.state == "yes" and not r.commands]
    assert not wrong, wrong


def test_commands_of_what_is_here_exist(rows: list[Row], commands: dict[str, Any]):
    from gnothi.experiments import EXPERIMENTS

    wrong = []
    for row in rows:
        for command in row.commands if row.state == "yes" else ():
            words = command.split()
            if words[:1] != ["gnothi"] or words[1] not in commands:
                wrong.append(f"{row.item}: no command `{command}`")
            elif words[1] == "run" and words[2] not in EXPERIMENTS:
                wrong.append(f"{row.item}: no experiment {words[2]!r}")
            elif words[1] == "lab" and words[2] not in (*LABS, "list"):
                wrong.append(f"{row.item}: no lab {words[2]!r}")
    assert not wrong, "\n".join(wrong)


def study_of_row(row: Row) -> str | None:
    """The study that a row's command runs, if it is one that can be looked into without a file of one's own."""
    words = row.commands[0].split() if row.commands else []
    return words[2] if words[:2] == ["gnothi", "run"] and words[2] in STUDIES and words[2] != "own" else None


def options_of_row(row: Row) -> dict[str, Any]:
    """What the row's command sets, and little besides."""
    found: dict[str, Any] = {"systems": ["none"]}
    words = shlex.split(row.commands[0])
    for flag, value in pairwise(words):
        if flag == "--set":
            name, _, text = value.partition("=")
            found[name] = yaml.safe_load(text)
        if flag == "--train-sizes":
            found["train_sizes"] = value
    return {k: v for k, v in found.items() if k not in ("opponent", "train")}


def names_of(row: Row) -> tuple[set[str], set[str]]:
    """Every estimate and every arm that the row's command can print, from the study's own plan."""
    names, arms = {"adapter_0_minus_untuned"}, {"adapter_0_minus_untuned"}
    for model in ("scripted/oracle", "organism"):
        try:
            name = study_of_row(row) or ""
            study = study_of(parse(experiment_of(name).build(model, quick=True, **options_of_row(row))))
        except SpecError:  # only one of the two kinds can show it
            continue
        arms |= {UNTUNED, *(a.name for a in study.every_arm()), *(q.arm for q in study.every_quantity())}
        arms |= {"all", "bandit", "single", "many", "graded_given_share"}
        names |= {q.name for q in study.every_quantity()}
        names |= {f"self_report.by_question/{p.question}" for p in study.asked()}
    return names, arms


def test_arms_and_estimates_of_what_is_here_exist(rows: list[Row]):
    wrong = []
    for row in rows:
        if row.state != "yes":
            continue
        lab = lab_of_row(row)
        if lab is not None:
            wrong += [
                f"{row.item}: no estimate {n!r}" for n in row.estimates if n.partition("/")[0] not in lab.estimates
            ]
            wrong += [f"{row.item}: no arm {n!r}" for n in row.arms if n not in lab.arms()]
            continue
        wrong += [f"{row.item}: no estimate {n!r}" for n in row.estimates if not _is_fixed(n) and n[0] != "/"]
        if study_of_row(row):
            names, arms = names_of(row)
            wrong += [f"{row.item}: no arm {name!r}" for name in row.arms if name not in arms]
            wrong += [f"{row.item}: no question {n!r}" for n in row.estimates if "/" in n and n not in names]
        else:
            wrong += [f"{row.item}: no arm {name!r}" for name in row.arms if name not in ARMS]
        if any(name[0] == "/" for name in row.estimates) and not any("replicate" in c for c in row.commands):
            wrong.append(f"{row.item}: only `replicate` answers with JSON paths")
    assert not wrong, "\n".join(wrong)


def test_every_estimate_of_a_study_is_somewhere_in_the_tables(rows: list[Row]):
    named = {name.partition("/")[0] for row in rows if row.state == "yes" for name in row.estimates}
    assert not set(STUDY_ESTIMATES) - named - {"report.validity"}  # stands in the table of paper B


def test_every_estimate_of_a_lab_is_somewhere_in_the_tables(rows: list[Row]):
    for name in LABS:
        here = [row for row in rows if row.state == "yes" and row.commands[0].startswith(f"gnothi lab {name}")]
        assert not set(lab_class(name).estimates) - {e.partition("/")[0] for row in here for e in row.estimates}, name
        assert lab_class(name).headline[1] in {arm for row in here for arm in row.arms}, name


def test_every_arm_and_every_estimate_is_somewhere_in_the_tables(rows: list[Row]):
    here = [row for row in rows if row.state == "yes"]
    assert not set(ARMS) - {name for row in here for name in row.arms}
    assert not set(ESTIMATES) - {name for row in here for name in row.estimates}


@pytest.mark.slow
def test_a_run_gives_what_the_tables_say(rows: list[Row], tmp_path: Path):
    import gnothi

    table = gnothi.run("preferences", quick=True, engine="inline", progress=False, out=tmp_path / "run").estimates
    given = set(zip(table["name"], table["arm"], strict=True))
    wrong = []
    for row in rows:
        if (
            row.state != "yes"
            or not row.estimates
            or not any(c.startswith("gnothi run preferences") for c in row.commands)
        ):
            continue
        wrong += [f"{row.item}: {e}" for e in row.estimates if not any((e, a) in given for a in row.arms)]
        wrong += [f"{row.item}: {a}" for a in row.arms if not any((e, a) in given for e in row.estimates)]
    assert not wrong, "\n".join(wrong)


def test_the_tables_of_names_are_those_of_the_code(text: str):
    shown = text.split(BEGIN)[1].split(END)[0].strip()
    assert shown == names_tables(), "run: python tests/docs/test_coverage.py"


def test_the_reader_of_tables_reads_a_table():
    page = "\n".join(
        (
            "## Paper Z",
            "| " + " | ".join(HEAD) + " |",
            "|---|---|---|---|---|---|",
            r"| Figure 1 | a \| b | `gnothi run x` | `one`, `two` | `e.f` | not yet |",
            "",
            "| other | table |",
            "|---|---|",
            "| 1 | 2 |",
        )
    )
    row = Row("Paper Z", "Figure 1", ("gnothi run x",), ("one", "two"), ("e.f",), "not yet", "a | b")
    assert coverage(page) == [row]


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{names_tables()}\n{END}{after}", encoding="utf-8")
