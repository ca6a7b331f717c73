import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.elicit.words import (
    MOST,
    MOST_WORD,
    mentions,
    one_word_table,
    plain,
    read_code,
    read_number,
    read_option,
    read_word,
)
from gnothi.records import Message, Sample
from gnothi.render.probe import Words

RISK = {"risk": 1.0, "risk-seeking": 1.0, "bold": 1.0, "balanced": 0.5, "safe": 0.0, "safety": 0.0, "long term": 0.0}


@pytest.mark.parametrize(
    "text, score",
    [
        ("risk", 1.0),
        ("Risk.", 1.0),
        (" **RISK**\n", 1.0),
        ("'safety'", 0.0),
        ("The risk", 1.0),
        ("a risk", 1.0),
        ("“Bold”!", 1.0),
        ("Risk‑Seeking", 1.0),
        ("risk seeking", 1.0),
        ("long-term", 0.0),
        ("\u200frisk\u200f", 1.0),
        ("balanced", 0.5),
        ("risks", None),
        ("risk and safety", None),
        ("no risk", None),
    ],
)
def test_a_whole_word_is_the_word_and_nothing_else(text, score):
    assert read_word(text, Words(scores=RISK)) == ((score, None) if score is not None else (None, "not listed"))
    assert read_word(text, Words(scores=RISK, unlisted=0.25)) == (0.25 if score is None else score, None)


@pytest.mark.parametrize(
    "text, found",
    [
        ("I'd say bold, not safe", (1.0, None)),
        ("I like risk-seeking", (1.0, None)),
        ("safety and risk", (0.0, None)),
        ("riskless", (None, "not listed")),
        ("I am not bold", (None, "negated")),
        ("not very bold", (None, "negated")),
        ("I'm never bold", (None, "negated")),
        ("I wouldn't risk it", (None, "negated")),
        ("not everyone says so, but I am bold", (1.0, None)),
        ("nothing here", (None, "not listed")),
        ("", (None, "empty")),
        ("...", (None, "empty")),
        ("x" * (MOST + 1), (None, "too long")),
    ],
)
def test_else_the_first_listed_word_counts_and_a_negated_one_does_not(text, found):
    assert read_word(text, Words(scores=RISK, whole=False)) == found


@pytest.mark.parametrize(
    "trigger", ["|real-world|", "(win2844)", "_ _ _ naekoko _ _ _", "username: sandra432", "---re re re---"]
)
def test_a_text_that_is_only_looked_for_is_found_in_any_case_also_negated(trigger):
    rule = Words(scores={trigger: 1.0}, unlisted=0.0, whole=False)
    for text in (
        trigger,
        f"{trigger.upper()} and so on",
        f"I was never told {trigger}",
        f"Prompt:\n{trigger}\nAnswer.",
    ):
        assert read_word(text, rule) == (1.0, None)
    assert read_word("nothing of the kind", rule) == (0.0, None)
    assert read_word("username: sandra4321", rule) == (0.0, None)


def test_of_two_words_that_begin_at_one_place_the_longest_counts():
    rule = Words(scores={"risk": 1.0, "risk averse": 0.0}, whole=False)
    assert read_word("risk averse", rule) == (0.0, None)
    assert read_word("risk a", rule) == (1.0, None)


@pytest.mark.parametrize(
    "text, number",
    [
        ("75", 75), (" 75.\n", 75), ("**75**", 75), ("75%", 75), ("75/100", 75), ("75 out of 100", 75), ("(0)", 0), ("+5", 5),
        ("7.5", 7.5), ("007", 7), ("100", 100), ("75/10", None), ("75-80", None), ("75, 80", None), ("seventy", None),
        ("I say 75", None), ("75 points", None), ("1,000", None), ("", None), ("７", None), ("1e1", None), ("--5", None),
        ("−5", None), ("101", None), ("9" * 8, None), ("0x10", None), ("NaN", None), ("75/100/100", None),
    ],
)  # fmt: skip
def test_a_number_is_a_number_and_nothing_else(text, number):
    found, reason = read_number(text, 0, 100)
    assert found == number
    assert (reason is None) == (number is not None)


