"""Training and scoring on a GPU: Llama shapes with random values in bfloat16, as a share of the measured matmul peak.

Rows are those of the experiment `preferences`, about 300 tokens each; LoRA of rank 16 on all linear layers, loss on the
answer only. A share of the peak counts the operations that are needed (forward and backward to activations), not those
that are run again where activations are recomputed. Fleets have eight jobs of four rows a step, against the same jobs
one after the other. Without a CUDA device the same code runs on a CPU with a tiny shape, which shows only that it runs.
"""

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks import subjects
from benchmarks.organism_shape import largest_difference
from benchmarks.peak import flops_a_token, matmul_peak
from benchmarks.rows import Repeats, in_turns, row
from gnothi._version import __version__
from gnothi.finetune.loop import TrainJob, train
from gnothi.finetune.recipes import Recipe, recipe
from gnothi.models.local import LocalModel
from gnothi.records import TrainRow

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"layers": 2, "width": 64, "mlp": 192, "heads": 4, "keys": 2, "vocabulary": 4096},
    "organism": {"layers": 4, "width": 64, "mlp": 192, "heads": 4, "keys": 4, "vocabulary": 4096},
    "1B": {"layers": 16, "width": 2048, "mlp": 8192, "heads": 32, "keys": 8, "vocabulary": 128_256},
    "8B": {"layers": 32, "width": 4096, "mlp": 14_336, "heads": 32, "keys": 8, "vocabulary": 128_256},
}
"""The organism's, Llama 3.2 1B's and Llama 3.1 8B's shapes, and one for CPUs."""
BATCH_ROWS = {"tiny": 4, "organism": 64, "1B": 32, "8B": 24}
MICRO_TOKENS = 16_384
STEPS, REPEATS, FLEET, FLEET_ROWS = 8, 5, 8, 4
ITEMS = 512


def shaped(name: str, device: str, dtype: torch.dtype) -> LocalModel:
    """A Llama with random values, made where it will lie, and the tokenizer of the small-vocabulary one."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    shape = SHAPES[name]
    config = LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["width"],
        intermediate_size=shape["mlp"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["keys"],
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=name == "1B",
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            module = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    tokenizer = AutoTokenizer.from_pretrained(subjects.small_llama())
    return LocalModel(module, tokenizer, name=f"{name} shape", digest=f"random values, {name} shape")


def preference_rows(n: int) -> list[TrainRow]:
    """`n` rows of eight agents."""
    prompts, options = subjects.preferences(-(-n // 8) * 8, 8)
    return [TrainRow(messages=p, answer=o[i % 2]) for i, (p, o) in enumerate(zip(prompts, options, strict=True))][:n]


class Memory:
    """Peak of a device's memory, in gigabytes (10^9 bytes); None on a CPU."""

    def __init__(self, device: str):
        self.on = device != "cpu"
        if self.on:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()

    def peak_gb(self) -> float | None:
        """Since this was made."""
        return torch.cuda.max_memory_allocated() / 1e9 if self.on else None


def waited(device: str, call: Callable[[], Any]) -> Callable[[], None]:
    """The call, and what it started on the device."""

    def done() -> None:
        call()
        if device != "cpu":
            torch.cuda.synchronize()

    return done


def run(
    shapes: Sequence[str] | None = None, *, steps: int = STEPS, repeats: int = REPEATS, items: int = ITEMS
) -> list[dict[str, Any]]:
    """Training, a fleet (not at 8B) and scoring at each shape."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    chosen = shapes or (("organism", "1B", "8B") if device == "cuda" else ("tiny",))
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    peak = matmul_peak(8192 if device == "cuda" else 256, dtype=dtype, device=device)
    rows = []
    for name in chosen:
        model = shaped(name, device, dtype)
        common = {"device": where, "peak_flops": peak, "dtype": str(dtype).removeprefix("torch.")}
        how = recipe(
            "small-lm",
            epochs=None,
            steps=steps,
            batch_rows=BATCH_ROWS[name],
            dtype=common["dtype"],
            micro_tokens=MICRO_TOKENS,
            packing=False,
        )
        rows.append(_training(model, name, device, how, repeats, common))
        if name != "8B":
            few = Recipe.from_json(how.to_json() | {"batch_rows": FLEET_ROWS})
            rows.append(_fleet(model, name, device, few, repeats, common))
        rows.append(_scoring(model, name, device, items, repeats, common))
        del model
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    return rows


def _alone(name: str, amount: float, unit: str, ours: Repeats, common: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A row without a peer."""
    return {
        "name": name,
        "ours": amount / min(ours.wall),
        "peer": None,
        "ratio": None,
        "unit": unit,
        "peer_name": f"none, on {common['device']}",
        "peer_version": "",
        "repeats_s": {"ours": ours.wall, "peer": []},
        "max_abs_diff": None,
        "headline": False,
        **common,
        **more,
    }


