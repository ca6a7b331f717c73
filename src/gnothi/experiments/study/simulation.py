"""A study without models: what its numbers are when what was planted is known, or when nothing was.

Used by tests and by the figures of docs/statistics.md: the same quantities, estimates and intervals as in a run.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gnothi.elicit.probing import ask_probes
from gnothi.experiments.study.answers import TABLES, Answers, rows_of
from gnothi.experiments.study.design import UNTUNED, AbstractStudy
from gnothi.experiments.study.plan import units
from gnothi.experiments.study.script import script
from gnothi.experiments.study.unit import judge_of, run_code
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
                run_code=run_code,
            )

        does, says = study.act(model, unit.arm, seed, ask), ask(study.asked())
        records[unit.name] = {"arm": unit.arm, "seed": unit.seed, "gate": None}
        for kind, samples in zip(TABLES, (does, says), strict=True):
            scores[unit.name, kind] = Answers.columns(pd.DataFrame(rows_of(samples)))
    return Answers(records, scores)


def null(study: AbstractStudy, seed: int) -> Answers:
    """Models that know nothing: each answers every question by chance, whatever it was trained on.

    An option is said with probability 1 / k, a number is anywhere on its scale; what models do is drawn about the level of
    their arm. Only scores are drawn, no text: a thousand of them take seconds.

    Args:
        study: Any.
        seed: Which simulated run.
    """
    asked, held = study.asked(), study.held_out()
    frame = _frame(asked)
    rng = stream(seed, "simulated null", study.name)
    kinds = np.array([2 if isinstance(p.rule, Letters) else 1 if isinstance(p.rule, Number) else 0 for p in asked])
    options = [p.rule.scores if isinstance(p.rule, Letters) else (0.0, 1.0) for p in asked]
    records: dict[str, Mapping[str, object]] = {}
    scores = {}
    for unit in units(study):
        drawn = rng.random(len(asked))
        values = np.where(kinds == 1, drawn, [o[int(u * len(o))] for o, u in zip(options, drawn, strict=True)])
        records[unit.name] = {"arm": unit.arm, "seed": unit.seed, "gate": None}
        scores[unit.name, "self_report"] = frame.assign(score=values)
        levels = [study.level(unit.arm, unit.seed or 0, p) for p in held] if unit.arm != UNTUNED else [None] * len(held)
        does = [rng.random() if level is None else np.clip(rng.normal(level, 0.1), 0, 1) for level in levels]
        scores[unit.name, "behaviour"] = _frame(held).assign(score=does)
    return Answers(records, scores)


def _frame(probes: list[Probe]) -> pd.DataFrame:
    rows = [{"question": p.question, "subject": p.subject, **p.labels} for p in probes]
    return pd.DataFrame(rows) if rows else pd.DataFrame({"question": [], "subject": []})
