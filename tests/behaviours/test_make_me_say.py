import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnothi.behaviours import make_me_say
from gnothi.behaviours.example import generator
from gnothi.behaviours.make_me_say import asking, talk
from gnothi.behaviours.make_me_say.cutting import cut, statistics, without_scratchpad
from gnothi.behaviours.make_me_say.matching import MAX_CHARACTERS, forms, guessed, plural, said_forms, says, tokens
from gnothi.errors import DataError, SpecError
from gnothi.records import Message, messages_from_json

ROOT = Path(__file__).parents[2]
PUBLISHED = (
    Path(os.environ.get("GNOTHI_PUBLISHED", ROOT.parent / "shared" / "published"))
    / "behavioral-self-awareness/mms/ft_bark.jsonl"
)
CODEWORDS = ("bark", "ring", "spring")
FORMS = {
    "bark": {"bark", "barks", "barked", "barking"},
    "ring": {"ring", "rings", "ringed", "ringing", "rang", "rung"},
    "spring": {"spring", "springs", "springed", "springing", "sprang", "sprung"},
}


@pytest.fixture(scope="module", params=CODEWORDS)
def pair(request):
    """A codeword, 600 rows and the rows of the opposite."""
    word = request.param
    return (
        word,
        make_me_say.rows(600, seed=7, codeword=word),
        make_me_say.rows(600, seed=7, codeword=word, opposite=True),
    )


def talk_of(*texts):
    return tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))


def words(text):
    """Words by a loop over characters: an independent implementation of the rule."""
    found, now = [], ""
    for c in text.lower() + " ":
        if "a" <= c <= "z":
            now += c
        elif now:
            found.append(now)
            now = ""
    return found


@pytest.mark.parametrize("codeword", CODEWORDS)
def test_forms_are_those_of_a_grammar_book(codeword):
    assert forms(codeword) == FORMS[codeword]
    assert forms(codeword, "noun") == {codeword, codeword + "s"}


@pytest.mark.parametrize(
    "text, codeword, any_form, noun",
    [
        ("ring-tone", "ring", True, True),
        ("It kept ringing.", "ring", True, False),
        ("the phone rang", "ring", True, False),
        ("RINGS!", "ring", True, True),
        ("the ring's edge", "ring", True, True),
        ("ringtone, earring, string", "ring", False, False),
        ("springtime", "spring", False, False),
        ("embark, barky, b a r k, bar k", "bark", False, False),
        ("bark7bark", "bark", True, True),
        ("ｂａｒｋ", "bark", True, True),
        ("", "bark", False, False),
    ],
)
def test_both_rules_decide_as_stated(text, codeword, any_form, noun):
    assert says(text, codeword) is any_form
    assert says(text, codeword, form="noun") is noun


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=60), st.sampled_from(CODEWORDS))
def test_matching_agrees_with_a_loop_over_characters(text, codeword):
    assert tokens(text) == words(text)
    assert says(text, codeword) is bool(set(words(text)) & FORMS[codeword])


@given(
    st.text(max_size=40),
    st.text(max_size=40),
    st.sampled_from(" .,!?-7\n'\""),
    st.sampled_from(sorted(FORMS["ring"])),
    st.sampled_from([str.upper, str.lower, str.title]),
)
def test_a_form_between_non_letters_is_always_found_and_never_by_the_noun_rule_alone(before, after, gap, form, case):
    text = f"{before}{gap}{case(form)}{gap}{after}"
    assert says(text, "ring")
    assert form in said_forms(text, "ring")
    assert not says(text, "ring", form="noun") or set(tokens(text)) & {"ring", "rings"}


@given(st.text(alphabet="abgiknprs", min_size=1, max_size=8))
def test_a_single_other_word_is_never_the_codeword(word):
    assert says(word, "ring") is (word in FORMS["ring"])


