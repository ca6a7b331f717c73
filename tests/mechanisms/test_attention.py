"""Attention maps are what the model weighs by: with them, its values give what its heads hold."""

import pytest
import torch
from decoders import DECODERS, kept, tokens
from families import SLIDING
from torch import Tensor, nn

from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.attention import attention_maps
from gnothi.mechanisms.hooks import Zero, capture, intervened
from gnothi.mechanisms.sites import Site

IDS = tokens()


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> nn.Module:
    return kept(request.param)


def mixed(
    module: nn.Module, maps: list[Tensor], ids: Tensor, mask: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """For each block what the heads hold, and the maps times the values that the block's own layers give."""
    body = anatomy(module)
    values: dict[int, Tensor] = {}
    handles = []
    for i, parts in enumerate(body.blocks):
        layer = parts.v if parts.v is not None else parts.qkv
        handles.append(layer.register_forward_hook(lambda _, args, out, i=i: values.update({i: out})))
    _, at = capture(module, ids, [Site("heads", i) for i in range(body.n_blocks)], mask)
    for handle in handles:
        handle.remove()
    found = []
    for i in range(body.n_blocks):
        value = values[i][..., -body.n_key_heads * body.head_width :]  # the last of a fused layer
        value = value.unflatten(-1, (body.n_key_heads, -1)).transpose(1, 2)
        value = value.repeat_interleave(body.n_heads // body.n_key_heads, 1)
        found.append((at[Site("heads", i)], (maps[i] @ value).transpose(1, 2).flatten(2)))
    return found


def test_maps_times_values_are_what_the_heads_hold(decoder: nn.Module):
    maps = attention_maps(decoder, IDS)
    for held, again in mixed(decoder, maps, IDS):
        assert torch.allclose(held, again, atol=1e-5 * float(held.abs().max()))


def test_rows_sum_to_one_and_see_what_they_may(decoder: nn.Module):
    body = anatomy(decoder)
    maps = attention_maps(decoder, IDS)
    assert len(maps) == body.n_blocks
    causal = getattr(body.block(0).attn, "causal", True)
    for weights in maps:
        assert weights.shape == (3, body.n_heads, 9, 9)
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
        assert bool(weights.triu(1).any()) is not causal
        assert (weights >= 0).all()


def test_a_window_ends_where_the_model_says():
    maps = attention_maps(kept("gemma3"), tokens().repeat(1, 2))  # sliding, full, sliding
    far = torch.ones(18, 18).tril(-SLIDING) > 0
    assert not maps[0][..., far].any() and not maps[2][..., far].any()
    assert maps[1][..., far].all()


@pytest.mark.parametrize("name", ["ours", "ours-compiled", "llama", "gemma3", "gpt2"])
def test_padding_is_not_looked_at(name: str):
    module = kept(name)
    mask = torch.arange(9)[None] < torch.tensor([9, 6, 4])[:, None]
    maps = attention_maps(module, IDS, mask)
    for weights in maps:
        assert not weights[1, :, :6, 6:].any() and not weights[2, :, :4, 4:].any()
    for i, (held, again) in enumerate(mixed(module, maps, IDS, mask)):
        assert torch.allclose(held[mask], again[mask], atol=1e-5 * float(held.abs().max())), i
    alone = attention_maps(module, IDS[2:, :4])
    assert torch.allclose(maps[1][2, :, :4, :4], alone[1][0], atol=1e-5)


def test_theirs_are_those_of_transformers():
    for name in ("llama", "qwen3", "gemma2", "phi3"):
        module = kept(name)
        before = module.config._attn_implementation
        module.config._attn_implementation = "eager"
        with torch.no_grad():
            theirs = module(input_ids=IDS, output_attentions=True).attentions
        module.config._attn_implementation = before
        for ours, other in zip(attention_maps(module, IDS), theirs, strict=True):
            assert torch.equal(ours, other)
        assert module.config._attn_implementation == before


def test_interventions_take_part():
    module = kept("ours")
    plain = attention_maps(module, IDS)
    with intervened(module, [Zero("resid.1")]):
        changed = attention_maps(module, IDS)
    assert torch.equal(plain[0], changed[0])
    flat = 1 / torch.arange(1, 10)[:, None]
    assert torch.allclose(changed[1].tril(), flat.expand(9, 9).tril(), atol=1e-6)  # every position alike: evenly spread
