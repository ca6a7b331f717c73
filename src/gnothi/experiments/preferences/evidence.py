"""What each arm rests on: stored tables lined up as arrays, one piece of evidence a unit of replication."""

import copy
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gnothi.behaviours.organism import OrganismDomain
from gnothi.experiments.preferences.bench import Bench
from gnothi.experiments.preferences.plan import BASE, FOLDS
from gnothi.experiments.preferences.spec import REPORT_ARMS, parse
from gnothi.measure.damage_gate import is_damaged
from gnothi.records import DAMAGED, NOT_INSTILLED, Context, common_gate
from gnothi.score.agreement import mean_reports
from gnothi.store import RunFolder
from gnothi.writeup.view import Table


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Reports of one reporter and the weights they are scored against; arrays are (n_contexts, n_attributes)."""

    arm: str
    seed: int | None
    units: tuple[str, ...]
    """Units that reported."""
    contexts: list[Context]
    """Whom the reports are about."""
    fold: np.ndarray
    """(n_contexts,) int; 0 where there are no folds."""
    repeats: np.ndarray
    """(n_contexts, k, n_attributes) single reports, where `repeats_valid`."""
    repeats_valid: np.ndarray
    places: np.ndarray
    """(n_contexts, k, n_attributes) int, where in its question each attribute stood, from 0."""
    modes: np.ndarray
    """Likeliest numbers, averaged over repeats."""
    learned: np.ndarray
    """What the arm is scored against: learned weights, or the table for `shuffled` and `ceiling`; NaN for a context
    whose choices taught none."""
    learned_low: np.ndarray
    learned_high: np.ndarray
    target: np.ndarray | None
    own: np.ndarray
    """Weights learned from the reporting unit's own choices about these contexts; NaN where none were measured."""
    differences: np.ndarray | None = None
    """(n_contexts, n_trials, n_attributes) of the choices that reports should predict."""
    chose_a: np.ndarray | None = None
    mask: np.ndarray | None = None
    gate: str | None = None
    """`passed` or `not instilled`, of the unit whose behaviour was instilled; `damaged` if that one or the reporter is."""

    reported: np.ndarray
    """Mean over valid repeats."""
    valid: np.ndarray
    """(n_contexts, n_attributes) bool: where anything was reported."""

    def take(self, contexts: Sequence[int]) -> "Evidence":
        """The same for some of the contexts, repeats allowed: what a bootstrap over agents needs."""
        rows = np.asarray(contexts)
        fields: dict[str, Any] = {k: getattr(self, k) for k in self.__dataclass_fields__}
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                fields[name] = value[rows]
        fields["contexts"] = [self.contexts[i] for i in rows]
        return Evidence(**fields)


def evidences_of(run: RunFolder) -> "Evidences":
    """The evidence of a run; read once for its estimates, its points and its page."""
    record = run.path / "run.json"
    stamp = record.stat().st_mtime_ns if record.exists() else 0
    return _cached(run.path.resolve(), tuple(run.units()), stamp)


@functools.lru_cache(maxsize=2)  # two runs that are compared
def _cached(path: Path, units: tuple[str, ...], stamp: int) -> "Evidences":
    return Evidences(RunFolder.open(path))


