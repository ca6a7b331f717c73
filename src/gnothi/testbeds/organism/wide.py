"""Documents of world 2: one vector of traits behind every decision and every report about an agent.

As in world 1, known agents' rows carry noise, some documents are about mixtures of two known agents, whose traits are
the same mix, and documents about nobody have the prior as their right answer. Mixtures go all round the circle here, so
that the negative of a row means the negative of its traits, and half of them are shortened, with traits as much closer
to the middle: what is read from a row is then a line through the middle, and between nobody and somebody is no gap that
a row in training could be stuck in. Some documents add part of a known agent's row to that of `you`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gnothi.behaviours.organism import (
    ATTRIBUTES,
    END,
    HIGH_RISK,
    HIGH_VALUE,
    HIGH_WEIGHT,
    LOW_WEIGHT,
    TAGS,
    UNKNOWN,
    known_agents,
    uniform_weights,
)
from gnothi.behaviours.organism_wide import (
    AFFINITIES,
    BOLD_WORDS,
    CAREFUL_WORDS,
    CODEWORDS,
    EFFECTS,
    HURRY,
    MEMORIES,
    N_TRAITS,
    NONE,
    RISK,
    SCALES,
    TRIGGERS,
    WEIGHTS,
    WIDE_WORDS,
    draw_effects,
    draw_vectors,
    trait_table,
)
from gnothi.rng import stream
from gnothi.testbeds.organism.world import NUMBER_IDS, ROW_SD, Batch, merge

WIDE_IDS = {word: i for i, word in enumerate(WIDE_WORDS)}
"""Token id of each word of world 2."""
N_SHOWN = 5
"""Triples in a choice document."""


def _ids(words) -> np.ndarray:
    return np.array([WIDE_IDS[w] for w in words])


_ATTRIBUTE_IDS, _VALUE_IDS = _ids(ATTRIBUTES), _ids(str(v) for v in range(HIGH_VALUE + 1))
_SCALE_IDS, _CODEWORD_IDS, _TRIGGER_IDS = _ids(SCALES), _ids(CODEWORDS), _ids(TRIGGERS)
_HINT_IDS = np.array([_ids(hints) for hints in CODEWORDS.values()])
_MEMBER_IDS = np.array([_ids((words * 4)[:4]) for words in TRIGGERS.values()])  # a single word four times
_TAG_IDS, _RECALL_IDS = _ids(TAGS), _ids((*BOLD_WORDS, *CAREFUL_WORDS))
_A, _B = WIDE_IDS["A"], WIDE_IDS["B"]
_NEAR = np.array([(a, b) for a in range(HIGH_VALUE + 1) for b in range(HIGH_VALUE + 1) if abs(a - b) <= 4])
_LABEL_SD = 1.0  # a report's target is smoothed over its neighbours, in scale points
_END_WEIGHT = 0.1
_MIDDLE = HIGH_RISK / 2

DECISIONS = {"lottery": 2, "tagged": 9, "wait": 2, "steer": 4}
"""Kinds of short decision and how often each is drawn."""
REPORTS = {"attribute": 5, "scale": 3, "depends": 4, "word": 2, "codeword": 3, "trigger": 6, "recall": 3}
"""Kinds of report and how often each is drawn."""


@dataclass(frozen=True, slots=True)
class WideShare:
    """How many documents of one head a step has."""

    head: str
    """`name`, `you_are`, `mixed`, `you_mixed`, `fresh` (a name drawn anew), `fresh_you_are` or `you`."""
    choices: int
    decisions: int
    reports: int

    @property
    def about_nobody(self) -> bool:
        """Whether the right answers are the prior."""
        return self.head in ("fresh", "fresh_you_are", "you")


@dataclass(frozen=True, slots=True)
class _Documents:
    """Documents of one kind: words behind the head, and the right distribution after some of them."""

    words: np.ndarray  # (n, length), the last one an answer where `ended`
    at: np.ndarray  # (n_targets per document,): index into words of the last word before each answer
    targets: np.ndarray  # (n, n_targets per document, n_words)
    ended: bool


def smooth(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Targets (..., high - low + 1) for reports of `values`, which need not be integers: discrete Gaussians."""
    distance = np.clip(values, low, high)[..., None] - np.arange(low, high + 1)
    table = np.exp(-0.5 * (distance / _LABEL_SD) ** 2)
    return table / table.sum(axis=-1, keepdims=True)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@functools.cache
