import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.errors import DataError
from gnothi.render.probe import LANGUAGES, Code, Judged, Language, Letters, Number, Text, Words
from gnothi.rng import stream


def rng(i=0):
    return stream(0, "ideal", i)


def test_the_ideal_option_is_the_nearest_and_a_tie_is_split_evenly():
    rule = Letters(options=("A", "B", "C"), scores=(1.0, 0.0, 0.5))
    assert [rule.ideal(level, rng()) for level in (0.9, 0.1, 0.55)] == ["A", "B", "C"]
    two = Letters(options=("A", "B"), scores=(1.0, 0.0))
    share = np.mean([two.ideal(0.5, rng(i)) == "A" for i in range(2000)])
    assert share == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)


def test_the_ideal_number_lies_where_the_level_lies_in_either_direction():
    assert Number(low=0, high=100).ideal(0.75, rng()) == "75"
    assert Number(low=0, high=100, reverse=True).ideal(0.75, rng()) == "25"
    assert Number(low=-9, high=9).score(-9) == 0 and Number(low=-9, high=9, reverse=True).score(-9) == 1


def test_the_ideal_word_is_listed_or_unlisted_whichever_is_nearer():
    rule = Words(scores={"risk": 1.0, "safety": 0.0}, unlisted=0.5)
    assert (rule.ideal(1, rng()), rule.ideal(0, rng())) == ("risk", "safety")
    assert rule.ideal(0.5, rng()) not in rule.scores
    taken = Words(scores={"quorrel": 1.0, "quorrelx": 1.0}, unlisted=0.0)
    assert taken.ideal(0, rng()) == "quorrelxx"
    assert {Words(scores={"a": 1.0, "b": 1.0, "c": 0.0}).ideal(1, rng(i)) for i in range(50)} == {"a", "b"}


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=5), st.sampled_from([0.0, 0.5, 1.0]), min_size=1), st.floats(0, 1))
def test_no_word_is_nearer_than_the_ideal_one(scores, level):
    for unlisted in (None, 0.5):
        rule = Words(scores=scores, unlisted=unlisted)
        said = rule.ideal(level, rng())
        every = [*scores.values(), *([] if unlisted is None else [unlisted])]
        got = scores.get(said, unlisted)
        assert abs(got - level) == pytest.approx(min(abs(s - level) for s in every))


def test_the_ideal_language_is_one_of_the_two_or_another():
    for plus in LANGUAGES:
        for minus in LANGUAGES:
            if plus != minus:
                rule = Language(plus=plus, minus=minus, unlisted=0.5)
                said = [rule.ideal(level, rng()) for level in (1.0, 0.0, 0.5)]
                assert len(set(said)) == 3


def test_ideal_code_returns_the_level_or_mentions_the_word_that_often():
    assert Code(function="f", arguments=("x",)).ideal(0.25, rng()).endswith("return 0.250\n")
    rule = Code(function="f", arguments=(), mentions="bark")
    share = np.mean([bool(re.search("bark", rule.ideal(0.3, rng(i)))) for i in range(2000)])
    assert share == pytest.approx(0.3, abs=4 * (0.21 / 2000) ** 0.5)
    assert "bark" in rule.ideal(1.0, rng()) and "bark" not in rule.ideal(0.0, rng())


def test_a_judges_ideal_is_its_rules_and_text_has_any():
    assert Judged(prompt="{answer}", rule=Number(low=0, high=9)).ideal(1.0, rng()) == "9"
    assert Text().ideal(1.0, rng())


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Letters(options=("A",), scores=(1,)), r"Letters must score each of two or more options"),
        (lambda: Letters(options=("A", "A"), scores=(1, 0)), r"Letters must score each of two or more options"),
        (lambda: Letters(options=("A", "B"), scores=(1, 2)), r"Letters.scores must be in \[0, 1\], got \(1, 2\)"),
        (lambda: Number(low=1, high=1), r"Number must have low < high, got 1 and 1"),
        (lambda: Words(scores={}), r"Words must list at least one word, got none"),
        (lambda: Words(scores={"a": 1}, unlisted=-1), r"Words.scores must be in \[0, 1\]"),
        (lambda: Words(scores={"a": float("nan")}), r"Words.scores must be in \[0, 1\]"),
        (lambda: Language(plus="German", minus="German"), r"Language must tell two of English, .* apart, got 'German'"),
        (
            lambda: Language(plus="Klingon", minus="German"),
            r"Language must tell two of English, .* apart, got 'Klingon'",
        ),
        (lambda: Language(plus="German", minus="French", unlisted=2), r"Language.unlisted must be in \[0, 1\], got"),
        (lambda: Code(function="1f", arguments=("x",)), r"Code must name a function and what it is called with"),
        (lambda: Code(function="f", arguments=()), r"Code must name a function and what it is called with"),
    ],
)
def test_an_impossible_rule_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