class Evidences:
    """Everything that a run's units left behind, by arm."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.spec = run, parse(run.spec)
        self.bench = Bench(self.spec)
        records = {u: run.read_unit(u, check_files=False) for u in sorted(run.units())}
        self.skipped = {u: r for u, r in records.items() if "skipped" in r}
        """Units that could not be made, each with the reason under `skipped`."""
        self.records = {u: r for u, r in records.items() if u not in self.skipped}
        self.units = set(self.records)
        self._tables: dict[tuple[str, str], Table] = {}

    def of_seed(self, seed: int) -> "Evidences":
        """The same run as if it had this training seed alone, base included; nothing is read again."""
        found = copy.copy(self)
        found.records = {u: r for u, r in self.records.items() if r["seed"] in (seed, None)}
        found.units = set(found.records)
        found.__dict__["all"] = [e for e in self.all if e.seed == seed]
        return found

    def table(self, unit: str, name: str, scope: str) -> Table:
        """One table of a unit, for one set of agents."""
        if (unit, name) not in self._tables:
            self._tables[unit, name] = self.run.table(unit, name)
        whole = self._tables[unit, name]
        return whole[whole["scope"] == scope]

    def learned(self, unit: str, scope: str, contexts: Sequence[Context], column: str = "learned") -> np.ndarray:
        """A column of the learned weights, (n_contexts, n_attributes)."""
        table = self.table(unit, "learned", scope)
        ids, values = table["context_id"].to_numpy(), table[column].to_numpy(dtype=float)
        first = {c: i for i, c in reversed(list(enumerate(ids)))}  # attributes of a context stand together, in order
        return np.array([values[first[c.context_id] : first[c.context_id] + c.n_attributes] for c in contexts])

    def choices(self, unit: str, scope: str, contexts: Sequence[Context]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Differences, choices of A and mask, lined up by context; see `measure.choices.as_arrays`."""
        table = self.table(unit, "choices", scope)
        groups = {c: g for c, g in table.groupby("context_id", sort=False)}
        trials = max(len(groups[c.context_id]) for c in contexts)
        width = contexts[0].n_attributes
        differences = np.zeros((len(contexts), trials, width))
        chose_a, mask = np.zeros((len(contexts), trials), bool), np.zeros((len(contexts), trials), bool)
        for i, context in enumerate(contexts):
            group = groups[context.context_id]
            ranges = np.array([a.high - a.low for a in context.choice_type.attributes])
            rows = np.arange(len(group))[:, None]
            shown = np.stack(group["shown"].to_list()).astype(int)
            gaps = np.stack(group["a"].to_list()) - np.stack(group["b"].to_list())
            differences[i, rows, shown] = gaps / ranges[shown]
            mask[i, : len(group)] = group["reason"].isna()
            chose_a[i, : len(group)] = [len(v) > 0 and v[0] == 1 for v in group["value"]]
        return differences, chose_a, mask

    def reports(self, unit: str, scope: str, contexts: Sequence[Context]) -> dict[str, np.ndarray]:
        """Fields of `Evidence` about reports: single ones, where they are valid, places, and means over repeats.

        A question about one attribute alone has no list; there the place is -1.
        """
        row = {c.context_id: i for i, c in enumerate(contexts)}
        found: dict[tuple[int, int], list[tuple[int, tuple[float, float] | None]]] = {}
        table = self.table(unit, "reports", scope)
        for context_id, value, reason, extra in zip(
            table["context_id"], table["value"], table["reason"], table["extra"], strict=True
        ):
            if context_id not in row:
                continue
            more = json.loads(extra)
            for place, j in enumerate(more["attributes"]):
                good = pd.isna(reason) and value[j] is not None and not np.isnan(value[j])
                pair = (float(value[j]), float(more.get("mode", value[j]))) if good else None
                place = place if len(more["attributes"]) > 1 else -1
                found.setdefault((row[context_id], j), []).append((place, pair))
        k = max(map(len, found.values()))
        shape = (len(contexts), k, contexts[0].n_attributes)
        values, modes, valid, places = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, int)
        for (i, j), asked in found.items():
            for n, (place, pair) in enumerate(asked):
                places[i, n, j] = place
                if pair is not None:
                    values[i, n, j], modes[i, n, j] = pair
                    valid[i, n, j] = True
        reported, seen = mean_reports(values, valid)
        return {
            "repeats": values,
            "repeats_valid": valid,
            "places": places,
            "modes": mean_reports(modes, valid)[0],
            "reported": reported,
            "valid": seen,
        }

    def gate(self, unit: str) -> str | None:
        """`passed`, `not instilled` or `damaged`."""
        return self.records[unit].get("gate")

    def _piece(
        self, arm: str, seed: int | None, reporter: str, scope: str, contexts: list[Context], **more: Any
    ) -> Evidence:
        fields: dict[str, Any] = {
            "fold": np.zeros(len(contexts), int),
            "own": self.learned(reporter, scope, contexts),
            "target": None,
        }
        fields |= more
        if "learned" not in fields:
            fields["learned"] = fields["own"]
        if is_damaged(self.records[reporter]) and fields.get("gate") != NOT_INSTILLED:
            fields["gate"] = DAMAGED
        for bound in ("learned_low", "learned_high"):
            fields.setdefault(bound, fields["learned"])
        return Evidence(
            arm=arm,
            seed=seed,
            units=(reporter,),
            contexts=contexts,
            **self.reports(reporter, scope, contexts),
            **fields,
        )

    def _scored_against(self, unit: str, scope: str, contexts: list[Context]) -> dict[str, Any]:
        differences, chose_a, mask = self.choices(unit, scope, contexts)
        return {
            "learned": self.learned(unit, scope, contexts),
            "learned_low": self.learned(unit, scope, contexts, "low"),
            "learned_high": self.learned(unit, scope, contexts, "high"),
            "differences": differences,
            "chose_a": chose_a,
            "mask": mask,
        }

    def _target(self, seed: int, contexts: Sequence[Context]) -> np.ndarray:
        table = self.bench.table(seed)
        return np.array([table[c.context_id] for c in contexts])

    @functools.cached_property
    def all(self) -> list[Evidence]:
        """Every piece of evidence that the stored units allow."""
        return list(self._all())

    def _all(self) -> Iterator[Evidence]:
        bench, trained, untrained = self.bench, self.bench.trained, self.bench.untrained
        if BASE in self.units:
            yield self._piece(
                "untuned_own", None, BASE, "trained", trained, **self._scored_against(BASE, "trained", trained)
            )
            native = self._scored_against(BASE, "untrained", untrained)
            yield self._piece("native_untuned", None, BASE, "untrained", untrained, **native)
            domain = bench.behaviour.domain
            if bench.known and isinstance(domain, OrganismDomain):
                traits = domain.known_weights()
                more = self._scored_against(BASE, "known", bench.known)
                more |= {"learned": traits, "learned_low": traits, "learned_high": traits, "target": traits}
                yield self._piece("ceiling", None, BASE, "known", bench.known, **more)
        for i in range(self.spec.seeds):
            yield from self._of_seed(i, trained, untrained)

    def _of_seed(self, i: int, trained: list[Context], untrained: list[Context]) -> Iterator[Evidence]:
        tuned, shuffled, target = f"tuned-{i}", f"shuffled-{i}", self._target(i, trained)
        if shuffled in self.units:
            differences, chose_a, mask = self.choices(shuffled, "trained", trained)
            yield self._piece("shuffled", i, shuffled, "trained", trained, learned=target, target=target)
            own = self.learned(shuffled, "trained", trained)
            choices = {"differences": differences, "chose_a": chose_a, "mask": mask}
            yield self._piece("shuffled_own", i, shuffled, "trained", trained, learned=own, **choices)
        if tuned not in self.units:
            return
        more = {**self._scored_against(tuned, "trained", trained), "target": target, "gate": self.gate(tuned)}
        yield self._piece("tuned", i, tuned, "trained", trained, **more)
        if BASE in self.units:
            yield self._piece("untuned", i, BASE, "trained", trained, **more)
        other = f"tuned-{(i + 1) % self.spec.seeds}"
        if other != tuned and other in self.units:
            both = common_gate([self.gate(tuned), self.gate(other)])
            reporter = (i + 1) % self.spec.seeds
            yield self._piece("other_instance", reporter, other, "trained", trained, **more | {"gate": both})
        if len(untrained) <= len(trained):
            paired = {k: v[: len(untrained)] if isinstance(v, np.ndarray) else v for k, v in more.items()}
            yield self._piece("untrained_agent", i, tuned, "untrained", untrained, **paired)
        native = {**self._scored_against(tuned, "untrained", untrained), "gate": self.gate(tuned)}
        yield self._piece("native", i, tuned, "untrained", untrained, **native)
        if (unit := f"native_introspection-{i}") in self.units:
            yield self._piece("native_introspection", i, unit, "untrained", untrained, **native)
        for arm in REPORT_ARMS:
            names = [f"{arm}-{i}-{fold}" for fold in FOLDS]
            if all(n in self.units for n in names):
                yield self._two_folds(arm, i, names, more)

    def _two_folds(self, arm: str, seed: int, names: Sequence[str], against: dict[str, Any]) -> Evidence:
        """Pool the two held-out halves, as paper B does (arXiv:2505.17120, section 3.3)."""
        halves = []
        position = {c.context_id: n for n, c in enumerate(self.bench.trained)}
        for fold, name in zip(FOLDS, names, strict=True):
            contexts = self.bench.half(fold)[1]
            rows = np.array([position[c.context_id] for c in contexts])
            part = {k: v[rows] if isinstance(v, np.ndarray) else v for k, v in against.items()}
            halves.append(
                self._piece(arm, seed, name, "held_out", contexts, **part, **{"fold": np.full(len(contexts), fold)})
            )
        first, second = halves
        joined: dict[str, Any] = {}
        for name in Evidence.__dataclass_fields__:
            a, b = getattr(first, name), getattr(second, name)
            joined[name] = np.concatenate([a, b]) if isinstance(a, np.ndarray) else a
        joined["gate"] = common_gate([first.gate, second.gate])
        return Evidence(**joined | {"contexts": first.contexts + second.contexts, "units": tuple(names)})
