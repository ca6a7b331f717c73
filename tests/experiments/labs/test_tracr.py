"""The lab of compiled programs: its sampler, its plan, one small run of its workers, and what its numbers say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnothi.errors import SpecError
from gnothi.experiments.labs.base import LabJob, UnitData
from gnothi.experiments.labs.tracr import Tracr
from gnothi.experiments.labs.tracr_spec import SIZES
from gnothi.rng import stream
from gnothi.testbeds.rasp import interpret
from gnothi.testbeds.rasp.tasks import PAPER, PairedTask

SMALL = {
    "seeds": 1, "steps": 10, "rates": ["medium"], "back_rates": ["small"], "test": 40, "choose": 20, "candidates": 4,
    "random": 10, "correlated": [0.5, 1.0], "max_correlated": [1.0], "noise": [1e-4], "back_seeds": 1,
    "curve_rates": ["small", "medium"], "curve_correlated": [0.5, 1.0], "most": 3,
}  # fmt: skip
COUNTER = PairedTask(name="counter", letters=4, shortest=6, longest=9, old=0, new=1)
MAX = PairedTask(name="max", letters=12, shortest=7, longest=8, old=5, new=6)


def letters(task: PairedTask, ids: np.ndarray) -> list[list[str]]:
    """Strings from rows of ids, without beginning and padding."""
    return [[task.vocabulary[i] for i in row[1:] if i < len(task.vocabulary)] for row in ids]


@pytest.mark.parametrize("task", [COUNTER, MAX, PAPER["counter"](), PAPER["max"]()], ids=["counter", "max", "C", "M"])
def test_answers_are_what_the_programs_say(task: PairedTask) -> None:
    drawn = task.draw(stream(0, "answers"), 12, None)
    values = task.vocabulary if task.name == "max" else range(task.positions + 1)
    for ids, old, new in zip(letters(task, drawn.ids), drawn.old, drawn.new, strict=True):
        assert interpret(task.program(task.old), ids)[1] == values[old]
        assert interpret(task.program(task.new), ids)[1] == values[new]


@pytest.mark.parametrize("task", [COUNTER, MAX], ids=["counter", "max"])
def test_correlation_is_what_was_asked_for_and_never_luck(task: PairedTask) -> None:
    for share in (0.0, 1.0):
        drawn = task.draw(stream(1, "correlation"), 400, share)
        assert ((drawn.new - drawn.old == task.offset) == bool(share)).all()
    half = task.draw(stream(1, "half"), 4000, 0.5)
    assert abs((half.new - half.old == task.offset).mean() - 0.5) < 0.05
    natural = task.draw(stream(1, "natural"), 4000, None)
    assert 0.05 < (natural.new - natural.old == task.offset).mean() < 0.9


def test_strings_have_every_length_and_an_end_mark() -> None:
    drawn = COUNTER.draw(stream(2, "lengths"), 200, None)
    lengths = [len(s) for s in letters(COUNTER, drawn.ids)]
    assert set(lengths) == {7, 8, 9, 10}
    assert all(s[-1] == "#" and "#" not in s[:-1] for s in letters(COUNTER, drawn.ids))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"name": "sum"}, "task must be counter or max, got 'sum'"),
        ({"longest": 1}, "2 <= shortest <= longest, got 4, 6 and 1"),
        ({"old": 1}, "two different operands from 0 to 3, got 1 and 1"),
        ({"name": "max", "old": 5, "new": 6}, "strings of at most 4 letters, which all differ, got 9"),
    ],
)
def test_a_task_that_cannot_be_is_refused(fields: dict, message: str) -> None:
    given = {"name": "counter", "letters": 4, "shortest": 6, "longest": 9, "old": 0, "new": 1}
    with pytest.raises(SpecError, match=message):
        PairedTask(**{**given, **fields})


def test_a_correlation_that_cannot_occur_is_refused() -> None:
    # in order of different letters the seventh is never the fifth's successor
    task = PairedTask(name="max", letters=12, shortest=7, longest=8, old=5, new=7, offset=1)
    with pytest.raises(SpecError, match=r"must be able to have answers that differ by 1.*could not be drawn"):
        task.draw(stream(0, "never"), 10, 1.0)


@pytest.mark.parametrize("size", SIZES)
def test_a_specification_says_every_field_and_comes_back(size: str) -> None:
    spec = Tracr.build(size=size, seed=7)
    assert Tracr.check(spec) == spec and spec["size"] == size and spec["seed"] == 7
    names = [job.name for job in Tracr(spec).jobs()]
    assert len(set(names)) == len(names)
    assert {job.arm for job in Tracr(spec).jobs()} == set(Tracr(spec).arms())
    assert spec["seeds"] == 5


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": "large"}, "size must be one of tiny, small, paper, got 'large'"),
        ({"correlated": [1.5]}, "correlated must hold shares from 0 to 1"),
        ({"back_correlated": [0.3]}, "back_correlated must be among correlated"),
        ({"rates": ["small"]}, "rates must hold medium"),
        ({"counter": {"letter": 3}}, "counter must have fields among .*got 'letter'"),
        ({"sharpness": 2}, "sharpness"),
    ],
)
def test_a_specification_that_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Tracr.build(**{"size": "tiny", **options})


class Shelf:
    """Units in memory: what a run folder is to a lab, and its bench."""

    def __init__(self, folder: Path) -> None:
        self.made: dict[str, tuple[LabJob, UnitData]] = {}
        self.checkpoints = folder

    def parent(self, unit: str) -> UnitData:
        return self.made[unit][1]

    def report(self, done: int, total: int, stage: str) -> None:
        assert 0 <= done <= total and stage

    def names(self) -> list[str]:
        return sorted(self.made)

    def record(self, unit: str) -> Mapping[str, Any]:
        job, data = self.made[unit]
        return {**data.record, "arm": job.arm, "seed": job.seed}

    def table(self, unit: str, name: str) -> Any:
        return self.made[unit][1].tables[name].copy()

    def tensors(self, unit: str) -> Mapping[str, Any]:
        return self.made[unit][1].tensors


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tracr, Shelf]:
    """Every unit of a very small lab."""
    from gnothi.experiments.labs.tracr_work import work

    lab = Tracr(Tracr.build(quick=True, seed=3, **SMALL))
    shelf = Shelf(tmp_path_factory.mktemp("lab"))
    for job in lab.jobs():
        shelf.checkpoints = tmp_path_factory.mktemp(job.name)
        shelf.made[job.name] = job, work(lab.spec, job, shelf)
    return lab, shelf


def test_the_untouched_programs_are_exact(run: tuple[Tracr, Shelf]) -> None:
    lab, shelf = run
    found = {(e.name, e.arm): e for e in lab.score(shelf)}
    for arm in ("counter-compiled", "max-compiled"):
        assert found["tracr.untouched_accuracy", arm].value == 1
        assert found["tracr.noisy_accuracy", arm].value >= 0.99
        assert found["tracr.noise", arm].value == 1e-4


def test_every_number_is_explained_and_of_a_known_arm(run: tuple[Tracr, Shelf]) -> None:
    lab, shelf = run
    estimates = lab.score(shelf)
    keys = [(e.name, e.arm) for e in estimates]
    assert len(set(keys)) == len(keys) and sum(e.value is not None for e in estimates) >= 8
    assert {e.name.partition("/")[0] for e in estimates} <= set(lab.estimates)
    assert {e.arm for e in estimates} <= set(lab.arms())
    assert all(e.name.startswith("tracr.") for e in estimates)


def test_pruning_stands_beside_its_controls(run: tuple[Tracr, Shelf]) -> None:
    lab, shelf = run
    names = {(e.name, e.arm) for e in lab.score(shelf)}
    for arm in ("counter-medium-c100", "never"):
        for name in ("pruned_lift", "random_lift", "lift_over_random", "revived_seeds"):
            assert (f"tracr.{name}", arm) in names
    pruned = shelf.record("counter-medium-c100.0")["pruned"]
    assert pruned["n_random"] == 10 and pruned["best"]["unit"].startswith("block.")
    assert sum(pruned["after_classes"]) == sum(pruned["right_classes"]) == 40


def test_curves_over_the_number_removed_stand_beside_their_controls(run: tuple[Tracr, Shelf]) -> None:
    lab, shelf = run
    found = {(e.name, e.arm): e for e in lab.score(shelf)}
    arms = {"counter-medium-c50-curve", "counter-medium-c100-curve"}  # the run has no small rate
    assert {a for _, a in found if a.endswith("-curve")} == arms
    for arm in arms:
        for name in ("lift", "exact", "random", "never", "kept", "k"):
            for kind in ("weights", "neurons"):
                assert found[f"tracr.several_{name}/{kind}", arm].value is not None
        table = shelf.table(f"{arm}.0", "weights")
        ours = table[(table["who"] == "tuned") & (table["how"] == "again") & (table["set"] == "old/0")]
        assert ours["k"].tolist() == [0, 1, 2, 3] and ours["chosen"].sum() == 1
        picked = ours[ours["chosen"]].iloc[0]
        lift = picked["value"] - ours[ours["k"] == 0].iloc[0]["value"]
        assert found["tracr.several_lift/weights", arm].value == pytest.approx(lift)
        assert found["tracr.several_k/weights", arm].value == picked["k"]
    assert ("tracr.pruned_lift", "counter-medium-c50-curve") in found
    assert (
        "tracr.pruned_lift",
        "counter-medium-c100-curve",
    ) not in found  # its one weight stands in the fine-tune's arm


def test_a_unit_is_the_same_when_it_is_made_again(run: tuple[Tracr, Shelf], tmp_path: Path) -> None:
    from gnothi.experiments.labs.tracr_work import work

    lab, shelf = run
    job, first = shelf.made["counter-medium-c100.0"]
    shelf.checkpoints = tmp_path
    second = work(lab.spec, job, shelf)
    assert second.record["losses"] == first.record["losses"] and second.record["final"] == first.record["final"]


@pytest.mark.parametrize("task", ["counter", "max"])
def test_the_answer_is_computed_as_the_model_computes_it(task: str) -> None:
    import torch

    from gnothi.experiments.fields import parsed
    from gnothi.experiments.labs.tracr_spec import TracrSpec
    from gnothi.experiments.labs.tracr_work_setting import Setting, answer_logits

    spec = parsed(TracrSpec, Tracr.build())
    setting = Setting(spec, task)
    module = setting.noisy(1e-2, 0)
    answers = setting.answers(0, "same", 8, "old", 0.0)
    row = setting.task.answer_row
    with torch.no_grad():
        ours = answer_logits(module, answers.ids, answers.mask, row)
        torch.testing.assert_close(ours, module(answers.ids, mask=answers.mask, at=row))


def test_numbers_of_units_that_are_not_there_are_missing_with_a_reason(
    run: tuple[Tracr, Shelf], tmp_path: Path
) -> None:
    lab, _ = run
    estimates = lab.score(Shelf(tmp_path))
    assert estimates and all(e.value is None and e.reason == "no unit of this arm is whole" for e in estimates)
    assert lab.pictures(Shelf(tmp_path), estimates) == []


def test_every_picture_can_be_drawn_and_every_table_is_whole(run: tuple[Tracr, Shelf]) -> None:
    lab, shelf = run
    estimates = lab.score(shelf)
    pictures = lab.pictures(shelf, estimates)
    assert len({p.title for p in pictures}) == len(pictures) >= 8
    for picture in pictures:
        figure = picture.draw()
        figure.canvas.draw()
    for table in lab.tables(shelf, estimates):
        assert table.rows and all(len(row) == len(table.columns) for row in table.rows)
