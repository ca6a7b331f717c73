"""Logit lens: what the model would say if it stopped after each block.

Source: the logit lens (nostalgebraist 2020), with the model's own final norm and without any training. Early streams need
not be in the basis that the head reads, so an answer that shows late may have been there before: see `probing`.
"""

import torch
from torch import Tensor, nn

from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.sites import Site


def logit_lens(
    module: nn.Module,
    ids: Tensor,
    *,
    mask: Tensor | None = None,
    at: int | Tensor | None = None,
    tokens: Tensor | None = None,
) -> Tensor:
    """Logits of the residual stream before each block and after the last.

    Args:
        module: A model that `anatomy` can read.
        ids: (B, T) token ids.
        mask: As in `Anatomy.logits`.
        at: Position to read, one for all rows or (B,); None for all positions.
        tokens: (n,) columns of the logits to keep; None for all, which is much memory for many tokens.

    Returns:
        (n_blocks + 1, B, T, V or n), or (n_blocks + 1, B, V or n) with `at`; the last are the model's own logits.

    Raises:
        ModelError: A layout that is not known.
    """
    body = anatomy(module)
    sites = [Site("resid", i) for i in range(body.n_blocks + 1)]
    _, kept = capture(module, ids, sites, mask, at=0)
    rows = torch.arange(len(ids), device=ids.device)
    found = []
    with torch.no_grad():
        for site in sites:
            stream = kept[site] if at is None else kept[site][rows, torch.as_tensor(at, device=ids.device)]
            logits = body.unembed(stream)
            found.append(logits if tokens is None else logits[..., tokens.to(logits.device)])
    return torch.stack(found)
