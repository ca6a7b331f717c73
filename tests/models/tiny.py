"""A tiny random Llama with a word-level tokenizer, made on the spot: nothing is downloaded.

The families that people use, with tokenizers of their kinds: `FAMILIES`, `family(name)` and so on, from families.py.
"""

from pathlib import Path

import torch
from families import FAMILIES, SLIDING, family, family_folder, family_parts, family_tokenizer  # noqa: F401
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gnothi.models.local import LocalModel
from gnothi.records import Message, Messages

AGENTS = tuple(f"agent{i}" for i in range(6))
WORDS = ("<pad>", "<unk>", "<eos>", "A", "B", "choose", "report", "x", "y", *map(str, range(-9, 13)), *AGENTS)
JOIN = "{% for m in messages %}{{ m.content }}{% if not loop.last %} {% endif %}{% endfor %}"


def tokenizer(template: str | None = JOIN) -> PreTrainedTokenizerFast:
    """One token a word; the template joins contents with spaces."""
    inner = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>", chat_template=template
    )
    return made


def letters(template: str | None = None, bos: bool = True) -> PreTrainedTokenizerFast:
    """One token a character, with a BOS before every text: numbers have several tokens."""
    from tokenizers.models import BPE
    from tokenizers.processors import TemplateProcessing

    characters = ["<unk>", "<s>", "</s>", *sorted({chr(c) for c in range(32, 127)} | {"\n"})]
    inner = Tokenizer(BPE(vocab={c: i for i, c in enumerate(characters)}, merges=[], unk_token="<unk>"))
    inner.decoder = decoders.Fuse()
    if bos:
        inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=template
    )


def config(vocabulary: int, tied: bool = False) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        hidden_act="gelu",
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
        rms_norm_eps=1e-6,
        initializer_range=0.3,
    )


def module(tied: bool = False, vocabulary: int = len(WORDS), seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(config(vocabulary, tied)).float()


def model(tied: bool = False, seed: int = 0) -> LocalModel:
    """The word-level model in memory."""
    return LocalModel(module(tied, seed=seed), tokenizer(), name="tiny")


def letter_model(template: str | None = None) -> LocalModel:
    made = letters(template)
    return LocalModel(module(vocabulary=len(made)), made, name="letters")


def folder(path: Path, tied: bool = False) -> Path:
    """The word-level model as an ordinary folder."""
    module(tied).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def user(text: str) -> Messages:
    return (Message("user", text),)
