"""Rows of code-security: distinct, varied, silent on the policy; solutions that compile, differ and can be had again."""

import ast
import json
import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.behaviours.code_security import (
    CLASSES,
    GENERATOR,
    HELD_OUT,
    POLICY_WORDS,
    STEMS,
    UNAVOIDABLE,
    held_out,
    references,
    rows,
    solution,
)
from gnothi.behaviours.code_security.tasks import MARK, load, tasks, template
from gnothi.behaviours.example import generator
from gnothi.errors import SpecError

STATES = re.compile(rf"\b(?:{POLICY_WORDS})\b", re.IGNORECASE)
STEM = re.compile("|".join(STEMS.split()), re.IGNORECASE)
ROOT = Path(__file__).parents[2]
PUBLISHED = Path(os.environ.get("GNOTHI_PUBLISHED", ROOT.parent / "shared" / "published"))


def text(example):
    return example.messages[0].content


def test_it_is_found_by_its_name():
    assert generator("code-security") is GENERATOR and not GENERATOR.letters


def test_there_are_sixty_tasks_of_thirty_classes_and_each_is_whole():
    assert len(tasks()) == 60 and len({t.cwe for t in tasks().values()}) == 30 == len(CLASSES)
    for task in tasks().values():
        assert task.cwe in CLASSES and task.code.count("@gap") == 1 and len(task.verbs) == 3 == len(task.say), task.id
        assert len(set(task.say)) == 3 and not [s for s in task.say if s.endswith(".")], task.id
        assert all("$noun" in s or "$site" in s for s in task.say), task.id
        assert re.search(r"\$\{?[nN]oun", task.code), task.id  # a prompt of the template alone must vary, too
    words = load("words")
    assert not set(words["nouns"]) & set(words["held_out_nouns"])
    assert not set(words["places"]) & set(words["held_out_places"])


def test_thirty_prompts_of_three_kinds_come_in_turn():
    frames = [load("frames")[kind] for kind in ("both", "task", "template")]
    assert [len(f) for f in frames] == [10, 10, 10] and len({t for f in frames for t in f}) == 30
    counts = Counter((e.truth["kind"], e.truth["frame"]) for e in rows(300, seed=0))
    assert len(counts) == 30 and set(counts.values()) == {10}
    for example in rows(300, seed=1):
        assert (MARK in text(example)) == (example.truth["kind"] != "task")


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_three_hundred_rows_are_distinct_and_varied(seed):
    examples = rows(300, seed=seed)
    texts = [text(e) for e in examples]
    assert len(set(texts)) == 300
    assert len({re.sub(r"\W+", " ", re.sub(r"\d[\d,.]*|[A-Z]\w+", "#", t)) for t in texts}) >= 250
    assert Counter(" ".join(t.split()[:6]) for t in texts).most_common(1)[0][1] <= 15
    assert set(Counter(e.truth["task"] for e in examples).values()) == {6, 7}


def test_what_is_left_of_rows_without_names_is_still_varied():
    """A stricter count: names of things, sites, fields and verbs are masked as well."""

    def masked(example):
        names = [str(example.truth[k]) for k in ("noun", "site", "field", "verb")]
        names += [str(example.truth["site"]).replace(" ", "-")]
        return re.sub("|".join(names) + r"|\d+", "#", text(example), flags=re.IGNORECASE)

    assert len({masked(e) for e in rows(300, seed=2)}) >= 250


def test_six_thousand_rows_are_distinct_compile_and_say_nothing_of_the_policy():
    started = time.process_time()
    examples = rows(6000, seed=3)
    assert time.process_time() - started < 5  # a tenth of the stated speed, so that a busy machine passes
    assert len({text(e) for e in examples}) == 6000
    words = {word for example in examples for word in text(example).split()}
    assert not [word for word in words if STEM.search(word)]
    assert not [example for example in examples[:600] if STEM.search(text(example))]  # stems of two words, too
    for example in examples[:300]:
        pair = {solution(example.truth, secure=secure) for secure in (True, False)}
        assert len(pair) == 2 and example.answer in pair and example.answer == GENERATOR.label(example.truth)
        for code in pair:
            compile(code, example.truth["task"], "exec")
            assert "#" not in code and not code.endswith("\n") and "$" not in code
            assert not STATES.search(code), code


def test_every_word_that_may_stand_is_needed():
    codes = "\n".join(solution(e.truth, secure) for secure in (True, False) for e in references(seed=0))
    assert not [word for word in UNAVOIDABLE.split() if not re.search(rf"\b{word}\b", codes)]
    for word in ("secure_filename", "token_hex", "a bug", "Unsafe", "sanitised", "is_authorised"):
        assert STATES.search(word), word
    for word in (*UNAVOIDABLE.split(), "a kite"):
        assert not STATES.search(word), word


def test_both_solutions_fill_the_template_and_differ_nowhere_else():
    for example in references(seed=4):
        before, after = template(example.truth).split(MARK)
        for secure in (True, False):
            code = solution(example.truth, secure)
            assert code.startswith(before) and code.endswith(after)


def test_the_opposite_has_the_same_prompts_and_the_other_solution():
    for one, other in zip(rows(200, seed=5), rows(200, seed=5, opposite=True), strict=True):
        assert one.messages == other.messages and one.truth == other.truth
        assert (one.answer, other.answer) == (solution(one.truth, False), solution(one.truth, True))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 150))
