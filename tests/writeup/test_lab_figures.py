"""Figures of labs: what is drawn is what was given, missing numbers stay missing, text stays readable."""

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text

from gnothi.errors import DataError
from gnothi.writeup import lab_figures, style
from gnothi.writeup.lab_curves import power
from gnothi.writeup.lab_figures import Curve

STEPS = [0, 30, 100, 300, 1000]


def band(label: str, up: float = 0.0, **kinds) -> Curve:
    mean = [0.1 + up, 0.2 + up, None, 0.6 + up, 0.7 + up]
    low = [None if m is None else m - 0.05 for m in mean]
    high = [None if m is None else m + 0.05 for m in mean]
    return Curve(label, STEPS, mean, low, high, **kinds)


def attention(n: int, n_tokens: int = 12) -> list:
    rng = np.random.default_rng(0)
    tokens = list("$bdafhmxpqn#" * 10)[:n_tokens]
    return [(f"rate {i}", rng.dirichlet(np.full(n_tokens, 0.2), n_tokens), tokens) for i in range(n)]


def every() -> dict:
    """One figure of each kind."""
    four = [[0.1, 0.2, 0.3], [0.9, None, 1.0]]
    return {
        "curves": lambda: lab_figures.curves(
            [band("back"), band("never had it", 0.1, control=True)], x="steps", y="accuracy", log_x=True, floor=0.2
        ),
        "grid": lambda: lab_figures.grid_of_curves(
            [(f"prior {p}", [band("1e-4"), band("1e-5", 0.1, style="dashed", group="1e-4")]) for p in "abcd"],
            x="steps",
            y="accuracy",
            floor={"prior a": 0.1},
        ),
        "marks": lambda: lab_figures.curves(
            [
                Curve("eta", [0, 1], [0.1, 0.9], [0.0, 0.8], [0.2, 1.0]),
                Curve("random", [0, 1], [0.1, 0.1], control=True),
            ],
            x="",
            y="accuracy",
            ticks=["base", "W1"],
            joined=False,
        ),
        "heat": lambda: lab_figures.heat_map(four, ["one", "two"], [0, 0.5, 1], unit="accuracy"),
        "heats": lambda: lab_figures.heat_maps([("a", four), ("b", four)], ["one", "two"], [0, 0.5, 1], centre=0.0),
        "units": lambda: lab_figures.unit_map({(0, "q"): 2, (3, "down"): 1}, control={(0, "q"): 0.4}),
        "attention": lambda: lab_figures.attention_map(attention(1)[0][1], attention(1)[0][2], "block 1"),
        "attentions": lambda: lab_figures.attention_grid(attention(5), high=0.5),
        "histogram": lambda: lab_figures.histogram({"before": [1, 2, 3], "after": [3, 2, 1]}, ["x", "y", "z"]),
        "histograms": lambda: lab_figures.histogram({k: range(41) for k in "abc"}, range(41)),
    }


def words(figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_text() and t.get_visible()]


@pytest.mark.parametrize("kind", every())
def test_a_figure_is_the_same_bytes_twice_fits_the_page_and_is_readable(kind):
    before = dict(matplotlib.rcParams)
    one, two = every()[kind](), every()[kind]()
    assert style.to_svg(one) == style.to_svg(two)
    assert one.get_size_inches()[0] == pytest.approx(style.WIDTH)
    assert min(t.get_fontsize() for t in one.findobj(Text) if t.get_text()) >= 8
    assert dict(matplotlib.rcParams) == before


def test_a_missing_number_is_a_gap_in_the_curve_and_in_its_band():
    figure = lab_figures.curves([band("back")], x="steps", y="accuracy")
    (line,) = [x for x in figure.axes[0].lines if len(x.get_xdata()) == 5]
    assert np.isnan(line.get_ydata()[2]) and np.isfinite(np.delete(line.get_ydata(), 2)).all()


def test_a_step_of_zero_stands_on_a_logarithmic_axis_under_its_own_name():
    figure = lab_figures.curves([band("back")], x="steps", y="accuracy", log_x=True)
    figure.draw_without_rendering()
    panel = figure.axes[0]
    (line,) = [x for x in panel.lines if len(x.get_xdata()) == 5]
    assert 0 < line.get_xdata()[0] < 30
    named = dict(zip(panel.get_xticks(), [t.get_text() for t in panel.get_xticklabels()], strict=True))
    assert named[line.get_xdata()[0]] == "0" and named[1000.0] == "1,000"
    assert not [n for n in named.values() if "$" in n]


def test_curves_of_one_label_look_alike_in_every_panel_and_controls_are_grey():
    panels = [("one", [band("a"), band("b")]), ("two", [band("b"), band("null", control=True)])]
    figure = lab_figures.grid_of_curves(panels, x="steps", y="accuracy")
    first, second = ([x for x in p.lines if len(x.get_xdata()) == 5] for p in figure.axes[:2])
    assert first[1].get_color() == second[0].get_color() != first[0].get_color()
    red, green, blue = matplotlib.colors.to_rgb(second[1].get_color())
    assert red == green == blue and "null (control)" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_nothing_is_marked_between_whole_depths():
    figure = lab_figures.curves([Curve("probe", [0, 1, 2], [0.1, 0.9, 1.0])], x="blocks", y="accuracy")
    figure.draw_without_rendering()
    assert all(float(x).is_integer() for x in figure.axes[0].get_xticks())


def test_an_axis_with_one_place_names_that_place():
    figure = lab_figures.curves([Curve("a", [0.8], [0.5]), Curve("b", [0.8], [0.6])], x="C_Tr", y="accuracy")
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["0.8"]


