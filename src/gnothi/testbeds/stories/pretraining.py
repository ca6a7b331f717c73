"""Pretraining of story models: AdamW, or Muon for the matrices of blocks and AdamW for the rest, with checkpoints.

Fine-tuning and its reversal are `mechanisms.reversal.train_back`, the same for all test beds.

Source: arXiv:2311.12786, section 6, and its code: AdamW (0.9, 0.95), weight decay 0.1, clip 1.0, cosine to 0, batch 128,
30,000 steps at 1e-3. In the released step one micro-batch is used again for every part of an accumulated gradient; here
each part has rows of its own. Muon at `tiny` is ours.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gnothi.errors import SpecError, TrainingError
from gnothi.mechanisms.training_state import load_state, save_state, tensors_of
from gnothi.testbeds.muon import Muon
from gnothi.testbeds.stories.rows import Batch, loss
from gnothi.testbeds.transformer import Shape, Transformer


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is pretrained."""

    steps: int
    batch: int
    """Rows a pass."""
    rate: float
    """Peak of AdamW's."""
    muon: float = 0.0
    """Peak of Muon's, for the matrices of blocks; 0 for AdamW alone."""
    accumulate: int = 1
    """Passes a step, each on rows of its own."""
    warmup: float = 0.05
    """Share of the steps."""
    flat: float = 0.0
    """Share of the steps, after the warm-up, at the peak; then down to 0, linearly with Muon, else along a cosine."""
    weight_decay: float = 0.0
    clip: float = 1.0
    keep_s: float = 20.0
    """Seconds between checkpoints."""

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.accumulate) < 1 or self.rate <= 0 or self.muon < 0:
            raise SpecError(
                f"Recipe must have steps, batch, accumulate >= 1, rate > 0 and muon >= 0, got {asdict(self)}."
            )
        if not 0 <= self.warmup + self.flat < 1:
            raise SpecError(f"Recipe must have warmup + flat in [0, 1), got {self.warmup} and {self.flat}.")

    def factor(self, step: int) -> float:
        """On the rates at a step, from 0.

        >>> plain = Recipe(steps=10, batch=1, rate=1.0, warmup=0.2, flat=0.3)
        >>> [round(plain.factor(step), 2) for step in (0, 1, 4, 5, 7, 9)]
        [0.5, 1.0, 1.0, 1.0, 0.65, 0.1]
        """
        rising, falls = math.ceil(self.warmup * self.steps), math.ceil((self.warmup + self.flat) * self.steps)
        if step < rising:
            return (step + 1) / rising
        left = min(1.0, (self.steps - step) / (self.steps - falls))
        return left if self.muon else 0.5 - 0.5 * math.cos(math.pi * left)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def new_model(
    *, layers: int, heads: int, width: int, mlp: int, longest: int, vocabulary: int, seed: int, device: str = "cpu"
) -> Transformer:
    """A story model before its first step: pre-norm, GELU, no biases, head and embedding one matrix.

    With 12 layers, 12 heads, width 768 and 8,192 tokens it has the paper's 91 million numbers; positions are learned and
    the MLP is plain, of 4 x width, where the paper's are rotary and gated, of 2,048.

    Args:
        layers: Blocks.
        heads: Of each.
        width: Of the residual stream.
        mlp: Hidden units of an MLP.
        longest: Positions.
        vocabulary: Tokens.
        seed: Of its values.
        device: Where it lies.
    """
    shape = Shape(
        layers=layers,
        heads=heads,
        width=width,
        mlp=mlp,
        longest=longest,
        vocabulary=vocabulary,
        norm="rms",
        activation="gelu",
        bias=False,
        tied=True,
    )
    return Transformer(shape, seed=seed).to(device)


def pretrain(
    model: Transformer,
    batches: Iterable[Batch],
    recipe: Recipe,
    *,
    folder: Path | None = None,
    key: str = "",
    progress: Callable[[int, int, float], None] | None = None,
) -> list[float]:
    """Train a model in place.

    Args:
        model: As `new_model` makes it.
        batches: `steps * accumulate` of them or more. After a checkpoint the first ones are drawn again and passed over.
        recipe: How.
        folder: Where checkpoints are kept; None for none. The caller removes it.
        key: Says what decides this training; a checkpoint of another is refused.
        progress: Called after each step with steps done, steps in all and the loss.

    Returns:
        Loss of each step before its update, nats a learned token.

    Raises:
        TrainingError: A loss that is no number.
        StoreError: A checkpoint of another training, or one that cannot be written.
    """
    device = model.embed.weight.device
    matrices = [p for n, p in model.named_parameters() if recipe.muon and n.startswith("blocks.") and p.dim() == 2]
    ours = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in ours]
    adam = torch.optim.AdamW(rest, lr=recipe.rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay, fused=True)
    muon = Muon(matrices) if matrices else None
    kept = {**tensors_of(model), **({f"muon/{n}": t for n, t in muon.tensors().items()} if muon else {})}
    losses: list[float] = []
    if folder is not None and (facts := load_state(folder, kept, optimisers=[adam], key=key)) is not None:
        losses = facts["losses"]
    source = itertools.islice(iter(batches), len(losses) * recipe.accumulate, None)
    saved = time.monotonic()
    model.train()
    for step in range(len(losses), recipe.steps):
        total = 0.0
        for _ in range(recipe.accumulate):
            part = loss(model, next(source).to(device)) / recipe.accumulate
            part.backward()
            total += float(part.detach())
        if not math.isfinite(total):
            raise TrainingError(f"pretraining: the loss must stay finite, got {total} at step {step}. Lower the rates.")
        nn.utils.clip_grad_norm_(
            rest if muon else model.parameters(), recipe.clip
        )  # Muon's steps have a size of their own
        factor = recipe.factor(step)
        for group in adam.param_groups:
            group["lr"] = recipe.rate * factor
        adam.step()
        if muon:
            muon.step(recipe.muon * factor)
        model.zero_grad(set_to_none=True)
        losses.append(total)
        if progress is not None:
            progress(step + 1, recipe.steps, total)
        if folder is not None and step + 1 < recipe.steps and time.monotonic() - saved >= recipe.keep_s:
            save_state(folder, kept, optimisers=[adam], facts={"losses": losses}, key=key)
            saved = time.monotonic()
    model.eval()
    return losses
