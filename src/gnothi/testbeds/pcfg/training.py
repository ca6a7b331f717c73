"""Pretraining of a small transformer on the tasks, and the few functions that all its trainings and tests share.

An answer is one token at the end of the prompt, so the last block is computed at that place only; the rest of it is
needed by nobody. Text is learned too, as the paper's models learn whole sequences, every `text_every` steps. Data is
drawn a stretch of steps at a time from streams named by the stretch, so that a training that was cut off goes on from its
last checkpoint with the same data.

Source: arXiv:2311.12786, section C.2: AdamW, 20% of linear warm-up, cosine. Ours: Muon for the matrices of blocks, and the
loss, which is that of the answer plus that of the text, where the paper has one mean over the sequence.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnothi.errors import SpecError, TrainingError
from gnothi.mechanisms.reversal import Schedule
from gnothi.mechanisms.training_state import load_state, save_state, tensors_of
from gnothi.rng import integer
from gnothi.testbeds.muon import Muon
from gnothi.testbeds.pcfg.data import Rows, World
from gnothi.testbeds.pcfg.tasks import Tasks
from gnothi.testbeds.transformer import ACTIVATIONS, Attention, Block, Shape, Transformer

STRETCH = 100
"""Steps whose data is drawn at once."""
SHORT = 64
"""Longest sequence that attends by plain products on a processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is pretrained."""

    steps: int
    batch: int
    rate: float
    """Peak of AdamW's, for all parameters or those that Muon leaves."""
    muon: float = 0.0
    """Peak of Muon's, for the matrices of blocks; 0 for AdamW alone."""
    text_every: int = 1
    """Steps from one with the text's loss to the next; 0 for none."""
    warmup: float = 0.2
    """Share of the steps."""
    end: float = 0.01
    """Factor on the rate at the end of the cosine."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    keep_s: float = 30.0
    """Seconds between checkpoints."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.rate <= 0 or self.muon < 0 or self.text_every < 0:
            raise SpecError(
                "Recipe must have steps and batch of at least 1, a rate above 0, muon and text_every of at least 0, got "
                f"{self.steps}, {self.batch}, {self.rate}, {self.muon} and {self.text_every}."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def new_model(tasks: Tasks, sizes: Mapping[str, Any], *, seed: int, device: str | torch.device = "cpu") -> Transformer:
    """A transformer for these prompts, before its first step.

    Args:
        tasks: Decide vocabulary and length.
        sizes: `layers`, `heads`, `width`, `mlp` and, if wanted, `dropout`.
        seed: Of its values; the same on every device.
        device: Where it lies.
    """
    shape = Shape(vocabulary=tasks.vocabulary, longest=tasks.length, **sizes)
    return Transformer(shape, seed=integer(seed, "pcfg", "start")).to(device)


def answer_logits(model: nn.Module, ids: Tensor) -> Tensor:
    """(B, outputs) logits at the end of prompts of one length (B, T): those of `model(ids, at=-1)`, in less time."""
    return _logits(cast(Transformer, model), ids, whole=False)


def _logits(model: Transformer, ids: Tensor, *, whole: bool) -> Tensor:
    """(B * T, outputs) logits at all positions, or (B, outputs) at the last, where the last block is computed only there.

    The numbers are those of the model's own pass. What takes less time: rows of all prompts lie in one matrix; queries, keys
    and values come from one product; hidden units are made positive in place; short sequences attend by plain products.
    """
    rows, length = ids.shape
    x = (model.embed(ids) + model.positions.weight[:length]).view(rows * length, -1)
    x = model.drop(x)
    *blocks, last = cast(list[Block], list(model.blocks))
    for block in blocks:
        x = _block(block, x, rows, whole=True)
    return model.head(model.norm(_block(last, x, rows, whole=whole)))


def _block(block: Block, x: Tensor, rows: int, *, whole: bool) -> Tensor:
    """(B * T, width) -> the same, or (B, width) at the last position of each row."""
    attn, normed, length = block.attn, block.norm1(x), len(x) // rows
    if whole:
        q, k, v = _together(attn, (attn.q, attn.k, attn.v), normed, rows)
    else:
        (k, v), x = _together(attn, (attn.k, attn.v), normed, rows), x.view(rows, length, -1)[:, -1]
        (q,) = _together(attn, (attn.q,), normed.view(rows, length, -1)[:, -1], rows)
    dropout = attn.dropout if block.training else 0.0
    if x.device.type != "cpu" or dropout or length > SHORT:
        heads = (part.unflatten(0, (rows, attn.heads)) for part in (q, k, v))
        found = F.scaled_dot_product_attention(*heads, dropout_p=dropout, is_causal=whole)
    else:
        hidden = torch.full((q.shape[1], length), -math.inf).triu(length - q.shape[1] + 1)
        weights = torch.softmax(torch.baddbmm(hidden, q, k.mT, alpha=attn.per_head**-0.5), -1)
        found = (weights @ v).unflatten(0, (rows, attn.heads))
    x = x + block.drop(attn.o(found.transpose(1, 2).reshape(len(x), -1)))
    up = block.mlp.up(block.norm2(x))
    act = torch.relu_ if block.mlp.activation == "relu" else ACTIVATIONS[block.mlp.activation]
    return x + block.drop(block.mlp.down(act(up)))


def _together(attn: Attention, parts: Sequence[torch.nn.Linear], x: Tensor, rows: int) -> tuple[Tensor, ...]:
    """(B * heads, T, per head) of several layers that read one input (B * T, width), in one product."""
    biases: tuple[Tensor, ...] = tuple(part.bias for part in parts)
    bias = None if biases[0] is None else torch.cat(biases)
    made = F.linear(x, torch.cat(tuple(part.weight for part in parts)), bias)
    made = made.view(rows, -1, len(parts), attn.heads, attn.per_head).permute(2, 0, 3, 1, 4)
    return made.reshape(len(parts), rows * attn.heads, -1, attn.per_head).unbind(0)


def answer_loss(model: nn.Module, rows: Rows) -> Tensor:
    """Mean cross-entropy of the answers, nats."""
    with _autocast(rows.ids):
        return F.cross_entropy(answer_logits(model, rows.ids).float(), rows.answers)


def whole_loss(model: Transformer, rows: Rows, tasks: Tasks) -> Tensor:
    """Mean cross-entropy of the answers plus that of the text's tokens, nats."""
    with _autocast(rows.ids):
        logits = _logits(model, rows.ids, whole=True).float().view(*rows.ids.shape, -1)
    at = slice(tasks.text_at - 1, tasks.text_at + tasks.window - 1)
    text = rows.ids[:, tasks.text_at : tasks.text_at + tasks.window]
    return F.cross_entropy(logits[:, -1], rows.answers) + F.cross_entropy(logits[:, at].flatten(0, 1), text.flatten())


def predictions(model: nn.Module, ids: Tensor, batch: int = 256) -> Tensor:
    """(n,) the likeliest answers, without dropout."""
    was, size = model.training, batch if ids.device.type == "cpu" else 4 * batch
    model.eval()
    try:
        with torch.no_grad(), _autocast(ids):
            return torch.cat([answer_logits(model, part).argmax(-1) for part in ids.split(size)])
    finally:
        model.train(was)


def accuracy(model: nn.Module, rows: Rows) -> float:
    """Share of answers that are right, in [0, 1]."""
    return int((predictions(model, rows.ids) == rows.answers).sum()) / len(rows)


def batches(
    draw: Callable[[int, torch.Generator], Rows], world: World, batch: int, *names: str | int, seed: int
) -> Iterator[Rows]:
    """Batches without end, drawn a stretch of steps at a time from named streams.

    Args:
        draw: (n, generator) -> that many rows in random order.
        world: Gives the generators.
        batch: Rows a step.
        names: Of the stream.
        seed: Of the stream.
    """
    stretch = 0
    while True:
        rows = draw(STRETCH * batch, world.generator(seed, *names, stretch))
        yield from (rows.part(i * batch, (i + 1) * batch) for i in range(STRETCH))
        stretch += 1


@dataclass(slots=True)
class Pretrained:
    """What pretraining was found to do.

    Attributes:
        losses: Mean of the loss over each stretch of steps, nats.
        looks: (steps, what `look` said) over the course.
        seconds: Of training in this process.
    """

    losses: list[float]
    looks: list[dict[str, float]]
    seconds: float = 0.0


def pretrain(
    model: Transformer,
    world: World,
    recipe: Recipe,
    *,
    draw: Callable[[int, torch.Generator], Rows],
    seed: int,
    look: Callable[[Transformer], Mapping[str, float]],
    look_at: Sequence[int] = (),
    folder: Path | None = None,
    key: str = "",
    progress: Callable[[int, int, str], None] | None = None,
) -> Pretrained:
    """Train a model in place.

    Args:
        model: As `new_model` makes it; on the world's device.
        world: Where data is made.
        recipe: How.
        draw: (n, generator) -> rows of pretraining.
        seed: Of data and dropout.
        look: Numbers of the model, e.g. accuracies.
        look_at: Steps after which they are taken; the last is always one.
        folder: Where checkpoints are kept; None for none.
        key: Says what decides this training; a checkpoint of another is refused.
        progress: Called with steps done, steps in all and a line.

    Raises:
        TrainingError: The loss is no number any more.
        StoreError: A checkpoint of another training, or one that cannot be written.
    """
    optimisers, muon = optimisers_of(model, recipe)
    schedule = Schedule(warmup=recipe.warmup, end=recipe.end)
    found, done = Pretrained([], []), 0
    kept = {**tensors_of(model), **({f"muon/{n}": t for n, t in muon.tensors().items()} if muon else {})}
    if folder is not None and (facts := load_state(folder, kept, optimisers=optimisers, key=key)) is not None:
        done, found.losses, found.looks = facts["done"], facts["losses"], facts["looks"]
    started = saved = time.monotonic()
    model.train()
    while done < recipe.steps:
        stretch = done // STRETCH
        steps = min(STRETCH, recipe.steps - done)
        rows = draw(steps * recipe.batch, world.generator(seed, "pretraining", stretch))
        total = torch.zeros((), device=world.device)
        with _dropout_from(integer(seed, "pcfg", "dropout", stretch), model, world.device):
            for i in range(steps):
                part = rows.part(i * recipe.batch, (i + 1) * recipe.batch)
                text = recipe.text_every and (done + i) % recipe.text_every == 0
                loss = whole_loss(model, part, world.tasks) if text else answer_loss(model, part)
                loss.backward()
                factor = schedule(done + i, recipe.steps)
                for group in optimisers[0].param_groups:
                    group["lr"] = recipe.rate * factor
                optimisers[0].step()
                if muon:
                    muon.step(recipe.muon * factor)
                model.zero_grad(set_to_none=True)
                total += loss.detach()
        done += steps
        found.losses.append(float(total) / steps)
        if not math.isfinite(found.losses[-1]):
            raise TrainingError(
                f"pretraining: the loss must stay finite, got {found.losses[-1]} before step {done}. Lower the rates."
            )
        if done == recipe.steps or any(done - steps < at <= done for at in look_at):
            found.looks.append({"step": done, **look(model)})
            model.train()
        if progress is not None:
            progress(done, recipe.steps, f"loss {found.losses[-1]:.3f} nats")
        if folder is not None and done < recipe.steps and time.monotonic() - saved >= recipe.keep_s:
            facts = {"done": done, "losses": found.losses, "looks": found.looks}
            save_state(folder, kept, optimisers=optimisers, facts=facts, key=key)
            saved = time.monotonic()
    model.eval()
    found.seconds = time.monotonic() - started
    return found


def optimisers_of(model: Transformer, recipe: Recipe) -> tuple[list[torch.optim.Optimizer], Muon | None]:
    """AdamW of all parameters, or of those that Muon leaves; and Muon, where it has a rate."""
    matrices = [p for n, p in model.named_parameters() if recipe.muon and n.startswith("blocks.") and p.dim() == 2]
    ours = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in ours]
    adam = torch.optim.AdamW(rest, lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True)
    return [adam], Muon(matrices) if matrices else None


@contextlib.contextmanager
def _dropout_from(seed: int, model: Transformer, device: torch.device) -> Iterator[None]:
    """Dropout's draws from a seed: they come from torch's one global stream, which is lent and given back."""
    if not model.shape.dropout:
        yield
        return
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _autocast(ids: Tensor) -> torch.autocast:
    """Products in bfloat16 on CUDA, where parameters stay in float32; nothing on a processor."""
    return torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.device.type == "cuda")