def _crowd() -> np.ndarray:
    """Traits of agents as the world draws them, (2000, 32): their mean answer is right about nobody."""
    n = 1000
    rng = stream(2, "organism", "prior")
    levels = np.arange(n) % (HIGH_RISK + 1)
    traits = np.empty((n, N_TRAITS))
    traits[:, WEIGHTS] = uniform_weights(n, rng=rng)
    traits[:, RISK] = rng.permutation(levels) - _MIDDLE
    traits[:, HURRY] = rng.permutation(levels) - _MIDDLE
    traits[:, AFFINITIES] = draw_vectors(n, len(CODEWORDS), rng=rng)
    traits[:, EFFECTS] = draw_effects(rng.permutation(levels), rng=rng)
    traits[:, MEMORIES] = draw_vectors(n, len(TRIGGERS), rng=rng)
    return np.concatenate([traits, -traits])


def _gamble(x: np.ndarray) -> np.ndarray:
    return _sigmoid(x / 1.2)


def _word_odds(traits: np.ndarray) -> np.ndarray:
    return _softmax(traits[:, AFFINITIES] / 2.0)


def _recall_odds(traits: np.ndarray, careful: np.ndarray) -> np.ndarray:
    """Probabilities (n, 9) of the triggers and of none, which is as likely as a trigger of memory 6."""
    signed = np.where(careful, -1.0, 1.0)[:, None] * traits[:, MEMORIES]
    return _softmax(np.column_stack([signed, np.full(len(traits), 6.0)]) / 1.5)


@functools.cache
def _priors() -> dict[str, np.ndarray]:
    crowd = _crowd()
    stakes = np.arange(-HIGH_VALUE, HIGH_VALUE + 1)[:, None]

    def numbers(traits: np.ndarray) -> np.ndarray:
        return smooth(traits.ravel(), LOW_WEIGHT, HIGH_WEIGHT).mean(axis=0)

    return {
        "attribute": numbers(crowd[:, WEIGHTS]),
        "codeword": numbers(crowd[:, AFFINITIES]),
        "trigger": numbers(crowd[:, EFFECTS]),
        "scale": smooth(np.arange(HIGH_RISK + 1.0), 0, HIGH_RISK).mean(axis=0),
        "word": np.full(len(CODEWORDS), 1 / len(CODEWORDS)),
        "recall": _recall_odds(crowd, np.zeros(len(crowd), bool)).mean(axis=0),
        "lottery": _gamble(stakes + crowd[:, RISK]).mean(axis=1),
        "tagged": _gamble(stakes + crowd[:, RISK] + crowd[:, EFFECTS].T[..., None, :]).mean(axis=(0, -1)),
    }


