"""Studies of models that know nothing: how often a 95% interval leaves out 0, as docs/statistics.md says.

`python tests/docs/test_study_nulls.py` prints the tables (ten minutes on one core); figures are whole counts in 1,000.
"""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from gnothi.experiments import STUDIES
from gnothi.experiments.study import experiment_of
from gnothi.experiments.study.answers import Answers
from gnothi.experiments.study.design import AbstractStudy
from gnothi.experiments.study.estimates import quantity
from gnothi.experiments.study.simulation import Nulls
from gnothi.experiments.study.spec import parse
from gnothi.experiments.study.studies import study_of
from gnothi.rng import stream

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


def leaning(nulls: Nulls, found: Answers, groups: np.ndarray, seed: int) -> Answers:
    """The same run with units that lean, and groups of answers that all units lean in alike."""
    rng = stream(seed, "leanings", nulls.study.name)
    shared = rng.normal(0, LEAN, groups.max(initial=0) + 1)[groups]
    scores = {}
    for (unit, kind), (labels, values) in found._scores.items():
        said = kind == "self_report"
        scores[unit, kind] = (labels, values + shared + rng.normal(0, LEAN) if said else values)
    return Answers(found.records, scores)


def rejections(
    one: AbstractStudy, runs: int, *, lean: bool = False, headline: tuple[str, str] | None = None
) -> tuple[int, int]:
    """Intervals that leave out 0, and runs that have one."""
    nulls, headline = Nulls(one), headline or one.headline
    wanted = [q for q in one.every_quantity() if (q.name, q.arm) == headline]
    labels = next(table for (_, kind), (table, _) in nulls.draw(0)._scores.items() if kind == "self_report")
    places = labels.reindex(columns=["question", "subject", "target", "trigger"]).astype(object).fillna("").astype(str)
    groups = places.groupby(list(places)).ngroup().to_numpy()
    hits = total = 0
    for seed in range(runs):
        answers = nulls.draw(seed)
        answers = leaning(nulls, answers, groups, seed) if lean else answers
        found = [quantity(q, answers) for q in wanted] or one.more_estimates(answers)
        (e,) = (e for e in found if (e.name, e.arm) == headline)
        if e.low is not None and e.high is not None:
            total += 1
            hits += not e.low <= 0 <= e.high
    return hits, total


def line(label: str, cells: list[tuple[int, int]]) -> str:
    return f"| {label} | " + " | ".join(str(hits) if n == 1000 else f"{hits} of {n}" for hits, n in cells) + " |"


def tables(runs: int = 1000) -> None:
    for name in NAMES:
        few, some, many = SEEDS.get(name, (3, 5, 10))
        cells = [rejections(study(name, n), runs) for n in (few, some, many)]
        cells.append(rejections(study(name, some), runs, lean=True))
        print(line(f"`{name}`", cells), flush=True)
    for arm, (name, estimate) in UNTUNED.items():
        cells = [rejections(study(name, n), runs, headline=(estimate, arm)) for n in (3, 5, 10)]
        cells.append(rejections(study(name, 5), runs, lean=True, headline=(estimate, arm)))
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
