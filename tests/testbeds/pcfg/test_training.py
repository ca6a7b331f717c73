"""Pretraining: what is computed, that it learns, and that it goes on where it was cut off."""

from pathlib import Path

import pytest
import torch

from gnothi.errors import SpecError, StoreError, TrainingError
from gnothi.testbeds.pcfg import training
from gnothi.testbeds.pcfg.data import Rows, World
from gnothi.testbeds.pcfg.grammar import read_grammar
from gnothi.testbeds.pcfg.tasks import Tasks
from gnothi.testbeds.pcfg.training import (
    Recipe,
    accuracy,
    answer_logits,
    batches,
    new_model,
    predictions,
    pretrain,
    whole_loss,
)
from gnothi.testbeds.transformer import Transformer

TASKS = Tasks(terminals=3, window=8, last=4, rank=1)
SIZES = {"layers": 2, "heads": 2, "width": 16, "mlp": 32, "dropout": 0.1}


@pytest.fixture(autouse=True)
def one_thread():
    """As in a run: for such matrices more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def world() -> World:
    return World(read_grammar("paper"), TASKS, spread=1.0)


def drawn(world: World):
    return lambda n, generator: world.pretraining(n, generator, families=("count",), prior=(1.0, 0.0, 0.0))


def trained(
    world: World, recipe: Recipe, folder: Path | None = None, stop: int | None = None
) -> tuple[Transformer, list[float]]:
    model = new_model(TASKS, SIZES, seed=0)

    def progress(done: int, total: int, line: str) -> None:
        assert "nats" in line
        if stop is not None and done >= stop:
            raise KeyboardInterrupt

    found = pretrain(
        model,
        world,
        recipe,
        draw=drawn(world),
        seed=1,
        look=lambda m: {"a": accuracy(m, drawn(world)(50, world.generator(0, "look")))},
        folder=folder,
        key="mine",
        progress=progress,
    )
    return model, found.losses


@pytest.mark.parametrize("short", [64, 4])
def test_answers_and_text_are_computed_as_by_the_whole_model(world: World, monkeypatch, short: int):
    monkeypatch.setattr(training, "SHORT", short)
    model = new_model(TASKS, SIZES, seed=3).eval()
    rows = drawn(world)(40, world.generator(0, "x"))
    assert torch.allclose(answer_logits(model, rows.ids), model(rows.ids, at=-1), atol=1e-6)
    assert torch.equal(predictions(model, rows.ids, batch=7), model(rows.ids, at=-1).argmax(-1))
    logits = model(rows.ids)
    text = torch.nn.functional.cross_entropy(logits[:, 3:11].flatten(0, 1), rows.ids[:, 4:12].flatten())
    answer = torch.nn.functional.cross_entropy(logits[:, -1], rows.answers)
    assert float(whole_loss(model, rows, TASKS).detach()) == pytest.approx(float((text + answer).detach()), abs=1e-5)


def test_gradients_are_those_of_the_whole_model(world: World):
    model = new_model(TASKS, SIZES, seed=3).eval()
    rows = drawn(world)(16, world.generator(0, "y"))
    grads = []
    entropy = torch.nn.functional.cross_entropy
    for loss in (
        lambda: entropy(answer_logits(model, rows.ids), rows.answers),
        lambda: entropy(model(rows.ids, at=-1), rows.answers),
    ):
        model.zero_grad()
        loss().backward()
        grads.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.allclose(grads[0][n], grads[1][n], atol=1e-6) for n in grads[0])


def test_a_model_learns_to_count(world: World):
    model, losses = trained(world, Recipe(steps=300, batch=64, rate=5e-3, muon=0.02, text_every=0))
    assert losses[-1] < 0.5 * losses[0]
    rows = drawn(world)(400, world.generator(9, "test"))
    assert accuracy(model, rows) > 0.9 > 2 * rows.floor


@pytest.mark.parametrize("muon", [0.0, 0.02])
def test_a_training_that_was_cut_off_ends_with_the_same_values(world: World, tmp_path: Path, monkeypatch, muon: float):
    monkeypatch.setattr(training, "STRETCH", 5)
    recipe = Recipe(steps=23, batch=4, rate=1e-3, muon=muon, text_every=2, keep_s=0.0)
    whole, losses = trained(world, recipe)
    with pytest.raises(KeyboardInterrupt):
        trained(world, recipe, tmp_path, stop=15)
    assert list(tmp_path.iterdir())
    again, resumed = trained(world, recipe, tmp_path)
    assert resumed == losses
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_checkpoint_of_another_training_is_refused(world: World, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(training, "STRETCH", 5)
    recipe = Recipe(steps=23, batch=4, rate=1e-3, keep_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        trained(world, recipe, tmp_path, stop=15)
    model = new_model(TASKS, SIZES, seed=0)
    with pytest.raises(StoreError, match="must be of this training"):
        pretrain(model, world, recipe, draw=drawn(world), seed=1, look=lambda m: {}, folder=tmp_path, key="another")


def test_a_rate_that_breaks_the_loss_says_so(world: World, monkeypatch):
    monkeypatch.setattr(training, "STRETCH", 5)
    with pytest.raises(TrainingError, match=r"the loss must stay finite, got .* Lower the rates"):
        trained(world, Recipe(steps=40, batch=4, rate=1e30, warmup=0.0))


def test_a_recipe_that_cannot_be_is_refused():
    with pytest.raises(SpecError, match="rate above 0"):
        Recipe(steps=1, batch=1, rate=0.0)


def test_batches_are_the_same_for_the_same_names(world: World, monkeypatch):
    monkeypatch.setattr(training, "STRETCH", 3)
    streams = [batches(drawn(world), world, 4, "x", seed=seed) for seed in (0, 0, 1)]
    first: list[list[Rows]] = [[next(s) for _ in range(7)] for s in streams]
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(first[0], first[1], strict=True))
    assert not all(torch.equal(a.ids, b.ids) for a, b in zip(first[0], first[2], strict=True))
    assert all(len(rows) == 4 for rows in first[0])
