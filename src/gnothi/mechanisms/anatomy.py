"""Where the parts of a transformer are, for any model whose layout is known; nothing else asks which kind of model it has.

Parts are found by their names: our `Transformer`, and Hugging Face's decoders of the Llama, Qwen 2 and 3, Gemma 2 and 3,
Mistral, Phi, Phi-3 and GPT-2 layouts. A layout is only believed after a trial: on a few tokens, what attention and MLP
add must be what the stream gains in each block. Adapters on the model take part, since parts are called, not copied.
"""

import inspect
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError
from gnothi.mechanisms.sites import Site

_BLOCKS = ("blocks", "model.layers", "transformer.h", "layers", "h", "model.language_model.layers")
_NORMS = ("norm", "ln_f", "final_layernorm")
_ATTENTION = ("attn", "self_attn")
_NAMES = {
    "q": ("q", "q_proj"),
    "k": ("k", "k_proj"),
    "v": ("v", "v_proj"),
    "qkv": ("qkv_proj", "c_attn"),
    "o": ("o", "o_proj", "dense", "c_proj"),
    "up": ("up", "up_proj", "fc1", "c_fc"),
    "gate": ("gate_proj",),
    "gate_up": ("gate_up_proj",),
    "down": ("down", "down_proj", "fc2", "c_proj"),
}
_TRIAL = (1, 2, 3, 2, 1)  # tokens
_tried: Any = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix of a block, also where it is stored as part of a larger one.

    Attributes:
        name: Of the parameter in the module, e.g. `model.layers.0.self_attn.q_proj.weight`.
        parameter: The whole parameter.
        rows: Which of its output units belong to this matrix.
        transposed: Whether outputs are the columns (GPT-2's), not the rows.
    """

    name: str
    parameter: nn.Parameter
    rows: slice
    transposed: bool

    def value(self) -> Tensor:
        """(out, in), a view of the parameter: what is written into it is written into the model."""
        whole = self.parameter.T if self.transposed else self.parameter
        return whole[self.rows]


@dataclass(frozen=True, eq=False)
class BlockParts:
    """The modules of one block; None where the layout has none, or has it only as part of a larger one."""

    module: nn.Module
    attn: nn.Module
    mlp: nn.Module
    o: nn.Module
    down: nn.Module
    q: nn.Module | None
    k: nn.Module | None
    v: nn.Module | None
    qkv: nn.Module | None
    """Queries, keys and values in one (Phi-3, GPT-2)."""
    up: nn.Module | None
    gate: nn.Module | None
    gate_up: nn.Module | None
    """Gate and up in one (Phi-3)."""
    attn_writes: nn.Module
    """Whose output is added to the stream: attention, or the norm after it."""
    mlp_writes: nn.Module
    matrices: dict[str, Matrix] = field(default_factory=dict)
    """`attn.q`, `attn.k`, `attn.v`, `attn.o`, `mlp.up`, `mlp.gate` (where there is one), `mlp.down`."""


@dataclass(frozen=True, eq=False)
class Point:
    """Where a site is touched: a module's output, or what it reads."""

    module: nn.Module
    reads: bool
    part: slice | None = None
    """Of the last axis; None for all of it."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A module with the places of its parts; made by `anatomy`."""

    module: nn.Module
    embed: nn.Module
    blocks: tuple[BlockParts, ...]
    norm: nn.Module
    head: nn.Module
    n_heads: int
    n_key_heads: int
    """Smaller than `n_heads` where heads share keys and values."""
    head_width: int
    width: int
    """Of the stream."""
    n_neurons: int
    """Hidden units of one MLP."""

    @property
    def n_blocks(self) -> int:
        """How many blocks."""
        return len(self.blocks)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(self.module.parameters()).device

    def block(self, i: int) -> BlockParts:
        """The parts of block i, counted from 0.

        Raises:
            ModelError: There is no such block.
        """
        if not 0 <= i < self.n_blocks:
            raise ModelError(f"block must be 0 to {self.n_blocks - 1}, got {i}.")
        return self.blocks[i]

    def neurons(self, i: int) -> int:
        """Hidden units of the MLP of block i."""
        return self.block(i).matrices["mlp.down"].value().shape[1]

    def logits(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the model; with gradient where the caller records one.

        Args:
            ids: (B, T) token ids.
            mask: (B, T) True at tokens, False at padding; None where there is none. Positions of Hugging Face models
                count tokens only, so padding may be on either side; for our own models it must be on the right.

        Returns:
            (B, T, V).
        """
        if not hasattr(self.module, "config"):
            return self.module(ids) if mask is None else self.module(ids, mask=mask)
        accepts = inspect.signature(self.module.forward).parameters
        more: dict[str, Any] = {"use_cache": False}
        if mask is not None:
            more["attention_mask"] = mask.long()
            if "position_ids" in accepts:
                more["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)
        return self.module(input_ids=ids, **more).logits

    def unembed(self, stream: Tensor) -> Tensor:
        """Logits of a stream: final norm, head, and the soft cap where the model has one.

        Args:
            stream: (..., width).

        Returns:
            (..., V).
        """
        logits = self.head(self.norm(stream))
        cap = _text_config(self.module, "final_logit_softcapping")
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def sites(self, kinds: tuple[str, ...] = ("embed", "resid", "attn", "head", "mlp", "neurons")) -> list[Site]:
        """Every site of these kinds, in the order in which they are computed.

        Args:
            kinds: As in `sites.PATTERNS`; by default all but `heads`, which is its heads over again.
        """
        found = [Site("embed")]
        for i in range(self.n_blocks):
            found += [Site("resid", i), *(Site("head", i, h) for h in range(self.n_heads)), Site("heads", i)]
            found += [Site("attn", i), Site("neurons", i), Site("mlp", i)]
        found.append(Site("resid", self.n_blocks))
        return [site for site in found if site.kind in kinds]

    def site(self, name: str | Site) -> Site:
        """The site of this name.

        Raises:
            ModelError: This model has none; the message has the nearest that it has.
        """
        site = Site.parse(name)
        block = None if site.block is None else min(site.block, self.n_blocks - (site.kind != "resid"))
        near = Site(site.kind, block, None if site.head is None else min(site.head, self.n_heads - 1))
        if near != site:
            raise ModelError(
                f"site must be one of this model ({self.n_blocks} blocks of {self.n_heads} heads), got {site}. "
                f"The nearest is {near}."
            )
        return site

    def point(self, site: Site) -> Point:
        """Where a site of this model is touched."""
        if site.kind == "embed":
            return Point(self.embed, reads=False)
        assert site.block is not None
        if site.kind == "resid":
            last = site.block == self.n_blocks
            return Point(self.norm if last else self.block(site.block).module, reads=True)
        parts = self.block(site.block)
        if site.kind == "attn":
            return Point(parts.attn_writes, reads=False)
        if site.kind == "mlp":
            return Point(parts.mlp_writes, reads=False)
        if site.kind == "neurons":
            return Point(parts.down, reads=True)
        start = 0 if site.head is None else site.head * self.head_width
        return Point(parts.o, True, None if site.head is None else slice(start, start + self.head_width))

    def size(self, site: Site) -> int:
        """Width of the activations at a site."""
        if site.kind == "head":
            return self.head_width
        if site.kind == "heads":
            return self.n_heads * self.head_width
        return self.neurons(site.block or 0) if site.kind == "neurons" else self.width


def anatomy(module: nn.Module) -> Anatomy:
    """Find the parts of a model.

    Args:
        module: Our `Transformer` or a Hugging Face causal language model, with adapters on it or without.

    Raises:
        ModelError: A layout that is not known, or one whose parts do not add up to its residual stream.
    """
    path = next((p for p in _BLOCKS if isinstance(_part(module, p), nn.ModuleList)), None)
    if path is None:
        raise _unknown(module, f"no list of blocks among {', '.join(_BLOCKS)}")
    body = _part(module, path.rpartition(".")[0]) if "." in path else module
    assert body is not None
    norm = _child(body, _NORMS)
    embed = module.get_input_embeddings() if hasattr(module, "get_input_embeddings") else _child(module, ("embed",))  # type: ignore[operator]
    head = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else _child(module, ("head",))  # type: ignore[operator]
    listed: Any = _part(module, path)
    names = {id(part): name for name, part in module.named_modules()}
    if norm is None or not isinstance(embed, nn.Module) or not isinstance(head, nn.Module) or not len(listed):
        raise _unknown(module, "no embedding, final norm, head or block")
    attention = _child(listed[0], _ATTENTION)
    n_heads = _number(module, attention, "heads", "num_attention_heads")
    n_keys = _number(module, attention, "key_heads", "num_key_value_heads", n_heads)
    blocks = tuple(_block(module, part, names, n_heads, n_keys) for part in listed)
    o, down = (blocks[0].matrices[name].value() for name in ("attn.o", "mlp.down"))
    if o.shape[1] % n_heads:
        raise _unknown(module, f"an output matrix that reads {o.shape[1]} values from {n_heads} heads")
    found = Anatomy(
        module, embed, blocks, norm, head, n_heads, n_keys, o.shape[1] // n_heads, o.shape[0], down.shape[1]
    )
    if module not in _tried:
        _tried[module] = _trial(found)
    if _tried[module]:
        raise _unknown(module, _tried[module])
    return found


def _unknown(module: nn.Module, why: str) -> ModelError:
    return ModelError(
        f"module must be a transformer of a known layout (our own, Llama, Qwen, Gemma, Mistral, Phi, GPT-2), "
        f"got {type(module).__name__} with {why}."
    )


def _part(module: nn.Module, path: str) -> nn.Module | None:
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, nn.Module) else None


def _child(module: nn.Module | None, names: tuple[str, ...]) -> nn.Module | None:
    found = (getattr(module, name, None) for name in names)
    return next((part for part in found if isinstance(part, nn.Module)), None)


def _text_config(module: nn.Module, name: str) -> Any:
    config: Any = getattr(module, "config", None)
    return None if config is None else getattr(config.get_text_config(), name, None)


def _number(module: nn.Module, attention: nn.Module | None, own: str, theirs: str, default: int | None = None) -> int:
    found = getattr(attention, own, None) or _text_config(module, theirs) or default
    if not isinstance(found, int):
        raise _unknown(module, "no number of heads")
    return found


def _block(module: nn.Module, part: nn.Module, names: dict[int, str], n_heads: int, n_keys: int) -> BlockParts:
    attn, mlp = _child(part, _ATTENTION), _child(part, ("mlp",))
    found = {n: _child(attn if n in ("q", "k", "v", "qkv", "o") else mlp, _NAMES[n]) for n in _NAMES}
    missing = [n for n in ("o", "down") if found[n] is None]
    missing += [] if found["qkv"] or all(found[n] for n in "qkv") else ["q, k, v"]
    missing += [] if found["up"] or found["gate_up"] else ["up"]
    if attn is None or mlp is None or missing:
        raise _unknown(module, f"a block {type(part).__name__} without attention, MLP or {', '.join(missing)}")
    after = hasattr(part, "post_feedforward_layernorm")  # then the norm named after attention comes after it
    attn_writes = _child(part, ("post_attention_layernorm",)) if after else attn
    mlp_writes = _child(part, ("post_feedforward_layernorm",)) if after else mlp
    assert found["o"] is not None and found["down"] is not None
    assert attn_writes is not None and mlp_writes is not None
    matrices: dict[str, Matrix] = {}
    for kind, sub in (("attn", ("q", "k", "v", "o")), ("mlp", ("gate", "up", "down"))):
        for name in sub:
            if (layer := found[name]) is not None:
                matrices[f"{kind}.{name}"] = _matrix(layer, names, slice(None))
    for whole, parts, sizes in (
        ("qkv", ("attn.q", "attn.k", "attn.v"), (n_heads, n_keys, n_keys)),
        ("gate_up", ("mlp.gate", "mlp.up"), (1, 1)),
    ):
        if (layer := found[whole]) is not None:
            start, each = 0, _matrix(layer, names, slice(None)).value().shape[0] // sum(sizes)
            for name, size in zip(parts, sizes, strict=True):
                matrices[name] = _matrix(layer, names, slice(start, start + size * each))
                start += size * each
    return BlockParts(part, attn, mlp, **found, attn_writes=attn_writes, mlp_writes=mlp_writes, matrices=matrices)  # type: ignore[arg-type]


def _matrix(layer: nn.Module, names: dict[int, str], rows: slice) -> Matrix:
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    return Matrix(f"{names[id(layer)]}.weight", weight, rows, transposed=type(layer).__name__ == "Conv1D")


def _trial(found: Anatomy) -> str:
    """What is wrong with the parts that were found; empty if they add up to the stream."""
    seen: dict[tuple[str, int], Tensor] = {}

    def keep(key: tuple[str, int], reads: bool) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
            value = (args[0] if args else next(iter(kwargs.values()))) if reads else output
            seen[key] = (value[0] if isinstance(value, tuple) else value).detach().float()

        return hook

    ids = torch.tensor([_TRIAL[: min(len(_TRIAL), _longest(found))]], device=found.device) % _vocabulary(found)
    handles, training = [], found.module.training
    try:
        found.module.eval()  # with dropout nothing adds up
        for site in found.sites(("resid", "attn", "mlp", "heads", "neurons")):
            point, key = found.point(site), (site.kind, site.block or 0)
            register = point.module.register_forward_pre_hook if point.reads else point.module.register_forward_hook
            handles.append(register(keep(key, point.reads), with_kwargs=True))  # type: ignore[call-arg]
        with torch.no_grad():
            logits = found.logits(ids)
            streams = [seen.get(("resid", i)) for i in range(found.n_blocks + 1)]
            for i in range(found.n_blocks):
                before, after, attn, mlp = streams[i], streams[i + 1], seen.get(("attn", i)), seen.get(("mlp", i))
                if before is None or after is None or attn is None or mlp is None:
                    return f"parts of block {i} that its forward pass does not use"
                if not torch.allclose(before + attn + mlp, after, rtol=0.02, atol=0.02 * float(after.abs().max())):
                    return f"a stream that gains something else in block {i} than its attention and MLP give"
            last = next(found.module.parameters()).dtype
            again = found.unembed(streams[-1].to(last)).float()  # type: ignore[union-attr]
            if not torch.allclose(again, logits.float(), rtol=0.02, atol=0.02 * float(logits.abs().max())):
                return "logits that are not its head's"
    finally:
        for handle in handles:
            handle.remove()
        found.module.train(training)
    return ""


def _longest(found: Anatomy) -> int:
    shape: Any = getattr(found.module, "shape", None)
    return int(getattr(shape, "longest", len(_TRIAL)))


def _vocabulary(found: Anatomy) -> int:
    weight: Any = getattr(found.embed, "weight", None)
    return len(weight)
