"""What a write-up is made from: one frozen view of a run, filled by the pipeline.

It knows no folder and no stage, so that a page can be made from planted numbers in a test.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from gnothi.errors import DataError
from gnothi.records import NOT_INSTILLED, NOT_INTERPRETED, Estimate
from gnothi.score.names import ARMS, ESTIMATES, STUDY_ESTIMATES, Arm

Table = Any
"""A pandas DataFrame. What a checker infers of pandas without stubs are unions that no code satisfies."""

HEADLINE = "agreement.reported_vs_learned"
"""The estimate that `preferences` is about, and that the figures draw."""

POINT_COLUMNS = (
    "arm",
    "unit",
    "seed",
    "fold",
    "context_id",
    "attribute",
    "reported",
    "mode",
    "learned",
    "learned_low",
    "learned_high",
    "target",
)
"""Columns of `RunView.points`: one row for an (arm, unit, fold, context, attribute). Numbers may be missing."""

_NUMBERS = ("reported", "mode", "learned", "learned_low", "learned_high", "target")


def check_unique(estimates: Iterable[Estimate]) -> None:
    """Refuse two estimates of one name and arm: a reader could not tell which one counts.

    Raises:
        DataError: A (name, arm) comes twice.
    """
    seen: set[tuple[str, str]] = set()
    twice = []
    for estimate in estimates:
        key = (estimate.name, estimate.arm)
        if key in seen:
            twice.append(key)
        seen.add(key)
    if twice:
        raise DataError(
            f"estimates must hold each (name, arm) once, got {sorted(set(twice))} twice. Pool them before the write-up."
        )


def arm_order(arms: Iterable[str], known: Mapping[str, Arm] = ARMS) -> list[str]:
    """Each arm once: the known ones in their order, then others as they came.

    Args:
        arms: Arms, in any order and as often as they come.
        known: `RunView.arms`; by default those of `preferences`.

    >>> arm_order(["mine", "untuned", "tuned", "mine"])
    ['tuned', 'untuned', 'mine']
    """
    present = list(dict.fromkeys(arms))
    return [a for a in known if a in present] + [a for a in present if a not in known]


def in_order(estimates: Iterable[Estimate], known: Mapping[str, Arm] = ARMS) -> list[Estimate]:
    """Estimates sorted by fixed name, in the order of `score.names`, then by arm, in the order of `known`.

    Names that are not fixed follow as they came, and so do the members of a family, such as the questions of
    `self_report.by_question/…`.
    """
    rows = list(estimates)
    words = {e.name: e.name.partition("/")[0] for e in rows}
    study = any(w in STUDY_ESTIMATES and w not in ESTIMATES for w in words.values())
    fixed = list(dict.fromkeys([*STUDY_ESTIMATES, *ESTIMATES] if study else [*ESTIMATES, *STUDY_ESTIMATES]))
    names = sorted(words, key=lambda n: fixed.index(words[n]) if words[n] in fixed else len(fixed))
    arms = arm_order((e.arm for e in rows), known)
    return sorted(rows, key=lambda e: (names.index(e.name), arms.index(e.arm)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabWords:
    """What the page of a lab says that other pages take from fixed words."""

    subject: str = ""
    """What stands before the headline's value; empty: what the estimate is."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """Name of an estimate, without what follows a slash -> what it is."""
    summary: str = ""
    """One line: what the lab shows."""
    beside: tuple[tuple[str, str], ...] = ()
    """Name and arm of further controls of the headline."""

    def meaning(self, name: str) -> str:
        """What an estimate is, or nothing for a name that the lab does not know."""
        return self.meanings.get(name.partition("/")[0], "")