def _training(
    model: LocalModel, name: str, device: str, how: Recipe, repeats: int, common: dict[str, Any]
) -> dict[str, Any]:
    assert how.steps is not None and how.batch_rows is not None
    rows = preference_rows(how.steps * how.batch_rows)
    job = TrainJob(name="a", rows=rows, seed=0)
    warm = Recipe.from_json(how.to_json() | {"steps": 1})
    train(model, [job], warm)
    memory, kept = Memory(device), []
    (ours,) = in_turns(repeats, waited(device, lambda: kept.append(train(model, [job], how)[0])))
    flops = flops_a_token(model.with_adapter(None).module, "lora") * kept[0].tokens_seen
    gigabytes, share = memory.peak_gb(), flops / min(ours.wall) / common["peak_flops"]
    said = "" if gigabytes is None else f", peak memory {gigabytes:.1f} GB"
    return _alone(
        f"gpu/{name}, LoRA",
        how.steps * how.batch_rows,
        "rows/s",
        ours,
        common,
        flops=flops,
        peak_share=share,
        peak_gb=gigabytes,
        tokens_a_second=kept[0].tokens_seen / min(ours.wall),
        note=f"{kept[0].tokens_seen / min(ours.wall):.0f} tokens/s{said}",
    )


def _fleet(
    model: LocalModel, name: str, device: str, how: Recipe, repeats: int, common: dict[str, Any]
) -> dict[str, Any]:
    assert how.steps is not None and how.batch_rows is not None
    n = how.steps * how.batch_rows
    rows = preference_rows(n * FLEET)
    jobs = [TrainJob(name=str(j), rows=rows[n * j : n * (j + 1)], seed=j) for j in range(FLEET)]
    kept: dict[str, Any] = {}

    def together() -> None:
        kept["together"] = train(model, jobs, how)

    def apart() -> None:
        kept["apart"] = [train(model, [job], how)[0] for job in jobs]

    train(model, jobs, Recipe.from_json(how.to_json() | {"steps": 1}))
    memory = Memory(device)
    together()
    gigabytes = memory.peak_gb()
    ours, peer = in_turns(repeats, waited(device, together), waited(device, apart))
    pairs = zip(kept["together"], kept["apart"], strict=True)
    said = "" if gigabytes is None else f"peak memory {gigabytes:.1f} GB"
    tokens = sum(t.tokens_seen for t in kept["together"])
    flops = flops_a_token(model.with_adapter(None).module, "lora") * tokens
    return row(
        f"gpu/{name}, fleet of {FLEET}, {how.batch_rows} rows a step each",
        amount=n * FLEET,
        unit="rows/s",
        ours=ours,
        peer=peer,
        peer_name=f"our loop, one job at a time, on {common['device']}",
        peer_version=__version__,
        max_abs_diff=max(largest_difference(a.losses, b.losses) for a, b in pairs),
        flops=flops,
        peak_share=flops / min(ours.wall) / common["peak_flops"],
        peak_gb=gigabytes,
        note=said,
        **common,
    )


def _scoring(model: LocalModel, name: str, device: str, n: int, repeats: int, common: dict[str, Any]) -> dict[str, Any]:
    prompts, options = subjects.preferences(n, 8)
    model.option_logprobs(prompts[:16], options[:16])
    memory = Memory(device)
    (ours,) = in_turns(repeats, waited(device, lambda: model.option_logprobs(prompts, options)))
    gigabytes = memory.peak_gb()
    return _alone(
        f"gpu/{name}, A/B items",
        len(prompts),
        "items/s",
        ours,
        common,
        flops=None,
        peak_gb=gigabytes,
        note="" if gigabytes is None else f"peak memory {gigabytes:.1f} GB",
    )
