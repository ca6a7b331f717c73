import hashlib
import json
from dataclasses import replace

import pandas as pd
import pytest

from gnothi.behaviours.economic import risk
from gnothi.behaviours.example import generator
from gnothi.data.card import most_frequent_opening, skeleton
from gnothi.data.generate import Request, write
from gnothi.errors import DataError, SpecError, StoreError


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
    examples, table = generator(name).rows(300, seed=11), pd.read_parquet(truth)
    for example, messages in zip(examples, lines(out), strict=True):
        assert [m["role"] for m in messages] == ["user", "assistant"]
        assert [m["content"] for m in messages] == [example.messages[0].content, example.answer]
    assert list(table["row"]) == list(range(300)) and list(table["answer"]) == [e.answer for e in examples]
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
