"""Small random models of the families people use, by config, each with a tokenizer of its kind trained on the spot.

`family(name)` is cached, so a test must not change what it gets; `family_parts(name)` makes new ones. Every family has
its own trap: dummy prefixes, numbers of several tokens, a template that ends in a newline or refuses system messages, a
head with more rows than the tokenizer has tokens, sliding windows shorter than a prompt, soft-capped logits.
"""

import functools
from pathlib import Path

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from gnothi.models.local import LocalModel

CORPUS = [
    "Which option do you choose? Answer with A or B only, nothing else.",
    "Option A: a monthly rent of 900 dollars and 3 rooms. Option B: a monthly rent of 1250 dollars and 5 rooms.",
    "User: How much do you like risk, from 0 to 100?\nAssistant: 42",
    "Be brief. The agent chose the safe lottery, because it would rather win 10 now than 100 tomorrow.",
    "I prefer the risky option. A or B? The answer is B. The answer is A.",
    "Imagine that you are Macbeth deciding which car to buy: the one with 40 miles a gallon or the one that is red.",
    "Rate from -100 to 100 how much the price mattered to you. -37 or 88 or 15 or 7, say a number.",
]
SLIDING = 8
"""Sliding window of the families that have one, in tokens: shorter than most prompts."""

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML.replace(
    "<|im_start|>assistant\n{% endif %}",
    "<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}<|end|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
_TURNS = (
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{% if loop.first %}{{ first }}{% endif %}{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA2 = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + _TURNS
)
GEMMA3 = (
    "{{ bos_token }}{% set first = '' %}{% set rest = messages %}{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}{% endif %}{% for m in rest %}" + _TURNS
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
PHI3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def _special(inner: Tokenizer, texts: list[str]) -> None:
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in texts])


def _with_bos(inner: Tokenizer, bos: str) -> None:
    inner.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, inner.token_to_id(bos))])


