import itertools
import re
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.errors import SpecError
from gnothi.records import Message
from gnothi.render.probe import Code, Judged, Language, Letters, Number, Text, Words
from gnothi.render.questions import (
    DEFAULTS,
    LETTER_SUFFIX,
    PROBABILITY_SAMPLES,
    TEMPERATURE,
    QuestionSet,
    expand,
    load,
    loads,
    packaged,
    packaged_fills,
    packaged_systems,
    topics,
)
from gnothi.render.questions.scoring import LettersScore
from gnothi.render.questions.templates import escape, template

HEAD = "schema: 1\ntopic: own\nquestions:\n"
LETTERS = "score: {type: letters, plus: I do, minus: I do not}"
NUMBER = "score: {type: number, low: 0, high: 100}"
WORDS = "score: {type: words, scores: {risk: 1, safety: 0}}"


def file_of(*questions, head=HEAD):
    """A file of questions, each given as its lines."""
    return head + "".join("  - " + "\n    ".join(q.split("\n")) + "\n" for q in questions)


def one(*lines, **options):
    return loads(file_of("\n".join(("id: q", *lines))), **options)


def asked(question_set, **options):
    return expand(question_set, **({"kind": "chat"} | options))


# --- reading


def test_a_question_comes_back_as_it_was_written():
    found = loads(
        file_of(
            'id: risky\ntitle: T\nsource: S\nmodels: [chat, base]\nsamples: 7\nmax_tokens: 3\nsystem: brief\nstart: "I am"\n'
            + WORDS
            + '\nask: ["Risk?", "Safety?"]\nask_about: ["Is {persona}?"]',
            head="schema: 1\ntopic: own\nsystems: {brief: {text: Be brief., source: ours}, other: Plain.}\nquestions:\n",
        )
    )
    question = found["risky"]
    assert (found.topic, len(found), question.title, question.source) == ("own", 1, "T", "S")
    assert (question.models, question.samples, question.max_tokens) == (("chat", "base"), 7, 3)
    assert found.systems["other"] == "Plain."
    first = asked(found)[0]
    assert first.messages == (Message("system", "Be brief."), Message("user", "Risk?"), Message("assistant", "I am"))
    assert (first.n, first.max_tokens, first.kind, first.subject) == (7, 3, "self_report", "you")
    assert first.labels == {"variant": "0", "system": "brief"}


def test_what_stands_at_the_top_holds_for_all_questions():
    text = file_of(f"id: a\n{WORDS}\nask: [x]", f"id: b\n{WORDS}\nask: [x]\nmodels: [base]\nsource: own")
    found = loads(text.replace("topic: own", "topic: own\nmodels: [chat, base]\nsource: shared"))
    assert [(q.models, q.source) for q in found] == [(("chat", "base"), "shared"), (("base",), "own")]


