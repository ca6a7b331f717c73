import csv
import io

import planted
import pytest

from gnothi.errors import DataError
from gnothi.writeup.tables import HEADER, latex_escape, to_csv, to_latex, to_rows

ESTIMATES = planted.estimates()


@pytest.mark.parametrize("write", [to_rows, to_csv, to_latex])
def test_duplicates_are_refused(write):
    with pytest.raises(DataError, match=r"each .name, arm. once"):
        write([ESTIMATES[0], ESTIMATES[0]])


def test_rows_come_in_the_order_of_the_fixed_words_and_say_why_a_number_is_missing():
    rows = [dict(zip(HEADER, r, strict=True)) for r in to_rows(reversed(ESTIMATES))]
    assert (rows[0]["arm"], rows[0]["value"], rows[0]["interval"], rows[0]["n"]) == (
        "tuned",
        "0.87",
        "[0.82, 0.92]",
        "4",
    )
    missing = next(r for r in rows if r["arm"] == "other_instance")
    assert missing["value"] == missing["interval"] == "none" and "another seed" in missing["note"]


def test_csv_gives_every_number_back():
    rows = list(csv.DictReader(io.StringIO(to_csv(ESTIMATES))))
    assert len(rows) == len(ESTIMATES)
    back = {(r["name"], r["arm"]): r for r in rows}
    for e in ESTIMATES:
        row = back[e.name, e.arm]
        assert (float(row["value"]) if row["value"] else None) == e.value
        assert (float(row["low"]) if row["low"] else None) == e.low
        assert row["reason"] == (e.reason or "")


def test_latex_is_escaped_and_keeps_intervals_n_and_reasons():
    text = to_latex(ESTIMATES, caption="100% of a_b")
    assert r"\caption{100\% of a\_b}" in text and r"\toprule" in text and r"\bottomrule" in text
    assert r"agreement.reported\_vs\_learned & tuned & $0.87$ & $[0.82, 0.92]$ & 4 & 384 & 3" in text
    assert "another seed" in text and "_" not in text.replace(r"\_", "").replace(r"\bottomrule", "")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].strip().splitlines()[1:]
    assert all(line.replace(r"\&", "").count(" & ") == 7 for line in body if line != r"\addlinespace")


def test_latex_specials_are_text():
    assert latex_escape("\\input{x} $y^2$ ~") == (
        r"\textbackslash{}input\{x\} \$y\textasciicircum{}2\$ \textasciitilde{}"
    )


def test_control_characters_do_not_reach_a_terminal():
    e = planted.estimate("agreement.slope", "mine\x1b[2J", 0.5)
    assert to_rows([e])[0][1] == "mine\\x1b[2J"
