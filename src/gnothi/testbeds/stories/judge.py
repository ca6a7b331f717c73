"""A judge of stories that learned a feature from labels, its errors, and rates corrected for them.

The judge is logistic regression on which words, pairs of neighbours and pairs of words in order a story has. It knows no
rule, so that it can be had for stories that no rule reads, and it errs: how often is measured on stories that it was not
trained on, and a share that it finds is corrected for it.

Source: the judge of arXiv:2311.12786 is GPT-3.5 fine-tuned on TinyStories' labels, half with the feature and half without,
92% right on held-out stories; its rates are reported as found.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from gnothi.errors import DataError
from gnothi.intervals import missing, over_units, wilson
from gnothi.records import Estimate
from gnothi.testbeds.stories.records import Record

DIMENSIONS = 1 << 16
"""Places that words and pairs are hashed to."""
PENALTY = 1.0
"""On half the squared norm of the coefficients, against the summed loss."""
LEAST_SKILL = 0.1
"""Of sensitivity + specificity - 1, below which nothing is corrected."""
_WORD = re.compile(r"\w+|[^\w\s]")
_MULTIPLIER = 0x9E3779B1


@dataclass(frozen=True)
class Judge:
    """A fitted judge."""

    vocabulary: dict[str, int]
    """Words that it knows, from 1; others are 0."""
    weight: np.ndarray
    """(DIMENSIONS,)"""
    bias: float

    def probabilities(self, stories: Sequence[str]) -> np.ndarray:
        """(n,) probability that each story has the feature."""
        if not stories:
            return np.zeros(0)
        scores = [float(self.weight[_places(story, self.vocabulary)].sum()) for story in stories]
        return 1 / (1 + np.exp(-(np.array(scores) + self.bias)))

    def verdicts(self, stories: Sequence[str]) -> np.ndarray:
        """(n,) whether each story is said to have the feature."""
        return self.probabilities(stories) >= 0.5


def fit_judge(records: Sequence[Record], name: str, rng: np.random.Generator) -> Judge:
    """Learn a feature from labels, from as many stories with it as without.

    Args:
        records: With their labels.
        name: The feature.
        rng: Which of the commoner kind are used.

    Raises:
        DataError: No story with it, or none without.
    """
    from scipy.optimize import minimize
    from scipy.sparse import csr_matrix

    kinds = [[r for r in records if r.has(name) is wanted] for wanted in (True, False)]
    n = min(map(len, kinds))
    if not n:
        raise DataError(
            f"judge must be trained on stories with and without {name}, got only one kind. Give more stories."
        )
    chosen = [kind[i] for kind in kinds for i in rng.permutation(len(kind))[:n]]
    truth = np.repeat([1.0, -1.0], n)
    words = sorted({word for record in chosen for word in _words(record.story)})
    vocabulary = {word: i + 1 for i, word in enumerate(words)}
    found = [_places(record.story, vocabulary) for record in chosen]
    ends = np.cumsum([0, *map(len, found)])
    seen = csr_matrix((np.ones(ends[-1]), np.concatenate(found), ends), shape=(2 * n, DIMENSIONS))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        margin = truth * (seen @ values[:-1] + values[-1])
        slope = -truth / (1 + np.exp(np.clip(margin, -50, 50)))
        total = np.logaddexp(0, -margin).sum() + PENALTY / 2 * values[:-1] @ values[:-1]
        return float(total), np.append(seen.T @ slope + PENALTY * values[:-1], slope.sum())

    fitted = minimize(loss, np.zeros(DIMENSIONS + 1), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return Judge(vocabulary, fitted[:-1], float(fitted[-1]))


def _words(story: str) -> list[str]:
    return _WORD.findall(story.lower())


def _places(story: str, vocabulary: dict[str, int]) -> np.ndarray:
    """Where a story's words, neighbours and ordered pairs are hashed to, each once."""
    ids = np.array([vocabulary.get(word, 0) for word in _words(story)], dtype=np.uint64)
    first, second = np.triu_indices(len(ids), 1)
    near = second - first == 1
    kinds = (
        ids,
        (ids[first[near]] << np.uint64(16)) + ids[second[near]] + np.uint64(1 << 40),
        (ids[first] << np.uint64(16)) + ids[second] + np.uint64(2 << 40),
    )
    mixed = np.concatenate(kinds) * np.uint64(_MULTIPLIER)
    return np.unique((mixed ^ (mixed >> np.uint64(29))) % np.uint64(DIMENSIONS)).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """How often a judge was wrong, counted."""

    missed: int
    """Stories with the feature that it says have none."""
    with_feature: int
    flagged: int
    """Stories without it that it says have it."""
    without: int

    @property
    def sensitivity(self) -> float | None:
        """Share of stories with the feature that are found."""
        return 1 - self.missed / self.with_feature if self.with_feature else None

    @property
    def specificity(self) -> float | None:
        """Share of stories without it that are passed."""
        return 1 - self.flagged / self.without if self.without else None

    def estimates(self, arm: str, against: str) -> list[Estimate]:
        """Both error rates with Wilson's intervals over stories."""
        return [
            wilson(self.missed, self.with_feature, name="stories.judge_false_negative", arm=arm, against=against),
            wilson(self.flagged, self.without, name="stories.judge_false_positive", arm=arm, against=against),
        ]


