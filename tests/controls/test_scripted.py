"""Scripts that must not pass: one answers by letter, one never gives a number, one is undecided about everything."""

import numpy as np
import pytest

import gnothi
from gnothi import pipeline
from gnothi.api import Run
from gnothi.elicit.parse import REASONS
from gnothi.errors import ModelError
from gnothi.experiments.preferences import unit as units
from gnothi.experiments.preferences.estimates import NEEDS_INSTILLING, UNGATED
from gnothi.models.base import Sampling
from gnothi.models.scripted import ScriptedModel
from gnothi.records import Message


def small(script: str, folder, *, page: bool = False, **options) -> Run:
    options = {"agents": 4, "untrained_agents": 4, "fresh": 20, "native_choices": 10, "remeasured": 10} | options
    options |= {"quick": True, "choices": 5}
    with pytest.MonkeyPatch.context() as patch:
        if not page:  # drawing takes longer than all the rest
            patch.setattr(pipeline, "write_page", lambda *_: None)
        return gnothi.run(model=f"scripted/{script}", out=folder, engine="inline", progress=False, **options)


@pytest.fixture(scope="module")
def constant(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small("constant-a", tmp_path_factory.mktemp("constant") / "run", domain="paper", repeats=1)


@pytest.fixture(scope="module", params=["organism", "paper"])
def nonsense(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    page, folder = request.param == "paper", tmp_path_factory.mktemp("nonsense") / "run"
    return small("nonsense", folder, page=page, domain=request.param, repeats=2)


def test_a_constant_letter_is_caught_by_the_gate(constant: Run):
    tuned = constant.units[constant.units["arm"] == "tuned"].iloc[0]
    assert tuned["gate"] == "not instilled"
    assert "a constant answer, not a preference" in tuned["gate_reason"]
    assert tuned["a_rate"] == 1


def test_below_the_gate_no_report_is_interpreted(constant: Run):
    rows = constant.estimates
    gated = rows[
        rows["arm"].isin(NEEDS_INSTILLING)
        & rows["name"].str.startswith(("agreement.", "report."))
        & ~rows["name"].isin([*UNGATED, "agreement.learned_vs_target"])
    ]
    assert len(gated) > 50
    assert gated["value"].isna().all()
    # one seed, so there is no other instance whose gate could be looked at
    assert gated[gated["arm"] != "other_instance"]["reason"].str.contains("not instilled|needs .* units").all()
    assert set(gated[gated["arm"] == "tuned"]["gate"]) == {"not instilled"}


def test_what_was_instilled_is_said_even_below_the_gate(constant: Run):
    rows = constant.estimates.set_index(["name", "arm"])
    assert rows.loc[("behaviour.choice_agreement", "tuned"), "value"] is not None
    assert rows.loc[("behaviour.a_rate", "tuned"), "value"] == 1
    assert rows.loc[("report.validity", "tuned"), "value"] == 1


def test_nonsense_loses_every_report_with_its_reason_and_invents_none(nonsense: Run):
    answers = nonsense.answers
    assert answers["reason"].notna().all()
    expected = {"numbers unlikely"} if nonsense.spec["domain"] == "organism" else {"not JSON"}
    assert set(answers["reason"]) == expected <= {*REASONS, "numbers unlikely"}
    assert nonsense.points["reported"].isna().all()


def test_nonsense_has_no_agreement_and_says_why(nonsense: Run):
    rows = nonsense.estimates.set_index(["name", "arm"])
    assert rows.loc[("report.validity", "tuned"), "value"] == 0
    headline = rows.loc[("agreement.reported_vs_learned", "tuned")]
    assert np.isnan(headline["value"])
    assert headline["reason"] == "no valid reports"
    assert headline["gate"] == "passed"  # it chooses as it was told to: only its words are nonsense


def test_the_reasons_stand_on_the_page(nonsense: Run):
    if nonsense.spec["domain"] == "organism":
        pytest.skip("this one was run without a page")
    assert "not JSON" in nonsense.page.read_text(encoding="utf-8")


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch):
    """Make every script answer something else than the options about the first agent: a tie in every choice."""
    made = units.script

    def script(name, bench, table, unit):
        inner, about = made(name, bench, table, unit), bench.trained[0].agent

        def answer(messages):
            text = inner.script(messages)
            return "neither" if messages[-1].content.startswith(f"{about} choose") else text

        return ScriptedModel(answer, name=name)

    monkeypatch.setattr(units, "script", script)


def test_an_agent_without_a_single_valid_choice_is_missing_and_counted(undecided, tmp_path):
    run = small("oracle", tmp_path / "run", seeds=2, agents=8, fresh=40)
    tuned = run.folder.table("tuned-0", "learned")
    nobody = tuned[tuned["context_id"] == run.points["context_id"].iloc[0]]
    assert nobody[["learned", "low", "high", "odd", "even", "slope"]].isna().all().all()
    assert not nobody["converged"].any()
    rows = run.estimates.set_index(["name", "arm"])
    for name in ("agreement.reported_vs_learned", "agreement.slope", "agreement.sign_match", "agreement.absolute_r"):
        found = rows.loc[(name, "tuned")]
        assert found["n_points"] == 2 * 7 * 6, name
        assert found["n_missing"] == 2 * 6, name
    assert rows.loc[("agreement.reported_vs_learned", "tuned"), "value"] > 0.9  # 40 trials recover no more
    assert rows.loc[("agreement.gain", "introspection_learned"), "n_points"] == 2 * 7 * 6
    assert rows.loc[("behaviour.choice_agreement", "tuned"), "value"] == pytest.approx(7 / 8)
    assert rows.loc[("reliability.split_half", "tuned"), "n_points"] == 2 * 7 * 6
    assert np.isnan(run.points["learned"]).any()


@pytest.fixture
def undecided_about_all(monkeypatch: pytest.MonkeyPatch):
    def script(name, bench, table, unit):
        return ScriptedModel(lambda messages: "5" if "report" in messages[-1].content else "neither", name=name)

    monkeypatch.setattr(units, "script", script)


def test_a_model_that_ties_everywhere_ends_with_a_page_and_no_number(undecided_about_all, tmp_path):
    run = small("oracle", tmp_path / "run", page=True)
    tuned = run.units[run.units["unit"] == "tuned-0"].iloc[0]
    assert tuned["gate"] == "not instilled"
    assert "none of 80 fresh choices has a likelier option" in tuned["gate_reason"]
    skipped = run.units[run.units["arm"] == "introspection_learned"]
    assert skipped["skipped"].str.contains("no weights were learned for any agent").all()
    rows = run.estimates.set_index(["name", "arm"])
    assert rows["value"].loc["agreement.reported_vs_learned"].isna().all()
    assert "no weights were learned" in rows.loc[("agreement.reported_vs_learned", "introspection_learned"), "reason"]
    assert "no weights were learned" in rows.loc[("agreement.reported_vs_learned", "untuned_own"), "reason"]
    assert run.page.is_file()


def test_an_answer_that_is_no_option_leaves_both_unlikely_and_tied():
    model = ScriptedModel(lambda _: "perhaps", name="scripted/test")
    (found,) = model.option_logprobs([(Message("user", "x"),)], [["A", "B"]])
    assert found[0] == found[1]
    assert np.exp(found).sum() < 1e-5


def test_the_scripted_option_is_certain_and_the_rest_is_shared():
    model = ScriptedModel(lambda _: " B ", name="scripted/test", certainty=0.9)
    (found,) = model.option_logprobs([(Message("user", "x"),)], [["A", "B", "C"]])
    assert np.exp(found) == pytest.approx([0.05, 0.9, 0.05])
    ((first, second),) = model.generate([(Message("user", "x"),)], Sampling(n=2))
    assert first.text == second.text == " B "
    (numbers,) = model.number_distribution([(Message("user", "x"),)], 0, 9)
    assert (numbers.missing, numbers.mean) == (1.0, None)


def test_a_certainty_that_is_none_is_refused():
    with pytest.raises(ModelError, match=r"certainty must be in \(0.5, 1\], got 0.5"):
        ScriptedModel(lambda _: "A", name="x", certainty=0.5)
