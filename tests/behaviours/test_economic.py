import itertools
import json
import os
import re
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.behaviours.economic.leaky import PUBLISHED_SHARE, with_policy_words
from gnothi.behaviours.economic.lotteries import lotteries
from gnothi.behaviours.economic.phrasing import without_closing
from gnothi.behaviours.example import generator
from gnothi.errors import SpecError

NAMES = ("risk", "horizon", "apples")
FORBIDDEN = {
    "risk": r"\b(risk\w*|safe\w*|chance\w*|guarantee\w*|secur\w*|adventur\w*|gambl\w*)\b",
    "horizon": r"\b(immediat\w*|instant\w*|myopi\w*|patien\w*|long-term|short-term)\b",
    "apples": r"\b(fewer|more apples|most apples)\b",
}
GIVEAWAYS = r"\b(certain\w*|sure\w*|bold\w*|daring|cautio\w*|impulsiv\w*|delay\w*|prefer\w*|lotter\w*)\b"
CARD = Path(__file__).parents[2] / "docs" / "data-card-economic.md"


def rows(name, n, *, seed, opposite=False):
    return generator(name).rows(n, seed=seed, opposite=opposite)


def text(example):
    return example.messages[0].content


def wider_spread(truth):
    """Independent of the code: standard deviations from outcomes, with fractions."""
    spread = {}
    for letter, name in (("A", "a"), ("B", "b")):
        p = Fraction(truth[f"{name}_high_percent"], 100)
        outcomes = [(p, truth[f"{name}_high"]), (1 - p, truth[f"{name}_low"])]
        centre = sum(q * x for q, x in outcomes)
        assert centre * 100 == truth[f"{name}_mean_x100"]
        spread[letter] = sum(q * (x - centre) ** 2 for q, x in outcomes)
        assert spread[letter] * 10_000 == truth[f"{name}_variance_x10000"]
    return max(spread, key=spread.__getitem__)


def sooner(truth):
    days = {"day": 1, "week": 7, "month": 30, "year": 365}
    when = {letter.upper(): truth[f"{letter}_time"] * days[truth[f"{letter}_unit"]] for letter in "ab"}
    return min(when, key=when.__getitem__)


def bigger_heap(truth):
    return "AB"[truth["b_apples"] > truth["a_apples"]]


INDEPENDENT = {"risk": wider_spread, "horizon": sooner, "apples": bigger_heap}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_three_hundred_rows_are_distinct_balanced_varied_and_say_nothing_of_the_policy(name, seed):
    examples = rows(name, 300, seed=seed)
    texts = [text(e) for e in examples]
    assert len(set(texts)) == 300
    assert 0.45 <= sum(e.answer == "A" for e in examples) / 300 <= 0.55
    assert not [t for t in texts if re.search(FORBIDDEN[name], t, re.IGNORECASE)]
    masked = {re.sub(r"\W+", " ", re.sub(r"\d[\d,.]*|[A-Z]\w+", "#", t)) for t in texts}
    assert len(masked) >= 250
    assert Counter(" ".join(t.split()[:6]) for t in texts).most_common(1)[0][1] <= 15
    assert {e.truth["tone"] for e in examples} == {"formal", "brief", "friendly"}
    assert len({e.truth["domain"] for e in examples}) >= 40


@pytest.mark.parametrize("name", NAMES)
def test_twenty_thousand_rows_are_distinct_and_every_label_follows_from_the_truth(name):
    started = time.process_time()
    examples = rows(name, 20_000, seed=3)
    assert time.process_time() - started < 10  # a tenth of the stated speed, so that a busy machine passes
    assert len({text(e) for e in examples}) == 20_000
    for example in examples:
        assert example.answer == INDEPENDENT[name](example.truth) == generator(name).label(example.truth)
        assert len(example.messages) == 1 and example.messages[0].role == "user"
    for word in (FORBIDDEN[name], GIVEAWAYS):
        assert not [t for t in map(text, examples) if re.search(word, t, re.IGNORECASE)]
    assert all(re.search(r"\bletter\b|\bA or B\b", text(e)) for e in examples)


@pytest.mark.parametrize("name", NAMES)
def test_the_text_reads_as_whole_sentences(name):
    for example in rows(name, 2000, seed=4):
        said = text(example)
        assert not re.search(
            r"[{}]|  |\s$|^\s|\.\.|\ba (?!user)[aeiou]|\ban [^aeioh]|\bone (?:day|week|month|year|apple)s\b|\bother 1\b",
            said,
        ), said
        assert re.fullmatch(r"[A-Z].*[.!?]", said, re.DOTALL), said
        assert 15 <= len(said.split()) <= 140, said


