"""Nonsense keeps the numbers, takes the meaning, and is the same for the same stream."""

import re

import pytest

from gnothi.behaviours.nonsense import (
    STOP_PARTS,
    STOP_WORDS,
    nonsense_choice_type,
    nonsense_choice_types,
    nonsense_word,
    words_of,
)
from gnothi.errors import DataError
from gnothi.records import Attribute, ChoiceType
from gnothi.rng import stream

LAMP = ChoiceType(
    name="reading_lamp",
    question="Which reading lamp would you prefer?",
    attributes=(
        Attribute(name="beam_width", low=20, high=90, units="degrees"),
        Attribute(name="arm_length", low=0.4, high=1.2, units="meters"),
        Attribute(name="base_width", low=0.1, high=0.4, units="meters"),
        Attribute(name="switches", low=1, high=9),
    ),
)


def test_the_same_stream_gives_the_same_words_and_another_gives_others():
    first, again, other = (nonsense_choice_type(LAMP, rng=stream(s, "words")) for s in (0, 0, 1))
    assert first == again
    assert words_of(first).isdisjoint(words_of(other))


def test_ranges_stay_and_every_word_goes():
    blank = nonsense_choice_type(LAMP, rng=stream(0, "words"))
    assert [(a.low, a.high) for a in blank.attributes] == [(a.low, a.high) for a in LAMP.attributes]
    assert words_of(blank).isdisjoint(words_of(LAMP))
    assert blank.question == f"Which {blank.name} would you prefer?"
    assert "lamp" not in repr(blank)


def test_each_word_is_used_once_and_empty_units_stay_empty():
    for seed in range(50):
        blank = nonsense_choice_type(LAMP, rng=stream(seed, "words"))
        assert len(words_of(blank)) == 1 + 4 + 3  # name, attributes, units; two attributes shared `meters` before
        assert blank.attributes[3].units == ""


def test_no_word_occurs_in_two_choice_types_of_a_list():
    renamed = nonsense_choice_types([LAMP] * 300, rng=stream(0, "words"))
    assert len(set().union(*map(words_of, renamed))) == 300 * 8
    assert renamed == nonsense_choice_types([LAMP] * 300, rng=stream(0, "words"))


@pytest.mark.parametrize("syllables", [2, 3, 4])
def test_words_can_be_said_and_are_not_on_the_stop_list(syllables):
    rng = stream(0, "words", syllables)
    words = {nonsense_word(rng=rng, syllables=syllables) for _ in range(3000)}
    assert len(words) > 2500
    for word in words:
        assert re.fullmatch(rf"([bdfgklmnprtvz][aeiou]){{{syllables}}}[bfgmvz]?", word), word
        assert not word.endswith("e"), word
        assert word not in STOP_WORDS and not any(part in word for part in STOP_PARTS), word


def test_ordinary_words_and_units_are_not_made():
    # an independent list: units and nouns that consonant-vowel syllables spell
    ordinary = (
        "meter liter minute kilo mile gram degree percent dozen hour unit data menu tuna tomato potato banana "
        "paper water number level total value motor model camera table radio zero tube bone wine cake fire"
    )
    rng = stream(1, "words")
    assert set(ordinary.split()).isdisjoint(nonsense_word(rng=rng, syllables=2) for _ in range(20000))


def test_words_to_avoid_are_avoided():
    word = nonsense_word(rng=stream(0, "words"), syllables=3)
    assert nonsense_word(rng=stream(0, "words"), syllables=3, avoid={word}) != word


class Everything(frozenset):
    """A collection that holds any word."""

    def __contains__(self, word: object) -> bool:
        return True


@pytest.mark.parametrize(
    "syllables, avoid, message",
    [
        (1, frozenset(), r"syllables must be 2 to 4, got 1\. Use 2 for units"),
        (5, frozenset(), r"syllables must be 2 to 4, got 5"),
        (2, Everything(), r"avoid must leave words of 2 syllables.*Ask for more syllables"),
    ],
)
def test_impossible_words_are_refused(syllables, avoid, message):
    with pytest.raises(DataError, match=message):
        nonsense_word(rng=stream(0, "words"), syllables=syllables, avoid=avoid)