@dataclass(frozen=True, eq=False, kw_only=True)
class RunView:
    """Everything that is on a page, and nothing that has to be computed by a model."""

    title: str
    question: str
    """One sentence."""
    experiment: str
    model: Mapping[str, Any] = field(default_factory=dict)
    """`name`, `digest`, `dtype` and `notes` (a list, e.g. licence lines)."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for; shown in full, `recipe` also in the methods paragraph."""
    command: str = ""
    """How to run it again."""
    version: str = ""
    created: str = ""
    """ISO 8601."""
    estimates: Sequence[Estimate] = ()
    arms: Mapping[str, Arm] = field(default_factory=lambda: ARMS)
    """Who each arm is, in the order of the page; arms of other names are shown without words."""
    units: Sequence[Mapping[str, Any]] = ()
    """One a fine-tuned model: `unit, arm, seed, fold, parents, gate, choice_agreement, a_rate, adapter_digest, losses,
    steps, tokens, seconds, damage, adapter_check`; all but `unit` and `arm` may be left out."""
    points: Table = field(default_factory=pd.DataFrame)
    """`POINT_COLUMNS`; a column may be left out where it means nothing."""
    validity: Sequence[Mapping[str, Any]] = ()
    """`arm, asked, valid, reasons` (reason to count)."""
    examples: Sequence[Mapping[str, Any]] = ()
    """`arm, unit, kind, messages, answer, value, reason`: raw prompts and what came back."""
    notes: Sequence[str] = ()
    tables: Sequence[Mapping[str, Any]] = ()
    """Tables of their own: `title, caption, columns, rows`; cells are text, numbers or None."""
    figures_extra: Sequence[Mapping[str, Any]] = ()
    """Later sections: `title, svg, caption`; with `name` and `figure` (matplotlib's) they are saved as files as well."""
    unit_values: Sequence[Mapping[str, Any]] = ()
    """`name, arm, unit, value` of single units, where they were scored elsewhere. Else the headline's are computed from
    `points`."""
    gate_threshold: float | None = None
    """Smallest choice agreement that counts as instilled, in [0, 1]."""
    damage_gate: Mapping[str, float | None] | None = None
    """Thresholds at which a fine-tune counts as damaged, by figure; None where nothing was searched for."""
    headline: tuple[str, str] = (HEADLINE, "tuned")
    """Name and arm of the estimate that answers the question."""
    lab: LabWords | None = None
    """Where the page is a lab's."""

    def __post_init__(self) -> None:
        check_unique(self.estimates)
        ids = [u.get("unit") for u in self.units]
        if None in ids or len(set(ids)) < len(ids) or any("arm" not in u for u in self.units):
            raise DataError(f"RunView.units must give each unit and its arm once, got {ids}. Name units by their key.")
        missing = [c for c in ("arm", "unit") if len(self.points) and c not in self.points.columns]
        if missing:
            raise DataError(f"RunView.points must have the columns arm and unit, got none for {missing}.")
        points: Table = self.points.reindex(columns=list(POINT_COLUMNS)).reset_index(drop=True)
        for column in _NUMBERS:
            points[column] = points[column].astype(float)
        object.__setattr__(self, "points", points)

    @property
    def is_study(self) -> bool:
        """Whether the page is of a study, whose numbers are scores in [0, 1], and not of attribute weights."""
        return self.headline[0] != HEADLINE

    def find(self, name: str, arm: str) -> Estimate | None:
        """Return the estimate of this name and arm, if the run has one."""
        return next((e for e in self.estimates if (e.name, e.arm) == (name, arm)), None)

    def named(self, name: str) -> list[Estimate]:
        """Every estimate of one name, arms in order."""
        return [e for e in in_order(self.estimates, self.arms) if e.name == name]

    def in_order(self, arms: Iterable[str]) -> list[str]:
        """Each arm once, in the order of the page."""
        return arm_order(arms, self.arms)

    def is_control(self, arm: str) -> bool:
        """Whether an arm is a null control, expected at 0."""
        return arm in self.arms and self.arms[arm].control

    def against(self, estimate: Estimate) -> str:
        """What an estimate is scored against: its own words, else its arm's."""
        return estimate.against or (self.arms[estimate.arm].against if estimate.arm in self.arms else "")

    def headlined(self) -> list[Estimate]:
        """Every estimate of the headline's name; in a study the headline's own arm first."""
        return sorted(self.named(self.headline[0]), key=lambda e: self.is_study and e.arm != self.headline[1])

    def unit(self, unit_id: str) -> Mapping[str, Any]:
        """Return what is known of a unit; empty for one that trained nothing, such as the base model."""
        return next((u for u in self.units if u["unit"] == unit_id), {})

    def instilled(self, unit_id: str) -> bool:
        """Whether the unit is shown as one that took: false where its gate says `not instilled` or `damaged`."""
        return self.unit(unit_id).get("gate") not in NOT_INTERPRETED

    @property
    def shut_word(self) -> str:
        """What units that are not interpreted are called in a legend."""
        found = {u.get("gate") for u in self.units}
        return " or ".join(g for g in NOT_INTERPRETED if g in found) or NOT_INSTILLED

    def seeds(self) -> list[Any]:
        """Training seeds of the units, each once."""
        return list(dict.fromkeys(u["seed"] for u in self.units if u.get("seed") is not None))

    def per_unit(self, name: str = HEADLINE) -> Table:
        """One value per (arm, unit) of an estimate: the dots beside an interval.

        Returns:
            Columns `arm, unit, value, instilled`. An arm of `unit_values` has just those; for the headline, other arms'
            are Pearson r over the unit's points that have both numbers, left out where fewer than 3 points have.
        """
        given = [v for v in self.unit_values if v["name"] == name and v["value"] is not None]
        rows = [(v["arm"], str(v["unit"]), float(v["value"]), self.instilled(str(v["unit"]))) for v in given]
        if name == HEADLINE:
            others = self.points[~self.points["arm"].isin([v["arm"] for v in given])]
            for (arm, unit), group in others.groupby(["arm", "unit"], sort=False):
                r = pearson(group["reported"].to_numpy(), group["learned"].to_numpy())
                if r is not None:
                    rows.append((str(arm), str(unit), r, self.instilled(str(unit))))
        return pd.DataFrame(rows, columns=["arm", "unit", "value", "instilled"])


def pearson(x: np.ndarray, y: np.ndarray) -> float | None:
    """Pearson r over the positions where both are finite; None below 3 of them or where one never varies.

    >>> pearson(np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0, 4.0, 6.0, 9.0]))
    1.0
    """
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    x, y = x - x.mean(), y - y.mean()
    r = float(x @ y / math.sqrt(float(x @ x) * float(y @ y)))
    return min(1.0, max(-1.0, round(r, 12)))
