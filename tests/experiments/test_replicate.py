"""Paper B's figures from raw files: the published ones, planted ones, and folders that lack something."""

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnothi.api import replicate
from gnothi.errors import SpecError
from gnothi.experiments.replicate import Replication, check_paper, replicate_self_interpretability

PUBLISHED = Path(os.environ.get("GNOTHI_PUBLISHED", Path(__file__).parents[2] / "../shared/published"))
PAPER = PUBLISHED / "self-interpretability"
RESULTS, INPUTS, MODEL = PAPER / "results-gpt-4o-mini", PAPER / "inputs", "gpt-4o-mini-2024-07-18"
needs_published = pytest.mark.skipif(not PAPER.is_dir(), reason="the authors' files (GNOTHI_PUBLISHED) are not here")

Rows = list[list[str]]
OPTIONS = [f"{x}_attribute_{i}" for x in "AB" for i in range(1, 6)]
FILES = {  # our words for the files, and how they end
    "choices": "instilled_selections",
    "native_choices": "instilled_latent_selections",
    "measured": "regression_results",
    "native_measured": "latent_regression_results",
    "off_the_shelf": "weight_reports",
    "weight_trained": "instilled_weight_reports",
    "first": "itrained_first_50_of_100_50ex_weight_reports",
    "last": "itrained_last_50_of_100_50ex_weight_reports",
    "native_before": "instilled_latent_weight_reports",
    "native_after": "itrained_all_100_50ex_latent_weight_reports",
}


def wrong(want: Any, got: Any, path: str = "") -> list[str]:
    """Figures of `want` that `got` does not have to three decimals (the largest attribute's share: to two)."""
    if isinstance(want, dict):
        return [w for k, v in want.items() for w in wrong(v, got.get(k), f"{path}.{k}")]
    if isinstance(want, list):
        return [w for i, v in enumerate(want) for w in wrong(v, got[i], f"{path}.{i}")]
    tolerance = 0.0051 if "top_attribute" in path else 0.0011
    return [] if got is not None and abs(got - want) <= tolerance else [f"{path}: want {want}, got {got}"]


def golden() -> dict[str, Any]:
    found = json.loads((PAPER / "derived" / "golden_values.json").read_text())
    return {part: found[part]["gpt-4o-mini"] for part in ("instilled", "native")}


def at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    return tree


def copy(folder: Path, *without: str, change: Callable[[str, Rows], Rows] = lambda _, rows: rows) -> Path:
    """The published files again, some left out, the others' rows (heading first) changed."""
    folder.mkdir()
    for kind, ending in FILES.items():
        if kind not in without:
            with (RESULTS / f"{MODEL}_{ending}.csv").open(newline="") as file:
                rows = list(csv.reader(file))
            with (folder / f"m_{ending}.csv").open("w", newline="") as file:
                csv.writer(file).writerows(change(kind, rows))
    return folder


@pytest.fixture(scope="module")
def published() -> Replication:
    return replicate_self_interpretability(RESULTS, model=MODEL)


@needs_published
def test_every_published_figure_comes_out_to_three_decimals(published: Replication):
    assert wrong(golden(), published.to_json()) == []
    assert published.missing == {} and published.notes == ()
    assert published.reasons == []


@needs_published
def test_our_own_fit_of_the_choices_is_within_three_points_of_the_released_weights(published: Replication):
    for part in (published.instilled, published.native):
        assert part["refit_vs_released_r"] > 0.9999
        assert part["refit_vs_released_max_abs_difference"] <= 3


@needs_published
def test_the_table_puts_the_papers_figures_beside_ours(published: Replication):
    rows = published.table()
    printed = [r for r in rows if r["paper"] is not None]
    assert len(printed) == 10 and printed == rows[:10]
    assert all(abs(r["difference"]) < 0.0066 for r in printed)
    assert {tuple(r) for r in rows} == {("figure", "ours", "paper", "difference", "note")}
    assert len(rows) == len({r["figure"] for r in rows}) > 50


