"""Adapters: what a fine-tune changed, kept apart from the base model.

An `Adapter` is plain tensors: LoRA pairs, replaced embedding rows, or changed parameters. An `AdapterStack` puts k of
them on one module at once (each example of a batch names its adapter) and always takes them off again. Files are in
`adapter_files.py`, training is in `finetune.loop`.

Source: LoRA is arXiv:2106.09685, section 4.1 (W x + alpha / r B A x, A random, B zero). Rows *replace* the embedding's
rows, as PEFT's trainable tokens do, and where the head is tied to the embedding they are the head's rows too.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError, SpecError
from gnothi.models.adapters_linear import LoraStack, Pair, lora_linear
from gnothi.models.adapters_parts import (
    ALL_LINEAR,
    embedding,
    head,
    is_tied,
    module_name,
    new_lora,
    target_modules,
)

__all__ = [
    "ALL_LINEAR",
    "KINDS",
    "Adapter",
    "AdapterSpec",
    "AdapterStack",
    "LoraStack",
    "embedding",
    "head",
    "is_tied",
    "module_name",
    "new_lora",
    "target_modules",
]

KINDS = ("rows", "lora", "lora+rows", "full")
"""What can be tuned: embedding rows, LoRA, both, or every parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """The shape of an adapter."""

    kind: str
    """One of `KINDS`."""
    rank: int = 0
    """LoRA rank; 0 without LoRA."""
    alpha: float = 0.0
    """LoRA scale times rank."""
    targets: tuple[str, ...] = ()
    """Names of the linear layers, as the last parts of their module names; `("all",)` for all but the head."""
    row_token_ids: tuple[int, ...] = ()
    """Tokens whose embedding rows are replaced, in the order of the rows."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SpecError(f"AdapterSpec.kind must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        if self.has_lora and not (self.rank >= 1 and self.alpha > 0 and self.targets):
            raise SpecError(
                f"AdapterSpec of kind {self.kind!r} must have rank >= 1, alpha > 0 and targets, "
                f"got rank {self.rank}, alpha {self.alpha}, targets {self.targets}."
            )
        if self.kind in ("rows", "lora+rows") and not self.row_token_ids:
            raise SpecError(f"AdapterSpec of kind {self.kind!r} must name row_token_ids, got none.")
        if len(set(self.row_token_ids)) < len(self.row_token_ids):
            raise SpecError(f"AdapterSpec.row_token_ids must name each token once, got {self.row_token_ids}.")

    @property
    def has_lora(self) -> bool:
        """Whether LoRA pairs belong to it."""
        return self.kind in ("lora", "lora+rows")

    @property
    def scale(self) -> float:
        """The factor on B A."""
        return self.alpha / self.rank if self.rank else 0.0


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One adapter's tensors, in float32 on the CPU unless they were given otherwise."""

    spec: AdapterSpec
    lora: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Module name to A (rank, in) and B (out, rank)."""
    rows: Tensor | None = None
    """(n_rows, d_model), unscaled, in the order of `spec.row_token_ids`."""
    full: Mapping[str, Tensor] = field(default_factory=dict)
    """Parameter name to its new value."""
    base_digest: str = ""
    """Digest of the model it was trained on; empty where the file does not say."""

    @property
    def digest(self) -> str:
        """sha256 over the shape and every tensor's name, type and bytes."""
        spec = {**dataclasses.asdict(self.spec), "targets": sorted(self.spec.targets)}
        sha = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())
        for name, tensor in sorted(self.tensors().items()):
            tensor = tensor.detach().cpu().contiguous()
            sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            sha.update(tensor.view(torch.uint8).numpy().tobytes())
        return sha.hexdigest()

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by a flat name."""
        flat = {f"full.{name}": t for name, t in self.full.items()}
        for name, (a, b) in self.lora.items():
            flat[f"lora_A.{name}"], flat[f"lora_B.{name}"] = a, b
        if self.rows is not None:
            flat["rows"] = self.rows
        return flat

    @classmethod
    def of_tensors(cls, spec: AdapterSpec, flat: Mapping[str, Tensor], base_digest: str) -> "Adapter":
        """The inverse of `tensors`."""
        names = [n.removeprefix("lora_A.") for n in flat if n.startswith("lora_A.")]
        lora = {n: (flat[f"lora_A.{n}"], flat[f"lora_B.{n}"]) for n in names}
        full = {n.removeprefix("full."): t for n, t in flat.items() if n.startswith("full.")}
        return cls(spec=spec, lora=lora, rows=flat.get("rows"), full=full, base_digest=base_digest)

    def check(self, module: nn.Module, base_digest: str = "") -> None:
        """Refuse a module that this adapter does not belong to.

        Raises:
            ModelError: Another base digest, a name that the module lacks, or another shape.
        """
        if self.base_digest and base_digest and self.base_digest != base_digest:
            raise ModelError(
                f"adapter must belong to the base model with digest {base_digest[:12]}, "
                f"got one trained on {self.base_digest[:12]}. Load the base model that it was trained on."
            )
        modules, parameters = dict(module.named_modules()), dict(module.named_parameters())
        wrong: list[str] = []
        for name, (a, b) in self.lora.items():
            layer = modules.get(name)
            if not isinstance(layer, nn.Linear):
                wrong.append(f"{name} (no linear layer)")
            elif (b.shape[0], a.shape[1]) != (shape := (layer.out_features, layer.in_features)):
                wrong.append(f"{name} ({b.shape[0]} x {a.shape[1]} against {shape})")
        for name, tensor in self.full.items():
            if name not in parameters:
                wrong.append(f"{name} (no parameter)")
            elif tensor.shape != parameters[name].shape:
                wrong.append(f"{name} ({tuple(tensor.shape)} against {tuple(parameters[name].shape)})")
        if self.rows is not None:
            table = embedding(module).weight
            if self.rows.shape[1] != table.shape[1] or max(self.spec.row_token_ids) >= table.shape[0]:
                wrong.append(
                    f"rows ({tuple(self.rows.shape)} up to token {max(self.spec.row_token_ids)} "
                    f"against {tuple(table.shape)})"
                )
        if wrong:
            raise ModelError(
                f"adapter must fit the base model, got {len(wrong)} that do not: {', '.join(wrong[:3])}. "
                "Load the base model that it was trained on."
            )
        if not (self.lora or self.full or self.rows is not None):
            raise ModelError("adapter must change something, got no tensors. Was the folder written whole?")


MERGED_SIZE = 2**16
"""Layers of at most this many parameters get a single LoRA added into their matrix in each pass; a fleet never does."""


class AdapterStack:
    """k adapters of one shape, to be put on one module together.

    Attributes:
        k: Number of adapters.
        loras: LoRA stacks that are summed (a frozen parent's and a fresh one, or one).
        rows: (k, n_rows_max, d_model) or None.
        row_ids: For each adapter its tokens; shorter lists leave the last rows unused.
        full: Changed parameters; only with k = 1.
        index: (batch,) adapter of each example, sorted or not; None means adapter 0 for all.
        head_index: (n,) the same for the positions that the head sees, where those are not (batch, pos).
        lower: Type that linear layers compute in, their matrices cast once; None for the module's own.
        hook_ids: Ids of the hooks that the stack has on a module now.
    """

    def __init__(self, k: int = 1):
        self.k = k
        self.loras: list[LoraStack] = []
        self.rows: Tensor | None = None
        self.row_ids: list[tuple[int, ...]] = [()] * k
        self.full: dict[str, Tensor] = {}
        self.index: Tensor | None = None
        self.head_index: Tensor | None = None
        self._blocks = False
        self._slots: Tensor | None = None
        self.lower: torch.dtype | None = None
        self._cast: dict[str, tuple[Tensor, Tensor | None]] = {}
        self.hook_ids: set[int] = set()

    @classmethod
    def of(cls, adapter: Adapter, device: torch.device | str = "cpu") -> "AdapterStack":
        """A stack of one, ready for asking."""
        stack = cls()
        if adapter.lora:
            pairs = {n: (a[None].to(device), b[None].to(device)) for n, (a, b) in adapter.lora.items()}
            stack.loras = [LoraStack(pairs, adapter.spec.scale)]
        if adapter.rows is not None:
            stack.rows, stack.row_ids = adapter.rows[None].to(device), [adapter.spec.row_token_ids]
        stack.full = {n: t.to(device) for n, t in adapter.full.items()}
        return stack

    def use(self, index: Tensor | None) -> None:
        """Say which adapter each example of the next forward passes belongs to: (batch,) integers below k."""
        self.index = index
        self._blocks = False
        if index is not None and self.k > 1 and len(index) % self.k == 0:
            even = torch.arange(self.k, device=index.device).repeat_interleave(len(index) // self.k)
            self._blocks = bool((even == index).all())

    def slots(self, vocabulary: int, device: torch.device) -> Tensor:
        """(k, vocabulary) position of each token in the adapter's rows, -1 for tokens that are not tuned."""
        if self._slots is None or self._slots.shape[1] != vocabulary or self._slots.device != device:
            table = torch.full((self.k, vocabulary), -1, dtype=torch.long)
            for j, ids in enumerate(self.row_ids):
                table[j, list(ids)] = torch.arange(len(ids))
            self._slots = table.to(device)
        return self._slots

    def _merged(self, layer: nn.Linear, found: Sequence[Pair]) -> Callable[[Tensor], Tensor]:
        """A forward pass with LoRA added into the matrix: on a small layer fewer and cheaper operations than beside it."""

        def forward(x: Tensor) -> Tensor:
            weight = layer.weight
            for a, b, scale in found:
                weight = torch.addmm(weight, b[0], a[0], alpha=float(scale))
            return nn.functional.linear(x, weight, layer.bias)

        return forward

    def _beside(self, name: str, layer: nn.Linear, found: Sequence[Pair]) -> Callable[[Tensor], Tensor]:
        """A forward pass with LoRA beside the matrix, in the stack's type."""

        def forward(x: Tensor) -> Tensor:
            weight, bias = self._cast.get(name) or (layer.weight, layer.bias)
            owners = None if self.k == 1 or self._blocks or not found else self.index
            assert self.k == 1 or not found or self.index is not None, "a stack of several adapters needs use(index)"
            return lora_linear(x, weight, bias, found, owners)

        if self.lower is not None and name not in self._cast and layer.weight.dtype != self.lower:
            bias = None if layer.bias is None else layer.bias.to(self.lower)
            self._cast[name] = (layer.weight.to(self.lower), bias)
        return forward

    def _lora_hook(self, found: Sequence[Pair]) -> Callable[..., Tensor]:
        """The same for layers whose matrix is not a plain one (quantised), and for small ones."""

        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = args[0]
            for a, b, scale in found:
                if a.dtype != x.dtype:
                    a, b = a.to(x.dtype), b.to(x.dtype)
                b = b * (scale.view(-1, 1, 1).to(b.dtype) if isinstance(scale, Tensor) else scale)
                if self.k == 1:
                    delta = (x @ a[0].T) @ b[0].T
                else:
                    assert self.index is not None, "a stack of several adapters needs use(index)"
                    if self._blocks:  # equally many examples of each adapter in order: no parameters are copied
                        flat = x.reshape(self.k, -1, x.shape[-1])
                    else:
                        a, b, flat = a[self.index], b[self.index], x.reshape(len(self.index), -1, x.shape[-1])
                    delta = torch.bmm(torch.bmm(flat, a.mT), b.mT).view(output.shape)
                output = output + delta
            return output

        return hook

    def _rows_hook(self, module: nn.Embedding, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert self.rows is not None
        ids = args[0]
        slots = self.slots(module.num_embeddings, ids.device)
        owner = None if self.k == 1 else self.index
        found = slots[0][ids] if owner is None else slots[owner[:, None], ids]
        where = (found >= 0).nonzero(as_tuple=True)
        at = found[where] if owner is None else found[where] + owner[where[0]] * self.rows.shape[1]
        values = nn.functional.embedding(at, self.rows.flatten(0, 1)).to(output.dtype)
        scale = getattr(module, "embed_scale", None)  # Gemma multiplies embeddings, and so must the new rows
        if scale is not None:
            values = values * scale.to(values.dtype)
        return output.index_put(where, values)

    def _head_hook(self, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Tied heads: the logits of tuned tokens come from the tuned rows."""
        assert self.rows is not None
        x = args[0].to(output.dtype)
        rows = self.rows.to(x.dtype)
        if self.k == 1:
            ids = torch.tensor(self.row_ids[0], device=x.device)
            return output.index_copy(-1, ids, x @ rows[0, : len(ids)].T)
        owner = self.index if self.head_index is None else self.head_index
        assert owner is not None
        size, width = output.shape[-1], rows.shape[1]
        columns = torch.full((self.k, width), size, dtype=torch.long)  # unused rows go to a column that is cut off
        for j, ids in enumerate(self.row_ids):
            columns[j, : len(ids)] = torch.tensor(ids)
        flat = x.reshape(len(owner), -1, x.shape[-1])
        values = torch.bmm(flat, rows[owner].mT)
        wide = torch.cat([output.reshape(*flat.shape[:2], size), values.new_zeros(*flat.shape[:2], 1)], -1)
        at = columns.to(x.device)[owner][:, None].expand(-1, flat.shape[1], -1)
        return wide.scatter(-1, at, values)[..., :size].view(output.shape)

    def attach(self, module: nn.Module) -> Callable[[], None]:
        """Put the adapters on a module; returns what takes them off again."""
        parts, undo = dict(module.named_modules()), contextlib.ExitStack()
        with contextlib.ExitStack() as guard:

            def hook(part: nn.Module, call: Callable[..., Tensor]) -> None:
                handle = part.register_forward_hook(call)
                self.hook_ids.add(handle.id)
                guard.callback(self.hook_ids.discard, handle.id)
                guard.callback(handle.remove)

            if self.full:
                assert self.k == 1, "changed parameters cannot be stacked"
                parameters = dict(module.named_parameters())
                for name, tensor in self.full.items():
                    old, parameters[name].data = parameters[name].data, tensor.to(parameters[name].data.dtype)
                    guard.callback(setattr, parameters[name], "data", old)
            by_name: dict[str, list[Pair]] = {}
            for lora in self.loras:
                for name, (a, b) in lora.pairs.items():
                    by_name.setdefault(name, []).append((a, b, lora.scale))
            out = head(module)
            for name, layer in parts.items():
                if not isinstance(layer, nn.Linear) or (name not in by_name and self.lower is None):
                    continue
                found, plain = by_name.get(name, []), type(layer).forward is nn.Linear.forward
                small = layer.weight.numel() <= MERGED_SIZE and self.lower is None
                if not plain or (small and self.k > 1):
                    if found:
                        hook(layer, self._lora_hook(found))
                    continue
                if small and layer.weight.dtype == found[0][0].dtype:
                    forward = self._merged(layer, found)
                else:
                    forward = self._beside(name, layer, found)
                layer.__dict__["forward"] = forward
                guard.callback(layer.__dict__.pop, "forward")
            if self.rows is not None:
                hook(embedding(module), self._rows_hook)
                if out is not None and is_tied(module):
                    hook(out, self._head_hook)
            undo = guard.pop_all()
        return undo.close

    @contextlib.contextmanager
    def on(self, module: nn.Module) -> Iterator[nn.Module]:
        """The module with these adapters, for the length of a `with` block; restored whatever happens."""
        detach = self.attach(module)
        try:
            yield module
        finally:
            detach()

    def adapter(self, j: int, spec: AdapterSpec, base_digest: str) -> Adapter:
        """Copy adapter j out of the stack; several LoRA stacks become one of their summed rank (exactly equal)."""
        lora: dict[str, tuple[Tensor, Tensor]] = {}
        for name in dict.fromkeys(n for stack in self.loras for n in stack.pairs):
            parts_a, parts_b = [], []
            for stack in self.loras:
                if name in stack.pairs:
                    a, b = stack.pairs[name]
                    factor = stack.scales[j] if len(self.loras) > 1 else 1.0
                    parts_a.append(a[j, : stack.ranks[j]].detach().cpu())
                    parts_b.append(b[j, :, : stack.ranks[j]].detach().cpu() * factor)
            a, b = torch.cat(parts_a), torch.cat(parts_b, -1)
            short = spec.rank - len(a)  # a layer that only one of them tunes: zeros up to the common rank
            lora[name] = (nn.functional.pad(a, (0, 0, 0, short)), nn.functional.pad(b, (0, short)))
        rows = None if self.rows is None else self.rows[j, : len(self.row_ids[j])].detach().cpu().clone()
        full: dict[str, Any] = {n: t.detach().cpu().clone() for n, t in self.full.items()}
        return Adapter(spec=spec, lora=lora, rows=rows, full=full, base_digest=base_digest)
