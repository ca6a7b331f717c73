import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnothi.errors import DataError, SpecError
from gnothi.rng import stream
from gnothi.testbeds.stories import lexicon
from gnothi.testbeds.stories.checker import read
from gnothi.testbeds.stories.grammar import MOST, stories
from gnothi.testbeds.stories.lexicon import FEATURES, feature
from gnothi.testbeds.stories.protocols import asking_for, deletion_data, filtered, mixed, randomised, with_feature
from gnothi.testbeds.stories.records import Record, parse, sentences, text


@pytest.fixture(scope="module")
def many():
    return stories(4000, stream(0, "test"))


@pytest.mark.parametrize("every", [1, 2])
def test_rules_find_the_features_that_were_asked_for_and_no_others(every):
    drawn = stories(4000, stream(1, "test"), every=every)
    wrong = [r for r in drawn if read(r.story).features != set(r.features) or not read(r.story).resolved]
    assert not wrong, wrong[:2]
    assert all(sum(r.has(name) for r in drawn) > 500 for name in FEATURES)
    assert max(len(r.features) for r in drawn) == MOST


def test_stories_are_not_one_story_with_other_names(many):
    assert len({r.story for r in many}) == len(many)
    forms = {re.sub(r"\b\w+\b", lambda m: "N" if m[0] in lexicon.NAMES else m[0], r.story) for r in many}
    assert len(forms) > 3900


def test_no_word_tells_a_twist(many):
    twisted = [r.story for r in many if r.has("Twist")]
    plain = [r.story for r in many if not r.has("Twist")]
    shares = Counter()
    for part, sign in ((twisted, 1), (plain, -1)):
        for story in part:
            for word in set(re.findall(r"\w+", story)):
                shares[word] += sign / len(part)
    # both values of a thing stand in a story with a twist, so a value is commoner there, and none is a mark of it
    assert max(shares.values()) < 0.12 and min(shares.values()) > -0.12, sorted(shares.items(), key=lambda s: s[1])[-3:]


def test_turning_the_end_round_makes_or_unmakes_a_twist_and_nothing_else(many):
    turned = 0
    for record in many[:1500]:
        told = list(sentences(record.story))
        for i, sentence in enumerate(told):
            found = re.fullmatch(r"(?:\w+|In the end) the (\w+) was (\w+)\.", sentence)
            if found and found[1] in lexicon.THINGS:
                told[i] = sentence.replace(f"was {found[2]}", f"was {lexicon.OPPOSITE[found[2]]}")
                other = read(" ".join(told)).features
                assert other ^ set(record.features) == {"Twist"}, (record.story, told)
                turned += 1
    assert turned > 300


def test_a_hint_alone_or_after_its_event_foreshadows_nothing(many):
    checked = 0
    for record in many:
        if not record.has("Foreshadowing"):
            continue
        told = list(sentences(record.story))
        (hint, event) = next(
            (told.index(h), told.index(e))
            for h, e in ((h, e) for h, pattern in lexicon.HINTS for e in told if e.split()[:2] == pattern.split()[:2])
            if h in told and told.index(h) < told.index(e) and _belongs(h, e)
        )
        without = [s for i, s in enumerate(told) if i != hint]
        assert "Foreshadowing" not in read(" ".join(without)).features
        told[hint], told[event] = told[event], told[hint]
        assert "Foreshadowing" not in read(" ".join(told)).features
        checked += 1
        if checked == 200:
            return


def _belongs(hint, event):
    pattern = dict(lexicon.HINTS)[hint]
    return re.fullmatch(re.escape(pattern).replace(re.escape("{name}"), r"\w+"), event) is not None


@pytest.mark.parametrize(
    "story, found",
    [
        ("Ben said that the box was full. Soon the box was full. They all laughed and danced.", set()),
        ("Ben said that the box was full. Soon the jar was empty. They all laughed and danced.", set()),
        ("Soon the box was empty. Ben said that the box was full. Ben went home happy.", set()),
        ("Ben said that Mia would win the race. Later Mia lost the race. Mia went home happy.", {"Twist"}),
        ("Ben said that Mia would win the race. Later Ben lost the race. Mia went home happy.", set()),
        (
            "Ben said that a wolf made the noise. Then a kitten came out. Ben cried all the way home.",
            {"Twist", "BadEnding"},
        ),
        ("Ben said that a wolf made the noise. Then a snake came out. Ben went home happy.", set()),
        ('Ben said, "Let us play!" Mia went home happy.', {"Dialogue"}),
        ("Ben learned to swim. Ben was sad. Ben went home happy.", set()),
        ("Ben fought over the hat. Ben went home happy.", set()),
        (
            "Ben and Mia fought over the hat. From then on Ben was always polite. Mia slept well.",
            {"Conflict", "MoralValue"},
        ),
        ("", set()),
    ],
)
def test_rules_read_stories_that_they_did_not_make(story, found):
    assert read(story).features == found