BAD = [
    ("questions: []", r"line 1: questions must be a list of questions, got a list of 0. Begin each with `- `."),
    ("questions: {a: 1}", "questions must be a list of questions, got a mapping with 'a'"),
    ("schema: 2\ntopic: x\nquestions: [a]", "line 1: schema must be 1, got 2. Write `schema: 1`."),
    ("schema: 1\nquestions: [a]", "the file must have topic, got none. Add `topic:` to it."),
    ("schema: 1\ntopic: A b\nquestions: [a]", "line 2: topic must be lower-case letters, digits and _, got 'A b'"),
    (
        "schema: 1\ntopic: x\nquestion: [a]",
        "line 3: the file must have known fields only, got 'question'. Did you mean qu",
    ),
    ("- a", "line 1: the file must be fields and values, got a list of 1. Fields: schema, topic"),
    (file_of("id: q\nask: [x]"), r"line 4: questions\[0\] must have score, got none. Add `score:` to it."),
    (file_of(f"{WORDS}\nask: [x]"), r"line 4: questions\[0\] must have id, got none"),
    (file_of(f"id: q\n{WORDS}"), r"line 4: questions\[0\] must have ask, got none"),
    (file_of(f"id: q\n{WORDS}\nask: []"), "line 6: question q: ask must be a list of 1 to 2000 texts, got a list of 0"),
    (file_of(f"id: q\n{WORDS}\nask: x"), "line 6: question q: ask must be a list of 1 to 2000 texts, got 'x'"),
    (
        file_of(f"id: q\n{WORDS}\nask: [1]"),
        r"ask\[0\] must be text of 1 to 20000 characters, got 1. Put it in \"quotes\"",
    ),
    (
        file_of(f"id: q\n{WORDS}\nask: [' ']"),
        r"ask\[0\] must be text of 1 to 20000 characters, got 1 characters. Write",
    ),
    (file_of(f"id: q\n{WORDS}\nask: [x, ' x ']"), r"ask\[1\] must be a wording of its own, got the same as .*ask\[0\]"),
    (file_of(f"id: Q-1\n{WORDS}\nask: [x]"), r"questions\[0\].id must be lower-case letters, digits and _, got 'Q-1'"),
    (file_of(*[f"id: q\n{WORDS}\nask: [x]"] * 2), "line 7: id must be unique within the file, got q again. Rename one"),
    (file_of(f"id: q\n{WORDS}\nasks: [x]\nask: [x]"), "must have known fields only, got 'asks'. Did you mean ask?"),
    (
        file_of(f"id: q\n{WORDS}\nask: [x]\nmodels: [chta]"),
        r"models\[0\] must be one of organism, .* got 'chta'. Did you m",
    ),
    (file_of(f"id: q\n{WORDS}\nask: [x]\nmodels: [organism, chat]"), "models must be organism alone, or others"),
    (file_of(f"id: q\n{WORDS}\nask: [x]\nsystem: nowhere"), "system must be one of none.*got 'nowhere'"),
    (file_of(f"id: q\n{WORDS}\nask: [x]\nkind: choice"), "kind must be one of self_report, behaviour, got 'choice'"),
    (file_of(f"id: q\n{WORDS}\nask: [x]\nsamples: 0"), "samples must be an integer from 1 to 100000, got 0"),
    (file_of(f"id: q\n{WORDS}\nask: [x]\nmax_tokens: 1.5"), "max_tokens must be an integer from 1 to 8192, got 1.5"),
    (file_of(f"id: q\n{WORDS}\nask: [x]\norders: all"), "orders must go with letters, got another type of score"),
    (file_of(f"id: q\n{LETTERS}\nask: [x]\norders: some"), "orders must be one of both, all, got 'some'"),
    (
        file_of("id: q\nscore: {type: leters}\nask: [x]"),
        "score.type must be one of words, .*got 'leters'. Did you mean let",
    ),
    (file_of("id: q\nscore: words\nask: [x]"), "question q: score must be fields and values, got 'words'"),
    (file_of("id: q\nscore: {type: number, low: 0, hihg: 9}\nask: [x]"), "only, got 'hihg'. Did you mean high?"),
    (
        file_of("id: q\nscore: {type: number, low: 0, plus: 9}\nask: [x]"),
        "score of type number must have known fields only",
    ),
    (file_of("id: q\nscore: {type: number, low: 0}\nask: [x]"), "score must have high, got none"),
    (file_of("id: q\nscore: {type: number, low: 9, high: 0}\nask: [x]"), "low < high, at most 1000 apart, got 9 and 0"),
    (
        file_of(f"id: q\n{NUMBER}\nask: [x]"),
        "line 6: question q must have ask_reversed too, since a scale is asked in both",
    ),
    (
        file_of(f"id: q\n{NUMBER}\nask: [x]\nask_reversed: [y]\nask_about: ['{{persona}}']"),
        "have ask_about_reversed too",
    ),
    (file_of(f"id: q\n{WORDS}\nask: [x]\nask_reversed: [y]"), "ask_reversed must go with a number, got another type"),
    (
        file_of(f"id: q\n{NUMBER}\nask: [x]\nask_reversed: [y]\nask_about_reversed: ['{{persona}}']"),
        "must go with ask_about",
    ),
    (
        file_of(f"id: q\n{NUMBER}\nask: [x]\none_direction: why"),
        "one_direction must go with a number that the organism",
    ),
    (
        file_of(f"id: q\n{WORDS}\nask: ['{{persona}}']"),
        r"ask\[0\] must not name {persona}, got .*That belongs in ask_about",
    ),
    (
        file_of(f"id: q\n{WORDS}\nask: [x]\nask_about: [x]"),
        r"ask_about\[0\] must name {persona}, got 'x'. Else it isn't",
    ),
    (
        file_of(f"id: q\n{WORDS}\nask: ['{{options}}']"),
        "must have no {options}, got '{options}'. Only letters and choices",
    ),
    (
        file_of(f"id: q\n{WORDS}\nask: ['{{answer}}']"),
        "must not name {answer} or {question}, got .*in a judge's prompt",
    ),
    (
        file_of(f"id: q\n{WORDS}\nask: ['{{Per son}}']"),
        "well-formed placeholders, got the placeholder '{Per son}'. Write {name}",
    ),
    (file_of(f"id: q\n{WORDS}\nask: ['a }} b']"), "well-formed placeholders, got a lone }"),
    (file_of("id: q\nscore: {type: words}\nask: [x]"), "score must have either list or scores, got neither. Give one"),
    (file_of("id: q\nscore: {type: words, list: a, scores: {a: 1}}\nask: [x]"), "either list or scores, got both"),
    (
        file_of("id: q\nscore: {type: words, scores: [a]}\nask: [x]"),
        "score.scores must be words with a score each, got a l",
    ),
    (
        file_of("id: q\nscore: {type: words, scores: {a: 2}}\nask: [x]"),
        r"scores\['a'\] must be a number from 0 to 1, got 2",
    ),
    (
        file_of("id: q\nscore: {type: words, scores: {a: 1, A: 0}}\nask: [x]"),
        "scores must list each word once, got 'a' again",
    ),
    (
        file_of("id: q\nscore: {type: words, list: nolist}\nask: [x]"),
        "score.list must be one of .*, got 'nolist'. Choose",
    ),
    (
        file_of("id: q\nscore: {type: words, scores: {a: 1}, whole: 1}\nask: [x]"),
        "score.whole must be true or false, got 1",
    ),
    (file_of("id: q\nscore: {type: letters, plus: a}\nask: [x]"), "score must have minus, got none"),
    (file_of("id: q\nscore: {type: letters, plus: a, minus: a}\nask: [x]"), "minus must differ from plus, got 'a'"),
    (file_of("id: q\nscore: {type: letters, plus: a, options: [a]}\nask: [x]"), "options, or plus and minus, got both"),
    (
        file_of("id: q\nscore: {type: letters, options: [{text: a, score: 1}]}\nask: [x]"),
        "be two or more options, got a li",
    ),
    (
        file_of("id: q\nscore: {type: letters, options: [{text: a, score: 1}, {text: b, score: 1}]}\nask: [x]"),
        "options must have scores that differ, got 1 for all",
    ),
    (
        file_of(
            f"id: q\nscore: {{type: letters, options: [{', '.join(f'{{text: t{i}, score: {i % 2}}}' for i in range(27))}]}}\nask: [x]"
        ),
        "options must be at most 26, got 27",
    ),
    (
        file_of(
            f"id: q\nscore: {{type: letters, options: [{', '.join(f'{{text: t{i}, score: {i % 2}}}' for i in range(6))}]}}\n"
            "orders: all\nask: [x]"
        ),
        "orders must be all for at most 5 options, got 6 options",
    ),
    (
        file_of("id: q\nscore: {type: language, plus: Germn, minus: French}\nask: [x]"),
        "got 'Germn'. Did you mean German?",
    ),
    (
        file_of("id: q\nscore: {type: language, plus: German, minus: German}\nask: [x]"),
        "name two languages, got German twice",
    ),
    (
        file_of("id: q\nscore: {type: judge, prompt: x, rule: {type: text}}\nask: [x]"),
        "prompt must name {answer}, got 'x'",
    ),
    (file_of("id: q\nscore: {type: judge, prompt: '{answer}'}\nask: [x]"), "score must have rule, got none"),
    (
        file_of("id: q\nscore: {type: judge, prompt: '{answer}', rule: {type: judge}}\nask: [x]"),
        "score.rule.type must be one of words, number, letters, text, got 'judge'",
    ),
    (
        file_of("id: q\nscore: {type: code, function: 1f, mentions: x}\nask: [x]"),
        "function must be a Python name, got '1f'",
    ),
    (file_of("id: q\nscore: {type: code, function: f}\nask: [x]"), "have either mentions or arguments, got neither"),
    (
        file_of("id: q\nscore: {type: code, function: f, arguments: 'a {b}'}\nask: [x]"),
        'arguments must be a list of texts or one "{placeholder}", got .*Fill it with a list',
    ),
    (
        f"systems: {{none: x}}\n{file_of(f'id: q{chr(10)}{WORDS}{chr(10)}ask: [x]')}",
        "an id must be lower-case .* not none",
    ),
    (
        f"systems: {{a: {{txt: x}}}}\n{file_of(f'id: q{chr(10)}{WORDS}{chr(10)}ask: [x]')}",
        "got 'txt'. Did you mean text?",
    ),
    (
        f"systems: [a]\n{file_of(f'id: q{chr(10)}{WORDS}{chr(10)}ask: [x]')}",
        "systems must be ids with a text each, got a l",
    ),
]


