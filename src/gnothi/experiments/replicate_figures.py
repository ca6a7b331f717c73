"""The figures of paper B (arXiv:2505.17120), sections 3 to 5, from its result files: points in, numbers or reasons out.

A context without a valid report is left out, never filled in; a figure that needs what is not there is None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gnothi.data.published import ChoiceRows, PublishedResults, ReportRows
from gnothi.intervals import within_unit
from gnothi.measure.learned_weights import fit_map_logit, scale_weights
from gnothi.rng import stream
from gnothi.score import agreement
from gnothi.score.agreement import Value

N_ATTRIBUTES = 5
Weights = Mapping[str, np.ndarray]
"""Context to weights, (5,)."""


@dataclass(frozen=True, slots=True)
class Trials:
    """Choices, padded to one length."""

    contexts: tuple[str, ...]
    differences: np.ndarray
    """(n_contexts, n_trials, 5), normalised differences (A - B) / (high - low)."""
    chose_a: np.ndarray
    """(n_contexts, n_trials) bool."""
    mask: np.ndarray
    """(n_contexts, n_trials) bool, True where there is a choice."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The self-reports of one condition, one or two files, each of which asked about contexts of its own."""

    files: tuple[ReportRows, ...]
    mean: Weights
    """Mean of a context's valid reports; only contexts that have one."""
    fold: Mapping[str, int]
    """Which file asked about it."""


@dataclass(slots=True)
class Notebook:
    """Collects why figures are missing, and what else a reader must know."""

    reasons: dict[str, str] = field(default_factory=dict)
    """Path of a figure, e.g. `instilled.slope.weight_trained`, to why it is None."""
    notes: list[str] = field(default_factory=list)

    def take(self, path: str, value: Value | str) -> float | None:
        """Return the number; or None, with the reason noted under `path`."""
        if isinstance(value, str):
            self.reasons[path] = value
            return None
        if value.value is None:
            self.reasons[path] = value.reason or "undefined"
        return value.value


def trials_of(rows: ChoiceRows, ranges: Weights, notebook: Notebook, what: str) -> Trials | str:
    """Group choices by context; contexts whose ranges are not known are left out and noted."""
    if not ranges:
        return "the inputs' scenarios.csv is missing"
    usable = [i for i, c in enumerate(rows.contexts) if c in ranges]
    if n_lost := len({c for c in rows.contexts if c not in ranges}):
        notebook.notes.append(f"{what}: {n_lost} contexts that scenarios.csv does not know are left out")
    if not usable:
        return f"{what}: no usable choice"
    grouped: dict[str, list[int]] = {}
    for i in usable:
        grouped.setdefault(rows.contexts[i], []).append(i)
    shape = len(grouped), max(map(len, grouped.values()))
    differences, chose_a, mask = np.zeros((*shape, N_ATTRIBUTES)), np.zeros(shape, bool), np.zeros(shape, bool)
    for row, (context, where) in enumerate(grouped.items()):
        low, high = ranges[context]
        n = len(where)
        differences[row, :n] = (rows.a[where] - rows.b[where]) / (high - low)
        chose_a[row, :n], mask[row, :n] = rows.chose_a[where], True
    return Trials(tuple(grouped), differences, chose_a, mask)


def refit(trials: Trials | str, notebook: Notebook, what: str) -> Weights | str:
    """Learn weights from choices, one regression a context, stretched to 100 and rounded as in the paper.

    Args:
        trials: The choices, or why there are none.
        notebook: Takes down contexts whose choices gave no weights.
        what: Name of the choices.
    """
    if isinstance(trials, str):
        return trials
    fit = fit_map_logit(
        trials.differences, trials.chose_a, mask=trials.mask, prior="student_t", context_ids=trials.contexts
    )
    usable = fit.converged & (np.abs(fit.slopes).max(axis=1) > 0)
    if not usable.all():
        notebook.notes.append(f"{what}: the choices of {int((~usable).sum())} contexts gave no weights")
    if not usable.any():
        return f"{what}: no context whose choices gave weights"
    names = [c for c, u in zip(trials.contexts, usable, strict=True) if u]
    scaled = scale_weights(fit.slopes[usable], maximum=100)
    return dict(zip(names, scaled, strict=True))


def measured_weights(data: PublishedResults, kind: str, own: Weights | str, notebook: Notebook) -> Weights | str:
    """The released weights; without them our own fit of the choices; without those the reason.

    Args:
        data: What was read.
        kind: `measured` or `native_measured`.
        own: Our own regressions, or why there are none.
        notebook: Takes down which it was.
    """
    if data.measured.get(kind):
        return data.measured[kind]
    why = data.missing.get(kind, f"{kind}: the regression file holds no weights")
    if isinstance(own, str):
        return f"no measured weights ({why}) and no choices to learn them from ({own})"
    notebook.notes.append(f"{why}: weights are learned from the choices instead")
    return own


