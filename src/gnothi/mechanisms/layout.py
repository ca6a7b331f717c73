"""Which modules of a transformer are its parts, found by the names that layouts give them.

Known: our `Transformer`, and Hugging Face's decoders of the Llama, Qwen 2 and 3, Gemma 2 and 3, Mistral, Phi, Phi-3 and GPT-2
layouts. Whether what was found is right is tried in `anatomy`.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from gnothi.errors import ModelError

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
class Layout:
    """The parts of a model, before they are tried."""

    embed: nn.Module
    blocks: tuple[BlockParts, ...]
    norm: nn.Module
    head: nn.Module
    n_heads: int
    n_key_heads: int


def read_layout(module: nn.Module) -> Layout:
    """Find the parts of a model by their names.

    Raises:
        ModelError: A layout that is not known.
    """
    path = next((p for p in _BLOCKS if isinstance(part_of(module, p), nn.ModuleList)), None)
    if path is None:
        raise unknown(module, f"no list of blocks among {', '.join(_BLOCKS)}")
    body = part_of(module, path.rpartition(".")[0]) if "." in path else module
    assert body is not None
    norm = child_of(body, _NORMS)
    theirs: Any = module
    embed = theirs.get_input_embeddings() if hasattr(module, "get_input_embeddings") else child_of(module, ("embed",))
    head = theirs.get_output_embeddings() if hasattr(module, "get_output_embeddings") else child_of(module, ("head",))
    listed: Any = part_of(module, path)
    if norm is None or not isinstance(embed, nn.Module) or not isinstance(head, nn.Module) or not len(listed):
        raise unknown(module, "no embedding, final norm, head or block")
    names = {id(part): name for name, part in module.named_modules()}
    attention = child_of(listed[0], _ATTENTION)
    n_heads = _number(module, attention, "heads", "num_attention_heads")
    n_keys = _number(module, attention, "key_heads", "num_key_value_heads", n_heads)
    blocks = tuple(_block(module, part, names, n_heads, n_keys) for part in listed)
    return Layout(embed, blocks, norm, head, n_heads, n_keys)


def unknown(module: nn.Module, why: str) -> ModelError:
    """The error for a model that cannot be read."""
    return ModelError(
        f"module must be a transformer of a known layout (our own, Llama, Qwen, Gemma, Mistral, Phi, GPT-2), "
        f"got {type(module).__name__} with {why}."
    )


def part_of(module: nn.Module, path: str) -> nn.Module | None:
    """The part at a dotted path; None where there is none."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, nn.Module) else None


def child_of(module: nn.Module | None, names: tuple[str, ...]) -> nn.Module | None:
    """The first child of these names; None where there is none."""
    found = (getattr(module, name, None) for name in names)
    return next((part for part in found if isinstance(part, nn.Module)), None)


def text_config(module: nn.Module, name: str) -> Any:
    """An entry of a Hugging Face model's configuration; None where there is none."""
    config: Any = getattr(module, "config", None)
    return None if config is None else getattr(config.get_text_config(), name, None)


def _number(module: nn.Module, attention: nn.Module | None, own: str, theirs: str, default: int | None = None) -> int:
    found = getattr(attention, own, None) or text_config(module, theirs) or default
    if not isinstance(found, int):
        raise unknown(module, "no number of heads")
    return found


def _block(module: nn.Module, part: nn.Module, names: dict[int, str], n_heads: int, n_keys: int) -> BlockParts:
    attn, mlp = child_of(part, _ATTENTION), child_of(part, ("mlp",))
    found = {n: child_of(attn if n in ("q", "k", "v", "qkv", "o") else mlp, _NAMES[n]) for n in _NAMES}
    missing = [n for n in ("o", "down") if found[n] is None]
    missing += [] if found["qkv"] or all(found[n] for n in "qkv") else ["q, k, v"]
    missing += [] if found["up"] or found["gate_up"] else ["up"]
    if attn is None or mlp is None or missing:
        raise unknown(module, f"a block {type(part).__name__} without attention, MLP or {', '.join(missing)}")
    after = hasattr(part, "post_feedforward_layernorm")  # then the norm named after attention comes after it
    attn_writes = child_of(part, ("post_attention_layernorm",)) if after else attn
    mlp_writes = child_of(part, ("post_feedforward_layernorm",)) if after else mlp
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
