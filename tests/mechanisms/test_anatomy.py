"""The parts of every layout are where anatomy says, and nothing else is believed."""

import pytest
import torch
from decoders import DECODERS, kept, make, tokens
from torch import Tensor, nn

from gnothi.errors import ModelError
from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.sites import PATTERNS, Site
from gnothi.testbeds.transformer import Shape, Transformer

IDS = tokens()


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> nn.Module:
    return kept(request.param)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    a, b = a.detach(), b.detach()
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


def test_the_stream_is_the_sum_of_what_the_parts_write(decoder: nn.Module):
    body = anatomy(decoder)
    logits, at = capture(decoder, IDS, body.sites())
    for i in range(body.n_blocks):
        written = at[Site("attn", i)] + at[Site("mlp", i)]
        assert close(at[Site("resid", i)] + written, at[Site("resid", i + 1)])
    assert close(body.unembed(at[Site("resid", body.n_blocks)]), logits)
    if body.module.__class__.__name__ not in ("Transformer", "GPT2LMHeadModel"):  # these add positions
        assert torch.equal(at[Site("embed")], at[Site("resid", 0)])


def test_heads_and_neurons_are_what_the_last_matrices_read(decoder: nn.Module):
    body = anatomy(decoder)
    _, at = capture(decoder, IDS, body.sites(tuple(PATTERNS)))
    for i, parts in enumerate(body.blocks):
        heads = torch.cat([at[Site("head", i, h)] for h in range(body.n_heads)], -1)
        assert torch.equal(heads, at[Site("heads", i)])
        attn, mlp = parts.o(heads), parts.down(at[Site("neurons", i)])
        if parts.attn_writes is not parts.attn:
            attn, mlp = parts.attn_writes(attn), parts.mlp_writes(mlp)
        assert close(attn, at[Site("attn", i)])
        assert close(mlp, at[Site("mlp", i)])


def test_sizes_are_those_of_the_activations(decoder: nn.Module):
    body = anatomy(decoder)
    for site, value in capture(decoder, IDS, body.sites())[1].items():
        assert value.shape == (*IDS.shape, body.size(site))
    assert len(body.sites()) == 2 + body.n_blocks * (4 + body.n_heads)
    assert body.neurons(0) == body.n_neurons
    assert body.device.type == "cpu"


def test_logits_at_positions_are_those_of_all_positions(decoder: nn.Module):
    body, places = anatomy(decoder), torch.tensor([2, 8, 0])
    with torch.no_grad():
        whole = body.logits(IDS)
        assert close(body.logits(IDS, at=-1), whole[:, -1])
        assert close(body.logits(IDS, at=places), whole[range(3), places])
        assert not body.head._forward_pre_hooks


def test_padding_on_the_right_changes_nothing_before_it(decoder: nn.Module):
    body = anatomy(decoder)
    padded = torch.cat([IDS, torch.full((3, 4), 5)], 1)
    mask = torch.arange(13)[None].expand(3, -1) < 9
    with torch.no_grad():
        assert close(body.logits(padded, mask)[:, :9], body.logits(IDS))


def test_padding_on_the_left_changes_nothing_after_it():
    for name in ("llama", "gemma3", "phi3", "gpt2"):
        body = anatomy(kept(name))
        padded = torch.cat([torch.full((3, 4), 5), IDS], 1)
        with torch.no_grad():
            assert close(body.logits(padded, torch.arange(13)[None].expand(3, -1) >= 4)[:, 4:], body.logits(IDS))