@needs_published
def test_intervals_are_near_the_papers(published: Replication):
    # the paper: [0.42, 0.59], [0.69, 0.81] over points; ours are over contexts
    intervals = published.instilled["report_vs_measured_interval"]
    assert intervals["weight_trained"] == pytest.approx([0.42, 0.59], abs=0.03)
    assert intervals["introspection_trained"] == pytest.approx([0.69, 0.81], abs=0.03)
    assert intervals["off_the_shelf"][0] < 0 < intervals["off_the_shelf"][1]


@needs_published
def test_order_of_rows_columns_and_other_prefixes_change_nothing(tmp_path: Path, published: Replication):
    rng = random.Random(0)

    def shuffled(kind: str, rows: Rows) -> Rows:
        columns = rng.sample(range(len(rows[0])), len(rows[0]))
        body = rows[1:] + ([rows[5], [" "] * len(rows[0])] if "measured" not in kind else [rows[5]])
        rng.shuffle(body)
        return [["extra", *(rows[0][i] for i in columns)], *(["x", *(f" {r[i]} " for i in columns)] for r in body)]

    found = replicate_self_interpretability(copy(tmp_path / "r", change=shuffled), inputs=INPUTS, model="m")
    assert wrong({"i": published.instilled, "n": published.native}, {"i": found.instilled, "n": found.native}) == []
    kinds = ("rows repeat another in every column and count once", "1 rows that could not be read are left out")
    assert all(note.endswith(kinds) for note in found.notes)


@needs_published
def test_without_choice_files_only_what_needs_choices_is_missing(tmp_path: Path):
    folder = copy(tmp_path / "r", "choices", "native_choices")
    found = replicate_self_interpretability(folder, inputs=INPUTS, model="m")
    want = golden()
    gone = [
        "instilled.choice_agreement_with_target",
        "native.choice_prediction_before",
        "native.choice_prediction_after",
    ]
    gone += [f"instilled.choice_prediction_accuracy_from_reports.{arm}" for arm in want["instilled"]["slope"]]
    for path in gone:
        assert at(found.to_json(), path) is None
        assert found.missing[path] == f"no file m_{FILES['native_choices' if 'native' in path else 'choices']}.csv"
        part, key, *_ = path.split(".")
        want[part].pop(key, None)
    assert wrong(want, found.to_json()) == []
    assert sum("no file m_instilled_selections.csv; therefore missing: " in r for r in found.reasons) == 1
    row = next(r for r in found.table() if r["figure"] == gone[0])
    assert (row["ours"], row["difference"]) == (None, None) and row["note"].startswith("no file")


@needs_published
def test_without_regression_files_weights_are_learned_from_the_choices(tmp_path: Path, published: Replication):
    folder = copy(tmp_path / "r", "measured", "native_measured")
    found = replicate_self_interpretability(folder, inputs=INPUTS, model="m")
    for path in ("instilled.report_vs_measured_r.weight_trained", "instilled.measured_vs_target_r", "native.after_r"):
        assert at(found.to_json(), path) == pytest.approx(at(published.to_json(), path), abs=0.002)
    assert "no file m_regression_results.csv: weights are learned from the choices instead" in found.notes
    assert found.instilled["refit_vs_released_r"] is None


@needs_published
def test_without_choices_and_regressions_reports_are_still_scored_against_targets(tmp_path: Path):
    folder = copy(tmp_path / "r", "measured", "native_measured", "choices", "native_choices")
    found = replicate_self_interpretability(folder, inputs=INPUTS, model="m")
    want = golden()["instilled"]
    assert wrong({k: want[k] for k in ("report_vs_target_r", "n_points")}, found.instilled) == []
    assert set(found.instilled["report_vs_measured_r"].values()) == {None}
    assert found.instilled["single_report_r"]["introspection_trained_folds"] == [None, None]
    assert found.native["n_before"] == 380 and found.native["before_r"] is None
    assert found.missing["native.before_r"] == (
        "no measured weights (no file m_latent_regression_results.csv) and no choices to learn them from "
        "(no file m_instilled_latent_selections.csv)"
    )


