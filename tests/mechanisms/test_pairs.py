"""Base, tuned and the line between them."""

import pytest
import torch
from decoders import kept, make, tokens
from families import family
from torch import nn

from gnothi.errors import ModelError
from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.pairs import Pair, differences, interpolated, twin
from gnothi.mechanisms.sites import Site
from gnothi.models.adapters import Adapter, AdapterSpec, new_lora
from gnothi.models.local import LocalModel

IDS = tokens()


def adapter(model: LocalModel, kind: str = "lora+rows") -> Adapter:
    """Random changes of every kind that can be trained; a large matrix and small ones."""
    draws = torch.Generator().manual_seed(4)
    module = model.with_adapter(None).module
    layers = [n for n, m in module.named_modules() if isinstance(m, nn.Linear) and "layers.1." in n]
    if kind == "full":
        name, parameter = next(iter(module.named_parameters()))
        full = {name: parameter.detach() + 0.1 * torch.randn(parameter.shape, generator=draws)}
        return Adapter(spec=AdapterSpec(kind="full"), full=full)
    spec = AdapterSpec(kind=kind, rank=2, alpha=3.0, targets=("all",), row_token_ids=(5, 7))
    pairs = new_lora(module, layers, 2, 0)
    lora = {n: (a, 0.2 * torch.randn(b.shape, generator=draws)) for n, (a, b) in pairs.items()}
    return Adapter(spec=spec, lora=lora, rows=torch.randn(2, 32, generator=draws))


@pytest.mark.parametrize("name", ["llama", "llama-tied", "qwen3", "gemma2", "gemma3", "gemma3-untied", "phi3"])
@pytest.mark.parametrize("kind", ["lora+rows", "full"])
def test_a_merged_adapter_says_what_an_attached_one_says(name: str, kind: str):
    model = family(name)
    found = adapter(model, kind)
    view = model.with_adapter(found)
    pair = Pair.of_adapter(view, found)  # whatever view it is given
    sites = anatomy(pair.base).sites()
    for one, other in ((view, pair.tuned), (model.with_adapter(None), pair.base)):
        logits, at = capture(one.module, IDS, sites)
        again, there = capture(other, IDS, sites)
        assert torch.allclose(logits, again, atol=1e-5 * float(logits.abs().max()))
        assert torch.allclose(capture(one.module, IDS, [], at=-1)[0], logits[:, -1], atol=1e-4)
        for site in sites:
            assert torch.allclose(at[site], there[site], atol=2e-5 * float(at[site].abs().max())), site
    assert view.module is model.with_adapter(None).module  # one module behind all views
    assert not torch.allclose(capture(pair.tuned, IDS, [])[0], capture(pair.base, IDS, [])[0], atol=1e-2)


def test_hooks_see_adapters_on_the_model():
    """Without merging: a LoRA in block 1 leaves block 0 alone and moves what block 1 writes."""
    model = family("gemma3")
    found = adapter(model, "lora+rows")
    only_lora = Adapter(spec=AdapterSpec(kind="lora", rank=2, alpha=3.0, targets=("all",)), lora=found.lora)
    sites = [Site("attn", 0), Site("mlp", 0), Site("attn", 1), Site("neurons", 1), Site("mlp", 1)]
    plain = capture(model.with_adapter(None).module, IDS, sites)[1]
    moved = capture(model.with_adapter(only_lora).module, IDS, sites)[1]
    assert [torch.equal(plain[s], moved[s]) for s in sites] == [True, True, False, False, False]
    model.with_adapter(None).module  # noqa: B018  (takes the adapter off)


def test_differences_are_what_was_planted():
    model = family("llama-tied")
    found = adapter(model)
    delta = differences(Pair.of_adapter(model, found))
    changed = {f"{name}.weight" for name in found.lora} | {"model.embed_tokens.weight"}
    assert set(delta) == changed  # the tied head is there once
    for name, (a, b) in found.lora.items():
        assert torch.allclose(delta[f"{name}.weight"], 1.5 * b @ a, atol=1e-5)
    rows = delta["model.embed_tokens.weight"]
    assert rows.any(-1).nonzero()[:, 0].tolist() == [5, 7]
    assert differences(Pair(kept("ours"), make("ours"))) == {}


def test_the_line_between_two_models_ends_at_both_exactly():
    base, tuned = make("ours-rms-tied"), make("ours-rms-tied")
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    pair = Pair(base, tuned)
    values = {n: p.clone() for n, p in base.named_parameters()}
    for t, end in ((0.0, base), (1.0, tuned)):
        with interpolated(pair, t) as module:
            assert module is not end
            assert torch.equal(capture(module, IDS, [])[0], capture(end, IDS, [])[0])
            assert module.head.weight is module.embed.weight
    with interpolated(pair, 0.25) as module:
        for name, parameter in module.named_parameters():
            expected = 0.75 * values[name] + 0.25 * dict(tuned.named_parameters())[name]
            assert torch.allclose(parameter, expected, atol=1e-6)
    with interpolated(pair, 1.0, names=["blocks.0.attn.o.weight"]) as module:
        moved = [n for n, p in module.named_parameters() if not torch.equal(p, values[n])]
        assert moved == ["blocks.0.attn.o.weight"]
    assert all(torch.equal(p, values[n]) for n, p in base.named_parameters())
    assert set(differences(pair.swapped())) == set(values)


def test_a_twin_shares_values_and_nothing_else():
    module = make("gemma3")
    other = twin(module)
    parameter, theirs = module.model.norm.weight, other.model.norm.weight
    assert theirs is not parameter and theirs.data_ptr() == parameter.data_ptr()
    parameter.data = torch.zeros_like(parameter)
    assert theirs.any()
    assert len({id(p) for p in module.parameters()} & {id(p) for p in other.parameters()}) == 0


def test_modules_that_are_no_pair_are_refused():
    with pytest.raises(ModelError, match=r"must have two modules, got one twice\. Use Pair.of_adapter"):
        Pair(kept("ours"), kept("ours"))
    with pytest.raises(
        ModelError, match=r"two modules of one shape, got \d+ parameters that differ, e.g. blocks.0.attn.k"
    ):
        Pair(kept("ours"), kept("ours-compiled"))
    with (
        pytest.raises(ModelError, match="must move parameters of the pair, got 'nowhere'"),
        interpolated(Pair(kept("ours"), make("ours")), 0.5, names=["nowhere"]),
    ):
        pass
