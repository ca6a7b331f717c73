"""A small model that copies its first token, and ways to spoil it at a known place."""

import copy
import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from gnothi.mechanisms.answers import Answers
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.reversal import Course, train_back
from gnothi.rng import integer
from gnothi.testbeds.transformer import Shape, Transformer


class CopyTask:
    """Rows of `classes` tokens whose right answer, after the last, is the first."""

    classes = 5
    shape = Shape(layers=2, heads=2, width=16, mlp=24, vocabulary=5, longest=6)

    def rows(self, n: int, seed: int, *, random_labels: bool = False) -> Answers:
        """Fresh rows."""
        draws = torch.Generator().manual_seed(integer(seed, "copying"))
        ids = torch.randint(self.classes, (n, self.shape.longest), generator=draws)
        labels = torch.randint(self.classes, (n,), generator=draws) if random_labels else ids[:, 0]
        return Answers(ids=ids, labels=labels)

    def batches(self, seed: int, *, size: int = 32, random_labels: bool = False) -> Iterator[Answers]:
        """Endless fresh rows."""
        step = 0
        while True:
            yield self.rows(size, integer(seed, "batch", step), random_labels=random_labels)
            step += 1

    def loss(self, module: nn.Module, batch: Answers) -> Tensor:
        """Cross-entropy, nats."""
        return sum(batch.losses(module), start=torch.zeros(()))

    def __init__(self) -> None:
        self._trained = functools.cache(self._train)

    def _train(self, random_labels: bool) -> Transformer:
        module = Transformer(self.shape, seed=1)
        course = Course(steps=150, every=150, lr=2e-2)
        rows = self.batches(2, random_labels=random_labels)
        train_back(module, rows, self.loss, self.rows(200, 3).accuracy, course, seed=0)
        return module

    def trained(self, *, random_labels: bool = False) -> Transformer:
        """A copy of the model that copies, or of one that was trained on random labels and never could."""
        return copy.deepcopy(self._trained(random_labels))

    def with_loud_weight(self, row: int = 7, neuron: int = 5) -> Transformer:
        """One entry of the last `down` is so large that the stream holds little else: answers are at the floor."""
        module = self.trained()
        mlp = module.blocks[1].mlp
        with torch.no_grad():
            mlp.up.weight[neuron], mlp.up.bias[neuron], mlp.down.weight[:, neuron] = 0.0, 1.0, 0.0
            mlp.down.weight[row, neuron] = 300.0
        return module

    def with_loud_neuron(self, neuron: int = 5, size: float = 200.0) -> Transformer:
        """One hidden unit, on at the answer whatever the input, pushes towards class 0; it reads no bias."""
        module = self.trained()
        mlp = module.blocks[1].mlp
        seen: list[Tensor] = []
        handle = mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        capture(module, self.rows(200, 4).ids, ["resid.2"])
        handle.remove()
        always = torch.linalg.lstsq(seen[-1][:, -1], torch.ones(200, 1)).solution[:, 0]  # about 1 on every input
        with torch.no_grad():
            mlp.up.weight[neuron], mlp.up.bias[neuron] = always, 0.0
            mlp.down.weight[:, neuron] = size * (module.head.weight[0] - module.head.weight.mean(0))
        return module


@pytest.fixture(scope="session")
def copying() -> CopyTask:
    """The task of copying the first token."""
    return CopyTask()
