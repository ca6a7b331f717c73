"""The experiment on models that write: a tiny random Llama in paper B's domain, its variants, and what is recorded."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import gnothi
from gnothi import cli, pipeline
from gnothi.api import Run
from gnothi.behaviours.paper import PaperDomain
from gnothi.errors import SpecError
from gnothi.experiments.preferences import plan, spec
from gnothi.experiments.preferences.bench import Bench
from gnothi.experiments.preferences.weights import learn
from gnothi.models.organism import organism_folder
from gnothi.models.registry import resolve
from gnothi.records import SCHEMA_VERSION

sys.path.insert(0, str(Path(__file__).parent))
import small_llama

SMALL = {"choices": 4, "fresh": 10, "native_choices": 10, "remeasured": 10, "repeats": 2, "max_tokens": 8}
SMALL |= {"stop_at_gate": False, "untrained_agents": 4}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama.folder(tmp_path_factory.mktemp("models") / "llama")


def command(*words: str) -> int:
    """Run the command line in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["gnothi", *words])
        cli.main()
    return 0 if ended.value.code is None else int(ended.value.code)


def run_by_command(llama: Path, folder: Path, *words: str) -> int:
    sets = [word for k, v in SMALL.items() for word in ("--set", f"{k}={v}")]
    where = ("--model", f"hf/{llama}", "--quick", "--engine", "inline", "--out", str(folder))
    return command("run", "preferences", *where, *sets, *words)


