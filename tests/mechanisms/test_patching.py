"""Patching finds where a difference is carried, and its linear estimate agrees where it must."""

import copy
import math

import pytest
import torch
from decoders import DECODERS, kept, make, tokens
from torch import Tensor, nn

from gnothi.errors import DataError, ModelError, SpecError
from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.attribution import attribution_patch
from gnothi.mechanisms.heads import direct_effect, frozen
from gnothi.mechanisms.hooks import Replace, Scale, Zero, capture, intervened
from gnothi.mechanisms.lens import logit_lens
from gnothi.mechanisms.metrics import answer_logprob, logit_difference
from gnothi.mechanisms.patching import patch
from gnothi.mechanisms.sites import Site
from gnothi.testbeds.transformer import Shape, Transformer

CLEAN, CORRUPTED = tokens(1), tokens(2)
RIGHT, WRONG = torch.tensor([4, 5, 6]), torch.tensor([7, 8, 9])
DIFFERENCE = logit_difference(RIGHT, WRONG, -1)


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> nn.Module:
    return kept(request.param)


def linear(seed: int = 0) -> Transformer:
    """Without norms, and with attention that is even whatever the input: linear in every activation but the neurons' inputs."""
    module = make("ours-compiled")
    with torch.no_grad():
        for block in module.blocks:
            block.attn.q.weight.zero_()
            block.mlp.up.weight.abs_()
        module.embed.weight.abs_()
        module.positions.weight.abs_()
        for block in module.blocks:
            for layer in (block.attn.v, block.attn.o, block.mlp.down):
                layer.weight.abs_()  # everything stays positive, so the ReLU never bends
    return module


def one_by_one(module: nn.Module, site: Site, place: int) -> Tensor:
    """Written out: the clean activation at one position, in the corrupted run."""
    body = anatomy(module)
    value = capture(module, CLEAN, [site])[1][site]
    with torch.no_grad():
        before = body.logits(CORRUPTED)[:, -1].gather(1, torch.stack([RIGHT, WRONG], 1))
        with intervened(module, [Replace(site, value[:, place : place + 1], positions=place)]):
            after = body.logits(CORRUPTED)[:, -1].gather(1, torch.stack([RIGHT, WRONG], 1))
    return (after[:, 0] - after[:, 1]) - (before[:, 0] - before[:, 1])


def test_effects_are_those_of_one_run_each(decoder: nn.Module):
    body = anatomy(decoder)
    sites = [Site("resid", 1), Site("head", 1, 1), Site("mlp", 0), Site("neurons", 1)]
    found = patch(decoder, CLEAN, CORRUPTED, sites, DIFFERENCE, positions=[0, -2, 8], tokens=60)
    assert found.effects.shape == (4, 3, 3)
    assert (found.sites, found.positions) == (tuple(sites), (0, 7, 8))
    for i, site in enumerate(sites):
        for j, place in enumerate(found.positions):
            assert found.effects[i, j] == pytest.approx(one_by_one(decoder, site, place), abs=2e-4)
    with torch.no_grad():
        assert torch.allclose(found.clean, DIFFERENCE(body.logits(CLEAN)), atol=1e-5)
        assert torch.allclose(found.corrupted, DIFFERENCE(body.logits(CORRUPTED)), atol=1e-5)


def test_the_whole_stream_gives_the_whole_difference(decoder: nn.Module):
    sites = [Site("resid", i) for i in range(anatomy(decoder).n_blocks + 1)]
    found = patch(decoder, CLEAN, CORRUPTED, sites, DIFFERENCE, by_position=False)
    assert found.positions is None and found.effects.shape == (len(sites), 1, 3)
    assert torch.allclose(found.share(), torch.ones(len(sites), 1), atol=1e-4)
    last = patch(decoder, CLEAN, CORRUPTED, sites[-1:], DIFFERENCE).share()[0]
    assert last[-1] == pytest.approx(1, abs=1e-4) and last[:-1].abs().max() < 1e-4


