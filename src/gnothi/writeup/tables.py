"""Estimates as text: CSV for scripts, LaTeX for papers, plain rows for a terminal."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import fields

from gnothi.records import NOT_INTERPRETED, Estimate
from gnothi.writeup.text import interval, number, plain
from gnothi.writeup.view import check_unique, in_order

HEADER = ("estimate", "arm", "value", "interval", "n", "points", "missing", "against", "note")
"""Columns of `to_rows`."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # a bracket after \\ would be read as that command's argument
    "]": "{]}",
}


def to_rows(estimates: Iterable[Estimate]) -> list[tuple[str, ...]]:
    """Rows of text in the order of `HEADER`, sorted by name and arm; control characters are shown as escapes.

    A missing value reads `none` and its reason stands in `note`; a gate that was not met stands there too.

    Raises:
        DataError: A (name, arm) comes twice.
    """
    rows = in_order(estimates)
    check_unique(rows)
    return [
        tuple(
            plain(cell, 300).replace("\n", " ")
            for cell in (
                e.name,
                e.arm,
                number(e.value),
                interval(e.low, e.high) or "none",
                f"{e.n}",
                f"{e.n_points}",
                f"{e.n_missing}",
                e.against,
                "; ".join(x for x in (e.gate if e.gate in NOT_INTERPRETED else "", e.reason or "") if x),
            )
        )
        for e in rows
    ]


def to_csv(estimates: Sequence[Estimate]) -> str:
    """All fields of all estimates, numbers in full precision, missing ones empty.

    Raises:
        DataError: A (name, arm) comes twice.
    """
    check_unique(estimates)
    out = io.StringIO()
    names = [f.name for f in fields(Estimate)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for e in in_order(estimates):
        cells = [getattr(e, name) for name in names]
        writer.writerow("" if c is None else plain(c, 2000) if isinstance(c, str) else repr(c) for c in cells)
    return out.getvalue()


def latex_escape(text: str) -> str:
    r"""Text that LaTeX prints as it stands.

    >>> latex_escape("50% of a_b")
    '50\\% of a\\_b'
    """
    return "".join(_LATEX.get(c, c) for c in plain(text, 300).replace("\n", " "))


def to_latex(estimates: Sequence[Estimate], caption: str = "") -> str:
    r"""A `booktabs` table: name, arm, value, interval, n, points, missing, what it is scored against, one line each.

    Needs `\usepackage{booktabs}`. A missing value is a dash, with its reason under the table.

    Raises:
        DataError: A (name, arm) comes twice.
    """
    check_unique(estimates)
    lines, reasons, previous = [], [], ""
    for e in in_order(estimates):
        if previous and e.name != previous:
            lines.append(r"\addlinespace")
        mark = ""
        if e.reason and (e.value is None or e.low is None):
            reasons.append(f"{latex_escape(e.name)}, {latex_escape(e.arm)}: {latex_escape(e.reason)}")
            mark = rf"\textsuperscript{{{len(reasons)}}}"
        arm = latex_escape(e.arm) + (f" ({e.gate})" if e.gate in NOT_INTERPRETED else "")
        value = "--" if e.value is None else f"${number(e.value)}$"
        brackets = "--" if e.low is None or e.high is None else f"$[{number(e.low)}, {number(e.high)}]$"
        cells = [latex_escape(e.name) if e.name != previous else "", arm, value + mark, brackets]
        cells += [str(e.n), str(e.n_points), str(e.n_missing), latex_escape(e.against)]
        lines.append(" & ".join(cells) + r" \\")
        previous = e.name
    methods = "; ".join(dict.fromkeys(latex_escape(e.method) for e in estimates))
    notes = [rf"\textsuperscript{{{i}}} {reason}\par" for i, reason in enumerate(reasons, 1)]
    head = ["Estimate", "Arm", "Value", "Interval", "$n$", "Points", "Missing", "Scored against"]
    return "\n".join(
        [
            r"\begin{table}",
            *([rf"\caption{{{latex_escape(caption)}}}"] if caption else []),
            r"\begin{tabular}{llrlrrrl}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\footnotesize",
            *notes,
            rf"$n$ counts fine-tuned models. Intervals: {methods}.",
            r"\end{table}",
            "",
        ]
    )