@needs_published
def test_without_inputs_nothing_is_known_of_targets_and_ranges(tmp_path: Path):
    found = replicate_self_interpretability(copy(tmp_path / "r"), model="m")
    want = golden()
    for key in ("choice_agreement_with_target", "measured_vs_target_r", "choice_prediction_accuracy_from_reports"):
        assert at(found.instilled, key) is None or set(found.instilled[key].values()) == {None}
        want["instilled"].pop(key)
    assert set(found.instilled["report_vs_target_r"].values()) == {None}
    want["instilled"].pop("report_vs_target_r")
    for when in ("before", "after"):
        assert found.native[f"choice_prediction_{when}"] is None
        want["native"].pop(f"choice_prediction_{when}")
    assert wrong(want, found.to_json()) == []


@needs_published
def test_one_half_alone_is_not_the_two_held_out_halves(tmp_path: Path, published: Replication):
    found = replicate_self_interpretability(copy(tmp_path / "r", "first"), inputs=INPUTS, model="m")
    assert found.instilled["report_vs_measured_r"]["introspection_trained"] is None
    assert found.instilled["n_points"]["introspection_trained"] is None
    assert "the two held-out halves belong together" in found.missing["instilled.slope.introspection_trained"]
    second = published.instilled["single_report_r"]["introspection_trained_folds"][1]
    assert found.instilled["single_report_r"]["introspection_trained_folds"] == [None, pytest.approx(second)]


