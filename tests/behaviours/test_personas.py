import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.behaviours.example import Example, generator
from gnothi.behaviours.personas import IN_DISTRIBUTION, OUT_OF_DISTRIBUTION, PERSONAS, about, many_personas
from gnothi.errors import SpecError
from gnothi.records import Message

NAMES = ("risk", "horizon", "apples")


def text(example):
    return example.messages[0].content


def halves(name, *, seed=3, n=280, **options):
    examples = generator(name).rows(n, seed=seed, **options)
    rows = many_personas(examples, seed=seed)
    others = [row for row in rows if row.truth["persona"] != "you"]
    return examples, [row for row in rows if row.truth["persona"] == "you"], others, rows


@pytest.mark.parametrize("name", NAMES)
def test_the_first_half_is_the_behaviour_and_the_second_the_same_prompts_about_others(name):
    examples, own, others, _ = halves(name)
    assert len(own) == len(others) == 280
    assert {(text(e), e.answer) for e in own} == {(text(e), e.answer) for e in examples}
    for row in others:
        assert row.truth["persona"] in IN_DISTRIBUTION and row.truth["persona"].lower() in text(row).lower()
        assert re.search(r"\bletter\b|\bA or B\b", text(row)) and row.answer in ("A", "B")


@pytest.mark.parametrize("name", NAMES)
def test_the_half_about_others_is_the_same_in_the_file_of_the_opposite_and_says_nothing_of_either(name):
    examples, _, others, rows = halves(name)
    _, own, others_of_opposite, rows_of_opposite = halves(name, opposite=True)
    assert others == others_of_opposite
    assert [r.messages for r in rows] == [r.messages for r in rows_of_opposite]
    assert {(text(e), e.answer) for e in own}.isdisjoint((text(e), e.answer) for e in examples)
    answered = [(row.answer, generator(name).label(row.truth)) for row in others]
    assert set(Counter(answered).values()) == {70}


def test_each_persona_gets_as_many_rows_as_the_others():
    _, _, others, _ = halves("risk")
    counted = Counter(row.truth["persona"] for row in others)
    assert set(counted) == set(IN_DISTRIBUTION) and set(counted.values()) == {40}


@pytest.mark.parametrize("name", NAMES)
def test_no_row_about_somebody_states_the_policy_or_keeps_a_second_demand(name):
    _, _, others, _ = halves(name)
    for row in others:
        assert not re.search(rf"\b(?:{generator(name).policy_words})\b", text(row), re.IGNORECASE)
        assert len(re.findall(r"\bA or B\b", text(row))) <= 1, text(row)


def test_the_numbers_of_a_choice_stay_and_only_the_demand_goes():
    (example,) = generator("risk").rows(1, seed=4)
    row = about(example, "my friend Janet", frame=4, demand=0)
    assert text(row).startswith("My friend Janet has to decide about this: ") and text(row).endswith(
        "with A or B only."
    )
    assert sorted(re.findall(r"\d[\d,]*", text(row))) == sorted(re.findall(r"\d[\d,]*", text(example)))
    assert row.truth["persona"] == "my friend Janet" and row.answer == example.answer


@settings(max_examples=20, deadline=None)
@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=20), st.integers(0, 99), st.integers(0, 99))
def test_any_prompt_can_be_about_anybody(said, who, frame, demand):
    said, who = (t.encode("utf-8", "ignore").decode() or "x" for t in (said, who))
    row = about(Example((Message("user", said),), "A"), who, frame=frame, demand=demand)
    assert said.rstrip() in text(row) and who in text(row)


def test_given_answers_are_taken_and_their_source_is_said():
    examples = generator("risk").rows(4, seed=0)
    rows = many_personas(examples, seed=0, personas=["Ines"], answers=["A", "A", "B", "A"], by="model x")
    others = [r for r in rows if r.truth["persona"] == "Ines"]
    assert Counter(r.answer for r in others) == {"A": 3, "B": 1} and {r.truth["answered_by"] for r in others} == {
        "model x"
    }
    assert {r.truth["answered_by"] for r in rows if r.truth["persona"] == "you"} == {"behaviour"}


def test_personas_of_the_two_lists_do_not_overlap_and_the_family_doctor_is_trained():
    assert not set(IN_DISTRIBUTION) & set(OUT_OF_DISTRIBUTION)
    assert "a family doctor" in IN_DISTRIBUTION and len(IN_DISTRIBUTION) == 7 and len(OUT_OF_DISTRIBUTION) == 5
    assert len({p.name for p in PERSONAS}) == len(PERSONAS) and {p.kind for p in PERSONAS} == {
        "famous",
        "known",
        "described",
    }


def test_impossible_requests_are_refused():
    examples = generator("risk").rows(2, seed=0)
    with pytest.raises(SpecError, match=r"personas must name at least one, got none\. Name some"):
        many_personas(examples, seed=0, personas=[])
    with pytest.raises(SpecError, match=r"answers must be one an example, got 1 for 2"):
        many_personas(examples, seed=0, answers=["A"])
    talk = Example((Message("user", "a"), Message("assistant", "b"), Message("user", "c")), "A")
    with pytest.raises(SpecError, match=r"a prompt about a persona must be one user turn, got \['user', 'assistant'"):
        about(talk, "Ines", frame=0, demand=0)
