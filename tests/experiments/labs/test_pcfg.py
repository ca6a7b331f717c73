"""The PCFG lab: its plan, every kind of unit at the smallest size, and numbers that are what was planted."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure
import pandas as pd
import pytest

from gnothi.errors import SpecError
from gnothi.experiments.labs.base import LabJob, UnitData
from gnothi.experiments.labs.pcfg import Pcfg
from gnothi.experiments.labs.pcfg_published import TABLE_5
from gnothi.experiments.labs.pcfg_spec import PcfgSpec
from gnothi.experiments.labs.pcfg_work import work

SMALLEST = {
    "window": 12, "last": 8, "rank": 2, "layers": 1, "heads": 1, "width": 8, "mlp": 8, "steps": 4, "batch": 4,
    "tune_steps": 3, "tune_batch": 4, "back_steps": 4, "back_rates": (1e-3, 3e-3), "test": 40, "look": 30, "most": 4,
    "mixes": (0.5,), "priors": ("low", "high"), "rates": ("small",), "correlated": (0.0, 1.0), "seeds": 1,
}  # fmt: skip


class Memory:
    """Units in memory, and the bench of a job that reads them."""

    def __init__(self, folder: Path) -> None:
        self.units: dict[str, UnitData] = {}
        self.jobs: dict[str, LabJob] = {}
        self.folder, self.at = folder, ""

    @property
    def checkpoints(self) -> Path:
        return self.folder / self.at

    def report(self, done: int, total: int, stage: str) -> None:
        assert 0 <= done <= total
        assert stage

    def parent(self, unit: str) -> UnitData:
        assert unit in self.jobs[self.at].after
        return self.units[unit]

    def make(self, lab: Pcfg) -> "Memory":
        for job in lab.jobs():
            self.at, self.jobs[job.name] = job.name, job
            self.units[job.name] = work(lab.spec, job, self)
        return self

    def names(self) -> Sequence[str]:
        return sorted(self.units)

    def record(self, unit: str) -> Mapping[str, Any]:
        return self.units[unit].record

    def table(self, unit: str, name: str) -> pd.DataFrame:
        return self.units[unit].tables[name].copy()

    def tensors(self, unit: str) -> Mapping[str, Any]:
        return self.units[unit].tensors


@pytest.fixture(scope="module")
def lab() -> Pcfg:
    return Pcfg(Pcfg.build(size="tiny", seed=3, **SMALLEST))


@pytest.fixture(scope="module")
def units(lab: Pcfg, tmp_path_factory: pytest.TempPathFactory) -> Memory:
    return Memory(tmp_path_factory.mktemp("checkpoints")).make(lab)


@pytest.mark.parametrize("size", ["tiny", "small", "paper"])
@pytest.mark.parametrize("quick", [False, True])
def test_every_size_has_a_plan_that_can_be_run(size: str, quick: bool):
    lab = Pcfg(Pcfg.build(size=size, quick=quick))
    assert Pcfg.check(lab.spec) == lab.spec
    seen: set[str] = set()
    for job in lab.jobs():
        assert set(job.after) <= seen, job
        assert job.name not in seen
        seen.add(job.name)
    assert {job.arm for job in lab.jobs()} == set(lab.arms())
    assert "low-small-100" in lab.arms()  # the headline's


def test_the_index_task_and_pretrainings_of_several_lengths_have_plans():
    lab = Pcfg(Pcfg.build(task="index", iterations="0.25,1", priors="low", parts=""))
    names = [job.name for job in lab.jobs() if job.seed == 0]
    assert {"pretrained-low.0", "pretrained-low-at25.0", "low-small-100-at25.0"} <= set(names)
    assert len(names) == 2 + 2 * 12


@pytest.mark.parametrize(
    "options, said",
    [
        ({"window": "wide"}, "window"),
        ({"priors": "lowest"}, "priors"),
        ({"windows": 24}, r"windows: no such field \(did you mean window\?\)"),
        ({"last": 7}, "last must be even"),
        ({"last": 26}, "at most the window"),
        ({"rank": 9}, "rank must leave room"),
        ({"correlated": "0,1.5"}, "must hold shares from 0 to 1"),
        ({"priors": "low,low"}, "priors must hold each value once"),
        ({"width": 50, "heads": 4}, "width must be a multiple of heads"),
        ({"families": "index", "task": "count"}, "families must hold the task"),
        ({"iterations": "1,0.5"}, "iterations must end with 1"),
        ({"grammar": "nowhere.yaml"}, "nowhere.yaml: the file must exist"),
        ({"grammar": {"start": "s", "terminals": ["a", "b"], "rules": {"s": ["a b"]}}}, "at least 3 terminals"),
    ],
)
def test_impossible_options_are_refused_in_one_line(options: dict, said: str):
    with pytest.raises(SpecError, match=said) as caught:
        Pcfg.build(**options)
    assert "\n" not in str(caught.value)


def test_lists_and_grammars_are_read_in_json_as_the_pages_command_writes_them():
    assert Pcfg.build(rates='["small", "large"]') == Pcfg.build(rates="small,large")
    grammar = {"start": "s", "terminals": ["a", "b", "c"], "rules": {"s": ["a b c"]}}
    assert Pcfg.build(grammar=json.dumps(grammar)) == Pcfg.build(grammar=grammar)
    with pytest.raises(SpecError, match="priors"):
        Pcfg.build(priors='["low')


def test_every_field_is_explained_on_the_labs_page():
    page = (Path(__file__).parents[3] / "docs" / "lab-pcfg.md").read_text(encoding="utf-8")
    table = page.split("## Fields")[1].split("\n## ")[0]
    assert not set(PcfgSpec.model_fields) - set(re.findall(r"`(\w+)`", table))


def test_an_unknown_size_is_refused():
    with pytest.raises(SpecError, match="size must be one of tiny, small, paper, got 'big'"):
        Pcfg.build(size="big")


def test_a_grammar_of_ones_own_is_kept_in_the_specification(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("start: s\nterminals: [x, y, z]\nrules:\n  s: [x y z, x s y]\n")
    spec = Pcfg.build(grammar=str(path))
    path.unlink()
    assert Pcfg.check(spec)["grammar"]["terminals"] == ["x", "y", "z"]


def test_every_unit_is_made_and_every_number_has_its_row(lab: Pcfg, units: Memory):
    estimates = lab.score(units)
    rows = [(e.name, e.arm) for e in estimates]
    assert len(set(rows)) == len(rows)
    assert {e.name.partition("/")[0] for e in estimates} == set(lab.estimates)
    assert {e.arm for e in estimates} <= set(lab.arms())
    assert lab.headline in rows
    missing = {e.name.partition("/")[0] for e in estimates if e.value is None}
    assert missing <= {"revival.steps", "revival.speed_up"}  # four steps bring nothing back
    assert all(e.reason for e in estimates if e.low is None)


def test_the_index_task_is_fine_tuned_and_stands_beside_table_7(tmp_path: Path):
    some = {"priors": "low", "correlated": "1", "parts": "mix,wrong,jailbreak", "task": "index", "iterations": "0.5,1"}
    lab = Pcfg(Pcfg.build(size="tiny", **{**SMALLEST, **some}))
    units = Memory(tmp_path).make(lab)
    assert not any("jailbreak" in name for name in units.names())  # its tokens ask for counts
    final = units.record("low-small-100.0")["final"]
    assert final["b/0"]["floor"] < 0.5
    (table,) = lab.tables(units, lab.score(units))
    assert "Table 7" in table.caption
    assert table.rows[0][8:] == ["61.6", "–", "4.5", "–"]
    assert all(picture.draw() for picture in lab.pictures(units, []))


def test_units_that_are_not_there_leave_rows_with_a_reason(lab: Pcfg, tmp_path: Path):
    estimates = lab.score(Memory(tmp_path))
    assert estimates
    assert all(e.value is None and e.reason for e in estimates)


def test_pictures_and_tables_are_made_from_what_is_stored(lab: Pcfg, units: Memory):
    pictures = lab.pictures(units, lab.score(units))
    titles = [p.title for p in pictures]
    assert len(set(titles)) == len(titles) == 13
    for picture in pictures:
        assert isinstance(picture.draw(), matplotlib.figure.Figure), picture.title
        assert "n" in picture.caption
    tables = {t.title: t for t in lab.tables(units, lab.score(units))}
    assert len(tables) == 3
    for table in tables.values():
        assert all(len(row) == len(table.columns) for row in table.rows)
    first = tables["The grid beside the paper's"].rows[1]
    one, ten = TABLE_5["small", "low", 1.0][2]
    assert first[:3] == ["small", "low", "1"]
    assert first[10] == f"{one:g} / {ten:g}"


def test_a_shortcut_that_is_planted_in_the_records_is_the_headline(lab: Pcfg, units: Memory, tmp_path: Path):
    planted = Memory(tmp_path)
    planted.units = dict(units.units)
    old = units.units["low-small-100.3"]
    final = {
        s: {"accuracy": {"b/100": 0.95}.get(s, 0.05), "floor": 0.125, "n": 40} for s in ("a/0", "a/100", "b/0", "b/100")
    }
    planted.units["low-small-100.3"] = UnitData(record={**old.record, "final": final}, tables=old.tables)
    found = {(e.name, e.arm): e for e in lab.score(planted)}[lab.headline]
    assert found.value == pytest.approx(0.9)
    assert found.low is None
    assert "1 usable unit" in str(found.reason)


def test_the_same_job_gives_the_same_unit_again(lab: Pcfg, units: Memory):
    job = next(j for j in lab.jobs() if j.name == "low-small-100.3")
    units.at = job.name
    again = work(lab.spec, job, units)
    assert again.record["final"] == units.units[job.name].record["final"]
    assert all((again.tensors[n] == t).all() for n, t in units.units[job.name].tensors.items())