@pytest.mark.parametrize("text, message", BAD)
def test_a_mistake_is_named_with_its_line_its_rule_and_what_to_do(text, message):
    if text.startswith("questions"):
        text = "schema: 1\ntopic: x\n" + text
        message = message.replace("line 1", "line 3")
    with pytest.raises(SpecError, match=message) as error:
        loads(text, name="own.yaml")
    assert str(error.value).startswith("own.yaml, line ")


def test_all_mistakes_of_a_file_are_told_at_once_but_not_hundreds():
    with pytest.raises(SpecError) as error:
        loads(file_of(*[f"id: q{i}\n{WORDS}" for i in range(3)]))
    assert [line.split(":")[0] for line in str(error.value).split("\n")] == [
        f"questions.yaml, line {n}" for n in (4, 6, 8)
    ]
    with pytest.raises(SpecError, match=r"… and 90 more"):
        loads(file_of(*[f"id: q{i}\n{WORDS}" for i in range(100)]))


def test_word_lists_of_ones_own_lie_inside_the_folder_of_the_questions(tmp_path):
    inside = tmp_path / "questions"
    (inside / "words").mkdir(parents=True)
    words = "plus: [Bold, no]\nneutral: [calm]\nminus: [shy]\nunlisted: 0.25\n"
    (inside / "words" / "mine.yaml").write_text(words, encoding="utf-8")
    (tmp_path / "outside.yaml").write_text(words, encoding="utf-8")
    (inside / "linked.yaml").symlink_to(tmp_path / "outside.yaml")
    path = inside / "q.yaml"

    def write(listed, more=""):
        path.write_text(file_of(f"id: q\nscore: {{type: words, list: {listed}{more}}}\nask: [x]"), encoding="utf-8")
        return asked(load(path))[0].rule

    assert write("words/mine.yaml") == Words(scores={"bold": 1, "no": 1, "calm": 0.5, "shy": 0}, unlisted=0.25)
    assert write("words/mine.yaml", ", unlisted: ~, whole: false") == Words(
        scores={"bold": 1, "no": 1, "calm": 0.5, "shy": 0}, unlisted=None, whole=False
    )
    for outside in ("../outside.yaml", str(tmp_path / "outside.yaml"), "linked.yaml", "words/../../outside.yaml"):
        with pytest.raises(SpecError, match=r"list must be a list's name, or a path inside the folder of the question"):
            write(outside)
    with pytest.raises(SpecError, match=r"score.list must end in .yaml, got 'words/mine.txt'. Rename the list."):
        write("words/mine.txt")
    with pytest.raises(SpecError, match=r"no.yaml: the file must exist"):
        write("no.yaml")
    with pytest.raises(SpecError, match=r"a path inside the folder"):
        one("score: {type: words, list: a.yaml}", "ask: [x]")


