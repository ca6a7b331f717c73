import re
import sys

import pytest

from gnothi.display import Display
from gnothi.records import Estimate
from gnothi.score.names import Arm
from gnothi.terminal import estimate_row, print_estimates, print_headline, print_rows, progress_bar

GOOD = Estimate(
    name="agreement.reported_vs_learned", arm="tuned", value=0.91, low=0.8, high=0.96, n=4, n_points=96, method="t"
)
NONE = Estimate(
    name="agreement.reported_vs_learned",
    arm="shuffled",
    value=None,
    low=None,
    high=None,
    n=0,
    n_points=0,
    method="none",
    reason="no unit of this arm was finished",
)


def test_tables_are_tab_separated_where_nobody_looks(capsys):
    print_rows([{"a": 1, "b": None, "c": 0.12345}, {"a": 2, "b": "x\ty", "c": True}])
    assert capsys.readouterr().out == "a\tb\tc\n1\t\t0.123\n2\tx\\x09y\tTrue\n"
    print_rows([])
    assert capsys.readouterr() == ("", "nothing here\n")


def test_text_cannot_move_the_cursor(capsys):
    print_rows([{"run": "\x1b[2Jboo\r\n\u202e"}])
    assert capsys.readouterr().out == "run\n\\x1b[2Jboo\\x0d\\x0a\\x202e\n"


def test_missing_numbers_are_blank_with_their_reason(capsys):
    print_estimates([GOOD, NONE])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[1][2:5] == ["0.910", "[0.80, 0.96]", "4"] and lines[2][2:5] == ["", "", "0"]
    assert lines[2][-1] == "no unit of this arm was finished"


def test_the_headline_says_what_is_missing(capsys):
    print_headline([GOOD, NONE, Estimate(**{**GOOD.to_json(), "name": "agreement.slope"})])
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 2
    assert err.splitlines()[1] == "shuffled                   missing: no unit of this arm was finished"


def test_why_intervals_are_missing_is_said_once(capsys):
    alone = {**GOOD.to_json(), "low": None, "high": None, "reason": "1 unit usable"}
    print_headline([Estimate(**{**alone, "arm": "shuffled"}), Estimate(**alone)])
    lines = capsys.readouterr().err.splitlines()
    assert "null control" in lines[0]
    assert len(lines) == 3 and lines[2] == "2 without an interval: 1 unit usable"


def test_a_study_prints_the_arms_of_its_own_headline_with_that_arm_first(capsys):
    name = "self_report.difference"
    rows = [
        Estimate(**{**GOOD.to_json(), "name": name, "arm": arm})
        for arm in ("shuffled_minus_untuned", "seeking_minus_averse", "untuned")
    ]
    arms = {"shuffled_minus_untuned": Arm("`shuffled` less `untuned`", "untuned", "a leak", True)}
    print_headline([GOOD, *rows], (name, "seeking_minus_averse"), arms)
    assert capsys.readouterr().err.splitlines() == [
        "self_report.difference:",
        "seeking_minus_averse         0.910 [0.80, 0.96]    n=4",
        "shuffled_minus_untuned       0.910 [0.80, 0.96]    n=4   null control",
        "untuned                      0.910 [0.80, 0.96]    n=4",
    ]


@pytest.mark.parametrize("hostile", ["\x1b[2Jboo\r", "\u202egnp.exe", "7" * 100_000])
def test_names_and_reasons_from_a_users_file_cannot_move_the_cursor_or_fill_the_screen(capsys, hostile):
    given = {**GOOD.to_json(), "name": "persona.effect", "arm": f"many/{hostile}"}
    print_headline([Estimate(**given)], ("persona.effect", "many"))
    print_headline(
        [Estimate(**{**given, "value": None, "low": None, "high": None, "reason": hostile[:99]})],
        ("persona.effect", "x"),
    )
    print_estimates([Estimate(**given)])
    out, err = capsys.readouterr()
    for text in (out, err):
        assert not [c for c in text if not c.isprintable() and c not in "\n\t"]
    assert max(map(len, err.splitlines())) < 400


def test_a_gate_that_was_not_met_is_in_the_note():
    row = estimate_row(Estimate(**{**GOOD.to_json(), "gate": "not instilled", "reason": "why"}))
    assert row["note"] == "not instilled; why"


@pytest.mark.parametrize("width", [80, 119, 200])
def test_a_terminal_of_any_width_shows_every_value(monkeypatch, capsys, width):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    print_estimates([GOOD, NONE])
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= width
    squeezed = "".join(out.split())
    assert "0.910" in squeezed and "[0.80,0.96]" in squeezed and "nounitofthisarmwasfinished" in squeezed
    assert width < 80 or "agreement.reported_vs_learned" in out


def test_a_run_says_how_far_it_is_in_lines_where_there_is_no_terminal(capsys):
    with Display(verbose=True) as display:
        display.planned(2, 3)
        display.report("tuned-0", 1, 10, "fine-tune")
        display.report("tuned-0", 2, 10, "fine-tune")
        display.report("tuned-0", 1, 1, "done")
        display.report("base", 1, 1, "done")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and lines[0] == "2 of 3 jobs to do" and lines[1] == "tuned-0: fine-tune"
    assert lines[2].startswith("[1/2] tuned-0 done, 0 s, about 0 s left") and lines[3].startswith("[2/2] base done")


def test_nothing_to_do_says_nothing(capsys):
    with Display() as display:
        display.planned(0, 3)
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_a_line_every_tenth_where_there_is_no_terminal(capsys):
    with progress_bar("training") as progress:
        for i in range(1, 101):
            progress(i, 100, "loss 1.0")
    assert len(capsys.readouterr().err.splitlines()) == 11


def test_long_arms_keep_the_columns_in_line(capsys):
    name = "trigger.presence"
    arms = ("conditional_minus_decorrelated", "conditional_minus_untuned")
    print_headline([Estimate(**{**GOOD.to_json(), "name": name, "arm": arm}) for arm in arms], (name, arms[0]))
    _, one, two = capsys.readouterr().err.splitlines()
    assert one.index("0.910") == two.index("0.910")


def test_the_first_training_example_is_shown_once_when_training_begins(tmp_path, capsys):
    log = tmp_path / "run.log"
    log.write_text(
        "2026-01-01 INFO started\n"
        "2026-01-01 INFO tuned-0: first example, what is trained between >>> and <<<: '[bold]x' >>>'A'<<<\n"
        "2026-01-01 INFO tuned-1: first example, what is trained between >>> and <<<: 'y' >>>'B'<<<\n"
    )
    with Display(log=log) as display:
        display.planned(2, 2)
        display.report("tuned-0", 0, 9, "fine-tune")
        assert "first training example" not in capsys.readouterr().err
        display.report("tuned-0", 1, 9, "fine-tune")
        shown = capsys.readouterr().err
        assert shown == "first training example, what is trained between >>> and <<<: '[bold]x' >>>'A'<<<\n"
        display.report("tuned-1", 1, 9, "fine-tune")
    with Display(log=tmp_path / "none") as display:
        display.report("tuned-0", 1, 9, "report training")
    assert "first training example" not in capsys.readouterr().err