def test_matrices_of_a_fused_layer_are_its_parts():
    body = anatomy(kept("phi3"))
    parts = body.block(0)
    attn, mlp = parts.attn, parts.mlp
    reads: dict[str, Tensor] = {}
    handle = parts.gate_up.register_forward_pre_hook(lambda _, args: reads.update(mlp=args[0]))
    other = parts.qkv.register_forward_pre_hook(lambda _, args: reads.update(attn=args[0]))
    _, at = capture(body.module, IDS[:, :1], [Site("heads", 0), Site("neurons", 0)])
    handle.remove(), other.remove()
    matrix = {name: m.value() for name, m in parts.matrices.items()}
    expected = nn.functional.silu(reads["mlp"] @ matrix["mlp.gate"].T) * (reads["mlp"] @ matrix["mlp.up"].T)
    assert close(at[Site("neurons", 0)], expected)
    # at a single position every head takes the value that is there; two heads share one
    value = (reads["attn"] @ matrix["attn.v"].T).unflatten(-1, (body.n_key_heads, -1)).repeat_interleave(2, -2)
    assert close(at[Site("heads", 0)], value.flatten(-2))
    assert matrix["attn.q"].shape == (32, 32)
    assert matrix["attn.k"].shape == (16, 32)
    assert mlp is body.module.model.layers[0].mlp and attn is body.module.model.layers[0].self_attn


def test_matrices_of_columns_are_turned():
    body = anatomy(kept("gpt2"))
    parts = body.block(1)
    assert parts.matrices["attn.v"].transposed
    assert parts.matrices["attn.v"].name == "transformer.h.1.attn.c_attn.weight"
    assert torch.equal(parts.matrices["attn.v"].value(), parts.attn.c_attn.weight[:, 64:].T)
    assert parts.matrices["mlp.down"].value().shape == (32, 128)


def test_writing_into_a_matrix_writes_into_the_model():
    module = make("phi3")
    with torch.no_grad():
        anatomy(module).block(0).matrices["attn.k"].value().zero_()
    weight = module.model.layers[0].self_attn.qkv_proj.weight
    assert not weight[32:48].any() and weight[:32].all() and weight[48:].all()


@pytest.mark.parametrize(
    "name, near",
    [
        ("block.7.mlp.out", "block.1.mlp.out"),
        ("resid.3", "resid.2"),
        ("block.0.attn.head.9.out", "block.0.attn.head.3.out"),
        ("block.2.attn.head.0.out", "block.1.attn.head.0.out"),
    ],
)
def test_a_site_that_the_model_has_not_is_answered_with_the_nearest(name: str, near: str):
    with pytest.raises(ModelError, match=f"2 blocks of 4 heads.*got {name}. The nearest is {near}."):
        anatomy(kept("llama")).site(name)
    with pytest.raises(ModelError, match="block must be 0 to 1, got 2"):
        anatomy(kept("llama")).block(2)


def test_a_module_of_another_kind_is_refused():
    with pytest.raises(ModelError, match=r"known layout .* got Linear with no list of blocks"):
        anatomy(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="got LlamaModel with no embedding, final norm, head or block"):
        anatomy(kept("llama").model)


class Doubled(nn.Module):
    """A block that adds twice what its attention gives."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + 2 * self.attn(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))


def test_a_layout_whose_parts_do_not_add_up_is_refused():
    module = make("ours")
    module.blocks[1] = Doubled(module.blocks[1])
    with pytest.raises(ModelError, match="gains something else in block 1"):
        anatomy(module)
    module = make("ours-rms-tied")
    module.head.register_forward_hook(lambda _, args, out: out.tanh())
    module.forward = lambda ids: 3 * type(module).forward(module, ids)
    with pytest.raises(ModelError, match="logits that are not its head's"):
        anatomy(module)


def test_a_model_that_diverged_is_still_read():
    module = make("ours")
    with torch.no_grad():
        module.blocks[1].mlp.down.weight.fill_(torch.nan)
    assert anatomy(module).n_blocks == 2


class Skipping(nn.Module):
    """An MLP that does not call its last layer."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.up, self.down = mlp.up, mlp.down

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.up(x)) @ self.down.weight.T


def test_a_part_that_is_not_called_is_refused():
    module = make("llama")
    module.model.layers[0].mlp = Skipping(kept("ours").blocks[0].mlp)
    with pytest.raises(ModelError, match=r"parts of block 0 that its forward pass does not use"):
        anatomy(module)


def test_a_model_in_training_is_read_and_left_in_training():
    module = Transformer(Shape(layers=1, heads=1, width=8, mlp=8, vocabulary=9, longest=3, dropout=0.5)).train()
    module.blocks[0].mlp.eval()
    assert anatomy(module).n_blocks == 1
    assert module.training and module.blocks[0].drop.training and not module.blocks[0].mlp.training
