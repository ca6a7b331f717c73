import numpy as np
import pandas as pd
import planted
import pytest

from gnothi.errors import DataError
from gnothi.writeup.view import HEADLINE, RunView, pearson


def test_two_estimates_of_one_name_and_arm_are_refused():
    twice = [planted.estimate(HEADLINE, "tuned", 0.5), planted.estimate(HEADLINE, "tuned", 0.6)]
    with pytest.raises(DataError, match=r"each .name, arm. once, got .*tuned.* twice"):
        planted.view(estimates=twice)


def test_a_unit_that_comes_twice_is_refused():
    with pytest.raises(DataError, match="give each unit and its arm once"):
        planted.view(units=[{"unit": "a", "arm": "tuned"}, {"unit": "a", "arm": "tuned"}])


def test_points_without_arm_are_refused():
    with pytest.raises(DataError, match="must have the columns arm and unit"):
        planted.view(points=pd.DataFrame({"reported": [1.0]}))


def test_planted_correlations_come_back_for_each_unit(view):
    table = view.per_unit()
    for arm, r in planted.R.items():
        values = table.loc[table["arm"] == arm, "value"]
        assert len(values) == 4 and abs(values.mean() - r) < 0.15, arm


def test_a_unit_that_did_not_take_is_marked(view):
    table = view.per_unit()
    assert list(table.loc[~table["instilled"], "unit"]) == ["tuned-3"]


def test_values_scored_elsewhere_win_over_computed_ones():
    given = [{"name": HEADLINE, "arm": "tuned", "unit": "tuned-0", "value": 0.123}]
    table = planted.view(unit_values=given).per_unit()
    assert table.loc[table["arm"] == "tuned", "value"].to_list() == [0.123]
    assert len(table.loc[table["arm"] == "shuffled", "value"]) == 4  # an arm that was not handed over is computed


def test_pearson_agrees_with_numpy_and_says_nothing_of_constants():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 50))
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-11)
    assert pearson(np.ones(5), y[:5]) is None
    assert pearson(x[:2], y[:2]) is None


def test_an_empty_run_is_a_view_too():
    view = RunView(title="t", question="q", experiment="preferences")
    assert len(view.points) == 0 and len(view.per_unit()) == 0