@needs_published
def test_fewer_contexts_and_rows_are_scored_as_they_are(tmp_path: Path):
    with (RESULTS / f"{MODEL}_regression_results.csv").open() as file:
        kept = [r["scenario"] for r in csv.DictReader(file)][::3]

    def fewer(kind: str, rows: Rows) -> Rows:
        where = rows[0].index("scenario")
        if kind.startswith("native"):
            return rows[:1]
        body = [r for r in rows[1:] if r[where] in kept]
        return [rows[0], *(body if kind == "measured" else body[::2])]

    found = replicate_self_interpretability(copy(tmp_path / "r", change=fewer), inputs=INPUTS, model="m")
    # an independent computation, without our readers: the mean of each context's rows, then numpy's r
    with (tmp_path / "r" / "m_instilled_weight_reports.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "r" / "m_regression_results.csv").open() as file:
        truth = {r["scenario"]: [float(r[f"b_attr{i}"]) for i in range(1, 6)] for r in csv.DictReader(file)}
    grouped: dict[str, list[list[float]]] = {}
    for r in rows:
        grouped.setdefault(r["scenario"], []).append([float(r[f"report_attr{i}"]) for i in range(1, 6)])
    x = np.array([np.mean(v, axis=0) for v in grouped.values()]).ravel()
    y = np.array([truth[c] for c in grouped]).ravel()
    assert found.instilled["report_vs_measured_r"]["weight_trained"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.instilled["n_points"]["weight_trained"] == len(x) < 200
    measured = np.array(list(truth.values()))
    slope = np.polyfit((x - x.mean()) / x.std(ddof=1), (y - measured.mean()) / measured.std(ddof=1), 1)[0]
    assert found.instilled["slope"]["weight_trained"] == pytest.approx(slope)
    assert found.missing["native.n_before"] == "native_before: no valid report"
    assert found.native["before_r"] is None


def plant(folder: Path, noise: float, seed: int = 0) -> Path:
    """A folder of 40 contexts with choices made from known weights, and reports that are these weights plus noise.

    The native files are about the same contexts: no figure looks at both.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    names = [f"c{i:02}" for i in range(40)]
    weights = np.round(rng.uniform(-1, 1, (40, 5)) * 100)
    weights[np.arange(40), np.abs(weights).argmax(axis=1)] = 100.0

    def write(name: str, head: list[str], rows: list[list[Any]]) -> None:
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([head, *rows])

    numbered = range(1, 6)
    ends = [f"attr{i}_{e}" for e in ("min", "max") for i in numbered]
    write("scenarios.csv", ["scenario", *ends], [[n, *[0.0] * 5, *[10.0] * 5] for n in names])
    targets = [[n, *w] for n, w in zip(names, weights, strict=True)]
    write("instilled_weights.csv", ["scenario", *(f"attr{i}" for i in numbered)], targets)
    for name in ("m_regression_results.csv", "m_latent_regression_results.csv"):
        write(name, ["scenario", *(f"b_attr{i}" for i in numbered)], targets)
    choices = []
    for name, w in zip(names, weights, strict=True):
        for a, b in rng.integers(0, 11, (30, 2, 5)).astype(float):
            choices.append([name, "A" if (a - b) @ w > 0 else "B", *a, *b])
    for name in ("m_instilled_selections.csv", "m_instilled_latent_selections.csv"):
        write(name, ["scenario", "selection", *OPTIONS], choices)
    head = ["scenario", *(f"report_attr{i}" for i in numbered), *OPTIONS]

    def reports(which: range, scale: float) -> list[list[Any]]:
        return [
            [names[i], *(scale * weights[i] + noise * rng.standard_normal(5)), *rng.integers(0, 11, 10).astype(float)]
            for i in which
            for _ in range(10)
        ]

    write(
        "m_weight_reports.csv", head, [[r[0], *(100 * rng.standard_normal(5)), *r[6:]] for r in reports(range(40), 1)]
    )
    write("m_instilled_weight_reports.csv", head, reports(range(40), 1))
    write("m_instilled_latent_weight_reports.csv", head, reports(range(40), 1))
    write("m_itrained_all_40_latent_weight_reports.csv", head, reports(range(40), 2))
    write("m_itrained_first_20_of_40_weight_reports.csv", head, reports(range(20, 40), 1))
    write("m_itrained_last_20_of_40_weight_reports.csv", head, reports(range(20), 3))
    return folder


def test_planted_reports_come_back_and_noise_does_not(tmp_path: Path):
    found = replicate_self_interpretability(plant(tmp_path / "r", noise=0.0), model="m").instilled
    for arm in ("weight_trained", "introspection_trained"):
        assert found["sign_match"][arm] == found["top_attribute_match"][arm] == 1
        assert found["mean_within_context_r"][arm] == pytest.approx(1)
        assert found["choice_prediction_accuracy_from_reports"][arm] == 1
    assert found["report_vs_measured_r"]["weight_trained"] == pytest.approx(1)
    assert found["choice_agreement_with_target"] == found["regression_accuracy"] == 1
    assert found["measured_vs_target_r"] == pytest.approx(1)
    assert abs(found["report_vs_measured_r"]["off_the_shelf"]) < 0.25
    assert found["n_points"] == dict.fromkeys(("off_the_shelf", "weight_trained", "introspection_trained"), 200)


@pytest.mark.parametrize("gone", sorted(FILES))
def test_any_one_file_may_be_missing(tmp_path: Path, gone: str):
    folder = plant(tmp_path / "r", noise=20.0)
    whole = replicate_self_interpretability(folder, model="m")
    assert whole.missing == {} and whole.notes == ()
    next(
        folder.glob(f"m_{FILES[gone].replace('_50_of_100_50ex', '_20_of_40').replace('all_100_50ex', 'all_40')}.csv")
    ).unlink()
    found = replicate_self_interpretability(folder, model="m")
    ours, before = found.to_json(), whole.to_json()
    n_missing = 0
    for path in (row["figure"] for row in whole.table() if "valid_report_rows" not in row["figure"]):
        if at(ours, path) is None:
            n_missing += 1
            assert found.missing[path]
        elif "measured" not in gone:
            assert at(ours, path) == at(before, path)
    assert n_missing == len(found.missing) > 0
    assert found.reasons
    json.dumps(ours, allow_nan=False)


def test_folds_are_standardised_apart_in_the_slope_and_pooled_in_r(tmp_path: Path):
    found = replicate_self_interpretability(plant(tmp_path / "r", noise=0.0), model="m").instilled
    assert found["report_vs_measured_r"]["introspection_trained"] < 0.95  # one half reports three times too much
    assert found["slope"]["introspection_trained"] == pytest.approx(1, abs=0.02)


def test_weights_learned_from_planted_choices_are_near_them(tmp_path: Path):
    folder = plant(tmp_path / "r", noise=0.0)
    (folder / "m_regression_results.csv").unlink()
    found = replicate_self_interpretability(folder, model="m")
    assert found.instilled["measured_vs_target_r"] > 0.93


def test_contexts_in_both_halves_and_without_weights_are_left_out_and_said(tmp_path: Path):
    folder = plant(tmp_path / "r", noise=1.0)
    (folder / "scenarios.csv").unlink()  # without the order nobody knows who was trained on what
    first, last = (folder / f"m_itrained_{x}_20_of_40_weight_reports.csv" for x in ("first", "last"))
    with first.open() as file, last.open("a") as out:
        out.writelines(file.readlines()[1:11])  # ten rows, all about c20
    path = folder / "m_regression_results.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:31]))
    found = replicate_self_interpretability(folder, model="m")
    assert found.instilled["n_points"]["introspection_trained"] == 195
    assert "trained_on_first and trained_on_last: 1 contexts stand in both and are left out" in found.notes
    assert "weight_trained: 10 contexts with a report have no measured weights and are not scored" in found.notes


def test_constant_reports_give_no_correlation_and_a_reason(tmp_path: Path):
    folder = plant(tmp_path / "r", noise=1.0)
    path = folder / "m_weight_reports.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *([r[0], *["0"] * 5, *r[6:]] for r in rows[1:])])
    found = replicate_self_interpretability(folder, model="m")
    for key in ("report_vs_measured_r", "slope", "mean_within_context_r"):
        assert found.instilled[key]["off_the_shelf"] is None
    assert found.missing["instilled.slope.off_the_shelf"] == "reports are constant"
    assert found.instilled["sign_match"]["off_the_shelf"] < 0.05


def test_bad_input_is_refused_with_a_reason(tmp_path: Path):
    with pytest.raises(
        SpecError, match="PAPER must be one of self-interpretability, behavioral-self-awareness, got 'x'"
    ):
        check_paper("x")
    check_paper("self-interpretability")
    with pytest.raises(SpecError, match="--model must name the model whose files are read, got none"):
        replicate("self-interpretability", tmp_path)
    with pytest.raises(SpecError, match="DIR must be a folder of result files"):
        replicate_self_interpretability(tmp_path / "none", model="m")
    with pytest.raises(SpecError, match="Models with files there: none"):
        replicate_self_interpretability(tmp_path, model="m")


def test_neither_torch_nor_pandas_is_needed(tmp_path: Path):
    folder = plant(tmp_path / "r", noise=1.0)
    code = (
        "import sys; from gnothi.experiments.replicate import replicate_self_interpretability as r; "
        f"r({str(folder)!r}, model='m'); print(*[m for m in ('torch', 'pandas', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()


def test_the_json_holds_null_for_what_is_missing(tmp_path: Path):
    folder = plant(tmp_path / "r", noise=1.0)
    for name in ("m_weight_reports.csv", "m_instilled_latent_weight_reports.csv"):
        (folder / name).unlink()
    text = json.dumps(replicate_self_interpretability(folder, model="m").to_json(), allow_nan=False)
    found = json.loads(text)
    assert found["instilled"]["report_vs_measured_r"]["off_the_shelf"] is None
    assert found["native"]["before_r"] is None
    assert found["missing"]["native.before_r"].startswith("no file m_instilled_latent_weight_reports.csv")