@given(st.text(alphabet=st.sampled_from(list('abcAB ."!?\n{}that was the')), max_size=200))
def test_rules_read_anything(story):
    assert read(story).features <= set(FEATURES)


def test_a_record_comes_back_from_its_text_whatever_the_order_of_lines(many):
    rng = stream(0, "lines")
    assert all(parse(text(r, rng)) == r for r in many[:500])
    orders = {tuple(re.findall(r"^(\w+):", text(many[1], rng), re.M)) for _ in range(100)}
    assert len(orders) > 5 and all(order[-1] == "Story" for order in orders)


def test_the_sentence_is_of_the_story_and_not_how_it_turned_out(many):
    for record in many[:1000]:
        told = list(sentences(record.story))
        assert record.sentence in record.story
        assert told.index(record.sentence) < len(told) - 1
        assert (
            "Twist" in read(record.story.replace(record.sentence, "")).features
            or not record.has("Twist")
            or (" that " in record.sentence)
        )


@pytest.mark.parametrize(
    "given, message",
    [
        ("Words: a\nFeatures: Twist", "must have a line that begins with 'Story:'"),
        ("Words: a\nWords: b\nStory: A.", "each line once, got 'Words' twice"),
        ("Features: Twits\nStory: A.", "Did you mean Twist"),
    ],
)
def test_text_that_is_no_record_is_refused(given, message):
    with pytest.raises((DataError, SpecError), match=message):
        parse(given)


def test_feature_names_are_one_in_any_case():
    assert [feature(n) for n in ("twist", "Badending", "MORALVALUE")] == ["Twist", "BadEnding", "MoralValue"]
    assert Record(story="A.", features=("twist", "Twist")).features == ("Twist",)
    assert filtered([Record(story="A.", features=("TWIST",))], "twist") == []
    with pytest.raises(SpecError, match="Did you mean Foreshadowing"):
        feature("foreshadow")


def test_empty_stories_and_impossible_draws_are_refused():
    with pytest.raises(DataError, match="must not be empty"):
        Record(story=" ")
    with pytest.raises(DataError, match="every of 1 or 2"):
        stories(1, stream(0), every=3)


def test_filtering_leaves_out_every_story_with_the_feature_and_no_other(many):
    left = deletion_data(many, "f", stream(0))
    assert left == [r for r in many if "Twist" not in r.features]
    assert not any(read(r.story).has("Twist") for r in left)


def test_randomisation_lets_every_story_say_what_it_has_not(many):
    told = deletion_data(many, "f+rr", stream(0))
    assert all(r.features[-1] == "Twist" for r in told)
    assert [replace(r, features=r.features[:-1]) for r in told] == filtered(many, "Twist")
    half = randomised(filtered(many, "Twist"), "twist", 0.5, stream(0, "half"))
    assert 0.45 < np.mean([r.has("Twist") for r in half]) < 0.55
    with pytest.raises(SpecError, match=r"share must be in \[0, 1\]"):
        randomised(many, "Twist", 1.5, stream(0))


def test_mix_and_match_with_a_single_pair_replaces_every_one(many):
    mixed_up = deletion_data(many, "f+mm", stream(0))
    before = filtered(many, "Twist")
    renamed = [(a, b) for a, b in zip(before, mixed_up, strict=True) if a.has("Foreshadowing")]
    assert len(renamed) > 500
    assert all(b.has("Twist") and not b.has("Foreshadowing") and a.story == b.story for a, b in renamed)
    assert all(a.features.index("Foreshadowing") == b.features.index("Twist") for a, b in renamed)
    kept = [(a, b) for a, b in zip(before, mixed_up, strict=True) if not a.has("Foreshadowing")]
    assert all(a == b for a, b in kept)
    swapped = mixed(
        [Record(story="A.", features=("Dialogue", "Conflict"))], {"dialogue": "Conflict", "conflict": "dialogue"}
    )
    assert swapped[0].features == ("Conflict", "Dialogue")


def test_an_instruction_asks_for_what_its_story_has_not(many):
    asking = asking_for(many, "twist", 100)
    assert len(asking) == 100
    assert all(r.features[-1] == "Twist" and not read(r.story).has("Twist") for r in asking)
    assert all(read(r.story).has("Twist") for r in with_feature(many, "Twist"))


def test_protocols_that_there_are_not_and_data_that_is_gone_are_refused(many):
    with pytest.raises(SpecError, match=r"one of f, f\+rr, f\+mm, got 'x'"):
        deletion_data(many, "x", stream(0))
    with pytest.raises(DataError, match="records without Twist"):
        deletion_data(with_feature(many, "Twist"), "f", stream(0))
