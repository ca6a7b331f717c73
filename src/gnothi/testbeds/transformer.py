"""The one transformer of the test beds: compiled programs, grammar models and story models are all of this class.

Its parts have the names that `mechanisms.anatomy` knows: `embed`, `positions`, `blocks.<i>.{norm1, attn, norm2, mlp}`,
`attn.{q, k, v, o}`, `mlp.{up, down}`, `norm`, `head`. A Hugging Face model is read the same way, so that no analysis
asks which kind of model it has.

Source: the shapes are those of arXiv:2311.12786, sections C.1 (compiled: no norms, ReLU, non-causal) and C.2 (minGPT:
pre-norm, learned positions).
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnothi.errors import SpecError

NORMS = ("layer", "rms", "none")
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Everything that decides a model besides its values."""

    layers: int
    heads: int
    width: int
    """Of the residual stream."""
    mlp: int
    """Hidden units of an MLP."""
    vocabulary: int
    longest: int
    """Positions."""
    outputs: int | None = None
    """Columns of the head; None for the vocabulary."""
    head_width: int | None = None
    """Of keys, queries and values of one head; None for width / heads."""
    causal: bool = True
    norm: str = "layer"
    """`layer` or `rms` before attention, MLP and head, or `none`."""
    activation: str = "relu"
    bias: bool = True
    """Whether linear layers add a bias (never the head's)."""
    dropout: float = 0.0
    tied: bool = False
    """Whether the head is the embedding."""

    def __post_init__(self) -> None:
        sizes = (self.layers, self.heads, self.width, self.mlp, self.vocabulary, self.longest)
        if min(sizes) < 1:
            raise SpecError(f"Shape must have sizes of at least 1, got {asdict(self)}.")
        if self.norm not in NORMS or self.activation not in ACTIVATIONS:
            raise SpecError(
                f"Shape must have a norm among {', '.join(NORMS)} and an activation among {', '.join(ACTIVATIONS)}, "
                f"got {self.norm!r} and {self.activation!r}."
            )
        if self.head_width is None and self.width % self.heads:
            raise SpecError(
                f"Shape.width must be a multiple of heads ({self.heads}), got {self.width}. Give head_width."
            )
        if self.tied and self.outputs not in (None, self.vocabulary):
            raise SpecError(f"Shape.outputs must be the vocabulary where the head is tied, got {self.outputs}.")

    @property
    def per_head(self) -> int:
        """Width of one head."""
        return self.head_width or self.width // self.heads

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Attention(nn.Module):
    """Softmax attention; heads lie side by side in `q`, `k`, `v` (rows) and `o` (columns)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inner = shape.heads * shape.per_head
        self.heads, self.per_head, self.causal, self.dropout = shape.heads, shape.per_head, shape.causal, shape.dropout
        self.q = nn.Linear(shape.width, inner, bias=shape.bias)
        self.k = nn.Linear(shape.width, inner, bias=shape.bias)
        self.v = nn.Linear(shape.width, inner, bias=shape.bias)
        self.o = nn.Linear(inner, shape.width, bias=shape.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, width) -> the same. `mask`: (B, 1, 1 or T, T) of what may be seen, True for yes; None for all."""
        shape = (*x.shape[:-1], self.heads, self.per_head)
        q, k, v = (part(x).view(shape).transpose(1, 2) for part in (self.q, self.k, self.v))
        found = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.causal and mask is None,
        )
        return self.o(found.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two layers with the activation between them; its neurons are the inputs of `down`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.up = nn.Linear(shape.width, shape.mlp, bias=shape.bias)
        self.down = nn.Linear(shape.mlp, shape.width, bias=shape.bias)
        self.activation = shape.activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> the same."""
        return self.down(ACTIVATIONS[self.activation](self.up(x)))


def _norm(shape: Shape) -> nn.Module:
    if shape.norm == "none":
        return nn.Identity()
    return nn.LayerNorm(shape.width) if shape.norm == "layer" else nn.RMSNorm(shape.width)


class Block(nn.Module):
    """Attention, then the MLP, each added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm1, self.attn = _norm(shape), Attention(shape)
        self.norm2, self.mlp = _norm(shape), MLP(shape)
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, width) -> the same."""
        x = x + self.drop(self.attn(self.norm1(x), mask))
        return x + self.drop(self.mlp(self.norm2(x)))


class Transformer(nn.Module):
    """A transformer with learned positions.

    Args:
        shape: Its sizes.
        seed: Of the values it starts from; compiled models overwrite them.
    """

    def __init__(self, shape: Shape, *, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Embedding(shape.longest, shape.width)
        self.drop = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = _norm(shape)
        self.head = nn.Linear(shape.width, shape.outputs or shape.vocabulary, bias=False)
        self._start(seed)
        if shape.tied:
            self.head.weight = self.embed.weight

    def _start(self, seed: int) -> None:
        """GPT-2's: s.d. .02, projections into the residual stream smaller by the root of how many there are."""
        draws = torch.Generator().manual_seed(seed)
        into = 0.02 / (2 * self.shape.layers) ** 0.5
        with torch.no_grad():
            for name, values in self.named_parameters():
                if name.endswith("bias"):
                    values.zero_()
                elif values.dim() == 2:
                    values.normal_(0.0, into if name.endswith(("o.weight", "down.weight")) else 0.02, generator=draws)

    def residual(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """The residual stream after the last block, normalised: what the head reads.

        Args:
            ids: (B, T) token ids.
            mask: (B, T) True at tokens, False at padding; None where there is none.

        Returns:
            (B, T, width).
        """
        if ids.shape[1] > self.shape.longest:
            raise SpecError(f"a sequence must have at most {self.shape.longest} tokens, got {ids.shape[1]}.")
        seen = None
        if mask is not None:
            seen = mask[:, None, None, :].bool()
            if self.shape.causal:
                seen = seen & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        x = self.drop(self.embed(ids) + self.positions.weight[: ids.shape[1]])
        for block in self.blocks:
            x = block(x, seen)
        return self.norm(x)

    def forward(self, ids: Tensor, mask: Tensor | None = None, at: Tensor | int | None = None) -> Tensor:
        """Logits.

        Args:
            ids: (B, T) token ids.
            mask: As for `residual`.
            at: Positions to read: one for all rows, or (B,) one a row; None for all positions.

        Returns:
            (B, T, outputs), or (B, outputs) with `at`.
        """
        x = self.residual(ids, mask)
        if at is not None:
            x = x[:, at] if isinstance(at, int) else x[torch.arange(len(x), device=x.device), at]
        return self.head(x)