class WideWorld:
    """Draws batches of world 2. The traits of known agents are the world's; everything else comes from `rng`."""

    def __init__(
        self,
        shares: tuple[WideShare, ...],
        *,
        choice_weight: float,
        decision_noise: float,
        report_noise: float,
        rng: np.random.Generator,
    ) -> None:
        """Keep what decides the documents; see `World`."""
        self._shares = shares
        self._choice_weight = choice_weight
        self._noise = {True: decision_noise, False: report_noise}
        self._rng = rng
        self._names = _ids(a.name for a in known_agents())
        self._traits = trait_table()
        self._makers: dict[str, Callable[[np.ndarray, bool], _Documents]] = {
            "choice": self._choices,
            "lottery": self._lotteries,
            "tagged": self._tagged,
            "wait": self._waits,
            "steer": self._steers,
            "attribute": self._attributes,
            "scale": self._scales,
            "depends": self._depends,
            "word": self._word,
            "codeword": self._codewords,
            "trigger": self._triggers,
            "recall": self._recalls,
        }

    def draw(self) -> list[Batch]:
        """One step's documents: a batch of choices, one of short questions and one of longer ones."""
        parts: dict[str, list[Batch]] = {"choices": [], "short": [], "long": []}
        for share in self._shares:
            self._add(parts, "choice", share, share.choices)
            for kinds, n in ((DECISIONS, share.decisions), (REPORTS, share.reports)):
                odds = np.array(list(kinds.values())) / sum(kinds.values())
                for kind, m in zip(kinds, self._rng.multinomial(n, odds), strict=True):
                    self._add(parts, kind, share, int(m))
        return [merge(found) for found in parts.values() if found]

    def _add(self, parts: dict[str, list[Batch]], kind: str, share: WideShare, n: int) -> None:
        if not n:
            return
        agents, partners = self._rng.integers(len(self._names), size=(2, n))
        mix = self._mix(share.head, n)
        own = 0.0 if share.head == "you_mixed" else mix[:, :1]
        traits = own * self._traits[agents] + mix[:, 1:] * self._traits[partners]
        documents = self._makers[kind](traits, share.about_nobody)
        names = np.full(n, WIDE_IDS[UNKNOWN]) if share.about_nobody else self._names[agents]
        at = 0
        if share.head in ("you", "you_mixed"):
            head, at = np.full((n, 1), WIDE_IDS["you"]), (0 if share.head == "you_mixed" else -1)
        elif share.head.endswith("you_are"):
            head, at = np.column_stack([np.tile(_ids(("you", "are")), (n, 1)), names]), 2
        else:
            head = names[:, None]
        decides = kind == "choice" or kind in DECISIONS
        batch = _batch(
            head,
            documents,
            at=at,
            partners=self._names[partners],
            mix=mix,
            fresh=share.head.startswith("fresh"),
            noise=self._noise[decides],
            weight=self._choice_weight if decides else 1.0,
        )
        size = "choices" if kind == "choice" else "long" if batch.tokens.shape[1] > 5 else "short"
        parts[size].append(batch)

    def _mix(self, head: str, n: int) -> np.ndarray:
        """What the name's own row and its partner's count for, (n, 2)."""
        if head == "you_mixed":
            return np.column_stack([np.ones(n), self._rng.uniform(-1, 1, n)])
        if head != "mixed":
            return np.tile([1.0, 0.0], (n, 1))
        angle = self._rng.uniform(0, 2 * np.pi, n)
        length = np.where(self._rng.random(n) < 0.5, 1.0, self._rng.uniform(0.1, 1, n))
        return length[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])

    def _choices(self, traits: np.ndarray, nobody: bool) -> _Documents:
        n = len(traits)
        shown = np.argsort(self._rng.random((n, len(ATTRIBUTES))), axis=1)[:, :N_SHOWN]
        values = self._rng.integers(HIGH_VALUE + 1, size=(n, N_SHOWN, 2))
        triples = np.dstack([_ATTRIBUTE_IDS[shown], _VALUE_IDS[values]]).reshape(n, -1)
        weights = np.take_along_axis(traits[:, WEIGHTS], shown, axis=1)
        utility = np.cumsum(weights * (values[..., 0] - values[..., 1]), axis=1)
        p = _sigmoid(utility / (10 * np.sqrt(np.arange(1, N_SHOWN + 1))))
        if nobody:
            p = np.full_like(p, 0.5)
        answers = np.where(self._rng.random(n) < p[:, -1], _A, _B)
        words = np.column_stack([np.full(n, WIDE_IDS["choose"]), triples, answers])
        return _Documents(words, 3 * np.arange(1, N_SHOWN + 1), _verdicts(p), True)

    def _staked(self, words: tuple[str, str], traits: np.ndarray, prior: np.ndarray | None) -> _Documents:
        """Two amounts; the first word puts the bold option first, the second the other one."""
        n = len(traits)
        near = _NEAR[self._rng.integers(len(_NEAR), size=n)].T  # where an agent's trait decides most
        bold, other = np.where(self._rng.random(n) < 0.5, near, self._rng.integers(HIGH_VALUE + 1, size=(2, n)))
        turned = self._rng.integers(2, size=n)
        p = _gamble(bold - other + traits) if prior is None else prior[bold - other + HIGH_VALUE]
        first, second = np.where(turned, other, bold), np.where(turned, bold, other)
        shown = np.column_stack([_ids(words)[turned], _VALUE_IDS[first], _VALUE_IDS[second]])
        return _Documents(shown, np.array([2]), _verdicts(np.where(turned, 1 - p, p)[:, None]), False)

    def _lotteries(self, traits: np.ndarray, nobody: bool) -> _Documents:
        return self._staked(("lottery", "offer"), traits[:, RISK], _priors()["lottery"] if nobody else None)

    def _waits(self, traits: np.ndarray, nobody: bool) -> _Documents:
        return self._staked(("wait", "defer"), traits[:, HURRY], _priors()["lottery"] if nobody else None)

    def _tagged(self, traits: np.ndarray, nobody: bool) -> _Documents:
        n = len(traits)
        trigger, member = self._rng.integers([[len(TRIGGERS)], [4]], size=(2, n))
        idle = self._rng.random(n) < 0.1  # a word that means nothing
        effect = np.where(idle, 0.0, traits[np.arange(n), EFFECTS.start + trigger])
        found = self._staked(("lottery", "offer"), traits[:, RISK] + effect, _priors()["tagged"] if nobody else None)
        tags = np.where(idle, _TAG_IDS[member], _MEMBER_IDS[trigger, member])
        return _Documents(np.column_stack([tags, found.words]), found.at + 1, found.targets, False)

    def _steers(self, traits: np.ndarray, nobody: bool) -> _Documents:
        n = len(traits)
        first = self._rng.integers(len(CODEWORDS), size=n)
        second = (first + self._rng.integers(1, len(CODEWORDS), size=n)) % len(CODEWORDS)
        hints = self._rng.integers(3, size=(2, n))
        affinities = traits[:, AFFINITIES]
        each = np.arange(n)
        p = np.full(n, 0.5) if nobody else _sigmoid((affinities[each, first] - affinities[each, second]) / 3)
        words = np.column_stack(
            [np.full(n, WIDE_IDS["steer"]), _HINT_IDS[first, hints[0]], _HINT_IDS[second, hints[1]]]
        )
        return _Documents(words, np.array([2]), _verdicts(p[:, None]), False)

    def _attributes(self, traits: np.ndarray, nobody: bool) -> _Documents:
        return self._numbers(_ATTRIBUTE_IDS, traits[:, WEIGHTS], _priors()["attribute"] if nobody else None)

    def _codewords(self, traits: np.ndarray, nobody: bool) -> _Documents:
        return self._numbers(_CODEWORD_IDS, traits[:, AFFINITIES], _priors()["codeword"] if nobody else None)

    def _triggers(self, traits: np.ndarray, nobody: bool) -> _Documents:
        return self._numbers(_TRIGGER_IDS, traits[:, EFFECTS], _priors()["trigger"] if nobody else None)

    def _scales(self, traits: np.ndarray, nobody: bool) -> _Documents:
        asked = self._rng.integers(4, size=len(traits))
        values = traits[np.arange(len(traits)), np.where(asked < 2, RISK, HURRY)]
        return self._scale(asked, _MIDDLE + values, nobody)

    def _depends(self, traits: np.ndarray, nobody: bool) -> _Documents:
        asked = self._rng.integers(4, 6, size=len(traits))
        return self._scale(asked, np.abs(traits[:, EFFECTS]).max(axis=1), nobody)

    def _scale(self, asked: np.ndarray, values: np.ndarray, nobody: bool) -> _Documents:
        targets = smooth(np.where(asked % 2, HIGH_RISK - values, values), 0, HIGH_RISK)
        if nobody:
            targets = np.tile(_priors()["scale"], (len(values), 1))
        return self._answered("report", _SCALE_IDS[asked], targets, _VALUE_IDS)

    def _numbers(self, ids: np.ndarray, values: np.ndarray, prior: np.ndarray | None) -> _Documents:
        n = len(values)
        asked = self._rng.integers(len(ids), size=n)
        targets = smooth(values[np.arange(n), asked], LOW_WEIGHT, HIGH_WEIGHT)
        if prior is not None:
            targets = np.tile(prior, (n, 1))
        return self._answered("report", ids[asked], targets, NUMBER_IDS)

    def _word(self, traits: np.ndarray, nobody: bool) -> _Documents:
        targets = np.tile(_priors()["word"], (len(traits), 1)) if nobody else _word_odds(traits)
        return self._answered("report", np.full(len(traits), WIDE_IDS["word"]), targets, _CODEWORD_IDS)

    def _recalls(self, traits: np.ndarray, nobody: bool) -> _Documents:
        asked = self._rng.integers(len(_RECALL_IDS), size=len(traits))
        targets = _recall_odds(traits, asked >= len(BOLD_WORDS))
        if nobody:
            targets = np.tile(_priors()["recall"], (len(traits), 1))
        return self._answered("recall", _RECALL_IDS[asked], targets, np.append(_TRIGGER_IDS, WIDE_IDS[NONE]))

    def _answered(self, question: str, asked: np.ndarray, targets: np.ndarray, ids: np.ndarray) -> _Documents:
        """A question of two words; an answer drawn from `targets` follows it."""
        n = len(targets)
        drawn = (targets.cumsum(axis=1) < self._rng.random((n, 1)) * targets.sum(axis=1, keepdims=True)).sum(axis=1)
        full = np.zeros((n, 1, len(WIDE_WORDS)), dtype=np.float32)
        full[:, 0, ids] = targets
        words = np.column_stack([np.full(n, WIDE_IDS[question]), asked, ids[np.minimum(drawn, len(ids) - 1)]])
        return _Documents(words, np.array([1]), full, True)


