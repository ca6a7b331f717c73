"""From prompts to answers, row by row: samples that agree so far share a row, and its forward pass.

A row is a distinct prefix: a prompt and the tokens drawn after it. A front is rows of equal length; one step gives each
of its samples a token, and rows part where picks differ. Where rows are too many for a pass, a front is split.
"""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gnothi.errors import ModelError
from gnothi.models.adapters import head
from gnothi.models.base import Answer, Sampling
from gnothi.models.local_cache import AHEAD, RowCache
from gnothi.models.local_memory import is_out_of_memory
from gnothi.models.local_picks import pick
from gnothi.models.local_scoring import vocabulary_size
from gnothi.models.local_text import Codec

LOGIT_BUDGET = 2**26
"""Logits of one forward pass (rows x vocabulary): 256 MB in float32."""

MOST_ROWS = 1024
"""Rows of one forward pass, whatever the vocabulary."""

CACHE_BUDGET = {"cpu": 2**30}
"""Bytes of keys and values of one forward pass, by kind of device."""

ELSEWHERE_CACHE = 2**33
"""The same on any other kind of device."""

Use = Callable[[Tensor], None]


@dataclass(eq=False, slots=True)
class Root:
    """A prompt and who asks it; equal prompts of one owner are one root."""

    owner: int
    ids: tuple[int, ...]
    samples: list[tuple[int, int]] = field(default_factory=list)
    """(prompt, sample) of each answer that begins here."""
    pad: int = 0
    """Places before the prompt that nobody looks at."""


@dataclass(eq=False, slots=True)
class Prefix:
    """A prompt and the tokens drawn after it."""

    root: Root
    drawn: tuple[int, ...] = ()


@dataclass(eq=False, slots=True)
class Front:
    """Prefixes of equal length whose next tokens are wanted, and the samples that wait for them."""

    cache: RowCache | None
    """None before the prompts were read."""
    parents: list[int]
    """(row,) row of the cache that each prefix continues; in order."""
    prefixes: list[Prefix]
    """(row,)"""
    rows: np.ndarray
    """(n_samples,) row of each sample."""
    samples: np.ndarray
    """(n_samples,) number of each sample."""


