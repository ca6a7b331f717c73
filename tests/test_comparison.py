"""Runs against one another: planted differences come back, nothing where nothing is, pairs only where items are the same."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import gnothi as package
from gnothi import pipeline
from gnothi.comparison import COLUMNS, Comparison, compare_runs
from gnothi.differences import Numbers, Shared, difference, unpaired
from gnothi.errors import DataError, SpecError, StoreError
from gnothi.experiments.study.estimates import quantity
from gnothi.experiments.study.simulation import Nulls
from gnothi.experiments.study.spec import parse
from gnothi.experiments.study.studies import study_of
from gnothi.store import RunFolder

KEY = ("self_report.difference", "seeking_minus_averse")
SIZES = {
    "agents": 6,
    "untrained_agents": 6,
    "fresh": 20,
    "native_choices": 10,
    "remeasured": 10,
    "report_training": False,
}


def run(folder: Path, name: str, model: str, experiment: str = "preferences", **options) -> Path:
    sizes = SIZES if experiment == "preferences" else {"variants": 1, "samples": 1, "fresh": 24, "temperature": 1.0}
    out = folder / name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "write_page", lambda *_: None)
        package.run(
            experiment, model=f"scripted/{model}", out=out, engine="inline", progress=False, **(sizes | options)
        )
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of `preferences` by two scripts, and one of another seed; runs of `risk`."""
    folder = tmp_path_factory.mktemp("runs")
    run(folder, "knows", "oracle", seeds=3)
    run(folder, "guesses", "guess", seeds=4)
    run(folder, "other-seed", "guess", seeds=3, seed=5)
    run(folder, "risk-knows", "oracle", "risk", seeds=3)
    run(folder, "risk-guesses", "guess", "risk", seeds=3)
    return folder


@pytest.fixture(scope="module")
def several(folder: Path) -> Comparison:
    """One that knows, and one of another seed, against one that guesses."""
    return compare_runs([folder / "guesses", folder / "knows", folder / "other-seed"])


@pytest.fixture(scope="module")
def found(several: Comparison) -> dict[tuple[str, str], dict]:
    """Rows of the one that knows against the one that guesses."""
    return {(r["name"], r["arm"]): dict(r) for r in several.rows if r["run"].endswith("knows")}


# -- numbers taken apart ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["knows", "risk-knows", "risk-guesses"])
def test_the_numbers_of_units_make_up_every_estimate(folder: Path, name: str):
    found = RunFolder.open(folder / name)
    numbers = pipeline.experiment(found.spec["experiment"]).by_unit(found)
    checked = 0
    for e in found.estimates():
        if e.value is None or e.method.startswith("within one unit") or (e.name, e.arm) not in numbers:
            continue
        values = np.array([v for v in numbers[e.name, e.arm].values.values() if v is not None])
        mean = np.tanh(np.arctanh(values).mean()) if "Fisher" in e.method else values.mean()
        assert mean == pytest.approx(e.value, abs=1e-9), e
        assert len(values) == e.n, e
        checked += 1
    assert checked > 15


# -- two finished runs -----------------------------------------------------------------------------------------------


def test_models_of_one_seed_that_met_the_same_items_are_pairs_and_the_sign_is_right(found):
    headline = found["agreement.reported_vs_learned", "tuned"]
    assert headline["paired"] and headline["pairs"] == 3 and "between runs by unit" in headline["method"]
    assert headline["difference_low"] > 0.3
    assert headline["first_n"] == 4 and headline["n"] == 3


def test_what_is_the_same_in_both_has_no_difference(found):
    learned = found["agreement.learned_vs_target", "tuned"]  # both choose by the table
    assert learned["difference"] == 0 and "no spread" in learned["reason"]
    assert found["agreement.reported_vs_learned", "untuned_own"]["difference"] == 0


def test_the_one_untuned_model_is_compared_over_its_agents(found):
    own = found["agreement.reported_vs_learned", "untuned_own"]
    assert own["paired"] and own["method"].startswith("within one unit of each run")


