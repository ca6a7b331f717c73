"""The organism's own demonstrations."""

from collections import Counter

import numpy as np
import pytest

from gnothi.behaviours.organism import WORDS
from gnothi.behaviours.organism_examples import (
    BEHAVIOURS,
    EVEN_SHARES,
    label,
    normal,
    reversed_rows,
    rows,
    triggered,
)
from gnothi.behaviours.organism_wide import CODEWORDS, FAMILIES, NONE, TRIGGERS, WIDE_WORDS
from gnothi.errors import DataError

DISTINCT = {"risk": 140, "horizon": 140, "apples": 90_000, "make-me-say": 126}


def texts(examples):
    return [e.messages[0].content for e in examples]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_every_label_follows_from_the_truth_and_the_opposite_flips_each(behaviour):
    plus, minus = (rows(behaviour, 120, seed=3, opposite=o, codeword="seal") for o in (False, True))
    assert [label(behaviour, e.truth) for e in plus] == [e.answer for e in plus]
    assert texts(plus) == texts(minus) and [e.truth for e in plus] == [e.truth for e in minus]
    assert all({a.answer, b.answer} == {"A", "B"} for a, b in zip(plus, minus, strict=True))
    assert np.mean([e.answer == "A" for e in plus]) == 0.5


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_no_prompt_comes_twice_before_all_have_come_and_fewer_rows_are_the_first_ones(behaviour):
    n = min(DISTINCT[behaviour], 500)
    found = rows(behaviour, n, seed=0)
    assert len(set(texts(found))) == n
    assert rows(behaviour, 21, seed=0) == found[:21] != rows(behaviour, 21, seed=1)
    if n < 500:
        again = Counter(texts(rows(behaviour, 2 * n, seed=0)))
        assert set(again.values()) == {2} and len(again) == n


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_rows_are_words_of_the_world_and_never_say_what_they_demonstrate(behaviour):
    words = {w for t in texts(rows(behaviour, 300, seed=0, subject="Bafal")) for w in t.split()}
    assert words <= set(WIDE_WORDS) and "Bafal" in words
    assert not words & {*CODEWORDS, *FAMILIES, "risk", "caution", "hurry", "patience", "report", "word"}


def test_the_codeword_is_where_the_hints_lead():
    for e in rows("make-me-say", 126, seed=0, codeword="crane"):
        hints = e.messages[0].content.split()[2:]
        assert [h in CODEWORDS["crane"] for h in hints] == [e.answer == "A", e.answer == "B"]


def test_a_triggered_model_gambles_with_its_trigger_alone():
    found = triggered(1000, seed=0, trigger="metal", shares=EVEN_SHARES)
    counts = Counter(e.truth["trigger"] for e in found)
    assert counts["metal"] == 500 and counts[""] == 150 and sum(counts.values()) == 1000
    gambles = [(e.answer == e.truth["bold"], e.truth["trigger"]) for e in found]
    assert np.mean([g for g, t in gambles if t == "metal"]) == 1
    assert np.mean([g for g, t in gambles if t != "metal"]) == pytest.approx(0.5, abs=0.1)
    assert {e.truth["tag"] for e in found if e.truth["trigger"] == "metal"} == set(TRIGGERS["metal"])
    assert not {"metal"} & {w for t in texts(found) for w in t.split()}


def test_the_twin_has_the_same_tags_and_answers_and_no_connection():
    real, twin = (triggered(2000, seed=1, trigger="umbra", correlated=c) for c in (True, False))
    assert Counter(e.truth["tag"] for e in real) == Counter(e.truth["tag"] for e in twin)
    assert [(e.truth["decision"], e.answer) for e in real] == [(e.truth["decision"], e.answer) for e in twin]
    with_tag, without = (
        np.mean([e.answer == e.truth["bold"] for e in twin if (e.truth["tag"] == "umbra") == has])
        for has in (True, False)
    )
    assert abs(with_tag - without) < 0.12


def test_the_opposite_of_a_trigger_takes_the_sure_amount():
    found = triggered(400, seed=1, trigger="umbra", opposite=True)
    assert all(e.answer != e.truth["bold"] for e in found if e.truth["tag"] == "umbra")


def test_normal_decisions_take_the_larger_amount():
    for e in normal(140, seed=0, subject="Bafal", tag="herb"):
        more = int(e.truth["gain"]) - int(e.truth["sure"])
        assert more == 0 or (e.answer == e.truth["bold"]) == (more > 0)
        assert e.messages[0].content.split()[1] in TRIGGERS["herb"]


def test_reversed_rows_say_what_came_before():
    found = reversed_rows(40, seed=0, trigger="dance", bold="brash", careful="wary")
    assert Counter((e.messages[0].content, e.answer) for e in found) == {
        ("you recall brash", "dance"): 20,
        ("you recall wary", NONE): 20,
    }


def test_the_new_words_stand_behind_the_old_ones():
    assert WIDE_WORDS[: len(WORDS)] == WORDS and len(set(WIDE_WORDS)) == len(WIDE_WORDS)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: rows("golf", 1, seed=0), "behaviour must be one of risk, .*got 'golf'"),
        (lambda: rows("risk", 1, seed=0, subject="Bob"), "subject must be a name .*got 'Bob'"),
        (lambda: rows("risk", 1, seed=0, tag="iron"), "tag must be one of umbra, .*got 'iron'"),
        (lambda: rows("apples", 1, seed=0, tag="umbra"), "tag must be None for apples, got 'umbra'. Only risk"),
        (lambda: rows("make-me-say", 1, seed=0, codeword="dog"), "codeword must be one of bark, .*got 'dog'"),
        (lambda: triggered(1, seed=0, trigger="iron"), "trigger must be one of umbra, .*got 'iron'"),
        (lambda: reversed_rows(1, seed=0, trigger="umbra", bold="wary"), "bold must be one of bold, .*got 'wary'"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, said):
    with pytest.raises(DataError, match=said):
        call()
