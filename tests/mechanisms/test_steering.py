"""A planted direction comes back, moves its metric as its length says, and its controls do not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gnothi.errors import DataError
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.metrics import logit_difference
from gnothi.mechanisms.pairs import Pair, twin
from gnothi.mechanisms.steering import (
    contrast_direction,
    dose_response,
    learned_direction,
    random_directions,
    shuffled_directions,
    steered,
    tuned_direction,
)
from gnothi.testbeds.transformer import Shape, Transformer

SHAPE = Shape(layers=2, heads=2, width=16, mlp=24, vocabulary=9, longest=5)
RIGHT, WRONG = 7, 8


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Words 0 to 3 carry a mark in the stream that the head reads as RIGHT against WRONG; 4 to 6 do not."""
    found = Transformer(SHAPE, seed=0)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for values in found.parameters():
            if values.dim() == 2:
                values += 0.1 * torch.randn(values.shape, generator=draws)
        found.embed.weight[:4] += mark(found)
    return found


def mark(model: Transformer) -> Tensor:
    difference = model.head.weight[RIGHT] - model.head.weight[WRONG]
    difference = difference - difference.mean()  # the final norm takes the mean away
    return (2 * difference / difference.norm()).detach()


def prompts(last: list[int], n: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    ids = torch.randint(SHAPE.vocabulary, (n, 5), generator=draws)
    ids[:, -1] = torch.tensor(last)[torch.randint(len(last), (n,), generator=draws)]
    return ids


def test_the_difference_of_means_finds_the_planted_direction(model):
    found = contrast_direction(model, prompts([0, 1, 2, 3], 60, 2), prompts([4, 5, 6], 60, 3), "resid.0")
    assert float(torch.cosine_similarity(found.vector, mark(model), dim=0)) > 0.9
    assert found.n == 120 and found.norm == pytest.approx(2.0, rel=0.2)


def test_shuffled_prompts_give_short_directions_and_are_brought_to_a_length(model):
    sides = prompts([0, 1, 2, 3], 60, 2), prompts([4, 5, 6], 60, 3)
    shuffled = shuffled_directions(model, *sides, "resid.0", seed=0)
    assert len(shuffled) == 5 and max(d.norm for d in shuffled) < contrast_direction(model, *sides, "resid.0").norm / 2
    scaled = shuffled_directions(model, *sides, "resid.0", seed=0, norm=2.0)
    assert [d.norm for d in scaled] == pytest.approx([2.0] * 5)


def test_tuned_less_base_is_the_bias_that_was_added(model):
    changed = twin(model)
    added = torch.arange(16.0)
    with torch.no_grad():
        bias = dict(changed.named_parameters())["blocks.0.mlp.down.bias"]
        bias.data = bias + added
    found = tuned_direction(Pair(model, changed), prompts([0, 5], 10, 4), "block.0.mlp.out")
    torch.testing.assert_close(found.vector, added, atol=1e-4, rtol=1e-4)


def test_positions_and_means_over_tokens_read_what_capture_reads(model):
    ids, other = prompts([0], 6, 5), prompts([4], 6, 6)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[:, 3:] = False
    _, kept = capture(model, ids, ["resid.1"], mask)
    values = next(iter(kept.values()))
    _, kept = capture(model, other, ["resid.1"], mask)
    others = next(iter(kept.values()))
    found = contrast_direction(model, ids, other, "resid.1", at=None, masks=(mask, mask))
    torch.testing.assert_close(
        found.vector, values[:, :3].mean((0, 1)) - others[:, :3].mean((0, 1)), atol=1e-5, rtol=1e-4
    )
    at = torch.tensor([0, 1, 2, 0, 1, 2] * 2)
    found = contrast_direction(model, ids, other, "resid.1", at=at, masks=(mask, mask))
    rows = torch.arange(6)
    torch.testing.assert_close(
        found.vector, values[rows, at[:6]].mean(0) - others[rows, at[6:]].mean(0), atol=1e-5, rtol=1e-4
    )
    with pytest.raises(DataError, match="one position a prompt"):
        contrast_direction(model, ids, other, "resid.1", at=torch.tensor([0, 1]))


def test_the_dose_moves_the_metric_and_controls_do_not(model):
    sides = prompts([0, 1, 2, 3], 60, 2), prompts([4, 5, 6], 60, 3)
    direction = contrast_direction(model, *sides, "resid.1")
    controls = shuffled_directions(model, *sides, "resid.1", seed=0, norm=direction.norm)
    metrics = {"moved": logit_difference(RIGHT, WRONG, 4), "other": logit_difference(0, 1, 4)}
    ids = prompts([4, 5, 6], 40, 7)
    table = dose_response(model, direction, [-1.0, 0.0, 0.5, 1.0], metrics, ids, controls=controls, positions=4, seed=1)
    moved = table[table.metric == "moved"]
    own = moved[moved.source == "contrast"].set_index("dose").change
    assert own[0.0] == 0.0 and own[-1.0] < 0 < own[0.5] < own[1.0]
    random = moved[(moved.source == "random") & (moved.dose == 1.0)].change
    assert len(random) == 5 and own[1.0] > 1.2 * random.abs().max() and own[1.0] > 2 * random.abs().mean()
    assert set(table.source) == {"contrast", "random", "shuffled"} and (table.n == 40).all()
    np.testing.assert_allclose(table.norm, direction.norm, rtol=1e-5)


def test_a_learned_vector_keeps_its_limit_and_does_at_least_as_well_as_the_planted_one(model):
    ids, metric = prompts([4, 5, 6], 30, 8), logit_difference(RIGHT, WRONG, 4)
    found = learned_direction(model, ids, metric, "resid.0", norm=2.0, steps=30, positions=4)
    assert found.norm <= 2.0 + 1e-5 and len(found.curve) == 31 and found.curve[-1] > found.curve[0]
    held_out = prompts([4, 5, 6], 30, 9)
    planted = type(found)(site=found.site, vector=mark(model), source="contrast", n=0)

    def reached(direction) -> float:
        table = dose_response(model, direction, [1.0], {"m": metric}, held_out, positions=4)
        return float(table[table.source == direction.source].change.iloc[0])

    assert reached(found) > 0.95 * reached(planted) > 0
    assert all(p.grad is None for p in model.parameters())


def test_random_directions_are_as_long_and_not_alike(model):
    like = contrast_direction(model, prompts([0], 5, 1), prompts([5], 5, 2), "resid.1")
    drawn = torch.stack([d.vector for d in random_directions(like, n=40, seed=3)])
    torch.testing.assert_close(drawn.norm(dim=1), torch.full((40,), like.norm))
    cosines = torch.corrcoef(drawn)[~torch.eye(40, dtype=torch.bool)]
    assert float(cosines.abs().mean()) < 0.4  # about .2 in 16 directions
    again = random_directions(like, n=40, seed=3)[0].vector
    assert torch.equal(again, drawn[0])


def test_the_model_is_as_before_and_impossible_wishes_are_refused(model):
    ids = prompts([0], 3, 1)
    before = model(ids)
    direction = contrast_direction(model, ids, prompts([5], 3, 2), "resid.1")
    with steered(model, direction, 2.0), torch.no_grad():
        assert not torch.allclose(model(ids), before)
    assert torch.equal(model(ids), before)
    metric = logit_difference(RIGHT, WRONG, 4)
    with pytest.raises(DataError, match="norm > 0"):
        learned_direction(model, ids, metric, "resid.1", norm=0.0)
    with pytest.raises(DataError, match=r"gradient at resid\.1"):
        learned_direction(model, ids, metric, "resid.1", norm=1.0, positions=[])
    with pytest.raises(DataError, match="doses and metrics"):
        dose_response(model, direction, [], {"m": metric}, ids)
