"""Reverse fine-tuning: rows are what the base would answer, and the rate is chosen on other items than are shown."""

import numpy as np
import pytest
from tests.experiments.look import planted

from gnothi.experiments.look import back
from gnothi.finetune.recipes import recipe
from gnothi.mechanisms.curves import Curve


def test_rows_weigh_what_the_base_gives_each_option():
    prompts = planted.prompts(planted.organism())[:2]
    rows = back.rows(prompts, np.array([np.log(3.0), 40.0]))
    assert [(r.answer, pytest.approx(r.weight)) for r in rows] == [("A", 0.75), ("B", 0.25), ("A", 1.0)]


def test_the_recipe_is_the_runs_with_a_constant_rate_that_is_a_multiple():
    found = back.recipe_back(recipe("organism-trigger"), 0.3, 12, 20)
    assert (found.lr, found.row_lr) == pytest.approx((1.5e-4, 0.03))
    assert (found.steps, found.batch_rows, found.warmup, found.decay, found.parent) == (12, 20, 0, 0.0, "continue")


def test_the_rate_is_the_one_that_is_back_soonest_on_the_choosing_items():
    def curve(*values: float) -> Curve:
        return Curve(steps=tuple(range(len(values))), values=values, horizon=len(values) - 1)

    slow, fast = curve(0, 0.3, 0.6, 1), curve(0, 1, 1, 1)
    choice = back.chosen_rate(
        {0.1: {"choosing": slow, "shown": fast}, 1.0: {"choosing": fast, "shown": slow}}, "choosing"
    )
    assert choice.lr == 1.0 and choice.at_edge