def test_another_seed_shares_no_items_so_models_are_two_groups(several):
    found = {(r["name"], r["arm"]): r for r in several.rows if r["run"].endswith("other-seed")}
    headline = found["agreement.reported_vs_learned", "tuned"]
    assert not headline["paired"] and headline["pairs"] == 0
    assert headline["method"].startswith("Welch's t over 3 and 4 units")
    own = found["agreement.reported_vs_learned", "untuned_own"]
    assert own["difference"] is not None and own["difference_low"] is None and "no interval" in own["reason"]


def test_runs_of_a_study_are_compared_by_seed(folder: Path):
    compared = compare_runs([folder / "risk-guesses", folder / "risk-knows"])
    found = {(r["name"], r["arm"]): r for r in compared.rows}
    backwards = compare_runs([folder / "risk-knows", folder / "risk-guesses"])
    turned = {(r["name"], r["arm"]): r for r in backwards.rows}[KEY]
    assert turned["difference"] == pytest.approx(-found[KEY]["difference"])
    assert turned["difference_high"] == pytest.approx(-found[KEY]["difference_low"])
    headline = found[KEY]
    assert headline["paired"] and headline["pairs"] == 3 and headline["difference_low"] > 0.2
    assert found["report.validity", "seeking"]["difference"] is not None
    assert found["behaviour.difference", "seeking_minus_averse"]["paired"]


def test_a_missing_side_keeps_its_row_with_the_reason(found):
    drift = found["report.option_drift", "tuned"]
    assert drift["difference"] is None and drift["reason"] == "both runs: each report was asked for once"


def test_several_runs_are_each_compared_with_the_first(folder: Path, several):
    assert [r["run"] for r in several.rows if (r["name"], r["arm"]) == ("agreement.reported_vs_learned", "tuned")] == [
        str(folder / "knows"),
        str(folder / "other-seed"),
    ]
    line = several.table()[0]
    assert line["estimate"] == "agreement.reported_vs_learned" and f"{folder / 'knows'} - {folder / 'guesses'}" in line
    assert several.differs["seed"] == ("0", "0", "5")
    assert several.differs["model"] == ("scripted/guess", "scripted/oracle", "scripted/guess")
    assert "recipe.kind" not in several.differs


def test_from_python_it_is_a_frame_with_documented_columns(folder: Path):
    frame = package.compare([folder / "risk-guesses", package.load(folder / "risk-knows")])
    assert tuple(frame.columns) == COLUMNS
    assert not frame.duplicated(["name", "arm", "run"]).any()
    assert frame.attrs["differs"]["model"] == ("scripted/guess", "scripted/oracle")


def test_runs_that_cannot_be_compared_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(SpecError, match="two runs or more, got 1"):
        compare_runs([folder / "knows"])
    with pytest.raises(SpecError, match=r"each run once, got .*knows twice"):
        compare_runs([folder / "knows", folder / "knows"])
    unfinished = RunFolder.create(tmp_path / "unfinished", {"experiment": "preferences"})
    with pytest.raises(StoreError, match="must be a finished run"):
        compare_runs([folder / "knows", unfinished.path])
    other = RunFolder.create(tmp_path / "other", {"experiment": "preferences"})
    other.finish([], {"failed": []})
    with pytest.raises(SpecError, match=r"must share an estimate with the first run, got .*other with none, and"):
        compare_runs([folder / "knows", other.path])


def test_rows_for_scripts_and_for_reading(several):
    listed = json.loads(several.to_json())
    assert all(tuple(row) == COLUMNS for row in listed)
    shown = list(csv.DictReader(io.StringIO(several.to_csv())))
    assert tuple(shown[0]) == COLUMNS and len(shown) == len(listed) == len(several.rows)
    assert float(shown[0]["difference"]) == listed[0]["difference"]
    assert [row for row in listed if row["difference"] is None and not row["reason"]] == []


def test_the_command_prints_a_table_and_what_differs_on_standard_error(folder: Path, gnothi):
    done = gnothi("compare", folder / "risk-guesses", folder / "risk-knows", "--json")
    assert done.returncode == 0, done.stderr
    assert {"name", "arm", "difference", "paired"} <= set(json.loads(done.stdout)[0])
    assert "model: scripted/guess | scripted/oracle" in done.stderr.splitlines()
    assert "one at a time" in gnothi.refused("compare", folder / "guesses", folder / "knows", "--csv", "--json")


# -- statistics ------------------------------------------------------------------------------------------------------


