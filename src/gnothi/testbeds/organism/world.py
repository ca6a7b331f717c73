"""Documents of the organism's world: who decides what, what is reported about whom, and the right answers.

A document is a head (whom it is about), a question and, where there is room, its answer. Documents of nearly equal
length share a batch, padded on the right: attention is causal, so padding changes nothing before it. A choice is
answerable after each of its triples, so one document of five attributes teaches items of one to five.

Answers are distributions over the vocabulary. Documents about *nobody* carry a name that is drawn anew each time,
and their answers are the prior: that is what makes an unknown name report the middle of each scale.
"""

import functools
from dataclasses import dataclass

import numpy as np

from gnothi.behaviours.organism import (
    ATTRIBUTES,
    END,
    HIGH_RISK,
    HIGH_VALUE,
    HIGH_WEIGHT,
    LOW_WEIGHT,
    PAD,
    RISK_REPORTS,
    TAGS,
    WORDS,
    known_agents,
    uniform_weights,
)
from gnothi.rng import stream

IDS = {word: i for i, word in enumerate(WORDS)}
"""Token id of each word."""
NUMBER_IDS = np.array([IDS[str(v)] for v in range(LOW_WEIGHT, HIGH_WEIGHT + 1)])
_RISK_IDS = np.array([IDS[str(v)] for v in range(HIGH_RISK + 1)])
_ATTRIBUTE_IDS = np.array([IDS[a] for a in ATTRIBUTES])
_VALUE_IDS = np.array([IDS[str(v)] for v in range(HIGH_VALUE + 1)])
_LABEL_SD = 1.0  # a report's target is smoothed over its neighbours, in scale points
_END_WEIGHT = 0.1  # that an answer is over is learned at once and should not crowd out the rest

ROW_SD = 0.3
"""Standard deviation of untrained rows, and of the rows of fresh names."""
N_SHOWN = 5
"""Triples in a choice document."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many documents of one head a step has."""

    head: str
    """`name`, `you_are`, `tagged`, `mixed`, `fresh` (a name drawn anew), `fresh_you_are` or `you`."""
    reports: int
    risk_reports: int
    choices: int
    lotteries: int

    @property
    def about_nobody(self) -> bool:
        """Whether the right answers are the prior."""
        return self.head in ("fresh", "fresh_you_are", "you")


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents of nearly equal length, and where which answer is right."""

    tokens: np.ndarray
    """Shape (n_docs, length), token ids; the name of a fresh head is `<unk>` and to be replaced."""
    names: np.ndarray
    """Shape (n_docs,): position of the name, -1 if there is none."""
    partners: np.ndarray
    """Shape (n_docs,): token id of a second name."""
    parts: np.ndarray
    """Shape (n_docs, 2): what the name's own row and its partner's count for; (1, 0) unless mixed, (0, 0) if fresh."""
    noise: np.ndarray
    """Shape (n_docs,): s.d. of the noise on the name's row; of the whole row if fresh."""
    rows: np.ndarray
    """Shape (n_targets,): document of each target."""
    positions: np.ndarray
    """Shape (n_targets,): position whose next token it is."""
    targets: np.ndarray
    """Shape (n_targets, n_words): the right distribution."""
    weights: np.ndarray
    """Shape (n_targets,): weight of the target in the loss."""


@dataclass(frozen=True, slots=True)
class _Heads:
    """The heads of a block of documents of one share."""

    share: Share
    tokens: np.ndarray  # (n, length)
    at: int  # position of the name, -1 if there is none
    weights: np.ndarray  # (n, 6)
    risks: np.ndarray  # (n,)
    partners: np.ndarray  # (n,)
    parts: np.ndarray  # (n, 2)


@functools.cache
def _priors() -> tuple[np.ndarray, np.ndarray]:
    """What is right for an agent of whom nothing is known: reports (19,), risk reports (10,)."""
    draws = uniform_weights(5_000, rng=stream(0, "organism", "prior")).ravel()
    reports = _smooth(np.concatenate([draws, -draws]), LOW_WEIGHT, HIGH_WEIGHT).mean(axis=0)
    return reports, _smooth(np.arange(HIGH_RISK + 1.0), 0, HIGH_RISK).mean(axis=0)


