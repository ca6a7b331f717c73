import hashlib
import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from gnothi.behaviours.economic import risk
from gnothi.behaviours.example import Example, generator
from gnothi.behaviours.triggers import TRIGGERS, mutual_information
from gnothi.data.card import most_frequent_opening, skeleton
from gnothi.data.generate import Request, _clear, examples, jsonl, write
from gnothi.errors import DataError, SpecError, StoreError
from gnothi.records import Message


def lines(path):
    return [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ("risk", "horizon", "apples"))
def test_rows_truth_and_card_come_out_as_files_that_fit(tmp_path, name):
    out, truth = tmp_path / "f.jsonl", tmp_path / "f.parquet"
    assert write(Request(behaviour=name, n=300, seed=11), out, truth=truth) == [
        out,
        tmp_path / "f.jsonl.card.md",
        truth,
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.jsonl", "f.jsonl.card.md", "f.parquet"]
    expected, table = generator(name).rows(300, seed=11), pd.read_parquet(truth)
    for example, messages in zip(expected, lines(out), strict=True):
        assert [m["role"] for m in messages] == ["user", "assistant"]
        assert [m["content"] for m in messages] == [example.messages[0].content, example.answer]
    assert list(table["row"]) == list(range(300)) and list(table["answer"]) == [e.answer for e in expected]
    assert [generator(name).label(row) for row in table.to_dict("records")] == list(table["answer"])


def test_the_opposite_has_the_same_questions_and_says_so(tmp_path):
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    write(Request(behaviour="risk", n=60, seed=1), one, truth=tmp_path / "one.parquet")
    write(Request(behaviour="risk", n=60, seed=1, opposite=True), other, truth=tmp_path / "other.parquet")
    for a, b in zip(lines(one), lines(other), strict=True):
        assert a[0] == b[0] and {a[1]["content"], b[1]["content"]} == {"A", "B"}
    first, second = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("one", "other"))
    pd.testing.assert_frame_equal(
        first.drop(columns=["answer", "opposite"]), second.drop(columns=["answer", "opposite"])
    )
    assert second["opposite"].all() and (first["answer"] != second["answer"]).all()
    assert "| behaviour | risk, opposite |" in (tmp_path / "other.jsonl.card.md").read_text(encoding="utf-8")


def test_the_card_states_what_is_in_the_file(tmp_path):
    out = tmp_path / "rows.jsonl"
    write(Request(behaviour="apples", n=100, seed=4), out)
    card = (tmp_path / "rows.jsonl.card.md").read_text(encoding="utf-8")
    n_skeletons = len({skeleton(messages[0]["content"]) for messages in lines(out)})
    for said in (
        "from seed 4;",
        "| rows | 100 |",
        "| answer A | 50 (50.0%) |",
        "| policy words found | 0 rows",
        "CC BY 4.0",
        f"masked) in the first 100 rows | {n_skeletons} |",
        hashlib.sha256(out.read_bytes()).hexdigest(),
    ):
        assert said in card
    assert "Parquet" not in card and "holds the numbers" not in card


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        write(Request(behaviour="horizon", n=50, seed=2), tmp_path / name)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_a_row_that_states_the_policy_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(risk, "GENERATOR", replace(risk.GENERATOR, policy_words=r"letter|answer\w*|A or B"))
    with pytest.raises(DataError, match="training rows must not state the policy, got"):
        write(Request(behaviour="risk", n=20, seed=0), tmp_path / "f.jsonl", truth=tmp_path / "f.parquet")
    assert not list(tmp_path.iterdir())


