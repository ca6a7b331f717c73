"""A study without models: what its numbers are when what was planted is known, or when nothing was.

Used by tests and by the figures of docs/statistics.md: the same quantities, estimates and intervals as in a run.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gnothi.elicit.probing import ask_probes
from gnothi.experiments.study.answers import TABLES, Answers, rows_of
from gnothi.experiments.study.design import UNTUNED, AbstractStudy
from gnothi.experiments.study.estimates import quantity
from gnothi.experiments.study.plan import units
from gnothi.experiments.study.script import script
from gnothi.experiments.study.unit import judge_of, sandbox
from gnothi.models.base import AbstractLanguageModel
from gnothi.records import Sample
from gnothi.render.probe import Letters, Number, Probe
from gnothi.rng import integer, stream


def scripted(study: AbstractStudy, name: str) -> Answers:
    """Ask a scripted model of every unit everything, in this process and without files.

    Args:
        study: Of a scripted model's specification.
        name: `scripted/oracle`, `scripted/guess`, `scripted/constant-a` or `scripted/nonsense`.
    """
    probes = [*study.held_out(), *study.asked()]
    records, scores = {}, {}
    for unit in units(study):
        seed = unit.seed or 0
        model = script(study, unit.arm, seed, probes, unit=unit.name, name=name)

        def ask(wanted: Sequence[Probe], model: AbstractLanguageModel = model, name: str = unit.name) -> list[Sample]:
            return ask_probes(
                model,
                wanted,
                seed=integer(study.spec.seed, "ask", name),
                judge=judge_of(study.spec),
                run_code=sandbox(),
            )

        does, says = study.act(model, unit.arm, seed, ask), ask(study.asked())
        records[unit.name] = {"arm": unit.arm, "seed": unit.seed, "gate": None}
        for kind, samples in zip(TABLES, (does, says), strict=True):
            scores[unit.name, kind] = Answers.columns(pd.DataFrame(rows_of(samples)))
    return Answers(records, scores)


class Nulls:
    """Models that know nothing: each answers every question by chance, whatever it was trained on.

    An option is said with probability 1 / k, a number is anywhere on its scale; what models do is drawn about the level of
    their arm. Only scores are drawn, no text: a thousand runs take seconds.
    """

    def __init__(self, study: AbstractStudy, *, lean: float = 0.0) -> None:
        """Prepare what every simulated run shares.

        Args:
            study: Whose units, questions and held-out items.
            lean: Standard deviation, in scores, of what a unit adds to all that it says, and again of what all units of a
                run add to a question (by subject, target and trigger); with 0 every answer is drawn by itself.
        """
        asked, held = study.asked(), study.held_out()
        self.study, self.units = study, units(study)
        self._asked, self._held = _labels(asked), _labels(held)
        rules = [p.rule for p in asked]
        self._number = np.array([isinstance(r, Number) for r in rules])
        options = [r.scores if isinstance(r, Letters) else (0.0, 1.0) for r in rules]
        most = max(map(len, options))
        self._counts = np.array([len(o) for o in options])
        self._options = np.array([[*o, *[0.0] * (most - len(o))] for o in options])
        self._lean = lean
        places = self._asked.reindex(columns=["question", "subject", "target", "trigger"]).astype(object)
        self._groups = places.fillna("").astype(str).groupby(list(places)).ngroup().to_numpy()
        self._levels = {u.name: np.array([_level(study, u.arm, u.seed, p) for p in held], float) for u in self.units}

    def draw(self, seed: int) -> Answers:
        """One simulated run."""
        rng = stream(seed, "simulated null", self.study.name)
        records: dict[str, Mapping[str, object]] = {}
        scores = {}
        rows = np.arange(len(self._counts))
        leanings = stream(seed, "leanings", self.study.name)
        shared = leanings.normal(0, self._lean, self._groups.max(initial=0) + 1)[self._groups]
        for unit in self.units:
            drawn = rng.random(len(rows))
            said = self._options[rows, (drawn * self._counts).astype(int)]
            levels = self._levels[unit.name]
            does = np.where(np.isnan(levels), rng.random(len(levels)), np.clip(rng.normal(levels, 0.1), 0, 1))
            records[unit.name] = {"arm": unit.arm, "seed": unit.seed, "gate": None}
            said = np.where(self._number, drawn, said) + shared + leanings.normal(0, self._lean)
            scores[unit.name, "self_report"] = self._asked, said
            scores[unit.name, "behaviour"] = self._held, does
        return Answers(records, scores)


def _level(study: AbstractStudy, arm: str, seed: int | None, probe: Probe) -> float:
    found = None if arm == UNTUNED else study.level(arm, seed or 0, probe)
    return np.nan if found is None else found


def _labels(probes: list[Probe]) -> pd.DataFrame:
    rows = [{"question": p.question, "subject": p.subject, **p.labels} for p in probes]
    return pd.DataFrame(rows) if rows else pd.DataFrame({"question": [], "subject": []})


def rejections(
    study: AbstractStudy, runs: int, *, lean: float = 0.0, wanted: tuple[str, str] | None = None
) -> tuple[int, int]:
    """How often an interval leaves out 0 in runs of models that know nothing.

    Args:
        study: Which.
        runs: How many are simulated.
        lean: As for `Nulls`.
        wanted: Name and arm of the estimate; None takes the headline.

    Returns:
        Intervals that leave out 0, and runs that have an interval.
    """
    nulls, wanted = Nulls(study, lean=lean), wanted or study.headline
    quantities = [q for q in study.every_quantity() if (q.name, q.arm) == wanted]
    left_out = had_one = 0
    for seed in range(runs):
        answers = nulls.draw(seed)
        found = [quantity(q, answers) for q in quantities] or study.more_estimates(answers)
        (one,) = (e for e in found if (e.name, e.arm) == wanted)
        if one.low is not None and one.high is not None:
            had_one += 1
            left_out += not one.low <= 0 <= one.high
    return left_out, had_one
