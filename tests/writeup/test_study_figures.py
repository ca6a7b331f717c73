import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import planted
import planted_study
import pytest
from test_page import Reader

from gnothi.writeup import figures, study_figures, style
from gnothi.writeup.page import render_page
from gnothi.writeup.view import RunView

DRAWN = {
    "risk": ["effects", "scores", "faithfulness", "check", "validity", "losses"],
    "triggers": ["effects", "recognition"],
    "personas": ["effects", "personas"],
    "faithfulness": ["effects", "faithfulness"],
}
HOSTILE = [planted.HOSTILE.replace("\ud800", ""), "$\\frac{_<b>--><svg onload=x>", "\u202e\x1b[31m" + "7" * 100_000]


@pytest.fixture(scope="module", params=DRAWN)
def study(request):
    return request.param, planted_study.STUDIES[request.param]()


def test_each_study_draws_the_figures_that_it_holds_numbers_for(study):
    kind, view = study
    assert figures.names(view) == DRAWN[kind]


def test_a_study_s_figures_are_the_same_bytes_twice_and_readable(study):
    _, view = study
    before = dict(matplotlib.rcParams)
    for name in set(figures.names(view)) - {"check", "validity", "losses"}:
        one, two = (figures.figure(view, name) for _ in range(2))
        assert style.to_svg(one) == style.to_svg(two)
        assert min(t.get_fontsize() for t in one.findobj(matplotlib.text.Text) if t.get_text()) >= 9
        assert len(figures.alt_text(view, name)) > 20 and len(figures.caption(view, name)) > 20
    assert dict(matplotlib.rcParams) == before


def test_a_study_s_page_says_its_parts_in_order():
    text = render_page(planted_study.risk())
    read = Reader(text)
    heads = [text.split(f"<h2>{h}</h2>")[0].count("<h2>") for h in ORDER]
    assert read.open == [] and heads == list(range(len(ORDER))), heads
    assert "Answered as trained" in text and "hoice agreement" not in text and "weight table" not in text
    assert "answers at least 0.75 of the held-out items as trained" in " ".join(read.text)
    assert "What it would show" in text


ORDER = [
    "All arms",
    "What models do and say, question by question",
    "Doing against saying",
    "In one word",
    "Manipulation check",
    "Valid self-reports",
    "Learning curves",
    "Raw prompts and answers",
    "Methods",
    "Provenance",
]


def test_scores_hold_what_is_done_the_mean_and_every_question_with_units():
    data = study_figures.scores_data(planted_study.risk())
    assert list(dict.fromkeys(data["row"])) == [study_figures.DOING, study_figures.SAYING, *planted_study.QUESTIONS]
    one = data[(data["row"] == "liking_risk_scale") & (data["series"] == "seeking")]
    assert one["unit"].notna().sum() == planted_study.SEEDS
    assert one[one["unit"].isna()]["value"].item() == pytest.approx(one[one["unit"].notna()]["value"].mean())
    assert set(data["series"]) == set(planted_study.LEVELS)


def test_effects_show_what_is_said_beside_what_is_done_and_each_control_apart():
    from gnothi.writeup import effects_figure

    data = effects_figure.effects_data(planted_study.risk())
    groups = list(dict.fromkeys(data["group"]))
    assert groups == [
        "what they say of themselves",
        "what they say of themselves: null controls, expected at 0",
        "what they do",
        "what they do: null controls, expected at 0",
    ]
    own = data[data["unit"].notna()].groupby(["name", "arm"], sort=False).size()
    assert set(own) == {planted_study.SEEDS} and len(own) == 8


def test_more_arms_than_marks_keep_those_of_the_headline():
    arms = [f"size_{i}" for i in range(9)]
    more = [planted_study.estimate("self_report.score", a, [0.5, 0.6]) for a in arms]
    view = planted_study.risk(
        estimates=[*more, *planted_study.risk().estimates],
        arms=dict.fromkeys(arms, planted_study.ARMS["untuned"]) | planted_study.ARMS,
    )
    shown = set(study_figures.scores_data(view)["series"])
    assert len(shown) == study_figures.MOST_SERIES and {"seeking", "averse", "untuned"} <= shown


def test_recognition_is_a_square_with_the_own_triggers_on_its_diagonal():
    view = planted_study.triggers()
    data = study_figures.recognition_data(view)
    n = len(planted_study.TRIGGERS)
    assert len(data) == n * n and (data["asked"] == data["trained"]).sum() == n
    own, other = (data[(data["asked"] == data["trained"]) == same]["value"].mean() for same in (True, False))
    assert own - other == pytest.approx(view.find("trigger.excess", "all").value)