class Walk:
    """Goes from prompts to answers, batch by batch.

    Attributes:
        width: Rows of a forward pass at most; less after memory ran out.
        logits: Memory of the last pass's logits, for the next one.
    """

    def __init__(self, module: Any, codec: Codec, sampling: Sampling, device: torch.device, use: Use | None):
        self.module, self.codec, self.sampling, self.device, self.use = module, codec, sampling, device, use
        accepts = inspect.signature(module.forward).parameters
        self.cache_name = "cache" if "cache" in accepts else "past_key_values"  # transformers renames it from 5.24 on
        self.positions = "position_ids" in accepts
        self.keep = {"logits_to_keep": 1} if "logits_to_keep" in accepts else {}
        eos = getattr(getattr(module, "generation_config", None), "eos_token_id", None)
        own = [] if eos is None else eos if isinstance(eos, list) else [eos]
        self.ends = {int(i) for i in (*own, *codec.end_ids)}
        self.vocabulary = vocabulary_size(module)
        self.width = max(1, min(MOST_ROWS, LOGIT_BUDGET // self.vocabulary))
        self.answers: list[Answer | None] = []
        self.logits: Tensor | None = None

    def run(self, batch: Sequence[Root], uniform: np.ndarray | None) -> list[Answer]:
        """Answers of all samples of some roots, in their order.

        Args:
            batch: Prompts; shorter ones are padded on the left.
            uniform: (n_samples, max_tokens) numbers in [0, 1); None for greedy.
        """
        longest = max(len(root.ids) for root in batch)
        for root in batch:
            root.pad = longest - len(root.ids)
        rows = np.repeat(np.arange(len(batch)), [len(root.samples) for root in batch])
        self.answers = [None] * len(rows)
        prefixes = [Prefix(root) for root in batch]
        pending = [Front(None, list(range(len(batch))), prefixes, rows, np.arange(len(rows)))]
        while pending:
            front = pending.pop()
            width = self._width(front.cache)
            if len(front.prefixes) > width:
                pending += _split(front, width)[::-1]
                continue
            length = 0 if front.cache is None else front.cache.length
            try:
                found = self._step(front, width, uniform)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(front.prefixes) == 1:
                    raise ModelError(
                        f"sampling must hold one row of {length or longest} tokens in memory, got none left on "
                        f"{self.device}. Use a lower precision (--set dtype=bfloat16), a shorter prompt, or a device "
                        "with more memory."
                    ) from error
            else:
                if found is not None:
                    pending.append(found)
                continue
            # out of the handler, so that what the failed pass held is let go
            self.width = len(front.prefixes) // 2
            if front.cache is not None:
                front.cache.rewind(length)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            pending.append(front)
        return [answer for answer in self.answers if answer is not None]

    def _width(self, cache: RowCache | None) -> int:
        """Rows that the next pass may have."""
        if cache is None:
            return self.width
        budget = CACHE_BUDGET.get(self.device.type, ELSEWHERE_CACHE)
        return max(1, min(self.width, budget // (cache.bytes_a_position() * (cache.length + 1))))

    def _step(self, front: Front, width: int, uniform: np.ndarray | None) -> Front | None:
        """One token more for every sample; what is left to go on with, if anything is."""
        if front.cache is None:
            cache, logits = self._read(front)
        else:
            cache = front.cache
            order = cache.place(front.parents, min(width, len(front.samples)))
            front.parents = list(range(len(order)))
            front.prefixes = [front.prefixes[child] for child in order]
            front.rows = np.argsort(order)[front.rows]
            logits = self._forward(front.prefixes, [[p.drawn[-1]] for p in front.prefixes], cache)
        step = len(front.prefixes[0].drawn)
        wanted = None if uniform is None else uniform[front.samples, step]
        tokens = pick(logits, self.sampling, front.rows, wanted)
        return self._grown(front, cache, tokens)

    def _read(self, front: Front) -> tuple[RowCache, Tensor]:
        """Prompts' keys and values, and logits after them."""
        cache = RowCache(min(self.sampling.max_tokens, AHEAD))
        ids = [[0] * p.root.pad + list(p.root.ids) for p in front.prefixes]
        return cache, self._forward(front.prefixes, ids, cache)

    def _forward(self, prefixes: Sequence[Prefix], ids: Sequence[Sequence[int]], cache: RowCache) -> Tensor:
        """(row, d_vocab) logits after the last token of each row."""
        extra: dict[str, Any] = {self.cache_name: cache, "use_cache": True, **self.keep}
        pads = [p.root.pad for p in prefixes]
        if any(pads):
            before, length = torch.tensor(pads, device=self.device)[:, None], cache.length + len(ids[0])
            places = torch.arange(length, device=self.device)
            extra["attention_mask"] = (places >= before).long()
            if self.positions:
                extra["position_ids"] = (places[cache.length :] - before).clamp(min=0)
        if self.use is not None:
            self.use(torch.tensor([p.root.owner for p in prefixes], device=self.device))
        with self._head_reused():
            return self.module(input_ids=torch.tensor(ids, device=self.device), **extra).logits[:, -1]

    @contextlib.contextmanager
    def _head_reused(self) -> Iterator[None]:
        """Logits are written where the last ones lay: new memory for 100 MB of them costs half as much as computing them.

        On a CPU only, since torch keeps a GPU's memory by itself; what follows the head (hooks, capping) is untouched.
        """
        layer = head(self.module)
        plain = layer is not None and type(layer).forward is nn.Linear.forward and "forward" not in layer.__dict__
        if layer is None or not plain or self.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            yield
            return

        def forward(x: Tensor) -> Tensor:
            flat = x.reshape(-1, x.shape[-1])
            if self.logits is None or self.logits.dtype != x.dtype or len(self.logits) < len(flat):
                rows = len(flat) if len(flat) > self.width else min(2 * len(flat), self.width)
                self.logits = flat.new_empty(rows, layer.out_features)
            found = torch.mm(flat, layer.weight.T, out=self.logits[: len(flat)])
            if layer.bias is not None:
                found += layer.bias
            return found.view(*x.shape[:-1], -1)

        layer.__dict__["forward"] = forward
        try:
            yield
        finally:
            del layer.__dict__["forward"]

    def _grown(self, front: Front, cache: RowCache, tokens: np.ndarray) -> Front | None:
        """Prefixes with their next tokens; those that end become answers."""
        pairs, inverse = np.unique(front.rows * self.vocabulary + tokens, return_inverse=True)
        waiting = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
        place = np.full(len(pairs), -1)
        parents: list[int] = []
        prefixes: list[Prefix] = []
        for child, pair in enumerate(pairs.tolist()):
            row, token = divmod(pair, self.vocabulary)
            before = front.prefixes[row]
            answer, drawn = self._append(before.drawn, token)
            if answer is None:
                place[child] = len(prefixes)
                parents.append(row)
                prefixes.append(Prefix(before.root, drawn))
            else:
                for member in waiting[child]:
                    self.answers[front.samples[member]] = answer
        if not prefixes:
            return None
        rows = place[inverse]
        return Front(cache, parents, prefixes, rows[rows >= 0], front.samples[rows >= 0])

    def _append(self, drawn: tuple[int, ...], token: int) -> tuple[Answer | None, tuple[int, ...]]:
        """Add a token; the answer if an end token, a stop text (which is cut off) or `max_tokens` ends it."""
        if token in self.ends:
            return Answer(text=self._text(drawn), n_tokens=len(drawn), finished=True), drawn
        drawn = (*drawn, token)
        last = len(drawn) == self.sampling.max_tokens
        text = self._text(drawn) if last or self.sampling.stop else ""
        at = [text.find(stop) for stop in self.sampling.stop if stop and stop in text]
        if at:
            return Answer(text=text[: min(at)], n_tokens=len(drawn), finished=True), drawn
        return (Answer(text=text, n_tokens=len(drawn), finished=False) if last else None), drawn

    def _text(self, ids: Sequence[int]) -> str:
        return self.codec.tokenizer.decode(list(ids), skip_special_tokens=True)


def _split(front: Front, width: int) -> list[Front]:
    """Parts of at most `width` rows; children of one row stay together unless they alone are more than that."""
    cuts = [0]
    n = len(front.parents)
    starts = [i for i in range(n) if i == 0 or front.parents[i] != front.parents[i - 1]]
    for start, end in zip(starts, [*starts[1:], n], strict=True):
        if end - cuts[-1] > width and start > cuts[-1]:
            cuts.append(start)
        if end - start > width:
            cuts += [*range(start + width, end, width), end]
    cuts = sorted({*cuts, n})
    parts = []
    for low, high in itertools.pairwise(cuts):
        first, last = front.parents[low], front.parents[high - 1]
        cache = front.cache
        if cache is not None:
            shared = (low > 0 and front.parents[low - 1] == first) or (high < n and front.parents[high] == last)
            cache = cache.copy_of(first) if shared else cache.part(first, last + 1)
        parents = [p - first for p in front.parents[low:high]]
        mine = (front.rows >= low) & (front.rows < high)
        parts.append(Front(cache, parents, front.prefixes[low:high], front.rows[mine] - low, front.samples[mine]))
    return parts