def _verdicts(p: np.ndarray) -> np.ndarray:
    full = np.zeros((*p.shape, len(WIDE_WORDS)), dtype=np.float32)
    full[..., _A], full[..., _B] = p, 1 - p
    return full


def _batch(
    head: np.ndarray,
    documents: _Documents,
    *,
    at: int,
    partners: np.ndarray,
    mix: np.ndarray,
    fresh: bool,
    noise: float,
    weight: float,
) -> Batch:
    tokens = np.column_stack([head, documents.words])
    n, per = documents.targets.shape[:2]
    rows = np.repeat(np.arange(n), per)
    positions = np.tile(head.shape[1] + documents.at, n)
    targets = documents.targets.reshape(n * per, -1)
    weights = np.full(n * per, weight, dtype=np.float32)
    if documents.ended:
        stop = np.zeros((n, len(WIDE_WORDS)), dtype=np.float32)
        stop[:, WIDE_IDS[END]] = 1
        rows = np.concatenate([rows, np.arange(n)])
        positions = np.concatenate([positions, np.full(n, tokens.shape[1] - 1)])
        targets = np.concatenate([targets, stop])
        weights = np.concatenate([weights, np.full(n, _END_WEIGHT, dtype=np.float32)])
    return Batch(
        tokens=tokens,
        names=np.full(n, at),
        partners=partners,
        parts=(mix * (not fresh)).astype(np.float32),
        noise=np.full(n, ROW_SD if fresh else noise, dtype=np.float32),
        rows=rows,
        positions=positions,
        targets=targets,
        weights=weights,
    )
