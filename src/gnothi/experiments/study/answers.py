"""What a study's units answered, lined up as scores: the only thing that its numbers are made of."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gnothi.experiments.study.design import ADAPTER, UNTUNED, Select
from gnothi.records import NOT_INTERPRETED, Sample
from gnothi.store import RunFolder

MASS = "log_mass"
"""Column of decimal logarithms of the probability that all options, or numbers, held together."""
TABLES = {"behaviour": "choices", "self_report": "reports"}
"""Kind of probe -> table of a unit."""


@dataclass(frozen=True)
class Scored:
    """One selection's number in each unit of its arm."""

    values: list[float | None]
    """By unit, in the order of seeds; None where no answer could be scored, or where the unit is not interpreted."""
    seeds: list[int]
    n_points: int
    n_missing: int


def rows_of(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Samples as rows of a table, with what groups them as columns of their own."""
    return [
        {
            "question": s.extra["question"],
            "subject": s.extra["subject"],
            "labels": json.dumps(s.extra.get("labels", {}), sort_keys=True),
            "score": s.value[0] if s.value else None,
            MASS: s.extra.get(MASS),
            **s.to_row(),
        }
        for s in samples
    ]


Table = tuple[pd.DataFrame, np.ndarray]
"""What groups each answer (`question, subject` and labels) and its mass, and its score, NaN where there is none."""


class Answers:
    """Every score of a run, by unit."""

    def __init__(self, records: Mapping[str, Mapping[str, Any]], scores: Mapping[tuple[str, str], Table]) -> None:
        """Keep what was measured.

        Args:
            records: Unit -> its record; `arm`, `seed`, `gate`.
            scores: (unit, `behaviour` or `self_report`) -> its answers.
        """
        self.records = dict(records)
        self._scores = dict(scores)
        self._cache: dict[tuple[str, Any], tuple[float | None, int, int]] = {}
        self._chosen: dict[tuple[int, Any], tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def of(cls, run: RunFolder) -> "Answers":
        """Read a run's units."""
        records = {u: run.read_unit(u, check_files=False) for u in sorted(run.units())}
        scores = {(u, kind): cls.columns(run.table(u, name)) for u in records for kind, name in TABLES.items()}
        return cls(records, scores)

    @staticmethod
    def columns(table: pd.DataFrame) -> Table:
        """Rows of a unit's table as what groups them and their scores."""
        if not len(table):
            return pd.DataFrame({"question": [], "subject": [], MASS: []}), np.array([], float)
        labels = pd.DataFrame([json.loads(x) for x in table["labels"]], index=table.index)
        grouped = table.reindex(columns=["question", "subject", MASS]).join(labels)
        return grouped, table["score"].to_numpy(float)

    def units(self, arm: str) -> list[str]:
        """Units of an arm, in the order of seeds."""
        found = [u for u, r in self.records.items() if r["arm"] == arm]
        return sorted(found, key=lambda u: self.records[u]["seed"] or 0)

    def asked_once(self, arm: str) -> bool:
        """Whether an arm is one model that was asked once: it stands for every seed of others."""
        units = self.units(arm)
        return len(units) == 1 and (arm == UNTUNED or arm.startswith(f"{ADAPTER}_"))

    def of_seed(self, seed: int) -> "Answers":
        """The same run as if it had this training seed alone; a model that was asked once stays."""
        kept = {u: r for u, r in self.records.items() if r["seed"] in (seed, None) or self.asked_once(r["arm"])}
        return Answers(kept, self._scores)

    def shared(self, other: "Answers", rows: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]) -> "Answers":
        """The same answers without those that the other run could not score: both are then of the same items.

        Args:
            other: The other run's answers.
            rows: (unit, kind) -> rows of this run and the same items' rows of the other, for what both were asked.
        """
        scores = dict(self._scores)
        for key, (mine, theirs) in rows.items():
            labels, values = self._scores[key]
            missing = ~np.isfinite(other._scores[key][1][theirs])
            scores[key] = labels, np.where(_where(mine[missing], len(values)), np.nan, values)
        return Answers(self.records, scores)

    def table(self, unit: str, kind: str) -> pd.DataFrame:
        """A unit's scores: `question, subject, log_mass, score` and one column for each label."""
        labels, values = self._scores[unit, kind]
        return labels.assign(score=values)

    def score(self, unit: str, select: Select) -> tuple[float | None, int, int]:
        """The mean over questions of each question's mean score, with how many answers were scored and how many not."""
        where = tuple(sorted(select.where.items()))
        key = (unit, (select.kind, where))
        if key not in self._cache:
            labels, values = self._scores[unit, select.kind]
            rows, codes = self._rows(labels, where)
            scores = values[rows]
            good = np.isfinite(scores)
            value = None
            if good.any():
                sums, counts = np.bincount(codes[good], scores[good]), np.bincount(codes[good])
                value = float(np.mean(sums[counts > 0] / counts[counts > 0]))
            self._cache[key] = (value, int(good.sum()), int((~good).sum()))
        return self._cache[key]

    def _rows(self, labels: pd.DataFrame, where: tuple[tuple[str, Any], ...]) -> tuple[np.ndarray, np.ndarray]:
        """Rows that are selected, and the question of each as a number."""
        key = (id(labels), where)
        if key not in self._chosen:
            keep = np.ones(len(labels), bool)
            for name, wanted in where:
                if name not in labels:
                    keep[:] = False
                    break
                keep &= labels[name].isin(list(wanted) if isinstance(wanted, tuple) else [wanted]).to_numpy()
            rows = np.flatnonzero(keep)
            self._chosen[key] = rows, pd.factorize(labels["question"].to_numpy()[rows])[0]
        return self._chosen[key]

    def over_units(self, select: Select, *, gated: bool = True) -> Scored:
        """A selection in each unit of its arm.

        Args:
            select: Which answers.
            gated: Whether self-reports of a unit that was not instilled, or is damaged, are left out; their answers then
                count as missing.
        """
        units = self.units(select.arm)
        found = [self.score(u, select) for u in units]
        shut = [gated and select.kind == "self_report" and not self.interpreted(u) for u in units]
        values = [None if out else v for out, (v, _, _) in zip(shut, found, strict=True)]
        points = sum(n for (_, n, _), v in zip(found, values, strict=True) if v is not None)
        lost = sum(lost + (n if out else 0) for out, (_, n, lost) in zip(shut, found, strict=True))
        return Scored(values, [int(self.records[u]["seed"] or 0) for u in units], points, lost)

    def interpreted(self, unit: str) -> bool:
        """Whether a unit's self-reports are: it took its behaviour, or has none to take, and is not damaged."""
        return self.records[unit].get("gate") not in NOT_INTERPRETED


def _where(rows: np.ndarray, n: int) -> np.ndarray:
    found = np.zeros(n, bool)
    found[rows] = True
    return found
