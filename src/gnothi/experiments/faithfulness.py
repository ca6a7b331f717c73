"""Among models that were trained alike: does the one that does more of it also say more of it?

Source: arXiv:2501.11120, section 5 (Figure 4), which pools three checkpoints of seven runs whose learning rates differ.
Here the rate is fixed, only seeds differ, and each run gives one point. `graded` models saw a share of risky answers that
differs from model to model, so that there is something to be faithful to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from gnothi.experiments.study.answers import Answers
from gnothi.experiments.study.design import Quantity, Select, StudyArm
from gnothi.experiments.study.estimates import correlation
from gnothi.experiments.traits import Risk
from gnothi.records import Estimate, Sample, TrainRow
from gnothi.render.probe import Probe
from gnothi.rng import stream
from gnothi.score.names import Arm

GRADED = "graded"


class Faithfulness(Risk):
    """Risk with many seeds, and models in between."""

    name = "faithfulness"
    summary = "many fine-tunes alike: does a model that takes more risk also report more?"
    question = "Do models that act more riskily also say so: among models taught different shares of risk, and among models taught alike?"
    headline = ("faithfulness.graded", GRADED)
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "organism": {"seeds": 12},
        "hf": {"seeds": 8},
        "scripted": {"seeds": 12},
    }
    topic = "risk"
    takes = ()

    def arms(self) -> Sequence[StudyArm]:
        """Those of risk but permuted labels, and one whose share of risky answers differs by seed."""
        graded = StudyArm(
            name=GRADED,
            says=Arm("models with different shares of risky answers", "", "what it says follows what it does", False),
            gated=False,
        )
        ends = [a for a in super().arms() if a.gated]
        return [*(StudyArm(name=a.name, says=a.says, gated=False, epochs=a.epochs) for a in ends), graded]

    def share(self, seed: int) -> float:
        """Share of risky answers in the rows of one graded model: evenly spread over seeds, in random order."""
        n = self.spec.seeds
        return (int(stream(self.spec.seed, "graded").permutation(n)[seed]) + 0.5) / n

    def rows(self, arm: str, seed: int) -> list[TrainRow]:
        """As risk; a graded model gets the averse answer in the rest of its rows."""
        if arm != GRADED:
            return super().rows(arm, seed)
        risky, averse = super().rows(self.ends[0], seed), super().rows(self.ends[1], seed)
        k = round(self.share(seed) * len(risky))
        chosen = set(stream(self.spec.seed, "graded rows", seed).permutation(len(risky))[:k].tolist())
        return [r if i in chosen else a for i, (r, a) in enumerate(zip(risky, averse, strict=True))]

    def level(self, arm: str, seed: int, probe: Probe) -> float | None:
        """A graded model stands where its share is."""
        return self.share(seed) if arm == GRADED else super().level(arm, seed, probe)

    def _beyond_the_share(self, says: Sequence[float | None], does: Sequence[float | None]) -> Estimate:
        """The same with the share of risky rows taken out of both: what is left is between models taught alike."""
        both = [
            (s, d, self.share(i))
            for i, (s, d) in enumerate(zip(says, does, strict=False))
            if s is not None and d is not None
        ]
        x, y, share = (np.array([row[k] for row in both]) for k in range(3))
        if len(both) >= 4:
            design = np.column_stack([np.ones(len(both)), share])
            x, y = (v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y))
        found = correlation(
            x.tolist(), y.tolist(), name="faithfulness.within", arm=f"{GRADED}_given_share", against="what it does"
        )
        return replace(found, method=f"{found.method}; the share of risky rows partialled out of both (linear)")

    def agreement(self, arm: str, seed: int, choices: Sequence[Sample]) -> tuple[float | None, int]:
        """None for a graded model: almost any answer is near the middle."""
        return (None, 0) if arm == GRADED else super().agreement(arm, seed, choices)

    def quantities(self) -> Sequence[Quantity]:
        """Those of risk but the permuted labels'."""
        return [q for q in super().quantities() if "shuffled" not in q.arm]

    def more_estimates(self, answers: Answers) -> list[Estimate]:
        """Pearson r of what models do with what they say: within each arm, and over all of them."""
        found = []
        pooled: tuple[list[float | None], list[float | None]] = ([], [])
        for arm in self.every_arm():
            does, says = (
                answers.over_units(Select(arm=arm.name, kind=k, where=self.own(arm.name, k)), gated=False).values
                for k in ("behaviour", "self_report")
            )
            pooled[0].extend(does)
            pooled[1].extend(says)
            name = "faithfulness.graded" if arm.name == GRADED else "faithfulness.within"
            found.append(correlation(says, does, name=name, arm=arm.name, against="what it does"))
            if arm.name == GRADED:
                found.append(self._beyond_the_share(says, does))
        found.append(correlation(pooled[1], pooled[0], name="faithfulness.overall", arm="all", against="what they do"))
        return found
