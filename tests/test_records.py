import json
import math
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnothi.errors import DataError
from gnothi.files import read_table, write_table
from gnothi.records import (
    Attribute,
    ChoiceType,
    Estimate,
    Item,
    Message,
    Sample,
    TrainRow,
    messages_from_json,
    messages_to_json,
)

SIZE = Attribute(name="size", low=0, high=10, units="cm")
PRICE = Attribute(name="price", low=-5, high=5)
KIND = ChoiceType(name="cup", question="Which cup?", attributes=(SIZE, PRICE))
HI = (Message("user", "hi"),)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def items(draw, context_id):
    n = draw(st.integers(1, 4))
    shown = tuple(draw(st.permutations(range(6)))[:n])
    a, b = (tuple(draw(st.lists(numbers, min_size=n, max_size=n))) for _ in range(2))
    return Item(item_id=draw(words), context_id=context_id, shown=shown, a=a, b=b)


@st.composite
def samples(draw):
    context_id = draw(words)
    value = tuple(draw(st.lists(st.none() | numbers, max_size=4)))
    roles = st.sampled_from(["system", "user", "assistant"])
    return Sample(
        sample_id=draw(words),
        kind=draw(st.sampled_from(["choice", "report"])),
        context_id=context_id,
        messages=tuple(draw(st.lists(st.builds(Message, roles, words), max_size=3))),
        item=draw(st.none() | items(context_id)),
        options=tuple(draw(st.lists(words, max_size=3))),
        logprobs=tuple(draw(st.lists(st.floats(max_value=0, allow_nan=False), max_size=3))),
        text=draw(st.none() | words),
        value=value,
        reason=None if value else draw(words),
        prompt_tokens=draw(st.none() | st.integers(0, 2**40)),
        answer_tokens=draw(st.none() | st.integers(0, 2**40)),
        seconds=draw(st.none() | st.floats(0, 1e6)),
        extra=draw(st.dictionaries(words, json_values, max_size=3)),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(samples(), min_size=1, max_size=4))
def test_samples_come_back_from_a_file_as_they_went_in(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    write_table(path, [s.to_row() for s in rows])
    again = [Sample.from_row(r) for r in read_table(path).to_dict("records")]
    assert [s.to_row() for s in again] == [s.to_row() for s in rows]
    assert [s.item for s in again] == [s.item for s in rows]
    assert [s.text for s in again] == [s.text for s in rows]


@pytest.mark.parametrize(
    "text",
    ["", "\0\x1b[2J", "é" * 3, "e\u0301", "\U0001f600", "\u202eevil", "line\r\n\ttab", "x" * 3_000_000, "\ufffe"],
)
def test_whatever_a_model_says_is_kept_to_the_letter(tmp_path, text):
    sample = Sample(sample_id="s", kind="report", context_id="c", messages=HI, text=text, reason="not JSON")
    write_table(tmp_path / "t.parquet", [sample.to_row()])
    assert read_table(tmp_path / "t.parquet")["text"][0] == text


def test_half_a_character_is_escaped_in_what_a_model_says_and_refused_in_what_we_say(tmp_path):
    extra = {"raw": "\udfff", "n": 1}
    sample = Sample(sample_id="s", kind="report", context_id="c", messages=HI, text="a\ud800b", reason="x", extra=extra)
    assert sample.text == "a\\ud800b"
    write_table(tmp_path / "t.parquet", [sample.to_row()])
    (row,) = read_table(tmp_path / "t.parquet").to_dict("records")
    assert Sample.from_row(row) == sample and Sample.from_row(row).extra == extra
    with pytest.raises(DataError, match=r"Message.content must be valid Unicode, got a lone surrogate at 1"):
        Message("user", "a\ud800")
    with pytest.raises(DataError, match="its names must be valid Unicode"):
        Sample(sample_id="\ud800", kind="report", context_id="c", messages=HI, reason="x")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "guess"}, "kind must be choice or report, got 'guess'"),
        ({"value": (1.0,)}, "must have a value or a reason"),
        ({"reason": None}, "must have a value or a reason"),
        ({"reason": None, "value": (math.nan,)}, "must be finite or None"),
        ({"logprobs": (math.nan, 0.0)}, "logprobs must not be NaN"),
        ({"item": Item(item_id="i", context_id="d", shown=(0,), a=(1,), b=(2,))}, "must be of its item's context"),
    ],
)
def test_samples_that_contradict_themselves_are_refused(wrong, said):
    with pytest.raises(DataError, match=said):
        Sample(**{"sample_id": "s", "kind": "report", "context_id": "c", "messages": HI, "reason": "none"} | wrong)


