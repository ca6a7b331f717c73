"""LoRA beside a frozen matrix: what one step computes is what autograd gives for its parts."""

import pytest
import torch

from gnothi.models.adapters_linear import LoraStack, lora_linear

K, WIDTH, OUT = 3, 6, 5


def made(ranks=(2, 2, 2), scales=(1.5, 1.5, 1.5), trained=True, seed=0):
    torch.manual_seed(seed)
    each = [({"x": (torch.randn(r, WIDTH), torch.randn(OUT, r))}, s) for r, s in zip(ranks, scales, strict=True)]
    stack = LoraStack.of(each, torch.device("cpu"))
    for t in stack.pairs["x"]:
        t.requires_grad_(trained)
    return stack


def plainly(x, weight, bias, stacks, owners):
    """Each example by itself."""
    found = torch.nn.functional.linear(x, weight, bias)
    for stack in stacks:
        a, b = stack.pairs["x"]
        found = found + torch.stack([stack.scales[j] * x[i] @ a[j].T @ b[j].T for i, j in enumerate(owners)])
    return found


@pytest.mark.parametrize("owners", [[0, 0, 1, 1, 2, 2], [2, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0]])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("ranks, scales", [((2, 2, 2), (1.5, 1.5, 1.5)), ((1, 4, 2), (0.5, 2.0, 1.0))])
def test_values_and_gradients_are_autograds(owners, bias, ranks, scales):
    frozen, tuned = made(trained=False, seed=1), made(ranks, scales)
    weight = torch.randn(OUT, WIDTH)
    offset = torch.randn(OUT) if bias else None
    x = torch.randn(6, 4, WIDTH, requires_grad=True)
    inputs = [x, *tuned.pairs["x"]]
    expected = plainly(x, weight, offset, (frozen, tuned), owners)
    towards = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * towards).sum(), inputs)
    pairs = [(*s.pairs["x"], s.scale) for s in (frozen, tuned)]
    for index in (
        (torch.tensor(owners), None) if owners == sorted(owners) and len(set(owners)) == K else (torch.tensor(owners),)
    ):
        found = lora_linear(x, weight, offset, pairs, index)
        assert torch.allclose(found, expected, atol=1e-5)
        got = torch.autograd.grad((found * towards).sum(), inputs)
        assert all(torch.allclose(g, w, atol=1e-4) for g, w in zip(got, wanted, strict=True))


def test_a_single_adapter_needs_no_owners():
    (one,) = [made((2,), (3.0,))]
    weight, x = torch.randn(OUT, WIDTH), torch.randn(2, WIDTH)  # no gradient for the first layer's input
    a, b = one.pairs["x"]
    found = lora_linear(x, weight, None, [(a, b, one.scale)], None)
    expected = x @ weight.T + 3.0 * x @ a[0].T @ b[0].T
    assert torch.allclose(found, expected, atol=1e-5)
    got, wanted = (torch.autograd.grad(t.sum(), (a, b)) for t in (found, expected))
    assert all(torch.allclose(g, w, atol=1e-5) for g, w in zip(got, wanted, strict=True))


def test_a_frozen_layer_in_a_lower_type_hands_back_gradients_of_the_input():
    weight, x = torch.randn(OUT, WIDTH), torch.randn(2, 3, WIDTH, requires_grad=True)
    found = lora_linear(x, weight.bfloat16(), None, [], None)
    assert found.dtype == torch.bfloat16 and torch.allclose(found.float(), x @ weight.T, atol=0.1)
    (grad,) = torch.autograd.grad(found.float().sum(), x)
    assert grad.dtype == torch.float32 and torch.allclose(grad, weight.sum(0).expand(2, 3, -1), atol=0.1)


def test_zeros_up_to_the_largest_rank_get_no_gradient():
    stack = made((1, 4, 2), (1.0, 1.0, 1.0))
    a, b = stack.pairs["x"]
    x = torch.randn(6, 3, WIDTH)
    found = lora_linear(x, torch.randn(OUT, WIDTH), None, [(a, b, stack.scale)], torch.tensor([0, 1, 2, 0, 1, 2]))
    to_a, to_b = torch.autograd.grad(found.square().sum(), (a, b))
    for j, rank in enumerate(stack.ranks):
        assert to_a[j, :rank].abs().min() > 0 and to_b[j, :, :rank].abs().min() > 0
        assert not to_a[j, rank:].any() and not to_b[j, :, rank:].any()
