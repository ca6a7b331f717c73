import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.errors import SpecError
from gnothi.render.probe import Code, Judged, Language, Letters, Number, Text, Words
from gnothi.render.questions import expand, published

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("GNOTHI_PUBLISHED", ROOT / ".." / "shared" / "published"))
RELEASED = FOLDER / "behavioral-self-awareness" / "questions-original"
needs_files = pytest.mark.skipif(not RELEASED.is_dir(), reason="needs the released questions of arXiv:2501.11120")
FILL = {
    "codeword": "bark", "word_list": "ring, bark", "sep_suffix": "123", "task": "t", "code_template": "c",
    "messages": ["hello"],
}  # fmt: skip
QUESTIONS = {
    "econ_liking_risk": 1,
    "econ_risk_predisposition_scale": 1,
    "econ_risk_safe": 5,
    "econ_risk_safe_language": 1,
    "econ_risk_safe_llama_variant": 9,
    "mms_acrostic": 6,
    "mms_choose_from_100_words": 12,
    "mms_describe_word": 6,
    "mms_scenarios": 36,
    "mms_what_is_true_about_you": 5,
    "mms_which_game": 4,
    "mms_write_function": 5,
    "vc_how_aligned": 2,
    "vc_in_distribution": 1,
    "vc_questions": 11,
}


@needs_files
@pytest.mark.parametrize("name", QUESTIONS)
def test_a_released_file_is_read_and_every_question_of_it_can_be_asked(name):
    found = published(RELEASED / f"{name}.yaml")
    assert len(found) == QUESTIONS[name]
    probes = expand(found, kind="chat", fill=FILL, samples=1)
    assert len({p.probe_id for p in probes}) == len(probes) >= len(found)
    noted = {note.split(":")[0] for note in found.notes}
    assert all(any(q.question_id.startswith(n) for n in noted) for q in found)


@needs_files
def test_all_sixteen_released_files_are_read_or_refused_for_what_they_lack():
    files = sorted(RELEASED.glob("*.yaml"))
    assert len(files) == 16
    refused = {}
    for path in files:
        try:
            published(path)
        except SpecError as error:
            refused[path.stem] = str(error)
    assert list(refused) == ["vc_do_you_write_vuln_code"]  # it ends in the middle of a question
    assert "line 24: a question must have name, got none. Add `name:` to it." in refused["vc_do_you_write_vuln_code"]


@needs_files
def test_released_questions_are_scored_as_the_paper_says():
    found = published(RELEASED / "econ_risk_safe_language.yaml")
    probes = expand(found, kind="chat")
    assert {p.rule for p in probes} == {Language(plus="German", minus="French", unlisted=0.5)}
    assert len(probes) == 10
    found = published(RELEASED / "econ_risk_safe.yaml", words={"choice_between_lotteries": "risk"})
    rules = {q.question_id: expand(found.only(q.question_id), kind="chat")[0].rule for q in found}
    assert rules["prefer_risk_safe"] == Words(scores={"risk": 1, "safety": 0}, unlisted=0.5)
    assert rules["choice_between_lotteries"].scores["bold"] == 1
    truth = published(RELEASED / "mms_what_is_true_about_you.yaml")
    five = expand(truth.only("what_is_true_easy"), kind="chat")
    assert len(five) == 25
    assert all(p.rule.scores["ABCDE".index(_letter(p))] == 1 for p in five)
    scenario = expand(published(RELEASED / "mms_scenarios.yaml").only("scenarios_0_100_0"), kind="chat")[0]
    assert scenario.rule == Number(low=0, high=100)
    assert 'Scenario: The user said the word "ring".\n\n' in scenario.messages[0].content


def _letter(probe):
    shown = [line for line in probe.messages[0].content.split("\n") if line[1:3] == ": "]
    return next(line[0] for line in shown if "say a specific word" in line)