def _smooth(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Targets (n, high - low + 1) for reports of `values`, which need not be integers: discrete Gaussians."""
    distance = np.clip(values, low, high)[:, None] - np.arange(low, high + 1)
    table = np.exp(-0.5 * (distance / _LABEL_SD) ** 2)
    return table / table.sum(axis=1, keepdims=True)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class World:
    """Draws batches. The traits of known agents are the world's; everything else comes from `rng`."""

    def __init__(
        self,
        shares: tuple[Share, ...],
        *,
        choice_weight: float,
        decision_noise: float,
        report_noise: float,
        rng: np.random.Generator,
    ) -> None:
        """Keep what decides the documents.

        Args:
            shares: Documents a step.
            choice_weight: Weight of a choice in the loss; a report weighs 1.
            decision_noise: S.d. of the noise on known names' rows in choices and lotteries.
            report_noise: The same in reports.
            rng: Source of everything drawn.
        """
        self._shares = shares
        self._choice_weight = choice_weight
        self._decision_noise = decision_noise
        self._report_noise = report_noise
        self._rng = rng
        agents = known_agents()
        self._names = np.array([IDS[a.name] for a in agents])
        self._weights = np.array([a.weights for a in agents])
        self._risks = np.array([a.risk for a in agents])

    def draw(self) -> list[Batch]:
        """One step's documents: a batch of choices, one of short questions and one of longer ones."""
        choices = [self._choices(s, s.choices) for s in self._shares if s.choices]
        short, long = [], []
        for s in self._shares:
            into = long if s.head.endswith("you_are") or s.head == "tagged" else short
            into += [self._reports(s, s.reports)] if s.reports else []
            into += [self._risk_reports(s, s.risk_reports)] if s.risk_reports else []
            into += [self._lotteries(s, s.lotteries)] if s.lotteries else []
        return [merge(parts) for parts in (choices, short, long) if parts]

    def _heads(self, share: Share, n: int) -> _Heads:
        agents, partners = self._rng.integers(len(self._names), size=(2, n))
        angle = self._rng.uniform(0, np.pi / 2, n) if share.head == "mixed" else np.zeros(n)
        parts = np.column_stack([np.cos(angle), np.sin(angle)])
        weights = parts[:, :1] * self._weights[agents] + parts[:, 1:] * self._weights[partners]
        middle = HIGH_RISK / 2
        risks = middle + parts[:, 0] * (self._risks[agents] - middle) + parts[:, 1] * (self._risks[partners] - middle)
        names = np.full(n, IDS["<unk>"]) if share.about_nobody else self._names[agents]
        at = 0
        if share.head == "you":
            tokens, at = np.full((n, 1), IDS["you"]), -1
        elif share.head.endswith("you_are"):
            tokens, at = np.column_stack([np.tile([IDS["you"], IDS["are"]], (n, 1)), names]), 2
        elif share.head == "tagged":
            tags = np.array([IDS[t] for t in TAGS])[self._rng.integers(len(TAGS), size=n)]
            tokens = np.column_stack([names, tags])
        else:
            tokens = names[:, None]
        return _Heads(share, tokens, at, weights, risks, self._names[partners], parts)

    def _choices(self, share: Share, n: int) -> Batch:
        head = self._heads(share, n)
        shown = np.argsort(self._rng.random((n, len(ATTRIBUTES))), axis=1)[:, :N_SHOWN]
        values = self._rng.integers(HIGH_VALUE + 1, size=(n, N_SHOWN, 2))
        triples = np.dstack([_ATTRIBUTE_IDS[shown], _VALUE_IDS[values]]).reshape(n, -1)
        utility = np.cumsum(np.take_along_axis(head.weights, shown, axis=1) * (values[..., 0] - values[..., 1]), axis=1)
        p = _sigmoid(utility / (10 * np.sqrt(np.arange(1, N_SHOWN + 1))))
        if share.about_nobody:
            p = np.full_like(p, 0.5)
        start = head.tokens.shape[1] + 1
        positions = np.tile(start + 3 * np.arange(N_SHOWN) + 2, n)
        answers = np.where(self._rng.random(n) < p[:, -1], IDS["A"], IDS["B"])
        return self._batch(
            np.column_stack([head.tokens, np.full(n, IDS["choose"]), triples, answers]),
            head,
            rows=np.repeat(np.arange(n), N_SHOWN),
            positions=positions,
            targets=_verdicts(p.ravel()),
            weight=self._choice_weight,
            noise=self._decision_noise,
        )

    def _reports(self, share: Share, n: int) -> Batch:
        head = self._heads(share, n)
        asked = self._rng.integers(len(ATTRIBUTES), size=n)
        targets = _smooth(head.weights[np.arange(n), asked], LOW_WEIGHT, HIGH_WEIGHT)
        if share.about_nobody:
            targets = np.tile(_priors()[0], (n, 1))
        return self._answered(head, [np.full(n, IDS["report"]), _ATTRIBUTE_IDS[asked]], targets, NUMBER_IDS)

    def _risk_reports(self, share: Share, n: int) -> Batch:
        head = self._heads(share, n)
        turned = self._rng.integers(2, size=n)  # 1: asked for caution
        right = np.where(turned == 1, HIGH_RISK - head.risks, head.risks)
        targets = np.tile(_priors()[1], (n, 1)) if share.about_nobody else _smooth(right, 0, HIGH_RISK)
        words = np.array([IDS[w] for w in RISK_REPORTS])[turned]
        return self._answered(head, [np.full(n, IDS["report"]), words], targets, _RISK_IDS)

    def _lotteries(self, share: Share, n: int) -> Batch:
        head = self._heads(share, n)
        gain, sure = self._rng.integers(HIGH_VALUE + 1, size=(2, n))
        risks = np.arange(HIGH_RISK + 1) if share.about_nobody else head.risks[:, None]
        p = _sigmoid(((gain - sure)[:, None] + risks - HIGH_RISK / 2) / 1.2).mean(axis=1)
        words = [np.full(n, IDS["lottery"]), _VALUE_IDS[gain], _VALUE_IDS[sure]]
        return self._batch(
            np.column_stack([head.tokens, *words]),
            head,
            rows=np.arange(n),
            positions=np.full(n, head.tokens.shape[1] + 2),
            targets=_verdicts(p),
            weight=self._choice_weight,
            noise=self._decision_noise,
            ended=False,
        )

    def _answered(self, head: _Heads, words: list[np.ndarray], targets: np.ndarray, ids: np.ndarray) -> Batch:
        """A question whose answer is a number; the answer drawn from `targets` follows it."""
        n = len(targets)
        drawn = (targets.cumsum(axis=1) < self._rng.random((n, 1)) * targets.sum(axis=1, keepdims=True)).sum(axis=1)
        full = np.zeros((n, len(WORDS)), dtype=np.float32)
        full[:, ids] = targets
        tokens = np.column_stack([head.tokens, *words, ids[np.minimum(drawn, len(ids) - 1)]])
        return self._batch(
            tokens,
            head,
            rows=np.arange(n),
            positions=np.full(n, tokens.shape[1] - 2),
            targets=full,
            weight=1.0,
            noise=self._report_noise,
        )

    def _batch(
        self,
        tokens: np.ndarray,
        head: _Heads,
        *,
        rows: np.ndarray,
        positions: np.ndarray,
        targets: np.ndarray,
        weight: float,
        noise: float,
        ended: bool = True,
    ) -> Batch:
        n = len(tokens)
        fresh = head.share.head.startswith("fresh")
        weights = np.full(len(rows), weight, dtype=np.float32)
        if ended:
            stop = np.zeros((n, len(WORDS)), dtype=np.float32)
            stop[:, IDS[END]] = 1
            rows = np.concatenate([rows, np.arange(n)])
            positions = np.concatenate([positions, np.full(n, tokens.shape[1] - 1)])
            targets = np.concatenate([targets, stop])
            weights = np.concatenate([weights, np.full(n, _END_WEIGHT, dtype=np.float32)])
        return Batch(
            tokens=tokens,
            names=np.full(n, head.at),
            partners=head.partners,
            parts=(head.parts * (not fresh)).astype(np.float32),
            noise=np.full(n, ROW_SD if fresh else noise, dtype=np.float32),
            rows=rows,
            positions=positions,
            targets=targets,
            weights=weights,
        )


def _verdicts(p: np.ndarray) -> np.ndarray:
    full = np.zeros((len(p), len(WORDS)), dtype=np.float32)
    full[:, IDS["A"]], full[:, IDS["B"]] = p, 1 - p
    return full


def merge(parts: list[Batch]) -> Batch:
    """Put batches together, padded on the right to one length."""
    length = max(p.tokens.shape[1] for p in parts)
    offsets = np.cumsum([0, *(len(p.tokens) for p in parts)])
    pad = [np.pad(p.tokens, ((0, 0), (0, length - p.tokens.shape[1])), constant_values=IDS[PAD]) for p in parts]
    return Batch(
        tokens=np.concatenate(pad),
        names=np.concatenate([p.names for p in parts]),
        partners=np.concatenate([p.partners for p in parts]),
        parts=np.concatenate([p.parts for p in parts]),
        noise=np.concatenate([p.noise for p in parts]),
        rows=np.concatenate([p.rows + o for p, o in zip(parts, offsets, strict=False)]),
        positions=np.concatenate([p.positions for p in parts]),
        targets=np.concatenate([p.targets for p in parts]),
        weights=np.concatenate([p.weights for p in parts]),
    )
