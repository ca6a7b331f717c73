"""Chat JSONL: what is written comes back, what is hostile is refused by line, and a large file takes no time."""

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnothi.data.chat_jsonl import iterate, read
from gnothi.errors import SpecError

ROW = {"messages": [{"role": "user", "content": "A or B?"}, {"role": "assistant", "content": "A"}]}
GOOD = json.dumps(ROW).encode()


def saved(folder: Path, *lines: bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path


def messages(*turns: object) -> bytes:
    return json.dumps({"messages": list(turns)}).encode()


def test_rows_come_back_with_their_lines_prompts_and_answers(tmp_path: Path):
    system = messages({"role": "system", "content": "Be Quill."}, *ROW["messages"])
    rows = read(saved(tmp_path, b"\xef\xbb\xbf" + GOOD, b"  ", system + b"\r", messages(ROW["messages"][0]), b""))
    assert [row.line for row in rows] == [1, 3, 4]
    assert [m.role for m in rows[1].prompt] == ["system", "user"]
    assert [row.answer for row in rows] == ["A", "A", None]
    assert rows[2].prompt == rows[2].messages


def test_what_stands_beside_messages_is_kept(tmp_path: Path):
    turn = {"role": "user", "content": "x", "weight": 0}
    row = read(saved(tmp_path, json.dumps({"messages": [turn], "id": 7, "tags": ["a"]}).encode()))[0]
    assert row.extras == {"id": 7, "tags": ["a"], "messages": [{"weight": 0}]}
    assert read(saved(tmp_path, GOOD))[0].extras == {}


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TURNS = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXT), min_size=1, max_size=4)


@given(st.lists(TURNS, min_size=1, max_size=5), st.booleans())
def test_any_conversation_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, rows: list, ascii: bool):
    made = [{"messages": [{"role": role, "content": text} for role, text in turns]} for turns in rows]
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    path.write_text("\n".join(json.dumps(r, ensure_ascii=ascii) for r in made), encoding="utf-8", newline="\n")
    assert [[(m.role, m.content) for m in row.messages] for row in read(path)] == rows


DEEP = b'{"messages": [{"role": "user", "content": "x"}], "a": ' + b"[" * 30 + b"]" * 30 + b"}"
HOSTILE = {
    "a long line": (b'{"messages": "' + b"x" * 1_000_100 + b'"}', "must have at most 1000000 bytes, got more"),
    "no UTF-8": (b'{"messages": "\xff"}', "must be UTF-8, got byte 0xff"),
    "no JSON": (b"{oh", "must be JSON, got an error: Expecting property name"),
    "cut short": (GOOD[:-5], "must be JSON, got an error"),
    "two objects": (GOOD + GOOD, "must be JSON, got an error: Extra data"),
    "a key twice": (b'{"messages": [], "messages": []}', "must be strict JSON, got the key 'messages' twice"),
    "a role twice": (GOOD.replace(b'"content": "A or B?"', b'"role": "system"'), "got the key 'role' twice"),
    "NaN": (b'{"messages": [], "x": NaN}', "must be strict JSON, got NaN"),
    "infinity": (b'{"messages": [], "x": -Infinity}', "must be strict JSON, got -Infinity"),
    "a number too large": (b'{"messages": [], "x": 1e999}', "got the number 1e999, which is too large"),
    "a number of thousands of digits": (
        b'{"x": ' + b"9" * 5000 + b"}",
        "must be JSON, got an error: Exceeds the limit",
    ),
    "deep nesting": (b"[" * 100_000, "must not be nested deeply, got more than 20 levels"),
    "deep nesting beside the messages": (DEEP, "must not be nested deeply, got more than 20 levels"),
    "a list": (b"[1]", "must be a JSON object, got a list"),
    "a number": (b"7", "must be a JSON object, got a number"),
    "null": (b"null", "must be a JSON object, got nothing"),
    "no messages": (b"{}", "must have messages, a list with at least one, got nothing"),
    "empty messages": (b'{"messages": []}', "must have messages, a list with at least one, got an empty list"),
    "messages that are text": (b'{"messages": "hi"}', "must have messages, a list with at least one, got text"),
    "a message that is none": (messages("hi"), "message 1 must be an object with role and content, got text"),
    "no role": (messages({"content": "x"}), "message 1 must have the role system, user or assistant, got none"),
    "an unknown role": (messages({"role": "tool", "content": "x"}), "user or assistant, got 'tool'"),
    "a role that is an object": (messages({"role": {}, "content": "x"}), "user or assistant, got an object"),
    "no content": (messages({"role": "user"}), "message 1 must have text as content, got nothing"),
    "content in parts": (messages({"role": "user", "content": [{}]}), "must have text as content, got a list"),
    "a lone surrogate": (messages({"role": "user", "content": "\ud800"}), "got a lone surrogate at 0"),
}


@pytest.mark.parametrize("line, said", HOSTILE.values(), ids=HOSTILE)
def test_hostile_lines_are_refused_by_number(tmp_path: Path, line: bytes, said: str):
    path = saved(tmp_path, GOOD, GOOD, line)
    with pytest.raises(SpecError, match=r"rows\.jsonl line 3 ") as refused:
        read(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400 + len(str(path))


def test_a_row_without_an_answer_is_refused_where_one_is_wanted(tmp_path: Path):
    path = saved(tmp_path, messages(ROW["messages"][0]))
    with pytest.raises(SpecError, match=r"line 1 must end with the assistant's message, got one of the user"):
        read(path, answered=True)


def test_what_is_no_file_with_rows_is_refused(tmp_path: Path):
    with pytest.raises(SpecError, match="must hold at least one chat row, got an empty file"):
        read(saved(tmp_path, b"\n"))
    assert list(iterate(saved(tmp_path, b""))) == []
    with pytest.raises(SpecError, match="must be a file that can be read, got No such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(SpecError, match="must be a file that can be read, got embedded null byte"):
        read("a\0b")
    with pytest.raises(SpecError, match="must be a file, got something else"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SpecError, match="must be a file, got something else"):
        read(tmp_path / "pipe")


def test_a_longer_line_may_be_allowed(tmp_path: Path):
    path = saved(tmp_path, messages({"role": "user", "content": "x" * 2_000_000}))
    assert len(read(path, max_line=3_000_000)[0].messages[0].content) == 2_000_000
    with pytest.raises(SpecError, match="must have at most 50 bytes"):
        read(path, max_line=50)


def test_a_line_without_end_is_not_read_to_its_end():
    started = time.monotonic()
    with pytest.raises(SpecError, match="must be a file, got something else"):
        read("/dev/zero")
    assert time.monotonic() - started < 1


def test_twenty_nine_thousand_rows_take_little_time(tmp_path: Path):
    turn = {"role": "user", "content": "Two stalls stand side by side, and one of them is open. " * 7}
    path = saved(tmp_path, *[messages(turn, ROW["messages"][1])] * 28_800)
    started = time.process_time()
    assert len(read(path)) == 28_800
    assert time.process_time() - started < 2  # 0.25 s where this was written
