"""A look at a small run from the command to the page: what is there, what stays as it was, what is refused."""

import json
import shutil
from pathlib import Path

import pytest
from tests.experiments.look.conftest import SMALL, small

import gnothi
from gnothi import pipeline
from gnothi.errors import ModelError, SpecError, StoreError
from gnothi.experiments.look import names, work
from gnothi.experiments.look import spec as specs
from gnothi.store import RunFolder

SCRIPTED = Path(__file__).parents[1] / "run-v1"


def test_a_look_is_a_run_with_a_unit_a_model_and_the_control_comes_along(look: RunFolder):
    assert look.units() == ["seeking-0", "shuffled-0"]
    assert look.verify()["failed"] == []
    found = {(e.name, e.arm): e for e in look.estimates()}
    assert {a for _, a in found} == {"seeking", "shuffled", "seeking_minus_shuffled"}
    assert {n.partition("/")[0] for n, _ in found} <= set(names.ESTIMATES)
    gap = found["look.gap/choice", "seeking"].value
    assert gap is not None and gap > (found["look.gap/choice", "shuffled"].value or 0)


def test_everything_is_taken_back_by_the_one_unit_that_was_trained(look: RunFolder):
    record = look.read_unit("seeking-0")
    assert (record["units"], record["undo_chosen"]) == (1, 1)
    rows = look.table("seeking-0", "undo")
    assert rows[rows["items"] == "shown"]["share"].tolist() == pytest.approx(
        [1.0] * len(rows[rows["items"] == "shown"])
    )


def test_the_line_ends_at_both_models_and_divergence_stands_by_position(look: RunFolder):
    line = look.table("seeking-0", "line").set_index("t")["share"]
    assert line[0.0] == 0 and line[1.0] == pytest.approx(1)
    positions = look.table("seeking-0", "positions")
    assert (positions["kl"] >= 0).all() and set(positions["what"]) == {"choice", "self_report"}
    assert look.table("seeking-0", "matrices")["part"].tolist() == ["embed"]


def test_reverse_fine_tuning_takes_the_choice_back(look: RunFolder):
    rows = look.table("seeking-0", "back")
    there = rows[(rows["items"] == "shown") & rows["chosen"]].sort_values("step")["share"].tolist()
    assert there[0] == 0 and max(there) > 0.3


def test_a_fine_tune_of_one_embedding_is_in_the_streams_from_the_start(look: RunFolder):
    sites = look.table("seeking-0", "choice_sites")
    exact = sites[(sites["method"] == "exact") & (sites["kind"] == "resid") & ~sites["at_end"]]
    assert exact["share"].tolist() == pytest.approx([1.0] * len(exact), abs=1e-4)


def test_the_model_that_is_looked_at_answers_as_it_did_when_it_was_measured(look: RunFolder):
    for unit in look.units():
        assert look.read_unit(unit)["reproduced_to"] < 1e-3


def test_self_reports_of_one_seed_are_not_interpreted(look: RunFolder):
    (found,) = (e for e in look.estimates() if (e.name, e.arm) == ("look.same_sites", "seeking"))
    assert found.value is None and "has no interval" in (found.reason or "")


def test_nothing_of_the_run_changes_but_its_page(run: RunFolder, look: RunFolder, before: dict[str, bytes]):
    del look
    for name, content in before.items():
        if not name.startswith(("figures/", "report.html", "run.log", ".lock")):
            assert (run.path / name).read_bytes() == content, name
    run.verify()


def test_the_page_has_the_sections_and_keeps_them_when_it_is_written_again(run: RunFolder, look: RunFolder):
    del look
    pipeline.rewrite(run.path)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    for title in ("which sites carry the choice", "units that undo the fine-tune", "the numbers"):
        assert f"Inside: {title}" in page
    assert (run.path / "figures" / "look-choice.svg").is_file()
    assert "<script" not in page


def test_a_killed_look_goes_on_with_what_it_found(
    run: RunFolder, look: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns("look"))
    stages = dict(work.STAGES)

    def stop(_: object) -> dict:
        raise KeyboardInterrupt

    spec = small(RunFolder.open(copy), units=["seeking-0"])
    monkeypatch.setattr(work, "STAGES", stages | {"probe": stop})
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(spec, copy / "look", engine="inline")
    kept = sorted(p.stem for p in (copy / "look" / "checkpoints" / "seeking-0").glob("*.json"))
    assert kept == ["between-items", "differences", "read", "sites-of-the-choice", "sites-of-the-report"]
    again = {name: stop for name in list(stages)[:5]}
    monkeypatch.setattr(work, "STAGES", stages | again)
    folder = copy / "look"
    found = RunFolder.open(folder)
    work.run_job(str(folder), pipeline.plan_of(spec)[0][0], lambda *_: None)
    for name in ("prompts", "choice_sites", "undo", "back"):
        assert found.table("seeking-0", name).equals(look.table("seeking-0", name)), name
    assert not (folder / "checkpoints").exists()