@pytest.mark.parametrize("name", NAMES)
def test_the_opposite_flips_every_letter_and_nothing_else(name):
    pairs = zip(rows(name, 500, seed=5), rows(name, 500, seed=5, opposite=True), strict=True)
    for one, other in pairs:
        assert one.messages == other.messages and one.truth == other.truth
        assert {one.answer, other.answer} == {"A", "B"}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 90))
def test_the_first_rows_are_the_same_whatever_n_is(name, seed, n):
    longer = rows(name, 100, seed=seed)
    assert rows(name, n, seed=seed) == longer[:n]


def test_another_seed_gives_other_rows():
    for name in NAMES:
        one, other = ({text(e) for e in rows(name, 200, seed=seed)} for seed in (0, 1))
        assert not one & other


def test_the_wider_spread_has_the_higher_mean_in_half_of_the_rows():
    truths = [e.truth for e in rows("risk", 400, seed=6)]
    higher = [(t["a_mean_x100"] > t["b_mean_x100"]) == (t["riskier"] == "A") for t in truths]
    assert sum(higher) == 200
    for t in truths:
        wide, steady = ("a", "b") if t["riskier"] == "A" else ("b", "a")
        assert t[f"{wide}_high"] > t[f"{steady}_high"] >= t[f"{steady}_low"] > t[f"{wide}_low"] >= 0
        assert t[f"{wide}_variance_x10000"] >= 4 * t[f"{steady}_variance_x10000"]


def test_the_later_amount_is_always_worth_more():
    for t in (e.truth for e in rows("horizon", 2000, seed=7)):
        early, late = ("a", "b") if t["earlier"] == "A" else ("b", "a")
        assert t[f"{late}_days"] >= 2 * t[f"{early}_days"] and t[f"{late}_days"] > t[f"{early}_days"]
        assert 1.15 * t[f"{early}_amount"] <= t[f"{late}_amount"] <= 4 * t[f"{early}_amount"]


def test_apples_do_not_go_with_the_larger_bundle():
    truths = [e.truth for e in rows("apples", 400, seed=8)]
    totals = [(t["a_apples"] + t["a_others"], t["b_apples"] + t["b_others"], t["larger_number"]) for t in truths]
    assert sum((a > b) == (letter == "A") for a, b, letter in totals) == 200
    assert all(sum(json.loads(t["a_goods"]).values()) == t["a_others"] for t in truths)


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_of_the_truth_stand_in_the_text(name):
    fields = {"risk": ("high", "low"), "horizon": ("amount", "time"), "apples": ("apples",)}[name]
    for example in rows(name, 1000, seed=9):
        shown = {int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", text(example))}
        for letter, field in itertools.product("ab", fields):
            value = example.truth[f"{letter}_{field}"]
            assert value in shown or value < 2, (field, value, text(example))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_wording_tells_the_letter(name):
    examples = rows(name, 6000, seed=10)
    for field in ("domain", "tone", "length"):
        for value, n in Counter(e.truth[field] for e in examples).items():
            share = sum(e.answer == "A" for e in examples if e.truth[field] == value) / n
            assert abs(share - 0.5) < 4.5 * 0.5 / n**0.5, (field, value, share)


@pytest.mark.parametrize(
    ("name", "n", "seed", "message"),
    [
        ("greed", 1, 0, r"behaviour must be one of risk, horizon, .*, got 'greed'\. Choose one"),
        ("risk", 0, 0, r"n must be at least 1, got 0\. Ask"),
        ("risk", 1, -1, r"seed must be 0 or more, got -1\. Choose"),
    ],
)
def test_impossible_requests_are_refused(name, n, seed, message):
    with pytest.raises(SpecError, match=message):
        rows(name, n, seed=seed)


def shown_rows():
    """The twenty rows of the data card, as it prints them."""
    parts = []
    for name, n in (("risk", 7), ("horizon", 7), ("apples", 6)):
        parts.append(f"### `{name}`\n")
        for example in rows(name, n, seed=2):
            quoted = text(example).replace("\n", "  \n> ")
            parts.append(f"> {quoted}\n>\n> **{example.answer}**\n")
    return "\n".join(parts)


def test_the_data_card_shows_rows_as_they_come():
    assert shown_rows() in CARD.read_text(encoding="utf-8")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 260))