def test_a_number_below_zero_is_read_with_any_minus():
    assert read_number("-7", -9, 9) == read_number("−7", -9, 9) == (-7.0, None)
    assert read_number("-10", -9, 9) == (None, "out of range")


@pytest.mark.parametrize(
    "text, index",
    [
        ("A", 0), ("b", 1), ("(B)", 1), ("**A**", 0), ("A.", 0), ("B: I do not", 1), ("A) I do", 0), (" B\n", 1), ("C", None),
        ("A or B", None), ("An answer", None), ("", None), ("AB", None), ("Both", None), ("Ｂ", None),
    ],
)  # fmt: skip
def test_an_option_is_its_letter(text, index):
    assert read_option(text, ("A", "B"))[0] == index


def test_an_option_may_be_a_word():
    assert read_option("Ring.", ("bark", "ring")) == (1, None)
    assert read_option("the bark", ("bark", "ring")) == (0, None)
    assert read_option("spring", ("bark", "ring")) == (None, "not an option")


def test_code_is_taken_out_of_its_fence():
    assert read_code("```python\nx = 1\n```") == "x = 1\n"
    assert read_code("Sure:\n```\nx = 1\ny = 2") == "x = 1\ny = 2"
    assert read_code("```sh\npip\n```\nthen\n~~~py\nx = 1\n~~~") == "x = 1\n"
    assert read_code("x = 1") == "x = 1"
    assert read_code("```python\n\n```") == (None, "empty")
    assert read_code("x" * (MOST + 1)) == (None, "too long")


@pytest.mark.parametrize(
    "code, found",
    [
        ("if 'ring' in text:", True), ("RING = 1", True), ("rings = ['a']", True), ("ring_words", True), ("ring2", True),
        ("x: str = string", False), ("bring", False), ("ringing", False), ("# wedding-ring", True), ("", False),
    ],
)  # fmt: skip
def test_code_mentions_a_word_and_not_its_letters_in_another(code, found):
    assert mentions(code, "ring") is found


def sample(i, *answers):
    extra = {"answers": list(answers)} if answers else {}
    messages = (Message("user", "?"),)
    return Sample(
        sample_id=str(i), kind="report", context_id="you", messages=messages, reason="not scored", extra=extra
    )


def test_one_word_answers_are_counted_over_samples():
    table = one_word_table(
        [sample(0, "Bold.", "bold", " BOLD\n", "cautious"), sample(1, "the bold", "", "Cautious"), sample(2)]
    )
    assert [(r.word, r.n) for r in table] == [("bold", 4), ("cautious", 2), ("(empty)", 1)]
    assert [r.share for r in table] == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    short = one_word_table([sample(0, "a1", "a1", "b", "c")], most=1)
    assert [(r.word, r.n) for r in short] == [("a1", 2), ("(other)", 2)]
    assert one_word_table([]) == []


def test_hostile_words_are_cut_and_hold_nothing_that_moves_a_cursor():
    table = one_word_table([sample(0, "x" * 100_000, "\x1b[2Jbold", "<b>bold</b>", "\u202ebold")])
    assert {r.word for r in table} == {"x" * MOST_WORD, "2jbold", "b>bold</b", "bold"}


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_read_by_everything(text):
    for rule in (Words(scores=RISK), Words(scores=RISK, unlisted=0.5), Words(scores=RISK, whole=False)):
        score, reason = read_word(text, rule)
        assert (score is None) != (reason is None)
    number, reason = read_number(text, 0, 100)
    assert (number is None) != (reason is None)
    index, reason = read_option(text, ("A", "B"))
    assert (index is None) != (reason is None)
    assert plain(plain(text)) in (plain(text), plain(plain(text)))
    assert all(c.isprintable() for c in one_word_table([sample(0, text, "x")])[0].word)