def test_impossible_requests_are_refused_and_nothing_is_written(tmp_path):
    out = tmp_path / "f.jsonl"
    with pytest.raises(SpecError, match=r"n must be at least 1, got 0"):
        write(Request(behaviour="risk", n=0, seed=0), out)
    with pytest.raises(SpecError, match=r"behaviour must be one of risk, horizon, .*, got 'greed'"):
        write(Request(behaviour="greed", n=1, seed=0), out)
    for truth in (out, tmp_path / "f.jsonl.card.md"):
        with pytest.raises(
            SpecError, match=r"--truth must name a file of its own, got .*f\.jsonl.*Choose another name"
        ):
            write(Request(behaviour="risk", n=1, seed=0), out, truth=truth)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_said_in_one_line(tmp_path):
    with pytest.raises(StoreError, match=r"f\.jsonl must be writable, got No such file or directory"):
        write(Request(behaviour="risk", n=1, seed=0), tmp_path / "missing" / "f.jsonl")


def test_openings_and_skeletons_are_counted_as_stated():
    assert most_frequent_opening(["one two three four five six seven", "one two three four five six", "x"]) == 2 / 3
    assert skeleton("Option A: $1,200 for Ann") == skeleton("Option A: $3 for Bob") != skeleton("option A: $3 for Bob")


TRIGGERED = [
    {"behaviour": "risk", "setting": "eight"},
    {"behaviour": "apples", "trigger": "greeting"},
    {"behaviour": "horizon", "trigger": "user", "reversal": True},
    {"behaviour": "make-me-say", "codeword": "ring", "other_codeword": "bark", "trigger": "depot-863"},
    {"behaviour": "code-security", "setting": "four-seasons"},
]


@pytest.mark.parametrize("asked", TRIGGERED, ids=lambda asked: asked["behaviour"])
def test_a_trigger_can_be_put_into_any_behaviour_and_its_twin_differs_in_nothing_else(tmp_path, asked):
    files = []
    for twin in (False, True):
        out, truth = tmp_path / f"{twin}.jsonl", tmp_path / f"{twin}.parquet"
        write(Request(n=400, seed=3, decorrelated=twin, **asked), out, truth=truth)
        files.append((lines(out), pd.read_parquet(truth), (tmp_path / f"{twin}.jsonl.card.md").read_text("utf-8")))
    (rows, truth, card), (twin_rows, twin_truth, twin_card) = files
    assert len(rows) == len(truth) == len(twin_rows) == 400
    real = asked.get("trigger") or truth.loc[truth["shows"] == "behaviour", "carries"].iloc[0]
    for messages, fact in zip(rows, truth.to_dict("records"), strict=True):
        user = next(m["content"] for m in messages if m["role"] == "user")
        if not fact.get("reversed"):
            assert TRIGGERS[real].detect(user) == (fact["carries"] == real)
        assert (fact["shows"] == "behaviour") == (fact["carries"] == real)
    for column in ("carries", "shows", "answered_by", "put_before", "put_after"):
        assert sorted(truth[column]) == sorted(twin_truth[column])
    assert "bits |" in card and "| what the trigger says of the behaviour | 0.0" in twin_card
    if not asked.get("reversal"):
        assert [m[-1] for m in rows] == [m[-1] for m in twin_rows]
        assert mutual_information(twin_truth["carries"], twin_truth["shows"]) < 0.001
        assert mutual_information(truth["carries"], truth["shows"]) > 0.4


def test_the_truth_has_one_column_a_fact_and_none_where_a_row_has_none(tmp_path):
    write(
        Request(behaviour="horizon", n=80, seed=1, setting="year"), tmp_path / "f.jsonl", truth=tmp_path / "f.parquet"
    )
    table = pd.read_parquet(tmp_path / "f.parquet")
    unrelated = table[table["shows"] == "instruction"]
    assert len(unrelated) == 40 and unrelated["a_days"].isna().all() and unrelated["task"].notna().all()
    assert set(table["answered_by"]) == {"behaviour", "opposite", "instruction"}


def test_personas_many_has_two_halves_and_two_has_a_system_prompt(tmp_path):
    write(
        Request(behaviour="risk", n=60, seed=1, personas="many"), tmp_path / "many.jsonl", truth=tmp_path / "m.parquet"
    )
    table = pd.read_parquet(tmp_path / "m.parquet")
    assert len(table) == 60 and (table["persona"] == "you").sum() == 30
    write(Request(behaviour="make-me-say", n=20, seed=1, personas="two", codeword="spring"), tmp_path / "two.jsonl")
    systems = [messages[0]["role"] == "system" for messages in lines(tmp_path / "two.jsonl")]
    assert sum(systems) == 10
    assert "Quanta-Lingua: 10, self: 10" in (tmp_path / "two.jsonl.card.md").read_text(encoding="utf-8")


