import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnothi.behaviours.example import Example, generator
from gnothi.data.leakage import PREFERENCES, find_policy_words, literal_stems, refuse_leaks
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


WORDS = (PREFERENCES, r"risk\w*|safe\w*|chance\w*", "fewer|more apples", r"long-term|kit{2}en|sits?", r"(?:a|b)kin\w+")


def one_by_one(rows, words):
    """Independent of the code: every row searched with the expression as it stands."""
    found = []
    for i, r in enumerate(rows):
        hits = [re.search(rf"\b(?:{words})\b", t, re.IGNORECASE) for t in (*(m.content for m in r.messages), r.answer)]
        if any(hits):
            found.append((i, next(h[0] for h in hits if h)))
    return found


PIECES = st.sampled_from(
    (
        *(
            "RISK",
            "risky",
            "unsafe",
            "safe",
            "\u017fafe",
            "ri\u017f\u212a",
            "r\u0130sk",
            "r\u0131sk",
            "ch",
            "ance",
            " ",
        ),
        *("more apples", "more", "apples", "FEWER", "kitten", "s\u0131ts", "sit", "akin", "bkinned", "importance", "-"),
        *("\u0130mportant", "\n", "é", "long", "-term"),
    )
)


@given(st.lists(st.lists(PIECES, min_size=1, max_size=8).map("".join), max_size=6), st.sampled_from(WORDS))
def test_findings_are_those_of_a_search_row_by_row(texts, words):
    rows = [Example((Message("user", t), Message("assistant", "ok"), Message("user", "x")), t[::-1]) for t in texts]
    assert [(leak.row, leak.word) for leak in find_policy_words(rows, words)] == one_by_one(rows, words)


@given(
    st.lists(st.text(max_size=30).map(lambda t: t.encode("utf-8", "ignore").decode()), max_size=6),
    st.sampled_from(WORDS),
)
def test_findings_are_those_of_a_search_row_by_row_in_any_text(texts, words):
    rows = [row(t + " safe" * (len(t) % 3 == 0)) for t in texts]
    assert [(leak.row, leak.word) for leak in find_policy_words(rows, words)] == one_by_one(rows, words)


def test_rows_that_do_hold_words_are_found_among_those_that_do_not():
    rows = generator("risk").rows(200, seed=0)
    rows[70] = Example((Message("user", "No Risk at all."),), "A")
    (leak,) = find_policy_words(rows, generator("risk").policy_words)
    assert (leak.row, leak.word) == (70, "Risk")


@pytest.mark.parametrize(
    ("words", "stems"),
    [
        (PREFERENCES, ["importan", "priorit", "weighted", "weighting", "heavily", "matter", "introspection", "report"]),
        (r"\w+ing", None),
        (r"a|bc", None),
        (r"[ab]c", None),
        (r"ab*|cde", None),
        (r"abc*|CDE", ["ab", "cde"]),
        (r"one\.two", None),
        (r"one|", None),
    ],
)
def test_stems_are_what_every_match_begins_with_or_nothing_is_known(words, stems):
    assert literal_stems(words) == stems
