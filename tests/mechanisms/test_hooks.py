"""Interventions do what they say, where they say it, and are gone afterwards."""

import copy

import pytest
import torch
from decoders import DECODERS, kept, make, tokens
from families import family
from torch import nn

from gnothi.errors import DataError, ModelError
from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.hooks import Add, MeanAblate, Replace, Resample, Scale, Zero, capture, intervened
from gnothi.mechanisms.sites import Site
from gnothi.models.local_attention import by_blocks
from gnothi.records import Message

SITE = "block.1.attn.head.1.out"
IDS = tokens()


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> nn.Module:
    return kept(request.param)


def hooks_on(module: nn.Module) -> int:
    """How many hooks there are on a module and its parts."""
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_every_site_of_every_layout_takes_what_is_put_there(decoder: nn.Module):
    body = anatomy(decoder)
    for site in body.sites():
        value = torch.randn(body.size(site), generator=torch.Generator().manual_seed(2))
        with intervened(decoder, [Replace(site, value)]):
            _, at = capture(decoder, IDS, [site])
        assert torch.equal(at[site], value.expand_as(at[site])), site
    assert hooks_on(decoder) == 0


def test_putting_back_what_was_there_changes_nothing(decoder: nn.Module):
    body = anatomy(decoder)
    logits, at = capture(decoder, IDS, body.sites())
    with intervened(decoder, [Replace(site, value) for site, value in at.items()]), torch.no_grad():
        assert torch.equal(body.logits(IDS), logits)


def test_a_site_carries_everything_to_the_logits(decoder: nn.Module):
    """Another input's stream, put in whole, gives the other input's logits."""
    body, other = anatomy(decoder), IDS.flip(0)
    for site in (Site("resid", i) for i in range(body.n_blocks + 1)):
        wanted, at = capture(decoder, other, [site])
        with intervened(decoder, [Replace(site, at[site])]), torch.no_grad():
            assert torch.allclose(body.logits(IDS), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "positions, places",
    [
        (2, [[2]] * 3),
        (-1, [[8]] * 3),
        ([0, -2], [[0, 7]] * 3),
        (torch.tensor([1, -1, 4]), [[1], [8], [4]]),
        (torch.arange(27).view(3, 9) % 10 == 0, [[0], [1], [2]]),
        (None, [list(range(9))] * 3),
        ([], [[]] * 3),
    ],
)
@pytest.mark.parametrize("units", [[0, 3], torch.tensor([-8, 3]), torch.tensor([1, 0, 0, 1, 0, 0, 0, 0]) > 0])
def test_positions_and_units_are_those_named(positions, places, units):
    module = kept("llama")
    before = capture(module, IDS, [SITE])[1][Site.parse(SITE)]
    with intervened(module, [Add(SITE, 1.0, positions=positions, units=units)]):
        after = capture(module, IDS, [SITE])[1][Site.parse(SITE)]
    expected = torch.zeros_like(before)
    for row, at in enumerate(places):
        for place in at:
            expected[row, place, [0, 3]] = 1
    assert torch.equal(after, before + expected)


def test_each_intervention_does_what_it_says():
    module, site = kept("gemma3"), Site("mlp", 1)
    before = capture(module, IDS, [site])[1][site]
    mean, other = before.mean((0, 1)), before + 3
    for one, expected in (
        (Replace(site, other), other),
        (Add(site, mean), before + mean),
        (Scale(site, 0.5), before * 0.5),
        (Zero(site), 0 * before),
        (MeanAblate(site, mean), mean.expand_as(before)),
        (Resample(site, other, [2, 0, 0]), other[[2, 0, 0]]),
        (Resample(site, None, torch.tensor([1, 2, 0])), before[[1, 2, 0]]),
    ):
        with intervened(module, [one]):
            assert torch.allclose(capture(module, IDS, [site])[1][site], expected), one


def test_several_at_one_place_act_in_order():
    module = kept("phi3")
    sites = [Site("head", 0, h) for h in range(4)]
    before = capture(module, IDS, sites)[1]
    todo = [Add(sites[0], 1.0), Zero(sites[2]), Scale(sites[0], 2.0), Add(Site("heads", 0), 1.0, units=31)]
    with intervened(module, todo):
        after = capture(module, IDS, sites)[1]
    assert torch.allclose(after[sites[0]], 2 * (before[sites[0]] + 1))
    assert torch.equal(after[sites[1]], before[sites[1]])
    assert not after[sites[2]].any()
    assert torch.equal(after[sites[3]][..., :-1], before[sites[3]][..., :-1])
    assert torch.allclose(after[sites[3]][..., -1], before[sites[3]][..., -1] + 1)


def test_everything_is_restored_also_after_an_exception():
    module = make("gemma2")
    body, parameters = anatomy(module), {n: p.clone() for n, p in module.named_parameters()}
    logits, at = capture(module, IDS, body.sites())
    copies = {site: value.clone() for site, value in at.items()}
    with pytest.raises(KeyError), intervened(module, [Zero("resid.1"), Scale(SITE, 2.0)]):
        capture(module, IDS, body.sites())
        raise KeyError
    with pytest.raises(DataError), intervened(module, [Zero("resid.0"), Zero("resid.1", positions=99)]):
        body.logits(IDS)
    assert hooks_on(module) == 0
    assert torch.equal(capture(module, IDS, [])[0], logits)
    assert all(torch.equal(value, copies[site]) for site, value in at.items())
    assert all(torch.equal(p, parameters[n]) for n, p in module.named_parameters())