def test_the_estimate_is_exact_where_the_model_is_linear():
    module = linear()
    sites = [s for s in anatomy(module).sites(("embed", "resid", "attn", "head", "heads", "mlp", "neurons"))]
    exact = patch(module, CLEAN, CORRUPTED, sites, DIFFERENCE)
    for gradients in ("corrupted", "both"):
        found = attribution_patch(module, CLEAN, CORRUPTED, sites, DIFFERENCE, gradients=gradients)
        assert torch.allclose(found.effects, exact.effects, atol=1e-4 * float(exact.effects.abs().max()))
    together = attribution_patch(module, CLEAN, CORRUPTED, sites, DIFFERENCE, by_position=False, positions=[1, 3])
    whole = patch(module, CLEAN, CORRUPTED, sites, DIFFERENCE, by_position=False, positions=[1, 3])
    assert together.positions is whole.positions is None
    assert torch.allclose(together.effects, whole.effects, atol=1e-4 * float(whole.effects.abs().max()))


def test_the_estimate_is_gradient_times_difference(decoder: nn.Module):
    sites = anatomy(decoder).sites()
    found = attribution_patch(decoder, CLEAN, CORRUPTED, sites, answer_logprob(RIGHT, -1), positions=[2, 8])
    clean = capture(decoder, CLEAN, sites)[1]
    logits, at = capture(decoder, CORRUPTED, sites, grad=True)
    score = logits[:, -1].log_softmax(-1).gather(1, RIGHT[:, None]).sum()
    slopes = torch.autograd.grad(score, list(at.values()))
    for i, (site, slope) in enumerate(zip(sites, slopes, strict=True)):
        expected = ((clean[site] - at[site]) * slope).sum(-1)[:, [2, 8]].T.detach()
        assert torch.allclose(found.effects[i], expected, atol=1e-4 * float(found.effects.abs().max())), site


def test_small_differences_are_estimated_well(decoder: nn.Module):
    """Base and tuned that differ little: exact and estimate rank sites and positions alike."""
    tuned = make_like(decoder)
    sites = anatomy(decoder).sites(("attn", "head", "mlp", "neurons"))
    exact = patch(tuned, CLEAN, CLEAN, sites, DIFFERENCE, source=decoder)
    for gradients in ("corrupted", "both"):
        found = attribution_patch(tuned, CLEAN, CLEAN, sites, DIFFERENCE, source=decoder, gradients=gradients)
        error = (found.effects - exact.effects).norm() / exact.effects.norm()
        assert error < 0.05


def make_like(module: nn.Module) -> nn.Module:
    """The same model with its parameters moved a little."""
    tuned = copy.deepcopy(module)
    draws = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(2e-4 * torch.randn(parameter.shape, generator=draws))
    return tuned


def planted(head: int = 1) -> Transformer:
    """One head of block 1 copies the first token to the last position; nothing else reads another position."""
    shape = Shape(layers=2, heads=2, width=24, mlp=4, vocabulary=8, longest=4, norm="none", bias=False, head_width=12)
    module = Transformer(shape)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.embed.weight[:, :8] = torch.eye(8)
        module.positions.weight[0, 8] = module.positions.weight[3, 9] = 1.0
        attn, rows = module.blocks[1].attn, slice(12 * head, 12 * head + 12)
        attn.q.weight[rows.start, 9] = attn.k.weight[rows.start, 8] = 20.0
        attn.v.weight[rows.start : rows.start + 8, :8] = torch.eye(8)
        attn.o.weight[12:20, rows.start : rows.start + 8] = torch.eye(8)
        module.head.weight[:, 12:20] = 5 * torch.eye(8)
    return module


