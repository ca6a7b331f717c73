"""Sizes, ranks, likeness, the line between two models, and their predictions: against plain computations."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from gnothi.errors import DataError, ModelError
from gnothi.mechanisms.cka import linear_cka
from gnothi.mechanisms.diffing import (
    activation_difference,
    adapter_norms,
    cka,
    effective_rank,
    kl_by_position,
    linear_mode,
    rank_for,
    update_norms,
)
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.pairs import Pair, twin
from gnothi.models.adapters import Adapter, AdapterSpec
from gnothi.testbeds.transformer import Shape, Transformer

SHAPE = Shape(layers=2, heads=2, width=16, mlp=24, vocabulary=7, longest=6)


@pytest.fixture
def pair() -> Pair:
    base, tuned = Transformer(SHAPE, seed=0), Transformer(SHAPE, seed=0)
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p, q in zip(base.parameters(), tuned.parameters(), strict=True):
            p += 0.3 * torch.randn(p.shape, generator=draws)
            q.copy_(p + 0.05 * torch.randn(p.shape, generator=draws))
    return Pair(base, tuned)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(7, (5, 6), generator=torch.Generator().manual_seed(3))


def test_update_norms_are_those_of_the_differences(pair):
    table = update_norms(pair).set_index("parameter")
    assert table.share.sum() == pytest.approx(1.0)
    for name, p in pair.base.named_parameters():
        delta = (dict(pair.tuned.named_parameters())[name] - p).detach()
        row = table.loc[name]
        assert row.norm == pytest.approx(float(delta.norm()), rel=1e-5) and row.n == delta.numel()
        assert row.relative == pytest.approx(float(delta.norm() / p.detach().norm()), rel=1e-4)
        if delta.dim() == 2:
            values = torch.linalg.svdvals(delta.double()).numpy()
            shares = values / values.sum()
            assert row.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4)
            assert row.rank_90 == 1 + int((np.cumsum(values**2) < 0.9 * (values**2).sum()).sum())
        else:
            assert pd.isna(row.effective_rank) and pd.isna(row.rank_90)


def test_models_that_do_not_differ_have_no_rows(pair):
    assert update_norms(Pair(pair.base, twin(pair.base))).empty


def test_a_rank_one_change_is_found_as_one(pair):
    name = "blocks.1.mlp.down.weight"
    changed = twin(pair.base)
    with torch.no_grad():
        weight = dict(changed.named_parameters())[name]
        weight.data = weight + torch.outer(torch.arange(16.0), torch.arange(24.0))
    table = update_norms(Pair(pair.base, changed))
    assert list(table.parameter) == [name]
    assert table.effective_rank[0] == pytest.approx(1.0, abs=1e-3) and table.rank_90[0] == 1 and table.share[0] == 1.0


def test_ranks_of_equal_and_of_single_values():
    assert effective_rank(np.ones(5)) == pytest.approx(5.0)
    assert rank_for(np.ones(10)) == 9 and rank_for(np.array([0.0, 2.0])) == 1


def test_an_adapters_norms_are_those_of_its_merged_matrices():
    model = Transformer(SHAPE, seed=0)
    names = ("blocks.0.attn.q", "blocks.1.mlp.up")
    draws = torch.Generator().manual_seed(4)
    lora = {}
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        a = torch.randn(3, layer.in_features, generator=draws)
        lora[name] = (a, torch.randn(layer.out_features, 3, generator=draws))
    spec = AdapterSpec(kind="lora", rank=3, alpha=6.0, targets=("q", "up"))
    tuned = twin(
        model, {f"{n}.weight": (model.get_parameter(f"{n}.weight") + 2 * b @ a).detach() for n, (a, b) in lora.items()}
    )
    found, expected = adapter_norms(model, Adapter(spec=spec, lora=lora)), update_norms(Pair(model, tuned))
    assert list(found.parameter) == list(expected.parameter)
    for column in ("n", "norm", "relative", "share", "rank_90"):
        np.testing.assert_allclose(found[column].astype(float), expected[column].astype(float), rtol=1e-4)
    np.testing.assert_allclose(found.effective_rank, expected.effective_rank, rtol=1e-2)  # rounding of tuned adds ranks
    with pytest.raises(ModelError, match="LoRA pairs, got none"):
        adapter_norms(model, Adapter(spec=AdapterSpec(kind="full"), full={"head.weight": torch.zeros(7, 16)}))


def test_activations_differ_by_site_and_position_as_computed_by_hand(pair, ids):
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, 4:] = False
    table = activation_difference(pair, ids, ["resid.1", "block.1.mlp.out"], mask)
    _, before = capture(pair.base, ids, ["resid.1"], mask)
    _, after = capture(pair.tuned, ids, ["resid.1"], mask)
    x, y = (next(iter(found.values()))[mask] for found in (before, after))
    assert table.difference[0] == pytest.approx(float((y - x).norm(dim=1).mean() / x.norm(dim=1).mean()), rel=1e-5)
    assert list(table.n) == [28, 28]
    by_position = activation_difference(pair, ids, ["resid.1"], mask, by_position=True)
    assert list(by_position.n) == [5, 5, 5, 5, 4, 4]
    assert (activation_difference(Pair(pair.base, twin(pair.base)), ids, ["resid.2"]).difference == 0).all()


def test_cka_is_one_for_the_same_up_to_rotation_and_size():
    draws = torch.Generator().manual_seed(5)
    x = torch.randn(40, 6, generator=draws)
    turned = 3 * x @ torch.linalg.qr(torch.randn(6, 6, generator=draws)).Q + 7
    for debiased in (True, False):
        assert linear_cka(x, turned, debiased=debiased) == pytest.approx(1.0, abs=1e-6)


def test_only_the_debiased_cka_is_near_zero_for_unrelated_wide_representations():
    draws = torch.Generator().manual_seed(6)
    pairs = [(torch.randn(20, 200, generator=draws), torch.randn(20, 200, generator=draws)) for _ in range(10)]
    assert abs(np.mean([linear_cka(x, y) for x, y in pairs])) < 0.1  # type: ignore[arg-type]
    assert min(linear_cka(x, y, debiased=False) for x, y in pairs) > 0.8  # type: ignore[type-var]


def test_the_unbiased_estimate_is_the_mean_over_all_fours_of_inputs():
    """Song et al. 2012, theorem 5, written out: h over every ordered four of different inputs."""
    from itertools import permutations

    draws = torch.Generator().manual_seed(7)
    x, y = torch.randn(6, 3, generator=draws).double(), torch.randn(6, 2, generator=draws).double()

    def hsic(a: torch.Tensor, b: torch.Tensor) -> float:
        k, m = a @ a.T, b @ b.T
        terms = [float(k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])) for i, j, q, r in permutations(range(6), 4)]
        return float(np.mean(terms))

    expected = hsic(x, y) / (hsic(x, x) * hsic(y, y)) ** 0.5
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-9)


def test_cka_by_site_counts_tokens_and_has_none_where_nothing_varies(pair, ids):
    found = cka(Pair(pair.base, twin(pair.base)), ids, ["resid.0", "resid.2"])
    np.testing.assert_allclose(found.cka.astype(float), 1.0)
    assert list(found.n) == [30, 30] and list(found.width) == [16, 16]
    assert linear_cka(torch.ones(9, 3), torch.randn(9, 3)) is None
    with pytest.raises(DataError, match="at least 4"):
        linear_cka(torch.ones(3, 3), torch.ones(3, 3))


def test_the_line_has_the_barrier_that_was_built(pair):
    """A loss that is a parabola in one weight: highest above the straight line in the middle."""
    left, right = twin(pair.base), twin(pair.base)
    for module, value in ((left, -1.0), (right, 1.0)):
        weight = dict(module.named_parameters())["head.weight"]
        weight.data = torch.full_like(weight, value)

    def hill(module: nn.Module) -> float:
        return 1.0 - float(dict(module.named_parameters())["head.weight"].detach()[0, 0]) ** 2

    line = linear_mode(Pair(left, right), hill, n=1)
    assert line.barrier == pytest.approx(1.0) and line.barrier_at == 0.5 and line.accuracy is None
    valley = linear_mode(Pair(left, right), lambda m: -hill(m), n=1, accuracy=lambda m: 0.5, steps=5)
    assert valley.barrier == 0.0 and valley.accuracy == (0.5,) * 5
    with pytest.raises(DataError, match="finite"):
        linear_mode(Pair(left, right), lambda m: float("nan"), n=1)
    with pytest.raises(DataError, match="at least 3 steps"):
        linear_mode(Pair(left, right), hill, n=1, steps=2)


def test_kl_by_position_is_the_divergence_of_predictions(pair, ids):
    table = kl_by_position(pair, ids, answer=-1, rows=2)
    with torch.no_grad():
        tuned, base = pair.tuned(ids).log_softmax(-1), pair.base(ids).log_softmax(-1)
    expected = nn.functional.kl_div(base, tuned, log_target=True, reduction="none").sum(-1)
    np.testing.assert_allclose(table.kl, expected.mean(0), rtol=1e-4, atol=1e-7)
    assert list(table.is_answer) == [False] * 5 + [True] and (table.n == 5).all()


def test_positions_count_from_each_rows_own_answer(pair, ids):
    at = torch.tensor([2, 3, 4, 5, 5])
    table = kl_by_position(pair, ids, answer=at).set_index("position")
    with torch.no_grad():
        tuned, base = pair.tuned(ids).log_softmax(-1), pair.base(ids).log_softmax(-1)
    kl = (tuned.exp() * (tuned - base)).sum(-1)[torch.arange(5), at]
    assert table.kl[0] == pytest.approx(float(kl.mean()), rel=1e-4) and table.is_answer[0] and table.n[0] == 5
    assert table.n.sum() == ids.numel() and table.is_answer.sum() == 1
    with pytest.raises(DataError, match="one a row"):
        kl_by_position(pair, ids, answer=at[:2])
