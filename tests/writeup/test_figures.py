import csv

import matplotlib
import pandas as pd
import planted
import pytest
from matplotlib.figure import Figure

from gnothi.errors import DataError
from gnothi.writeup import agreement_figures, effects_figure, figures, style, training_figures
from gnothi.writeup.page import STUDY_FIGURES
from gnothi.writeup.view import RunView

PREFERENCES = [n for n in figures.FIGURES if n not in STUDY_FIGURES]


def test_every_figure_is_drawn_where_there_is_data_and_none_where_there_is_none(small):
    assert figures.names(small) == PREFERENCES
    assert figures.names(RunView(title="t", question="q", experiment="e")) == []


@pytest.mark.parametrize("name", PREFERENCES)
def test_a_figure_is_the_same_bytes_twice_and_leaves_matplotlib_alone(small, name):
    before = dict(matplotlib.rcParams)
    one, two = (style.to_svg(figures.figure(small, name)) for _ in range(2))
    assert one == two and "<dc:date>" not in one and "Matplotlib" not in one
    assert isinstance(figures.figure(small, name), Figure)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", PREFERENCES)
def test_no_text_is_below_nine_points(small, name):
    texts = figures.figure(small, name).findobj(matplotlib.text.Text)
    assert min(t.get_fontsize() for t in texts if t.get_text()) >= 9


def test_no_two_words_of_the_effects_lie_on_each_other(view):
    drawn = figures.figure(view, "effects")
    drawn.draw_without_rendering()
    axes, words = drawn.axes
    rows = [t.get_window_extent() for t in words.texts] + [t.get_window_extent() for t in axes.get_yticklabels()]
    for i, a in enumerate(rows):
        for b in rows[:i]:
            across = min(a.x1, b.x1) - max(a.x0, b.x0)
            along = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert across <= 0 or along <= 1.5
    assert max(r.x1 for r in rows) <= drawn.bbox.x1 and min(r.x0 for r in rows) >= 0


def test_effects_hold_every_arm_and_say_why_one_is_missing(view):
    data = effects_figure.effects_data(view)
    arms = data[data["unit"].isna()].set_index("arm")
    assert set(arms.index) == {*planted.R, "other_instance"}
    assert "another seed" in arms.loc["other_instance", "reason"] and pd.isna(arms.loc["other_instance", "value"])
    drawn = figures.figure(view, "effects")
    texts = [t.get_text() for ax in drawn.axes for t in ax.texts]
    assert any("none: needs the reports of another seed" in t.replace("\n", " ") for t in texts)
    assert sum("not instilled" in t for t in texts) == 0


def test_report_training_pairs_a_unit_with_its_parent_on_the_same_agents(small):
    data = agreement_figures.training_data(small)
    assert list(data["parent"]) == ["tuned-0", "tuned-1", "tuned-2"]
    points = small.points
    fold = points[(points["unit"] == "introspection-1") & (points["fold"] == 0)]
    same = points[(points["unit"] == "tuned-1") & points["context_id"].isin(fold["context_id"])]
    folds = [same[["reported", "learned"]].corr().iloc[0, 1]]
    fold = points[(points["unit"] == "introspection-1") & (points["fold"] == 1)]
    same = points[(points["unit"] == "tuned-1") & points["context_id"].isin(fold["context_id"])]
    folds.append(same[["reported", "learned"]].corr().iloc[0, 1])
    assert min(folds) < data["before"][1] < max(folds)


def test_answers_that_no_reason_covers_are_counted():
    data = training_figures.validity_data(
        planted.view(validity=[{"arm": "tuned", "asked": 10, "valid": 6, "reasons": {"no number": 1}}])
    )
    assert dict(zip(data["outcome"], data["count"], strict=True)) == {"valid": 6, "no number": 1, "no reason kept": 3}


def test_long_curves_are_averaged_and_keep_their_mean(view):
    data = training_figures.losses_data(view)
    one = data[data["unit"] == "tuned-0"]
    assert len(one) == training_figures.MOST_STEPS and one["averaged"].sum() == 600
    assert one["loss"].mean() == pytest.approx(sum(view.units[0]["losses"]) / 600)


def test_strange_names_are_drawn_as_they_stand():
    arm = "a_very_long_arm_name_that_goes_on_and_on_$\\frac{_<b>\x1b[31m"
    points = planted.points(4, 2).query("arm == 'tuned'").assign(arm=arm)
    view = planted.view(
        estimates=[planted.estimate("agreement.reported_vs_learned", arm, 0.5)],
        points=points,
        units=[{"unit": "tuned-0", "arm": arm, "choice_agreement": 0.9, "losses": [1.0, None, 0.5]}],
        validity=[{"arm": arm, "asked": 1, "valid": 0, "reasons": {"\u8868 $x": 1}}],
    )
    for name in figures.names(view):
        assert "<svg" in style.to_svg(figures.figure(view, name))


def test_unknown_names_and_figures_without_data_are_refused(small):
    with pytest.raises(DataError, match=r"figure must be one of effects, .*got 'pie'"):
        figures.figure(small, "pie")
    with pytest.raises(DataError, match="'losses' must have data to draw, got none"):
        figures.figure(RunView(title="t", question="q", experiment="e"), "losses")


def test_each_figure_is_saved_with_its_numbers(small, tmp_path):
    written = figures.save_figures(small, tmp_path / "figures")
    assert {p.suffix for p in written} == {".svg", ".png", ".csv"} and len(written) == 3 * len(PREFERENCES)
    rows = list(csv.DictReader((tmp_path / "figures" / "scatter.csv").read_text().splitlines()))
    assert len(rows) == len(small.points.dropna(subset=["reported", "learned"]))
    png = (tmp_path / "figures" / "effects.png").read_bytes()
    assert png.startswith(b"\x89PNG") and b"Software" not in png


def test_a_hostile_name_is_escaped_in_the_numbers_of_a_figure(tmp_path):
    arm = "mine\x1b[2J"
    view = planted.view(
        estimates=[planted.estimate("agreement.reported_vs_learned", arm, 0.5)],
        points=planted.points(1, 1).query("arm == 'none'"),
        units=[],
        validity=[],
    )
    figures.save_figures(view, tmp_path)
    text = (tmp_path / "effects.csv").read_text()
    assert "mine\\x1b[2J" in text and "\x1b" not in text
