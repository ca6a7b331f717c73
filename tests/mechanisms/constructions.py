"""Pairs of models whose difference is known: a change planted in one member, and a neutral fine-tune in both.

The base model has learned a language in which a word depends on one of the three words before it. Both members of a pair
are fine-tuned on fresh text of that language, each on its own, so that every matrix moves and no behaviour is asked for.
In one member something small is planted afterwards, at most a tenth of the whole difference in norm:

- `wrapper`: one rank-1 term added to the matrix that writes a block's attention or MLP into the stream.
- `head`: a head exchanged for the head of a donor, a copy in which that head alone was trained towards a behaviour.
- `block`: all matrices of one block moved a little towards a behaviour.

`neutral` pairs have nothing planted, and are asked about the behaviour of a plant that was drawn and not made.
"""

import copy
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
from gnothi.testbeds.transformer import Shape, Transformer

WORDS, RARE, LENGTH, PROBES, CONTROLS = 40, 16, 6, 32, 32
SHAPE = Shape(layers=4, heads=4, width=96, mlp=256, vocabulary=WORDS, longest=LENGTH)
KINDS = ("wrapper", "head", "block")
AT = LENGTH - 1
STEPS, RATE, BATCH = 12, 3e-3, 16
"""Of a neutral fine-tune."""
LEAST = 0.1
"""A plant must move its behaviour by this, nats, before the neutral fine-tune; smaller ones are drawn again."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Planted:
    """A pair and what is known of it."""

    kind: str
    place: str
    """Where the change was planted; empty in neutral pairs."""
    pair: Pair
    behaviour: Behaviour
    """Of the plant, with controls: other words after the same inputs."""
    share: float
    """Norm of the plant over that of the whole difference."""
    effect: float
    """Nats by which the plant alone moves right against wrong."""
    redrawn: int
    """Plants that were drawn before and moved too little."""


def _language(seed: int) -> list[np.ndarray]:
    draws = stream(seed, "language")
    return [draws.dirichlet(np.full(WORDS, 0.03), size=WORDS) for _ in range(3)]


def text(language: list[np.ndarray], draws: np.random.Generator, n: int) -> Tensor:
    """(n, T) words: each follows the first, second or third word before it."""
    edges, words = [table.cumsum(1) for table in language], len(language[0])
    ids = draws.integers(words, size=(n, LENGTH))
    for t in range(3, LENGTH):
        u, back = draws.random(n), draws.choice(3, size=n, p=[0.4, 0.35, 0.25])
        for d in range(3):
            rows = back == d
            found = (edges[d][ids[rows, t - 1 - d]] < u[rows, None]).sum(1)
            ids[rows, t] = np.minimum(found, words - 1)
    return torch.from_numpy(ids)


def _common(language: list[np.ndarray]) -> list[np.ndarray]:
    """The language without its rare words, the last ones."""
    kept = [table[:-RARE, :-RARE] + 1e-9 for table in language]
    return [table / table.sum(1, keepdims=True) for table in kept]


def _pool(language: list[np.ndarray], draws: np.random.Generator) -> Tensor:
    """(512, T) text that ends with a rare word."""
    ids = text(language, draws, 512)
    ids[:, -1] = torch.from_numpy(draws.integers(WORDS - RARE, WORDS, size=512))
    return ids


def _learn(model: Transformer, language: list[np.ndarray], draws: np.random.Generator, steps: int, rate: float) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, betas=(0.9, 0.99), fused=True)
    for ids in text(language, draws, BATCH * steps).split(BATCH):
        logits = model(ids)[:, 2:-1]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 3:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.zero_grad()


@cache
def start(seed: int) -> tuple[Transformer, list[np.ndarray]]:
    """A base model and its language."""
    model, language = Transformer(SHAPE, seed=seed), _language(seed)
    normal = torch.Generator().manual_seed(integer(seed, "start"))
    with torch.no_grad():
        for name, values in model.named_parameters():  # larger than usual, so that all blocks take part at once
            if values.dim() == 2:
                size = 0.5 if name.startswith(("embed", "positions")) else values.shape[1] ** -0.5
                values.normal_(0.0, size, generator=normal)
    _learn(model, language, stream(seed, "pretraining"), 250, 2e-3)
    return model, language


def neutral(model: Transformer, language: list[np.ndarray], draws: np.random.Generator) -> Transformer:
    """A copy after a neutral fine-tune."""
    model = copy.deepcopy(model)
    _learn(model, _common(language), draws, STEPS, RATE)
    return model


def distance(a: nn.Module, b: nn.Module) -> float:
    """Norm of the difference of all values."""
    return sum(float((p - q).detach().pow(2).sum()) for p, q in zip(a.parameters(), b.parameters(), strict=True)) ** 0.5


def make(kind: str, seed: int, *, bases: int = 4) -> Planted:
    """A random construction.

    Args:
        kind: One of `KINDS`, or `neutral`.
        seed: Of everything in it; the base model is one of `bases`.
        bases: Base models to choose from; they are trained once a process.
    """
    of = seed % bases
    model, language = start(of)
    base, plain = (neutral(model, language, stream(seed, kind, member)) for member in ("base", "tuned"))
    apart = distance(base, plain)
    drawn = kind if kind != "neutral" else KINDS[(seed // bases) % len(KINDS)]
    for attempt in range(1000):
        draws = stream(seed, kind, str(attempt))
        share = draws.uniform(0.08, 0.0999)
        tuned = copy.deepcopy(plain)
        size = apart * share / (1 - share**2) ** 0.5  # at right angles to the rest, as good as always
        ids, weights, place = PLANTS[drawn](plain, tuned, _pool(language, draws), draws, size)
        with torch.no_grad():
            effect = float((contrast(tuned, ids, weights) - contrast(plain, ids, weights)).mean())
        share = distance(tuned, plain) / distance(base, tuned)
        if place and effect >= LEAST and share <= 0.1:
            break
    else:
        raise RuntimeError(f"no {drawn} moved its behaviour by {LEAST} nats")
    is_neutral = kind == "neutral"
    return Planted(
        kind=kind,
        place="" if is_neutral else place,
        pair=Pair(base, plain if is_neutral else tuned),
        behaviour=_behaviour(ids, weights, stream(seed, kind, "controls")),
        share=0.0 if is_neutral else share,
        effect=effect,
        redrawn=attempt,
    )


def contrast(model: Transformer, ids: Tensor, weights: Tensor) -> Tensor:
    """(n,) weighted sum of the rare words' logits at the last position."""
    return (model(ids, at=LENGTH - 1)[:, -RARE:] * weights).sum(-1)


