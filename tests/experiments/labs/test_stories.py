import io
import json
import tarfile

import numpy as np
import pandas as pd
import pytest
import torch

from gnothi.errors import DataError, SpecError
from gnothi.experiments.labs import stories_score
from gnothi.experiments.labs.base import UnitData
from gnothi.experiments.labs.plan import build, jobs
from gnothi.experiments.labs.stories import Stories
from gnothi.experiments.labs.stories_spec import SIZES
from gnothi.experiments.labs.stories_work import work

SMALL = {
    "seeds": 1, "width": 16, "heads": 2, "mlp": 32, "stories": 120, "tuning_stories": 120, "test_stories": 120,
    "judge_stories": 200, "probe_stories": 60, "steps": 4, "batch": 8, "tune_batch": 4, "tune_steps": 4, "tune_looks": (2,),
    "back_steps": 4, "back_looks": (2,), "back_rates": (1e-3, 1e-4), "rates": ("large",), "asked": 20, "loss_stories": 10,
    "longest_story": 30, "least_base": 0.0, "most_deleted": 1.0,
}  # fmt: skip


class Shelf:
    """Units in memory: a bench for jobs, and what is whole for scoring."""

    def __init__(self, folder=None):
        self.made, self.folder, self.said = {}, folder, []

    def run(self, lab, only=None):
        for job in lab.jobs():
            if only is None or job.name in only:
                self.job = job
                made = work(lab.spec, job, self)
                json.dumps(dict(made.record), allow_nan=False)
                self.made[job.name] = (job, made)
        return self

    def parent(self, unit):
        assert unit in self.job.after
        return self.made[unit][1]

    def report(self, done, total, stage):
        self.said.append((done, total, stage))

    @property
    def checkpoints(self):
        path = self.folder / self.job.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def names(self):
        return sorted(self.made)

    def record(self, unit):
        job, made = self.made[unit]
        return {**made.record, "arm": job.arm, "seed": job.seed}

    def table(self, unit, name):
        return self.made[unit][1].tables[name]

    def tensors(self, unit):
        return self.made[unit][1].tensors


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    lab = Stories(Stories.build(**SMALL))
    return lab, Shelf(tmp_path_factory.mktemp("stories")).run(lab)


def test_every_unit_is_made_and_every_number_is_explained(shelf):
    lab, units = shelf
    assert units.names() == sorted(job.name for job in lab.jobs())
    found = lab.score(units)
    assert {e.name.partition("/")[0] for e in found} == set(lab.estimates)
    assert len({(e.name, e.arm) for e in found}) == len(found)
    assert {e.arm for e in found} <= set(lab.arms())
    assert all((e.value is None) == (e.method == "none") and (e.value is not None or e.reason) for e in found)
    assert sum(e.value is not None for e in found) >= 8
    headline = next(e for e in found if (e.name, e.arm) == lab.headline)
    assert headline.reason == "this run has no such deletion"  # it has a large rate only
    deletion = units.table("f-rr-large-0", "curve")
    assert deletion["step"].tolist() == [0, 2, 4]  # three looks a curve
    # the first look of a deletion is the base model's
    assert deletion["rate"].iloc[0] == units.record("base-0")["numbers"]["rate"]
    assert deletion["loss"].iloc[0] == pytest.approx(units.record("base-0")["numbers"]["loss"], rel=1e-5)


def test_everything_can_be_drawn_and_tabled(shelf):
    lab, units = shelf
    estimates = lab.score(units)
    for picture in lab.pictures(units, estimates):
        assert type(picture.draw()).__name__ == "Figure", picture.title
    for table in lab.tables(units, estimates):
        assert table.rows and all(len(row) == len(table.columns) for row in table.rows), table.title


def test_all_arms_of_a_seed_are_trained_back_on_the_same_stories_in_the_same_order(shelf):
    _, units = shelf
    curves = [units.table(n, "curve") for n in units.names() if n.startswith("back-")]
    assert len(curves) == 5 and all(sorted(set(c["lr"])) == [1e-4, 1e-3] for c in curves)
    starts = {round(float(c["loss"].iloc[0]), 6) for c in curves}
    assert len(starts) == 5  # five models, one task


def test_a_job_that_was_cut_off_makes_the_same_unit(tmp_path, shelf):
    lab, whole = shelf
    again = Shelf(tmp_path)
    again.made = {n: m for n, m in whole.made.items() if n in ("words", "base-0", "f-rr-large-0")}

    def stop(done, total, stage):
        raise KeyboardInterrupt

    for name, at in (("f-large-0", 3), ("back-f-rr-large-0", 6)):
        calls = iter(range(100))
        again.report = lambda *said, at=at, calls=calls: stop(*said) if next(calls) == at else None
        with pytest.raises(KeyboardInterrupt):
            again.run(lab, only=(name,))
        again.report = lambda *said: None
        again.run(lab, only=(name,))
        pd.testing.assert_frame_equal(again.table(name, "curve"), whole.table(name, "curve"))
        ours, theirs = again.tensors(name), whole.tensors(name)
        assert all(torch.equal(ours[n], theirs[n]) for n in theirs)
    assert (tmp_path / "back-f-rr-large-0" / "back-0.001" / "curve.json").is_file()


