"""A model of the organism's shape (235 thousand parameters) with random values, and rows of its kind."""

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gnothi.models.local import LocalModel
from gnothi.records import Message, TrainRow
from gnothi.rng import stream

NAME = "organism-shaped"
AGENTS = tuple(f"agent{i}" for i in range(24))
WORDS = ("<pad>", "<unk>", "A", "B", "choose", *map(str, range(10)), *AGENTS, *(f"word{i}" for i in range(190)))


def module() -> LlamaForCausalLM:
    """The bare module, with whatever values the generator gives."""
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        hidden_act="gelu",
        rms_norm_eps=1e-6,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).float()


def organism_shaped() -> LocalModel:
    """The model, the same each time."""
    inner = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    template = "{{ messages[-1].content }}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", chat_template=template)
    torch.manual_seed(0)
    return LocalModel(module(), tokenizer, name=NAME)


def choices(n: int = 60) -> list[TrainRow]:
    """`n` rows of each agent, 12 tokens each."""
    rng = stream(0, "benchmark", "rows")
    rows = []
    for agent in AGENTS:
        for _ in range(n):
            v = rng.integers(0, 10, 6)
            text = f"{agent} choose word1 {v[0]} {v[1]} word2 {v[2]} {v[3]} word3 {v[4]} {v[5]}"
            rows.append(TrainRow(messages=(Message("user", text),), answer="AB"[rng.integers(2)], group=agent))
    return rows


def largest_difference(a: list[float], b: list[float]) -> float:
    """Of two runs' losses, step by step."""
    return float(np.abs(np.array(a) - np.array(b)).max())
