"""Small models of every layout that `mechanisms.anatomy` reads, with values large enough that every part matters."""

import functools

import torch
from families import family_parts
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from gnothi.testbeds.transformer import Shape, Transformer

OURS = {
    "ours": {"norm": "layer", "heads": 2},
    "ours-compiled": {"norm": "none", "heads": 3, "head_width": 5, "causal": False, "bias": False},
    "ours-rms-tied": {"norm": "rms", "heads": 4, "tied": True, "activation": "gelu", "dropout": 0.1},
}
FAMILIES = ("llama", "llama-tied", "qwen2", "qwen3", "gemma2", "gemma3", "mistral", "phi", "phi3")
DECODERS = (*OURS, *FAMILIES, "gpt2")


def make(name: str) -> nn.Module:
    """A new model with random values; at least 50 tokens and 32 positions."""
    if name in OURS:
        made: nn.Module = Transformer(Shape(layers=2, width=32, mlp=48, vocabulary=60, longest=32, **OURS[name]))
    elif name == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "bos_token_id": 1, "eos_token_id": 2}
        made = GPT2LMHeadModel(GPT2Config(vocab_size=60, initializer_range=0.3, **sizes))
    else:
        return family_parts(name)[0]
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            scale = 0.2 if parameter.ndim == 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape, generator=draws) * scale + (parameter.ndim == 1))
    return made.eval()


@functools.cache
def kept(name: str) -> nn.Module:
    """The same, made once: not to be changed."""
    return make(name)


def tokens(seed: int = 1) -> Tensor:
    """(3, 9) tokens that every model has."""
    return torch.randint(3, 50, (3, 9), generator=torch.Generator().manual_seed(seed))