def test_a_planted_path_is_found_and_nothing_else():
    for head in (0, 1):
        module = planted(head)
        clean = torch.tensor([[2, 1, 1, 3], [4, 1, 1, 3]])
        corrupted = torch.tensor([[5, 1, 1, 3], [6, 1, 1, 3]])
        metric = logit_difference(clean[:, 0], corrupted[:, 0], 3)
        found = patch(module, clean, corrupted, anatomy(module).sites(), metric)
        shares = {(str(s), p): float(found.share()[i, p]) for i, s in enumerate(found.sites) for p in range(4)}
        path = {(s, 0) for s in ("embed", "resid.0", "resid.1")}
        path |= {(s, 3) for s in (f"block.1.attn.head.{head}.out", "block.1.attn.out", "resid.2")}
        assert {key for key, share in shares.items() if abs(share) > 0.01} == path
        assert all(shares[key] == pytest.approx(1, abs=1e-4) for key in path)
        assert {(str(s), p) for s, p, _ in found.strongest(6)} == path
        estimate = attribution_patch(module, clean, corrupted, found.sites, metric).share()
        assert torch.allclose(estimate, found.share(), atol=1e-4)
        parts = direct_effect(module, clean, clean[:, 0], corrupted[:, 0], 3)
        assert parts.heads[1, head] == pytest.approx(parts.whole, abs=1e-4)
        assert not parts.heads[0].any() and not parts.heads[1, 1 - head].any() and not parts.mlps.any()


def test_nothing_is_found_where_nothing_was_planted():
    module = planted()
    with torch.no_grad():
        module.blocks[1].attn.v.weight.zero_()
    clean, corrupted = torch.tensor([[2, 1, 1, 3]]), torch.tensor([[5, 1, 1, 3]])
    found = patch(module, clean, corrupted, anatomy(module).sites(), logit_difference(2, 5, 3))
    assert not found.effects.any()
    with pytest.raises(
        DataError, match=r"clean and corrupted must differ in the metric's mean, got 0 and 0\. Order each"
    ):
        found.share()


def test_two_models_are_compared_on_one_input():
    """Put into the tuned model, the base's activations undo a change at its site and after it, not before."""
    base, tuned = make("ours"), make("ours")
    with torch.no_grad():
        tuned.blocks[1].mlp.down.weight.mul_(-1)
    sites = anatomy(base).sites(("resid", "attn", "mlp"))
    found = patch(tuned, CLEAN, CLEAN, sites, DIFFERENCE, source=base, by_position=False)
    shares = dict(zip(map(str, sites), found.share()[:, 0].tolist(), strict=True))
    undone = {name for name, share in shares.items() if abs(share) > 1e-4}
    assert undone == {"block.1.mlp.out", "resid.2"}
    assert shares["block.1.mlp.out"] == pytest.approx(1, abs=1e-4)


def test_padding_is_read_as_the_model_reads_it():
    module = kept("llama")
    mask = torch.arange(9)[None] < torch.tensor([9, 7, 5])[:, None]
    metric = logit_difference(RIGHT, WRONG, torch.tensor([8, 6, 4]))
    sites = [Site("resid", 1), Site("head", 0, 2)]
    found = patch(module, CLEAN, CORRUPTED, sites, metric, mask=mask, positions=range(5), tokens=1)
    guess = attribution_patch(module, CLEAN, CORRUPTED, sites, metric, mask=mask, positions=range(5))
    short = logit_difference(RIGHT[2], WRONG[2], 4)
    alone = patch(module, CLEAN[2:, :5], CORRUPTED[2:, :5], sites, short)
    assert torch.allclose(found.effects[..., 2], alone.effects[..., 0], atol=1e-4)
    by_itself = attribution_patch(module, CLEAN[2:, :5], CORRUPTED[2:, :5], sites, short)
    assert torch.allclose(guess.effects[..., 2], by_itself.effects[..., 0], atol=1e-4)


