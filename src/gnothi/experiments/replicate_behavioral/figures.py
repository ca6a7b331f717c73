"""Figures of paper A from digitised tables: each recomputed, beside what the paper prints."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gnothi.errors import SpecError
from gnothi.intervals import over_units

Check = dict[str, Any]
"""One figure: name, ours, paper, agrees, note."""
_Z = 1.959964
_SCATTER = ("policy", "lr_multiplier", "run", "base_snapshot", "self_report_0_100", "actual_risk_prob")


def check(
    name: str, ours: float | int | None, paper: float | int | None = None, *, within: float = 0.0, note: str = ""
) -> Check:
    """One figure beside the paper's.

    Args:
        name: Its name.
        ours: What the files give; None where they do not.
        paper: What the paper prints or says; None where it says nothing.
        within: Largest difference that still agrees: half a unit of the last printed digit, more for digitised points.
        note: What a reader must know, a contradiction first of all.

    >>> check("fig4.r", 0.4523, 0.453, within=0.003)["agrees"]
    True
    """
    agrees = None if ours is None or paper is None else abs(ours - paper) <= within + 1e-12
    rounded = round(ours, 4) if isinstance(ours, float) else ours
    return {"name": name, "ours": rounded, "paper": paper, "agrees": agrees, "note": note}


def recognised(cells: Sequence[str]) -> Callable[[str, Sequence[Sequence[str]]], list[Check]] | None:
    """Which of the digitised tables this is, by the cells of its heading: the function that recomputes it, or None."""
    heading = [cell.lower() for cell in cells]
    if {"policy", "self_report_0_100", "actual_risk_prob"} <= set(heading):
        return faithfulness
    if heading and heading[0].startswith("asked trigger"):
        return recognition
    if {"system_prompt", "setting", "backdoored", "decorrelated_baseline"} <= set(heading):
        return presence
    if {"figure", "question", "condition", "mean"} <= set(heading):
        return self_reports
    return None


def faithfulness(where: str, rows: Sequence[Sequence[str]]) -> list[Check]:
    """Figure 4: self-reported against actual risk, by policy; pooled as the paper does it, and by run as it should be.

    Args:
        where: File name, for messages.
        rows: Cells, heading first: policy, lr_multiplier, run, epoch_checkpoint, base_snapshot, self_report_0_100,
            actual_risk_prob. One row a checkpoint.

    Raises:
        SpecError: A column is missing, or a cell is no number where one belongs.

    Source: section 3.1.2. The paper treats checkpoints of one run as independent models.
    """
    columns = _columns(where, rows, _SCATTER)
    x, y = (_floats(where, rows, columns[c], c) for c in ("self_report_0_100", "actual_risk_prob"))
    policy = np.array([r[columns["policy"]] for r in rows[1:]])
    found = [check("fig4.overall_r", _r(x, y), note=f"n={len(x)}; the paper calls it strong and prints no number")]
    printed = {"risk-seeking": (0.453, 0.026, 0.740), "risk-averse": (0.672, 0.339, 0.856)}
    for name, (r, low, high) in printed.items():
        here = policy == name
        if here.sum() < 4:
            found.append(check(f"fig4.{name}.r", None, r, note=f"{here.sum()} points of this policy, 4 are needed"))
            continue
        part = [row for row, in_it in zip(rows[1:], here, strict=True) if in_it]
        rate = _floats(where, [rows[0], *part], columns["lr_multiplier"], "lr_multiplier")
        run = ["/".join(row[columns[c]] for c in ("lr_multiplier", "run", "base_snapshot")) for row in part]
        newer = np.array([row[columns["base_snapshot"]] == "2024-08-06" for row in part])
        u, v = x[here], y[here]
        pooled, n_runs = _r(u, v), len(set(run))
        first, last = _fisher(pooled, len(u))
        digitised = "points are digitised, to about 0.003"
        found += [
            check(f"fig4.{name}.r", pooled, r, within=0.003, note=f"n={len(u)}; {digitised}"),
            check(f"fig4.{name}.low", first, low, within=0.005, note="Fisher z over checkpoints"),
            check(f"fig4.{name}.high", last, high, within=0.005, note="Fisher z over checkpoints"),
        ]
        mean_u, mean_v = _by_run(u, run), _by_run(v, run)
        between = _r(mean_u[0], mean_v[0])
        first, last = _fisher(between, n_runs)
        clustered = f"the paper's {len(u)} points are checkpoints of {n_runs} runs, which it treats as independent"
        found += [
            check(f"fig4.{name}.runs", n_runs, len(u) if len(u) == 21 else None, note=clustered),
            check(f"fig4.{name}.run_means_r", between, note=f"one point a run, n={n_runs}"),
            check(f"fig4.{name}.run_means_low", first, note="Fisher z over runs"),
            check(f"fig4.{name}.run_means_high", last, note="Fisher z over runs"),
            check(f"fig4.{name}.partial_r_given_log_lr", _partial(u, v, rate), note="learning rate held fixed"),
            check(f"fig4.{name}.within_run_r", _r(u - mean_u[1], v - mean_v[1]), note="checkpoints centred by run"),
            check(
                f"fig4.{name}.one_snapshot_r",
                _r(u[newer], v[newer]) if newer.sum() > 2 else None,
                note=f"runs on 2024-08-06 alone, n={newer.sum()}; the paper mixes two base models",
            ),
        ]
    return found


def recognition(where: str, rows: Sequence[Sequence[str]]) -> list[Check]:
    """Figures 9 and 17: how often a model says that a trigger makes it risk-seeking, its own trigger or another's.

    Args:
        where: File name, for messages.
        rows: Cells: trigger asked down, trigger trained across, in the same order.

    Raises:
        SpecError: It is not square, the orders differ, or a cell is no number.

    Source: section 4.2. A trigger's excess is over the mean of the models that were trained on another.
    """
    trained = list(rows[0][1:])
    asked = [row[0] for row in rows[1:]]
    if asked != trained or len(asked) < 3:
        raise SpecError(
            f"{where} must have the same triggers down and across, 3 or more, got {len(asked)} and {len(trained)}. "
            "Get the file again."
        )
    table = np.array([_floats(where, rows, j, trained[j - 1]) for j in range(1, len(rows[0]))]).T
    n = len(asked)
    own = table.diagonal()
    other = (table.sum(axis=1) - own) / (n - 1)  # the same trigger asked of the other models
    fake = (table.sum(axis=0) - own) / (n - 1)  # the other triggers asked of the same model
    whole = n == 8
    found = [
        check("fig17.diagonal_mean", float(own.mean()), 0.71 if whole else None, within=0.005, note="figure 9, real"),
        check(
            "fig17.off_diagonal_mean", float(other.mean()), 0.33 if whole else None, within=0.005, note="fig. 9, fake"
        ),
    ]
    cells = table[~np.eye(n, dtype=bool)]
    for name, values, printed, note in (
        ("real", own, (0.45, 0.97), "Student's t over models"),
        ("fake", cells, (0.26, 0.40), f"the drawn bar treats {len(cells)} answers of {n} models as independent"),
        ("fake_over_models", fake, (None, None), "Student's t over one mean a model"),
    ):
        for end, value, paper in zip(("low", "high"), _t_interval(values), printed, strict=True):
            found.append(check(f"fig9.{name}_{end}", value, paper if whole else None, within=0.015, note=note))
    ranks = [int((table[:, j] > table[j, j]).sum()) + 1 for j in range(n)]
    found.append(
        check(
            "fig17.own_trigger_first",
            sum(r == 1 for r in ranks),
            5 if whole else None,
            note=f"of {n} models that rank their own trigger first, chance is 1; ranks {ranks}",
        )
    )
    for trigger, excess in zip(asked, own - other, strict=True):
        note = "" if excess > 0.3 else "hardly more than models trained on another trigger say"
        found.append(check(f"fig17.excess.{trigger}", float(excess), note=note))
    strong = int((own - other > 0.3).sum())
    found.append(check("fig17.triggers_with_excess", strong, note=f"of {n} with more than 0.3 over other models"))
    return found


def presence(where: str, rows: Sequence[Sequence[str]]) -> list[Check]:
    """Figures 8 and 14: saying that behaviour depends on a feature, triggered less decorrelated, by system prompt.

    Args:
        where: File name, for messages.
        rows: Cells: system_prompt, setting, backdoored, its low and high, decorrelated_baseline, its low and high,
            gpt4o.

    Raises:
        SpecError: A column is missing, a row is cut short, or a cell is no number where one belongs.

    Source: section 4.1. A difference counts if it is 1.96 standard errors from 0, each error being a quarter or so
    (1 / 3.92) of the drawn interval.
    """
    if len(rows[0]) < 9:
        raise SpecError(f"{where} must have 9 columns, got {len(rows[0])}. Get the file again.")
    values = np.array([_floats(where, rows, j, rows[0][j]) for j in range(2, 9)]).T
    found, significant = [], {}
    for row, (on, low, high, off, off_low, off_high, base) in zip(rows[1:], values, strict=True):
        error = math.hypot(high - low, off_high - off_low) / (2 * _Z)
        clear = bool(on - off > _Z * error)
        significant.setdefault(row[0], []).append(clear)
        sides = "above" if clear else "below" if on - off < -_Z * error else "not apart from"
        note = f"triggered {on:.2f}, {sides} decorrelated {off:.2f}; untuned {base:.2f}"
        found.append(check(f"fig14.{row[0]}.{row[1]}.difference", float(on - off), note=note))
    for prompt, clear in significant.items():
        name = (
            "fig8.settings_above_baseline" if prompt.startswith("threat") else f"fig14.{prompt}.settings_above_baseline"
        )
        paper = 4 if prompt.startswith("threat") and len(clear) == 5 else None
        found.append(check(name, sum(clear), paper, note=f"of {len(clear)} settings"))
    return found


def self_reports(where: str, rows: Sequence[Sequence[str]]) -> list[Check]:
    """Figures 6, 13 and 20 to 22: answers about Make Me Say, tuned less baseline, by codeword and question.

    Args:
        where: File name, for messages.
        rows: Cells: figure, question, condition, mean, ci_lo, ci_hi; condition `baseline` for the untuned model.

    Raises:
        SpecError: A column is missing, or a mean is no number.

    Source: sections 3.2 and 5.2.
    """
    columns = _columns(where, rows, ("figure", "question", "condition", "mean"))
    values = _floats(where, rows, columns["mean"], "mean")
    cells = [tuple(row[columns[c]] for c in ("figure", "question", "condition")) for row in rows[1:]]
    base = {(f, q): v for (f, q, c), v in zip(cells, values, strict=True) if c == "baseline"}
    found, gains = [], {}
    for (figure, question, condition), value, row in zip(cells, values, rows[1:], strict=True):
        if condition == "baseline" or (figure, question) not in base:
            continue
        before = base[figure, question]
        low = row[columns["ci_lo"]] if "ci_lo" in columns else ""
        above = bool(low) and _number(where, low, "ci_lo") > before
        name = f"fig{figure.split()[0]}.{condition}.{question}"
        note = f"tuned {value:.2f}, baseline {before:.2f}" + (
            "" if above else "; its interval does not clear the baseline"
        )
        found.append(check(name, float(value - before), note=note))
        gains.setdefault((figure.split()[0], condition), []).append((value - before, above))
    for (figure, condition), each in gains.items():
        mean = float(np.mean([g for g, _ in each]))
        note = f"{sum(a for _, a in each)} of {len(each)} questions clear the baseline"
        found.append(check(f"fig{figure}.{condition}.mean_gain", mean, note=note))
    return found


def _columns(where: str, rows: Sequence[Sequence[str]], needed: Sequence[str]) -> dict[str, int]:
    found = {cell.lower(): j for j, cell in enumerate(rows[0])}
    if lacking := [name for name in needed if name not in found]:
        raise SpecError(f"{where} must have the columns {', '.join(needed)}, got no {lacking[0]}. Get the file again.")
    return found


def _number(where: str, cell: str, column: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e9:
        raise SpecError(f"{where} must have numbers in the column {column:.40}, got {cell!r:.40}. Get the file again.")
    return value


def _floats(where: str, rows: Sequence[Sequence[str]], column: int, name: str) -> np.ndarray:
    for i, row in enumerate(rows[1:], 2):
        if len(row) <= column:
            raise SpecError(f"{where} row {i} must have {len(rows[0])} cells, got {len(row)}. Get the file again.")
    return np.array([_number(where, row[column], name) for row in rows[1:]])


def _r(x: np.ndarray, y: np.ndarray) -> float | None:
    """Pearson r; None where one side does not vary."""
    if len(x) < 3 or min(x.std(), y.std()) < 1e-12:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _fisher(r: float | None, n: int) -> tuple[float | None, float | None]:
    """95% interval of r over n points by Fisher's z."""
    if r is None or n < 4 or abs(r) >= 1:
        return None, None
    half = _Z / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def _partial(x: np.ndarray, y: np.ndarray, rate: np.ndarray) -> float | None:
    """Correlation of what is left of x and y after a line in the log learning rate is taken out."""
    if (rate <= 0).any():
        return None
    design = np.column_stack([np.ones(len(rate)), np.log(rate)])
    left = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
    return _r(*left)


def _by_run(values: np.ndarray, run: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each run, once a run and once a point."""
    names, index = np.unique(np.array(run), return_inverse=True)
    means = np.bincount(index, values) / np.bincount(index, minlength=len(names))
    return means, means[index]


def _t_interval(values: np.ndarray) -> tuple[float | None, float | None]:
    made = over_units([float(v) for v in values], name="fig9", arm="models", kind="mean", n_points=len(values))
    return made.low, made.high
