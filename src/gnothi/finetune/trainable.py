"""What a fleet trains: tensors made from the recipe, the jobs, the rows and the parents; and adapters made from them."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError, SpecError, TrainingError
from gnothi.finetune.batches import Encoded
from gnothi.finetune.optimiser import Buffer, Optimiser, Rate
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One job of a fleet and what it needs; what the job leaves open is the recipe's."""

    job: "TrainJob"
    rows: list[Encoded]
    parent: Adapter | None
    steps: int
    lr: float
    row_lr: float
    rank: int
    alpha: float


class Trainable:
    """The tensors of k adapters that are trained together, and their frozen parents."""

    def __init__(self, model: LocalModel, module: nn.Module, fleet: Sequence[Member], recipe: Recipe):
        """Make the tensors; `module` is the bare base module, and nothing is put on it before `on()`."""
        self.k, self.module, self.recipe, self.base_digest = len(fleet), module, recipe, model.base_digest
        self.model, self.fleet = model, fleet
        self.stack = AdapterStack(self.k)
        self.optimiser = Optimiser(recipe)
        first = fleet[0].parent
        if any(m.parent is not None and m.parent.full for m in fleet):
            assert self.k == 1 and first is not None
            self.stack.full = {n: t.to(model.device).clone() for n, t in first.full.items()}
        if recipe.kind == "full":
            self._all_parameters(first)
        else:
            self.stack.lower = torch.bfloat16 if recipe.dtype == "bfloat16" else None
            self._rows()
            self._lora()

    def _all_parameters(self, parent: Adapter | None) -> None:
        changed = {}
        if parent is not None:
            changed = (fold(parent, self.module)).full
        device = self.model.device
        self.stack.full = {
            n: (changed[n].to(device) if n in changed else p.detach()).clone()
            for n, p in self.module.named_parameters()
        }

    def _rows(self) -> None:
        """Rows of each job: its parent's, and with a recipe that tunes rows also the base rows of its own words."""
        tuned = "rows" in self.recipe.kind
        table = embedding(self.module).weight.detach()
        found: list[tuple[tuple[int, ...], Tensor]] = []
        for member in self.fleet:
            parent = member.parent
            ids = () if parent is None else parent.spec.row_token_ids
            source = table
            if parent is not None and parent.full:
                source = parent.full.get(f"{module_name(self.module, embedding(self.module))}.weight", table)
            own = tuple(i for i in _row_tokens(self.model, member) if i not in ids) if tuned else ()
            fresh = source[list(own)].float().to(table.device)
            if parent is not None and parent.rows is not None:
                fresh = torch.cat([parent.rows.to(fresh), fresh])
            found.append(((*ids, *own), fresh))
        self.stack.row_ids = [ids for ids, _ in found]
        longest = max(len(ids) for ids, _ in found)
        if longest:
            padded = [nn.functional.pad(values, (0, 0, 0, longest - len(values))) for _, values in found]
            self.stack.rows = torch.stack(padded)
            if tuned:
                buffer = Buffer({"rows": self.stack.rows})
                self.stack.rows = buffer.tensors["rows"]
                self.optimiser.add(buffer, [Rate(m.row_lr, m.steps) for m in self.fleet])

    def _lora(self) -> None:
        """The parents' LoRA, and the one that is trained: theirs, or a fresh one beside it."""
        recipe, device = self.recipe, self.model.device
        parents = [m.parent for m in self.fleet]
        if any(p is not None and p.lora for p in parents):
            theirs = [({}, 1.0) if p is None else (p.lora, p.spec.scale) for p in parents]
            self.stack.loras.append(LoraStack.of(theirs, device))
        if "lora" not in recipe.kind:
            return
        names = target_modules(self.module, recipe.targets)
        if self.stack.loras and recipe.parent == "continue":
            for member in self.fleet:
                _check_same(member, names)
        else:
            fresh = [
                (new_lora(self.module, names, m.rank, integer(m.job.seed, "lora")), m.alpha / m.rank)
                for m in self.fleet
            ]
            self.stack.loras.append(LoraStack.of(fresh, device))
        trained = self.stack.loras[-1]
        flat = {f"{name}.{part}": t for name, pair in trained.pairs.items() for part, t in zip("AB", pair, strict=True)}
        buffer = Buffer(flat)
        trained.pairs = {n: (buffer.tensors[f"{n}.A"], buffer.tensors[f"{n}.B"]) for n in trained.pairs}
        self.optimiser.add(buffer, [Rate(m.lr, m.steps) for m in self.fleet])

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """The adapters on the module, with gradients; restores the module afterwards."""
        base = self.model._base
        everything = list(self.module.parameters()) if self.recipe.kind == "full" else []
        try:
            base.switch(self.stack)
            for parameter in everything:
                parameter.requires_grad_(True)
            if everything:
                self.optimiser.add_parameters(everything, Rate(self.fleet[0].lr, self.fleet[0].steps))
            yield
        finally:
            for parameter in everything:
                parameter.requires_grad_(False)
                parameter.grad = None
            base.switch(None)

    def adapter(self, j: int) -> Adapter:
        """A copy of adapter j as it is now."""
        stack = self.stack
        if self.recipe.kind == "full":
            before = self._base_parameters()
            changed = {n: t.detach().cpu().clone() for n, t in stack.full.items() if not torch.equal(t, before[n])}
            return Adapter(spec=AdapterSpec(kind="full"), full=changed, base_digest=self.base_digest)
        ids = stack.row_ids[j]
        kind = "+".join(part for part, has in (("lora", stack.loras), ("rows", ids)) if has)
        names = tuple(sorted({n for lora in stack.loras for n in lora.pairs}))
        rank = sum(lora.ranks[j] for lora in stack.loras)
        # several LoRAs are written as one with scale 1
        scale = stack.loras[0].scales[j] if len(stack.loras) == 1 else 1.0
        spec = AdapterSpec(kind=kind, rank=rank, alpha=scale * rank, targets=names, row_token_ids=ids)
        return stack.adapter(j, spec, self.base_digest)

    def _base_parameters(self) -> dict[str, Tensor]:
        base = self.model._base
        on = base.on
        base.switch(None)
        before = {n: p.data for n, p in self.module.named_parameters()}
        base.switch(on)
        return before


def _check_same(member: Member, names: Sequence[str]) -> None:
    """Refuse to continue a parent's LoRA with another shape."""
    parent = member.parent
    assert parent is not None
    spec = parent.spec
    if (spec.rank, spec.alpha) != (member.rank, member.alpha) or set(parent.lora) != set(names):
        raise SpecError(
            f"recipe must have its parent's LoRA (rank {spec.rank}, alpha {spec.alpha:g}, {len(parent.lora)} layers) to "
            f"continue it, got rank {member.rank}, alpha {member.alpha:g}, {len(names)} layers. Set parent to 'stack' "
            "for a fresh LoRA beside it."
        )


def _row_tokens(model: LocalModel, member: Member) -> list[int]:
    """Tokens of the job's words that occur in its rows, each once, in the order of the words."""
    job, rows = member.job, member.rows
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
