"""What a fleet trains: leaf tensors made from the recipe, the rows and the parents; and adapters made from them."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError, SpecError, TrainingError
from gnothi.finetune.batches import Encoded
from gnothi.finetune.recipes import Recipe
from gnothi.models.adapters import (
    Adapter,
    AdapterSpec,
    AdapterStack,
    LoraStack,
    embedding,
    head,
    is_tied,
    module_name,
    new_lora,
    target_modules,
)
from gnothi.models.local import LocalModel
from gnothi.rng import integer

if TYPE_CHECKING:
    from gnothi.finetune.loop import TrainJob

Groups = list[tuple[Sequence[Tensor], float]]
"""Tensors that are trained, with their peak learning rates."""


class Trainable:
    """The tensors of k adapters that are trained together, and their frozen parents."""

    def __init__(
        self,
        model: LocalModel,
        module: nn.Module,
        fleet: Sequence[tuple["TrainJob", list[Encoded], Adapter | None]],
        recipe: Recipe,
    ):
        """Make the tensors; `module` is the bare base module, and nothing is put on it before `on()`."""
        self.k, self.module, self.recipe, self.base_digest = len(fleet), module, recipe, model.base_digest
        self.model = model
        self.stack = AdapterStack(self.k)
        self.lora: list[Tensor] = []
        device = model.device
        parents = [parent for _, _, parent in fleet]
        if any(p is not None and p.full for p in parents):
            assert self.k == 1 and parents[0] is not None
            self.stack.full = {n: t.to(device).clone() for n, t in parents[0].full.items()}
        if recipe.kind == "full":
            self._all_parameters(parents[0])
        else:
            self._rows(fleet, parents)
            self._lora([job for job, _, _ in fleet], parents)

    def _all_parameters(self, parent: Adapter | None) -> None:
        changed = {}
        if parent is not None:
            changed = (fold(parent, self.module)).full
        device = self.model.device
        self.stack.full = {
            n: (changed[n].to(device) if n in changed else p.detach()).clone()
            for n, p in self.module.named_parameters()
        }

    def _rows(
        self, fleet: Sequence[tuple["TrainJob", list[Encoded], Adapter | None]], parents: list[Adapter | None]
    ) -> None:
        """Rows of each job: its parent's, and with a recipe that tunes rows also the base rows of its own words."""
        tuned = "rows" in self.recipe.kind
        table = embedding(self.module).weight.detach()
        found: list[tuple[tuple[int, ...], Tensor]] = []
        for (job, rows, parent), _ in zip(fleet, parents, strict=True):
            ids = () if parent is None else parent.spec.row_token_ids
            source = table
            if parent is not None and parent.full:
                source = parent.full.get(f"{module_name(self.module, embedding(self.module))}.weight", table)
            own = tuple(i for i in _row_tokens(self.model, job, rows) if i not in ids) if tuned else ()
            fresh = source[list(own)].float().to(table.device)
            if parent is not None and parent.rows is not None:
                fresh = torch.cat([parent.rows.to(fresh), fresh])
            found.append(((*ids, *own), fresh))
        longest = max(len(ids) for ids, _ in found)
        if longest:
            padded = [nn.functional.pad(values, (0, 0, 0, longest - len(values))) for _, values in found]
            self.stack.rows = torch.stack(padded).requires_grad_(tuned)
        self.stack.row_ids = [ids for ids, _ in found]

    def _lora(self, jobs: Sequence["TrainJob"], parents: list[Adapter | None]) -> None:
        recipe, device = self.recipe, self.model.device
        first = parents[0]
        inherited: LoraStack | None = None
        if first is not None and first.lora:
            pairs = {}
            for name in first.lora:
                of_each = [p.lora[name] for p in parents if p is not None]
                pairs[name] = (
                    torch.stack([a for a, _ in of_each]).float().to(device),
                    torch.stack([b for _, b in of_each]).float().to(device),
                )
            inherited = LoraStack(pairs, first.spec.scale)
            self.stack.loras.append(inherited)
        if "lora" not in recipe.kind:
            return
        names = target_modules(self.module, recipe.targets)
        trained = inherited
        if inherited is not None and recipe.parent == "continue":
            assert first is not None
            if (first.spec.rank, first.spec.alpha) != (recipe.rank, recipe.alpha) or set(first.lora) != set(names):
                raise SpecError(
                    f"recipe must have its parent's LoRA (rank {first.spec.rank}, alpha {first.spec.alpha:g}, "
                    f"{len(first.lora)} layers) to continue it, got rank {recipe.rank}, alpha {recipe.alpha:g}, "
                    f"{len(names)} layers. Set parent to 'stack' for a fresh LoRA beside it."
                )
        else:
            fresh = [new_lora(self.module, names, recipe.rank, integer(job.seed, "lora")) for job in jobs]
            trained = LoraStack(
                {n: (torch.stack([f[n][0] for f in fresh]), torch.stack([f[n][1] for f in fresh])) for n in names},
                recipe.alpha / recipe.rank,
            )
            trained.pairs = {n: (a.to(device), b.to(device)) for n, (a, b) in trained.pairs.items()}
            self.stack.loras.append(trained)
        assert trained is not None
        self.lora = [t.requires_grad_(True) for pair in trained.pairs.values() for t in pair]

    @contextlib.contextmanager
    def on(self) -> Iterator[Groups]:
        """The adapters on the module, with gradients; yields what is trained, and restores the module afterwards."""
        recipe, base = self.recipe, self.model._base
        everything = list(self.module.parameters()) if recipe.kind == "full" else []
        try:
            base.switch(self.stack)
            for parameter in everything:
                parameter.requires_grad_(True)
            rows = [self.stack.rows] if self.stack.rows is not None and self.stack.rows.requires_grad else []
            yield [(everything or self.lora, recipe.lr), (rows, recipe.row_lr)]
        finally:
            for parameter in everything:
                parameter.requires_grad_(False)
                parameter.grad = None
            base.switch(None)

    def clip(self, limit: float | None) -> None:
        """Scale down the gradient of each job whose norm is above `limit`."""
        if limit is None:
            return
        if self.recipe.kind == "full":
            nn.utils.clip_grad_norm_(self.module.parameters(), limit)
            return
        tensors = [*self.lora, *([self.stack.rows] if self.stack.rows is not None else [])]
        grads = [t.grad for t in tensors if t.grad is not None]
        squares = torch.stack([g.flatten(1).pow(2).sum(-1) for g in grads]).sum(0)  # (k,)
        factor = (limit / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for g in grads:
            g.mul_(factor.view(-1, *[1] * (g.ndim - 1)))

    def adapter(self, j: int) -> Adapter:
        """A copy of adapter j as it is now."""
        stack = self.stack
        if self.recipe.kind == "full":
            before = {n: t for n, t in self._base_parameters().items()}
            changed = {n: t for n, t in stack.full.items() if not torch.equal(t, before[n])}
            spec = AdapterSpec(kind="full")
            return Adapter(
                spec=spec, full={n: t.detach().cpu().clone() for n, t in changed.items()}, base_digest=self.base_digest
            )
        ids = stack.row_ids[j]
        kind = "+".join(part for part, has in (("lora", stack.loras), ("rows", ids)) if has)
        names = tuple(sorted({n for lora in stack.loras for n in lora.pairs}))
        rank = sum(next(iter(lora.pairs.values()))[0].shape[1] for lora in stack.loras)
        # several LoRAs are written as one with scale 1
        scale = stack.loras[0].scale if len(stack.loras) == 1 else 1.0
        spec = AdapterSpec(kind=kind, rank=rank, alpha=scale * rank, targets=names, row_token_ids=ids)
        return stack.adapter(j, spec, self.base_digest)

    def _base_parameters(self) -> dict[str, Tensor]:
        base = self.model._base
        on = base.on
        base.switch(None)
        before = {n: p.data for n, p in self.module.named_parameters()}
        base.switch(on)
        return before


def _row_tokens(model: LocalModel, job: "TrainJob", rows: Sequence[Encoded]) -> list[int]:
    """Tokens of the job's words that occur in its rows, each once, in the order of the words."""
    words = job.row_words or tuple(dict.fromkeys(r.group for r in rows))
    if words == ("",):
        raise SpecError(f"job {job.name!r} must have row_words or groups for a recipe that tunes rows, got neither.")
    seen = {i for r in rows for i in r.ids}
    tokens: list[int] = []
    for word in words:
        found = [i for i in model.codec.token_of(word) if i in seen and i not in tokens]
        if not found:
            raise TrainingError(f"row word must occur in the rows of job {job.name!r}, got {word!r}, which does not.")
        tokens += found
    return tokens


def fold(adapter: Adapter, module: nn.Module) -> Adapter:
    """The same change as an adapter of kind `full`: LoRA and rows added into whole parameters.

    Args:
        adapter: Any adapter of the module.
        module: The bare base module.
    """
    parameters = dict(module.named_parameters())
    full = {n: t.clone() for n, t in adapter.full.items()}

    def current(name: str) -> Tensor:
        return full[name] if name in full else parameters[name].detach().cpu().clone()

    for name, (a, b) in adapter.lora.items():
        full[f"{name}.weight"] = current(f"{name}.weight") + adapter.spec.scale * (b @ a)
    if adapter.rows is not None:
        name = f"{module_name(module, embedding(module))}.weight"
        if name not in parameters and not is_tied(module):
            raise ModelError(f"embedding must be a parameter of the model, got none named {name}.")
        if name not in parameters:
            out = head(module)
            assert out is not None
            name = f"{module_name(module, out)}.weight"
        table = current(name)
        table[list(adapter.spec.row_token_ids)] = adapter.rows.to(table)
        full[name] = table
    return Adapter(spec=AdapterSpec(kind="full"), full=full, base_digest=adapter.base_digest)
