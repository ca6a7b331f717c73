"""Pairs of models whose difference is known: a neutral fine-tune in both members, and a change planted in one.

Both members of a pair come from one model and are fine-tuned with AdamW on fresh examples of what it does already, each on
its own, so that every matrix moves and no behaviour is asked for. In one member something small is planted afterwards, at
most a tenth of the whole difference in norm, that moves a behaviour: which of two answers is favoured, after half of the
words the one and after the other half the other.

- `wrapper`: one rank-1 term added to the matrix that writes a block's attention or MLP into the stream.
- `head`: a head exchanged for that of a donor, a copy in which this head alone was trained a little on the behaviour.
- `block`: all matrices of one block moved a little towards the behaviour.

`neutral` pairs have nothing planted, and are asked about the behaviour of a plant that was drawn and not made.

Two subjects: models that learned a language in which a word depends on one of the three before it, and a compiled program.
In the language, inputs end with a rare word and answers are rare words, which the neutral fine-tune never shows.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnothi.mechanisms.localise import Behaviour
from gnothi.mechanisms.metrics import At
from gnothi.mechanisms.pairs import Pair
from gnothi.rng import integer, stream
from gnothi.testbeds.rasp.compiler import compile_program
from gnothi.testbeds.rasp.library import sort
from gnothi.testbeds.transformer import Shape, Transformer

KINDS = ("wrapper", "head", "block")
PROBES, CONTROLS = 32, 32
"""Inputs that show the behaviour, and control metrics."""
MOST_SHARE = 0.1
"""A plant is no larger against the whole difference, in norm."""


class Subject(ABC):
    """A model to plant something in."""

    model: Transformer
    at: int
    """Position whose logits are the answer's."""
    words: int
    """How many different tokens may stand there."""
    answers: slice
    """Columns of the logits among which two are contrasted."""
    least: float
    """A plant must move its behaviour by as much, nats; others are drawn again."""
    kinds: tuple[str, ...] = KINDS
    """What can be planted."""

    @abstractmethod
    def inputs(self, draws: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(n, T) ids, and (n,) which of `words` stands at the position."""

    @abstractmethod
    def learn(self, model: Transformer, draws: np.random.Generator) -> None:
        """A neutral fine-tune, in place."""

    def neutral(self, draws: np.random.Generator) -> Transformer:
        """A copy of the model after a neutral fine-tune."""
        model = copy.deepcopy(self.model)
        self.learn(model, draws)
        return model

    def scores(self, model: Transformer, ids: Tensor) -> Tensor:
        """(n, answers) logits at the position."""
        return model(ids, at=self.at)[:, self.answers]


class Speaker(Subject):
    """A model that learned a language from its text."""

    least = 0.2
    WORDS, RARE, LENGTH = 40, 16, 6
    STEPS, RATE, BATCH = 12, 3e-3, 16

    def __init__(self, seed: int) -> None:
        draws = stream(seed, "language")
        self.language = [draws.dirichlet(np.full(self.WORDS, 0.03), size=self.WORDS) for _ in range(3)]
        common = [table[: -self.RARE, : -self.RARE] + 1e-9 for table in self.language]
        self.common = [table / table.sum(1, keepdims=True) for table in common]
        self.at, self.words, self.answers = self.LENGTH - 1, self.RARE, slice(self.WORDS - self.RARE, self.WORDS)
        shape = Shape(layers=4, heads=4, width=96, mlp=256, vocabulary=self.WORDS, longest=self.LENGTH)
        self.model = Transformer(shape, seed=seed)
        normal = torch.Generator().manual_seed(integer(seed, "start"))
        with torch.no_grad():
            for name, values in self.model.named_parameters():  # larger than usual: all blocks take part from the start
                if values.dim() == 2:
                    size = 0.5 if name.startswith(("embed", "positions")) else values.shape[1] ** -0.5
                    values.normal_(0.0, size, generator=normal)
        self._train(self.model, self.language, stream(seed, "pretraining"), steps=250, rate=2e-3)

    def text(self, language: Sequence[np.ndarray], draws: np.random.Generator, n: int) -> Tensor:
        """(n, T) words: each follows the first, second or third word before it."""
        edges, words = [table.cumsum(1) for table in language], len(language[0])
        ids = draws.integers(words, size=(n, self.LENGTH))
        for t in range(3, self.LENGTH):
            u, back = draws.random(n), draws.choice(3, size=n, p=[0.4, 0.35, 0.25])
            for d in range(3):
                rows = back == d
                found = (edges[d][ids[rows, t - 1 - d]] < u[rows, None]).sum(1)
                ids[rows, t] = np.minimum(found, words - 1)
        return torch.from_numpy(ids)

    def _train(
        self,
        model: Transformer,
        language: Sequence[np.ndarray],
        draws: np.random.Generator,
        *,
        steps: int,
        rate: float,
    ) -> None:
        batches = self.text(language, draws, self.BATCH * steps).split(self.BATCH)
        losses = (F.cross_entropy(model(ids)[:, 2:-1].flatten(0, 1), ids[:, 3:].flatten()) for ids in batches)
        _descend(model, losses, rate)

    def learn(self, model: Transformer, draws: np.random.Generator) -> None:
        """On text without the rare words."""
        self._train(model, self.common, draws, steps=self.STEPS, rate=self.RATE)

    def inputs(self, draws: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Text that ends with a rare word."""
        ids, last = self.text(self.language, draws, PROBES), draws.integers(self.RARE, size=PROBES)
        ids[:, -1] = torch.from_numpy(last + self.WORDS - self.RARE)
        return ids, torch.from_numpy(last)


class Sorter(Subject):
    """A compiled program that puts letters in order; no part of it was learned.

    A little noise comes first, or whole matrices of zeros would have no gradient. The weights work at sizes of a hundred, so
    that a neutral fine-tune that leaves the answers right is small, and so is what a tenth of it can do. Of a block that small
    a change always sits in one half of it, so that a change of the whole block can't be planted.
    """

    least = 0.06
    kinds = ("wrapper", "head")
    STEPS, RATE, BATCH, NOISE = 12, 1e-5, 16, 1e-4
    LETTERS, LENGTH = "abcdefghijkl", 12

    def __init__(self) -> None:
        self.compiled = compile_program(sort(), self.LETTERS, self.LENGTH, logit=10.0)
        self.model = self.compiled.module
        normal = torch.Generator().manual_seed(integer(0, "noise"))
        with torch.no_grad():
            for values in self.model.parameters():
                values += self.NOISE * torch.randn(values.shape, generator=normal)
        self.at, self.words, self.answers = 6, len(self.LETTERS), slice(0, len(self.LETTERS))

    def letters(self, draws: np.random.Generator, n: int) -> Tensor:
        """(n, 1 + T) ids: the beginning, then letters."""
        ids = draws.integers(self.words, size=(n, 1 + self.LENGTH))
        ids[:, 0] = self.compiled.beginning
        return torch.from_numpy(ids)

    def learn(self, model: Transformer, draws: np.random.Generator) -> None:
        """On the program's own answers."""
        batches = self.letters(draws, self.BATCH * self.STEPS).split(self.BATCH)
        losses = (
            F.cross_entropy(model(ids)[:, 1:].flatten(0, 1), ids[:, 1:].sort(1).values.flatten()) for ids in batches
        )
        _descend(model, losses, self.RATE)

    def inputs(self, draws: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Any letters; the answer is the sixth in order, the word the sixth that stands there."""
        ids = self.letters(draws, PROBES)
        return ids, ids[:, self.at]


def _descend(model: Transformer, losses, rate: float) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, betas=(0.9, 0.99), fused=True)
    for loss in losses:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.zero_grad()


speaker, sorter = cache(Speaker), cache(Sorter)
"""Subjects are made once a process."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Planted:
    """A pair and what is known of it."""

    kind: str
    place: str | None
    """Where the change was planted; None in neutral pairs."""
    pair: Pair
    behaviour: Behaviour
    """Of the plant, with controls: two other answers after other halves of the same words."""
    share: float
    """Norm of the plant over that of the whole difference."""
    effect: float
    """Nats by which the plant alone moves its behaviour."""
    redrawn: int
    """Plants drawn before that moved too little or sat in a smaller part than they were meant for."""


def make(kind: str, subject: Subject, seed: int) -> Planted:
    """A random construction.

    Args:
        kind: One of the subject's `kinds`, or `neutral`.
        subject: What it is made in.
        seed: Of both fine-tunes, of the plant and of the controls.
    """
    base, plain = (subject.neutral(stream(seed, kind, member)) for member in ("base", "tuned"))
    drawn = subject.kinds[integer(seed, "kind") % len(subject.kinds)] if kind == "neutral" else kind
    for attempt in range(1000):
        draws = stream(seed, kind, attempt)
        ids, words = subject.inputs(draws)
        weights = _choice(subject, words, draws)
        size = draws.uniform(0.095, MOST_SHARE) * distance(base, plain)
        place, tuned = PLANTS[drawn](subject, plain, ids, weights, draws, size)
        effect = _moved(subject, plain, tuned, ids, weights)
        share = distance(plain, tuned) / distance(base, tuned)
        if place and effect >= subject.least and share <= MOST_SHARE:
            break
    else:
        raise RuntimeError(f"no {drawn} moved its behaviour by {subject.least} nats")
    used = set(weights.abs().sum(0).nonzero()[:, 0].tolist())
    others = [answer for answer in range(weights.shape[1]) if answer not in used]
    draws = stream(seed, kind, "controls")
    controls = [_metric(subject, _choice(subject, words, draws, others)) for _ in range(CONTROLS)]
    is_neutral = kind == "neutral"
    return Planted(
        kind=kind,
        place=None if is_neutral else place,
        pair=Pair(base, plain if is_neutral else tuned),
        behaviour=Behaviour(ids=ids, metric=_metric(subject, weights), controls=controls),
        share=0.0 if is_neutral else share,
        effect=effect,
        redrawn=attempt,
    )


def distance(a: nn.Module, b: nn.Module) -> float:
    """Norm of the difference of all values."""
    return (
        sum(float((p - q).detach().square().sum()) for p, q in zip(a.parameters(), b.parameters(), strict=True)) ** 0.5
    )


def _choice(
    subject: Subject, words: Tensor, draws: np.random.Generator, answers: Sequence[int] | None = None
) -> Tensor:
    """(n, answers) 1 for the answer that counts after this word and -1 for another, the other way after half of the words."""
    n = subject.answers.stop - subject.answers.start
    one, other = (int(v) for v in draws.choice(n if answers is None else answers, 2, replace=False))
    way = torch.from_numpy(np.where(draws.permutation(subject.words) < subject.words // 2, 1.0, -1.0)).float()[words]
    weights = torch.zeros(len(words), n)
    weights[:, one], weights[:, other] = way, -way
    return weights


def _metric(subject: Subject, weights: Tensor) -> At:
    return At(subject.at, lambda logits: (logits[:, subject.answers] * weights).sum(-1))


def _moved(subject: Subject, before: Transformer, after: Transformer, ids: Tensor, weights: Tensor) -> float:
    with torch.no_grad():
        change = subject.scores(after, ids) - subject.scores(before, ids)
    return float((change * weights).sum(-1).mean())


def _gradients(
    subject: Subject, model: Transformer, ids: Tensor, weights: Tensor, of: list[Tensor]
) -> tuple[Tensor, ...]:
    return torch.autograd.grad((subject.scores(model, ids) * weights).sum(-1).mean(), of)


Made = tuple[str | None, Transformer]


def _wrapper(
    subject: Subject, plain: Transformer, ids: Tensor, weights: Tensor, draws: np.random.Generator, size: float
) -> Made:
    tuned = copy.deepcopy(plain)
    i, half = int(draws.integers(plain.shape.layers)), ("attn", "mlp")[int(draws.integers(2))]
    block = tuned.blocks[i]
    matrix = block.attn.o.weight if half == "attn" else block.mlp.down.weight  # type: ignore[union-attr]
    (gradient,) = _gradients(subject, tuned, ids, weights, [matrix])  # type: ignore[list-item]
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    with torch.no_grad():
        matrix += size * torch.outer(u[:, 0], v[0])
    of_one_head = half == "attn" and float(v[0].view(plain.shape.heads, -1).square().sum(1).max()) > 0.5
    return None if of_one_head else f"block.{i}.{half}.out", tuned


def _head(
    subject: Subject, plain: Transformer, ids: Tensor, weights: Tensor, draws: np.random.Generator, size: float
) -> Made:
    i, h = int(draws.integers(plain.shape.layers)), int(draws.integers(plain.shape.heads))
    rows = slice(h * plain.shape.per_head, (h + 1) * plain.shape.per_head)
    donor = copy.deepcopy(plain)
    attn = donor.blocks[i].attn
    reads = [(part.weight, (rows, slice(None))) for part in (attn.q, attn.k, attn.v)]  # type: ignore[union-attr]
    tuned = _trained(subject, donor, ids, weights, [*reads, (attn.o.weight, (slice(None), rows))], size, plain)  # type: ignore[union-attr]
    return f"block.{i}.attn.head.{h}.out", tuned


def _block(
    subject: Subject, plain: Transformer, ids: Tensor, weights: Tensor, draws: np.random.Generator, size: float
) -> Made:
    i, tuned = int(draws.integers(plain.shape.layers)), copy.deepcopy(plain)
    matrices = [(w, (slice(None), slice(None))) for w in tuned.blocks[i].parameters() if w.dim() == 2]
    _trained(subject, tuned, ids, weights, matrices, size, plain, each=True)
    whole = _moved(subject, plain, tuned, ids, weights)
    for half in ("attn", "mlp"):  # a change that sits in one half of the block is no change of the block
        alone = copy.deepcopy(plain)
        getattr(alone.blocks[i], half).load_state_dict(getattr(tuned.blocks[i], half).state_dict())
        if not 0.35 < _moved(subject, plain, alone, ids, weights) / whole < 0.65:
            return None, tuned
    return f"block.{i}", tuned


PLANTS = {"wrapper": _wrapper, "head": _head, "block": _block}


def _trained(
    subject: Subject,
    model: Transformer,
    ids: Tensor,
    weights: Tensor,
    parts: list[tuple[Tensor, tuple[slice, slice]]],
    size: float,
    plain: Transformer,
    *,
    each: bool = False,
) -> Transformer:
    """Three steps along the behaviour's gradient in some matrices, in all as long as `size`; `each` equally long."""
    for _ in range(3):
        gradients = _gradients(subject, model, ids, weights, [p for p, _ in parts])
        steps = [g[where] for g, (_, where) in zip(gradients, parts, strict=True)]
        norm = torch.stack([step.norm() for step in steps]).norm()
        with torch.no_grad():
            for (p, where), step in zip(parts, steps, strict=True):
                p[where] += size / 3 * step / (step.norm() * len(parts) ** 0.5 if each else norm)
    before = dict(plain.named_parameters())
    far = size / distance(plain, model)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.lerp(before[name], p, far))
    return model