def test_gradients_are_possible_where_parameters_are_frozen_and_adapters_lie():
    from families import family

    module = family("gemma3").module
    assert not any(p.requires_grad for p in module.parameters())
    with torch.no_grad():  # whatever the caller is in
        found = attribution_patch(module, CLEAN, CORRUPTED, ["resid.1", "block.0.attn.head.1.out"], DIFFERENCE)
    assert found.effects.any() and not found.effects.requires_grad


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"clean": CLEAN[:, :5]}, DataError, r"clean, corrupted and mask must be of one shape .*\(3, 5\), \(3, 9\)"),
        ({"mask": torch.ones(3, 5)}, DataError, r"must be of one shape .* and \(3, 5\)\. Pair inputs"),
        ({"sites": []}, ModelError, "sites must name at least one site, got none"),
        ({"sites": ["block.9.mlp.out"]}, ModelError, "The nearest is block.1.mlp.out"),
        ({"positions": [9]}, DataError, "positions must be 0 to 8, got 9"),
        ({"metric": lambda logits: logits[:, -1]}, DataError, r"one number a row, \(3,\), got \(3, \d+\)"),
        ({"source": make("qwen2")}, ModelError, None),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, error: type, message: str | None):
    given = {"clean": CLEAN, "corrupted": CORRUPTED, "sites": ["resid.1"], "metric": DIFFERENCE, **change}
    if message is None:
        given |= {"sites": ["block.0.attn.head.1.out"], "source": kept("qwen3")}
        message = "source must have the module's shape, got another width at block.0.attn.head.1.out"
    for call in (patch, attribution_patch):
        with pytest.raises(error, match=message):
            call(kept("llama"), **given)


def test_an_unknown_place_of_the_gradient_is_refused():
    with pytest.raises(SpecError, match="gradients must be one of corrupted, both, got 'clean'"):
        attribution_patch(kept("ours"), CLEAN, CORRUPTED, ["embed"], DIFFERENCE, gradients="clean")


def test_direct_effects_add_up_to_the_difference(decoder: nn.Module):
    body = anatomy(decoder)
    places = torch.tensor([8, 3, -2])
    parts = direct_effect(decoder, CLEAN, RIGHT, WRONG, places)
    assert parts.heads.shape == (body.n_blocks, body.n_heads, 3)
    with torch.no_grad(), intervened(decoder, []):
        logits = capture(decoder, CLEAN, [])[0]
    cap = getattr(getattr(decoder, "config", None), "final_logit_softcapping", None)
    raw = logits if cap is None else cap * torch.atanh(logits / cap)
    whole = logit_difference(RIGHT, WRONG, places)(raw)
    assert torch.allclose(parts.whole, whole, atol=1e-3 if cap else 1e-4)
    biases = any("bias" in n and "q_" not in n for n, _ in decoder.named_parameters()) or body.module is None
    if not biases:
        assert parts.rest.abs().max() < 1e-4 * max(1.0, float(whole.abs().max()))


def test_a_direct_effect_is_what_removing_the_part_takes_away():
    """Without norms the stream is a sum: a head of the last block is worth what its removal costs, MLP held fixed."""
    module = make("ours-compiled")
    parts = direct_effect(module, CLEAN, RIGHT, WRONG, -1)
    mlp = capture(module, CLEAN, [Site("mlp", 1)])[1][Site("mlp", 1)]
    body = anatomy(module)
    for h in range(body.n_heads):
        changes = [Zero(Site("head", 1, h)), Replace(Site("mlp", 1), mlp)]
        with intervened(module, changes), torch.no_grad():
            without = DIFFERENCE(body.logits(CLEAN))
        assert torch.allclose(parts.whole - without, parts.heads[1, h], atol=1e-4)


def test_a_frozen_norm_is_linear_and_right_at_its_input():
    x, other = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(7))
    for norm in (nn.LayerNorm(16), nn.RMSNorm(16), nn.RMSNorm(16, eps=1e-3), nn.Identity()):
        with torch.no_grad():
            for parameter in norm.parameters():
                parameter.uniform_(0.5, 2)
            bias = norm.bias if isinstance(norm, nn.LayerNorm) else 0.0
            at_x = frozen(norm, x)
            assert torch.allclose(at_x(x) + bias, norm(x), atol=1e-5)
            assert torch.allclose(at_x(2 * x - other), 2 * at_x(x) - at_x(other), atol=1e-4)
    with pytest.raises(ModelError, match="must be LayerNorm or a root-mean-square norm, got Tanh"):
        frozen(nn.Tanh(), x)