def test_controls_stand_last_in_the_legend():
    panels = [("one", [band("a"), band("null", control=True)]), ("two", [band("b")])]
    figure = lab_figures.grid_of_curves(panels, x="steps", y="accuracy")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "b", "null (control)"]


def test_names_below_columns_are_whole_or_turned():
    parts = ["attn.q", "attn.k", "attn.v", "attn.o", "mlp.up", "mlp.down"]
    figure = lab_figures.unit_map({(b, p): 1 for b in range(2) for p in parts}, control={(0, "attn.q"): 0.1})
    labels = figure.axes[0].get_xticklabels()
    assert [t.get_text() for t in labels] == parts


def test_curves_of_one_group_share_a_colour_and_differ_in_their_dashes():
    figure = lab_figures.curves([band("1e-4"), band("1e-4, off", style="dashed", group="1e-4")], x="x", y="y")
    solid, dashed = [x for x in figure.axes[0].lines if len(x.get_xdata()) == 5]
    assert solid.get_color() == dashed.get_color() and solid.get_linestyle() != dashed.get_linestyle()


def test_cells_hold_their_numbers_and_a_missing_cell_holds_none():
    said = words(lab_figures.heat_map([[0.1, None], [-0.001, 1.0]], ["r", "s"], ["c", "d"], unit="accuracy"))
    assert {"0.10", "0.00", "1.00"} <= set(said) and "nan" not in said
    counts = words(lab_figures.unit_map({(0, "q"): 2, (3, "down"): 1}))
    assert {"block 0", "block 3", "q", "down"} <= set(counts) and "2" in counts


def test_numbers_that_do_not_fit_are_left_to_the_colour():
    wide = np.random.default_rng(0).random((2, 60))
    assert not {f"{v:.2f}" for v in wide.ravel()} & set(words(lab_figures.heat_map(wide, "ab", range(60))))


def test_a_map_of_differences_has_its_centre_in_the_middle_of_the_colours():
    figure = lab_figures.heat_map([[-1.0, 0.0, 4.0]], ["r"], list("abc"), centre=0.0)
    image = figure.axes[0].images[0]
    assert image.norm(0.0) == pytest.approx(0.5) and image.norm(4.0) == pytest.approx(1.0)


@pytest.mark.parametrize("n_tokens", [9, 25, 45])
def test_every_token_stands_beside_its_cell(n_tokens: int):
    title, pattern, tokens = attention(1, n_tokens)[0]
    figure = lab_figures.attention_map(pattern, tokens, title)
    panel = figure.axes[0]
    for labels in (panel.get_xticklabels(), panel.get_yticklabels()):
        assert [t.get_text() for t in labels] == tokens


def test_a_map_too_long_for_all_tokens_names_some_by_position():
    title, pattern, tokens = attention(1, 110)[0]
    figure = lab_figures.attention_map(pattern, tokens, title)
    labels = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert 20 < len(labels) < 60 and all(tokens[int(s.split()[0])] == s.split()[1] for s in labels)


def test_chosen_rows_of_a_map_are_drawn_with_their_positions():
    title, pattern, tokens = attention(1, 45)[0]
    panel = lab_figures.attention_grid([(title, pattern, tokens)], queries=[1, -1]).axes[0]
    assert [t.get_text() for t in panel.get_yticklabels()] == [f"1 {tokens[1]}", f"44 {tokens[44]}"]
    np.testing.assert_array_equal(panel.images[0].get_array(), pattern[[1, -1]])


def test_long_maps_stand_below_one_another_and_short_ones_abreast():
    def columns(n_tokens: int) -> int:
        figure = lab_figures.attention_grid(attention(3, n_tokens))
        figure.draw_without_rendering()
        return len({round(p.get_position().x0, 2) for p in figure.axes[:3]})

    assert columns(45) == 1 and columns(12) == 3


def test_names_from_a_file_are_drawn_as_text():
    hostile = "$\\frac{<svg onload=x>\u202e"
    figure = lab_figures.curves([band(hostile), band("b")], x=hostile, y="y", title=hostile)
    assert "\u202e" not in style.to_svg(figure) and "<svg onload" not in style.to_svg(figure)
    style.to_svg(lab_figures.heat_map([[1.0]], [hostile], [hostile]))
    style.to_svg(lab_figures.attention_map([[1.0]], [hostile], hostile))


@pytest.mark.parametrize(
    "value, text", [(1.0, "1"), (20_000.0, "20,000"), (0.01, "0.01"), (1e-6, "1e-6"), (1e6, "1e6")]
)
def test_powers_are_said_in_few_letters(value: float, text: str):
    assert power(value) == text


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="must hold a number to draw, got none"):
        lab_figures.curves([Curve("a", [1, 2], [None, None])], x="x", y="y")
    with pytest.raises(DataError, match="one value for each x, got lengths"):
        Curve("a", [1, 2], [0.1])
    with pytest.raises(DataError, match="both ends of its band"):
        Curve("a", [1], [0.1], [0.0])
    with pytest.raises(DataError, match=r"Curve\.style must be one of solid, dashed"):
        Curve("a", [1], [0.1], style="wavy")
    with pytest.raises(DataError, match="must hold a number to draw"):
        lab_figures.heat_map([[None]], ["r"], ["c"])
    with pytest.raises(DataError, match=r"heat map must have shape \(1, 2\), as its names have, got \(1, 1\)"):
        lab_figures.heat_map([[1.0]], ["r"], ["c", "d"])
    with pytest.raises(DataError, match="must have 2 counts, one a class, got 1"):
        lab_figures.histogram({"a": [1]}, ["x", "y"])
    with pytest.raises(DataError, match=r"got none\. Leave the picture out"):
        lab_figures.attention_grid([])
    with pytest.raises(DataError, match=r"got none\. Leave the picture out"):
        lab_figures.unit_map({})
