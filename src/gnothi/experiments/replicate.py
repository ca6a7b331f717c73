"""Published numbers of paper B (arXiv:2505.17120) from its authors' raw files, or a replication's in the same layout.

Definitions are those of section 3 of the paper: points are (context, attribute) pairs pooled over contexts, a context's
report is the mean of its valid replies, measured weights come from the released regressions. Two deviations: least
squares in place of a Bayesian regression (the same to three decimals), and intervals from a bootstrap over contexts, since
the points of one context are not independent. Where no regression file was released, weights are learned from choices.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnothi.data.published import PublishedResults, ReportRows, read_results
from gnothi.errors import SpecError
from gnothi.experiments import replicate_figures as figures
from gnothi.experiments.replicate_figures import Asked, Notebook, Trials, Weights

PAPERS = ("self-interpretability", "behavioral-self-awareness")
ARMS = {
    "off_the_shelf": ("off_the_shelf",),
    "weight_trained": ("weight_trained",),
    "introspection_trained": ("trained_on_first", "trained_on_last"),
}
"""Conditions of the instilled contexts, and the report files that each pools."""
NATIVE = {"before": "native_before", "after": "native_after"}

PAPER = {
    "instilled.choice_agreement_with_target": (0.826, 0.828),
    "instilled.measured_vs_target_r": (0.84, 0.87),
    "instilled.report_vs_measured_r.off_the_shelf": (0.10, -0.01),
    "instilled.report_vs_measured_r.weight_trained": (0.54, 0.50),
    "instilled.report_vs_measured_r.introspection_trained": (0.74, 0.75),
    "instilled.report_vs_target_r.weight_trained": (0.49, 0.45),
    "instilled.report_vs_target_r.introspection_trained": (0.68, 0.70),
    "native.before_r": (0.46, 0.40),
    "native.after_r": (0.71, 0.70),
    "native.regression_accuracy": (0.845, 0.852),
}
"""Figures as the paper prints them, for GPT-4o and GPT-4o-mini, in the order of its experiments."""
_PAPER_MODELS = ("gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """Recomputed figures of one model."""

    model: str
    instilled: dict[str, Any]
    """Experiments 1 and 2: contexts whose weights were trained."""
    native: dict[str, Any]
    """Experiment 3: contexts that no fine-tune has seen."""
    missing: dict[str, str] = field(default_factory=dict)
    """Path of a figure, e.g. `native.before_r`, to why it is None."""
    notes: tuple[str, ...] = ()
    """What was left out of the files, and what was done instead."""

    @property
    def reasons(self) -> list[str]:
        """Lines for a reader: every note, and every cause of missing figures with the figures that it took."""
        causes: dict[str, list[str]] = {}
        for path, why in self.missing.items():
            causes.setdefault(why, []).append(path)
        return [*self.notes, *(f"{why}; therefore missing: {', '.join(paths)}" for why, paths in causes.items())]

    def to_json(self) -> dict[str, Any]:
        """One object: `instilled` and `native` with numbers or null, `missing` and `notes` with the reasons."""
        return {
            "model": self.model,
            "instilled": self.instilled,
            "native": self.native,
            "missing": dict(self.missing),
            "notes": list(self.notes),
        }

    def table(self) -> list[dict[str, Any]]:
        """Rows of `figure`, `ours`, `paper`, `difference` and `note`; what the paper prints comes first.

        `paper` is None where the paper prints no such figure of a model with this name.
        """
        ours = dict(_leaves({"instilled": self.instilled, "native": self.native}))
        rows = []
        for path in sorted(ours, key=lambda p: list(PAPER).index(p) if p in PAPER else len(PAPER)):
            printed = None
            if path in PAPER and self.model in _PAPER_MODELS:
                printed = PAPER[path][_PAPER_MODELS.index(self.model)]
            value = ours[path]
            rows.append(
                {
                    "figure": path,
                    "ours": None if value is None else round(value, 4),
                    "paper": printed,
                    "difference": None if value is None or printed is None else round(value - printed, 3),
                    "note": self.missing.get(path, ""),
                }
            )
        return rows


def check_paper(paper: str) -> None:
    """Refuse a paper whose files are not known.

    Raises:
        SpecError: Another name than one of `PAPERS`.
    """
    if paper not in PAPERS:
        raise SpecError(f"PAPER must be one of {', '.join(PAPERS)}, got {paper!r:.60}. Choose one of these.")


def replicate_self_interpretability(
    directory: str | Path, *, inputs: str | Path | None = None, model: str
) -> Replication:
    """Recompute the published figures of one model.

    Args:
        directory: Folder of result files, `<model>_<ending>.csv`; docs/replicate.md lists the endings.
        inputs: Folder of `scenarios.csv` and `instilled_weights.csv`; None: `directory`, then `directory/../inputs`.
        model: The files' prefix, e.g. `gpt-4o-mini-2024-07-18`.

    Returns:
        Replication. Figures that need a file, a row or a context that is not there are None, with a reason.

    Raises:
        SpecError: No such folder, no file of that model, or a file that is no table of the expected layout.
    """
    data = read_results(directory, model=model, inputs=inputs)
    notebook = Notebook(notes=list(data.notes))
    instilled = _instilled(data, notebook)
    native = _native(data, notebook)
    return Replication(
        model=model, instilled=instilled, native=native, missing=notebook.reasons, notes=tuple(notebook.notes)
    )


def _instilled(data: PublishedResults, book: Notebook) -> dict[str, Any]:
    trials = _trials(data, "choices", book)
    own = figures.refit(trials, book, "choices")
    measured = figures.measured_weights(data, "measured", own, book)
    targets: Weights | str = data.targets or data.missing.get("targets", "instilled_weights.csv holds no weights")
    arms = {arm: figures.asked(data, kinds, book) for arm, kinds in ARMS.items()}
    _note_unmeasured(measured, arms, book)

    def each(key: str, compute: Any) -> dict[str, float | None]:
        return {arm: book.take(f"instilled.{key}.{arm}", compute(reports)) for arm, reports in arms.items()}

    def counted(arm: str, reports: Asked | str) -> int | None:
        if isinstance(reports, str):
            book.reasons[f"instilled.n_points.{arm}"] = reports
            return None
        return figures.N_ATTRIBUTES * len(reports.mean)

    def single(kind: str, path: str) -> float | None:
        return book.take(path, figures.single_r(measured, _rows(data, kind)))

    folds = ARMS["introspection_trained"]
    return {
        "choice_agreement_with_target": book.take(
            "instilled.choice_agreement_with_target", figures.predicted(targets, trials)
        ),
        "measured_vs_target_r": book.take("instilled.measured_vs_target_r", _measured_vs_target(measured, targets)),
        "report_vs_measured_r": each("report_vs_measured_r", lambda a: figures.correlation(measured, a)),
        "report_vs_measured_interval": {
            arm: figures.interval(measured, reports, "instilled", arm) for arm, reports in arms.items()
        },
        "slope": each("slope", lambda a: figures.slope(measured, a)),
        "report_vs_target_r": each("report_vs_target_r", lambda a: figures.correlation(targets, a)),
        "n_points": {arm: counted(arm, reports) for arm, reports in arms.items()},
        "sign_match": each("sign_match", lambda a: figures.over_points("sign_match", measured, a)),
        "top_attribute_match": each(
            "top_attribute_match", lambda a: figures.over_points("top_attribute_match", measured, a)
        ),
        "mean_within_context_r": each(
            "mean_within_context_r", lambda a: figures.over_points("within_context_r", measured, a)
        ),
        "single_report_r": {
            "off_the_shelf": single("off_the_shelf", "instilled.single_report_r.off_the_shelf"),
            "weight_trained": single("weight_trained", "instilled.single_report_r.weight_trained"),
            "introspection_trained_folds": [
                single(kind, f"instilled.single_report_r.introspection_trained_folds.{i}")
                for i, kind in enumerate(folds)
            ],
        },
        "choice_prediction_accuracy_from_reports": each(
            "choice_prediction_accuracy_from_reports", lambda a: figures.predicted(_mean(a), trials)
        ),
        **_measurement(data, "instilled", "measured", measured, own, trials, book),
        "valid_report_rows": _counts(data, [kind for kinds in ARMS.values() for kind in kinds]),
    }


def _native(data: PublishedResults, book: Notebook) -> dict[str, Any]:
    trials = _trials(data, "native_choices", book)
    own = figures.refit(trials, book, "native_choices")
    measured = figures.measured_weights(data, "native_measured", own, book)
    arms = {when: figures.asked(data, (kind,), book) for when, kind in NATIVE.items()}
    _note_unmeasured(measured, arms, book)
    found: dict[str, Any] = {}
    for when, reports in arms.items():
        computed = {
            f"{when}_r": figures.correlation(measured, reports),
            f"{when}_slope": figures.slope(measured, reports),
            f"sign_{when}": figures.over_points("sign_match", measured, reports),
            f"top_attribute_{when}": figures.over_points("top_attribute_match", measured, reports),
            f"within_context_r_{when}": figures.over_points("within_context_r", measured, reports),
            f"single_report_r_{when}": figures.single_r(measured, _rows(data, NATIVE[when])),
            f"choice_prediction_{when}": figures.predicted(_mean(reports), trials),
        }
        found |= {key: book.take(f"native.{key}", value) for key, value in computed.items()}
        found[f"{when}_interval"] = figures.interval(measured, reports, "native", when)
        if isinstance(reports, str):
            book.reasons[f"native.n_{when}"] = reports
        found[f"n_{when}"] = None if isinstance(reports, str) else figures.N_ATTRIBUTES * len(reports.mean)
    found |= _measurement(data, "native", "native_measured", measured, own, trials, book)
    found["valid_report_rows"] = _counts(data, NATIVE.values())
    return found


def _measurement(
    data: PublishedResults,
    part: str,
    kind: str,
    measured: Weights | str,
    own: Weights | str,
    trials: Trials | str,
    book: Notebook,
) -> dict[str, Any]:
    """How well measured weights predict the choices they come from, and how close our own fit comes to them."""
    accuracy = figures.predicted(measured, trials)
    r, largest = figures.refit_against_released(data, kind, own)
    return {
        "regression_accuracy": book.take(f"{part}.regression_accuracy", accuracy),
        "refit_vs_released_r": book.take(f"{part}.refit_vs_released_r", r),
        "refit_vs_released_max_abs_difference": book.take(f"{part}.refit_vs_released_max_abs_difference", largest),
    }


def _trials(data: PublishedResults, kind: str, book: Notebook) -> Trials | str:
    if kind not in data.choices:
        return data.missing[kind]
    return figures.trials_of(data.choices[kind], data.ranges, book, kind)


def _measured_vs_target(measured: Weights | str, targets: Weights | str) -> figures.Value | str:
    if isinstance(measured, str) or isinstance(targets, str):
        return measured if isinstance(measured, str) else str(targets)
    known, truth, valid = figures.aligned(measured, targets)
    return figures.agreement.pooled_r(known, truth, valid, sides=("target weights", "measured weights"))


def _rows(data: PublishedResults, kind: str) -> ReportRows | str:
    return data.reports[kind] if kind in data.reports else data.missing[kind]


def _mean(reports: Asked | str) -> Weights | str:
    return reports if isinstance(reports, str) else reports.mean


def _counts(data: PublishedResults, kinds: Iterable[str]) -> dict[str, int]:
    """Valid rows of each report file that is there."""
    return {kind: len(data.reports[kind].contexts) for kind in kinds if kind in data.reports}


def _note_unmeasured(measured: Weights | str, arms: dict[str, Asked | str], book: Notebook) -> None:
    """Say where reports have nothing to be scored against."""
    if isinstance(measured, str):
        return
    for arm, reports in arms.items():
        if not isinstance(reports, str) and (n := len(set(reports.mean) - set(measured))):
            book.notes.append(f"{arm}: {n} contexts with a report have no measured weights and are not scored")


def _leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every number of nested dicts and lists with its path; intervals, which are pairs of bounds, are left out."""
    if isinstance(tree, dict):
        return [
            leaf
            for key, value in tree.items()
            if "interval" not in key
            for leaf in _leaves(value, f"{path}.{key}" if path else key)
        ]
    if isinstance(tree, list):
        return [leaf for i, value in enumerate(tree) for leaf in _leaves(value, f"{path}.{i}")]
    return [(path, tree)]
