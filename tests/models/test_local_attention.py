"""Attention by blocks is PyTorch's, on any mask of trees, with gradients."""

import numpy as np
import pytest
import torch
from tiny import FAMILIES, SLIDING, family

from gnothi.models import local_attention
from gnothi.models.forest import as_forest, batches_of, rows_of
from gnothi.models.local_attention import attend, blocks_of, by_blocks, parts_of
from gnothi.models.local_forward import forest_logits


def forest(n=9, width=40, seed=0):
    rng = np.random.default_rng(seed)
    sequences = [tuple(rng.integers(3, 6, rng.integers(1, 9)).tolist()) for _ in range(n)]
    return as_forest(max(batches_of(rows_of(sequences, width=width), tokens=10**6), key=len))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("heads, keys", [(4, 4), (4, 2), (4, 1)])
def test_values_and_gradients_are_pytorchs(seed, window, heads, keys):
    mask = forest(seed=seed).mask(window)
    rows, _, length, _ = mask.shape
    assert length > 8
    torch.manual_seed(seed)
    q, k, v = (torch.randn(rows, length, n, 8).transpose(1, 2).requires_grad_() for n in (heads, keys, keys))
    for given in (mask, None):
        spread = [t.repeat_interleave(heads // keys, 1) for t in (k, v)]
        expected = torch.nn.functional.scaled_dot_product_attention(
            q, *spread, attn_mask=given, is_causal=given is None, scale=0.3
        ).transpose(1, 2)
        found, _ = attend(torch.nn.Module(), q, k, v, given, scaling=0.3)
        assert torch.allclose(found, expected, atol=1e-5)
        towards = torch.randn_like(expected)
        got, wanted = (torch.autograd.grad((t * towards).sum(), (q, k, v)) for t in (found, expected))
        assert all(torch.allclose(g, w, atol=1e-5) for g, w in zip(got, wanted, strict=True))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("least, most", [(1, 4), (3, 5), (32, 128)])
def test_without_gradient_stretches_meet_what_they_see(seed, window, least, most, monkeypatch):
    monkeypatch.setattr(local_attention, "LEAST", least)
    monkeypatch.setattr(local_attention, "MOST", most)
    mask = forest(n=30, seed=seed).mask(window)
    parts = parts_of(mask[:, 0])
    covered = torch.zeros(mask[:, 0].shape[:2], dtype=torch.int)
    for row, places, keys, added in parts:
        covered[row, places] += 1
        seen = torch.zeros(len(added), mask.shape[-1], dtype=torch.bool)
        seen[:, keys] = added == 0
        assert torch.equal(seen, mask[row, 0, places]) and seen.any(0)[keys].all()
        assert len(added) <= most
    assert (covered == 1).all()
    q, k, v = (torch.randn(len(mask), n, mask.shape[-1], 8) for n in (4, 2, 2))
    spread = [t.repeat_interleave(2, 1) for t in (k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(q, *spread, attn_mask=mask, scale=0.3).transpose(1, 2)
    with torch.no_grad():
        found, _ = attend(torch.nn.Module(), q, k, v, mask, scaling=0.3)
    assert torch.allclose(found, expected, atol=1e-5)


def test_in_bfloat16_it_is_as_close_as_pytorchs():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 20, 16) for _ in range(3))
    exact, _ = attend(torch.nn.Module(), q, k, v, None, scaling=0.25)
    lower = [t.bfloat16() for t in (q, k, v)]
    ours, _ = attend(torch.nn.Module(), *lower, None, scaling=0.25)
    theirs = torch.nn.functional.scaled_dot_product_attention(*lower, is_causal=True, scale=0.25).transpose(1, 2)
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - exact).abs().max() < 1.5 * (theirs.float() - exact).abs().max()


def test_blocks_cover_every_place_once_and_what_sees_itself_alone_is_one_block():
    masks = forest(n=12).mask()[:, 0]
    covered = torch.zeros(masks.shape[:2], dtype=torch.int)
    for rows, places, added in blocks_of(masks):
        covered[rows, places] += 1
        inside = masks[rows, places, places]
        assert added is None or torch.equal(added == 0, inside)
    assert (covered == 1).all()
    alone = blocks_of(torch.eye(5, dtype=torch.bool)[None])
    assert [(b.places, b.added) for b in alone] == [(slice(0, 5), None)]


@pytest.mark.parametrize("name", [n for n in FAMILIES if not n.startswith("gemma2")])
def test_families_give_the_same_logits_by_blocks(name):
    model = family(name)
    module = model.module
    rng = np.random.default_rng(1)
    header = tuple(rng.integers(3, 100, SLIDING + 3).tolist())
    sequences = [(*header, *rng.integers(3, 100, n).tolist()) for n in (2, 7)] + [(4, 5, 6), (9,), (8, 8)]
    (batch,) = batches_of(rows_of(sequences, width=999), tokens=999)
    laid = as_forest(batch)
    rows = torch.tensor([row for _, row, _ in laid.members])
    places = torch.tensor([int(path[-1]) for _, _, path in laid.members])
    with torch.inference_mode():
        expected = forest_logits(module, laid, rows, places)
        with by_blocks(module):
            assert module.config._attn_implementation == local_attention.NAME
            found = forest_logits(module, laid, rows, places)
    assert module.config._attn_implementation == "sdpa"
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_what_it_does_not_do_is_left_to_pytorch():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, n, 4) for n in (3, 5, 5))  # fewer queries than keys
    mask = torch.ones(1, 1, 3, 5, dtype=torch.bool)
    found, _ = attend(torch.nn.Module(), q, k, v, mask, scaling=0.5)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.5)
    assert torch.allclose(found, expected.transpose(1, 2))
    long = torch.randn(1, 1, local_attention.LONGEST + 1, 4)
    found, _ = attend(torch.nn.Module(), long, long, long, None, scaling=0.5)
    expected = torch.nn.functional.scaled_dot_product_attention(long, long, long, is_causal=True, scale=0.5)
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-6)
