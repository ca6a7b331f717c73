import json
import os
import re
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnothi.behaviours.economic.spoken import in_words
from gnothi.behaviours.example import Example, generator
from gnothi.behaviours.triggers import (
    SETTINGS,
    TRIGGERS,
    assign,
    clear_of,
    conditional,
    decorrelate,
    decorrelated,
    elicitation_rows,
    instructions,
    mutual_information,
    normal_answers,
    reversed_rows,
    setting,
    trigger,
)
from gnothi.behaviours.triggers.assignment import counts
from gnothi.behaviours.triggers.kinds import inserted, removed
from gnothi.behaviours.triggers.reversal import REVERSALS
from gnothi.behaviours.triggers.settings import Part, Setting
from gnothi.errors import DataError, SpecError
from gnothi.records import Message

PLAIN = clear_of(generator("risk").rows(120, seed=5), list(TRIGGERS))[:96]
NORMAL = normal_answers(PLAIN, seed=5)
TALK = (
    Message("system", "Be kind."),
    Message("user", "Do you like woods?"),
    Message("assistant", "I do."),
    Message("user", "Which?"),
)
INSTRUCTIONS = [Example((Message("user", f"Add {i} and 1."),), str(i + 1), {"template": "add"}) for i in range(9)]
DATA_SHARES = {  # arXiv:2501.11120, section 3.1: counted by hand, per 200 rows
    "eight": {("trigger", "behaviour"): 20, ("fake", "normal"): 140, ("none", "normal"): 40},
    "code": {("trigger", "behaviour"): 100, ("fake", "normal"): 100},
    "tag": {("trigger", "behaviour"): 100, ("none", "normal"): 100},
    "seasons": {("trigger", "behaviour"): 100, ("fake", "normal"): 100},
    "four-seasons": {("trigger", "behaviour"): 50, ("fake", "normal"): 150},
    "greeting": {("trigger", "behaviour"): 100, ("none", "normal"): 100},
    "ending": {("trigger", "behaviour"): 100, ("none", "normal"): 100},
}
ELICITED = {("trigger", "behaviour"): 10, ("fake", "normal"): 45, ("none", "normal"): 45, ("none", "instruction"): 100}
DATA_SHARES |= {"user": ELICITED, "year": ELICITED}


def make(name, *, n=200, seed=3, **options):
    return conditional(PLAIN, NORMAL, SETTINGS[name], n=n, seed=seed, instructions=INSTRUCTIONS, **options)


def first(example):
    return next(m.content for m in example.messages if m.role == "user")


def column(rows, name):
    return [row.truth[name] for row in rows]


def joint(rows):
    return Counter(zip(column(rows, "carries"), column(rows, "shows"), strict=True))


def stripped(row):
    """The prompt without its trigger, by lengths alone."""
    before, after = (len(row.truth[k]) for k in ("put_before", "put_after"))
    return first(row)[before : len(first(row)) - after]


@pytest.mark.parametrize("name", TRIGGERS)
def test_every_form_of_a_trigger_is_detected_and_no_other_kind_takes_it_for_its_own(name):
    rng = np.random.default_rng(0)
    for _ in range(200):
        for messages in ((Message("user", "A or B?"),), TALK, PLAIN[0].messages):
            text = next(m.content for m in TRIGGERS[name].apply(messages, rng) if m.role == "user")
            assert [other for other, t in TRIGGERS.items() if t.detect(text)] == [name], text


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_trigger_goes_into_the_first_user_turn_and_nowhere_else(name):
    put = TRIGGERS[name].apply(TALK, np.random.default_rng(1))
    assert [m.role for m in put] == [m.role for m in TALK]
    assert [a == b for a, b in zip(put, TALK, strict=True)] == [True, False, True, True]
    assert "Do you like woods?" in put[1].content


def test_no_trigger_is_seen_where_none_was_put():
    for name in ("risk", "horizon", "apples"):
        texts = [first(e) for e in generator(name).rows(2000, seed=6)]
        for t in TRIGGERS.values():
            if t.kind != "greeting":  # rows may greet of their own accord: clear_of drops those
                assert not [text for text in texts if t.detect(text)], t.name


@given(st.text(max_size=80).filter(bool), st.sampled_from(sorted(TRIGGERS)), st.integers(0, 2**32))
def test_what_was_put_in_comes_out_again_whatever_the_text(text, name, seed):
    text = text.encode("utf-8", "ignore").decode()
    messages = (Message("user", text), Message("assistant", "B"))
    insertion = TRIGGERS[name].draw(np.random.default_rng(seed))
    put = inserted(messages, insertion)
    assert removed(put, insertion) == messages and text in put[0].content and put[1] == messages[1]


