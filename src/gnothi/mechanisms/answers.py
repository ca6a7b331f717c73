"""Questions with one right token each, as tensors: what pruning, probing and reverse fine-tuning are measured on.

It is a convenience. Each analysis takes plain functions of a module; the methods here are such functions.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gnothi.errors import DataError
from gnothi.mechanisms.anatomy import anatomy


@dataclass(frozen=True, eq=False, kw_only=True)
class Answers:
    """Prompts, where the answer is read, and which it should be."""

    ids: Tensor
    """(n, T) tokens."""
    labels: Tensor
    """(n,) the right class: a column of the logits, or of `options` where there are some."""
    at: int | Tensor = -1
    """Position whose logits are the answer's: one for all, or (n,)."""
    mask: Tensor | None = None
    """(n, T) True at tokens, False at padding; None where there is none."""
    options: Tensor | None = None
    """(classes,) columns of the logits among which the answer is chosen; None for all."""
    batch: int = 512
    """Rows of one forward pass."""

    def __post_init__(self) -> None:
        n = len(self.ids)
        if not n or self.ids.dim() != 2 or self.labels.shape != (n,):
            raise DataError(
                f"Answers must have ids (n, T) and labels (n,), got {tuple(self.ids.shape)} and "
                f"{tuple(self.labels.shape)}."
            )
        if isinstance(self.at, Tensor) and self.at.shape != (n,):
            raise DataError(f"Answers.at must be one position or one a row ({n}), got {tuple(self.at.shape)}.")
        if self.mask is not None and self.mask.shape != self.ids.shape:
            raise DataError(f"Answers.mask must be as large as ids, got {tuple(self.mask.shape)}.")

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, which: Tensor | slice) -> "Answers":
        """Some of the rows."""
        at = self.at[which] if isinstance(self.at, Tensor) else self.at
        mask = None if self.mask is None else self.mask[which]
        return replace(self, ids=self.ids[which], labels=self.labels[which], at=at, mask=mask)

    def with_labels(self, labels: Tensor) -> "Answers":
        """The same prompts with other right answers."""
        return replace(self, labels=labels)

    def parts(self) -> Iterator["Answers"]:
        """Batches, in order."""
        for start in range(0, len(self), self.batch):
            yield self.rows(slice(start, start + self.batch))

    def logits(self, module: nn.Module) -> Tensor:
        """(n, classes) of all rows in one pass, with gradient where the caller records one."""
        found = anatomy(module).logits(self.ids, self.mask, at=self.at)
        return found if self.options is None else found[:, self.options]

    def losses(self, module: nn.Module) -> Iterator[Tensor]:
        """Cross-entropy in nats, batch by batch; the sum over batches is the mean over rows."""
        for part in self.parts():
            yield nn.functional.cross_entropy(part.logits(module).float(), part.labels, reduction="sum") / len(self)

    def loss(self, module: nn.Module) -> float:
        """Mean cross-entropy, nats."""
        with torch.no_grad():
            return float(sum(self.losses(module)))

    def predictions(self, module: nn.Module) -> Tensor:
        """(n,) the class of highest logit."""
        with torch.no_grad():
            return torch.cat([part.logits(module).argmax(-1) for part in self.parts()])

    def accuracy(self, module: nn.Module) -> float:
        """Share of rows whose answer is right, in [0, 1]."""
        return float((self.predictions(module) == self.labels).double().mean())

    def balanced_accuracy(self, module: nn.Module) -> float:
        """Mean over the classes that occur of the share that is right."""
        return balanced(self.predictions(module), self.labels)

    def histogram(self, module: nn.Module, classes: int) -> list[int]:
        """How often each class is answered."""
        return torch.bincount(self.predictions(module).cpu(), minlength=classes).tolist()

    @property
    def floor(self) -> float:
        """Share of the commonest right answer: what saying it always would score."""
        return float(torch.bincount(self.labels).max() / len(self))


def balanced(found: Tensor, right: Tensor) -> float:
    """Mean over the classes in `right` of the share found right, in [0, 1].

    >>> balanced(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]))
    0.5
    """
    hits = (found == right).double()
    return float(torch.stack([hits[right == c].mean() for c in right.unique()]).mean())


@contextlib.contextmanager
def still(module: nn.Module) -> Iterator[nn.Module]:
    """The module without dropout and without gradients, for the length of a `with` block."""
    flags = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield module
    finally:
        for part, training in flags:
            part.training = training
