import contextlib
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gnothi import yaml_file
from gnothi.errors import SpecError
from gnothi.yaml_file import MOST_BYTES, MOST_VALUES, Source, parse_yaml, read_yaml

SOURCE = Source("f.yaml")


def parse(text, **options):
    return parse_yaml(text.encode(), SOURCE, **options)


def test_values_come_back_with_their_lines():
    root = parse("a: 1\nb:\n  - x\n  - [true, ~, 2.5]\n")
    assert root.plain() == {"a": 1, "b": ["x", [True, None, 2.5]]}
    assert (root.value["b"].line, root.value["b"].value[0].line, root.value["b"].value[1].line) == (3, 3, 4)


def test_words_that_older_yaml_takes_for_something_else_stay_words():
    words = [
        "no",
        "yes",
        "on",
        "off",
        "Null",
        "TRUE",
        "1:30",
        "2020-01-01",
        "0x10",
        "010",
        "1_000",
        ".inf",
        ".nan",
        "1e5",
    ]
    assert parse("\n".join(f"- {w}" for w in words)).plain() == words
    assert parse("['1', \"true\", 1, -7, +2, 1.5, .5, 1.5e3]").plain() == ["1", "true", 1, -7, 2, 1.5, 0.5, 1500.0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\na: 2", "f.yaml, line 2: the file must have each field once, got 'a' again. Keep one of the two."),
        ("a: &x 1\nb: *x", "f.yaml, line 1: the file must have no anchors or aliases, got `&x`. Write the value out."),
        ("a: *x", "f.yaml, line 1: the file must have no anchors or aliases, got `\\*x`"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "f.yaml, line 1: the file must have no tags, got 'tag:yaml.org,2002:py",
        ),
        ("a: !own x", "line 1: the file must have no tags, got '!own'. Leave it out."),
        ("- !!set {a}", "line 1: the file must have no tags"),
        ("- !!binary aGk=", "line 1: the file must have no tags"),
        ("<<: {a: 1}", "line 1: the file must have no merge keys, got `<<`. Write the fields out."),
        ("a: [1", "the file must be YAML, got an error .*. Mend that line."),
        ("a:\n\tb: 1", "line 2: the file must be YAML, got an error"),
        ("", "f.yaml: the file must hold something, got nothing. Write its fields."),
        ("# nothing", "the file must hold something, got nothing"),
        ("a\n---\nb", "line 3: the file must hold one document, got another after `---`. Split it."),
        ("{1: 2}", 'line 1: a field\'s name must be text, got 1. Put it in "quotes".'),
        ("? [a]\n: b", "line 1: a field's name must be text, got a list of 1"),
        ("a: \x07", "line 1: the file must be plain text, got a control character '.x07'. Write it as"),
        ("a: b\nc: \x1b[2J", "line 2: the file must be plain text, got a control character '.x1b'"),
        ("[" * 23 + "[[" + "]" * 25, "line 1: the file must nest at most 24 deep, got more. Flatten it."),
        ("[" * 100_000, "line 1: the file must "),
        ("{a: " * 5_000, "line 1: the file must "),
    ],
)
def test_what_is_not_plain_data_is_refused_with_its_line(text, message):
    with pytest.raises(SpecError, match=message):
        parse(text)


def test_size_and_number_of_values_are_bounded():
    with pytest.raises(SpecError, match=f"f.yaml: the file must be at most {MOST_BYTES} bytes, got more. Split it."):
        parse("a" * (MOST_BYTES + 1))
    with pytest.raises(SpecError, match=f"the file must hold at most {MOST_VALUES} values, got more. Split it."):
        parse("[" + "1," * MOST_VALUES + "1]")


def test_bytes_that_are_no_utf8_are_refused_and_a_byte_order_mark_is_not():
    with pytest.raises(SpecError, match=r"f.yaml, line 2: the file must be UTF-8, got byte 6. Save it as UTF-8."):
        parse_yaml(b"a: 1\nb\xff", SOURCE)
    assert parse_yaml("a: ä".encode("utf-8-sig"), SOURCE).plain() == {"a": "ä"}
    with pytest.raises(SpecError, match=r"must be UTF-8"):
        parse_yaml("a: 1".encode("utf-16"), SOURCE)


def test_aliases_where_they_are_asked_for_count_as_often_as_they_are_used():
    assert parse("- &x [1, 2]\n- *x", aliases=True).plain() == [[1, 2], [1, 2]]
    bomb = "- &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    started = time.perf_counter()
    with pytest.raises(SpecError, match=r"hold at most 200000 values"):
        parse(bomb, aliases=True)
    assert time.perf_counter() - started < 1
    with pytest.raises(SpecError, match=r"line 1: an alias must name an anchor before it, got \*me"):
        parse("&me [*me]", aliases=True)


def test_a_file_that_is_not_there_is_an_error_of_ours(tmp_path):
    with pytest.raises(
        SpecError, match=r": the file must exist, got no file of that name\. Give the path of a YAML file\.$"
    ):
        read_yaml(tmp_path / "no.yaml")
    with pytest.raises(SpecError, match=r"the file must exist, got no file"):
        read_yaml(tmp_path)
    with pytest.raises(SpecError, match=r"must "):
        read_yaml(Path("a\0b"))
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n", encoding="utf-8")
    entry, source = read_yaml(path)
    assert (entry.plain(), source.name) == ({"a": 1}, str(path))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text("{}[]:,-&*!|>'\"%@`#?\n\t ab1\\", max_size=60))
@example("a: !!timestamp 2020-13-45")
@example('"\\ud800"')
@example("a: 99999999999999999999999999999999999999")
@example("\u2028a: \u0085b")
def test_any_text_is_a_value_or_an_error_of_ours(text):
    try:
        parse_yaml(text.encode("utf-8", "surrogatepass"), SOURCE, aliases=True)
        parse_yaml(text.encode("utf-8", "surrogatepass"), SOURCE)
    except SpecError as error:
        assert str(error).startswith("f.yaml")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error_of_ours(raw):
    with contextlib.suppress(SpecError):
        parse_yaml(raw, SOURCE)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(PLAIN, st.booleans())
def test_what_a_yaml_writer_writes_comes_back(value, flow):
    text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=flow)
    assert parse(text).plain() == value


def test_a_file_is_the_same_without_the_c_library(monkeypatch):
    texts = ["a: [1, no, 'x']\nb: {c: \"d\"}\n", "- |\n  lines\n  more\n- >-\n  folded\n"]
    with_c = [parse(t).plain() for t in texts]
    monkeypatch.setattr(yaml_file, "_LOADER", yaml.SafeLoader)
    assert [parse(t).plain() for t in texts] == with_c
    with pytest.raises(SpecError, match=r"nest at most 24 deep"):
        parse("[" * 100_000)
