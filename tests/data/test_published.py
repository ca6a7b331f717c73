"""The authors' files: made again from their sources, and read by layout however they are arranged."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnothi.behaviours.paper import PaperDomain
from gnothi.data.published import models_in, read_results
from gnothi.data.published_inputs import regenerated_inputs
from gnothi.data.published_tables import read_table
from gnothi.errors import SpecError

PUBLISHED = Path(os.environ.get("GNOTHI_PUBLISHED", Path(__file__).parents[2] / "../shared/published"))
PAPER = PUBLISHED / "self-interpretability"
needs_published = pytest.mark.skipif(not PAPER.is_dir(), reason="the authors' files (GNOTHI_PUBLISHED) are not here")

OPTIONS = [f"{x}_attribute_{i}" for x in "AB" for i in range(1, 6)]
REPORT_HEAD = ",".join(["explaining_model", "version", "scenario", *(f"report_attr{i}" for i in range(1, 6)), *OPTIONS])
CHOICE_HEAD = ",".join(["model", "scenario", "selection", *OPTIONS])
FIRST_FOLD = "m_itrained_first_50_of_100_50ex_weight_reports.csv"


def options(k: int) -> str:
    return ",".join(str(float(k + j)) for j in range(10))


def report(context: str, values: str, k: int = 0) -> str:
    return f"m,v,{context},{values},{options(k)}"


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("\n".join(lines) + "\n")


@needs_published
def test_all_nine_input_files_come_out_byte_for_byte():
    inputs = PAPER / "inputs"
    made = regenerated_inputs(PaperDomain(inputs / "candidate_scenarios.json", inputs / "roles.csv"))
    assert len(made) == 9
    for name, text in made.items():
        assert text.encode() == (inputs / name).read_bytes(), name


def test_too_few_sources_for_the_paper_are_refused():
    with pytest.raises(SpecError, match="must come from at least 1100 choice types and agents, got"):
        regenerated_inputs(PaperDomain())


@needs_published
def test_the_published_results_are_read_whole():
    found = read_results(PAPER / "results-gpt-4o-mini", model="gpt-4o-mini-2024-07-18")
    assert {k: len(v.contexts) for k, v in found.reports.items()} == {
        "off_the_shelf": 877,
        "weight_trained": 574,
        "trained_on_first": 500,
        "trained_on_last": 494,
        "native_before": 590,
        "native_after": 999,
    }
    assert {k: len(v.contexts) for k, v in found.choices.items()} == {"choices": 5000, "native_choices": 10000}
    assert {k: len(v) for k, v in found.measured.items()} == {"measured": 100, "native_measured": 100}
    assert (len(found.ranges), len(found.targets), found.missing, found.notes) == (1100, 1100, {}, ())


def test_columns_are_found_by_heading_and_bad_rows_are_counted(tmp_path: Path):
    write(
        tmp_path,
        "m_weight_reports.csv",
        "\ufeffreport_attr5, report_attr1,extra,scenario,report_attr2,report_attr3,report_attr4",
        "5,1,x, tea ,2,3,4",
        "",
        "5,one,x,tea,2,3,4",
        "5,nan,x,tea,2,3,4",
        "5,1e300,x,tea,2,3,4",
        "5,1,x,,2,3,4",
        "5,1,x,tea",
        "50,10,x,mug,20,30,-0,,",
        ",,,,,,",
    )
    found = read_results(tmp_path, model="m")
    assert found.reports["off_the_shelf"].contexts == ("tea", "mug")
    assert found.reports["off_the_shelf"].values.tolist() == [[1, 2, 3, 4, 5], [10, 20, 30, 0, 50]]
    assert found.notes == ("m_weight_reports.csv: 5 rows that could not be read are left out",)


def test_letters_may_have_white_space_and_nothing_else(tmp_path: Path):
    letters = [" A ", "b", "A.", "", "neither", "B"]
    write(
        tmp_path, "m_instilled_selections.csv", CHOICE_HEAD, *(f"m,tea,{s},{options(k)}" for k, s in enumerate(letters))
    )
    found = read_results(tmp_path, model="m")
    assert found.choices["choices"].chose_a.tolist() == [True, False, False]
    assert found.choices["choices"].a[1].tolist() == [1, 2, 3, 4, 5]
    assert found.notes == ("m_instilled_selections.csv: 3 rows that could not be read are left out",)


def test_rows_equal_in_every_column_count_once_if_the_prompt_is_known(tmp_path: Path):
    rows = [report("tea", "1,2,3,4,5", 0), report("tea", "1,2,3,4,5", 0), report("tea", "1,2,3,4,5", 1)]
    write(tmp_path, "m_weight_reports.csv", REPORT_HEAD, *rows)
    short = ["scenario,report_attr1,report_attr2,report_attr3,report_attr4,report_attr5", *["tea,1,2,3,4,5"] * 3]
    write(tmp_path, "m_instilled_weight_reports.csv", *short)
    found = read_results(tmp_path, model="m")
    assert len(found.reports["off_the_shelf"].contexts) == 2
    assert len(found.reports["weight_trained"].contexts) == 3
    assert found.notes == ("m_weight_reports.csv: 1 rows repeat another in every column and count once",)


def test_weights_that_contradict_each_other_are_left_out(tmp_path: Path):
    head = "scenario,b_attr1,b_attr2,b_attr3,b_attr4,b_attr5"
    rows = ["tea,1,2,3,4,100", "tea,1,2,3,4,100", "mug,1,2,3,4,100", "mug,1,2,3,4,-100", "cup,NA,2,3,4,100"]
    write(tmp_path, "m_regression_results.csv", head, *rows)
    found = read_results(tmp_path, model="m")
    assert {c: w.tolist() for c, w in found.measured["measured"].items()} == {"tea": [1, 2, 3, 4, 100]}
    assert found.notes == ("m_regression_results.csv: left out for want of one row of numbers: cup, mug",)


@pytest.mark.parametrize(
    "name, kind",
    [
        (FIRST_FOLD, "trained_on_first"),
        ("m_itrained_first_20_of_40_weight_reports.csv", "trained_on_first"),
        ("m_itrained_last_50_run2_weight_reports.csv", "trained_on_last"),
        ("m_itrained_all_latent_weight_reports.csv", "native_after"),
        ("m_itrained_all_40_3ex_latent_weight_reports.csv", "native_after"),
        ("m_instilled_latent_weight_reports.csv", "native_before"),
    ],
)
def test_files_are_known_by_their_ending(tmp_path: Path, name: str, kind: str):
    write(tmp_path, name, REPORT_HEAD, report("tea", "1,2,3,4,5"))
    found = read_results(tmp_path, model="m")
    assert list(found.reports) == [kind]
    assert models_in(tmp_path) == ["m"]


def test_the_published_name_wins_and_two_others_are_one_too_many(tmp_path: Path):
    for name in (FIRST_FOLD, "m_itrained_first_50_new_weight_reports.csv"):
        write(tmp_path, name, REPORT_HEAD, report(name, "1,2,3,4,5"))
    assert read_results(tmp_path, model="m").reports["trained_on_first"].contexts == (FIRST_FOLD,)
    (tmp_path / FIRST_FOLD).rename(tmp_path / "m_itrained_first_50_old_weight_reports.csv")
    found = read_results(tmp_path, model="m")
    assert "trained_on_first" not in found.reports
    assert found.missing["trained_on_first"].startswith("more than one file it could be: m_itrained_first_50_new")


def test_every_missing_file_has_its_reason(tmp_path: Path):
    write(tmp_path, "m_weight_reports.csv", REPORT_HEAD, report("tea", "1,2,3,4,5"))
    found = read_results(tmp_path, model="m")
    assert found.missing["choices"] == "no file m_instilled_selections.csv"
    assert found.missing["trained_on_last"] == "no file m_itrained_last…_weight_reports.csv"
    assert found.missing["ranges"] == "no file scenarios.csv among the inputs"
    assert len(found.missing) == 11


def test_contexts_that_a_model_was_trained_on_are_not_held_out(tmp_path: Path):
    ends = ["attr{}_min", "attr{}_max"]
    head = ",".join(["scenario", *(e.format(i) for i in range(1, 6) for e in ends)])
    write(tmp_path, "scenarios.csv", head, *(f"c{i},{','.join(['0,1'] * 5)}" for i in range(6)))
    rows = [report(f"c{i}", "1,2,3,4,5") for i in range(6)]
    write(tmp_path, "m_itrained_first_2_of_4_weight_reports.csv", REPORT_HEAD, *rows)
    write(tmp_path, "m_itrained_last_2_weight_reports.csv", REPORT_HEAD, *rows)
    found = read_results(tmp_path, model="m")
    assert found.reports["trained_on_first"].contexts == ("c2", "c3", "c4", "c5")
    assert found.reports["trained_on_last"].contexts == ("c0", "c1", "c4", "c5")
    assert "2 rows about contexts that this model was trained on are left out" in found.notes[0]


def test_ranges_that_are_none_are_left_out(tmp_path: Path):
    head = ",".join(["scenario", *(f"attr{i}_{e}" for e in ("min", "max") for i in range(1, 6))])
    write(tmp_path, "scenarios.csv", head, "tea,0,0,0,0,0,1,1,1,1,1", "mug,0,0,0,0,2,1,1,1,1,2")
    write(tmp_path, "m_weight_reports.csv", REPORT_HEAD)
    found = read_results(tmp_path, model="m")
    assert list(found.ranges) == ["tea"]
    assert found.notes == ("scenarios.csv: mug is left out, its ranges are not low < high",)


def test_inputs_are_looked_for_in_the_folder_and_beside_it(tmp_path: Path):
    results, beside = tmp_path / "results", tmp_path / "inputs"
    results.mkdir()
    beside.mkdir()
    write(results, "m_weight_reports.csv", REPORT_HEAD)
    write(beside, "instilled_weights.csv", "scenario,attr1,attr2,attr3,attr4,attr5", "tea,1,2,3,4,5")
    assert list(read_results(results, model="m").targets) == ["tea"]
    write(results, "instilled_weights.csv", "scenario,attr1,attr2,attr3,attr4,attr5", "mug,1,2,3,4,5")
    assert list(read_results(results, model="m").targets) == ["mug"]
    assert list(read_results(results, model="m", inputs=beside).targets) == ["tea"]
    with pytest.raises(SpecError, match=r"--inputs must be a folder, got .*Leave it out"):
        read_results(results, model="m", inputs=tmp_path / "none")


def test_a_model_without_files_is_refused_with_those_that_have_some(tmp_path: Path):
    for name in ("qwen-7b_weight_reports.csv", "gpt-4o_instilled_latent_selections.csv", "notes.csv"):
        write(tmp_path, name, "x")
    with pytest.raises(SpecError, match=r"got 'gpt'. Models with files there: gpt-4o, qwen-7b\."):
        read_results(tmp_path, model="gpt")


def test_folders_without_results_are_refused(tmp_path: Path):
    with pytest.raises(SpecError, match=r"got 'm'. Models with files there: none"):
        read_results(tmp_path, model="m")
    with pytest.raises(SpecError, match=r"DIR must be a folder of result files, got .*none' \(No such file"):
        read_results(tmp_path / "none", model="m")
    write(tmp_path, "file", "x")
    with pytest.raises(SpecError, match=r"DIR must be a folder of result files, got .*file' \(Not a directory"):
        read_results(tmp_path / "file", model="m")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "must have the columns scenario, .*got none called scenario, report_attr1"),
        (b"scenario,report_attr1\ntea,1\n", "got none called report_attr2, report_attr3"),
        (REPORT_HEAD.encode() + b'\nm,v,"tea,1,2\n', "must be CSV in UTF-8, got unexpected end of data"),
        (REPORT_HEAD.encode() + b"\nm,v,\xff\xfe,1\n", "must be CSV in UTF-8, got 'utf-8' codec"),
        (REPORT_HEAD.encode() + b"\n" + b"1" * 200_000, "must be CSV in UTF-8, got field larger than field limit"),
        (REPORT_HEAD.encode() + b",scenario\n", "must name each column once, got scenario twice"),
    ],
)
def test_a_broken_table_is_one_clear_error(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "m_weight_reports.csv").write_bytes(content)
    with pytest.raises(SpecError, match=message):
        read_results(tmp_path, model="m")


def test_a_table_that_cannot_be_opened_is_refused(tmp_path: Path):
    with pytest.raises(SpecError, match="must be a file that can be read, got No such file"):
        read_table(tmp_path / "none.csv", ["a"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path: Path, noise: bytes):
    (tmp_path / "m_weight_reports.csv").write_bytes(REPORT_HEAD.encode() + b"\n" + noise)
    try:
        rows = read_results(tmp_path, model="m").reports["off_the_shelf"]
    except SpecError:
        return
    assert rows.values.shape == (len(rows.contexts), 5)
    assert np.isfinite(rows.values).all()
