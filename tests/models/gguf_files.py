"""GGUF files of small models, written as llama.cpp's converter writes them: what the tests of reading GGUF read."""

import json

import families
import numpy as np
import pytest

gguf = pytest.importorskip("gguf")

ARCHITECTURES = ("llama", "qwen2", "gemma2", "gemma3")


def permuted(weight, heads):
    """Rows of queries and keys as llama.cpp stores them: its rotary pairs are neighbours, transformers' are half a head apart."""
    out, width = weight.shape
    return weight.reshape(heads, 2, out // heads // 2, width).swapaxes(1, 2).reshape(out, width)


def write(path, module, tokenizer, family, *, leave_out=(), more=None, extra=None, architecture=None, quantised=False):
    """Write a module and its tokenizer.

    Args:
        path: The file.
        module: One of `families`.
        tokenizer: Its tokenizer, byte-level BPE or BPE over `▁`.
        family: One of `ARCHITECTURES`.
        leave_out: GGUF names of tensors that are not written.
        more: Further metadata, key to text or number.
        extra: Further tensors, by GGUF name.
        architecture: What the file calls itself instead.
        quantised: Whether matrices are written in Q8_0.
    """
    config = module.config
    writer = gguf.GGUFWriter(path, architecture or family)
    writer.add_name(f"tiny {family}")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if quantised else gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head)
    writer.add_value_length(head)
    if family.startswith("gemma"):
        writer.add_sliding_window(config.sliding_window)
        if family == "gemma2":
            writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
            writer.add_final_logit_softcapping(config.final_logit_softcapping)
    else:
        writer.add_rope_dimension_count(head)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    for key, value in (more or {}).items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_float32(key, value)
    _vocabulary(writer, tokenizer, config.vocab_size)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, family.upper()), config.num_hidden_layers)
    for name, tensor in module.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if theirs in leave_out:
            continue
        values = tensor.numpy().astype(np.float32)
        if family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            values = permuted(values, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        if family.startswith("gemma") and "norm" in name:
            values = values + 1
        if quantised and values.ndim == 2 and values.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(theirs, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(theirs, values)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary(writer, tokenizer, size):
    inner = json.loads(tokenizer.backend_tokenizer.to_str())
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.get_added_vocab()) | {t for t in (tokenizer.unk_token, tokenizer.pad_token) if t}
    kinds = [gguf.TokenType.CONTROL if p in special else gguf.TokenType.NORMAL for p in pieces]
    pieces += [f"[PAD{i}]" for i in range(len(pieces), size)]
    kinds += [gguf.TokenType.UNUSED] * (size - len(kinds))
    merges = [m if isinstance(m, str) else " ".join(m) for m in inner["model"]["merges"]]
    spaced = "▁" in pieces
    writer.add_tokenizer_model("llama" if spaced else "gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    if spaced:
        ranks = {m.replace(" ", ""): -float(i + 1) for i, m in enumerate(merges)}
        writer.add_token_scores([ranks.get(p, -1e4) for p in pieces])
        writer.add_add_space_prefix(False)
    writer.add_token_merges(merges)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
        writer.add_add_bos_token(True)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(tokenizer.unk_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def gguf_parts(family):
    """A family's model as GGUF can state it: layers alternate by the family's own rule."""
    module, tokenizer = families.family_parts(family)
    if not family.startswith("gemma"):
        return module, tokenizer
    config = module.config.to_dict()
    for name in ("layer_types", "_sliding_window_pattern"):
        config.pop(name, None)
    made = type(module)(type(module.config)(**config)).eval()
    made.load_state_dict(module.state_dict())
    return made, tokenizer


def write_gguf(path, family="llama", **options):
    """Write a family's model; returns its module and tokenizer."""
    module, tokenizer = gguf_parts(family)
    write(path, module, tokenizer, family.split("-")[0], **options)
    return module, tokenizer
