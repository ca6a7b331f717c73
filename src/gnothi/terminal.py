"""Tables and bars on the terminal. Model text never gets here unescaped: only numbers, names and our own words."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gnothi.records import NOT_INTERPRETED, Estimate
from gnothi.score.names import ARMS, Arm

HEADLINE = ("agreement.reported_vs_learned", "tuned")
"""The headline of `preferences`."""
_MOST_ARM = 60
WIDE = 120
"""Columns from which on notes stand beside the numbers."""
_NUMBERS = ("value", "interval", "n", "points", "missing")
_ARM_LINE = "  {:26} {:>7} {:>15} {:>3} {:>6} {:>7}"


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table: aligned on a terminal, tab-separated elsewhere. All rows have the first one's keys."""
    if not rows:
        print("nothing here", file=sys.stderr)
        return
    names = list(rows[0])
    if not sys.stdout.isatty():
        print("\t".join(names))
        for row in rows:
            print("\t".join(_cell(row.get(n)) for n in names))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name in names:
        numeric = all(isinstance(r.get(name), int | float | None) for r in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(_cell(row.get(n))) for n in names])
    Console().print(table)


def print_estimates(estimates: Sequence[Estimate], meaning: Callable[[str], str] = lambda _: "") -> None:
    """Print every estimate with its interval and n, or the reason why it is missing.

    On a terminal arms stand below the name of their estimate and what it is; where it is narrow, notes take a line of
    their own.

    Args:
        estimates: All of a run.
        meaning: Name of an estimate -> what it is, or nothing.
    """
    rows = [estimate_row(e) for e in estimates]
    if not sys.stdout.isatty():
        print_rows(rows)
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    wide = console.width >= WIDE
    console.print(Text(_ARM_LINE.format("", *_NUMBERS), style="dim"))
    for name in dict.fromkeys(row["estimate"] for row in rows):
        said = _cell(meaning(name))
        console.print(Text.assemble((_cell(name), "bold"), (f"  {said}" if said else "", "dim")))
        for row in rows:
            if row["estimate"] != name:
                continue
            line = Text(_ARM_LINE.format(_cell(row["arm"]), *(_cell(row[k]) for k in _NUMBERS)))
            note = Text(_cell(row["note"]), style="dim")
            if wide and len(line) + 2 + len(note) <= console.width:
                line, note = line + "  " + note, Text()
            console.print(line)
            if note:
                console.print(Padding(note, (0, 0, 0, 4)))


def estimate_row(e: Estimate) -> dict[str, Any]:
    """One estimate as a row of short cells."""
    interval = f"[{e.low:.2f}, {e.high:.2f}]" if e.low is not None and e.high is not None else ""
    return {
        "estimate": e.name,
        "arm": e.arm,
        "value": None if e.value is None else f"{e.value:.3f}",
        "interval": interval,
        "n": e.n,
        "points": e.n_points,
        "missing": e.n_missing,
        "note": "; ".join(x for x in (e.gate if e.gate in NOT_INTERPRETED else None, e.reason) if x),
    }


def print_headline(
    estimates: Sequence[Estimate],
    headline: tuple[str, str] = HEADLINE,
    arms: Mapping[str, Arm] | None = None,
    control: str = "null control",
) -> None:
    """Print the headline's number for every arm, on standard error.

    Why intervals are missing is said once, since it is the same for most arms.

    Args:
        estimates: All of a run.
        headline: Name and arm of the estimate that answers the run's question; that arm comes first in a study.
        arms: The run's own, to tell null controls; by default those of `preferences` for its headline, else none.
        control: What an arm that is there to compare with is called.
    """
    name, first = headline
    known = arms if arms is not None else ARMS if name == HEADLINE[0] else {}
    rows = [e for e in estimates if e.name == name]
    if name != HEADLINE[0]:
        rows.sort(key=lambda e: e.arm != first)
        print(f"{name}:", file=sys.stderr)
    width = max([26, *(min(len(e.arm), _MOST_ARM) for e in rows)])
    no_interval: dict[str, int] = {}
    for e in rows:
        row = estimate_row(e)
        arm = _cell(e.arm) if len(e.arm) <= _MOST_ARM else _cell(e.arm[: _MOST_ARM - 1]) + "…"
        kind = control if e.arm in known and known[e.arm].control else ""
        value, note = row["value"], _cell(row["note"])
        if e.value is not None and e.gate not in NOT_INTERPRETED and e.reason:
            no_interval[e.reason] = no_interval.get(e.reason, 0) + 1
            note = ""
        if e.value is None:
            print(f"{arm:{width}} missing: {note}", file=sys.stderr)
            continue
        print(f"{arm:{width}} {value:>7} {row['interval']:15} n={e.n:<3} {kind:12} {note}".rstrip(), file=sys.stderr)
    for reason, count in no_interval.items():
        print(f"{count} without an interval: {_cell(reason)}", file=sys.stderr)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal, a line every tenth elsewhere; gives a function of (done, total, text)."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        said = -1

        def line(done: int, total: int, text: str) -> None:
            nonlocal said
            if 10 * done // max(total, 1) > said:
                said = 10 * done // max(total, 1)
                print(f"{title}: {done}/{total} {text}", file=sys.stderr, flush=True)

        yield line
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, text="")
        yield lambda done, total, text: bar.update(task, completed=done, total=total, text=text)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