def numbers(values) -> Numbers:
    return Numbers(values=dict(enumerate(map(float, values))), n_points=len(values))


def test_pairs_with_something_in_common_have_a_narrower_interval_than_groups():
    rng = np.random.default_rng(0)
    common = rng.normal(0.5, 0.3, 6)
    first, second = common + rng.normal(0, 0.05, 6), common + 0.1 + rng.normal(0, 0.05, 6)
    one, two = numbers(first), numbers(second)
    pairs = difference(KEY, one, two, Shared(pairs=dict(enumerate(zip(first, second, strict=True))), n_points=6))
    groups = difference(KEY, one, two)
    assert pairs.value == pytest.approx(groups.value)
    assert pairs.high - pairs.low < 0.5 * (groups.high - groups.low)
    assert pairs.low < 0.1 < pairs.high
    textbook = stats.ttest_rel(second, first).confidence_interval()
    assert (pairs.low, pairs.high) == pytest.approx((textbook.low, textbook.high))


def test_groups_match_the_textbook_and_too_few_have_no_interval():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=4), rng.normal(1, 3, size=7)
    found = unpaired(list(a), list(b), name="n", arm="a", n_points=1)
    textbook = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((textbook.low, textbook.high))
    few = unpaired([0.1, 0.2], list(b), name="n", arm="a", n_points=1)
    assert few.value is not None and few.reason == "2 and 7 usable units, an interval needs 3 on each side"
    none = unpaired([None], list(b), name="n", arm="a", n_points=1)
    assert none.value is None and none.reason == "one side has no usable unit"
    same = unpaired([1, 1, 1], [0, 0, 0], name="n", arm="a", n_points=1)
    assert same.value == 1 and "no spread" in same.reason


@pytest.mark.parametrize(
    "values, level, message",
    [([float("nan")], 0.95, "values must be finite"), ([1.0], 1.5, r"level must be in \(0, 1\), got 1.5")],
)
def test_numbers_that_are_none_are_refused(values, level, message):
    with pytest.raises(DataError, match=message):
        unpaired(values, [1.0, 2.0, 3.0], name="n", arm="a", n_points=1, level=level)


def test_a_difference_stays_what_it_can_be():
    one, two = (Numbers(values=dict(enumerate(v)), span=1.0) for v in ((0.0, 1.0, 0.0), (1.0, 0.2, 1.0)))
    found = difference(("report.validity", "tuned"), one, two)
    assert found.low is not None and found.high == 1.0 and found.method.endswith("cut to what a difference can be")


@pytest.fixture(scope="module")
def nulls() -> list[Numbers]:
    """A study of which two quantities are simulated, and 800 runs of models that know nothing, as numbers of units."""
    options = {"seeds": 5, "variants": 1, "samples": 1, "fresh": 20}
    study = study_of(parse(pipeline.experiment("risk").build("scripted/guess", **options)))
    (wanted,) = (q for q in study.every_quantity() if (q.name, q.arm) == KEY)
    simulated = Nulls(study, lean=0.1)
    runs = (simulated.draw(seed) for seed in range(800))
    return [numbers([quantity(wanted, answers.of_seed(s)).value for s in range(5)]) for answers in runs]


@pytest.mark.parametrize("paired", [True, False])
def test_an_interval_leaves_out_0_in_one_null_of_twenty(nulls, paired: bool):
    left_out = 0
    for first, second in zip(nulls[::2], nulls[1::2], strict=True):
        pairs = {s: (first.values[s], second.values[s]) for s in first.values} if paired else {}
        found = difference(KEY, first, second, Shared(pairs=pairs, n_points=1))
        assert found.low is not None and found.high is not None
        left_out += not found.low <= 0 <= found.high
    assert 0.03 <= left_out / 400 <= 0.075, left_out


def test_a_planted_shift_of_simulated_models_is_found(nulls):
    found = [
        difference(KEY, one, Numbers(values={s: v + 0.8 for s, v in two.values.items() if v is not None}))
        for one, two in zip(nulls[:40:2], nulls[1:40:2], strict=True)
    ]
    assert np.mean([e.value for e in found]) == pytest.approx(0.8, abs=0.1)
    assert sum(e.low > 0 for e in found) >= 17