def test_stories_of_a_file_are_read_and_judged_without_rules(tmp_path):
    row = {
        "summary": "S.",
        "instruction": {"words": ["run"], "features": []},
    }
    path = tmp_path / "TinyStories_all_data.tar.gz"
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as out:
        for shard in range(8):
            rows = []
            for i in range(60):
                twist = bool(i % 3 == 0)
                told = f"Tom saw {' '.join(rng.choice(list('abcdefgh'), 4))}. Then {'but no' if twist else 'so yes'}."
                rows.append({**row, "story": told, "instruction": {"words": ["run"], "features": ["Twist"] * twist}})
            raw = json.dumps(rows).encode()
            member = tarfile.TarInfo(f"data{shard:02}.json")
            member.size = len(raw)
            out.addfile(member, io.BytesIO(raw))
    small = {
        **SMALL,
        "protocols": ("f",),
        "vocabulary": 400,
        "probe_stories": 50,
        "test_stories": 60,
        "judge_stories": 120,
    }
    lab = Stories(build("stories", source=str(path), **{**small, "seeds": 1}))
    assert lab.spec["source_digest"]
    units = Shelf(tmp_path).run(lab)
    found = {(e.name, e.arm): e for e in lab.score(units)}
    assert found["stories.rate", "base"].value is not None
    assert "no rule reads" in found["stories.judge_false_negative", "model-written"].reason
    assert found["stories.judge_false_negative", "held-out"].value == 0
    assert "resolved" not in units.table("f-large-0", "curve")
    assert all(type(p.draw()).__name__ == "Figure" for p in lab.pictures(units, list(found.values())))


def planted(spec, *, base=0.9, left=0.1, back=(0.1, 0.6, 0.9), never=(0.0, 0.2, 0.8), probes=False):
    """Units with planted numbers: rates of the base, what deletions leave, and what comes back."""
    lab, shelf = Stories(spec), Shelf()
    steps = [0, *spec["back_looks"], spec["back_steps"]]
    for job in lab.jobs():
        kind, seed = job.payload["kind"], job.seed
        jitter = 0.01 * (seed - 1)
        if kind == "pretrain":
            rate = (base if job.payload["with_feature"] else never[0]) + (jitter if job.payload["with_feature"] else 0)
            numbers = {"rate": rate, "judged": rate, "resolved": 1.0, "loss": 1.0 + jitter}
            made = UnitData(record={"numbers": numbers, "not_asked": {**numbers, "rate": 0.02}, "n": spec["asked"]})
            told = pd.DataFrame(
                {"story": ["A."] * 4, "judged": [1, 1, 0, 0], "has": [1, 0, 0, 0], "resolved": [1, 1, 1, 1]}
            )
            made = UnitData(record=made.record, tables={"told": told.astype({c: bool for c in told.columns[1:]})})
            kept = made.tables
        elif kind in ("delete", "back"):
            if kind == "delete":
                rates, at, lrs = [base, left + jitter], [0, spec["tune_steps"]], [job.payload["lr"]]
            else:
                known = {"base": (base,) * len(steps), "never": never}.get(job.arm, back)
                rates, at, lrs = [max(0.0, r + jitter) for r in known], steps, spec["back_rates"]
            # the largest rate brings back nothing: it must not be the one that is shown
            rows = [
                {"lr": lr, "step": s, "rate": 0.0 if kind == "back" and lr == max(lrs) else r, "judged": r, "resolved": 1.0,
                 "loss": 1.0, "ended": "whole"}
                for lr in lrs for s, r in zip(at, rates, strict=True)
            ]  # fmt: skip
            made = UnitData(tables={**kept, "curve": pd.DataFrame(rows)})
        elif kind == "words":
            counts = {"missed": 5, "with_feature": 100, "flagged": 5, "without": 100}
            made = UnitData(record={"judge_errors": counts, "examples": []})
        else:
            continue
        shelf.made[job.name] = (job, made)
    return lab, {(e.name, e.arm): e for e in lab.score(shelf)}, shelf


PLANTED = {"back_steps": 100, "back_looks": (10,), "back_rates": (1e-3, 3e-4, 1e-4), "rates": ("large",), "level": 0.5}