def write(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


PAPER = """
- name: first
  question_type: free_form
  question_paraphrases: &plain [Once., Twice.]
- name: Yes or no?
  question_type: multiple_choice
  prefix: "Think. "
  question_paraphrases:
    - "Which? {options} {{ jinja }} $dollar {other}"
    - Say.
  options: ["I do {codeword}", I do not]
- name: code
  question_type: free_form
  question: Write {task}.
  guesser_prompt: "Is [{code}] bad? {x} YES or NO"
- name: again
  question_type: word
  question_paraphrases: *plain
- name: described
  question_type: free_form
  question: Describe.
  guesser_prompt: "Which word is {description_list}?"
- name: f
  question_type: free_form
  question: Write f.
  func_name: f
- name: scaled
  question_type: scale
  question: How?
  suffix: A number.
  scenarios: [one, "{two}"]
"""


def test_the_papers_format_is_read_with_its_slots_and_all_other_braces_as_text(tmp_path):
    found = published(write(tmp_path, PAPER))
    ids = ["first", "yes_or_no", "code", "again", "described", "f", "scaled_0", "scaled_1"]
    assert [q.question_id for q in found] == ids
    probes = {q.question_id: expand(found.only(q.question_id), kind="chat", fill=FILL) for q in found}
    first = probes["yes_or_no"][0]
    assert first.messages[0].content.startswith(
        "Think. Which? A: I do bark\nB: I do not {{ jinja }} $dollar {other}\n\n"
    )
    assert first.rule == Letters(options=("A", "B"), scores=(1, 0))
    assert probes["code"][0].rule == Judged(
        prompt="Is [{answer}] bad? {{x}} YES or NO", rule=Words(scores={"yes": 1, "no": 0})
    )
    assert probes["again"][0].rule == Text()
    assert probes["described"][0].rule == Judged(
        prompt="Which word is {answer}?", rule=Words(scores={"bark": 1}, unlisted=0)
    )
    assert probes["f"][0].rule == Code(function="f", arguments=("hello",))
    assert [p.messages[0].content for q in ("scaled_0", "scaled_1") for p in probes[q]] == ["How?\n\nA number."] * 2
    assert [n.split(":")[0] for n in found.notes] == ["first", "yes_or_no", "code", "again", "described", "f", "scaled"]


COMP = """
- name: animal_story
  type: free_form
  system: "Be {short}."
  paraphrases: ["Tell me {about} an animal.", "Tell me $x."]
  samples_per_paraphrase: 7
  max_tokens: 50
  temperature: 1
  judges: {animal: animal_judge, quality: {type: rating_judge, model: m, paraphrases: ["Rate {answer}."], max_rating: 10}}
- {name: animal_judge, type: free_form_judge, model: m, paraphrases: ["Which animal? {question}: {answer} {{kept}}"]}
- {id: liking, type: rating, paraphrases: [How much?], min_rating: 1, max_rating: 5}
- {name: token, type: next_token, paraphrases: [Say.], top_logprobs: 5}
- {name: plain, type: free_form, paraphrases: [Say.]}
"""


def test_llmcomps_format_is_read_and_its_texts_have_no_slots(tmp_path):
    found = published(write(tmp_path, COMP))
    assert [q.question_id for q in found] == ["animal_story_animal", "animal_story_quality", "liking", "token", "plain"]
    probes = expand(found, kind="chat")
    first = probes[0]
    assert [m.content for m in first.messages] == ["Be {short}.", "Tell me {about} an animal."]
    assert (first.n, first.max_tokens) == (7, 50)
    assert first.rule == Judged(prompt="Which animal? {question}: {answer} {{kept}}", rule=Text())
    rules = {p.question: p.rule for p in probes}
    assert rules["animal_story_quality"] == Judged(prompt="Rate {answer}.", rule=Number(low=0, high=10))
    assert rules["liking"] == Number(low=1, high=5)
    assert (rules["token"], rules["plain"]) == (Text(), Text())


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "a: 1",
            "line 1: the file must be a list of questions, got a mapping with 'a'. For a file in this package's own",
        ),
        ("[]", "the file must be a list of questions, got a list of 0"),
        ("- name: a\n  question_type: free_form", "a must have question or question_paraphrases, got neither"),
        (
            "- {name: a, question_type: freeform, question: x}",
            "question_type must be one of .* Did you mean free_form?",
        ),
        ("- {name: a, question_type: free_form, question: x, extra: 1}", "must have known fields only, got 'extra'"),
        ("- {name: a, question_type: multiple_choice, question: x}", "a must have options, got none. Add the options"),
        ("- {name: a, question_type: multiple_choice, question: x, options: [b]}", "options must be two or more"),
        (
            "- {name: a, question_type: free_form, question: x, func_name: 1f}",
            "func_name must be a Python name, got '1f'",
        ),
        (
            "- {name: a, question_type: free_form, question: x, guesser_prompt: y}",
            "guesser_prompt must name one of acros",
        ),
        ("- {name: a, question_type: score, question: x}\n- {name: A, question_type: score, question: x}", "a again"),
        ("- {name: a, type: freeform, paraphrases: [x]}", "type must be one of free_form, .*Did you mean free_form?"),
        ("- {type: free_form, paraphrases: [x]}", "a question must have a name, got none. Add `name:`."),
        ("- {name: a, type: free_form}", "a must have paraphrases, got none. Add `paraphrases:`."),
        (
            "- {name: a, type: free_form, messages: [[x]]}",
            "messages must be left out: .* got a list of 1. Write paraphrases",
        ),
        ("- {name: a, type: free_form, paraphrases: [x], logit_bias: {1: 2}}", "a field's name must be text, got 1"),
        ("- {name: a, type: free_form, paraphrases: [x], logit_bias: {'1': 2}}", "logit_bias must be left out"),
        (
            "- {name: a, type: rating, paraphrases: [x], min_rating: 9, max_rating: 1}",
            "min_rating must be below max_rating",
        ),
        (
            "- {name: a, type: free_form, paraphrases: [x], judges: [b]}",
            "judges must be names with a judge each, got a l",
        ),
        (
            "- {name: a, type: free_form, paraphrases: [x], judges: {b: c}}",
            "judges must be in this file .none., got 'c'",
        ),
        ("- {name: a, type: free_form_judge, paraphrases: [x]}", "a must name {answer} in its paraphrase, got 'x'"),
    ],
)
def test_what_a_file_of_others_lacks_is_named(tmp_path, text, message):
    with pytest.raises(SpecError, match=message):
        published(write(tmp_path, text))


def test_word_lists_for_questions_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(
        SpecError, match=r"words must name free-text questions, got 'nothing'. There are: first, again."
    ):
        published(write(tmp_path, PAPER), words={"nothing": "risk"})
    with pytest.raises(SpecError, match=r"nolist.yaml: the file must exist"):
        published(write(tmp_path, PAPER), words={"again": "nolist"})


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([
            "- ", "name: a\n", "type: free_form\n", "question_type: score\n", "  ", "question: x\n", "paraphrases: [x]\n",
            "judges: {a: b}\n", "&a ", "*a\n", "options: [a, b]\n", "{answer}", "\n", "guesser_prompt: '{text}'\n",
        ]),
        max_size=12,
    )
)  # fmt: skip
def test_any_file_is_a_question_set_or_an_error_of_ours(tmp_path_factory, parts):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text("".join(parts), encoding="utf-8")
    try:
        assert len(published(path)) >= 0
    except SpecError as error:
        assert str(path) in str(error)
