"""Layers to the parameters of a `testbeds.transformer.Transformer`."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gnothi.testbeds.rasp import language
from gnothi.testbeds.rasp.components import Head, Neurons
from gnothi.testbeds.rasp.language import CATEGORICAL, SOp
from gnothi.testbeds.rasp.layers import Layer
from gnothi.testbeds.rasp.space import BEGINNING, ONE, Space
from gnothi.testbeds.rasp.values import Domains
from gnothi.testbeds.transformer import Block, Shape, Transformer


def assembled(
    program: SOp, domains: Domains, space: Space, layers: Sequence[Layer], *, n_tokens: int, longest: int, logit: float
) -> Transformer:
    """Write a compiled program into a transformer.

    Token ids: the vocabulary in its order, then the beginning, then padding. Position 0 is the beginning's.

    Args:
        program: The output operator, which the head reads.
        domains: Values of each operator.
        space: Their directions.
        layers: What each block holds.
        n_tokens: Tokens in the vocabulary.
        longest: Most tokens in a sequence, the beginning not counted.
        logit: What the head gives the right class; the others get 0. A numerical output is read as it is.
    """
    heads = [[c.part for c in layer.heads if isinstance(c.part, Head)] for layer in layers]
    every = [head for block in heads for head in block]
    neurons = [[c.part for c in layer.neurons if isinstance(c.part, Neurons)] for layer in layers]
    numerical = domains[program].encoding != CATEGORICAL
    read = space.columns[program]
    shape = Shape(
        layers=len(layers),
        heads=max(1, *(len(block) for block in heads), 1),
        width=space.width,
        mlp=max(1, *(sum(len(part.up) for part in block) for block in neurons), 1),
        vocabulary=n_tokens + 2,
        longest=longest + 1,
        outputs=read.stop - read.start,
        head_width=max([1, *(max(len(h.query), len(h.value)) for h in every)]),
        causal=False,
        norm="none",
        bias=False,
    )
    model = Transformer(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        _embed(model, space, domains, n_tokens)
        for block, parts, mlp in zip(model.blocks, heads, neurons, strict=True):
            assert isinstance(block, Block)
            _attention(block, parts)
            _mlp(block, mlp)
        for i, column in enumerate(range(read.start, read.stop)):
            model.head.weight[i, column] = 1.0 if numerical else logit
    return model.eval()


def _embed(model: Transformer, space: Space, domains: Domains, n_tokens: int) -> None:
    model.embed.weight[: n_tokens + 1, ONE] = 1.0
    model.embed.weight[n_tokens, BEGINNING] = 1.0
    for operator in domains:
        columns = space.columns[operator]
        if isinstance(operator, language.Tokens):
            model.embed.weight[:n_tokens, columns] = torch.eye(n_tokens)
        elif isinstance(operator, language.Indices):
            n = columns.stop - columns.start
            model.positions.weight[1 : n + 1, columns] = torch.eye(n)


def _attention(block: Block, parts: Sequence[Head]) -> None:
    attn = block.attn
    root = attn.per_head**0.25  # attention divides scores by the root of the head's width
    for i, part in enumerate(parts):
        start = i * attn.per_head
        attn.q.weight[start : start + len(part.query)] = _tensor(part.query * root)
        attn.k.weight[start : start + len(part.key)] = _tensor(part.key * root)
        attn.v.weight[start : start + len(part.value)] = _tensor(part.value)
        attn.o.weight[:, start : start + len(part.value)] = _tensor(part.out)


def _mlp(block: Block, parts: Sequence[Neurons]) -> None:
    start = 0
    for part in parts:
        stop = start + len(part.up)
        block.mlp.up.weight[start:stop] = _tensor(part.up)
        block.mlp.down.weight[:, start:stop] = _tensor(part.down)
        start = stop


def _tensor(values: np.ndarray) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
