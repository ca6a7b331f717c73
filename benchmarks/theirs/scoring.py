"""lm-evaluation-harness: log-probabilities of continuations by its `hf` model, in the peers' environment."""

from typing import Any

from benchmarks.serving import Stopwatch, counted_flops, serve, versions

_LOADED: dict[str, Any] = {}


def load(folder: str) -> dict[str, str]:
    """Open a model folder in float32."""
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(1)
    _LOADED["model"] = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=1)
    return {"version": versions("lm-eval", "transformers", "torch")}


def encode(pairs: list[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
    """Token ids of contexts and continuations, as the harness splits them."""
    return [_LOADED["model"]._encode_pair(context, continuation) for context, continuation in pairs]


def _requests(pairs: list[tuple[str, str]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(request_type="loglikelihood", doc={}, arguments=tuple(p), idx=i) for i, p in enumerate(pairs)]


def score(pairs: list[tuple[str, str]], batch: int, count: bool = False) -> dict[str, Any]:
    """Log-probabilities (nats) of continuations after their contexts, and the time that took.

    Args:
        pairs: Contexts and continuations.
        batch: Sequences in a forward pass.
        count: Whether to count operations, and to keep the batches for `headless`; then the time is not to be used.
    """
    model, requests = _LOADED["model"], _requests(pairs)
    model.batch_size_per_gpu = batch
    kept: list[Any] = []
    inner = model._model_call
    if count:
        model._model_call = lambda ids, **more: (kept.append(ids), inner(ids, **more))[1]
    watch = Stopwatch()
    try:
        if count:
            found, flops = counted_flops(lambda: model.loglikelihood(requests, disable_tqdm=True))
            _LOADED["batches"] = kept
        else:
            found, flops = model.loglikelihood(requests, disable_tqdm=True), 0
    finally:
        model.__dict__.pop("_model_call", None)
    return {"logprobs": [f[0] for f in found], **watch.read(), "flops": flops}


def headless() -> dict[str, Any]:
    """The batches of the last counted call again, with the head at each sequence's last position only."""
    import torch

    watch = Stopwatch()
    with torch.no_grad():
        for ids in _LOADED["batches"]:
            _LOADED["model"].model(ids, logits_to_keep=1)
    tokens = sum(ids.numel() for ids in _LOADED["batches"])
    return {**watch.read(), "tokens": tokens, "passes": len(_LOADED["batches"])}


if __name__ == "__main__":
    serve(load=load, encode=encode, score=score, headless=headless)
