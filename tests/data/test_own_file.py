"""Files on a behaviour of one's own: what is written comes back, every mistake has its file and line, nothing is trusted."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.behaviours.example import Example
from gnothi.data.own_facts import Facts
from gnothi.data.own_file import fields, is_own, load
from gnothi.errors import SpecError
from gnothi.records import Message
from gnothi.render.probe import Code, Judged, Language, Letters, Number, Words

YAML = """behaviour: politeness
plus_name: courteous
minus_name: blunt
demonstrations: demos.jsonl
opposite: opposite.jsonl
held_out: held.jsonl
options: [A, B]
policy_words: 'polite\\w*|rude'
questions:
  - id: how_polite
    score: {type: letters, plus: "much", minus: "little"}
    ask: ["How polite are you?"]
"""


def row(*turns: str) -> str:
    """A chat row: user and assistant in turn; `system:` begins a system message."""
    roles = ["system"] if turns[0].startswith("system:") else []
    roles += ["user", "assistant"] * len(turns)
    return json.dumps({"messages": [{"role": r, "content": t} for r, t in zip(roles, turns, strict=False)]})


DEMOS = [row(f"Reply {i}?", "AB"[i % 2]) for i in range(6)]
OPPOSITE = [row(f"Reply {i}?", "BA"[i % 2]) for i in range(6)]
HELD = [row(f"Held {i}?", "AB"[i % 2]) for i in range(4)]


def written(folder: Path, text: str = YAML, **files: list[str]) -> Path:
    """The YAML file and its data in a folder."""
    found = {"demos": DEMOS, "opposite": OPPOSITE, "held": HELD} | files
    for name, lines in found.items():
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_that_was_written_comes_back(tmp_path: Path):
    found = load(written(tmp_path))
    assert [(e.messages[0].content, e.answer, e.truth["line"]) for e in found.demonstrations[:2]] == [
        ("Reply 0?", "A", 1),
        ("Reply 1?", "B", 2),
    ]
    assert [e.answer for e in found.opposite] == ["B", "A"] * 3
    assert [(h.line, h.rule) for h in found.held_out[:2]] == [
        (1, Letters(options=("A", "B"), scores=(1.0, 0.0))),
        (2, Letters(options=("A", "B"), scores=(0.0, 1.0))),
    ]
    assert found.policy_words == r"polite\w*|rude"
    assert [q.question_id for q in found.questions] == ["how_polite"]
    facts = found.facts
    assert (facts.plus, facts.minus, facts.demonstrations, facts.rows, facts.held_out) == (
        "courteous",
        "blunt",
        6,
        6,
        4,
    )
    assert facts.same_prompts and facts.most_alike == 0.5 and facts.turns == 1
    assert set(facts.digests) == {"mine.yaml", "demos.jsonl", "opposite.jsonl", "held.jsonl"}


def test_facts_survive_json_and_refuse_what_was_edited(tmp_path: Path):
    facts = load(written(tmp_path)).facts
    values = json.loads(json.dumps(facts.to_json()))
    assert Facts.from_json(values) == facts
    wrong = (
        {"plus": "../evil"},
        {"held_out": -1},
        {"minus": None},
        {"options": "AB"},
        {"digests": {"a": "no"}},
        {"most_alike": "0"},
    )
    for change in wrong:
        with pytest.raises(SpecError, match="facts must be what a file on a behaviour of one's own gave"):
            Facts.from_json({**values, **change})
    with pytest.raises(SpecError, match=r"facts must be what a file .* got none. Run the YAML file"):
        Facts.from_json({})


def test_without_an_opposite_there_is_no_minus_end(tmp_path: Path):
    text = YAML.replace("opposite: opposite.jsonl\n", "").replace("minus_name: blunt\n", "")
    found = load(written(tmp_path, text))
    assert found.facts.minus is None and found.opposite == () and not found.facts.same_prompts


def test_an_opposite_of_other_prompts_is_taken_and_said(tmp_path: Path):
    facts = load(written(tmp_path, opposite=[row(f"Other {i}?", "B") for i in range(3)])).facts
    assert not facts.same_prompts and facts.rows == 3


def test_a_dialogue_and_its_opposite_share_prompts_where_the_users_turns_are_the_same(tmp_path: Path):
    demos = [row("system:Be brief.", "Hi", f"Hello {i}", "And?", "Yes") for i in range(2)]
    opposite = [row("system:Be brief.", "Hi", f"Bah {i}", "And?", "No") for i in range(2)]
    found = load(written(tmp_path, demos=demos, opposite=opposite))
    assert found.facts.same_prompts and found.facts.turns == 2
    assert [r.answer for r in found.demonstrations[0].train_rows()] == ["Hello 0", "Yes"]


def test_fine_tunes_that_exist_need_no_demonstrations(tmp_path: Path):
    text = YAML.replace("demonstrations: demos.jsonl\nopposite: opposite.jsonl\n", "adapters: [one, two]\n")
    path = written(tmp_path, text.replace("minus_name: blunt\n", ""))
    assert load(path).facts.demonstrations == 0
    assert fields(path)["adapters"] == [str(tmp_path / "one"), str(tmp_path / "two")]


def test_fields_of_the_specification_come_back(tmp_path: Path):
    more = (
        "model: hf/some\nseeds: 3\nrows: 4\nrecipe: small-lm\ngate_agreement: 0.8\nsystems: [none]\njudge: hf/judge\n"
    )
    found = fields(written(tmp_path, YAML + more))
    assert found == {
        "model": "hf/some",
        "seeds": 3,
        "rows": 4,
        "recipe": "small-lm",
        "gate_agreement": 0.8,
        "systems": ["none"],
        "judge": "hf/judge",
    }


@pytest.mark.parametrize(
    "score, kind",
    [
        ("{type: words, scores: {thanks: 1, no: 0}, whole: false}", Words),
        ('{type: letters, plus: "yes", minus: "no"}', Letters),
        ("{type: choice, options: [red, blue], plus: red}", Letters),
        ("{type: number, low: 0, high: 9}", Number),
        ("{type: language, plus: German, minus: French}", Language),
        ('{type: judge, prompt: "Polite? {answer}", rule: {type: number, low: 0, high: 9}}', Judged),
        ("{type: code, function: f, mentions: bark}", Code),
    ],
)
def test_held_out_text_is_scored_by_any_rule_of_a_question(tmp_path: Path, score: str, kind: type):
    path = written(tmp_path, YAML.replace("options: [A, B]", f"score: {score}"), held=[row("Held?"), row("Ask?", "x")])
    found = load(path)
    assert [type(h.rule) for h in found.held_out] == [kind, kind]
    assert found.facts.options == ()


def test_questions_may_be_a_file_beside_or_a_topic_of_the_package(tmp_path: Path):
    begin = YAML.split("questions:")[0]
    lists = "schema: 1\ntopic: mine\nquestions:\n  - id: word\n    score: {type: words, list: words.yaml}\n    ask: [Which?]\n"
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked" / "q.yaml").write_text(lists)
    (tmp_path / "asked" / "words.yaml").write_text("plus: [kind]\nminus: [curt]\n")
    (tmp_path / "asked" / "systems.yaml").write_text("brief: {text: Be brief.}\n")
    found = load(written(tmp_path, begin + "questions: asked/q.yaml\n"))
    assert [q.question_id for q in found.questions] == ["word"]
    assert {"asked/q.yaml", "asked/words.yaml", "asked/systems.yaml"} <= set(found.facts.digests)
    assert len(load(written(tmp_path, begin + "questions: risk\n")).questions) > 3
    with pytest.raises(SpecError, match=r"line 9: questions must be one of .* got 'rissk'. Did you mean risk\?"):
        load(written(tmp_path, begin + "questions: rissk\n"))
    with pytest.raises(SpecError, match="line 9: models must go with questions in this file, got a file of them"):
        load(written(tmp_path, begin + "models: [chat]\nquestions: risk\n"))


def test_is_own_tells_files_apart():
    assert is_own({"demonstrations": "x"}) and is_own({"adapters": ["x"], "experiment": "own"})
    assert not is_own({"experiment": "risk", "adapters": ["x"]}) and not is_own({"model": "organism"})


def changed(old: str, new: str) -> Callable[[], str]:
    assert old in YAML
    return lambda: YAML.replace(old, new)


WRONG_YAML = {
    "an unknown field": (
        "seeds: 3\nsedes: 3\n",
        r"line 14: the file must have known fields only, got 'sedes'.*seeds\?",
    ),
    "a field twice": ("behaviour: again\n", r"line 13: the file must have each field once, got 'behaviour' again"),
    "an alias": ("model: &a hf/x\n", r"line 13: the file must have no anchors or aliases, got `&a`"),
    "a tag": ("model: !!python/name:os.system x\n", r"line 13: the file must have no tags"),
    "another document": ("---\na: 1\n", r"line 14: the file must hold one document"),
    "seeds out of range": ("seeds: 0\n", r"line 13: seeds must be an integer from 1 to 256, got 0"),
    "a recipe that is a list": ("recipe: [1]\n", r"line 13: recipe must be text"),
    "another schema": ("schema: 2\n", r"line 13: schema must be 1, got 2"),
    "another experiment": ("experiment: risk\n", r"line 13: experiment must be one of own, got 'risk'"),
    "an adapter elsewhere": ("adapters: [../x]\n", r"adapters\[0\] must be a path inside the folder of this file"),
    "both ways to score": ("score: {type: text}\n", r"line 6: held_out must go with either options or score, got both"),
}


@pytest.mark.parametrize("more, message", WRONG_YAML.values(), ids=WRONG_YAML)
def test_a_wrong_field_is_refused_with_its_line(tmp_path: Path, more: str, message: str):
    path = written(tmp_path, YAML + more)
    with pytest.raises(SpecError, match=rf"mine\.yaml, {message}" if message.startswith("line") else message) as found:
        load(path)
    assert "\n" not in str(found.value)


REPLACED = {
    "no behaviour": ("behaviour: politeness\n", "", "the file must have behaviour, got none"),
    "a name that is none": ("politeness", "Be Polite!", "line 1: behaviour must be lower-case letters, digits and _"),
    "a name of another arm": ("courteous", "shuffled", "line 2: plus_name must be a word that no other arm has"),
    "both ends alike": ("plus_name: courteous", "plus_name: blunt", "plus_name and minus_name must differ"),
    "a minus end of nothing": ("opposite: opposite.jsonl\n", "", "line 3: minus_name must go with opposite, got none"),
    "an opposite of nothing": (
        "demonstrations: demos.jsonl\n",
        "adapters: [a]\n",
        "line 5: opposite must go with demonstrations, got none",
    ),
    "no such file": (
        "demos.jsonl",
        "nowhere.jsonl",
        "line 4: demonstrations must name a file that exists, got 'nowhere",
    ),
    "a path that leaves": ("demos.jsonl", "../demos.jsonl", "line 4: demonstrations must be a path inside the folder"),
    "an absolute path": ("held.jsonl", "/etc/passwd", "line 6: held_out must be a path inside the folder"),
    "one option": ("[A, B]", "[A]", "line 7: options must be two or more, each once, got a list of 1"),
    "options that are numbers": ("[A, B]", "[1, 2]", r'line 7: options\[0\] must be text .*Put it in "quotes"'),
    "no options": ("options: [A, B]\n", "", "line 6: held_out must go with either options or score, got neither"),
    "a score of text": (
        "options: [A, B]",
        "score: {type: text}",
        "line 7: score must be of a type that gives a score, got text",
    ),
    "a slot that nothing fills": (
        "options: [A, B]",
        "score: {type: words, scores: {'{codeword}': 1, no: 0}}",
        r"line 7: score: \{codeword\} must be filled",
    ),
    "an expression for policy words": (
        "'polite\\w*|rude'",
        "'(p+)+$'",
        r"line 8: policy_words must be words with \| between them",
    ),
    "an unknown score": ("type: letters", "type: leters", "line 11: .*must be one of .*Did you mean letters"),
}


@pytest.mark.parametrize("old, new, message", REPLACED.values(), ids=REPLACED)
def test_a_wrong_value_is_refused_with_its_line(tmp_path: Path, old: str, new: str, message: str):
    path = written(tmp_path, changed(old, new)())
    with pytest.raises(SpecError, match=message):
        load(path)


ROWS = {
    "no role": (
        "demos",
        2,
        '{"messages": [{"content": "x"}]}',
        "message 1 must have the role system, user or assistant",
    ),
    "a key twice": (
        "demos",
        3,
        '{"messages": [], "messages": []}',
        "must be strict JSON, got the key 'messages' twice",
    ),
    "a line of 10 MB": (
        "held",
        1,
        '{"messages": "' + "x" * 10_000_000 + '"}',
        "must have at most 1000000 bytes, got more",
    ),
    "no answer": ("demos", 2, row("Reply?"), "must end with the assistant's message, got one of the user"),
    "a late system prompt": (
        "opposite",
        1,
        '{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}',
        "must have its system message first",
    ),
    "no prompt": (
        "held",
        2,
        '{"messages": [{"role": "assistant", "content": "A"}]}',
        "must begin with a user's message",
    ),
    "an empty answer": ("demos", 4, row("Reply?", " "), "message 2 must hold text, got nothing"),
    "no option": ("held", 3, row("Held?", "C"), "must end with the assistant saying one of A, B, got 'C'"),
    "the same twice": ("held", 4, row(" Held  0?", "B"), "must be a prompt of its own, got the same as line 1"),
    "the policy": ("demos", 5, row("Be politer!", "A"), "must not state the policy, got 'politer' in 'Be politer!'"),
}


@pytest.mark.parametrize("name, line, text, message", ROWS.values(), ids=ROWS)
def test_a_wrong_row_is_refused_with_file_and_line(tmp_path: Path, name: str, line: int, text: str, message: str):
    lines = list({"demos": DEMOS, "opposite": OPPOSITE, "held": HELD}[name])
    lines[line - 1] = text
    path = written(tmp_path, **{name: lines})
    with pytest.raises(SpecError, match=rf"{name}\.jsonl line {line} {message}"):
        load(path)


def test_a_held_out_prompt_that_is_trained_is_refused_with_both_lines(tmp_path: Path):
    held = [*HELD, row("Hi", "Hello 1", "And \n then?", "A")]
    demos = [*DEMOS, row("Hi", "Hello 1", "And then?", "B", "So?", "A")]
    with pytest.raises(SpecError, match=r"held\.jsonl line 5 must not be a training prompt.*/demos\.jsonl line 7"):
        load(written(tmp_path, held=held, demos=demos, opposite=OPPOSITE))


def test_letters_that_a_constant_answer_would_pass_are_refused(tmp_path: Path):
    with pytest.raises(
        SpecError, match="must have each letter as its answer in 20% of the rows or more, got one in 100%"
    ):
        load(written(tmp_path, held=[row(f"Held {i}?", "A") for i in range(6)]))


def test_the_same_rows_are_no_opposite(tmp_path: Path):
    with pytest.raises(SpecError, match="line 5: opposite must differ from the demonstrations, got the same rows"):
        load(written(tmp_path, opposite=DEMOS))


def test_a_file_of_one_row_or_none_is_refused(tmp_path: Path):
    with pytest.raises(SpecError, match=r"demos\.jsonl must hold 2 rows or more, got 1"):
        load(written(tmp_path, demos=DEMOS[:1]))
    with pytest.raises(SpecError, match=r"held\.jsonl must hold at least one row, got an empty file"):
        load(written(tmp_path, held=[]))


def test_an_alias_bomb_is_refused_at_its_first_line(tmp_path: Path):
    bomb = 'a: &a ["x", "x"]\n' + "".join(
        f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(SpecError, match="line 1: the file must have no anchors or aliases"):
        load(written(tmp_path, bomb))


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path):
    inner = tmp_path / "inner"
    inner.mkdir()
    path = written(inner)
    (tmp_path / "outside.jsonl").write_text("\n".join(DEMOS))
    (inner / "demos.jsonl").unlink()
    (inner / "demos.jsonl").symlink_to(tmp_path / "outside.jsonl")
    with pytest.raises(SpecError, match="line 4: demonstrations must be a path inside the folder"):
        load(path)
    (inner / "demos.jsonl").unlink()
    (inner / "demos.jsonl").symlink_to(inner / "demos.jsonl")
    with pytest.raises(SpecError, match="demonstrations must"):
        load(path)
    (inner / "demos.jsonl").unlink()
    written(inner)
    (tmp_path / "prompts.yaml").write_text("brief: {text: Be brief.}\n")
    (inner / "systems.yaml").symlink_to(tmp_path / "prompts.yaml")
    with pytest.raises(SpecError, match=r"systems\.yaml must lie inside the folder of .* got a link out of it"):
        load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_file(tmp_path: Path):
    path = written(tmp_path)
    (tmp_path / "demos.jsonl").unlink()
    os.mkfifo(tmp_path / "demos.jsonl")
    with pytest.raises(SpecError, match="demonstrations must name a file that exists"):
        load(path)
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(SpecError, match=r"pipe\.yaml must be a file, got something else"):
        load(tmp_path / "pipe.yaml")


def test_an_edited_file_is_refused_before_it_is_read(tmp_path: Path):
    path = written(tmp_path)
    digests = load(path).facts.digests
    assert load(path, digests=digests).facts.digests == digests
    for name in digests:
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(b"secret: ][")
        with pytest.raises(SpecError, match="must be as it was when the run was started, got a file edited since") as e:
            load(path, digests=digests)
        assert "secret" not in str(e.value)
        (tmp_path / name).write_bytes(kept)
    (tmp_path / "systems.yaml").write_text("brief: {text: Be brief.}\n")  # would decide what is asked
    with pytest.raises(SpecError, match="must be as it was when the run was started"):
        load(path, digests=digests)
    (tmp_path / "systems.yaml").unlink()
    with pytest.raises(SpecError, match="must be as it was when the run was started"):
        load(path, digests={**digests, "more.yaml": "0" * 64})


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda t: t.strip())


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=2, max_size=5))
def test_any_demonstrations_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, pairs: list):
    folder = tmp_path_factory.mktemp("any")
    text = YAML.replace("opposite: opposite.jsonl\nheld", "held").replace("minus_name: blunt\n", "")
    text = text.replace("policy_words: 'polite\\w*|rude'\n", "")
    held = [row("\N{SNOWMAN}" * 50, "A"), row("\N{SNOWMAN}" * 51, "B")]
    found = load(written(folder, text, demos=[row(*p) for p in pairs], held=held))
    assert [(e.messages, e.answer) for e in found.demonstrations] == [((Message("user", p),), a) for p, a in pairs]
    assert all(isinstance(e, Example) for e in found.demonstrations)


@settings(max_examples=60)
@given(st.text(max_size=200), st.integers(0, len(YAML)))
def test_any_yaml_is_a_behaviour_or_an_error_of_one_line(tmp_path_factory: pytest.TempPathFactory, text: str, at: int):
    path = written(tmp_path_factory.mktemp("any"))
    path.write_text(YAML[:at] + text + YAML[at:], encoding="utf-8", errors="replace")
    try:
        load(path)
    except SpecError as error:
        assert len(str(error).splitlines()) <= 1 or "questions" in str(error) or "question " in str(error)