def test_another_look_is_refused_until_the_first_is_removed(run: RunFolder, look: RunFolder):
    other = specs.build(run, quick=True, pairs=5).model_dump(mode="json")
    with pytest.raises(SpecError, match=r"RUN must have no other look, got .* which differs in .*pairs.*gnothi clean"):
        specs.refuse_another(look.path, other)
    specs.refuse_another(look.path, look.spec)


def test_from_python_a_look_that_is_done_is_opened_and_another_is_refused(
    run: RunFolder, look: RunFolder, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(SpecError, match=r"RUN must have no other look, got .* which differs in .*pairs"):
        gnothi.look(gnothi.load(run.path), units=["seeking-0"], pairs=5, progress=False)
    with pytest.raises(SpecError, match="--seeds must be left out where --units names the models, got both"):
        gnothi.look(run.path, units=["seeking-0"], seeds=1)
    monkeypatch.setattr(specs, "QUICK", {"organism": {k: v for k, v in SMALL.items() if k != "pairs"}})
    found = gnothi.look(
        run.path, units=["seeking-0"], pairs=SMALL["pairs"], quick=True, engine="inline", progress=False
    )
    assert found.path == look.path and list(found.units["unit"]) == ["seeking-0", "shuffled-0"]
    assert set(found.estimates["name"]) == {e.name for e in look.estimates()}
    assert not found.points.empty


def test_models_that_changed_since_are_refused(run: RunFolder, look: RunFolder, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    record = copy / "units" / "seeking-0" / "unit.json"
    record.write_text(record.read_text() + " ")
    assert not specs.same_models(specs.parse(look.spec), RunFolder.open(copy))
    from gnothi.experiments.look.page import sections

    assert sections(RunFolder.open(copy)) == ([], [])


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("seeking", "Did you mean seeking-0"),
        ("base", "which is the model as it came"),
    ],
)
def test_a_unit_that_is_not_there_is_named_with_the_nearest(run: RunFolder, unit: str, said: str):
    with pytest.raises(SpecError, match=said):
        specs.build(run, units=[unit])


def test_more_seeds_than_there_are_are_refused(run: RunFolder):
    with pytest.raises(SpecError, match="--seeds must be 1 to 1"):
        specs.build(run, seeds=2)


def test_a_script_has_nothing_inside(tmp_path: Path):
    shutil.copytree(SCRIPTED, tmp_path / "run")
    with pytest.raises(SpecError, match=r"RUN must be of a local model, got .* on scripted/oracle, a script"):
        specs.build(RunFolder.open(tmp_path / "run"))


def test_a_look_is_not_looked_at(look: RunFolder):
    with pytest.raises(SpecError, match="got the look"):
        specs.build(look)


def test_an_unfinished_run_is_refused(run: RunFolder, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns("look"))
    (copy / "run.json").unlink()
    with pytest.raises(StoreError, match="must be a finished run"):
        specs.build(RunFolder.open(copy))


def test_a_link_in_the_place_of_the_look_is_refused(run: RunFolder, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns("look"))
    (copy / "look").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="got a link"):
        RunFolder.open(copy)


def test_the_command_line_says_one_line_for_bad_input(gnothi, run: RunFolder, tmp_path: Path):
    shutil.copytree(SCRIPTED, tmp_path / "scripted")
    assert "must be a run folder" in gnothi.refused("look", tmp_path)
    assert "a script: there is nothing inside" in gnothi.refused("look", "scripted")
    assert "Did you mean averse-0" in gnothi.refused("look", run.path, "--units", "averse")
    assert "got look" in gnothi.refused("run", "look")


def test_the_numbers_are_shown_as_json(gnothi, look: RunFolder):
    rows = json.loads(gnothi("show", look.path, "--json").stdout)
    assert {"look.top_site/choice", "look.steps_back/choice"} <= {r["name"] for r in rows}


def test_choices_that_no_token_shows_are_refused(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns("look"))
    from gnothi.experiments.look import prompts

    monkeypatch.setattr(prompts, "_answers", lambda _: None)
    with pytest.raises(ModelError, match="choices of seeking-0 must be between two options"):
        pipeline.run(small(RunFolder.open(copy), units=["seeking-0"]), copy / "look", engine="inline")