def test_extra_must_be_json():
    for value in (math.nan, object()):
        sample = Sample(sample_id="s", kind="report", context_id="c", messages=HI, reason="x", extra={"x": value})
        with pytest.raises(DataError, match="extra must be JSON without NaN"):
            sample.to_row()


def test_messages_are_plain_dicts_and_back():
    rows = [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}]
    assert messages_to_json(messages_from_json(rows)) == rows
    for wrong in ([{"role": "user"}], ["hi"], [None]):
        with pytest.raises(DataError, match="list of objects with role and content"):
            messages_from_json(wrong)
    with pytest.raises(DataError, match="must be system, user or assistant, got 'tool'"):
        Message("tool", "x")


def test_differences_are_shares_of_each_range_in_the_attributes_order():
    item = Item(item_id="i", context_id="c", shown=(1, 0), a=(5.0, 2.0), b=(0.0, 7.0))
    assert item.differences(KIND).tolist() == [-0.5, 0.5]
    part = Item(item_id="i", context_id="c", shown=(1,), a=(5.0,), b=(0.0,))
    assert part.differences(KIND).tolist() == [0.0, 0.5]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Attribute(name="x", low=1, high=1), "finite low < high"),
        (lambda: Attribute(name="x", low=0, high=math.inf), "finite low < high"),
        (lambda: ChoiceType(name="x", question="?", attributes=(SIZE,)), "2 to 12 attributes, got 1"),
        (lambda: ChoiceType(name="x", question="?", attributes=(SIZE, SIZE)), "name each attribute once"),
        (lambda: Item(item_id="i", context_id="c", shown=(), a=(), b=()), "as many distinct attributes"),
        (lambda: Item(item_id="i", context_id="c", shown=(0, 0), a=(1, 1), b=(2, 2)), "as many distinct attributes"),
        (lambda: Item(item_id="i", context_id="c", shown=(0,), a=(1, 2), b=(2,)), "as many distinct attributes"),
        (lambda: Item(item_id="i", context_id="c", shown=(0,), a=(math.nan,), b=(2,)), "finite values"),
        (lambda: TrainRow(messages=(), answer="A"), "a prompt and an answer"),
        (lambda: TrainRow(messages=HI, answer=""), "a prompt and an answer"),
        (lambda: TrainRow(messages=HI, answer="A", weight=0), "finite number above 0, got 0"),
        (lambda: TrainRow(messages=HI, answer="A", weight=math.nan), "finite number above 0, got nan"),
    ],
)
def test_impossible_records_are_refused(make, said):
    with pytest.raises(DataError, match=said):
        make()


def estimate(**changes):
    plain = {"name": "a.b", "arm": "tuned", "value": 0.5, "low": 0.1, "high": 0.9, "n": 3, "n_points": 9, "method": "t"}
    return Estimate(**plain | changes)


def test_an_estimate_gives_a_number_or_a_reason_and_never_nan():
    for field in ("value", "low", "high"):
        with pytest.raises(DataError, match=f"{field} must be finite or None, got nan"):
            estimate(**{field: math.nan})
    for field in ("value", "low"):
        with pytest.raises(DataError, match="must give a reason"):
            estimate(**{field: None})
    row = estimate(value=None, low=None, high=None, reason="two units").to_json()
    assert json.loads(json.dumps(row, allow_nan=False)) == row and row.keys() == {f.name for f in fields(Estimate)}


def test_records_are_frozen():
    with pytest.raises(FrozenInstanceError):
        estimate().value = 1.0


def test_rows_that_pandas_made_give_pythons_own_types():
    sample = Sample(
        sample_id="s", kind="choice", context_id="c", messages=HI, value=(1.0, None), logprobs=(-math.inf, 0.0)
    )
    row = sample.to_row()
    row |= {"value": np.array([1.0, np.nan]), "logprobs": np.array([-np.inf, 0.0]), "options": np.array([], object)}
    row |= {"prompt_tokens": np.float64("nan"), "answer_tokens": np.float64(7), "seconds": np.float32(0.5)}
    again = Sample.from_row(row)
    assert again.value == (1.0, None) and again.logprobs == (-math.inf, 0.0)
    assert (again.prompt_tokens, again.answer_tokens, again.seconds) == (None, 7, 0.5)
    assert type(again.answer_tokens) is int and type(again.seconds) is float