def refit_against_released(data: PublishedResults, kind: str, own: Weights | str) -> tuple[Value | str, Value | str]:
    """How our own fit of the choices compares with the released weights.

    Returns:
        (Pearson r over points, largest absolute difference in points of the scale).
    """
    released = data.measured.get(kind)
    if not released:
        why = data.missing.get(kind, f"{kind}: the regression file holds no weights")
        return why, why
    if isinstance(own, str):
        return own, own
    fitted, truth, valid = aligned(released, own)
    r = agreement.pooled_r(fitted, truth, valid, sides=("fitted weights", "released weights"))
    if not valid.any():
        return r, r
    return r, Value(float(np.abs(fitted - truth)[valid].max()), int(valid.sum()) * N_ATTRIBUTES)


def asked(data: PublishedResults, kinds: Sequence[str], notebook: Notebook) -> Asked | str:
    """Average the reports of a condition, context by context.

    Args:
        data: What was read.
        kinds: One kind of report file, or the two held-out halves, which must both be there.
        notebook: Takes down contexts that both halves ask about: held out of at most one, they are left out.
    """
    for kind in kinds:
        if kind not in data.reports:
            both = ": the two held-out halves belong together" if len(kinds) > 1 else ""
            return data.missing[kind] + both
        if not data.reports[kind].contexts:
            return f"{kind}: no valid report"
    files = tuple(data.reports[kind] for kind in kinds)
    groups: list[dict[str, list[int]]] = []
    for rows in files:
        groups.append({})
        for i, context in enumerate(rows.contexts):
            groups[-1].setdefault(context, []).append(i)
    twice = set.intersection(*map(set, groups)) if len(groups) > 1 else set()
    if twice:
        notebook.notes.append(f"{' and '.join(kinds)}: {len(twice)} contexts stand in both and are left out")
    mean: dict[str, np.ndarray] = {}
    fold: dict[str, int] = {}
    for k, (rows, group) in enumerate(zip(files, groups, strict=True)):
        for context, where in group.items():
            if context not in twice:
                mean[context], fold[context] = rows.values[where].mean(axis=0), k
    return Asked(files, mean, fold) if mean else f"{' and '.join(kinds)}: no context of its own with a valid report"


def aligned(weights: Weights, reports: Weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Line reports up with weights: (reported, weights, valid), all contexts that have weights."""
    reported = np.array([reports.get(c, np.zeros(N_ATTRIBUTES)) for c in weights])
    return reported, np.array(list(weights.values())), np.array([c in reports for c in weights], bool)


def correlation(weights: Weights | str, reports: Asked | str) -> Value | str:
    """Pearson r over all points."""
    if isinstance(weights, str) or isinstance(reports, str):
        return reports if isinstance(reports, str) else str(weights)
    return agreement.pooled_r(*aligned(weights, reports.mean))


def interval(weights: Weights | str, reports: Asked | str, *names: str) -> list[float] | None:
    """95% interval of the correlation by a bootstrap over contexts; None where there is none."""
    if isinstance(weights, str) or isinstance(reports, str):
        return None
    known = {c: weights[c] for c in sorted(weights)}  # the draws must not hang on the order of rows
    reported, truth, valid = aligned(known, reports.mean)
    reported, truth = reported[valid], truth[valid]
    if len(reported) < 3:
        return None
    made = within_unit(
        lambda rows: agreement.pooled_r(reported[rows], truth[rows]).value,
        len(reported),
        stream(0, "replicate", *names),
        name="report_vs_measured_r",
        arm=names[-1],
        kind="correlation",
        n_points=reported.size,
    )
    return None if made.low is None or made.high is None else [made.low, made.high]


def slope(weights: Weights | str, reports: Asked | str) -> Value | str:
    """Slope of measured on reported, standardised as in the paper: reports within each file."""
    if isinstance(weights, str) or isinstance(reports, str):
        return reports if isinstance(reports, str) else str(weights)
    folds = np.array([reports.fold.get(c, 0) for c in weights])
    return agreement.slope(*aligned(weights, reports.mean), folds=folds)


def over_points(which: str, weights: Weights | str, reports: Asked | str) -> Value | str:
    """One of `sign_match`, `top_attribute_match` and `within_context_r`."""
    if isinstance(weights, str) or isinstance(reports, str):
        return reports if isinstance(reports, str) else str(weights)
    statistic = {
        "sign_match": agreement.sign_match,
        "top_attribute_match": agreement.top_attribute_match,
        "within_context_r": agreement.within_context_r,
    }[which]
    return statistic(*aligned(weights, reports.mean))


def single_r(weights: Weights | str, rows: ReportRows | str) -> Value | str:
    """Pearson r over single reports, none of them averaged, each against its context's weights."""
    if isinstance(weights, str) or isinstance(rows, str):
        return rows if isinstance(rows, str) else str(weights)
    known = [i for i, c in enumerate(rows.contexts) if c in weights]
    truth = np.array([weights[rows.contexts[i]] for i in known]).reshape(-1, N_ATTRIBUTES)
    return agreement.pooled_r(rows.values[known], truth)


def predicted(weights: Weights | str, trials: Trials | str) -> Value | str:
    """Share of choices that weights predict, in contexts that have both."""
    if isinstance(weights, str) or isinstance(trials, str):
        return weights if isinstance(weights, str) else str(trials)
    used = np.array([weights.get(c, np.zeros(N_ATTRIBUTES)) for c in trials.contexts])
    there = np.array([c in weights for c in trials.contexts], bool)
    return agreement.choices_predicted(used, trials.differences, trials.chose_a, there, mask=trials.mask)
