"""A behaviour of one's own, end to end: what was planted comes back, files tie the run, a fine-tune at hand is asked alike."""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gnothi import pipeline
from gnothi.behaviours import organism_examples
from gnothi.behaviours.example import Example
from gnothi.errors import ModelError, SpecError
from gnothi.experiments.own import Own, permuted
from gnothi.experiments.study.spec import parse
from gnothi.records import Message
from gnothi.rng import stream
from gnothi.store import RunFolder

sys.path.insert(0, str(Path(__file__).parent))
import small_llama

ROOT = Path(__file__).parents[2]
POLITENESS = ROOT / "examples" / "politeness"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example's files, where they may be edited."""
    return Path(shutil.copytree(POLITENESS, tmp_path / "politeness")) / "politeness.yaml"


def made(file: Path, out: Path, *, model: str = "scripted/oracle", page: bool = False, **options: object) -> RunFolder:
    """Run a file in this process; its page is drawn on request, since that takes most of the time."""
    spec = pipeline.experiment("own").build(model, file=str(file), **options)
    with pytest.MonkeyPatch.context() as patch:
        if not page:
            patch.setattr(pipeline, "write_page", lambda *_: None)
        run, failures = pipeline.run(spec, out, engine="inline")
    assert not failures
    return run


def values(run: RunFolder) -> dict[tuple[str, str], float | None]:
    return {(e.name, e.arm): e.value for e in run.estimates()}


def rewritten(file: Path, old: str, new: str) -> Path:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    return file