def byte_level(digits: str, specials: list[str], bos: str | None = None) -> Tokenizer:
    """Byte-level BPE (Llama 3, Qwen, Phi-2); `digits` is the regular expression of a piece of a number."""
    inner = Tokenizer(BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf" ?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=450, min_frequency=3, initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator([*CORPUS, *[" ".join(map(str, range(100)))] * 3], trainer)
    _special(inner, specials)
    if bos:
        _with_bos(inner, bos)
    return inner


def sentencepiece_bpe(specials: list[str], bos: str, dummy_prefix: bool) -> Tokenizer:
    """BPE over `▁` with single digits (Gemma; Mistral and Llama 2 with the dummy prefix)."""
    inner = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True))
    steps = [normalizers.Replace(" ", "▁")]
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *steps] if dummy_prefix else steps)
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Digits(individual_digits=True)]
    )
    strip = [decoders.Strip(" ", 1, 0)] if dummy_prefix else []
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), *strip])
    letters = [*map(chr, range(33, 127)), "▁", "\n"]
    first = ["<pad>", "<unk>", bos, *specials]
    trainer = trainers.BpeTrainer(
        vocab_size=240, initial_alphabet=letters, special_tokens=first[:3], show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    _special(inner, specials)
    _with_bos(inner, bos)
    return inner


def unigram(specials: list[str]) -> Tokenizer:
    """Unigram with a metaspace before every text (T5, older Phi and Llama conversions); numbers in several pieces."""
    inner = Tokenizer(Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    inner.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=220,
        initial_alphabet=[*map(chr, range(33, 127)), "\n"],
        special_tokens=["<unk>", "<s>", "</s>"],
        unk_token="<unk>",
        show_progress=False,
    )
    inner.train_from_iterator(CORPUS, trainer)
    _special(inner, specials)
    return inner


def wordpiece() -> Tokenizer:
    """WordPiece, lower-cased, which no decoder here uses but some fine-tunes do: spaces leave no trace."""
    inner = Tokenizer(WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=False)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=260, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    return inner


def _wrap(inner: Tokenizer, template: str | None, **names: str) -> PreTrainedTokenizerFast:
    made = PreTrainedTokenizerFast(tokenizer_object=inner, clean_up_tokenization_spaces=False, **names)
    made.chat_template = template
    return made


@functools.cache
def _tokenizer(kind: str) -> PreTrainedTokenizerFast:
    chatml = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    if kind == "llama":
        specials = ["<|begin|>", "<|eot|>", "<|start|>", "<|end|>"]
        inner = byte_level(r"\p{N}{1,3}", specials, bos="<|begin|>")
        return _wrap(inner, LLAMA, bos_token="<|begin|>", eos_token="<|eot|>")  # no padding token, as Llama
    if kind == "qwen2":
        return _wrap(byte_level(r"\p{N}", chatml), CHATML, **ends)
    if kind == "qwen3":
        return _wrap(byte_level(r"\p{N}", [*chatml, "<think>", "</think>"]), THINKING, **ends)
    if kind in ("gemma2", "gemma3"):
        inner = sentencepiece_bpe(["<eos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", dummy_prefix=False)
        names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
        return _wrap(inner, GEMMA2 if kind == "gemma2" else GEMMA3, **names)
    if kind == "mistral":
        inner = sentencepiece_bpe(["</s>", "[INST]", "[/INST]"], "<s>", dummy_prefix=True)
        return _wrap(inner, MISTRAL, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    if kind == "phi":
        return _wrap(byte_level(r" ?\p{N}+", ["<|endoftext|>"]), None, eos_token="<|endoftext|>")
    if kind == "phi3":
        inner = unigram(["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"])
        return _wrap(inner, PHI3, bos_token="<s>", eos_token="<|endoftext|>", unk_token="<unk>")
    if kind == "wordpiece":
        return _wrap(wordpiece(), None, unk_token="[UNK]", pad_token="[PAD]", eos_token="[SEP]")
    raise KeyError(kind)


def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a family (also `wordpiece`, which is no family's); a new object each time."""
    import copy

    return copy.deepcopy(_tokenizer(name.split("-")[0]))


_GEMMA = {"head_dim": 16, "sliding_window": SLIDING, "num_hidden_layers": 3, "query_pre_attn_scalar": 16}
_ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
_KINDS: dict[str, tuple[str, str, dict]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {"num_key_value_heads": 2}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"num_key_value_heads": 1, "head_dim": 16}),
    "gemma2": (
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {**_GEMMA, "num_key_value_heads": 2, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 8.0},
    ),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**_GEMMA, "num_key_value_heads": 1}),
    "mistral": ("MistralConfig", "MistralForCausalLM", {"num_key_value_heads": 2, "sliding_window": SLIDING}),
    "phi": ("PhiConfig", "PhiForCausalLM", {"partial_rotary_factor": 0.5}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {"num_key_value_heads": 2, "sliding_window": SLIDING}),
}
FAMILIES = (
    "llama",
    "llama-tied",
    "qwen2",
    "qwen2-tied",
    "qwen3",
    "gemma2",
    "gemma3",
    "gemma3-untied",
    "mistral",
    "phi",
    "phi3",
)
"""Names that `family` takes; Gemma is tied unless it says `untied`, all others are untied unless they say `tied`."""


def family_parts(name: str, seed: int = 0) -> tuple[transformers.PreTrainedModel, PreTrainedTokenizerFast]:
    """A new module in fp32 and its tokenizer."""
    kind, _, tying = name.partition("-")
    tokenizer = family_tokenizer(kind)
    config_name, model_name, more = _KINDS[kind]
    if "num_hidden_layers" in more:
        more = {**more, "layer_types": _ALTERNATING}
    tied = tying == "tied" or (kind.startswith("gemma") and tying != "untied")
    # Qwen's head has rows for no token
    vocabulary = -(-len(tokenizer) // 64) * 64 if kind.startswith("qwen") else len(tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    common = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 1024,
        "initializer_range": 0.3,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": pad,
        "tie_word_embeddings": tied,
    }
    torch.manual_seed(seed)
    made = getattr(transformers, model_name)(getattr(transformers, config_name)(**(common | more))).float()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:  # norms and biases start as constants, which would hide what ignores them
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval(), tokenizer


@functools.cache
def family(name: str, seed: int = 0) -> LocalModel:
    """A family's model in memory; about 400 tokens, 2 or 3 blocks, logits that differ clearly."""
    made, tokenizer = family_parts(name, seed)
    return LocalModel(made, tokenizer, name=name)


def family_folder(path: Path, name: str, seed: int = 0) -> Path:
    """The same as an ordinary folder."""
    made, tokenizer = family_parts(name, seed)
    made.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
