"""A shorter forward pass for plain Llama modules: the same numbers with less around them.

The organism is a Llama of a quarter million parameters, and there a third of a training step goes into what
transformers does around the arithmetic, and into the last block at positions whose logits nobody asked for. Here the
last block's queries, MLP and the head are computed at the wanted positions only. Embedding, linear layers and head are
called as modules, so adapters on them take part; with any other hook in the module, transformers does the work.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gnothi.models.forest import Forest


def applies(module: nn.Module, ours: Collection[int]) -> bool:
    """Whether `end_logits` gives what the module itself would give.

    Args:
        module: A causal language model.
        ours: Ids of hooks that may stay, because they are on embedding, linear layers or head and take any positions.
    """
    from transformers import LlamaForCausalLM

    if type(module) is not LlamaForCausalLM or module.config._attn_implementation != "sdpa" or module.training:
        return False
    for part in module.modules():
        if part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
            return False
        if part._forward_hooks and any(i not in ours for i in part._forward_hooks):
            return False
        if "forward" in part.__dict__ and not isinstance(part, nn.Linear):
            return False
    return True


def end_logits(module: Any, ids: Tensor, keep: int) -> Tensor:
    """Logits at the last positions of unpadded sequences.

    Args:
        module: A `LlamaForCausalLM` for which `applies` holds.
        ids: (batch, pos) token ids of equal length.
        keep: How many positions, >= 1.

    Returns:
        (batch, min(keep, pos), d_vocab).
    """
    body = module.model
    batch, length = ids.shape
    keep = min(keep, length)
    x = body.embed_tokens(ids)  # (batch, pos, d_model)
    turn = _Rotation(body, x, torch.arange(length, device=ids.device)[None])
    mask = None
    if 1 < keep < length:
        mask = torch.ones(keep, length, dtype=torch.bool, device=ids.device).tril(length - keep)
    last = len(body.layers) - 1
    for number, layer in enumerate(body.layers):
        attention = layer.self_attn
        n_keys = module.config.num_key_value_heads
        n_heads = module.config.num_attention_heads
        h = _norm(layer.input_layernorm, x)
        k = turn(attention.k_proj(h))
        v = attention.v_proj(h).view(batch, length, n_keys, -1).transpose(1, 2)
        start = 0
        if number == last and keep < length:
            start = length - keep
            h, x = h[:, start:], x[:, start:]
        q = turn(attention.q_proj(h), start)
        if n_heads > n_keys:
            k, v = (t.repeat_interleave(n_heads // n_keys, 1) for t in (k, v))
        if start:  # one query sees every key, several need the mask
            z = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=attention.scaling)
        else:
            z = functional.scaled_dot_product_attention(q, k, v, is_causal=length > 1, scale=attention.scaling)
        x = x + attention.o_proj(z.transpose(1, 2).reshape(batch, length - start, -1))
        h = _norm(layer.post_attention_layernorm, x)
        x = x + layer.mlp.down_proj(layer.mlp.act_fn(layer.mlp.gate_proj(h)) * layer.mlp.up_proj(h))
    return module.lm_head(_norm(body.norm, x[:, -keep:]))


def forest_logits(module: Any, forest: Forest, rows: Tensor, places: Tensor) -> Tensor:
    """Logits at some places of a forest.

    Args:
        module: A `LlamaForCausalLM` for which `applies` holds.
        forest: What it reads.
        rows: (n,) row of each place.
        places: (n,) place in its row.

    Returns:
        (n, d_vocab).
    """
    body = module.model
    batch, length = forest.ids.shape
    x = body.embed_tokens(forest.ids)
    turn = _Rotation(body, x, forest.depths if forest.ends is not None else forest.depths[:1])
    mask = None if forest.ends is None else forest.mask()
    for layer in body.layers:
        attention = layer.self_attn
        h = _norm(layer.input_layernorm, x)
        q, k = turn(attention.q_proj(h)), turn(attention.k_proj(h))
        v = attention.v_proj(h).view(batch, length, -1, turn.size).transpose(1, 2)
        if q.shape[1] > k.shape[1]:
            k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        z = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None and length > 1, scale=attention.scaling
        )
        x = x + attention.o_proj(z.transpose(1, 2).reshape(batch, length, -1))
        h = _norm(layer.post_attention_layernorm, x)
        x = x + layer.mlp.down_proj(layer.mlp.act_fn(layer.mlp.gate_proj(h)) * layer.mlp.up_proj(h))
    return module.lm_head(_norm(body.norm, x[rows, places][None]))[0]


class _Rotation:
    """Rotary positions: queries or keys (batch, pos, d) to (batch, head, pos, d_head)."""

    def __init__(self, body: Any, x: Tensor, positions: Tensor):
        cos, sin = body.rotary_emb(x, positions)
        self.half = cos.shape[-1] // 2
        self.size = 2 * self.half
        self.cos = cos[:, :, None]
        # signs of the rotation's swapped halves
        self.sin = torch.cat([-sin[..., : self.half], sin[..., self.half :]], -1)[:, :, None]

    def __call__(self, flat: Tensor, start: int = 0) -> Tensor:
        z = flat.view(*flat.shape[:2], -1, self.size)
        z = z * self.cos[:, start:] + z.roll(self.half, -1) * self.sin[:, start:]
        return z.transpose(1, 2)


def _norm(norm: Any, x: Tensor) -> Tensor:
    # in float32 whatever the type, as transformers does it
    scaled = functional.rms_norm(x.float(), x.shape[-1:], None, norm.variance_epsilon)
    return norm.weight * scaled.to(x.dtype)