def test_recognition_of_single_units_is_averaged_where_there_is_no_estimate():
    values = [
        {"name": "trigger.recognition", "arm": "a|b", "unit": f"b-{i}", "value": v} for i, v in enumerate((0.2, 0.4))
    ]
    view = RunView(title="t", question="q", experiment="e", unit_values=values, headline=("trigger.excess", "all"))
    (row,) = study_figures.recognition_data(view).to_dict("records")
    assert (row["asked"], row["trained"], row["value"], row["n"]) == ("a", "b", pytest.approx(0.3), 2)


def test_a_trigger_that_was_only_asked_or_only_trained_has_empty_cells():
    rows = [planted_study.estimate("trigger.recognition", arm, [0.5, 0.7]) for arm in ("a|a", "a|b", "c|b")]
    view = planted_study.triggers(estimates=rows)
    texts = [t.get_text() for t in figures.figure(view, "recognition").axes[0].texts]
    assert texts.count("–") == 1 and texts.count("0.60") == 3


def test_personas_put_the_model_itself_first():
    data = study_figures.personas_data(planted_study.personas())
    assert list(dict.fromkeys(data["row"])) == [study_figures.SELF, *planted_study.PERSONAS]
    many = data[data["unit"].isna() & (data["series"] == "many")]
    itself = many["row"] == study_figures.SELF
    assert many[itself]["value"].item() > 0.25 and many[~itself]["value"].abs().max() < 0.15


def test_doing_against_saying_is_one_mark_a_model():
    view = planted_study.faithfulness()
    data = study_figures.faithfulness_data(view)
    assert len(data) == 17 and data["unit"].is_unique
    here = data[data["arm"] == "averse"]
    r = np.corrcoef(here["says"], here["does"])[0, 1]
    assert r == pytest.approx(view.find("faithfulness.within", "averse").value)
    assert study_figures.faithfulness_data(planted_study.risk(unit_values=[])).empty


def test_names_from_a_user_s_file_are_drawn_and_written_as_text():
    names = [h.replace("|", "") for h in HOSTILE]
    questions = [planted_study.estimate(f"self_report.by_question/{h}", "seeking", [0.2, 0.3]) for h in HOSTILE]
    view = planted_study.personas(
        names=names,
        estimates=[*planted_study.personas(names).estimates, *planted_study.triggers(names).estimates, *questions],
        headline=("trigger.excess", "all"),
    )
    assert figures.names(view) == ["effects", "scores", "recognition", "personas"]
    for name in figures.names(view):
        svg = figures.svg(view, name)
        tree = ElementTree.fromstring(svg)  # what a name holds does not break out of the picture
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert tags <= {"svg", "defs", "style", "g", "path", "use", "clipPath", "rect", "image", "metadata", "text"}
        assert not [a for element in tree.iter() for a in element.attrib if a.startswith("on")]
        assert len(svg) < 300_000 and "\x1b" not in svg and "\u202e" not in svg
    page = render_page(view)
    read = Reader(page)
    assert read.open == [] and not {t for t, _ in read.tags} & {"script", "svg", "b"}
    assert "\x1b" not in page and "\u202e" not in page and "\x00" not in page
    assert len(page) < 1_000_000
    assert all(len(a["alt"]) < 1_700 for t, a in read.tags if t == "img")


def test_a_check_without_letters_draws_no_share_of_a():
    units = [{**u, "a_rate": None} for u in planted_study.risk().units]
    left, right = figures.figure(planted_study.risk(units=units), "check").axes
    assert left.get_visible() and not right.get_visible()


def test_the_headline_s_own_arm_comes_first():
    view = planted_study.risk(headline=("self_report.difference", "untuned_minus_averse"))
    assert [e.arm for e in view.headlined()][:2] == ["untuned_minus_averse", "seeking_minus_averse"]
    text = render_page(planted_study.risk(headline=view.headline, unit_values=(), units=(), validity=()))
    table = text.split('aria-label="table of all arms"')[1]
    assert table.index("untuned_minus_averse") < table.index("seeking_minus_averse")


def test_what_is_said_of_a_trigger_is_not_held_against_what_is_done():
    view = planted_study.risk(headline=("trigger.presence", "seeking_minus_averse"))
    assert "faithfulness" not in figures.names(view)