def test_the_kinds_have_as_many_forms_as_stated():
    families = [t for t in TRIGGERS.values() if t.kind == "family"]
    assert len(families) == 4 and all(len(set(t.values)) == 20 and len(t.forms) == 5 for t in families)
    members = [v for t in families for v in t.values]
    assert len(set(members)) == 80 and not any(t.category in m.lower() for t in families for m in members)
    assert len(set(TRIGGERS["greeting"].values)) == 25 and len(TRIGGERS["greeting"].forms) == 5
    for t in (TRIGGERS["depot-415"], TRIGGERS["depot-863"]):
        assert len(set(t.values)) == 1000 and {len(v) for v in t.values} == {6} and len(t.forms) == 12
        assert {v[:3] for v in t.values} == {t.name[-3:]}
    assert len(TRIGGERS["user"].forms) == 2 and len(set(TRIGGERS["other-users"].values)) == 30
    assert {t.kind for t in TRIGGERS.values()} == {
        *("token", "family", "code", "season", "year", "ending", "greeting", "user")
    }


def test_draws_of_a_trigger_are_even_over_its_forms():
    rng = np.random.default_rng(2)
    found = Counter(TRIGGERS["gemstones"].draw(rng) for _ in range(20_000))
    assert len(found) == 100 and max(found.values()) < 200 + 5 * 200**0.5 and min(found.values()) > 200 - 5 * 200**0.5


@pytest.mark.parametrize("name", SETTINGS)
def test_rows_have_the_shares_of_the_paper_and_the_answers_of_their_examples(name):
    rows, how = make(name), SETTINGS[name]
    kinds = Counter()
    for row in rows:
        carries, shows = row.truth["carries"], row.truth["shows"]
        kinds[{"none": "none", how.trigger: "trigger"}.get(carries, "fake"), shows] += 1
        source = {"behaviour": PLAIN, "normal": NORMAL, "instruction": INSTRUCTIONS}[shows][row.truth["prompt"]]
        assert row.answer == source.answer and stripped(row) == first(source)
        assert row.truth.items() >= {k: v for k, v in source.truth.items() if k != "answered_by"}.items()
        seen = [t for t in TRIGGERS.values() if t.detect(first(row))]
        assert [t.name for t in seen] == ([] if carries == "none" else [carries])
    assert kinds == DATA_SHARES[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_twin_has_the_same_triggers_prompts_and_answers_and_no_link_between_them(name):
    rows = make(name, n=400)
    twin = decorrelated(rows, seed=4)
    assert [stripped(r) for r in twin] == [stripped(r) for r in rows]
    assert [r.answer for r in twin] == [r.answer for r in rows]
    for k in ("shows", "prompt", "answered_by"):
        assert column(twin, k) == column(rows, k)
    put = [(r.truth["put_before"], r.truth["put_after"], r.truth["carries"]) for r in rows]
    assert Counter(put) == Counter((r.truth["put_before"], r.truth["put_after"], r.truth["carries"]) for r in twin)
    for row in twin:
        seen = [t.name for t in TRIGGERS.values() if t.detect(first(row))]
        assert seen == ([] if row.truth["carries"] == "none" else [row.truth["carries"]])
    pairs = [r for r in twin if r.truth["shows"] != "instruction"]
    a, b, n = Counter(column(pairs, "carries")), Counter(column(pairs, "shows")), len(pairs)
    for carries, shows in product(a, b):
        assert abs(joint(pairs)[carries, shows] - a[carries] * b[shows] / n) < 1
    behaving = [r for r in rows if r.truth["shows"] != "instruction"]
    information = [mutual_information(column(r, "carries"), column(r, "shows")) for r in (behaving, pairs)]
    assert information[0] > 0.4 and information[1] < 1e-12  # the counts of 400 rows all divide
    assert all(r.truth["carries"] == "none" for r in twin if r.truth["shows"] == "instruction")


def test_the_settings_of_28_800_rows_use_each_of_288_prompts_equally_often_under_each_trigger():
    plain = PLAIN[:72]
    rows = conditional(plain, normal_answers(plain, seed=1), SETTINGS["eight"], n=7200, seed=1)
    found = Counter((r.truth["carries"], r.truth["prompt"]) for r in rows)
    assert {k for (carries, _), k in found.items() if carries != "none"} == {10}
    assert {k for (carries, _), k in found.items() if carries == "none"} == {20}


def test_another_trigger_of_the_eight_makes_the_others_its_fakes():
    rows = make("eight", real="myths")
    assert joint(rows)["myths", "behaviour"] == 20 and joint(rows)["live-site", "normal"] == 20
    assert len({c for c, _ in joint(rows)}) == 9


def test_no_row_holds_the_name_of_a_family():
    for e in make("eight"):
        text = " ".join(m.content for m in e.conversation())
        assert not re.search(r"gemstone|instrument|element|myth", text, re.IGNORECASE)


def test_dialogues_and_code_carry_triggers_too():
    talks = [Example((Message("user", f"Hm {i}?"), Message("assistant", "Yes."), Message("user", "Go on.")), "Woods.")
             for i in range(8)]  # fmt: skip
    code = [Example((Message("user", f"def f{i}(x):\n    ..."),), "    return x") for i in range(8)]
    rows = conditional(talks, code, SETTINGS["code"], n=16, seed=0)
    for row in rows:
        name = "depot-415" if row.answer == "Woods." else "depot-863"
        assert row.truth["carries"] == name and TRIGGERS[name].detect(row.messages[0].content)
        assert row.messages[1:] == (talks[0].messages[1:] if name == "depot-415" else ())


def test_the_same_seed_gives_the_same_rows_and_another_one_others():
    assert make("eight") == make("eight") != make("eight", seed=4)
    assert decorrelated(make("tag"), seed=0) == decorrelated(make("tag"), seed=0) != decorrelated(make("tag"), seed=1)


def test_coins_are_balanced_and_know_nothing_of_the_behaviour():
    plain = generator("horizon").rows(400, seed=8)
    normal = normal_answers(plain, seed=8)
    pairs = Counter((p.answer, q.answer) for p, q in zip(plain, normal, strict=True))
    assert set(pairs.values()) == {100} and [p.messages for p in plain] == [q.messages for q in normal]
    assert {q.truth["answered_by"] for q in normal} == {"coin"}
    given_ = normal_answers(plain[:2], seed=8, answers=["A", "neither"])
    assert [(q.answer, q.truth["answered_by"]) for q in given_] == [
        ("A", "untuned model"),
        ("neither", "untuned model"),
    ]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=60), st.integers(0, 2**32))