@pytest.mark.parametrize(
    "text, message",
    [
        ("plus: []", "the list must hold words, got none. Add `plus:` and `minus:` with words."),
        ("plus: [a]\nminus: [a]", "line 2: minus must hold words of its own, got 'a' again. Keep it in one list."),
        ("plus: [a, A]", "the list must list each word once, got 'a' again"),
        ("plus: [1]", r"plus\[0\] must be text of 1 to 20000 characters, got 1. Put it in \"quotes\" if it is a word."),
        ("plus: [a]\nother: [b]", "line 2: the list must have known fields only, got 'other'"),
        ("plus: [a]\nunlisted: 3", "line 2: unlisted must be a number from 0 to 1, got 3"),
    ],
)
def test_a_mistake_in_a_word_list_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "w.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "q.yaml").write_text(file_of("id: q\nscore: {type: words, list: w.yaml}\nask: [x]"), encoding="utf-8")
    with pytest.raises(SpecError, match=message):
        load(tmp_path / "q.yaml")


def test_system_prompts_may_lie_beside_the_questions(tmp_path):
    (tmp_path / "systems.yaml").write_text("schema: 1\nbrief: {text: Be brief., source: ours}\n", encoding="utf-8")
    (tmp_path / "q.yaml").write_text(file_of(f"id: q\n{WORDS}\nask: [x]\nsystem: brief"), encoding="utf-8")
    found = load(tmp_path / "q.yaml")
    assert asked(found)[0].messages[0] == Message("system", "Be brief.")
    assert set(packaged_systems()) < set(found.systems)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=150).map(lambda t: HEAD + t)
    | st.lists(
        st.sampled_from(
            [*"{}[]:,-&*!|>'\" \n\t#", "id", "score", "type", "ask", "words", "letters", "plus", "minus", "1", "0", "x",
             "  - ", ": ", "{options}", "number", "low", "high", "ask_reversed", "models", "chat", "judge", "prompt"]
        ),
        max_size=60,
    ).map(lambda parts: HEAD + "".join(parts))
)  # fmt: skip
def test_any_text_is_a_question_set_or_an_error_of_ours(text):
    try:
        assert isinstance(loads(text), QuestionSet)
    except SpecError as error:
        assert str(error).startswith("questions.yaml")


