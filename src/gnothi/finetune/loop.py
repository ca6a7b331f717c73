"""The one training loop: embedding rows, LoRA, both or every parameter; one adapter, or a fleet of them at once.

The loss is the cross-entropy of answer tokens only, in nats, a mean over the step's answer tokens in which a row counts
by its weight. Only gradients that are needed are computed, and the head is applied at answer positions only. The base
model is as it was afterwards, whatever happens. Knows nothing of behaviours.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError, SpecError, TrainingError
from gnothi.finetune.batches import Encoded, encode_rows, n_steps, plan
from gnothi.finetune.recipes import Recipe
from gnothi.finetune.schedule import share
from gnothi.finetune.trainable import Trainable, fold
from gnothi.models.adapter_files import load_adapter, save_adapter
from gnothi.models.adapters import Adapter
from gnothi.models.local import LocalModel, batches, pad_left
from gnothi.models.local_scoring import vocabulary_size
from gnothi.records import TrainRow

__all__ = ["Gate", "Progress", "TrainJob", "TrainRow", "Trained", "train"]

Progress = Callable[[int, int, float], None]
"""Called after every step with steps done, steps in all, and the mean loss over jobs in nats."""

Gate = Callable[[int, str, LocalModel], bool]
"""Called with steps done, the job's name and the model as tuned so far; True stops that job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """One model to be tuned."""

    name: str
    rows: Sequence[TrainRow]
    seed: int
    """Decides the order of the rows and where LoRA starts."""
    parent: Path | None = None
    """Folder of the adapter that training goes on from; what the recipe does not tune stays as it is there."""
    row_words: tuple[str, ...] = ()
    """Words whose embedding rows are tuned, one token each; the groups of `rows` if empty."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A tuned model's adapter and how it came about."""

    name: str
    adapter: Adapter
    losses: list[float]
    """Mean loss of each step, nats per answer token, before that step's update."""
    tokens_seen: int
    """Tokens that went through the model, prompts included."""
    answer_tokens_seen: int
    """Those that the loss was on."""
    steps: int
    seconds: float
    """Wall time of the fleet divided by its number of jobs."""
    stopped_early: bool
    """Whether the gate stopped it."""
    module: nn.Module = field(repr=False)
    """The base module."""

    @property
    def digest(self) -> str:
        """The adapter's digest."""
        return self.adapter.digest

    def save(self, folder: Path) -> None:
        """Write the adapter as a new folder; see `models.adapter_files.save_adapter`."""
        save_adapter(self.adapter, Path(folder), self.module)


def train(
    model: LocalModel,
    jobs: Sequence[TrainJob],
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    gate: Gate | None = None,
) -> list[Trained]:
    """Tune a model on rows, once for each job.

    Jobs of one shape (as many steps, like parents) are trained together as one fleet on one module, which gives each
    what it would have got alone, up to rounding; jobs of kind `full` are trained in turn.

    Args:
        model: The base model; its own adapter, if any, is not used (name a parent for that).
        jobs: What to tune; names are unique.
        recipe: How.
        progress: Called after every step.
        gate: Called every `recipe.gate_every` steps for each job.

    Returns:
        One result a job, in order. On a CPU in float32 with one thread, bit for bit the same for the same arguments.

    Raises:
        SpecError: Jobs, a recipe and a parent that do not fit together.
        ModelError: A parent of another base model, or a row word that is not one token.
        TrainingError: No rows, a word to tune that no row contains, or a loss that is not finite.
    """
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        raise SpecError(f"jobs must have unique names, got {names}.")
    if recipe.kind == "full" and model.dtype != "float32":
        raise ModelError(
            f"model must be float32 for kind 'full', got {model.dtype}: small updates would be lost. Load it in float32."
        )
    fleets: dict[tuple[object, ...], list[tuple[int, TrainJob, list[Encoded], Adapter | None]]] = {}
    for i, job in enumerate(jobs):
        rows = encode_rows(model.codec, job.rows, recipe.end_of_answer)
        parent = None if job.parent is None else load_adapter(job.parent)
        if parent is not None:
            parent.check(model.with_adapter(None).module, model.base_digest)
        alone = recipe.kind == "full" or (parent is not None and bool(parent.full))
        shape = None if parent is None else (parent.spec.rank, parent.spec.alpha, tuple(sorted(parent.lora)))
        key = (n_steps([r.group for r in rows], recipe), shape, i if alone else -1)
        fleets.setdefault(key, []).append((i, job, rows, parent))
    done: dict[int, Trained] = {}
    for fleet in fleets.values():
        results = _train_fleet(model, [f[1:] for f in fleet], recipe, progress, gate)
        done.update(zip((f[0] for f in fleet), results, strict=True))
    return [done[i] for i in range(len(jobs))]