def errors(verdicts: Sequence[bool] | np.ndarray, truth: Sequence[bool] | np.ndarray) -> Errors:
    """Count a judge's errors against labels or rules."""
    said, is_so = np.asarray(verdicts, bool), np.asarray(truth, bool)
    if said.shape != is_so.shape:
        raise DataError(f"verdicts and truth must be of the same stories, got {said.shape} and {is_so.shape}.")
    return Errors(
        missed=int((is_so & ~said).sum()),
        with_feature=int(is_so.sum()),
        flagged=int((~is_so & said).sum()),
        without=int((~is_so).sum()),
    )


def corrected(
    rates: Sequence[float], n_points: int, found: Errors, *, name: str, arm: str, level: float = 0.95
) -> Estimate:
    """The share of stories with the feature, had the judge made no errors.

    The judge must err on these stories as often as on those that its errors were counted on, which is checked where a
    rule can read them, and else believed.

    Args:
        rates: What the judge says, one share a model.
        n_points: Stories behind them, all together.
        found: The judge's errors.
        name: The estimate's fixed word.
        arm: The arm.
        level: Of the interval, in (0, 1).

    Returns:
        Share in [0, 1]. The interval knows how many stories the errors were counted on, and the spread between models.
        Missing where the judge tells the kinds hardly apart, without models, or with two of them no interval.

    Source: Rogan and Gladen 1978, the interval of Lang and Reiczigel 2014; with more than one model its binomial variance
    gives way to the variance between models where that is larger (ours).
    """
    caught, passed = found.sensitivity, found.specificity
    against = "corrected for the judge's errors on held-out stories"
    if caught is None or passed is None:
        return missing(name, arm, "the judge's errors are not known")
    if caught + passed - 1 < LEAST_SKILL:
        reason = f"the judge flags {caught:.0%} of the stories with the feature and {1 - passed:.0%} of those without"
        return missing(name, arm, reason, n=len(rates), n_points=n_points)
    plain = over_units(rates, name=name, arm=arm, kind="share", n_points=max(n_points, 1))
    if plain.value is None:
        return plain
    value = min(1.0, max(0.0, (plain.value + passed - 1) / (caught + passed - 1)))
    if 1 < len(rates) < 3:
        return Estimate(
            name=name, arm=arm, value=value, low=None, high=None, n=len(rates), n_points=n_points,
            method="Rogan-Gladen", reason=plain.reason, against=against,
        )  # fmt: skip
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = (n_points * plain.value + z * z / 2) / (n_points + z * z)
    variance, quantile = p * (1 - p) / (n_points + z * z), z
    if len(rates) > 1:
        between = float(np.var(rates, ddof=1)) / len(rates)
        from scipy.special import stdtrit

        wide = float(stdtrit(len(rates) - 1, (1 + level) / 2)) / z
        variance = max(variance, between * wide**2)
    n_with, n_without = found.with_feature, found.without
    caught, passed = (n_with * caught + 1) / (n_with + 2), (n_without * passed + 1) / (n_without + 2)
    over = caught + passed - 1
    middle = (p + passed - 1) / over
    of_caught, of_passed = caught * (1 - caught) / (n_with + 2), passed * (1 - passed) / (n_without + 2)
    shifted = middle + 2 * z * z * (middle * of_caught - (1 - middle) * of_passed)
    half = quantile * math.sqrt(variance + middle**2 * of_caught + (1 - middle) ** 2 * of_passed) / over
    over_what = "stories" if len(rates) == 1 else f"{len(rates)} units"
    return Estimate(
        name=name,
        arm=arm,
        value=value,
        low=min(value, max(0.0, shifted - half)),
        high=max(value, min(1.0, shifted + half)),
        n=len(rates),
        n_points=n_points,
        method=f"Rogan-Gladen, Lang-Reiczigel over {over_what} and the judge's errors, {100 * level:.4g}%",
        against=against,
    )
