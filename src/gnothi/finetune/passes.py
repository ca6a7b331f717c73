"""The forward and backward passes of one training step: rows laid out, their loss, their gradients added up.

The loss is the cross-entropy of answer tokens only, in nats; the head is applied there and nowhere else. Rows are padded
on the right or, packed, share rows of trees in which each sees its own tokens alone.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from gnothi.errors import ModelError
from gnothi.finetune.batches import Encoded
from gnothi.finetune.optimiser import Optimiser
from gnothi.finetune.recipes import Recipe
from gnothi.models import local_attention, local_llama
from gnothi.models.adapters import AdapterStack
from gnothi.models.forest import Forest, Row, as_forest, batches_of, rows_of
from gnothi.models.local_attention import by_blocks
from gnothi.models.local_forward import forest_logits, row_width
from gnothi.models.local_memory import is_out_of_memory
from gnothi.models.local_norm import quick_norms
from gnothi.models.local_scoring import LOGIT_BUDGET, vocabulary_size

Taken = tuple[int, Encoded]
"""Which job's row, and the row."""


@dataclass(slots=True)
class Passes:
    """How a step is split into passes; the numbers are the same however it is, up to rounding.

    Attributes:
        micro_tokens: Tokens of a pass at most, padding included; halved where memory does not suffice.
    """

    module: nn.Module
    stack: AdapterStack
    optimiser: Optimiser
    micro_tokens: int
    packing: bool = False
    lower: torch.dtype | None = None
    """Type that autocast computes in; None for the module's own."""

    def gradients(self, taken: Sequence[Taken]) -> list[float]:
        """Add up the gradients of one step.

        Args:
            taken: The rows of the step, those of one job together.

        Returns:
            (k,) mean loss of each job, nats per answer token in which a row counts by its weight.

        Raises:
            ModelError: Memory does not suffice for one row.
        """
        while True:
            batches = self._batches(taken)
            try:
                return self._through(taken, batches)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                problem = error.with_traceback(None)  # its frames hold the tensors that there was no room for
            most = max(map(len, batches))
            if most == 1:
                longest = max(len(row.ids) for batch in batches for row in batch)
                raise ModelError(
                    f"memory must hold one row of {longest} tokens in training, got none left at batch 1. Set "
                    "checkpointing, use a smaller model, bfloat16 or a device with more memory."
                ) from problem
            self.optimiser.forget()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.micro_tokens = min(self.micro_tokens, max(sum(len(r.ids) for r in b) for b in batches)) // 2

    def _batches(self, taken: Sequence[Taken]) -> list[list[Row]]:
        most = max(1, LOGIT_BUDGET // vocabulary_size(self.module))
        rows = rows_of(
            [row.ids[:-1] for _, row in taken],
            width=self._width() if self.packing else 0,
            owners=[j for j, _ in taken],
            keeps=[row.n_answer for _, row in taken],
            most_wanted=most,
        )
        found = batches_of(rows, tokens=self.micro_tokens, most_wanted=most)
        return [sorted(batch, key=lambda r: r.owner) for batch in found]  # equal numbers of each need no copies of LoRA

    def _width(self) -> int:
        """Tokens of a row of trees: as many as a pass may have where attention goes by blocks."""
        config: Any = self.module.config
        by_blocks = config._attn_implementation == local_attention.NAME
        return self.micro_tokens if by_blocks else min(self.micro_tokens, row_width(self.module))

    def _through(self, taken: Sequence[Taken], batches: Sequence[Sequence[Row]]) -> list[float]:
        device = next(self.module.parameters()).device
        k = self.stack.k
        shares = [0.0] * k
        for j, row in taken:
            shares[j] += row.weight * row.n_answer
        by_job = torch.zeros(k, device=device)
        for batch in batches:
            forest = as_forest(batch, device)
            rows: list[int] = []
            places: list[int] = []
            targets: list[int] = []
            factors: list[float] = []
            owners: list[int] = []
            for i, number, path in forest.members:
                j, row = taken[i]
                n = row.n_answer
                rows += [number] * n
                places += path[-n:].tolist()
                targets += row.ids[row.start :]
                factors += [row.weight / shares[j]] * n
                owners += [j] * n
            with _autocast(device, self.lower):
                logits = self._logits(forest, rows, places)
            each = nn.functional.cross_entropy(logits.float(), torch.tensor(targets, device=device), reduction="none")
            each = each * torch.tensor(factors, device=device)
            self.optimiser.backward(each.sum())
            by_job.index_add_(0, torch.tensor(owners, device=device), each.detach())
        return by_job.tolist()

    def _logits(self, forest: Forest, rows: Sequence[int], places: Sequence[int]) -> Tensor:
        """(n, d_vocab) at the given places."""
        device, length = forest.ids.device, forest.ids.shape[1]
        keep = length - min(places)
        equal = forest.ends is None and all(path[-1] == length - 1 for _, _, path in forest.members)
        if equal and self.lower is None and local_llama.applies(self.module, self.stack.hook_ids):
            if self.stack.k > 1:
                self.stack.use(torch.tensor(forest.owners, device=device))
            found = local_llama.end_logits(self.module, forest.ids, keep)
            if keep == 1 and list(rows) == list(range(len(found))):
                return found[:, 0]
            at = torch.tensor(places, device=device) - (length - keep)
            return found[torch.tensor(rows, device=device), at]
        at_rows, at_places = torch.tensor(rows, device=device), torch.tensor(places, device=device)
        return forest_logits(self.module, forest, at_rows, at_places, stack=self.stack)


def _autocast(device: torch.device, lower: torch.dtype | None) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if lower is None else torch.autocast(device.type, lower)


@contextlib.contextmanager
def prepared(module: nn.Module, stack: AdapterStack, recipe: Recipe) -> Iterator[None]:
    """The module with what makes training it cheaper, for the length of a `with` block."""
    with contextlib.ExitStack() as undo:
        if recipe.checkpointing:
            undo.enter_context(checkpointed(module))
        lower = lower_type(recipe)
        if recipe.kind != "full" and not (lower is None and local_llama.applies(module, stack.hook_ids)):
            undo.enter_context(quick_norms(module))
            if lower is not None or recipe.packing:
                undo.enter_context(by_blocks(module))
        yield


def lower_type(recipe: Recipe) -> torch.dtype | None:
    """What a recipe's autocast computes in; None without it."""
    return torch.bfloat16 if recipe.dtype == "bfloat16" else None


@contextlib.contextmanager
def checkpointed(module: nn.Module) -> Iterator[None]:
    """Blocks keep their inputs only and compute the rest again in the backward pass: the same gradients, less memory.

    Raises:
        ModelError: A module that does not say what its blocks are.
    """
    blocks = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not blocks:
        raise ModelError(f"model must have blocks for checkpointing, got {type(module).__name__}. Leave it out.")
    try:
        for block in blocks:
            # nothing is drawn at random, so no generator's state need be kept
            again = functools.partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
            block.__dict__["forward"] = again
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)
