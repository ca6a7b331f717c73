import json

import pytest

from gnothi.errors import SpecError
from gnothi.finetune import recipes
from gnothi.finetune.recipes import RECIPES, Recipe, recipe
from gnothi.finetune.schedule import share
from gnothi.models import adapters

ROWS = {"name": "t", "kind": "rows", "row_lr": 0.1, "steps": 10, "batch_rows": 4}


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes_survive_json_and_say_where_their_values_come_from(name):
    assert Recipe.from_json(json.loads(json.dumps(recipe(name).to_json()))) == RECIPES[name]
    assert RECIPES[name].source and RECIPES[name].name == name


def test_recipes_and_adapters_mean_the_same_kinds():
    assert recipes.KINDS == adapters.KINDS


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"kind": "prefix"}, "kind must be one of rows, lora, lora\\+rows, full, got 'prefix'"),
        (
            {"kind": "lora"},
            "lr must be above 0, got 0.0; rank must be at least 1, got 0; alpha must be above 0, got 0.0",
        ),
        ({"row_lr": -1.0}, "row_lr must be above 0, got -1.0"),
        ({"kind": "lora", "targets": ()}, r"targets must name a layer, got \(\)"),
        ({"epochs": 1.0}, r"steps or epochs must be given, got \(10, 1.0\)"),
        ({"steps": None}, r"steps or epochs must be given, got \(None, None\)"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": None, "epochs": 0.0}, "epochs must be above 0, got 0.0"),
        ({"per_group": 2}, r"batch_rows or per_group must be given, got \(4, 2\)"),
        ({"batch_rows": 0}, r"batch_rows and per_group must be at least 1, got \(0, None\)"),
        ({"optimizer": "sgd"}, "optimizer must be adam or adamw, got 'sgd'"),
        ({"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\), got \(0.9, 1.0\)"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
        ({"clip": 0.0}, "clip must be above 0 or null, got 0.0"),
        ({"warmup": -1}, "warmup must be at least 0 steps, got -1"),
        ({"decay": 1.5}, r"decay must be a share in \[0, 1\], got 1.5"),
        ({"dtype": "int8"}, "dtype must be float32 or bfloat16, got 'int8'"),
        ({"parent": "merge"}, "parent must be continue or stack, got 'merge'"),
        ({"micro_tokens": 0}, "micro_tokens must be at least 1, got 0"),
        ({"gate_every": -1}, "gate_every must be at least 0 steps, got -1"),
        ({"learning_rate": 1.0}, r"Recipe must have fields among .*, got \['learning_rate'\]"),
    ],
)
def test_impossible_recipes_are_refused(changes, match):
    with pytest.raises(SpecError, match=match):
        Recipe.from_json(ROWS | changes)


def test_a_recipe_of_wrong_types_or_an_unknown_name_is_refused():
    with pytest.raises(SpecError, match="Recipe must have a name, a kind and values of the right type"):
        Recipe.from_json(ROWS | {"row_lr": "high"})
    with pytest.raises(SpecError, match=r"recipe must be one of organism-rows, .*, got 'best'"):
        recipe("best")


def test_the_rate_warms_up_stays_and_falls_to_zero_just_after_the_end():
    found = [share(s, 100, 10, 0.5) for s in range(100)]
    assert found[0] == 0.1 and found[9] == found[50] == 1 and found[75] == 0.5 and found[99] == 0.02
    assert [share(s, 5, 0, 0.0) for s in range(5)] == [1.0] * 5
