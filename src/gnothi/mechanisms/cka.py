"""How alike two sets of representations of the same inputs are, whatever their rotation and size.

Source: linear CKA is Kornblith et al. 2019 (arXiv:1905.00414), section 3. Its usual estimate tends to 1 where there are few
inputs against the width, whatever the representations; `debiased` takes the unbiased estimate of HSIC of Song et al. 2012
(JMLR 13, equation 5) in its numerator and in both factors of its denominator, as Nguyen et al. 2021 (arXiv:2010.15327) do.
"""

import torch
from torch import Tensor

from gnothi.errors import DataError

FEWEST = 4
"""Inputs that the unbiased estimate needs."""


def linear_cka(x: Tensor, y: Tensor, *, debiased: bool = True) -> float | None:
    """Linear centred kernel alignment.

    Args:
        x: (n, d) representations.
        y: (n, d') others of the same inputs in the same order.
        debiased: Whether to use the unbiased HSIC; it may then fall a little under 0 or rise above 1.

    Returns:
        About 0 for unrelated ones, 1 for the same up to rotation and size; None where one of them does not vary, or so
        little against n that its unbiased variance is not positive.

    Raises:
        DataError: Different numbers of inputs, or fewer than 4.
    """
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y) or len(x) < FEWEST:
        raise DataError(
            f"cka must get two matrices with a row for each of the same inputs, at least {FEWEST}, "
            f"got {tuple(x.shape)} and {tuple(y.shape)}."
        )
    grams = [_gram(values, debiased) for values in (x, y)]
    product = _unbiased if debiased else _biased
    own = [float(product(g, g)) for g in grams]
    # a representation that does not vary leaves rounding, which is nothing against the size of its values
    size = [float(values.double().square().sum()) ** 2 for values in (x, y)]
    if any(o <= 1e-20 * max(s, 1e-300) for o, s in zip(own, size, strict=True)):
        return None
    return float(product(*grams)) / (own[0] * own[1]) ** 0.5


def _gram(values: Tensor, debiased: bool) -> Tensor:
    """(n, n) products of the centred rows; without the diagonal for the unbiased estimate."""
    values = values.double()
    values = values - values.mean(0)
    gram = values @ values.T
    return gram - torch.diag(gram.diagonal()) if debiased else gram


def _biased(k: Tensor, other: Tensor) -> Tensor:
    return (k * other).sum()


def _unbiased(k: Tensor, other: Tensor) -> Tensor:
    """HSIC times n (n - 3), for kernels with an empty diagonal."""
    n = len(k)
    sums = k.sum() * other.sum() / ((n - 1) * (n - 2))
    return (k * other).sum() + sums - 2 / (n - 2) * (k.sum(0) @ other.sum(0))