def test_a_site_that_was_never_reached_is_an_error():
    module = kept("llama")
    with (
        pytest.raises(ModelError, match=r"must reach every site, got no activations at block.1.mlp.out\. Call the"),
        intervened(module, [Zero("block.1.mlp.out"), Zero("block.0.mlp.out")]),
    ):
        module.model.layers[0].mlp(torch.zeros(1, 1, 32))
    with (
        pytest.raises(ModelError, match=r"The nearest is block\.1\.mlp\.out"),
        intervened(module, [Zero("block.5.mlp.out")]),
    ):
        pass


def test_gradients_pass_through():
    """A steering vector can be learned, and a replaced activation gets no gradient."""
    module = kept("qwen3")
    vector = torch.zeros(32, requires_grad=True)
    with intervened(module, [Add("resid.1", vector, positions=3)]):
        logits, at = capture(module, IDS, ["embed", "resid.1"], grad=True)
    logits[:, 3, 7].sum().backward(inputs=[vector, at[Site("embed")], at[Site("resid", 1)]])
    assert torch.allclose(vector.grad, at[Site("resid", 1)].grad[:, 3].sum(0), atol=1e-6)
    with intervened(module, [Replace("resid.1", 0.0)]):
        logits, at = capture(module, IDS, ["embed"], grad=True)
    assert torch.autograd.grad(logits.sum(), at[Site("embed")], allow_unused=True) == (None,)


def test_gradients_of_sites_are_those_of_the_model(decoder: nn.Module):
    """Against finite differences, without any parameter that has a gradient."""
    module = copy.deepcopy(decoder).double().requires_grad_(False)
    body = anatomy(module)
    logits, at = capture(module, IDS, body.sites(), grad=True)
    slopes = torch.autograd.grad(logits[:, -1, 4].sum(), list(at.values()))
    for site, slope in zip(at, slopes, strict=True):
        step = slope / slope.norm() * 1e-3  # along it the metric climbs by its length
        ends = []
        for sign in (1, -1):
            with intervened(module, [Add(site, sign * step)]), torch.no_grad():
                ends.append(float(body.logits(IDS)[:, -1, 4].sum()))
        found = float(slope.norm()) * 1e-3  # some norms compute in float32 whatever they are given
        assert found == pytest.approx((ends[0] - ends[1]) / 2, rel=1e-2), site


def test_scoring_of_options_goes_through_interventions():
    """Also where scoring has a forward pass and an attention of its own."""
    prompts, options = [(Message("user", "Which option do you choose?"),)], [["A", "B"]]
    for name in ("llama", "gemma3"):
        model = family(name)
        plain = model.option_logprobs(prompts, options)[0]
        changes = [Scale("block.0.mlp.out", 0.5), Zero("block.1.attn.head.0.out")]
        with intervened(model.module, changes):
            changed = model.option_logprobs(prompts, options)[0]
            ids = torch.tensor([model.encode(prompts[0])[0]])
            with by_blocks(model.module), torch.no_grad():
                logits = anatomy(model.module).logits(ids)[0, -1].log_softmax(-1)
        first = [model.encode(prompts[0], option)[0][len(ids[0])] for option in "AB"]
        single = [model.encode(prompts[0], option)[0][:-1] == ids[0].tolist() for option in "AB"]
        assert all(single)
        assert changed == pytest.approx(logits[first].numpy(), abs=1e-4)
        assert abs(changed - plain).max() > 0.01
        assert model.option_logprobs(prompts, options)[0] == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize(
    "one, message",
    [
        (
            Replace("resid.1", torch.zeros(31)),
            r"the value for resid.1 must be broadcast to .* = \(3, 9, 32\), got \(31,\)",
        ),
        (Zero("resid.1", units=32), "units at resid.1 must be 0 to 31, got 32 to 32"),
        (Zero("resid.1", positions=9), "positions at resid.1 must be 0 to 8, got 9 to 9"),
        (
            Zero("resid.1", positions=torch.tensor([1, 2])),
            r"must be one a row, \(3,\), got \(2,\). Give positions that hold",
        ),
        (
            Zero("resid.1", positions=torch.ones(3, 8) > 0),
            r"positions at resid.1 must be of shape \(3, 9\), got \(3, 8\)",
        ),
        (Resample("resid.1", None, [0, 1]), "must give each of 3 rows one of 3, got 2 from 0 to 1"),
        (Resample("resid.1", torch.zeros(2, 9, 32), [0, 1, 2]), "must give each of 3 rows one of 2, got 3 from 0 to 2"),
    ],
)
def test_what_does_not_fit_is_refused(one, message: str):
    module = kept("llama")
    with pytest.raises(DataError, match=message), intervened(module, [one]):
        module(IDS)
