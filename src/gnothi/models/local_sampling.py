"""Sampling from a local model: each prompt is read once, and samples that agree so far are one row.

A row is a distinct prefix: a prompt and the tokens after it. All samples that have drawn these tokens share its forward
pass and its distribution, and each picks its next token with a uniform number of its own; different picks part into
rows of their own. A hundred answers of two tokens cost as many rows as there are different ones.

Sample i of prompt j depends on (seed, j, i) alone: its numbers come from a stream of its own, and a token is the inverse
of the distribution function at such a number, over tokens in a fixed order (`local_picks`).
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

from gnothi.errors import DataError, ModelError
from gnothi.models.adapters import head
from gnothi.models.base import Answer, Sampling
from gnothi.models.local_cache import AHEAD, RowCache
from gnothi.models.local_memory import is_out_of_memory, largest_pass
from gnothi.models.local_picks import pick
from gnothi.models.local_text import Codec
from gnothi.rng import stream

LOGIT_BUDGET = 2**26
"""Logits of one forward pass (rows x vocabulary): 256 MB in float32."""

MOST_ROWS = 1024
"""Rows of one forward pass, whatever the vocabulary."""

CACHE_BUDGET = {"cpu": 2**30}
"""Bytes of keys and values of one forward pass, by kind of device."""

ELSEWHERE_CACHE = 2**33
"""The same on any other kind of device."""

PAD_SHARE = 0.25
"""Largest share of padding among the tokens of prompts that are read together and of their answers."""

PAD_RATIO = 2.0
"""Longest prompt over shortest, at most: every row of a short one drags its padding along."""

Use = Callable[[Tensor], None]


@dataclass(eq=False, slots=True)
class _Root:
    """A prompt and who asks it; equal prompts of one owner are one root."""

    owner: int
    ids: tuple[int, ...]
    samples: list[tuple[int, int]] = field(default_factory=list)
    """(prompt, sample) of each answer that begins here."""
    pad: int = 0
    """Places before the prompt that nobody looks at."""


@dataclass(eq=False, slots=True)
class _Prefix:
    """A prompt and the tokens drawn after it."""

    root: _Root
    drawn: tuple[int, ...] = ()


@dataclass(eq=False, slots=True)
class _Front:
    """Prefixes of equal length whose next tokens are wanted, and the samples that wait for them."""

    cache: RowCache | None
    """None before the prompts were read."""
    parents: list[int]
    """(row,) row of the cache that each prefix continues; in order."""
    prefixes: list[_Prefix]
    """(row,)"""
    rows: np.ndarray
    """(n_samples,) row of each sample."""
    samples: np.ndarray
    """(n_samples,) number of each sample."""


def sample(
    module: nn.Module,
    codec: Codec,
    prompt_ids: Sequence[Sequence[int]],
    sampling: Sampling,
    device: torch.device,
    *,
    owners: Sequence[int] | None = None,
    use: Use | None = None,
) -> list[list[Answer]]:
    """Draw answers.

    Args:
        module: A transformers causal language model.
        codec: Its tokenizer, for text and for what ends an answer.
        prompt_ids: (n_prompts,) token ids of each prompt.
        sampling: How to sample.
        device: Where the module lies.
        owners: (n_prompts,) adapter of each prompt, where the module has several; all 0 if left out. Prompts are
            numbered within their owner, so that each owner's answers are those that it gives alone.
        use: Called before each forward pass with the (row,) owner of each row.

    Returns:
        For each prompt its `sampling.n` answers.

    Raises:
        DataError: A sampling that cannot be.
        ModelError: Memory does not suffice for one row, or logits that are no numbers.
    """
    check(sampling)
    own = [0] * len(prompt_ids) if owners is None else list(owners)
    repeats = sampling.n if sampling.temperature > 0 else 1  # greedy answers are all the same
    roots: dict[tuple[int, tuple[int, ...]], _Root] = {}
    counts: dict[int, int] = {}
    numbers = []
    for j, (owner, ids) in enumerate(zip(own, prompt_ids, strict=True)):
        root = roots.setdefault((owner, tuple(ids)), _Root(owner, tuple(ids)))
        root.samples += [(j, i) for i in range(repeats)]
        numbers.append(counts.get(owner, 0))
        counts[owner] = numbers[-1] + 1
    walk = _Walk(module, codec, sampling, device, use)
    answers: dict[tuple[int, int], Answer] = {}
    with torch.inference_mode():
        for batch in _batches(list(roots.values()), walk.width, largest_pass(module), sampling.max_tokens):
            names = [name for root in batch for name in root.samples]
            uniform = None
            if sampling.temperature > 0:
                draws = (stream(sampling.seed, "sample", numbers[j], i).random(sampling.max_tokens) for j, i in names)
                uniform = np.stack(list(draws))
            answers.update(zip(names, walk.run(batch, uniform), strict=True))
    return [[answers[j, i % repeats] for i in range(sampling.n)] for j in range(len(prompt_ids))]


def check(sampling: Sampling) -> None:
    """Refuse what cannot be sampled.

    Raises:
        DataError: Naming what is out of range.
    """
    if sampling.n < 1 or sampling.max_tokens < 1 or sampling.temperature < 0 or not 0 < sampling.top_p <= 1:
        raise DataError(
            "Sampling must have n >= 1, max_tokens >= 1, temperature >= 0 and top_p in (0, 1], got "
            f"{sampling.n}, {sampling.max_tokens}, {sampling.temperature} and {sampling.top_p}."
        )


def _batches(roots: list[_Root], width: int, tokens: int, most: int) -> Iterator[list[_Root]]:
    """Prompts to be read together: alike in length, with no more samples than rows, unless it is one prompt alone."""
    batch: list[_Root] = []
    n = total = 0
    for root in sorted(roots, key=lambda r: len(r.ids)):
        length = len(root.ids)
        whole = (len(batch) + 1) * length  # in order of length, so the newest is the longest
        padding = whole - total - length
        samples = n + len(root.samples)
        full = samples > width or whole > tokens or padding > PAD_SHARE * (whole + samples * most)
        full = full or (bool(batch) and length > PAD_RATIO * len(batch[0].ids))
        # a well-filled batch of one length is worth more than one more row and a mask
        if batch and (full or (length > len(batch[-1].ids) and len(batch) >= 16)):
            yield batch
            batch, n, total = [], 0, 0
        batch.append(root)
        n, total = n + len(root.samples), total + length
    if batch:
        yield batch


class _Walk:
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
        self.vocabulary = int(module.config.get_text_config().vocab_size)
        self.width = max(1, min(MOST_ROWS, LOGIT_BUDGET // self.vocabulary))
        self.answers: list[Answer | None] = []
        self.logits: Tensor | None = None

    def run(self, batch: Sequence[_Root], uniform: np.ndarray | None) -> list[Answer]:
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
        prefixes = [_Prefix(root) for root in batch]
        pending = [_Front(None, list(range(len(batch))), prefixes, rows, np.arange(len(rows)))]
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

    def _step(self, front: _Front, width: int, uniform: np.ndarray | None) -> _Front | None:
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

    def _read(self, front: _Front) -> tuple[RowCache, Tensor]:
        """Prompts' keys and values, and logits after them."""
        cache = RowCache(min(self.sampling.max_tokens, AHEAD))
        ids = [[0] * p.root.pad + list(p.root.ids) for p in front.prefixes]
        return cache, self._forward(front.prefixes, ids, cache)

    def _forward(self, prefixes: Sequence[_Prefix], ids: Sequence[Sequence[int]], cache: RowCache) -> Tensor:
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

    def _grown(self, front: _Front, cache: RowCache, tokens: np.ndarray) -> _Front | None:
        """Prefixes with their next tokens; those that end become answers."""
        pairs, inverse = np.unique(front.rows * self.vocabulary + tokens, return_inverse=True)
        waiting = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
        place = np.full(len(pairs), -1)
        parents: list[int] = []
        prefixes: list[_Prefix] = []
        for child, pair in enumerate(pairs.tolist()):
            row, token = divmod(pair, self.vocabulary)
            before = front.prefixes[row]
            answer, drawn = self._append(before.drawn, token)
            if answer is None:
                place[child] = len(prefixes)
                parents.append(row)
                prefixes.append(_Prefix(before.root, drawn))
            else:
                for member in waiting[child]:
                    self.answers[front.samples[member]] = answer
        if not prefixes:
            return None
        rows = place[inverse]
        return _Front(cache, parents, prefixes, rows[rows >= 0], front.samples[rows >= 0])

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


def _split(front: _Front, width: int) -> list[_Front]:
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
        parts.append(_Front(cache, parents, front.prefixes[low:high], front.rows[mine] - low, front.samples[mine]))
    return parts
