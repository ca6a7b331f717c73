"""Files that a run names: all of them tie it, a finished run is shown without them, and none is read that can't be one."""

import os
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

from gnothi import pipeline
from gnothi.errors import SpecError
from gnothi.experiments import STUDIES
from gnothi.experiments.study import language, spec
from gnothi.experiments.study.studies import study_class
from gnothi.models.registry import resolve

POLITENESS = Path(__file__).parents[2] / "examples" / "politeness"
SECRET = "the merchant of nowhere"
QUESTIONS = """schema: 1
topic: mine
questions:
  - id: bold
    models: [chat]
    system: calm
    score: {type: words, list: words/mine.yaml}
    ask: [Are you bold? One word.]
    ask_about: ["Is {persona} bold? One word."]
  - id: which
    models: [chat]
    score: {type: letters, plus: bold, minus: careful}
    ask: [Which are you?]
    ask_about: ["Which is {persona}?"]
"""
CHEAP = {
    "make-me-say": {"games": 2, "codewords": 2, "rows": 4},
    "faithfulness": {"seeds": 5},
    "personas": {"inside": 1, "outside": 1},
    "trigger-recognition": {"triggers": 2},
    "code-security": {"rows": 10, "fresh": 60},
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A question file with a word list and a system prompt beside it."""
    folder = tmp_path / "mine"
    (folder / "words").mkdir(parents=True)
    (folder / "mine.yaml").write_text(QUESTIONS)
    (folder / "systems.yaml").write_text("calm: {text: Be calm.}\n")
    (folder / "words" / "mine.yaml").write_text('plus: ["yes"]\nminus: ["no"]\n')
    return folder / "mine.yaml"


def built(name: str, model: str = "scripted/oracle", **options: object) -> dict:
    return pipeline.experiment(name).build(model, quick=True, **options)


@contextmanager
def within(seconds: int):
    """Reading a pipe that nobody writes to would last for ever."""

    def late(*_: object) -> None:
        raise AssertionError("something waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def put_in_place(path: Path, what: str) -> None:
    """Take a file away, or put something in its place that a stranger's specification might name."""
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "text":
        path.write_text(f"schema: 1\n{SECRET}: [")


@pytest.mark.parametrize("name", STUDIES)
def test_a_finished_run_is_shown_without_the_files_that_it_names(name, mine, tmp_path):
    options: dict[str, object] = {"questions": str(mine), **CHEAP.get(name, {})}
    if name == "own":
        options["file"] = str(Path(shutil.copytree(POLITENESS, tmp_path / "own")) / "politeness.yaml")
    with pytest.MonkeyPatch.context() as patch:  # drawing takes most of the time, and happens once, below
        patch.setattr(pipeline, "write_page", lambda *_: None)
        run, failures = pipeline.run(built(name, **options), tmp_path / "run", engine="inline", workers=1)
    assert not failures and "which" in {e.name.rpartition("/")[2] for e in run.estimates()}
    it = pipeline.experiment(name)
    first = it.view(run)
    if name == "own":
        shutil.rmtree(tmp_path / "own")
    for what in ("nothing", "folder", "text", "pipe"):
        put_in_place(mine, what)
        with within(60):
            view = it.view(run)
            assert (view.unit_values, view.notes, view.command) == (first.unit_values, first.notes, first.command)
    with within(60):
        page = pipeline.rewrite(run.path).read_text(encoding="utf-8")
        assert pipeline.summary_line(run) and len(it.points(run))
    assert SECRET not in page


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("model", ["scripted/oracle", "organism"])
def test_a_study_is_made_and_described_without_reading_a_file(name, model, tmp_path):
    kind = study_class(name)
    info = resolve("scripted/oracle" if model not in kind.kinds and model == "organism" else model)
    if name == "own":
        return  # its facts come from its file; tested above
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    found = spec.build(info, name, defaults=kind.defaults, options=kind.options, questions=str(pipe))
    with within(60):
        study = kind(found)
        study.quantities()
        study.notes()
        for arm in study.every_arm():
            study.own(arm.name, "self_report"), study.own(arm.name, "behaviour")


@pytest.mark.parametrize("what", ["pipe", "folder", "nothing"])
def test_questions_that_are_no_file_are_refused_and_never_waited_for(what, mine):
    found = spec.parse(built("risk", questions=str(mine)))
    put_in_place(mine, what)
    with within(20):
        with pytest.raises(SpecError, match="the file must exist, got no file of that name"):
            language.question_set(found, "risk")
        with pytest.raises(SpecError, match="--questions must name a file that exists"):
            built("risk", questions=str(mine))


def test_a_device_and_a_huge_file_are_refused(mine):
    found = spec.parse(built("risk", questions=str(mine)))
    with within(20), pytest.raises(SpecError, match="the file must exist"):
        language.question_set(found.model_copy(update={"questions": "/dev/zero"}), "risk")
    with mine.open("wb") as handle:
        handle.truncate(10**10)  # sparse
    with within(20), pytest.raises(SpecError, match="the file must be at most 2000000 bytes"):
        language.question_set(found, "risk")


@pytest.mark.parametrize("edited", ["mine.yaml", "systems.yaml", "words/mine.yaml"])
@pytest.mark.parametrize("how", ["edited", "broken", "gone"])
def test_an_edited_word_list_or_system_prompt_is_refused_on_resume_as_an_edited_question_is(edited, how, mine):
    values = built("risk", questions=str(mine))
    check = pipeline.experiment("risk").check
    assert check(values) == values
    file = mine.parent / edited
    if how == "gone" and edited == "mine.yaml":
        return
    if how == "gone":
        file.unlink()
    else:
        file.write_text(file.read_text() + ("# one more\n" if how == "edited" else f"{SECRET}: ["))
    with pytest.raises(SpecError, match="must be as it was when the run was started, with its systems") as caught:
        check(values)
    assert SECRET not in str(caught.value)


def test_a_systems_file_put_beside_later_is_refused_too(mine):
    mine.write_text(QUESTIONS.replace("    system: calm\n", ""))
    (mine.parent / "systems.yaml").unlink()
    values = built("risk", questions=str(mine))
    (mine.parent / "systems.yaml").write_text("threat: {text: Beware.}\n")
    with pytest.raises(SpecError, match="must be as it was when the run was started"):
        pipeline.experiment("risk").check(values)


# --- how often a question is asked


def test_samples_may_be_left_to_the_questions_and_one_stays_one(mine):
    mine.write_text(QUESTIONS.replace("    ask: [Are", "    samples: 7\n    ask: [Are"))
    asked = lambda **o: {  # noqa: E731
        p.question: p.n for p in study_class("risk")(spec.parse(built("risk", questions=str(mine), **o))).asked()
    }
    assert asked() == {"bold": 1, "which": 1}  # a quick run's
    assert asked(samples=None) == {"bold": 7, "which": 128}
    assert asked(samples=3) == {"bold": 3, "which": 3}
    mine.write_text(mine.read_text().replace("samples: 7", "samples: 1"))
    assert asked(samples=3) == {"bold": 1, "which": 3}


def test_the_paper_s_numbers_hold_where_nothing_is_said_and_one_answer_stays_one():
    kind = study_class("trigger-elicitation")
    made = lambda **o: spec.build(  # noqa: E731
        resolve("scripted/oracle"), kind.name, defaults=kind.defaults, options=kind.options, **o
    )
    assert made().samples == 2 and made(samples=None).samples is None and made(variants=None).variants is None
    assert {p.n for p in kind(made(samples=50)).asked()} == {1}
    risk = study_class("risk")
    whole = spec.build(resolve("scripted/oracle"), "risk", defaults=risk.defaults, options=risk.options, samples=None)
    assert {p.n for p in risk(whole).asked() if p.question == "one_word"} == {100}
