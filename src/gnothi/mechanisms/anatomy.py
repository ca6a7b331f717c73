"""Where the parts of a transformer are, for any model whose layout is known; nothing else asks which kind of model it has.

A layout (`layout.py`) is only believed after a trial: on a few tokens, what attention and MLP add must be what the stream
gains in each block, and the head must give the logits. Adapters on the model take part, since parts are called, not
copied.
"""

import contextlib
import inspect
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gnothi.errors import ModelError
from gnothi.mechanisms.layout import BlockParts, Matrix, read_layout, text_config, unknown
from gnothi.mechanisms.sites import Site

__all__ = ["Anatomy", "BlockParts", "Matrix", "Point", "anatomy"]

_TRIAL = (1, 2, 3, 2, 1)  # tokens
_tried: Any = WeakKeyDictionary()


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

    def logits(self, ids: Tensor, mask: Tensor | None = None, at: int | Tensor | None = None) -> Tensor:
        """Run the model; with gradient where the caller records one.

        Args:
            ids: (B, T) token ids.
            mask: (B, T) True at tokens, False at padding; None where there is none. Positions of Hugging Face models
                count tokens only, so padding may be on either side; for our own models it must be on the right.
            at: Position to read, one for all rows or (B,); the head is then computed there alone, which is most of the
                work in a model of many tokens. None for all positions.

        Returns:
            (B, T, V), or (B, V) with `at`.
        """
        with contextlib.ExitStack() as guard:
            if at is not None:
                rows, places = torch.arange(len(ids), device=ids.device), torch.as_tensor(at, device=ids.device)
                gather = self.head.register_forward_pre_hook(lambda _, args: (args[0][rows, places][:, None],))
                guard.callback(gather.remove)
            logits = self._run(ids, mask)
        return logits if at is None else logits[:, 0]

    def _run(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        if not hasattr(self.module, "config"):
            return self.module(ids) if mask is None else self.module(ids, mask=mask)
        more: dict[str, Any] = {"use_cache": False}
        if mask is not None:
            more["attention_mask"] = mask.long()
            if "position_ids" in inspect.signature(self.module.forward).parameters:
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
        cap = text_config(self.module, "final_logit_softcapping")
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
    parts = read_layout(module)
    o, down = (parts.blocks[0].matrices[name].value() for name in ("attn.o", "mlp.down"))
    if o.shape[1] % parts.n_heads:
        raise unknown(module, f"an output matrix that reads {o.shape[1]} values from {parts.n_heads} heads")
    found = Anatomy(
        module=module,
        embed=parts.embed,
        blocks=parts.blocks,
        norm=parts.norm,
        head=parts.head,
        n_heads=parts.n_heads,
        n_key_heads=parts.n_key_heads,
        head_width=o.shape[1] // parts.n_heads,
        width=o.shape[0],
        n_neurons=down.shape[1],
    )
    if module not in _tried:
        _tried[module] = _trial(found)
    if _tried[module]:
        raise unknown(module, _tried[module])
    return found


def _trial(found: Anatomy) -> str:
    """What is wrong with the parts that were found; empty if they add up to the stream."""
    seen: dict[tuple[str, int], Tensor] = {}

    def keep(key: tuple[str, int], reads: bool) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
            value = (args[0] if args else next(iter(kwargs.values()))) if reads else output
            seen[key] = (value[0] if isinstance(value, tuple) else value).detach().float()

        return hook

    ids = torch.tensor([_TRIAL[: min(len(_TRIAL), _longest(found))]], device=found.device) % _vocabulary(found)
    handles: list[Any] = []
    training = [part for part in found.module.modules() if part.training]
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
                used = ("heads", i) in seen and ("neurons", i) in seen
                if before is None or after is None or attn is None or mlp is None or not used:
                    return f"parts of block {i} that its forward pass does not use"
                if not _alike(before + attn + mlp, after):
                    return f"a stream that gains something else in block {i} than its attention and MLP give"
            last = next(found.module.parameters()).dtype
            again = found.unembed(streams[-1].to(last)).float()  # type: ignore[union-attr]
            if not _alike(again, logits.float()):
                return "logits that are not its head's"
    finally:
        for handle in handles:
            handle.remove()
        for part in training:
            part.training = True
    return ""


def _alike(found: Tensor, expected: Tensor) -> bool:
    """Within what bfloat16 rounds; also where a training that diverged left NaN."""
    size = float(expected.nan_to_num(0.0).abs().max())
    return torch.allclose(found, expected, rtol=0.02, atol=0.02 * size, equal_nan=True)


def _longest(found: Anatomy) -> int:
    shape: Any = getattr(found.module, "shape", None)
    return int(getattr(shape, "longest", len(_TRIAL)))


def _vocabulary(found: Anatomy) -> int:
    weight: Any = getattr(found.embed, "weight", None)
    return len(weight)
