"""Many adapters of one base model asked together: each row of a batch goes through its own adapter."""

from collections.abc import Sequence

import numpy as np

from gnothi.errors import DataError, ModelError
from gnothi.models import local_sampling, local_scoring
from gnothi.models.adapters import AdapterStack, LoraStack
from gnothi.models.base import Answer, Sampling
from gnothi.models.local import LocalModel
from gnothi.records import Messages


def generate_many(
    views: Sequence[LocalModel], prompts: Sequence[Sequence[Messages]], sampling: Sampling
) -> list[list[list[Answer]]]:
    """Sample answers of several views of one base model in common batches.

    Args:
        views: Views of one model, each with its adapter or with none (`LocalModel.with_adapter`).
        prompts: For each view its prompts.
        sampling: How to sample; the same for all.

    Returns:
        For each view what `view.generate(prompts, sampling)` returns, up to rounding that depends on the batch.

    Raises:
        DataError: Not one list of prompts a view.
        ModelError: Views of different models.
    """
    if len(prompts) != len(views):
        raise DataError(f"prompts must be one list a view, got {len(prompts)} for {len(views)} views.")
    if len(views) < 2 or any(view.adapter is not None and view.adapter.full for view in views):
        return [view.generate(own, sampling) for view, own in zip(views, prompts, strict=True)]
    stack = stacked(views)
    flat = [messages for own in prompts for messages in own]
    owners = [v for v, own in enumerate(prompts) for _ in own]
    first = views[0]
    ids, _ = first.codec.encode_many(flat, [[]] * len(flat))
    with first.bare() as module, stack.on(module):
        found = iter(
            local_sampling.sample(module, first.codec, ids, sampling, first.device, owners=owners, use=stack.use)
        )
    return [[next(found) for _ in own] for own in prompts]


def option_logprobs_many(
    views: Sequence[LocalModel], prompts: Sequence[Sequence[Messages]], options: Sequence[Sequence[Sequence[str]]]
) -> list[list[np.ndarray]]:
    """Score options under several views of one base model in common batches.

    Args:
        views: Views of one model, each with its adapter or with none.
        prompts: For each view its prompts.
        options: For each view and prompt its options' texts.

    Returns:
        For each view what `view.option_logprobs(prompts, options)` returns, up to rounding that depends on the batch.

    Raises:
        DataError: Not one list of prompts and of options a view.
        ModelError: Views of different models.
    """
    if not len(prompts) == len(options) == len(views):
        raise DataError(
            f"prompts and options must be one list a view, got {len(prompts)} and {len(options)} for {len(views)} views."
        )
    if len(views) < 2 or any(view.adapter is not None and view.adapter.full for view in views):
        return [v.option_logprobs(p, o) for v, p, o in zip(views, prompts, options, strict=True)]
    stack, first = stacked(views), views[0]
    owners = [v for v, own in enumerate(prompts) for _ in own]
    encoded = first.codec.encode_many([m for own in prompts for m in own], [o for own in options for o in own])
    with first.bare() as module, stack.on(module):
        found = iter(local_scoring.score(module, *encoded, owners=owners, stack=stack))
    return [[next(found) for _ in own] for own in prompts]


def stacked(views: Sequence[LocalModel]) -> AdapterStack:
    """The adapters of several views as one stack, in their order.

    They may differ in kind, rank, scale and layers: what one does not have is zero. A view without an adapter is all
    zero. A row's scale is in its B where adapters' scales differ.

    Args:
        views: Views of one model.

    Raises:
        ModelError: No view, views of different models, or one that changes whole parameters.
    """
    if not views or len({id(view._base) for view in views}) != 1:
        names = ", ".join(dict.fromkeys(view.name for view in views))
        raise ModelError(
            f"views must be of one model in memory, got {names or 'none'}. Make them with `model.with_adapter(...)`."
        )
    adapters = [view.adapter for view in views]
    if any(a is not None and a.full for a in adapters):
        raise ModelError("adapters in one stack must be rows or LoRA, got changed parameters. Ask that view by itself.")
    device = views[0].device
    stack = AdapterStack(len(views))
    tuned = [(j, a) for j, a in enumerate(adapters) if a is not None]
    scales = {a.spec.scale for _, a in tuned if a.lora}
    common = scales.pop() if len(scales) == 1 else None
    pairs = {}
    for name in dict.fromkeys(n for _, a in tuned for n in a.lora):
        having = [(j, *a.lora[name], a.spec.scale) for j, a in tuned if name in a.lora]
        rank = max(len(a) for _, a, _, _ in having)
        _, a, b, _ = having[0]
        all_a = a.new_zeros(len(views), rank, a.shape[1])
        all_b = b.new_zeros(len(views), b.shape[0], rank)
        for j, a, b, scale in having:
            all_a[j, : len(a)] = a
            all_b[j, :, : len(a)] = b if common is not None else b * scale
        pairs[name] = (all_a.to(device), all_b.to(device))
    if pairs:
        stack.loras = [LoraStack(pairs, 1.0 if common is None else common)]
    with_rows = [(j, a.rows, a.spec.row_token_ids) for j, a in tuned if a.rows is not None]
    if with_rows:
        most = max(len(rows) for _, rows, _ in with_rows)
        all_rows = with_rows[0][1].new_zeros(len(views), most, with_rows[0][1].shape[1])
        for j, rows, ids in with_rows:
            all_rows[j, : len(rows)] = rows
            stack.row_ids[j] = ids
        stack.rows = all_rows.to(device)
    return stack
