"""A local model: an ordinary transformers folder, asked in batches, with adapters that share one base module.

Knows nothing of behaviours or training. Parameters are read from safetensors only, and code from a model's folder is
run only where that was asked for. Scoring is in `local_scoring`, sampling in `local_sampling`.
"""

import contextlib
import hashlib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gnothi.errors import DataError
from gnothi.models import local_files, local_llama, local_sampling, local_scoring
from gnothi.models.adapter_files import load_adapter
from gnothi.models.adapters import Adapter, AdapterStack
from gnothi.models.base import AbstractLanguageModel, Answer, Capabilities, NumberDistribution, Sampling
from gnothi.models.local_scoring import LOGIT_BUDGET
from gnothi.models.local_text import Codec
from gnothi.records import Messages

PAD_SHARE = 0.125
"""Largest share of padding in a batch; documents of more different lengths go into separate batches."""


class _Base:
    """What the views of one base model share: the module and which adapter is on it."""

    def __init__(self, module: nn.Module, tokenizer: Any, digest: str):
        self.module = module.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.codec = Codec(tokenizer)
        self.digest = digest
        self.accepts = set(inspect.signature(module.forward).parameters)
        self.on: AdapterStack | None = None
        self._detach = contextlib.ExitStack()

    def switch(self, stack: AdapterStack | None) -> None:
        """Put this stack on the module, and take the other off."""
        if stack is not self.on:
            self._detach.close()
            self.on = None
            if stack is not None:
                self._detach.callback(stack.attach(self.module))
            self.on = stack