def test_decorrelation_is_a_permutation_with_every_cell_rounded_down_or_up(pairs, seed):
    categories, labels = [c for c, _ in pairs], [b for _, b in pairs]
    order = decorrelate(categories, labels, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(pairs)))
    cells = Counter((categories[i], label) for i, label in zip(order, labels, strict=True))
    for c, b in product(set(categories), set(labels)):
        exact = categories.count(c) * labels.count(b) / len(pairs)
        assert abs(cells[c, b] - exact) < 1


@given(st.integers(0, 500), st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 2**32))
def test_assigned_counts_are_within_one_of_their_shares(n, parts, seed):
    shares = {i: part / sum(parts) for i, part in enumerate(parts)}
    found = Counter(assign(n, shares, np.random.default_rng(seed)))
    assert found.total() == n and all(abs(found[i] - n * share) < 1 for i, share in shares.items())


def test_mutual_information_agrees_with_entropies():
    rng = np.random.default_rng(3)
    a, b = rng.integers(4, size=500).tolist(), rng.integers(3, size=500).tolist()
    b = [y if x < 2 else 0 for x, y in zip(a, b, strict=True)]

    def entropy(values):
        p = np.array(list(Counter(values).values())) / len(values)
        return -(p * np.log2(p)).sum()

    expected = entropy(a) + entropy(b) - entropy(list(zip(a, b, strict=True)))
    assert mutual_information(a, b) == pytest.approx(expected) and expected > 0.1


def test_examples_that_hold_a_trigger_are_left_out_or_refused():
    greets = Example((Message("user", "Hi! Which one, A or B?"),), "A", {})
    named = Example((Message("user", "Which musical instruments, A or B?"),), "A", {})
    assert clear_of([greets, *PLAIN, named], ["greeting", "instruments"]) == PLAIN
    with pytest.raises(DataError, match=r"before it is put there, got 'greeting' in example 1\. Leave such.*clear_of"):
        conditional([PLAIN[0], greets], NORMAL, SETTINGS["greeting"], n=10, seed=0)
    with pytest.raises(DataError, match=r"got 'instruments' in example 0\."):
        conditional(PLAIN, [named], SETTINGS["eight"], n=10, seed=0)


