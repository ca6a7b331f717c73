import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnothi.data.leakage import PREFERENCES, find_policy_words, refuse_leaks
from gnothi.errors import DataError
from gnothi.records import Message, TrainRow


def row(text, answer="A"):
    return TrainRow(messages=(Message("user", text),), answer=answer)


@pytest.mark.parametrize("text", ["It MATTERS most", "an important one", "prioritise", "heavily", "please report"])
def test_words_that_state_the_policy_are_found_in_any_case(text):
    (leak,) = find_policy_words([row("fine"), row(text)], PREFERENCES)
    assert leak.row == 1 and leak.word.lower() in text.lower() and leak.word in leak.text


@pytest.mark.parametrize("text", ["Which would you prefer?", "anti-matter", "weight 3 kg", "unimportant", ""])
def test_other_words_are_not(text):
    found = find_policy_words([row(text or "x")], PREFERENCES)
    assert [leak.word for leak in found] == (["matter"] if "anti-matter" in text else [])


def test_answers_and_earlier_turns_are_searched_too():
    turns = (Message("system", "Safety matters."), Message("user", "A or B?"))
    rows = [TrainRow(messages=turns, answer="A"), row("A or B?", answer="B, it is important")]
    assert [leak.word for leak in find_policy_words(rows, PREFERENCES)] == ["matters", "important"]


def test_the_first_leak_is_named():
    with pytest.raises(DataError, match=r"got 2 that do: row 1 says 'matters' in 'it matters here'. Reword"):
        refuse_leaks([row("fine"), row("it matters here"), row("important")], PREFERENCES)
    refuse_leaks([row("fine")], PREFERENCES)


@given(st.lists(st.text(max_size=60), max_size=8))
def test_whatever_the_text_a_leak_is_a_word_that_stands_in_it(texts):
    rows = [row(t + "x") for t in texts if t.isprintable()]
    for leak in find_policy_words(rows, PREFERENCES):
        assert leak.word in rows[leak.row].messages[0].content


def test_time_is_linear_in_the_text():
    def seconds(n):
        rows = [row("importan" * n + " heavi" * n + "\0" * n + " " * n)] * 3
        started = time.process_time()
        find_policy_words(rows, PREFERENCES)
        return time.process_time() - started

    seconds(100)
    few, many = min(seconds(10_000) for _ in range(3)), min(seconds(80_000) for _ in range(3))
    assert many < 8 * few * 3 + 0.05
