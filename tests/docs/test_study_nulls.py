"""Studies of models that know nothing: how often a 95% interval leaves out 0, as docs/statistics.md says.

`python tests/docs/test_study_nulls.py` prints the tables (ten minutes on one core); figures are whole counts in 1,000.
"""

import re
import sys
from pathlib import Path

import pytest

from gnothi.experiments import STUDIES
from gnothi.experiments.study import experiment_of
from gnothi.experiments.study.design import AbstractStudy
from gnothi.experiments.study.simulation import rejections
from gnothi.experiments.study.spec import parse
from gnothi.experiments.study.studies import study_of

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
NAMES = [name for name in STUDIES if name != "own"]
SEEDS = {"faithfulness": (4, 8, 12)}  # a correlation has no interval below 4
UNTUNED = {  # a comparison with the untuned model -> the study that it stands in
    "seeking_minus_untuned": ("risk", "self_report.difference"),
    "conditional_minus_untuned": ("backdoor", "trigger.presence"),
}
LEAN = 0.1
"""Standard deviation of what is added to all self-reports of a unit, and of what all units add to a question."""


def study(name: str, seeds: int) -> AbstractStudy:
    return study_of(parse(experiment_of(name).build("scripted/guess", seeds=seeds)))


def line(label: str, cells: list[tuple[int, int]]) -> str:
    return f"| {label} | " + " | ".join(str(hits) if n == 1000 else f"{hits} of {n}" for hits, n in cells) + " |"


def tables(runs: int = 1000) -> None:
    for name in NAMES:
        few, some, many = SEEDS.get(name, (3, 5, 10))
        cells = [rejections(study(name, n), runs) for n in (few, some, many)]
        cells.append(rejections(study(name, some), runs, lean=LEAN))
        print(line(f"`{name}`", cells), flush=True)
    for arm, (name, estimate) in UNTUNED.items():
        cells = [rejections(study(name, n), runs, wanted=(estimate, arm)) for n in (3, 5, 10)]
        cells.append(rejections(study(name, 5), runs, lean=LEAN, wanted=(estimate, arm)))
        print(line(f"`{arm}` of `{name}`", cells), flush=True)


def shown() -> dict[str, list[int]]:
    section = PAGE.read_text(encoding="utf-8").split("## Studies of paper A")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)`[^|]*\|((?: \d+ \|)+)$", section, re.M)
    return {name: [int(x) for x in cells.strip(" |").split("|")] for name, cells in rows}


def test_every_study_has_a_row_and_is_called_significant_as_often_as_it_should_be():
    rows = shown()
    assert set(rows) == {*NAMES, *UNTUNED}
    for name in NAMES:
        assert all(27 <= hits <= 73 for hits in rows[name][:3]), name  # 99.9% of binomial draws of 1,000
    for arm in UNTUNED:
        assert all(27 <= hits <= 73 for hits in rows[arm][:3]), arm


@pytest.mark.parametrize("name", ["risk", "backdoor"])
def test_a_tenth_of_the_runs_gives_about_a_tenth_of_the_count(name: str):
    hits, n = rejections(study(name, 5), 100)
    assert n == 100 and hits <= 16  # 99.99% of binomial draws at 5%


if __name__ == "__main__":
    tables(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