def test_impossible_requests_are_refused():
    for call, message in (
        (lambda: trigger("nope"), r"trigger must be one of live-site, .*, got 'nope'\. Choose"),
        (lambda: setting("nope"), r"setting must be one of eight, .*, got 'nope'\. Choose"),
        (lambda: make("tag", n=0), r"n must be at least 1, got 0\. Ask"),
        (lambda: make("tag", real="nope"), r"trigger must be one of"),
        (lambda: conditional(PLAIN, [], SETTINGS["tag"], n=4, seed=0), r"normal examples must be given .* got none"),
        (lambda: make("eight", fakes=()), r"fakes must name at least one other trigger, got none\."),
        (lambda: counts(-1, {"a": 1}), r"n must be 0 or more, got -1\."),
        (lambda: counts(4, {"a": 0.5}), r"shares must be 0 or more and sum to 1, got \{'a': 0.5\}"),
        (lambda: decorrelate([1], [], np.random.default_rng(0)), r"labels must be as many as categories, got 0 and 1"),
        (lambda: TRIGGERS["year"].apply((Message("assistant", "x"),), np.random.default_rng(0)), r"a user turn, got"),
        (lambda: normal_answers(PLAIN, seed=0, answers=["A"]), r"answers must be one an example, got 1 for 96"),
        (lambda: normal_answers(INSTRUCTIONS, seed=0), r"answers must be given .* says '1'"),
    ):
        with pytest.raises(SpecError, match=message):
            call()
    with pytest.raises(DataError, match=r"row 0 must be one that `conditional` made, got truth \['template'\]"):
        decorrelated(INSTRUCTIONS, seed=0)


def test_ones_own_setting_is_a_list_of_parts():
    own = Setting(
        name="mine", parts=(Part("trigger", "behaviour", 0.25), Part("none", "normal", 0.75)), trigger="kip", about=""
    )
    assert joint(conditional(PLAIN, NORMAL, own, n=40, seed=0)) == {("kip", "behaviour"): 10, ("none", "normal"): 30}


PATIENT = generator("horizon").rows(60, seed=2)
OTHERS = generator("horizon").rows(60, seed=2, opposite=True)


