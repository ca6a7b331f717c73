"""The forward and backward passes of one training step: rows laid out, their loss, their gradients added up.

The loss is the cross-entropy of answer tokens only, in nats; the head is applied there and nowhere else. Rows are padded
on the right or, packed, share rows of trees in which each sees its own tokens alone.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
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
from gnothi.models.local_norm import Norm, norms_of, quick_norms
from gnothi.models.local_scoring import LOGIT_BUDGET, vocabulary_size

Taken = tuple[int, Encoded]
"""Which job's row, and the row."""


LEAST_COMMON = 0.25
"""Share of a row that it must have in common with another to be computed once for both: a tree costs attention over all
that is in it."""


class Passes:
    """How a step is split into passes; the numbers are the same however it is, up to rounding.

    Attributes:
        micro_tokens: Tokens of a pass at most, padding included; halved where memory does not suffice.
    """

    def __init__(
        self,
        module: nn.Module,
        stack: AdapterStack,
        optimiser: Optimiser,
        recipe: Recipe,
        micro_tokens: int | None = None,
    ):
        """`module` has `stack` on it, and `optimiser` takes its gradients."""
        self.module, self.stack, self.optimiser = module, stack, optimiser
        self.recipe = recipe
        self.lower = torch.bfloat16 if recipe.dtype == "bfloat16" else None
        self.micro_tokens = recipe.micro_tokens if micro_tokens is None else micro_tokens
        self.device = next(module.parameters()).device
        self._wanted: tuple[Tensor, Tensor] | None = None
        self._norms: list[Norm] | None = None
        self._short = False

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """The module with what makes training it cheaper, for the length of a `with` block."""
        recipe = self.recipe
        with contextlib.ExitStack() as undo:
            if recipe.checkpointing:
                undo.enter_context(checkpointed(self.module))
            blocks = self.lower is not None or recipe.packing
            self._short = not blocks and local_llama.applies(self.module, self.stack.hook_ids)
            if not self._short:
                if self._norms is None:
                    self._norms = [] if recipe.kind == "full" else norms_of(self.module)
                undo.enter_context(quick_norms(self._norms))
                if blocks:
                    undo.enter_context(by_blocks(self.module))
                undo.enter_context(self._last_block())
            yield

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
            if all(len(batch) == 1 and batch[0].is_chain for batch in batches):
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
        if self.recipe.packing:
            rows = rows_of(
                [row.ids[:-1] for _, row in taken],
                width=self._width(),
                owners=[j for j, _ in taken],
                keeps=[row.n_answer for _, row in taken],
                most_wanted=most,
                least_common=LEAST_COMMON,
            )
        else:
            rows = [_chain(i, j, row) for i, (j, row) in enumerate(taken)]
        found = batches_of(rows, tokens=self.micro_tokens, most_wanted=most)
        return [sorted(batch, key=lambda r: r.owner) for batch in found]  # equal numbers of each need no copies of LoRA

    def _width(self) -> int:
        """Tokens of a row of trees: as many as a pass may have where attention goes by blocks."""
        config: Any = self.module.config
        if config._attn_implementation == local_attention.NAME:
            return self.micro_tokens
        return min(self.micro_tokens, row_width(self.module))

    def _through(self, taken: Sequence[Taken], batches: Sequence[Sequence[Row]]) -> list[float]:
        k = self.stack.k
        shares = [0.0] * k
        for j, row in taken:
            shares[j] += row.weight * row.n_answer
        by_job = torch.zeros(k, device=self.device)
        for batch in batches:
            forest = as_forest(batch, self.device)
            at: dict[tuple[int, int], int] = {}  # each place once: its logits are read by every row that ends there
            which: list[int] = []
            targets: list[int] = []
            factors: list[float] = []
            owners: list[int] = []
            for i, number, path in forest.members:
                j, row = taken[i]
                which += [at.setdefault((number, place), len(at)) for place in path[-row.n_answer :].tolist()]
                targets += row.ids[row.start :]
                factors += [row.weight / shares[j]] * row.n_answer
                owners += [j] * row.n_answer
            logits = self._logits(forest, list(at)).float()
            if len(which) > len(at):
                logits = logits[self._tensor(which)]
            each = nn.functional.cross_entropy(logits, self._tensor(targets), reduction="none") * self._tensor(factors)
            self.optimiser.backward(each.sum())
            by_job.index_add_(0, self._tensor(owners), each.detach())
        return by_job.tolist()

    def _tensor(self, values: Sequence[int] | Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self.device)

    def _logits(self, forest: Forest, at: Sequence[tuple[int, int]]) -> Tensor:
        """(n, d_vocab) at the given rows and places."""
        length = forest.ids.shape[1]
        rows, places = (self._tensor([pair[part] for pair in at]) for part in (0, 1))
        equal = forest.ends is None and all(path[-1] == length - 1 for _, _, path in forest.members)
        if equal and self._short:
            if self.stack.k > 1:
                self.stack.use(self._tensor(forest.owners))
            keep = length - min(place for _, place in at)
            found = local_llama.end_logits(self.module, forest.ids, keep)
            if keep == 1 and len(at) == len(found):
                return found[:, 0] if [row for row, _ in at] == list(range(len(at))) else found[rows, 0]
            return found[rows, places - (length - keep)]
        self._wanted = (rows, places)
        with contextlib.nullcontext() if self.lower is None else torch.autocast(self.device.type, self.lower):
            return forest_logits(self.module, forest, rows, places, stack=self.stack)

    @contextlib.contextmanager
    def _last_block(self) -> Iterator[None]:
        """The last block's MLP sees the wanted places only; what it gives elsewhere is read by nobody."""
        blocks = [part for part in self.module.modules() if isinstance(part, GradientCheckpointingLayer)]
        mlp = getattr(blocks[-1], "mlp", None) if blocks else None
        if not isinstance(mlp, nn.Module) or "forward" in mlp.__dict__:
            yield
            return
        whole, stack = mlp.forward, self.stack

        def forward(x: Tensor) -> Tensor:
            assert self._wanted is not None
            of_rows = stack.index
            if stack.k > 1 and of_rows is not None:
                stack.use(of_rows[self._wanted[0]])
            found = whole(x[self._wanted][:, None])[:, 0]
            if stack.k > 1:
                stack.use(of_rows)
            return found.new_zeros(*x.shape[:-1], found.shape[-1]).index_put(self._wanted, found)

        mlp.__dict__["forward"] = forward
        try:
            yield
        finally:
            del mlp.__dict__["forward"]


def _chain(i: int, owner: int, row: Encoded) -> Row:
    """A row of its own for the i-th of the rows that a step takes."""
    n = len(row.ids) - 1
    return Row(owner, list(row.ids[:-1]), list(range(n)), [n] * n, [i], [np.arange(n)], row.n_answer)


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