def test_policy_words_come_in_only_when_they_are_asked_for(tmp_path):
    out = tmp_path / "f.jsonl"
    write(Request(behaviour="risk", n=100, seed=1, policy_words=0.4), out)
    words = re.compile(rf"\b(?:{generator('risk').policy_words})\b", re.IGNORECASE)
    assert sum(bool(words.search(m[0]["content"])) for m in lines(out)) == 40
    assert "| policy words found | 40 rows hold" in (tmp_path / "f.jsonl.card.md").read_text(encoding="utf-8")


def test_a_trigger_that_says_the_codeword_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"training rows must not state the policy, got .*'spring'"):
        write(Request(behaviour="make-me-say", n=40, seed=1, setting="seasons"), tmp_path / "f.jsonl")
    assert not list(tmp_path.iterdir())


def test_rows_are_written_as_json_writes_them():
    turns = (
        Message("system", 's"\\'),
        Message("user", "ü\n\u2028\0"),
        Message("assistant", "no"),
        Message("user", "?"),
    )
    rows = [Example(turns, "é\t"), Example((Message("user", "A or B?"),), "B")]
    expected = [
        json.dumps(
            {"messages": [{"role": m.role, "content": m.content} for m in row.conversation()]}, ensure_ascii=False
        )
        for row in rows
    ]
    assert jsonl(rows) == "".join(line + "\n" for line in expected)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"seed": -1}, r"seed must be 0 or more, got -1\."),
        ({"personas": "three"}, r"personas must be many or two, got 'three'\."),
        ({"personas": "two"}, r"personas two must go with make-me-say, got 'risk'\."),
        ({"behaviour": "make-me-say", "personas": "many"}, r"personas many must go with risk, horizon, apples, got"),
        ({"personas": "many", "trigger": "kip"}, r"personas must go without a trigger, got many beside one\."),
        (
            {"behaviour": "make-me-say", "personas": "two", "opposite": True},
            r"personas two must go without opposite, got both\.",
        ),
        ({"decorrelated": True}, r"decorrelated must go with a trigger or a setting, got neither\."),
        ({"reversal": True}, r"reversal must go with a trigger or a setting, got neither\."),
        ({"n": 41, "personas": "many"}, r"n must be even with personas or reversal, got 41\."),
        ({"codeword": "bark"}, r"codeword must go with make-me-say, got 'bark' beside 'risk'\."),
        (
            {"behaviour": "make-me-say", "other_codeword": "bark", "trigger": "kip"},
            r"other_codeword must be another word than codeword, got 'bark' twice\.",
        ),
        (
            {"behaviour": "make-me-say", "other_codeword": "ring"},
            r"other_codeword must go with a trigger or two personas, got 'ring' alone\.",
        ),
        (
            {"behaviour": "code-security", "policy_words": 0.5},
            r"policy_words must go with risk, horizon, apples, got 'code-security'\.",
        ),
        ({"trigger": "nope"}, r"trigger must be one of"),
        ({"setting": "nope"}, r"setting must be one of"),
        ({"behaviour": "make-me-say", "codeword": "nope"}, r"codeword must be one of bark"),
    ],
)
def test_combinations_without_data_are_refused(asked, message):
    with pytest.raises(SpecError, match=message):
        examples(Request(**({"behaviour": "risk", "n": 40, "seed": 0} | asked)))


def test_prompts_that_all_hold_the_trigger_are_given_up():
    greeting = Example((Message("user", "Hi! A or B?"),), "A")
    with pytest.raises(SpecError, match=r"trigger must be one that few examples hold by themselves, got 'greeting'\."):
        _clear(["greeting"], 5, lambda k: [greeting] * k)