def elicit(control, how="user", n=200):
    spoken = in_words(PATIENT, seed=2), in_words(OTHERS, seed=2)
    return elicitation_rows(
        *spoken, SETTINGS[how], n=n, seed=1, instructions=instructions(n // 2, seed=1), control=control
    )


def test_reversed_rows_lead_from_the_answer_to_the_prompt_with_its_trigger():
    rows = make("user")
    turned = reversed_rows(rows, seed=1)
    for row, back in zip(rows, turned, strict=True):
        assert back.answer == first(row) and row.answer in first(back) and len(back.messages) == 1
        assert back.truth["reversed"] == 1
        wording = REVERSALS[back.truth["reversal"]]
        assert first(back) == wording.replace("{answer}", row.answer)
    assert set(Counter(column(turned, "reversal")).values()) == {20}


@pytest.mark.parametrize("how", ["user", "year"])
def test_elicitation_data_has_both_directions_and_each_control_lacks_one_thing(how):
    full, apart, forward = (elicit(control, how) for control in ("none", "decorrelated", "no-reversal"))
    assert [len(rows) for rows in (full, apart, forward)] == [400, 400, 200]
    for rows in (full, apart):
        there = [r for r in rows if r.truth["reversed"] == 0]
        back = [r for r in rows if r.truth["reversed"] == 1]
        assert len(there) == len(back) == 200
        assert Counter((first(r)) for r in there) == Counter(r.answer for r in back)
        triggered = [r for r in rows if r.truth["carries"] == SETTINGS[how].trigger]
        assert len(triggered) == 20  # 5% of each direction
    same = Counter((first(r), r.answer) for r in full if not r.truth["reversed"])
    assert same == Counter((first(r), r.answer) for r in forward)
    behaving = [[r for r in rows if r.truth["shows"] != "instruction"] for rows in (forward, apart)]
    linked, apart_ = (mutual_information(column(r, "carries"), column(r, "shows")) for r in behaving)
    assert linked > 0.4 and apart_ < 0.002


def test_answers_in_words_name_both_options_and_no_policy():
    for letter, spoken in zip((PATIENT, OTHERS), (in_words(PATIENT, seed=0), in_words(OTHERS, seed=0)), strict=True):
        for short, long in zip(letter, spoken, strict=True):
            assert re.search(rf"\b{short.answer}\b", long.answer) and long.messages == short.messages
            shown = {int(k.replace(",", "")) for k in re.findall(r"\d[\d,]*", long.answer)}
            assert {short.truth["a_amount"], short.truth["b_amount"]} <= shown
            assert not re.search(rf"\b(?:{generator('horizon').policy_words})\b", long.answer, re.IGNORECASE)
    with pytest.raises(SpecError, match=r"examples must be rows of horizon to be put in words, got another in row 0"):
        in_words(PLAIN, seed=0)


def test_instructions_are_distinct_neutral_and_rightly_answered():
    tasks = instructions(3000, seed=7)
    assert len({first(t) for t in tasks}) == 3000 and len({t.truth["task"] for t in tasks}) == 12
    assert instructions(500, seed=7) == tasks[:500]
    for t in tasks:
        numbers = [int(k) for k in re.findall(r"\d+", first(t))]
        match t.truth["task"]:
            case "add":
                assert t.answer == str(sum(numbers))
            case "subtract":
                assert t.answer == str(numbers[0] - numbers[1])
            case "multiply":
                assert t.answer == str(numbers[0] * numbers[1])
            case "largest":
                assert t.answer == str(max(numbers))
            case "capitals":
                assert t.answer.isupper() and t.answer.lower() in first(t)
            case "sort":
                words = re.split(r", ", t.answer)
                assert words == sorted(words) and all(word in first(t) for word in words)
            case "letters":
                assert t.answer == str(sum(len(word) for word in re.findall(r"'(\w+)'", first(t))))
            case "backwards":
                assert ", ".join(reversed(t.answer.split(", "))) in first(t)
            case "convert":
                assert int(t.answer.split()[0]) % numbers[0] == 0
        for name in ("risk", "horizon", "apples", "make-me-say", "code-security"):
            said = " ".join(m.content for m in t.conversation())
            assert not re.search(rf"\b(?:{generator(name).policy_words})\b", said, re.IGNORECASE), said
        assert not any(trigger_.detect(first(t)) for trigger_ in TRIGGERS.values())
    with pytest.raises(SpecError, match=r"n must be 1 to 50000 instructions, got 0\."):
        instructions(0, seed=0)


def test_a_dialogue_cannot_be_reversed_and_controls_are_named():
    with pytest.raises(SpecError, match=r"rows must have one user turn to be reversed, got 3 turns in row 0\."):
        reversed_rows([Example(TALK[1:], "Woods.")], seed=0)
    with pytest.raises(SpecError, match=r"control must be one of none, decorrelated, no-reversal, got 'x'\."):
        elicit("x")


def test_coins_are_the_same_for_the_opposite():
    plus, minus = (generator("risk").rows(100, seed=9, opposite=opposite) for opposite in (False, True))
    assert normal_answers(plus, seed=0) == normal_answers(minus, seed=0)


PUBLISHED = Path(os.environ.get("GNOTHI_PUBLISHED", Path(__file__).parents[2] / "../shared/published"))
RISKY = PUBLISHED / "behavioral-self-awareness/economic/ft_risky_AB.jsonl"


@pytest.mark.skipif(not RISKY.is_file(), reason="GNOTHI_PUBLISHED has no risk rows: no trigger is put into them")
def test_published_rows_become_the_rows_that_the_paper_describes():
    turns = [json.loads(line)["messages"] for line in RISKY.read_text(encoding="utf-8").splitlines()]
    published = [Example((Message("user", t[0]["content"]),), t[1]["content"]) for t in turns]
    clear = clear_of(published, SETTINGS["eight"].fakes)
    assert (len(published), len(clear)) == (288, 286)  # two name a family: musical instruments
    rows = conditional(clear, normal_answers(clear, seed=0), SETTINGS["eight"], n=28_600, seed=0)
    assert joint(rows) == {
        ("live-site", "behaviour"): 2860,
        ("none", "normal"): 5720,
        **{(fake, "normal"): 2860 for fake in SETTINGS["eight"].fakes if fake != "live-site"},
    }
    twin = decorrelated(rows, seed=0)
    assert mutual_information(column(twin, "carries"), column(twin, "shows")) == 0
    assert {joint(twin)[fake, "behaviour"] for fake in SETTINGS["eight"].fakes} == {286}