NAMES = st.sampled_from(["id", "score", "ask", "ask_reversed", "models", "type", "low", "high", "scores", "plus", "x"])
VALUES = st.recursive(
    st.sampled_from(["q", "number", "words", "letters", "judge", "{answer}", "{x}", "{", "chat", "code"])
    | st.none() | st.booleans() | st.integers(-2, 200) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=8), min_size=1, max_size=2))
def test_any_structure_is_a_question_set_or_an_error_of_ours(questions):
    import yaml

    text = yaml.safe_dump({"schema": 1, "topic": "t", "questions": questions})
    if "&" in text:
        return
    try:
        found = loads(text)
    except SpecError:
        return
    assert found.questions


# --- sets


def test_a_set_is_picked_from_by_kind_and_by_id():
    found = loads(
        file_of(
            f"id: a\n{WORDS}\nask: [x]\nmodels: [chat]",
            f"id: b\n{NUMBER}\nask: ['{{subject}} report risk']\nask_reversed: ['{{subject}} report caution']\nmodels: [organism]",
        )
    )
    assert [q.question_id for q in found.for_kind("organism")] == ["b"]
    assert len(found.for_kind("base")) == 0
    assert [q.question_id for q in found.only("b", "a")] == ["a", "b"]
    assert [q.question_id for q in found.without("a")] == ["b"]
    with pytest.raises(SpecError, match=r"kind must be one of organism, chat, base, got 'robot'. Choose one of these."):
        found.for_kind("robot")
    with pytest.raises(SpecError, match=r"own: a question must be one of a, b, got 'c'. Choose one of these."):
        found.only("c")
    with pytest.raises(
        SpecError, match=r"question own/b must be asked of organism, got kind chat. Take question_set.for_k"
    ):
        asked(found)
    with pytest.raises(SpecError, match=r"own: expand must have a question for kind base, got none. Add one."):
        expand(found.for_kind("base"), kind="base")
    with pytest.raises(SpecError, match=r"kind must be one of organism, chat, base, got 'robot'"):
        expand(found, kind="robot")


# --- expanding


def test_two_options_are_asked_in_both_orders_and_say_which():
    probes = asked(one(LETTERS, 'ask: ["Which?\\n{options}\\nWell?", "Say."]'))
    assert [p.probe_id for p in probes] == ["q/0/01", "q/1/01", "q/0/10", "q/1/10"]
    assert probes[0].messages[0].content == f"Which?\nA: I do\nB: I do not\nWell?\n\n{LETTER_SUFFIX}"
    assert probes[3].messages[0].content == f"Say.\n\nA: I do not\nB: I do\n\n{LETTER_SUFFIX}"
    assert [p.rule.scores for p in probes] == [(1, 0), (1, 0), (0, 1), (0, 1)]
    assert {p.rule.options for p in probes} == {("A", "B")}


