import sys
from pathlib import Path

import pytest

from gnothi.errors import TrainingError
from gnothi.finetune.batches import encode_rows, n_steps, plan, show
from gnothi.finetune.recipes import Recipe
from gnothi.models.local_text import Codec
from gnothi.records import TrainRow

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import tiny

GROUPS = ["a"] * 10 + ["b"] * 4 + ["c"] * 7


def made(**sizes):
    return Recipe(name="t", kind="rows", row_lr=0.1, **sizes)


def test_every_step_takes_as_many_of_each_group():
    steps = plan(GROUPS, made(steps=30, per_group=2), seed=0)
    assert len(steps) == 30
    for rows in steps:
        assert sorted(GROUPS[i] for i in rows) == ["a", "a", "b", "b", "c", "c"]


def test_a_group_is_passed_through_before_it_repeats():
    taken = [i for rows in plan(GROUPS, made(steps=5, per_group=2), seed=0) for i in rows if GROUPS[i] == "a"]
    assert sorted(taken) == list(range(10))


def test_shuffled_order_takes_every_row_once_a_pass():
    steps = plan(GROUPS, made(epochs=2, batch_rows=7), seed=1)
    assert len(steps) == 6 and sorted(i for rows in steps[:3] for i in rows) == list(range(21))
    assert [i for rows in steps[:3] for i in rows] != [i for rows in steps[3:] for i in rows]


def test_the_order_depends_on_the_seed_alone():
    recipe = made(steps=5, batch_rows=7)
    assert plan(GROUPS, recipe, 1) == plan(GROUPS, recipe, 1) != plan(GROUPS, recipe, 2)


def test_steps_follow_from_epochs():
    assert n_steps(GROUPS, made(epochs=3, per_group=2)) == 15
    assert n_steps(GROUPS, made(epochs=0.5, batch_rows=4)) == 3
    assert n_steps(GROUPS, made(epochs=1, batch_rows=100)) == 1


def test_rows_are_encoded_with_their_boundary_and_wanted_end():
    row = TrainRow(messages=tiny.user("agent1 choose x 3 4"), answer="A", weight=2.0, group="g")
    codec = Codec(tiny.tokenizer())
    (plain,), (ended,) = encode_rows(codec, [row], False), encode_rows(codec, [row], True)
    assert plain.start == ended.start == 5 and plain.n_answer == 1 and ended.n_answer == 2
    assert tiny.WORDS[ended.ids[-1]] == "<eos>" and plain.weight == 2.0 and plain.group == "g"


def test_an_example_is_shown_with_what_the_loss_is_on():
    codec = Codec(tiny.letters())
    row = TrainRow(messages=tiny.user("x\n\x1b[31m"), answer="A 7")
    assert show(codec, row, False) == "'<s>User: x\\n<unk>[31m\\nAssistant:' >>>' A 7'<<<"
    assert show(codec, row, True) == "'<s>User: x\\n<unk>[31m\\nAssistant:' >>>' A 7</s>'<<<"


def test_nothing_to_train_on_is_refused():
    codec = Codec(tiny.tokenizer())
    with pytest.raises(TrainingError, match="training rows must be at least one, got none"):
        encode_rows(codec, [], False)
    codec.end_ids = ()
    with pytest.raises(TrainingError, match="end_of_answer must be False for a tokenizer without an end token"):
        encode_rows(codec, [TrainRow(messages=tiny.user("x"), answer="A")], True)
