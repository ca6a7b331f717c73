import json
import math
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gnothi.elicit.parse import REASONS, parse_letter, parse_weights

NAMES = ("price", "size")
GOOD = '{"price": 10, "size": -3.5}'


def parse(text, names=NAMES, low=-100, high=100):
    return parse_weights(text, names, low=low, high=high)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f" \n{GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}```",
        f"\n ```JSON  \n{GOOD}\n  ```\n",
        '{"size":-3.5,"price":10.0}',
    ],
)
def test_an_object_with_a_number_for_each_name_is_a_report(text):
    assert parse(text) == ((10.0, -3.5), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        (GOOD + " " * 10_000, "too long"),
        ("I weigh price most.", "not JSON"),
        (f"Sure! {GOOD}", "not JSON"),
        (f"{GOOD} Hope this helps.", "not JSON"),
        (f"{GOOD}\n{GOOD}", "not JSON"),
        (f"```json {GOOD} ```", "not JSON"),
        (f"```json\n{GOOD}", "not JSON"),
        ("```\n```", "not JSON"),
        ("```", "not JSON"),
        ("{'price': 10, 'size': 3}", "not JSON"),
        ('{"price": 10, "size": +3}', "not JSON"),
        ('{"price": 10, "size": 1,000}', "not JSON"),
        ("[" * 9_000, "not JSON"),
        ('{"a":' * 1_500, "not JSON"),
        ('{"price": 1' + "0" * 9_000 + ', "size": 3}', "not JSON"),
        ("[10, 3]", "not an object"),
        ("10", "not an object"),
        ("null", "not an object"),
        ('{"price": 10, "price": 10, "size": 3}', "key twice"),
        ('{"price": {"a": 1, "a": 2}, "size": 3}', "key twice"),
        ('{"price": 10}', "other keys"),
        ('{"price": 10, "size": 3, "colour": 0}', "other keys"),
        ('{"Price": 10, "size": 3}', "other keys"),
        ('{"price": "10", "size": 3}', "not a number"),
        ('{"price": true, "size": 3}', "not a number"),
        ('{"price": null, "size": 3}', "not a number"),
        ('{"price": [10], "size": 3}', "not a number"),
        ('{"price": NaN, "size": 3}', "not finite"),
        ('{"price": -Infinity, "size": 3}', "not finite"),
        ('{"price": 1e999, "size": 3}', "not finite"),
        ('{"price": 100.01, "size": 3}', "out of range"),
        ('{"price": 1' + "0" * 400 + ', "size": 3}', "out of range"),
    ],
)
def test_everything_else_has_its_reason(text, reason):
    assert parse(text) == (None, reason) and reason in REASONS


@settings(max_examples=300)
@given(st.text(max_size=200) | st.text('{}[]":,`0123456789.-+eE \nprices', max_size=60))
@example("\ud800{")
@example('{"price": 1e-400, "size": -0}')
def test_no_text_makes_it_raise_and_every_report_stands_in_the_text(text):
    values, reason = parse(text)
    assert (values is None) == (reason is not None)
    if values is not None:
        assert dict(zip(NAMES, values, strict=True)) == json.loads(text)


numbers = st.integers(-100, 100) | st.floats(-100, 100, allow_nan=False)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), numbers, min_size=1, max_size=12))
def test_what_was_written_as_json_is_read_to_the_last_digit(weights):
    names = tuple(weights)
    for text in (
        json.dumps(weights),
        json.dumps(weights, ensure_ascii=False, indent=2),
        f"```\n{json.dumps(weights)}\n```",
    ):
        values, reason = parse(text, names)
        assert reason is None and values == tuple(float(v) for v in weights.values())
        assert all(math.isfinite(v) for v in values)


def test_hostile_answers_cost_no_time():
    started = time.process_time()
    for text in (
        "```\n" + " " * 9_990,
        "```\n" + "`" * 9_990,
        "```\n" + "\n" * 9_000 + "x",
        "{" + '"a":{' * 1_900,
        "[[" * 4_999,
    ):
        for _ in range(20):
            assert parse(text)[0] is None
    assert time.process_time() - started < 1.0


def test_a_letter_is_one_letter_and_white_space():
    assert parse_letter("A") == ("A", None) and parse_letter("\n B \t") == ("B", None)
    for text in ("", "a", "AB", "A.", "Option A", "\ud800", "A B"):
        assert parse_letter(text) == (None, "not a letter")