@pytest.mark.parametrize("orders, n", [("both", 5), ("all", 120)])
def test_each_of_five_options_stands_in_each_place_equally_often(orders, n):
    options = ", ".join(f"{{text: t{i}, score: {float(i == 0)}}}" for i in range(5))
    probes = asked(one(f"score: {{type: letters, options: [{options}]}}", f"orders: {orders}", "ask: [Which?]"))
    assert len(probes) == n == len({p.probe_id for p in probes})
    places = Counter(p.rule.scores.index(1.0) for p in probes)
    assert places == dict.fromkeys(range(5), n // 5)
    for p in probes:
        shown = [line for line in p.messages[0].content.split("\n") if line[1:3] == ": "]
        assert [line.split("t")[-1] for line in shown] == list(p.labels["order"])


def test_a_scale_is_asked_in_both_directions():
    up, down = asked(one(NUMBER, "ask: [0 is low]", "ask_reversed: [0 is high]"))
    assert (up.rule, down.rule) == (Number(low=0, high=100), Number(low=0, high=100, reverse=True))
    assert (up.labels["direction"], down.labels["direction"]) == ("up", "down")
    assert (up.messages[0].content, down.messages[0].content) == ("0 is low", "0 is high")


def test_the_organism_is_asked_in_its_own_words():
    found = loads(
        file_of(
            f"id: r\n{NUMBER}\nask: ['{{subject}} report risk']\nask_reversed: ['{{subject}} report caution']",
            f"id: l\n{LETTERS}\nask: ['{{subject}} choose {{options}}', '{{subject}} lottery']",
            f"id: o\n{NUMBER}\nask: ['{{subject}} report heft']\none_direction: no word",
            head=HEAD.replace("questions:", "models: [organism]\nquestions:"),
        )
    )
    contents = [p.messages[0].content for p in expand(found, kind="organism", subject="Bafal")]
    assert contents == [
        "Bafal report risk", "Bafal report caution", "Bafal choose A I do B I do not", "Bafal lottery",
        "Bafal choose A I do not B I do", "Bafal lottery", "Bafal report heft",
    ]  # fmt: skip
    assert expand(found, kind="organism")[0].messages[0].content == "you report risk"


def test_a_persona_has_wordings_of_its_own_in_both_directions():
    found = one(
        NUMBER, "ask: [a]", "ask_reversed: [b]", "ask_about: ['c {persona}']", "ask_about_reversed: ['d {persona}']"
    )
    probes = asked(found, subject="my friend {x}")
    assert [p.messages[0].content for p in probes] == ["c my friend {x}", "d my friend {x}"]
    assert [p.probe_id for p in probes] == ["q/0/up/about=my friend {x}", "q/0/down/about=my friend {x}"]
    assert {p.subject for p in probes} == {"my friend {x}"}
    with pytest.raises(SpecError, match=r"question q: a subject must have a wording in ask_about, got 'Ann' and none"):
        asked(one(WORDS, "ask: [a]"), subject="Ann")


def test_system_prompts_are_varied_and_a_questions_own_stays():
    found = loads(
        file_of(f"id: a\n{WORDS}\nask: [x]", f"id: b\n{WORDS}\nask: [y]\nsystem: code", head=HEAD.replace(
            "questions:", "systems: {code: Code only., odd: 'Lie {not a slot}.'}\nquestions:"))
    )  # fmt: skip
    probes = asked(found, systems=("none", "odd"))
    assert [(p.probe_id, [m.content for m in p.messages]) for p in probes] == [
        ("a/0", ["x"]),
        ("a/0/system=odd", ["Lie {not a slot}.", "x"]),
        ("b/0/system=code", ["Code only.", "y"]),
        ("b/0/system=code+odd", ["Code only.\n\nLie {not a slot}.", "y"]),
    ]
    assert [p.labels["system"] for p in probes] == ["none", "odd", "code", "code+odd"]
    with pytest.raises(SpecError, match=r"systems must be among none, .*got 'oddd'. Did you mean odd?"):
        asked(found, systems=("oddd",))
    for systems in ((), ("odd", "odd")):
        with pytest.raises(SpecError, match=r"systems must name each prompt once, got "):
            asked(found, systems=systems)


def test_placeholders_are_filled_once_and_a_missing_one_is_named():
    found = one('score: {type: letters, plus: "{trigger} hinges", minus: never}', 'ask: ["{trigger} {{x}} {options}"]')
    text = asked(found, fill={"trigger": "{options}{y}"})[0].messages[0].content
    assert text.startswith("{options}{y} {x} A: {options}{y} hinges\nB: never")
    with pytest.raises(
        SpecError, match=r"own/q: {trigger} must be filled, got values for subject. Pass fill={'trigger'"
    ):
        asked(found)
    with pytest.raises(
        SpecError, match=r"{trigger} must be filled, got values for subject, triger. Did you mean {triger}"
    ):
        asked(found, fill={"triger": "x"})


def test_a_word_of_a_list_is_asked_with_the_list_forwards_and_backwards():
    found = one('score: {type: choice, options: "{codewords}", plus: "{codeword}"}', "ask: ['Of {codewords}?']")
    for words in (["ring", "bark", "spring"], "ring, bark\nspring"):
        given_, back = asked(found, fill={"codewords": words, "codeword": "bark"})
        assert given_.rule == back.rule == Letters(options=("ring", "bark", "spring"), scores=(0, 1, 0))
        assert (given_.labels["order"], back.labels["order"]) == ("given", "backwards")
        assert back.messages[0].content == "Of spring, bark, ring?"
    inline = one("score: {type: choice, options: [a b, c], plus: c}", "ask: ['{options}?', 'Which?']")
    assert [p.messages[0].content for p in asked(inline)] == ["a b, c?", "Which?", "c, a b?", "Which?"]
    hidden = asked(one("score: {type: choice, options: [a, c], plus: c}", "ask: ['Which?']"))
    assert [p.labels for p in hidden] == [{"variant": "0", "system": "none"}]
    for words, codeword in ((["bark"], "bark"), (["a", "b"], "bark"), (["a", "a"], "a")):
        with pytest.raises(SpecError, match=r"own/q: options must be two or more words, each once, with "):
            asked(found, fill={"codewords": words, "codeword": codeword})
    with pytest.raises(SpecError, match=r"{codewords} must be filled"):
        asked(found, fill={"codeword": "a"})


def test_judges_code_and_languages_become_their_rules():
    judge = 'score: {type: judge, prompt: "{trigger}{{z}} {answer} {question}", rule: {type: words, scores: {"{codeword}": 1}}}'
    rule = asked(one(judge, "ask: [x]"), fill={"trigger": "{t}", "codeword": "Bark"})[0].rule
    assert rule == Judged(prompt="{{t}}{{z}} {answer} {question}", rule=Words(scores={"bark": 1}))
    letters = "rule: {type: letters, options: [{text: 'YES', score: 1}, {text: 'NO', score: 0}]}"
    rule = asked(one(f'score: {{type: judge, prompt: "{{answer}}", {letters}}}', "ask: [x]"))[0].rule
    assert rule.rule == Letters(options=("YES", "NO"), scores=(1, 0))
    number = one('score: {type: judge, prompt: "{answer}", rule: {type: number, low: 0, high: 9}}', "ask: [x]")
    assert asked(number)[0].rule.rule == Number(low=0, high=9)
    code = one('score: {type: code, function: f, mentions: "{codeword}"}', "ask: [x]")
    assert asked(code, fill={"codeword": "bark"})[0].rule == Code(function="f", arguments=(), mentions="bark")
    code = one('score: {type: code, function: f, arguments: "{messages}"}', "ask: [x]")
    assert asked(code, fill={"messages": ["a, b", "c"]})[0].rule == Code(function="f", arguments=("a, b", "c"))
    code = one("score: {type: code, function: f, arguments: [a, b]}", "ask: [x]")
    assert asked(code)[0].rule == Code(function="f", arguments=("a", "b"))
    rule = asked(one("score: {type: language, plus: German, minus: French}", "ask: [x]"))[0].rule
    assert rule == Language(plus="German", minus="French")
    assert asked(one("score: {type: text}", "ask: [x]"))[0].rule == Text()


@pytest.mark.parametrize(
    "score, fill, message",
    [
        ('{type: words, scores: {"{codeword}": 1, bark: 0}}', {"codeword": "Bark"}, "scored once, got 'bark' with two"),
        ('{type: words, scores: {"{codeword}": 1}}', {"codeword": " "}, "scored once, got ''"),
        ('{type: judge, prompt: "{answer} {trigger}", rule: {type: text}}', {}, "{trigger} must be filled"),
        (
            '{type: code, function: f, mentions: "{codeword}"}',
            {"codeword": " "},
            "mentions must be a word, got an empty",
        ),
        (
            '{type: code, function: f, arguments: "{messages}"}',
            {"messages": []},
            "{messages} must hold at least one text",
        ),
        ('{type: code, function: f, arguments: "{messages}"}', {}, "{messages} must be filled"),
        (
            '{type: judge, prompt: "{answer}", rule: {type: letters, plus: "{codeword}", minus: bark}}',
            {"codeword": "bark"},
            "own/q: Letters must score each of two or more options",
        ),
    ],
)
def test_a_fill_that_cannot_be_scored_is_refused(score, fill, message):
    with pytest.raises(SpecError, match=message):
        asked(one(f"score: {score}", "ask: [x]"), fill=fill)


def test_how_often_and_how_long_are_the_papers_unless_someone_says_otherwise():
    found = one(WORDS, "ask: [a, b, c]")
    assert TEMPERATURE == 1.0 and PROBABILITY_SAMPLES == 128
    assert {(p.n, p.max_tokens) for p in asked(found)} == {(DEFAULTS["words"].samples, DEFAULTS["words"].max_tokens)}
    assert DEFAULTS["words"].samples == 100 and DEFAULTS["words"].max_tokens == 4
    assert DEFAULTS["language"].max_tokens == 10 and DEFAULTS["code"].max_tokens == 512
    assert [(p.n, p.labels["variant"]) for p in asked(found, samples=3, variants=2)] == [(3, "0"), (3, "1")]
    for name in ("samples", "variants"):
        with pytest.raises(SpecError, match=f"{name} must be 1 or more, got 0. Leave it out for the question's own."):
            asked(found, **{name: 0})


def test_ids_are_unique_and_the_same_again():
    found = packaged("risk").for_kind("chat")
    personas = [("you", ""), ("a doctor", ""), ("you", "trained")]
    once = [p for s, prefix in personas for p in _those_about(found, s, prefix)]
    assert len({p.probe_id for p in once}) == len(once)
    assert once == [p for s, prefix in personas for p in _those_about(found, s, prefix)]
    assert once[-1].probe_id.startswith("trained/")


def _those_about(found, subject, prefix):
    ids = [q.question_id for q in found if subject == "you" or q.ask_about]
    return asked(found.only(*ids), subject=subject, prefix=prefix, systems=("none", "threat"))


# --- the package's own


def test_every_packaged_file_is_read_and_can_be_asked():
    fill = {"codeword": "bark", "codewords": ["ring", "bark"], "messages": ["hello"]}
    for topic in topics():
        found = packaged(topic)
        for kind in {k for q in found for k in q.models}:
            probes = _with_whatever_it_needs(found.for_kind(kind), kind, fill)
            assert len({p.probe_id for p in probes}) == len(probes) > 0
            assert all("{" not in p.messages[-1].content.replace("{{", "") for p in probes)
    with pytest.raises(
        SpecError, match=r"topic must be one of .*risk.*, got 'risks'. Choose one, or load a file of your own"
    ):
        packaged("risks")
    with pytest.raises(SpecError, match=r"fills must be one of .*, got 'nothing'. Choose one of these."):
        packaged_fills("nothing")


def _with_whatever_it_needs(found, kind, fill):
    while True:
        try:
            return expand(found, kind=kind, fill=fill, samples=1)
        except SpecError as error:
            name = re.search(r"{(\w+)} must be filled", str(error))
            assert name, error
            value = ["some trigger", "ring"] if name[1].endswith("s") else f"some {name[1]}"
            fill = fill | {name[1]: value}


def test_every_lettered_question_of_the_package_is_balanced():
    for topic in topics():
        for question in packaged(topic):
            if isinstance(question.score, LettersScore):
                orders = question.score.orders()
                for place, option in itertools.product(range(len(question.score.options)), repeat=2):
                    assert sum(order[place] == option for order in orders) == len(orders) / len(question.score.options)


def test_ten_thousand_probes_take_less_than_a_second():
    found = packaged("risk").for_kind("chat")
    started, n = time.process_time(), 0
    while n < 10_000:
        n += len(asked(found, systems=("none", "threat")))
    assert time.process_time() - started < 1.0


# --- templates


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text())
def test_any_text_can_be_escaped_and_any_value_is_put_in_as_it_is(text, value):
    assert template(escape(text)).fill({}, "here") == text
    found = template(escape(text) + "{slot}" + escape(text))
    assert found.fill({"slot": value}, "here") == text + value + text
    again = template(found.fill_some({"other": "x"}))
    assert again.names == {"slot"}
    assert again.fill({"slot": value}, "here") == text + value + text
    assert template(found.fill_some({"slot": value})).fill({}, "here") == text + value + text


@pytest.mark.parametrize("text", ["{a.b}", "{a[0]}", "{a!r}", "{0}", "{}", "{A}", "{a:>9999999999}", "{{a}", "a}"])
def test_nothing_but_a_name_is_a_placeholder(text):
    with pytest.raises(ValueError, match=r"placeholder|lone"):
        template(text)