@pytest.fixture(scope="module")
def random_llama(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The whole of paper B's domain, with a page."""
    folder = tmp_path_factory.mktemp("runs") / "llama"
    assert run_by_command(llama, folder) == 0
    return gnothi.load(folder)


def test_a_random_model_ends_as_not_instilled_and_the_run_succeeds(random_llama: Run):
    rows = random_llama.estimates.set_index(["name", "arm"])
    headline = rows.loc[("agreement.reported_vs_learned", "tuned")]
    assert np.isnan(headline["value"])
    assert headline["gate"] == "not instilled"
    assert "not instilled" in headline["reason"]
    assert "not instilled" in random_llama.page.read_text(encoding="utf-8")


def test_strict_makes_the_same_run_exit_with_1(random_llama: Run):
    assert run_by_command(Path(random_llama.spec["model"].removeprefix("hf/")), random_llama.path, "--strict") == 1


def test_every_unit_of_the_plan_is_there_with_its_loss_curve_and_adapter(random_llama: Run):
    expected = {u.name for u in plan.units(spec.parse(random_llama.spec))}
    assert set(random_llama.folder.units()) == expected
    for unit in expected - {"base"}:
        losses = random_llama.folder.table(unit, "loss")["loss"]
        record = random_llama.folder.read_unit(unit)
        assert len(losses) == record["steps"] > 0, unit
        assert np.isfinite(losses).all()
        assert (random_llama.path / "units" / unit / "adapter" / "adapter_model.safetensors").is_file()


def test_the_log_shows_the_first_example_with_the_answer_marked(random_llama: Run):
    log = (random_llama.path / "run.log").read_text(encoding="utf-8")
    found = re.search(r"tuned-0: first example, what is trained between >>> and <<<: (.*) >>>(.*)<<<", log)
    assert found, log
    assert "[DECISION TASK]" in found[1]
    assert found[2] in ("'A<|end|>'", "'B<|end|>'")
    report = re.search(r"introspection-0-0: first example.*>>>(.*)<<<", log)
    assert report and len(json.loads(report[1].strip("'").removesuffix("<|end|>"))) == 5


def test_the_gate_and_the_behaviour_in_the_reporting_checkpoint_are_recorded(random_llama: Run):
    tuned = random_llama.folder.read_unit("tuned-0")
    assert tuned["gate"] == "not instilled"
    assert 0 <= tuned["choice_agreement"] <= 1
    assert tuned["early_stop"] == 0.95
    assert tuned["stopped_early"] is False
    held_out = random_llama.folder.table("introspection-0-0", "choices")
    assert set(held_out["scope"]) == {"held_out"}
    assert len(held_out) == 2 * SMALL["remeasured"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The organism's folder as any Hugging Face model, stopped as soon as it does what it is shown."""
    options = {"domain": "organism", "recipe": "organism-rows", "report_training": False, "early_stop": 0.8}
    options |= {
        "agents": 8,
        "untrained_agents": 8,
        "stop_at_gate": False,
        "choices": 80,
        "fresh": 40,
        "native_choices": 10,
        "repeats": 1,
    }
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    model = f"hf/{organism_folder('organism')}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "write_page", lambda *_: None)
        return gnothi.run(model=model, out=folder, engine="inline", progress=False, quick=True, **options)


def test_early_stop_ends_training_when_choices_agree_and_says_so(stopped: Run):
    tuned = stopped.folder.read_unit("tuned-0")
    assert tuned["stopped_early"] is True
    assert tuned["steps"] == tuned["checks"][-1]["step"] < 150
    assert tuned["steps"] % 20 == 0  # looked at every 20 steps
    assert [c["choice_agreement"] >= 0.8 for c in tuned["checks"]] == [False] * (len(tuned["checks"]) - 1) + [True]
    assert len(stopped.folder.table("tuned-0", "loss")) == tuned["steps"]


def test_a_folder_of_the_hf_kind_that_passes_the_gate_gets_its_headline(stopped: Run):
    rows = stopped.estimates.set_index(["name", "arm"])
    headline = rows.loc[("agreement.reported_vs_learned", "tuned")]
    assert headline["gate"] == "passed"
    assert headline["value"] > 0.2
    assert rows.loc[("agreement.gain", "introspection"), "reason"].startswith("`introspection` or `tuned` was not run")
    assert rows.loc[("agreement.reported_vs_learned", "introspection"), "reason"] == "report training was left out"


def bench(model: str = "scripted/oracle", **options) -> Bench:
    options = {"domain": "paper", "quick": True} | options
    return Bench(spec.build(resolve(model), **options))


def test_without_semantics_no_name_is_left_and_no_word_is_shared():
    plain, blank = bench(), bench(no_semantics=True)
    words = []
    for before, after in zip(plain.trained + plain.untrained, blank.trained + blank.untrained, strict=True):
        assert before.agent == after.agent
        old = {before.choice_type.name, *(a.name for a in before.choice_type.attributes)}
        new = {after.choice_type.name, *(a.name for a in after.choice_type.attributes)}
        new |= {a.units for a in after.choice_type.attributes if a.units}
        assert not old & new
        assert [(a.low, a.high) for a in before.choice_type.attributes] == [
            (a.low, a.high) for a in after.choice_type.attributes
        ]
        words += sorted(new)
        text = blank.wording.questions(after, blank.items([after], 1, "x"), k=1)[0].messages[-1].content
        assert not any(name in text for name in old)
    assert len(words) == len(set(words))


def test_crossed_agents_pair_two_agents_with_two_items_and_share_no_surface():
    crossed = bench(crossed_agents=True)
    for group in (crossed.trained, crossed.untrained):
        for i in range(0, len(group), 4):
            four = group[i : i + 4]
            assert len({c.agent for c in four}) == len({c.choice_type.name for c in four}) == 2
            assert len({(c.agent, c.choice_type.name) for c in four}) == 4
    table = crossed.table(0)
    assert len({tuple(table[c.context_id]) for c in crossed.trained}) == len(crossed.trained)
    questions = crossed.questions(crossed.trained[:1])
    names = [a.name for a in crossed.trained[0].choice_type.attributes]
    assert questions[0].names != questions[1].names
    for question in questions:
        assert question.item is None
        assert question.names != tuple(names)
        text = question.messages[-1].content
        assert "[SELF-DESCRIPTION]" in text and "[INTROSPECTION TASK]" not in text
        assert not re.search(r"\d+\.\d", text)  # no option, so no value


@pytest.mark.parametrize("variant", ["no_semantics", "crossed_agents"])
@pytest.mark.parametrize("model", ["scripted", "llama"])
def test_variants_go_through_the_whole_run(
    variant: str, model: str, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pipeline, "write_page", lambda *_: None)
    name = "scripted/oracle" if model == "scripted" else f"hf/{llama}"
    options = SMALL | {"domain": "paper", "agents": 4, "quick": True, variant: True}
    if model == "scripted":
        options["fresh"] = 60
    else:
        options |= {"repeats": 1, "report_training": variant == "crossed_agents"}
    run = gnothi.run(model=name, out=tmp_path / "run", engine="inline", progress=False, **options)
    rows = run.estimates.set_index(["name", "arm"])
    assert len(rows) > 250
    if model == "scripted":
        assert rows.loc[("agreement.reported_vs_learned", "tuned"), "value"] >= 0.95
        assert rows.loc[("report.validity", "tuned"), "value"] == 1
        assert rows.loc[("report.option_drift", "tuned"), "value"] == pytest.approx(0, abs=1e-9)
        assert rows.loc[("agreement.remeasured", "introspection"), "n_points"] == 20
    elif variant == "crossed_agents":
        log = (run.path / "run.log").read_text(encoding="utf-8")
        asked = next(line for line in log.splitlines() if "introspection-0-0: first example" in line)
        assert "[SELF-DESCRIPTION]" in asked and "[INTROSPECTION TASK]" not in asked


def test_crossed_agents_come_in_fours():
    with pytest.raises(SpecError, match="agents must be a multiple of 4 with crossed agents, got 6 after 0"):
        _ = bench(crossed_agents=True, agents=6).trained


def test_what_a_context_cannot_teach_is_missing_alone():
    rng = np.random.default_rng(0)
    differences = rng.uniform(-1, 1, (3, 40, 5))
    chose_a = differences[:, :, 0] > 0
    mask = np.ones((3, 40), bool)
    mask[1] = False
    differences[2] = 0
    learned, more = learn(differences, chose_a, mask, maximum=100)
    assert np.isfinite(learned[0]).all() and learned[0, 0] == 100
    assert np.isnan(learned[1:]).all() and np.isnan(more["low"][1:]).all()
    assert more["converged"].tolist() == [True, False, False]
    alone, _ = learn(differences[:1], chose_a[:1], maximum=100)
    assert (alone[0] == learned[0]).all()
    assert np.isnan(learn(differences[1:2], chose_a[1:2], mask[1:2], maximum=9)[0]).all()


def test_the_paper_domain_asks_again_with_other_options_in_view():
    found = bench(repeats=3)
    first, second, third = found.questions(found.trained[:1])
    assert len({first.messages, second.messages, third.messages}) == 3
    assert found.questions(found.trained[:1], k=2) == [first, second]


def test_more_agents_than_there_are_are_refused_before_anything_runs():
    with pytest.raises(SpecError, match=r"skip \+ n must be within"):
        pipeline.experiment("preferences").build("scripted/oracle", domain="paper", agents=1000)
    assert len(PaperDomain().contexts(10, seed=0)) == 10


STORED = Path(__file__).parent / f"run-v{SCHEMA_VERSION}"


@pytest.mark.parametrize("folder", sorted(STORED.parent.glob("run-v*")), ids=lambda p: p.name)
def test_stored_runs_of_this_and_the_previous_version_open(folder: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    run = gnothi.load(copy)
    rows = run.estimates.set_index(["name", "arm"])
    assert rows.loc[("agreement.reported_vs_learned", "tuned"), "value"] > 0.9
    assert set(run.units["unit"]) == {"base", "tuned-0", "shuffled-0"}
    assert len(run.points) and len(run.answers) and len(run.choices)
    again = {(e.name, e.arm): e for e in pipeline.experiment("preferences").score(run.folder)}
    headline = again["agreement.reported_vs_learned", "tuned"]
    assert headline.value == pytest.approx(rows.loc[("agreement.reported_vs_learned", "tuned"), "value"])
    assert pipeline.rewrite(copy).is_file()


def test_there_is_a_stored_run_of_this_version():
    assert STORED.is_dir(), f"write it with `python {STORED.parent / 'store_run.py'}`"
    assert sum(f.stat().st_size for f in STORED.rglob("*") if f.is_file()) < 200_000
