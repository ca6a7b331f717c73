"""A program to a transformer that computes it exactly: the passes, in order, in `compile_program`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnothi.errors import DataError
from gnothi.testbeds.rasp.assemble import assembled
from gnothi.testbeds.rasp.components import Scales, components
from gnothi.testbeds.rasp.language import CATEGORICAL, SOp
from gnothi.testbeds.rasp.layers import Layer, placed
from gnothi.testbeds.rasp.space import Space, assigned
from gnothi.testbeds.rasp.values import Domain, checked, names
from gnothi.testbeds.transformer import Transformer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compiled:
    """A program as a transformer, with what goes in and what comes out."""

    program: SOp
    module: Transformer
    vocabulary: tuple[Any, ...]
    longest: int
    """Most tokens in a sequence."""
    outputs: Domain
    """What the head's columns are; a numerical output has one column, its value."""
    space: Space
    """Directions of the residual stream, with names."""
    layers: tuple[Layer, ...]
    """What each block computes."""

    @property
    def beginning(self) -> int:
        """Token id of the mark before the first token."""
        return len(self.vocabulary)

    @property
    def padding(self) -> int:
        """Token id after the last token."""
        return len(self.vocabulary) + 1

    @property
    def directions(self) -> tuple[str, ...]:
        """Name of each direction of the residual stream."""
        return self.space.labels

    @property
    def n_parameters(self) -> int:
        """All parameters, zeros and the head's included."""
        return sum(p.numel() for p in self.module.parameters())

    def encode(self, sequences: Sequence[Sequence[Any]]) -> Tensor:
        """Token ids, the beginning first, padded to the longest sequence.

        Args:
            sequences: (n,) sequences of 1 to `longest` tokens; strings are sequences of letters.

        Returns:
            (n, 1 + longest sequence), int64.

        Raises:
            DataError: A sequence that is empty or too long, or a token that isn't in the vocabulary.
        """
        number = {token: i for i, token in enumerate(self.vocabulary)}
        lengths = [len(s) for s in sequences]
        if not lengths or min(lengths) < 1 or max(lengths) > self.longest:
            raise DataError(
                f"sequences must have 1 to {self.longest} tokens, got {sorted(set(lengths))!s:.60}. "
                "Compile for a larger `longest`."
            )
        ids = np.full((len(lengths), 1 + max(lengths)), self.padding)
        ids[:, 0] = self.beginning
        for row, sequence in zip(ids, sequences, strict=True):
            strangers = [token for token in sequence if token not in number]
            if strangers:
                raise DataError(f"tokens must be among {self.vocabulary!s:.60}, got {strangers[0]!r}.")
            row[1 : 1 + len(sequence)] = [number[token] for token in sequence]
        return torch.from_numpy(ids)

    def mask(self, ids: Tensor) -> Tensor:
        """(n, T) True where there is no padding: what `Transformer.forward` takes."""
        return ids != self.padding

    def logits(self, ids: Tensor) -> Tensor:
        """(n, T, n_outputs) from (n, T) ids, padding masked. The first row is the beginning's and means nothing."""
        return self.module(ids, mask=self.mask(ids))

    def decode(self, logits: Tensor, ids: Tensor) -> list[list[Any]]:
        """What the program says for each token: a category, or a number as a float.

        Args:
            logits: (n, T, n_outputs).
            ids: (n, T) what they came from; padding is left out.
        """
        lengths = (self.mask(ids).sum(1) - 1).tolist()
        if self.outputs.encoding == CATEGORICAL:
            found = [[self.outputs.values[i] for i in row] for row in logits[:, 1:].argmax(-1).tolist()]
        else:
            found = logits[:, 1:, 0].tolist()
        return [row[:n] for row, n in zip(found, lengths, strict=True)]

    def run(self, sequences: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Encode, compute and decode; one list a sequence, as `interpreter.interpret` gives it."""
        ids = self.encode(sequences)
        with torch.no_grad():
            return self.decode(self.logits(ids), ids)


def compile_program(
    program: SOp, vocabulary: Sequence[Any], longest: int, *, scales: Scales | None = None, logit: float = 1.0
) -> Compiled:
    """Compile a program.

    The transformer has no norms, no biases, ReLU and full attention. It is exact at every length up to `longest`, with
    padding masked.

    Args:
        program: The output operator.
        vocabulary: All tokens, each once; they hash. A string is its letters.
        longest: Most tokens in a sequence.
        scales: Choices that change how it computes, not what.
        logit: What the head gives the right class; the others get 0.

    Raises:
        SpecError: A program that can't be compiled, every problem at once, or a vocabulary or length that can't be.

    Source: the stages of Lindner et al. 2023 (arXiv:2301.05062); the passes and their forms are our own.

    >>> from gnothi.testbeds.rasp.language import indices, select, selector_width, tokens
    >>> compile_program(selector_width(select(tokens, tokens, "==")), "ab", 4).run(["abba", "b"])
    [[2, 2, 2, 2], [1]]
    """
    scales = scales or Scales()
    domains = checked(program, vocabulary, longest)
    space = assigned(domains, names(program), share_at_beginning=scales.gain**2)
    layers = placed(components(domains, space, scales))
    module = assembled(program, domains, space, layers, n_tokens=len(vocabulary), longest=longest, logit=logit)
    return Compiled(
        program=program,
        module=module,
        vocabulary=tuple(vocabulary),
        longest=longest,
        outputs=domains[program],
        space=space,
        layers=layers,
    )