class LocalModel(AbstractLanguageModel):
    """A causal language model on this machine, with or without an adapter.

    Views with different adapters (`with_adapter`) share one module and copy nothing: whichever is used puts its
    adapter on. Hold the module of one view at a time, or use `with model.attached() as module:`.

    Attributes:
        name: As given on the command line.
        digest: sha256 over parameters, tokenizer, template and adapter.
        tokenizer: The transformers tokenizer.
        adapter: The adapter of this view, or None.
    """

    def __init__(self, module: nn.Module, tokenizer: Any, *, name: str, digest: str | None = None):
        """Wrap a module that is in memory; it is put into evaluation mode without gradients.

        Args:
            module: A transformers causal language model.
            tokenizer: Its tokenizer.
            name: What to call it.
            digest: Digest of its files; by default one over its tensors.
        """
        if digest is None:
            digest = local_files.module_digest(module, tokenizer)
        self._base = _Base(module, tokenizer, digest)
        self._set(name, None)

    def _set(self, name: str, adapter: Adapter | None) -> None:
        self.name, self.adapter, self.tokenizer = name, adapter, self._base.tokenizer
        self.digest = self._base.digest
        self._stack: AdapterStack | None = None
        if adapter is not None:
            self._stack = AdapterStack.of(adapter, self.device)
            self.digest = hashlib.sha256(f"{self._base.digest}+{adapter.digest}".encode()).hexdigest()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        name: str,
        dtype: str = "float32",
        device: str = "cpu",
        trust_remote_code: bool = False,
        quantise: str | None = None,
    ) -> "LocalModel":
        """Open an ordinary transformers folder.

        Args:
            folder: Holds config.json, safetensors and a tokenizer.
            name: What to call the model.
            dtype: `float32`, `bfloat16` or `float16`; never the checkpoint's own choice.
            device: A torch device, e.g. `cpu` or `cuda`.
            trust_remote_code: Whether code that the folder brings is run; only for code that was read and is trusted.
            quantise: `4bit` or `8bit` for bitsandbytes' linear layers, or None.

        Raises:
            SpecError: An unknown dtype or quantisation, or a device that is not here.
            ModelError: A folder that is no model's; parameters that are missing, cut off or of another shape; a model that
                brings code of its own; bitsandbytes is missing.
        """
        found = local_files.open_folder(Path(folder), dtype, device, trust_remote_code, quantise)
        module, tokenizer, digest = found
        return cls(module, tokenizer, name=name, digest=digest)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(self._base.module.parameters()).device

    @property
    def dtype(self) -> str:
        """The parameters' type, e.g. `float32`."""
        return str(next(self._base.module.parameters()).dtype).removeprefix("torch.")

    @property
    def base_digest(self) -> str:
        """Digest without any adapter: what adapters are tied to."""
        return self._base.digest

    @property
    def codec(self) -> Codec:
        """How this model's conversations become tokens."""
        return self._base.codec

    @property
    def module(self) -> nn.Module:
        """The torch module with this view's adapter on it, until another view is used."""
        self._base.switch(self._stack)
        return self._base.module

    @contextlib.contextmanager
    def attached(self) -> Iterator[nn.Module]:
        """The module with this view's adapter, and afterwards with what was on it before."""
        before = self._base.on
        try:
            yield self.module
        finally:
            self._base.switch(before)

    @contextlib.contextmanager
    def bare(self) -> Iterator[nn.Module]:
        """The module with no adapter at all, and afterwards with what was on it before."""
        before = self._base.on
        self._base.switch(None)
        try:
            yield self._base.module
        finally:
            self._base.switch(before)

    def with_adapter(self, adapter: str | Path | Adapter | None) -> "LocalModel":
        """This base model with another adapter (a folder, or one in memory), or with none.

        Raises:
            StoreError: A folder that is missing, damaged or altered.
            ModelError: An adapter of another base model, or one that matches nothing here.
        """
        if isinstance(adapter, str | Path):
            adapter = load_adapter(Path(adapter))
        if adapter is not None:
            adapter.check(self._base.module, self._base.digest)
        view = object.__new__(LocalModel)
        view._base = self._base
        view._set(self.name, adapter)
        return view

    def capabilities(self) -> Capabilities:
        """Everything, with a system role where the template shows it to the model."""
        return Capabilities(
            logprobs=True, sampling=True, training=True, module=True, system_role=self.codec.system_role
        )

    def encode(self, messages: Messages, answer: str | None = None) -> tuple[list[int], int]:
        """Token ids of a prompt and of an answer after it, and the position of the answer's first token."""
        return self.codec.encode(messages, answer)

    def end_logits(self, ids: Tensor, mask: Tensor | None, keep: int, *, module: nn.Module | None = None) -> Tensor:
        """Logits at the last `keep` positions; with gradient where the caller records one.

        Args:
            ids: (batch, pos) token ids, padded on the left.
            mask: (batch, pos) 1 for tokens and 0 for padding; None if there is none.
            keep: How many positions, >= 1.
            module: The module to call; by default this view's.

        Returns:
            (batch, keep, d_vocab), in the module's type.
        """
        module = self.module if module is None else module
        stack = self._base.on
        # autocast chooses types inside transformers' modules, so that is left to them
        plain = mask is None and not torch.is_autocast_enabled(ids.device.type)
        if plain and local_llama.applies(module, stack.hook_ids if stack is not None else ()):
            return local_llama.end_logits(module, ids, keep)
        accepts = self._base.accepts
        extra: dict[str, Any] = {"use_cache": False} if "use_cache" in accepts else {}
        if mask is not None:
            extra["attention_mask"] = mask
            if "position_ids" in accepts:
                extra["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        if "logits_to_keep" in accepts:
            extra["logits_to_keep"] = keep
        logits = module(input_ids=ids, **extra).logits
        return logits[:, -keep:]

    def _score(
        self, prompt_ids: list[list[int]], answer_ids: list[list[list[int]]], stop_digits: bool = False
    ) -> list[np.ndarray]:
        """Sum of log-probabilities of each answer's tokens; with `stop_digits`, times P(no digit follows)."""
        digits = self.codec.digit_ids if stop_digits else None
        with self.attached() as module:
            return local_scoring.score(module, prompt_ids, answer_ids, digits=digits, stack=self._stack)

    def option_logprobs(self, prompts: Sequence[Messages], options: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Natural-log probability of each option as the beginning of the answer; see the base class."""
        if len(prompts) != len(options):
            raise DataError(f"options must be one list a prompt, got {len(options)} for {len(prompts)} prompts.")
        prompt_ids, answer_ids = self.codec.encode_many(prompts, options)
        return self._score(prompt_ids, answer_ids)

    def number_distribution(self, prompts: Sequence[Messages], low: int, high: int) -> list[NumberDistribution]:
        """Probabilities of the integers low..high (both included) as the answer.

        Where every number is one token that no digit token continues, one forward pass a prompt. Otherwise a number's
        probability is that of its tokens times the probability that no token beginning with a digit follows, so that
        5 does not include 50; this costs a pass for each distinct number of two tokens or more.

        Raises:
            DataError: `low` above `high`.
        """
        if low > high:
            raise DataError(f"number range must have low <= high, got {low}..{high}.")
        numbers = [str(v) for v in range(low, high + 1)]
        prompt_ids, answer_ids = self.codec.encode_many(prompts, [numbers] * len(prompts))
        scores = self._score(
            prompt_ids, answer_ids, stop_digits=not self._whole_numbers(prompts, answer_ids, low, high)
        )
        found = []
        for logprobs in scores:
            probabilities = np.exp(logprobs)
            missing = float(max(0.0, 1.0 - probabilities.sum()))
            found.append(NumberDistribution(low=low, probabilities=probabilities, missing=missing))
        return found

    def _whole_numbers(self, prompts: Sequence[Messages], answers: list[list[list[int]]], low: int, high: int) -> bool:
        """Whether every number is one token, and a longer number does not begin with a shorter one's token."""
        if not prompts or any(len(ids) != 1 for options in answers for ids in options):
            return False
        single = {option[0] for option in answers[0]}
        if len(single) < high - low + 1:
            return False
        for text in {f"{v}{d}" for v in (low, high) for d in (0, 5)}:
            joined = text if prompts[0][-1].role == "assistant" else self.codec.join(text)
            ids = self.tokenizer(joined, add_special_tokens=False)["input_ids"]
            if not low <= int(text) <= high and ids and ids[0] in single:
                return False
        return True

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[list[Answer]]:
        """Sample `sampling.n` answers for each prompt; greedy at temperature 0.

        Sample i of prompt j depends on (seed, j, i) alone, up to rounding that depends on the batch.
        """
        local_sampling.check(sampling)
        prompt_ids, _ = self.codec.encode_many(prompts, [[]] * len(prompts))
        with torch.inference_mode(), self.attached() as module:
            return local_sampling.sample(module, self.codec, prompt_ids, sampling, self.device)


def pad_left(sequences: Sequence[Sequence[int]], device: torch.device | str) -> tuple[Tensor, Tensor | None]:
    """Ids (batch, pos) with zeros before the shorter ones, and the mask; None where nothing was padded."""
    length = max(map(len, sequences))
    if all(len(s) == length for s in sequences):
        return torch.tensor(sequences, device=device), None
    ids = torch.zeros(len(sequences), length, dtype=torch.long)
    mask = torch.zeros(len(sequences), length, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, length - len(sequence) :] = torch.tensor(sequence)
        mask[row, length - len(sequence) :] = 1
    return ids.to(device), mask.to(device)


def batches(lengths: Sequence[int], keeps: Sequence[int], vocabulary: int, tokens: int) -> Iterable[list[int]]:
    """Split sequences into batches of equal or nearly equal length within the budgets.

    Args:
        lengths: (n,) tokens of each sequence.
        keeps: (n,) positions of each whose logits are wanted.
        vocabulary: Size of the head's output.
        tokens: Largest number of tokens in a batch, padding included; a longer single sequence goes alone.

    Yields:
        Indices into `lengths`; each index once.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], keeps[i]))
    counts: dict[int, int] = {}
    for length in lengths:
        counts[length] = counts.get(length, 0) + 1
    batch: list[int] = []
    total = keep = 0
    for i in order:
        n = len(batch) + 1
        most = max(keep, keeps[i])
        padding = n * lengths[i] - total - lengths[i]
        full = n * lengths[i] > tokens or n * most * vocabulary > LOGIT_BUDGET or padding > PAD_SHARE * n * lengths[i]
        # many documents of one length are worth a batch without padding
        fresh = batch and lengths[i] != lengths[batch[-1]] and min(counts[lengths[i]], counts[lengths[batch[-1]]]) >= 16
        if batch and (full or fresh):
            yield batch
            batch, total, most = [], 0, keeps[i]
        batch.append(i)
        total, keep = total + lengths[i], most
    if batch:
        yield batch