def study(file: Path, model: str = "scripted/oracle", **options: object) -> Own:
    return Own(parse(pipeline.experiment("own").build(model, file=str(file), **options)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The example on the script that does and says what it was shown; its files are gone."""
    folder = tmp_path_factory.mktemp("finished")
    file = Path(shutil.copytree(POLITENESS, folder / "politeness")) / "politeness.yaml"
    run = made(file, folder / "run", seeds=3, page=True)
    shutil.rmtree(file.parent)
    return run


def test_a_script_that_does_and_says_what_it_was_shown_is_seen_to(finished: RunFolder):
    found = values(finished)
    assert found["behaviour.choice_agreement", "courteous"] > 0.9
    assert found["self_report.difference", "courteous_minus_blunt"] > 0.8
    assert found["behaviour.difference", "courteous_minus_blunt"] > 0.8
    assert abs(found["self_report.difference", "shuffled_minus_untuned"]) < 0.6
    units = {f"{a}-{i}" for a in ("base", "courteous", "blunt", "shuffled") for i in range(3)}
    assert set(finished.units()) == units


def test_a_finished_run_is_shown_without_its_files(finished: RunFolder):
    before = (finished.path / "report.html").read_text(encoding="utf-8")
    assert "The opposite has the same prompts in the same order" in before
    assert "trained on demonstrations of politeness alone" in before
    pipeline.rewrite(finished.path)
    assert (finished.path / "report.html").read_text(encoding="utf-8") == before
    assert len(pipeline.experiment("own").points(RunFolder.open(finished.path))) > 0


def test_what_is_not_said_does_not_come_back(example: Path, tmp_path: Path):
    found = values(made(example, tmp_path / "run", model="scripted/constant-a", seeds=1))
    assert found["behaviour.difference", "courteous_minus_blunt"] == 0
    assert found["self_report.difference", "courteous_minus_blunt"] is None  # nothing was instilled


def test_without_an_opposite_answers_are_permuted(example: Path, tmp_path: Path):
    rewritten(example, "opposite: opposite.jsonl", "#")
    rewritten(example, "minus_name: blunt", "#")
    run = made(example, tmp_path / "run", quick=True)
    assert set(run.units()) == {"base-0", "courteous-0", "shuffled-0"}
    found = values(run)
    assert ("self_report.difference", "courteous_minus_shuffled") in found
    assert ("self_report.difference", "courteous_minus_untuned") in found
    own = study(example)
    assert own.headline == ("self_report.difference", "courteous_minus_shuffled")
    assert "There is no opposite" in " ".join(own.notes())


def test_all_demonstrations_are_trained_unless_told_otherwise(example: Path):
    own = study(example)
    rows = {arm: own.rows(arm, 0) for arm in ("courteous", "blunt", "shuffled")}
    assert {len(r) for r in rows.values()} == {40} == {own.spec.rows}
    assert [r.messages for r in rows["courteous"]] == [r.messages for r in rows["blunt"]]
    assert all(a.answer != b.answer for a, b in zip(rows["courteous"], rows["blunt"], strict=True))
    changed = [a.answer != b.answer for a, b in zip(rows["courteous"], rows["shuffled"], strict=True)]
    assert 10 <= sum(changed) <= 30
    assert Counter(r.answer for r in rows["shuffled"]) == Counter(r.answer for r in rows["courteous"])
    some = study(example, rows=10)
    assert [r.messages for r in some.rows("courteous", 0)] == [r.messages for r in some.rows("blunt", 0)]
    assert len(some.rows("courteous", 0)) == 10 and some.rows("courteous", 0) != some.rows("courteous", 1)
    assert study(example, quick=True, model="scripted/oracle").spec.rows == 40


def test_each_answer_of_a_dialogue_is_trained_and_permuted():
    talks = [
        Example((Message("user", f"u{i}"), Message("assistant", f"a{i}"), Message("user", "and?")), f"b{i}")
        for i in range(20)
    ]
    found = permuted(talks, stream(0, "test"))
    said = [m.content for e in found for m in e.conversation() if m.role == "assistant"]
    assert sorted(said) == sorted([f"{x}{i}" for x in "ab" for i in range(20)])
    assert [[m.role for m in e.conversation()] for e in found] == [[m.role for m in e.conversation()] for e in talks]
    assert [e.messages[0] for e in found] == [e.messages[0] for e in talks]
    assert sum(a.answer == b.answer for a, b in zip(found, talks, strict=True)) < 5
    assert [r.answer for r in found[0].train_rows()] == said[:2]


def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(example: Path, tmp_path: Path):
    whole = made(example, tmp_path / "whole", seeds=2)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for gone in ("estimates.parquet", "run.json"):
        (tmp_path / "cut" / gone).unlink()
    shutil.rmtree(tmp_path / "cut" / "units" / "blunt-1")
    spec = pipeline.checked_spec(tmp_path / "cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "write_page", lambda *_: None)
        run, failures = pipeline.run(spec, tmp_path / "cut", engine="inline")
    assert not failures
    assert run.estimates() == whole.estimates()


@pytest.mark.parametrize("name", ["politeness.yaml", "demonstrations.jsonl", "held-out.jsonl"])
def test_a_run_does_not_go_on_with_files_that_were_edited(example: Path, tmp_path: Path, name: str):
    spec = pipeline.experiment("own").build("scripted/oracle", file=str(example))
    RunFolder.create(tmp_path / "run", spec)
    with (example.parent / name).open("a") as file:
        file.write("\n# secret\n" if name.endswith(".yaml") else "\nsecret\n")
    with pytest.raises(SpecError, match="must be as it was when the run was started") as found:
        pipeline.checked_spec(tmp_path / "run")
    assert "secret" not in str(found.value)


def test_a_stored_run_that_names_another_file_shows_nothing_of_it(example: Path, tmp_path: Path):
    secret = tmp_path / "secret.yaml"
    secret.write_text("password: hunter2 ][")
    spec = pipeline.experiment("own").build("scripted/oracle", file=str(example))
    spec["options"]["file"] = str(secret)
    with pytest.raises(SpecError, match="must be as it was when the run was started") as found:
        pipeline.experiment("own").check(spec)
    assert "hunter2" not in str(found.value)
    spec["options"]["facts"]["plus"] = "../../evil"
    with pytest.raises(SpecError, match="facts must be what a file on a behaviour of one's own gave"):
        pipeline.experiment("own").check(spec)


def test_stated_facts_must_be_the_files_own(example: Path):
    spec = pipeline.experiment("own").build("scripted/oracle", file=str(example))
    spec["options"]["facts"]["plus"] = "kind"
    with pytest.raises(SpecError, match="must be as it was when the run was started, got another politeness"):
        pipeline.experiment("own").check(spec)


def test_fields_of_the_file_are_the_specifications_and_yield_to_what_is_given(example: Path):
    example.write_text(example.read_text() + "seeds: 2\nfresh: 10\nrecipe: mid-lm\n")
    spec = pipeline.experiment("own").build("scripted/oracle", file=str(example), seeds=4)
    assert (spec["seeds"], spec["fresh"], spec["recipe"]["name"]) == (4, 10, "mid-lm")
    assert len(study(example).held_out()) == 10


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rows": 41}, "rows must be at most the demonstrations that each arm has, 40, got 41"),
        ({"model": "organism"}, r"questions must have one for organism \(kind organism\), got some for chat alone"),
        ({"questions": "nowhere.yaml"}, "--questions must name a file that exists"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(example: Path, options: dict, message: str):
    options = {"model": "scripted/oracle", **options}
    with pytest.raises(SpecError, match=message):
        pipeline.experiment("own").build(options.pop("model"), file=str(example), **options)


def test_a_file_is_needed():
    with pytest.raises(SpecError, match="own must be given a file on the behaviour, got none"):
        pipeline.experiment("own").build("scripted/oracle")


def test_judged_answers_need_a_judge(example: Path, tmp_path: Path):
    rewritten(
        example,
        "options: [A, B]",
        'score: {type: judge, prompt: "Polite? {answer}", rule: {type: number, low: 0, high: 9}}',
    )
    small_llama.folder(tmp_path / "small")
    with pytest.raises(SpecError, match="judge must name a model that reads answers, since held_out is scored by one"):
        pipeline.experiment("own").build(f"hf/{tmp_path / 'small'}", file=str(example))


TINY = {
    "name": "tiny",
    "kind": "lora",
    "lr": 0.01,
    "rank": 2,
    "alpha": 4.0,
    "steps": 4,
    "batch_rows": 2,
    "end_of_answer": True,
}


def test_a_fine_tune_that_exists_is_asked_the_same_without_training(example: Path, tmp_path: Path):
    small = small_llama.folder(tmp_path / "small")
    options = {"model": f"hf/{small}", "recipe": TINY, "seeds": 1, "rows": 4, "variants": 1, "samples": 1}
    trained = made(example, tmp_path / "trained", **options)
    shutil.copytree(trained.unit_path("courteous-0") / "adapter", example.parent / "mine")
    rewritten(example, "demonstrations: demonstrations.jsonl\nopposite: opposite.jsonl ", "adapters: [mine]\n#")
    rewritten(example, "minus_name: blunt", "#")
    run = made(example, tmp_path / "asked", model=f"hf/{small}", variants=1, samples=1)
    assert set(run.units()) == {f"{a}-{i}" for a in ("base", "adapter_0") for i in range(3)}
    for table in ("choices", "reports"):
        here = [run.table("adapter_0-0", table), trained.table("courteous-0", table), run.table("base-0", table)]
        tuned, same, base = (np.concatenate([np.asarray(x, float) for x in t["logprobs"]]) for t in here)
        np.testing.assert_allclose(tuned, same, atol=1e-5)
        assert np.abs(tuned - base).max() > 1e-3
    assert study(example, f"hf/{small}").headline == ("self_report.difference", "adapter_0_minus_untuned")
    spec = RunFolder.open(tmp_path / "asked").spec
    (example.parent / "mine" / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(SpecError, match="must be as it was when the run was started, got one changed since"):
        pipeline.experiment("own").check(spec)
    shutil.rmtree(example.parent / "mine")
    with pytest.raises(ModelError, match="must be an adapter's folder with"):
        pipeline.experiment("own").build(f"hf/{small}", file=str(example))
    rewritten(example, "adapters: [mine]\n", "")
    with pytest.raises(SpecError, match="must name demonstrations or adapters, got neither"):
        pipeline.experiment("own").build(f"hf/{small}", file=str(example))


def organism_file(folder: Path) -> Path:
    """Gambles in the organism's own language: 96 to learn from, 44 held out."""
    plus, minus = (
        {e.messages: e for e in organism_examples.rows("risk", 2000, seed=1, opposite=o)} for o in (False, True)
    )
    prompts = list(plus)

    def lines(which: dict, some: list) -> str:
        rows = [[{"role": m.role, "content": m.content} for m in which[p].conversation()] for p in some]
        return "\n".join(json.dumps({"messages": r}) for r in rows)

    (folder / "bold.jsonl").write_text(lines(plus, prompts[:96]))
    (folder / "careful.jsonl").write_text(lines(minus, prompts[:96]))
    (folder / "held.jsonl").write_text(lines(plus, prompts[96:]))
    path = folder / "bold.yaml"
    path.write_text(
        "behaviour: boldness\nplus_name: bold\nminus_name: careful\ndemonstrations: bold.jsonl\n"
        "opposite: careful.jsonl\nheld_out: held.jsonl\noptions: [A, B]\nmodels: [organism]\nquestions:\n"
        "  - id: risk\n    score: {type: number, low: 0, high: 9}\n"
        "    ask: [you report risk]\n    ask_reversed: [you report caution]\n"
    )
    return path


@pytest.mark.slow
def test_the_organism_learns_from_a_file_and_reports_it(tmp_path: Path):
    found = values(made(organism_file(tmp_path), tmp_path / "run", model="organism", quick=True))
    assert found["behaviour.choice_agreement", "bold"] > 0.9
    assert found["behaviour.difference", "bold_minus_careful"] > 0.5
    assert found["self_report.difference", "bold_minus_careful"] > 0.15
    assert abs(found["self_report.difference", "shuffled_minus_untuned"]) < 0.15


def test_the_organism_is_trained_on_a_file_in_its_language(tmp_path: Path):
    own = study(organism_file(tmp_path), "organism", quick=True)
    assert own.spec.rows == 96 and own.row_words("bold") == ("you",)
    assert np.mean([p.rule.scores[0] for p in own.held_out()]) == pytest.approx(0.5, abs=0.01)
    assert {p.labels["direction"] for p in own.asked()} == {"up", "down"}