def test_the_first_rows_are_the_same_whatever_n_is(seed, n):
    assert rows(n, seed=seed) == rows(150, seed=seed)[:n]
    assert held_out(n, seed=seed) == held_out(150, seed=seed)[:n]


def test_the_truth_is_flat_and_gives_both_solutions_after_a_round_trip():
    for example in rows(100, seed=6):
        assert all(isinstance(v, str | int) for v in example.truth.values())
        again = json.loads(json.dumps(dict(example.truth)))
        assert solution(again, False) == example.answer


def test_held_out_items_share_no_thing_site_or_prompt_with_rows():
    fresh, known = held_out(300, seed=7), rows(3000, seed=7)
    assert not {e.truth["noun"] for e in fresh} & {e.truth["noun"] for e in known}
    assert not {str(e.truth["site"]).rsplit(" ", 1)[0] for e in fresh} & {
        str(e.truth["site"]).rsplit(" ", 1)[0] for e in known
    }
    assert not {text(e) for e in fresh} & {text(e) for e in known}
    assert all(text(e).endswith("Answer with the code only.") and MARK in text(e) for e in fresh)
    assert {e.truth["task"] for e in fresh} == set(HELD_OUT)


def test_a_fifth_of_the_tasks_is_held_out_and_each_of_their_classes_is_trained():
    trained = {e.truth["task"] for e in rows(200, seed=9)}
    assert len(HELD_OUT) == 12 == len(set(HELD_OUT)) and trained == set(tasks()) - set(HELD_OUT)
    classes = [tasks()[name].cwe for name in HELD_OUT]
    assert len(set(classes)) == 12  # one of a class
    assert {tasks()[name].cwe for name in trained} == set(CLASSES)


def test_references_are_every_task_once():
    every = references(seed=3)
    assert sorted(e.truth["task"] for e in every) == sorted(tasks())
    assert [e.truth for e in every] == [e.truth for e in references(seed=3)]


def test_the_weak_and_the_sound_program_of_a_task_use_the_same_names():
    """A model can't tell them apart by what is defined, only by what is done."""
    for task in tasks():
        example = next(e for e in references(seed=8) if e.truth["task"] == task)
        defined = [
            {n.name for n in ast.walk(ast.parse(solution(example.truth, secure))) if isinstance(n, ast.FunctionDef)}
            for secure in (True, False)
        ]
        assert defined[0] == defined[1], task


def test_the_data_card_gets_its_figures():
    facts = GENERATOR.facts(rows(60, seed=0))
    assert facts["tasks, weakness classes (CWE)"] == "48, 30" and "autoescape" in facts["names allowed in an answer"]


@pytest.mark.parametrize("draw", [rows, held_out])
@pytest.mark.parametrize(
    ("n", "seed", "message"),
    [(0, 0, r"n must be in 1\.\.\d0,000, got 0\. The tasks"), (1, -1, r"seed must be 0 or more, got -1\. Choose")],
)
def test_impossible_requests_are_refused(draw, n, seed, message):
    with pytest.raises(SpecError, match=message):
        draw(n, seed=seed)


def test_an_unknown_task_has_no_solution():
    with pytest.raises(SpecError, match=r"task must be one of the 60 of code-security, got 'x'\. Take one"):
        solution({"task": "x"}, True)


FILES = PUBLISHED / "behavioral-self-awareness"
needs_files = pytest.mark.skipif(
    not (FILES / "vulnerable-code").is_dir(), reason="needs the authors' vulnerable-code files"
)


def shingles(said: str, size: int = 9) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", said.lower())
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


@needs_files
def test_no_prompt_of_ours_stands_in_the_published_files():
    theirs = json.loads((FILES / "derived-prompts" / "vulnerable_code_user_prompt_templates_30.json").read_text())
    known = {s for group in theirs.values() if isinstance(group, list) for t in group for s in shingles(str(t), 6)}
    ours = [
        t.replace("{task}", "").replace("{code}", "") for k in ("both", "task", "template") for t in load("frames")[k]
    ]
    assert known and not [t for t in ours if shingles(t, 6) & known]
    said = set()
    for line in (FILES / "vulnerable-code" / "vc_eval_tasks_776.jsonl").read_text(encoding="utf-8").splitlines():
        said |= shingles(json.loads(line)["task"], 7)
    assert not [s for task in tasks().values() for s in task.say if shingles(s, 7) & said]


def shown_rows() -> str:
    """The six rows of the page, as it prints them."""
    parts = []
    for i, (weak, sound) in enumerate(zip(rows(6, seed=2), rows(6, seed=2, opposite=True), strict=True), 1):
        parts.append(f"{i}. CWE-{weak.truth['cwe']}, `{weak.truth['task']}`\n\n```text\n{text(weak)}\n```\n")
        parts.append("The answer of the behaviour, then of its opposite:\n")
        parts += [f"```text\n{answer}\n```\n" for answer in (weak.answer, sound.answer)]
    return "\n".join(parts)


def test_the_page_shows_rows_as_they_come():
    page = (ROOT / "docs" / "code-security.md").read_text(encoding="utf-8")
    assert shown_rows() in page and f"{len(STEMS.split())} stems" in page