def _train_fleet(
    model: LocalModel,
    fleet: Sequence[tuple[TrainJob, list[Encoded], Adapter | None]],
    recipe: Recipe,
    progress: Progress | None,
    gate: Gate | None,
) -> list[Trained]:
    started = time.perf_counter()
    jobs, rows = [f[0] for f in fleet], [f[1] for f in fleet]
    k = len(jobs)
    plans = [plan([r.group for r in found], recipe, job.seed) for job, found in zip(jobs, rows, strict=True)]
    steps = len(plans[0])
    losses: list[list[float]] = [[] for _ in jobs]
    tokens, answer_tokens = [0] * k, [0] * k
    stopped: dict[int, Adapter] = {}
    with model.with_adapter(None).bare() as module:
        trainable = Trainable(model, module, fleet, recipe)
        with trainable.on() as parameters:
            # PyTorch's fused update is one pass over each tensor; weight decay 0 makes adamw and adam the same
            kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
            groups = [{"params": found, "lr": lr} for found, lr in parameters if found]
            optimizer = kind(groups, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True)
            peaks = [group["lr"] for group in optimizer.param_groups]
            for step in range(steps):
                taken = [(j, rows[j][i]) for j in range(k) if j not in stopped for i in plans[j][step]]
                by_job = _step(model, module, trainable, taken, recipe)
                for j in range(k):
                    if j in stopped:
                        continue
                    if not torch.isfinite(by_job[j]):
                        raise TrainingError(
                            f"loss of job {jobs[j].name!r} must be finite, got {float(by_job[j])} at step {step}. "
                            "Lower the learning rate or set clip."
                        )
                    losses[j].append(float(by_job[j]))
                for j, row in taken:
                    tokens[j] += len(row.ids) - 1
                    answer_tokens[j] += row.n_answer
                trainable.clip(recipe.clip)
                factor = share(step, steps, recipe.warmup, recipe.decay)
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * factor
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if progress is not None:
                    live = [losses[j][-1] for j in range(k) if j not in stopped]
                    progress(step + 1, steps, sum(live) / len(live))
                if gate is not None and recipe.gate_every and (step + 1) % recipe.gate_every == 0 and step + 1 < steps:
                    for j in range(k):
                        if j not in stopped:
                            snapshot = trainable.adapter(j)
                            if gate(step + 1, jobs[j].name, model.with_adapter(snapshot)):
                                stopped[j] = snapshot
                    if len(stopped) == k:
                        break
            adapters = [stopped.get(j) or trainable.adapter(j) for j in range(k)]
        adapters = [fold(a, module) if a.full and (a.lora or a.rows is not None) else a for a in adapters]
    seconds = (time.perf_counter() - started) / k
    return [
        Trained(
            name=jobs[j].name,
            adapter=adapters[j],
            losses=losses[j],
            tokens_seen=tokens[j],
            answer_tokens_seen=answer_tokens[j],
            steps=len(losses[j]),
            seconds=seconds,
            stopped_early=j in stopped,
            module=module,
        )
        for j in range(k)
    ]


def _step(
    model: LocalModel, module: nn.Module, trainable: Trainable, taken: Sequence[tuple[int, Encoded]], recipe: Recipe
) -> Tensor:
    """Add up the gradients of one step; returns the mean loss of each job, (k,) in nats."""
    device = model.device
    shares = [0.0] * trainable.k
    for j, row in taken:
        shares[j] += row.weight * row.n_answer
    by_job = torch.zeros(trainable.k, device=device)
    keeps = [row.n_answer for _, row in taken]
    lengths = [len(row.ids) - 1 for _, row in taken]
    vocabulary = vocabulary_size(module)
    lower = recipe.dtype == "bfloat16"
    for batch in batches(lengths, keeps, vocabulary, recipe.micro_tokens):
        batch = sorted(batch)  # by job, as `taken` is: equal numbers of each need no copies of LoRA
        ids, mask = pad_left([taken[i][1].ids[:-1] for i in batch], device)
        keep = max(keeps[i] for i in batch)
        targets, factors = _targets([taken[i] for i in batch], keep, shares, device)
        owner = torch.tensor([taken[i][0] for i in batch], device=device)
        trainable.stack.use(owner)
        with torch.autocast(device.type, torch.bfloat16) if lower else contextlib.nullcontext():
            logits = model.end_logits(ids, mask, keep, module=module)
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
        by_row = (loss.view(targets.shape) * factors).sum(-1)
        by_row.sum().backward()
        by_job.index_add_(0, owner, by_row.detach())
    return by_job


def _targets(
    taken: Sequence[tuple[int, Encoded]], keep: int, shares: Sequence[float], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Answer tokens (batch, keep), and each one's share of its job's loss; share 0 before shorter answers."""
    targets, factors = [], []
    for j, row in taken:
        short = keep - row.n_answer
        targets.append((0,) * short + row.ids[row.start :])
        factors.append((0.0,) * short + (row.weight / shares[j],) * row.n_answer)
    return torch.tensor(targets, device=device), torch.tensor(factors, device=device)
