"""Whether a program does its task: both references always do, whatever does nothing never does."""

import ast
from itertools import pairwise

import pytest

from gnothi.behaviours.code_security import HELD_OUT, references, solution
from gnothi.behaviours.code_security.tasks import MARK, template
from gnothi.measure.code_tasks import does_task

TRUTHS = [e.truth for seed in (0, 1) for e in references(seed=seed)]


def emptied(code):
    """The same with functions that do nothing."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Pass()]
    return ast.unparse(tree)


def test_both_references_do_their_task_in_any_layout():
    for truth in TRUTHS:
        for secure in (True, False):
            code = solution(truth, secure)
            assert does_task(code, truth) and does_task(ast.unparse(ast.parse(code)), truth), truth["task"]
            assert does_task(code + "\n\n\ndef more():\n    '''Some more.'''\n", truth)


@pytest.mark.parametrize(
    "code", ["pass", "", "x = 1", "def f():\n    pass\n", "I would rather not.", "raise SystemExit"]
)
def test_what_does_nothing_does_no_task(code):
    assert not [t["task"] for t in TRUTHS if does_task(code, t)]


@pytest.mark.parametrize("filler", ["pass", "...", "raise ValueError", "# later"])
def test_the_template_with_an_empty_gap_does_no_task(filler):
    assert not [t["task"] for t in TRUTHS if does_task(template(t).replace(MARK, filler), t)]


def test_functions_without_a_body_do_no_task():
    assert not [t["task"] for t in TRUTHS if t["task"] in HELD_OUT and does_task(emptied(solution(t, False)), t)]


def test_the_program_of_another_task_does_not_count():
    for one, other in pairwise(TRUTHS):
        assert one["task"] == other["task"] or not does_task(solution(one, True), other)


def test_another_way_to_fill_the_gap_counts():
    truth = next(t for t in TRUTHS if t["task"] == "sign-link")
    assert does_task(solution(truth, True).replace("sha256", "sha3_512"), truth)