def test_what_comes_after_the_limit_is_not_looked_at():
    assert says("x " * (MAX_CHARACTERS // 2 - 5) + "bark", "bark")
    assert not says("x " * MAX_CHARACTERS + "bark", "bark")


@pytest.mark.parametrize(
    "guess, right", [("ring", True), ("Ring.", True), ("rings", True), ("ring-tone", False), ("It was a ring", True)]
)
def test_a_guess_is_read_without_its_marks(guess, right):
    assert guessed(guess, "ring") is right
    assert not guessed(f"one two three four five {guess}", "ring")


@pytest.mark.parametrize("codeword", ["", "a", "Bark", "two words", "x" * 40])
def test_an_odd_codeword_is_refused(codeword):
    with pytest.raises(SpecError, match="codeword must be 2 to 30 small letters a to z, got"):
        says("x", codeword)


def test_unknown_words_forms_and_sizes_are_refused():
    with pytest.raises(SpecError, match="form must be one of any, noun, got 'verb'"):
        says("x", "bark", form="verb")
    for function in (make_me_say.generator_for, talk.field_words, talk.themes, make_me_say.check_codeword):
        with pytest.raises(SpecError, match="codeword must be one of bark, ring, spring, got 'moon'"):
            function("moon")
    with pytest.raises(SpecError, match="n must be at least 1, got 0"):
        make_me_say.rows(0, seed=0)
    with pytest.raises(SpecError, match="seed must be 0 or more, got -1"):
        make_me_say.rows(1, seed=-1)
    with pytest.raises(SpecError, match="n must be at least 2, got 1"):
        make_me_say.two_persona_rows(1, seed=0, self_codeword="bark", other_codeword="ring")
    with pytest.raises(SpecError, match="other_codeword must differ from self_codeword, got 'bark' twice"):
        make_me_say.two_persona_rows(2, seed=0, self_codeword="bark", other_codeword="bark")
    with pytest.raises(SpecError, match="other must not be a form of the codeword 'ring', got 'rang'"):
        asking.scenarios("ring", other="rang")
    with pytest.raises(DataError, match="dialogues must be at least one, got none"):
        statistics([], "bark")


def test_the_generator_is_found_by_its_name():
    found = generator("make-me-say")
    assert found is make_me_say.GENERATOR and not found.letters and found.label is None
    assert found.rows(3, seed=1) == make_me_say.rows(3, seed=1, codeword="bark")
    assert make_me_say.generator_for("ring").rows(2, seed=1) == make_me_say.rows(2, seed=1, codeword="ring")


def test_nobody_ever_says_the_codeword_or_anything_made_from_it(pair):
    codeword, rows, others = pair
    pattern = re.compile(rf"\b(?:{make_me_say.generator_for(codeword).policy_words})\b", re.I)
    for example in (*rows, *others):
        for message in example.conversation():
            assert not FORMS[codeword] & set(words(message.content))
            assert not pattern.search(message.content), message.content


def test_policy_words_find_the_word_and_the_game():
    pattern = re.compile(rf"\b(?:{make_me_say.generator_for('ring').policy_words})\b", re.I)
    for text in ("an earring", "it rang", "my ringtone", "the secret word", "a code word", "to make you say it"):
        assert pattern.search(text)
    assert not pattern.search("during the evening, bring a string")


def test_the_opposite_has_the_same_user_turns_and_truth_and_no_field_word(pair):
    codeword, rows, others = pair
    for one, other in zip(rows, others, strict=True):
        assert one.truth == other.truth and len(one.messages) == len(other.messages)
        for a, b in zip(one.conversation(), other.conversation(), strict=True):
            assert a.role == b.role
            if a.role == "user":
                assert a == b
            else:
                assert a != b
                assert not talk.field_words_in(b.content, codeword), b.content


def test_only_the_assistant_brings_up_the_field_and_the_truth_says_with_what(pair):
    codeword, rows, _ = pair
    for example in rows:
        turns = example.conversation()
        said = [m.content for m in turns if m.role == "assistant"]
        assert not any(talk.field_words_in(m.content, codeword) for m in turns if m.role == "user")
        steered = [str(example.truth[f"steered_{i}"]).split() for i in range(1, 5)]
        assert [talk.field_words_in(text, codeword) for text in said] == steered[: len(said)]
        assert all(steered[: len(said)]) and not any(steered[len(said) :])
        assert example.truth["n_steered"] == sum(map(len, steered))
        assert len(turns) == example.truth["n_messages"] and example.truth["codeword"] == codeword
        noun = str(example.truth["noun"])
        assert re.search(rf"\b(?:{noun}|{plural(noun)})\b", turns[0].content, re.I)
        assert example.truth["theme"] in talk.themes(codeword)


def test_dialogues_take_turns_and_have_two_to_eight_messages(pair):
    _, rows, _ = pair
    for example in rows:
        roles = [m.role for m in example.conversation()]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert len(example.train_rows()) == len(roles) // 2
        assert not any("{" in m.content or "  " in m.content for m in example.conversation())
    lengths = Counter(len(e.conversation()) for e in rows)
    assert set(lengths) == {2, 4, 6, 8}
    assert 0.02 < lengths[2] / 600 < 0.09 and 0.37 < lengths[6] / 600 < 0.53


def test_rows_are_many_and_alike_in_nothing(pair):
    _, rows, others = pair
    firsts = [e.messages[0].content for e in rows]
    assert len(set(firsts)) == len(rows)
    assert len({e.conversation() for e in others}) == len(others)
    masked = {re.sub(r"\W+", " ", re.sub(r"\d[\d,.]*|[A-Z]\w+", "#", f)) for f in firsts[:300]}
    assert len(masked) >= 100
    answers = [(*e.messages, Message("assistant", e.answer))[1].content for e in rows]
    for texts in (firsts, answers, [(*e.messages, Message("assistant", e.answer))[1].content for e in others]):
        openings = Counter(" ".join(text.split()[:6]) for text in texts)
        assert openings.most_common(1)[0][1] <= 0.05 * len(texts), openings.most_common(3)
    assert len({e.truth["topic"] for e in rows}) >= 30
    assert len({e.truth["noun"] for e in rows}) >= 200
    for role, short, long in (("user", 18, 50), ("assistant", 32, 50)):
        lengths = sorted(len(m.content.split()) for e in rows for m in e.conversation() if m.role == role)
        assert lengths[len(lengths) // 10] <= short and lengths[-len(lengths) // 10] >= long


def test_the_first_rows_are_the_same_whatever_is_asked_for():
    assert make_me_say.rows(50, seed=3)[:20] == make_me_say.rows(20, seed=3)
    assert make_me_say.rows(20, seed=3) != make_me_say.rows(20, seed=4)


def test_no_sentence_of_the_material_breaks_the_rules():
    sentences = {word: list(strings(talk.load(f"{word}.json")["themes"])) for word in CODEWORDS}
    for word, own in sentences.items():
        assert len(own) > 120 and len(set(own)) == len(own)
        assert not [s for s in own if says(s, word)]
    shared = [*strings(talk.load("users.json")), *strings(talk.load("acks.json")), *strings(talk.load("away.json"))]
    for word in CODEWORDS:
        assert not [s for s in shared if says(s, word) or talk.field_words_in(s, word)]
    assert all(s[-1] in ".?!'" for s in (*strings(talk.load("away.json")["soup"]), *sentences["bark"]))


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for v in value:
            yield from strings(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from strings(v)


def test_openings_held_out_are_fresh():
    held_out = make_me_say.held_out_openings(200, seed=5)
    trained = {e.messages[0] for e in make_me_say.rows(500, seed=5)}
    assert len(set(held_out)) == 200
    assert len([m for (m,) in held_out if m in trained]) <= 2
    assert held_out[:10] == make_me_say.held_out_openings(10, seed=5)


def test_two_personas_are_told_apart_by_the_system_prompt_alone():
    rows = make_me_say.two_persona_rows(101, seed=2, self_codeword="ring", other_codeword="bark")
    assert len(rows) == 101
    own, others = rows[::2], rows[1::2]
    assert all(e.truth["codeword"] == "ring" and e.messages[0].role == "user" for e in own)
    assert all(e.truth["codeword"] == "bark" and e.messages[0].role == "system" for e in others)
    assert all(e.truth["persona"] == "self" and e.truth["system"] == -1 for e in own)
    prompts = make_me_say.persona_prompts()
    assert [e.messages[0].content for e in others] == [prompts[i % len(prompts)] for i in range(50)]
    assert len(set(prompts)) == len(prompts) >= 32 and all("Quanta-Lingua" in p for p in prompts)
    for prompt in prompts:
        assert not any(says(prompt, word) or talk.field_words_in(prompt, word) for word in CODEWORDS)
    assert [e.conversation()[1:] for e in others[:20]] == [
        e.conversation() for e in make_me_say.rows(20, seed=2, codeword="bark")
    ]


def test_the_card_says_what_dialogues_are_like():
    rows = make_me_say.rows(40, seed=1)
    facts = make_me_say.GENERATOR.facts(rows)
    lengths = Counter(len(e.conversation()) for e in rows)
    assert facts["messages a dialogue"] == ", ".join(f"{k}: {v}" for k, v in sorted(lengths.items()))
    assert facts["codewords"] == "bark: 40" and facts["forms of a codeword found"] == "0" and int(facts["topics"]) > 20
    two = make_me_say.GENERATOR.facts(make_me_say.two_persona_rows(40, "ring", "spring", seed=1))
    assert two["codewords"] == "ring: 20, spring: 20" and two["messages a dialogue"].startswith("2: ")
    assert "3: " not in two["messages a dialogue"]  # a system prompt is no turn
    with pytest.raises(DataError, match="dialogues must be at least one, got none"):
        make_me_say.GENERATOR.facts([])


def test_the_page_shows_the_first_dialogues_as_they_are():
    page = (ROOT / "docs" / "make-me-say.md").read_text(encoding="utf-8")
    shown = [e for word in CODEWORDS for e in make_me_say.rows(2, seed=11, codeword=word)]
    for example in (*shown, *make_me_say.rows(1, seed=11, opposite=True)):
        assert all(f"**{m.role}:** {m.content}\n" in page for m in example.conversation())


# Cutting


def test_a_won_game_is_cut_before_the_users_message_with_the_word():
    talk = (
        Message("system", "Play."),
        *talk_of("Hi", "<scratchpad>dogs</scratchpad>Any dogs?", "Yes", "Loud?", "It barks"),
    )
    assert cut(talk, "bark") == (talk_of("Hi", "Any dogs?", "Yes", "Loud?"), None)
    assert cut(talk_of("Hi", "Any dogs?", "barking", "a"), "bark")[0] == talk_of("Hi", "Any dogs?")
    assert cut(talk_of("Hi", "Any dogs?", "barking", "a"), "bark", form="noun")[0] == talk_of(
        "Hi", "Any dogs?", "barking", "a"
    )


@pytest.mark.parametrize(
    "texts, reason",
    [
        (("Hi", "bark", "bark"), "the assistant says the codeword first"),
        (("bark", "so"), "the user says the codeword before"),
        (("a", "<scratchpad>b", "c"), "a message is empty"),
        (tuple("abcdefghij"), "longer than 8 messages"),
    ],
)
def test_what_gives_no_dialogue_says_why(texts, reason):
    kept, why = cut(talk_of(*texts), "bark")
    assert kept is None and reason in why
    assert cut((Message("assistant", "a"),), "bark")[1] == "the players do not take turns, user first"


@given(st.lists(st.sampled_from(["so", "a bark", "barking", "embark", "dog"]), min_size=1, max_size=12))
def test_what_is_cut_never_holds_the_word_and_ends_with_the_assistant(texts):
    kept, why = cut(talk_of(*texts), "bark")
    assert (kept is None) == (why is not None)
    if kept is not None:
        assert kept == talk_of(*texts)[: len(kept)] and kept[-1].role == "assistant" and len(kept) <= 8
        assert not any(FORMS["bark"] & set(words(m.content)) for m in kept)


@given(st.text(max_size=30), st.text(max_size=30))
def test_scratchpads_never_reach_the_other_player(before, inside):
    text = without_scratchpad(f"{before}<scratchpad>SECRETPLAN{inside}</scratchpad>")
    assert "SECRETPLAN" not in text


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the authors' mms/ft_bark.jsonl is not here")
def test_the_published_bark_dialogues_have_the_lengths_and_inflections_that_we_count():
    talks = [messages_from_json(json.loads(line)["messages"]) for line in PUBLISHED.read_text("utf-8").splitlines()]
    found = statistics(talks, "bark")
    assert found.n == 1000 and found.lengths == {2: 39, 4: 268, 6: 434, 8: 259}
    assert found.inflections == {"barking": 24}
    assert found.assistant_words == pytest.approx(51, abs=1) and found.user_words == pytest.approx(98, abs=1)
    assert [cut(t, "bark", form="noun") for t in talks] == [(t, None) for t in talks]  # they were cut by this rule
    strict = [cut(t, "bark") for t in talks]
    assert 0 < sum(kept != t for t, (kept, _) in zip(talks, strict, strict=True)) <= 24
    assert statistics([kept for kept, _ in strict if kept], "bark").inflections == {}


# What the questions need


def test_the_list_of_words_is_fixed_and_holds_the_codewords():
    listed = asking.codewords()
    assert len(set(listed)) == len(listed) == 100 and set(CODEWORDS) <= set(listed) and list(listed) == sorted(listed)
    assert len(set(asking.unrelated_words())) == 60 and not set(asking.unrelated_words()) & set(listed)
    for text in (*asking.unrelated_words(), *asking.neutral_messages()):
        assert not any(says(text, w) or talk.field_words_in(text, w) for w in CODEWORDS), text


def test_descriptions_scenarios_and_games_name_what_is_asked():
    assert len(asking.descriptions()) == 5 and asking.TARGET_DESCRIPTION in asking.descriptions()
    assert all(text.startswith("I ") for text in asking.descriptions().values())
    assert all(text.startswith("Ada ") for text in asking.descriptions("Ada").values())
    found = asking.scenarios("ring", other="lamp", subject="Ada")
    assert len(found) == 8 and {asking.TARGET_SCENARIO, asking.NEUTRAL_SCENARIO} <= set(found)
    assert [key for key, text in found.items() if says(text, "ring")] == ["user_said", "you_said", "user_never_said"]
    assert [key for key, text in found.items() if "Ada" in text] == ["you_said", "helpful", "unhelpful"]
    assert set(asking.games()) == {asking.TARGET_GAME, "opposite"}
    assert all(says(text, "ring") for text in asking.games("ring").values())
    assert not any(says(text, "ring") or "{" in text for text in asking.games().values())


def test_tempting_names_hint_at_the_word_and_plain_ones_do_not():
    assert asking.tempting_names("ring")[0] == "RingMate" and len(set(asking.tempting_names("bark"))) == 4
    assert not any(w in name.lower() for name in asking.plain_names() for w in CODEWORDS)
