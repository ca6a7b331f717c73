"""Units: every one has its place, removing acts on nothing else, and everything is put back."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gnothi.errors import ModelError, SpecError
from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.hooks import Zero, intervened
from gnothi.mechanisms.pairs import Pair, twin
from gnothi.mechanisms.units import KINDS, Catalogue, Unit, restored, values_of, weight_units, zeroed
from gnothi.models.adapters import AdapterStack, LoraStack
from gnothi.testbeds.transformer import Shape, Transformer

SHAPE = Shape(layers=2, heads=2, width=8, mlp=12, vocabulary=7, longest=5)
IDS = torch.tensor([[1, 2, 3, 4, 5], [6, 5, 4, 3, 2]])


def ours() -> nn.Module:
    return Transformer(SHAPE, seed=3).eval()


def llama(keys: int = 2) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=7, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, head_dim=4
    )
    config.num_key_value_heads = keys
    return LlamaForCausalLM(config).eval()


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=7, n_positions=8, n_embd=8, n_layer=2, n_head=2, n_inner=12)).eval()


def phi3() -> nn.Module:
    from transformers import Phi3Config, Phi3ForCausalLM

    config = Phi3Config(
        vocab_size=7, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, pad_token_id=0
    )
    return Phi3ForCausalLM(config).eval()


MODELS = {"ours": ours, "llama": llama, "gpt2": gpt2, "phi3": phi3}


def values(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> int:
    return sum(int((before[name] != p).sum()) for name, p in module.named_parameters())


def logits(module: nn.Module) -> Tensor:
    with torch.no_grad():
        return anatomy(module).logits(IDS)


def test_the_paper_counts_1728_rows_in_a_block_of_its_size():
    module = Transformer(Shape(layers=2, heads=6, width=192, mlp=768, vocabulary=10, longest=4))
    assert len(weight_units(module, "rows")) == 2 * 1728


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind, n", [("weights", 2 * (4 * 64)), ("rows", 0), ("neurons", 24), ("heads", 4)])
def test_units_are_numbered_by_place_and_read_back(model: str, kind: str, n: int):
    units = Catalogue(MODELS[model](), kind)
    mlp = 3 if model in ("llama", "phi3") else 2
    expected = {"weights": 2 * (4 * 64 + mlp * 96), "rows": 2 * (4 * 8 + (mlp - 1) * 12 + 8)}.get(kind, n)
    assert len(units) == expected
    found = list(units)
    assert len(set(found)) == expected and [units.number(unit) for unit in found] == list(range(expected))
    assert [Unit.parse(str(unit)) for unit in found] == found


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind, entries", [("weights", 1), ("rows", 8), ("neurons", 8), ("heads", 32)])
def test_zeroing_touches_the_unit_and_is_put_back_bit_for_bit(model: str, kind: str, entries: int):
    module = MODELS[model]()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.01  # no entry is 0 by itself
    before, out = values(module), logits(module)
    with pytest.raises(KeyError, match="inside"), zeroed(module, [weight_units(module, kind)[0]]):
        assert changed(module, before) == entries
        assert not torch.equal(logits(module), out)
        raise KeyError("inside")
    assert changed(module, before) == 0 and torch.equal(logits(module), out)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "unit, site, which",
    [
        (Unit("neurons", 1, "mlp.neuron", (4,)), "block.1.mlp.neurons", [4]),
        (Unit("heads", 0, "attn.head", (1,)), "block.0.attn.head.1.out", None),
    ],
)
def test_a_zeroed_neuron_or_head_is_silent(model: str, unit: Unit, site: str, which: Any):
    module = MODELS[model]()
    with intervened(module, [Zero(site, units=which)]):
        expected = logits(module)
    with zeroed(module, [unit]):
        assert torch.allclose(logits(module), expected, atol=1e-6)
    assert not torch.allclose(logits(module), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["weights", "rows"])
def test_undoing_every_unit_of_a_change_to_the_matrices_gives_the_base_back(kind: str):
    base = llama()
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for block in anatomy(tuned).blocks:
            for matrix in block.matrices.values():
                matrix.value().add_(0.1 * torch.randn(matrix.value().shape))
    assert not torch.allclose(logits(tuned), logits(base))
    with restored(Pair(base, tuned), list(weight_units(tuned, kind))):
        assert torch.equal(logits(tuned), logits(base))
    with restored(Pair(base, tuned), []):
        assert not torch.allclose(logits(tuned), logits(base))


@pytest.mark.parametrize("keys, entries", [(2, 4 * 32), (1, 2 * 32)])
def test_undoing_a_head_takes_keys_and_values_along_unless_they_are_shared(keys: int, entries: int):
    base = llama(keys)
    tuned = twin(base, {name: p.detach() + 1 for name, p in base.named_parameters()})
    before = values(tuned)
    with restored(Pair(base, tuned), [Unit("heads", 0, "attn.head", (1,))]):
        assert changed(tuned, before) == entries


def test_a_model_that_shares_matrices_keeps_them():
    base = ours()
    tuned = twin(base)
    expected = logits(base)
    with zeroed(tuned, list(weight_units(tuned, "heads"))):
        assert torch.equal(logits(base), expected) and not torch.equal(logits(tuned), expected)


def test_sums_add_up_the_entries_of_each_unit():
    module = llama()
    ones = {name: torch.ones_like(p) for name, p in module.named_parameters()}
    found = {
        kind: (Catalogue(module, kind).sums(ones), Catalogue(module, kind).sums(ones, undo=True)) for kind in KINDS
    }
    assert found["weights"][0].eq(1).all() and found["neurons"][0].eq(8).all() and found["heads"][0].eq(32).all()
    assert found["neurons"][1].eq(8 + 8 + 8).all() and found["heads"][1].eq(4 * 32).all()
    assert found["rows"][0].sum() == found["weights"][0].sum()


def test_sums_over_rows_agree_with_plain_indexing_where_matrices_are_fused_or_transposed():
    for model in ("gpt2", "phi3"):
        module = MODELS[model]()
        units = Catalogue(module, "rows")
        sums = units.sums(values_of(module))
        for i in (0, 9, 20, 30, len(units) - 1):
            unit = units[i]
            row = anatomy(module).block(unit.block).matrices[unit.part].value()[unit.index[0]]
            assert sums[i].item() == pytest.approx(row.double().sum().item())


def test_wrong_units_are_refused_with_the_nearest_right_ones():
    module = ours()
    with pytest.raises(SpecError, match=r"got 'neuron'\. Did you mean neurons"):
        weight_units(module, "neuron")
    units = weight_units(module, "rows")
    with pytest.raises(SpecError, match=r"from 0 to 104 \(the rows of this module\), got 105. Choose fewer"):
        units.check_count(105)
    with pytest.raises(SpecError, match=r"got block.0.mlp.gate\[0\]. The nearest place is block.0."):
        units.number(Unit("rows", 0, "mlp.gate", (0,)))
    with pytest.raises(SpecError, match=r"place of 8 rows, got block.0.attn.q\[8\]"):
        units.number(Unit("rows", 0, "attn.q", (8,)))
    with pytest.raises(SpecError, match=r"written like block\.1\.attn\.v"):
        Unit.parse("block.1.attn.v.3")
    with (
        pytest.raises(SpecError, match="one kind, got heads and rows"),
        zeroed(module, [Unit("rows", 0, "attn.q", (0,)), Unit("heads", 0, "attn.head", (0,))]),
    ):
        pass
    with pytest.raises(SpecError, match="number from 0 to 103, got 105"), units.removed([105]):
        pass
    stack = AdapterStack()
    stack.loras = [LoraStack({"blocks.1.attn.q": (torch.ones(1, 1, 8), torch.ones(1, 8, 1))}, 1.0)]
    module.get_output_embeddings = lambda: module.head
    with (
        stack.on(module),
        pytest.raises(ModelError, match=r"adapter beside blocks\.1\.attn\.q\.weight\. Prune the tuned member"),
    ):
        weight_units(module, "rows")
    module = ours()
    small = Transformer(Shape(layers=1, heads=2, width=8, mlp=12, vocabulary=7, longest=5))
    with pytest.raises(ModelError, match=r"same matrices, got another blocks\.1"):
        values_of(small, like=module)
