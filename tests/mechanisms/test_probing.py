"""Probes: they agree with scikit-learn, read what is there, and their controls stay where they should."""

import copy

import numpy as np
import pytest
import torch

from gnothi.errors import DataError
from gnothi.mechanisms.answers import Answers, balanced
from gnothi.mechanisms.probing import activations, fit_probe, probe, probe_sites, reinitialised
from gnothi.mechanisms.sites import Site
from gnothi.rng import stream


def blobs(n: int, seed: int, *, classes: int = 4, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping Gaussian classes of unlike sizes, on axes of unlike scales."""
    centres = stream(7, "centres").normal(size=(classes, width))
    rng = stream(seed, "blobs")
    labels = rng.choice(classes, size=n, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    x = (centres[labels] + rng.normal(size=(n, width))) * 10.0 ** np.arange(width) + 3.0
    return torch.from_numpy(x).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("l2", [1.0, 0.01])
def test_the_fit_is_that_of_scikit_learn(l2: float):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, labels = blobs(400, 1)
    test_x, test_labels = blobs(600, 2)
    ours = fit_probe(x, labels, classes=4, l2=l2)
    scaler = StandardScaler().fit(x.double().numpy())
    theirs = LogisticRegression(C=1 / l2, max_iter=2000, tol=1e-8).fit(scaler.transform(x.double().numpy()), labels)
    found = ours.predictions(test_x).numpy()
    expected = theirs.predict(scaler.transform(test_x.double().numpy()))
    assert np.abs(ours.weight.numpy() - theirs.coef_).max() < 1e-3
    assert abs((found == test_labels.numpy()).mean() - (expected == test_labels.numpy()).mean()) < 0.01
    assert (found == expected).mean() > 0.995


def test_the_same_data_give_the_same_probe():
    x, labels = blobs(200, 1)
    first, again = (fit_probe(x, labels, classes=4) for _ in range(2))
    assert torch.equal(first.weight, again.weight) and torch.equal(first.bias, again.bias)


def test_a_planted_class_is_read_and_shuffled_labels_stay_at_the_floor():
    x, labels = blobs(600, 3)
    test_x, test_labels = blobs(2000, 4)
    found = probe(x, labels, test_x, test_labels, classes=4, seed=0, site="resid.1")
    assert found.trained.accuracy > 0.7 and found.trained.low < found.trained.accuracy < found.trained.high
    assert abs(found.majority - 0.4) < 0.05 and found.chance == 0.25
    assert abs(found.shuffled.accuracy - found.majority) < 0.08 and abs(found.shuffled.balanced - 0.25) < 0.05
    assert found.random_init is None and found.above_random is None
    assert found.row()["random_init_accuracy"] is None and found.row()["trained_balanced"] == found.trained.balanced


def test_nothing_is_read_from_noise():
    x, labels = blobs(600, 3)
    noise = torch.from_numpy(stream(5, "noise").normal(size=x.shape)).float()
    found = probe(noise[:300], labels[:300], noise[300:], labels[300:], classes=4, seed=0)
    assert found.trained.balanced < 0.35 and found.trained.accuracy < found.majority + 0.08


def test_balanced_accuracy_weighs_every_class_alike():
    right = torch.tensor([0] * 90 + [1] * 10)
    assert balanced(torch.zeros(100), right) == 0.5
    assert balanced(right, right) == 1.0


def test_columns_that_do_not_vary_do_no_harm():
    x, labels = blobs(200, 1)
    constant = torch.cat([x, torch.full((200, 1), 3.0)], 1)
    a, b = fit_probe(x, labels, classes=4), fit_probe(constant, labels, classes=4)
    assert torch.equal(a.predictions(x), b.predictions(constant))


@pytest.fixture(scope="module")
def profile(copying):
    module = copying.trained()
    train, test = copying.rows(400, 20), copying.rows(400, 21)
    return probe_sites(module, train, test, classes=copying.classes, seed=0)


def test_the_depth_profile_shows_where_the_first_token_arrives(profile):
    assert [p.site for p in profile] == ["resid.0", "resid.1", "resid.2"]
    assert profile[0].trained.accuracy < 0.35, "before attention the last position holds only its own token"
    assert profile[-1].trained.accuracy > 0.95
    assert all(p.random_init is not None and p.shuffled.accuracy < 0.35 for p in profile)


def test_a_random_model_is_given_beside_and_told_from_the_trained_one(copying, profile):
    assert profile[-1].above_random > 0.2
    module = copying.trained()
    rows = copying.rows(300, 22), copying.rows(300, 23)
    itself = probe_sites(module, *rows, classes=5, seed=0, sites=["block.1.mlp.out"], random_init=module)
    assert itself[0].above_random == 0.0


def test_activations_are_read_where_each_row_is_answered(copying):
    module = copying.trained()
    rows = copying.rows(50, 24)
    at = torch.arange(50) % 6
    found = activations(module, Answers(ids=rows.ids, labels=rows.labels, at=at, batch=16), [Site("resid", 0)])
    with torch.no_grad():
        expected = module.embed(rows.ids) + module.positions.weight[:6]
    assert torch.allclose(found[Site("resid", 0)], expected[torch.arange(50), at])
    mean = activations(module, rows, [Site("resid", 0)], last=3)[Site("resid", 0)]
    assert torch.allclose(mean, expected[:, -3:].mean(1), atol=1e-6)


def test_a_reinitialised_copy_shares_nothing_and_normalises_as_norms_do(copying):
    module = copying.trained()
    before = copy.deepcopy(module.state_dict())
    fresh, again, other = reinitialised(module, 1), reinitialised(module, 1), reinitialised(module, 2)
    assert all(torch.equal(before[name], p) for name, p in module.state_dict().items())
    assert fresh.norm.weight.eq(1).all() and fresh.norm.bias.eq(0).all() and fresh.blocks[0].mlp.up.bias.eq(0).all()
    weight = fresh.blocks[0].mlp.up.weight
    assert abs(weight.std() - 0.02) < 0.003 and not torch.equal(weight, other.blocks[0].mlp.up.weight)
    assert torch.equal(weight, again.blocks[0].mlp.up.weight)


def test_norms_that_multiply_by_one_more_than_their_weight_start_from_zero():
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 7, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    gemma = reinitialised(Gemma3ForCausalLM(Gemma3TextConfig(**sizes)), 0)
    llama = reinitialised(LlamaForCausalLM(LlamaConfig(**sizes)), 0)
    assert gemma.model.norm.weight.eq(0).all() and llama.model.norm.weight.eq(1).all()


def test_impossible_requests_are_refused(copying):
    x, labels = blobs(40, 1)
    with pytest.raises(DataError, match="finite activations"):
        fit_probe(x * torch.inf, labels, classes=4)
    with pytest.raises(DataError, match=r"labels from 0 to classes - 1.* got labels 0 to 3, 2 classes"):
        fit_probe(x, labels, classes=2)
    with pytest.raises(DataError, match="held-out activations like those it is fitted on"):
        probe(x, labels, x[:, :2], labels, classes=4, seed=0)
    with pytest.raises(DataError, match="for training and test or for neither"):
        probe(x, labels, x, labels, classes=4, seed=0, random_train_x=x)
    rows = copying.rows(20, 1)
    with pytest.raises(DataError, match="other rows than it is fitted on"):
        probe_sites(copying.trained(), rows, rows, classes=5, seed=0)
