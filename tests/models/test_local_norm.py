"""Norms in few passes give what transformers' give, and are put back."""

import pytest
import torch
from tiny import FAMILIES, family_parts

from gnothi.models.local_norm import norms_of, quick_norms


@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "phi"])  # Phi has layer norms
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_transformers(name, dtype):
    module, _ = family_parts(name)
    module.to(dtype).requires_grad_(False)
    norms = [part for part in module.modules() if type(part).__name__.endswith("RMSNorm")]
    assert norms
    for norm in norms:
        torch.manual_seed(0)
        x = (3 * torch.randn(2, 5, len(norm.weight))).to(dtype).requires_grad_()
        expected = norm(x)
        with quick_norms(norms_of(module)):
            assert "forward" in norm.__dict__
            found = norm(x)
        assert "forward" not in norm.__dict__ and found.dtype == expected.dtype
        towards = torch.randn(found.shape)
        got, wanted = (torch.autograd.grad((t.float() * towards).sum(), x)[0] for t in (found, expected))
        tolerance = 1e-5 if dtype == torch.float32 else 0.03
        assert (found - expected).abs().max() <= tolerance * expected.abs().max()
        assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_norms_that_compute_something_else_or_are_tuned_stay():
    class OddRMSNorm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.rand(8), requires_grad=False), 1e-6

        def forward(self, x):
            return x * self.weight

    module, _ = family_parts("llama")  # its parameters have gradients
    odd = torch.nn.Sequential(OddRMSNorm())
    with quick_norms(norms_of(module)), quick_norms(norms_of(odd)):
        assert not any("forward" in part.__dict__ for part in (*module.modules(), *odd.modules()))