def test_the_lens_ends_in_the_models_own_logits(decoder: nn.Module):
    body = anatomy(decoder)
    found = logit_lens(decoder, CLEAN)
    with torch.no_grad():
        logits = body.logits(CLEAN)
    assert found.shape == (body.n_blocks + 1, *logits.shape)
    assert torch.allclose(found[-1], logits, atol=1e-5 * float(logits.abs().max()))
    places, columns = torch.tensor([1, 8, -3]), torch.tensor([4, 9])
    part = logit_lens(decoder, CLEAN, at=places, tokens=columns)
    assert torch.allclose(part, found[:, range(3), places][..., columns], atol=1e-5)
    for i in range(body.n_blocks):  # what the model says when nothing after block i writes
        rest = [Zero(Site(kind, j)) for j in range(i, body.n_blocks) for kind in ("attn", "mlp")]
        with intervened(decoder, rest), torch.no_grad():
            assert torch.allclose(found[i], body.logits(CLEAN), atol=1e-5 * float(logits.abs().max()))


def test_the_lens_shows_where_a_planted_answer_appears():
    found = logit_lens(planted(), torch.tensor([[2, 1, 1, 3]]), at=3).softmax(-1)
    assert found[:2, 0, 2].tolist() == pytest.approx([1 / 8, 1 / 8])
    assert found[2, 0, 2] > 0.9


def test_metrics_are_what_they_say():
    logits = torch.randn(3, 9, 20, generator=torch.Generator().manual_seed(8))
    at, right = torch.tensor([8, -9, 4]), torch.tensor([4, 5, 6])
    expected = [logits[0, 8].log_softmax(-1)[4], logits[1, 0].log_softmax(-1)[5], logits[2, 4].log_softmax(-1)[6]]
    assert answer_logprob(right, at)(logits) == pytest.approx(torch.stack(expected))
    module = kept("llama")
    one, same = (logit_difference(4, 7, place) for place in (3, torch.tensor(3)))
    found = [patch(module, CLEAN, CORRUPTED, ["resid.1"], metric).effects for metric in (one, same)]
    assert torch.equal(*found) and found[0].any()
    assert logit_difference(3, 7, 2)(logits) == pytest.approx(logits[:, 2, 3] - logits[:, 2, 7])
    assert math.isclose(float(answer_logprob(3, 0)(torch.zeros(1, 1, 20))[0]), -math.log(20), rel_tol=1e-6)


def test_a_metric_of_ones_own_sees_all_positions():
    module, sites = kept("llama"), ["resid.1", "block.1.mlp.out"]
    own = patch(module, CLEAN, CORRUPTED, sites, lambda logits: logits[:, -1].gather(1, RIGHT[:, None])[:, 0])
    ready = patch(module, CLEAN, CORRUPTED, sites, logit_difference(RIGHT, RIGHT, -1))
    assert not ready.effects.any() and own.effects.any()
    with intervened(module, [Scale("resid.2", 1.0)]):  # interventions of the caller's stay
        again = patch(module, CLEAN, CORRUPTED, sites, DIFFERENCE)
    assert torch.allclose(again.effects, patch(module, CLEAN, CORRUPTED, sites, DIFFERENCE).effects, atol=1e-5)


def test_the_estimate_takes_two_forward_passes_whatever_the_number_of_sites():
    module = make("llama")
    calls: list[int] = []
    module.model.register_forward_hook(lambda *_: calls.append(1))
    sites = anatomy(module).sites()
    calls.clear()
    attribution_patch(module, CLEAN, CORRUPTED, sites, DIFFERENCE)
    assert len(calls) == 2
    calls.clear()
    patch(module, CLEAN, CORRUPTED, sites, DIFFERENCE, tokens=1)
    assert len(calls) == 2 + len(sites) * (9 + 1)
