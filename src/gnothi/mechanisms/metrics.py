"""What an intervention is judged by: one number a row, from the logits.

A metric is any function of logits (B, T, V) to (B,). Those made here read one position, and say which, so that the head
need not be computed at the others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gnothi.errors import DataError
from gnothi.mechanisms.anatomy import Anatomy

Metric = Callable[[Tensor], Tensor]
"""Logits (B, T, V) to one number a row, (B,)."""


@dataclass(frozen=True, eq=False)
class At:
    """A metric of the logits at one position of each row.

    Attributes:
        position: One for all rows, or (B,); negative ones count from the end.
        of: Logits (B, V) there to (B,).
    """

    position: int | Tensor
    of: Callable[[Tensor], Tensor]

    def __call__(self, logits: Tensor) -> Tensor:
        """(B, T, V) to (B,)."""
        rows = torch.arange(len(logits), device=logits.device)
        return self.of(logits[rows, torch.as_tensor(self.position, device=logits.device)])


def _column(logits: Tensor, ids: int | Tensor) -> Tensor:
    index = torch.as_tensor(ids, device=logits.device).expand(len(logits))
    return logits.gather(-1, index[:, None])[:, 0]


def answer_logprob(ids: int | Tensor, at: int | Tensor) -> At:
    """Natural-log probability of a token.

    Args:
        ids: The token, one for all rows or (B,).
        at: Position whose logits predict it.
    """
    return At(at, lambda logits: _column(logits.float(), ids) - logits.float().logsumexp(-1))


def logit_difference(right: int | Tensor, wrong: int | Tensor, at: int | Tensor) -> At:
    """Logit of one token minus that of another: the log-odds between the two.

    Args:
        right: The token that counts positively, one for all rows or (B,).
        wrong: The other.
        at: Position whose logits are read.
    """
    return At(at, lambda logits: _column(logits.float(), right) - _column(logits.float(), wrong))


def measured(body: Anatomy, ids: Tensor, metric: Metric, mask: Tensor | None = None, copies: int = 1) -> Tensor:
    """Run a model on several copies of a batch and take the metric of each.

    Args:
        body: The model.
        ids: (copies x B, T) token ids; each copy has the rows in the same order.
        metric: Of B rows.
        mask: (copies x B, T), as in `Anatomy.logits`.
        copies: How often the batch stands in `ids`, one after the other.

    Returns:
        (copies, B).

    Raises:
        DataError: A metric that gives something else than one number a row.
    """
    at = metric.position if isinstance(metric, At) else None
    if isinstance(at, Tensor) and at.dim():
        at = at.to(ids.device).repeat(copies)
    return taken(body.logits(ids, mask, at), metric, copies)


def taken(logits: Tensor, metric: Metric, copies: int = 1) -> Tensor:
    """The metric of each copy of a batch: logits (copies x B, T, V), or (copies x B, V) for an `At`, to (copies, B)."""
    of = metric.of if isinstance(metric, At) else metric
    each = logits.unflatten(0, (copies, -1))
    found = torch.stack([of(one) for one in each])
    if found.shape != each.shape[:2]:
        raise DataError(
            f"metric must give one number a row, ({each.shape[1]},), got {tuple(found.shape[1:])} for {each.shape[1]} rows."
        )
    return found