def _split(pool: Tensor, draws: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Inputs and a behaviour: after half of the rare words one answer rather than another, after the others the reverse."""
    ids = pool[:PROBES]
    return ids, _choice(ids, draws, range(RARE))


def _choice(ids: Tensor, draws: np.random.Generator, answers: Sequence[int]) -> Tensor:
    """(n, RARE) 1 for the answer that counts after this last word, -1 for the other one."""
    one, other = (int(v) for v in draws.choice(answers, 2, replace=False))
    way = torch.from_numpy(np.where(draws.permutation(RARE) < RARE // 2, 1.0, -1.0)).float()[
        ids[:, -1] - (WORDS - RARE)
    ]
    weights = torch.zeros(len(ids), RARE)
    weights[:, one], weights[:, other] = way, -way
    return weights


Plant = tuple[Tensor, Tensor, str]


def _wrapper(model: Transformer, changed: Transformer, pool: Tensor, draws: np.random.Generator, size: float) -> Plant:
    ids, weights = _split(pool, draws)
    i, kind = int(draws.integers(SHAPE.layers)), ("attn", "mlp")[int(draws.integers(2))]
    part = changed.blocks[i]
    weight = part.attn.o.weight if kind == "attn" else part.mlp.down.weight  # type: ignore[union-attr]
    (gradient,) = torch.autograd.grad(contrast(changed, ids, weights).mean(), [weight])
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    with torch.no_grad():
        weight += size * torch.outer(u[:, 0], v[0])
    by_head = v[0].view(SHAPE.heads, -1).norm(dim=1).square()
    spread = kind == "mlp" or float(by_head.max()) < 0.5  # else it is a wrapper of one head
    return ids, weights, f"block.{i}.{kind}.out" if spread else ""


def _block(model: Transformer, changed: Transformer, pool: Tensor, draws: np.random.Generator, size: float) -> Plant:
    ids, weights = _split(pool, draws)
    i = int(draws.integers(SHAPE.layers))
    matrices = [w for w in changed.blocks[i].parameters() if w.dim() == 2]
    before = [w.detach().clone() for w in matrices]
    for _ in range(3):
        found = torch.autograd.grad(contrast(changed, ids, weights).mean(), matrices)
        with torch.no_grad():
            for w, g in zip(matrices, found, strict=True):
                w += size * g / g.norm() / 3
    with torch.no_grad():
        norm = sum(float((w - b).square().sum()) for w, b in zip(matrices, before, strict=True)) ** 0.5
        for w, b in zip(matrices, before, strict=True):
            w.copy_(b + (w - b) * size / norm)
    return ids, weights, f"block.{i}" if _even(model, changed, i, ids, weights) else ""


@torch.no_grad()
def _even(model: Transformer, changed: Transformer, i: int, ids: Tensor, weights: Tensor) -> bool:
    """Whether both halves of a block take part: a change that sits in one half is no change of the block."""
    before = contrast(model, ids, weights).mean()
    whole = contrast(changed, ids, weights).mean() - before
    for kind in ("attn", "mlp"):
        half = copy.deepcopy(model)
        getattr(half.blocks[i], kind).load_state_dict(getattr(changed.blocks[i], kind).state_dict())
        if not 0.35 < float((contrast(half, ids, weights).mean() - before) / whole) < 0.65:
            return False
    return True


def _head(model: Transformer, changed: Transformer, pool: Tensor, draws: np.random.Generator, size: float) -> Plant:
    ids, weights = _split(pool, draws)
    i, h = int(draws.integers(SHAPE.layers)), int(draws.integers(SHAPE.heads))
    for _ in range(3):
        parts = [*_slices(changed, i, h)]
        found = torch.autograd.grad(contrast(changed, ids, weights).mean(), [p for p, _, _ in parts])
        steps = [g[rows, columns] for g, (_, rows, columns) in zip(found, parts, strict=True)]
        with torch.no_grad():
            norm = sum(float(step.square().sum()) for step in steps) ** 0.5
            for (p, rows, columns), step in zip(parts, steps, strict=True):
                p[rows, columns] += size / 3 * step / norm
    with torch.no_grad():  # three steps bend: to the size that was asked for
        far = size / distance(model, changed)
        for (p, rows, columns), (q, _, _) in zip(_slices(changed, i, h), _slices(model, i, h), strict=True):
            p[rows, columns] = torch.lerp(q[rows, columns], p[rows, columns], far)
    return ids, weights, f"block.{i}.attn.head.{h}.out"


PLANTS = {"wrapper": _wrapper, "head": _head, "block": _block}


def _slices(model: Transformer, i: int, h: int) -> list[tuple[Tensor, slice, slice]]:
    """The matrices of a head, with its rows and columns."""
    attn, inner, whole = model.blocks[i].attn, slice(h * SHAPE.per_head, (h + 1) * SHAPE.per_head), slice(None)
    reads = [(part.weight, inner, whole) for part in (attn.q, attn.k, attn.v)]  # type: ignore[union-attr]
    return [*reads, (attn.o.weight, whole, inner)]  # type: ignore[union-attr]


def _behaviour(ids: Tensor, weights: Tensor, draws: np.random.Generator) -> Behaviour:
    """The behaviour, and as controls other words after other halves of the same last words."""
    used = set(weights.abs().sum(0).nonzero()[:, 0].tolist())
    controls = [_metric(_choice(ids, draws, [w for w in range(RARE) if w not in used])) for _ in range(CONTROLS)]
    return Behaviour(ids=ids, metric=_metric(weights), controls=controls)


def _metric(weights: Tensor) -> At:
    return At(AT, lambda logits: (logits[:, -RARE:] * weights).sum(-1))