def test_what_was_planted_comes_back():
    _, found, _ = planted(Stories.build(**PLANTED))
    assert found["stories.rate", "base"].value == pytest.approx(0.9)
    assert found["stories.rate", "f+rr, large"].value == pytest.approx(0.1)
    gain = found["stories.revival_gain", "f+rr, large"]
    assert gain.value == pytest.approx(0.4) and gain.n == 3 and gain.against == "never, after 10 steps"
    assert found["stories.revived/10", "never"].value == pytest.approx(0.2)
    assert found["stories.steps_to_level", "f+rr, large"].value == 10
    assert found["stories.steps_to_level", "never"].value == 100
    assert found["stories.speed_up", "f, large"].value == pytest.approx(np.log2(10))
    assert found["stories.judged_corrected", "f, large"].value == pytest.approx(0.05 / 0.9)
    assert found["stories.judge_false_positive", "model-written"].value == pytest.approx(1 / 3)
    assert "no probes" in found["stories.probe", "base"].reason


def test_no_gain_is_found_where_none_was_planted():
    _, found, _ = planted(Stories.build(**PLANTED), back=(0.0, 0.2, 0.8))
    assert found["stories.revival_gain", "f+rr, large"].value == pytest.approx(0)
    assert found["stories.speed_up", "f+rr, large"].value == 0


def test_without_the_feature_in_the_base_nothing_is_said_of_its_loss():
    _, found, _ = planted(Stories.build(**PLANTED), base=0.5)
    for name in ("stories.revival_gain", "stories.revived/10", "stories.speed_up"):
        e = found[name, "f+rr, large"]
        assert e.value is None and "the base model of seed 0 has a rate of 49%, under 60%" in e.reason
    assert found["stories.rate", "f+rr, large"].value is None
    assert found["stories.rate", "base"].value == pytest.approx(0.5)


def test_what_was_not_deleted_is_not_said_to_come_back():
    _, found, _ = planted(Stories.build(**PLANTED), left=0.5)
    e = found["stories.revival_gain", "f+rr, large"]
    assert e.value is None and "not deleted: with seed 0 a rate of 49% is left, not under 20%" in e.reason
    assert found["stories.rate", "f+rr, large"].value == pytest.approx(0.5)
    assert found["stories.revived/100", "never"].value == pytest.approx(0.8)


def test_units_that_are_missing_are_said_to_be():
    spec = Stories.build(**PLANTED)
    assert all(e.value is None and e.reason for e in Stories(spec).score(Shelf()))
    lab, _, shelf = planted(spec)
    for name in [n for n in shelf.made if n.endswith("-2")]:
        del shelf.made[name]
    found = {(e.name, e.arm): e for e in lab.score(shelf)}
    e = found["stories.revival_gain", "f+rr, large"]
    assert e.n == 2 and e.low is None and "the base model of seed 2 is not there" in e.reason


def test_a_rate_is_tuned_on_other_seeds():
    lab, _, shelf = planted(Stories.build(**PLANTED))
    found = stories_score.Found(lab.spec, shelf)
    assert found.rate_for("never", 0) == 1e-4  # equally fast rates: the smaller
    one = planted(Stories.build(**PLANTED, seeds=1))
    assert stories_score.Found(one[0].spec, one[2]).rate_for("never", 0) == 3e-4  # the middle one


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": "huge"}, "size must be one of tiny, small, paper"),
        ({"back_rate": 1}, "no such field .did you mean back_rates"),
        ({"source": "/none/x.tar.gz"}, "source must be `generated` or a file"),
        ({"feature": "Foreshadowing"}, "without f\\+mm where the feature is Foreshadowing"),
        ({"heads": 5}, r"width must be a multiple of heads \(5\)"),
        ({"back_looks": "3,1000"}, "back_looks must hold steps from 0 to"),
        ({"protocols": "f,f"}, "protocols must hold each value once"),
    ],
)
def test_impossible_specifications_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        Stories.build(**options)


def test_a_wrong_archive_is_one_line(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(b"no")
    lab = Stories(Stories.build(source=str(tmp_path / "x.tar.gz")))
    with pytest.raises(DataError, match=r"x\.tar\.gz must be a whole \.tar\.gz archive"):
        Shelf(tmp_path).run(lab, only=("words",))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("quick", [False, True])
def test_every_size_has_a_plan(size, quick):
    spec = Stories.build(size=size, quick=quick, seed=3)
    assert Stories.check(spec) == spec
    assert len(jobs(Stories(spec))) == 1 + spec["seeds"] * (2 + 2 * len(spec["protocols"]) * len(spec["rates"]) + 2 + 1)
    assert len(set(spec["tune_looks"]) | {0, spec["tune_steps"]}) >= 3
    assert stories_score.early(spec) in spec["back_looks"]
    assert Stories(spec).notes()