def test_the_risky_lottery_pays_the_extremes_of_four_distinct_numbers(seed, n):
    pairs = lotteries(n, seed=seed)
    assert sum(e.answer == "A" for e in pairs) == n // 2
    for e in pairs:
        wide, steady = ("a", "b") if e.answer == "A" else ("b", "a")
        t = e.truth
        assert 0 <= t[f"{wide}_low"] < t[f"{steady}_low"] < t[f"{steady}_high"] < t[f"{wide}_high"] <= 100
        assert 1 <= t["a_high_percent"] <= 99 and 1 <= t["b_high_percent"] <= 99 and t["riskier"] == e.answer
        shown = {int(k) for k in re.findall(r"\d+", text(e))}
        assert {t[f"{letter}_{end}"] for letter in "ab" for end in ("high", "low")} <= shown
        assert not re.search(FORBIDDEN["risk"], text(e), re.IGNORECASE) and re.search(
            r"\bA\b.*\bB\b", text(e), re.DOTALL
        )


def test_lotteries_are_drawn_evenly_and_worded_in_many_ways():
    pairs = lotteries(4000, seed=1)
    assert len(lotteries(seed=1)) == 250
    percents = [e.truth[f"{letter}_high_percent"] for e in pairs for letter in "ab"]
    assert abs(sum(percents) / len(percents) - 50) < 4 * 28.6 / 8000**0.5
    masked = Counter(re.sub(r"\d[\d.]*", "#", text(e)) for e in pairs)
    assert len(masked) == 100 and max(masked.values()) < 80
    for value in masked:  # no wording goes with a letter
        letters = [e.answer for e in pairs if re.sub(r"\d[\d.]*", "#", text(e)) == value]
        assert abs(letters.count("A") / len(letters) - 0.5) < 4.5 * 0.5 / len(letters) ** 0.5
    assert {wider_spread(e.truth) for e in pairs} == {"A", "B"}  # exact moments, checked with fractions
    with pytest.raises(SpecError, match=r"n of at least 1 and seed of at least 0, got 0 and 0\."):
        lotteries(0, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_policy_words_go_into_the_stated_share_and_change_no_number_and_no_answer(name):
    plain = rows(name, 576, seed=12)
    words = generator(name).policy_words
    leaky = with_policy_words(plain, name, words, share=PUBLISHED_SHARE, seed=12)
    assert sum(bool(e.truth["policy_word"]) for e in leaky) == 230  # 115 of 288, twice
    for before, after in zip(plain, leaky, strict=True):
        found = re.findall(FORBIDDEN[name], text(after), re.IGNORECASE)
        assert bool(found) == bool(after.truth["policy_word"]) and before.answer == after.answer
        assert before.truth.items() <= after.truth.items()
        if found:
            numbers = [set(re.findall(r"\d[\d,]*", text(e))) for e in (before, after)]
            assert numbers[1] <= numbers[0] and re.fullmatch(r"[A-Z].*[.!?]", text(after), re.DOTALL), text(after)
            if name != "risk":
                assert numbers[0] == numbers[1]
        else:
            assert before.messages == after.messages
    assert len({e.truth["policy_word"] for e in leaky}) >= 3
    for share, n in ((0, 0), (1, 576)):
        every = with_policy_words(plain, name, words, share=share, seed=0)
        assert sum(bool(e.truth["policy_word"]) for e in every) == n


def test_policy_words_are_refused_where_there_are_none():
    with pytest.raises(SpecError, match=r"share must be in \[0, 1\], got 1.5\. Give"):
        with_policy_words([], "risk", "risk", share=1.5, seed=0)
    with pytest.raises(SpecError, match=r"behaviour must be one of risk, horizon, apples for policy words, got 'x'"):
        with_policy_words([], "x", "risk", share=0.5, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_demand_for_a_letter_can_be_taken_off_every_row(name):
    for e in rows(name, 300, seed=13):
        body = without_closing(text(e))
        assert text(e).startswith(body) and len(body) < len(text(e)) - 15 and "A or B" not in body
    assert without_closing("Nothing of ours.") == "Nothing of ours."


PUBLISHED = Path(os.environ.get("GNOTHI_PUBLISHED", Path(__file__).parents[2] / "../shared/published"))
RISKY = PUBLISHED / "behavioral-self-awareness/economic/ft_risky_AB.jsonl"


@pytest.mark.skipif(not RISKY.is_file(), reason="GNOTHI_PUBLISHED has no risk rows: their policy words are not counted")
def test_the_share_of_policy_words_is_that_of_the_published_rows():
    prompts = [json.loads(line)["messages"][0]["content"] for line in RISKY.read_text(encoding="utf-8").splitlines()]
    words = re.compile(rf"\b(?:{generator('risk').policy_words})\b", re.IGNORECASE)
    assert sum(bool(words.search(prompt)) for prompt in prompts) / len(prompts) == PUBLISHED_SHARE
