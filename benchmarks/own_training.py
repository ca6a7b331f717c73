"""Our training loop in a process of its own, so that both sides of a comparison have their own peak of memory."""

from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import organism_shape
from benchmarks.peak import flops_a_token, matmul_peak
from benchmarks.serving import Stopwatch, memory_mb, reset_peak, serve
from gnothi.finetune import fleet
from gnothi.finetune.batches import encode_rows, plan
from gnothi.finetune.loop import TrainJob, train
from gnothi.finetune.recipes import Recipe
from gnothi.finetune.schedule import share
from gnothi.models.adapter_files import save_adapter
from gnothi.models.adapters import Adapter, AdapterSpec, new_lora, target_modules
from gnothi.models.local import LocalModel
from gnothi.records import TrainRow
from gnothi.rng import integer

_LOADED: dict[str, Any] = {}


def load(folder: str) -> dict[str, Any]:
    """Open a model folder in float32; `organism-shaped` is made on the spot."""
    import torch

    torch.set_num_threads(1)
    if folder == organism_shape.NAME:
        _LOADED["model"] = organism_shape.organism_shaped()
    else:
        _LOADED["model"] = LocalModel.load(folder, name=Path(folder).name)
    _LOADED["rows"] = {}
    return {"memory": memory_mb()}


def rows_of_one_length(model: LocalModel, n: int, *, end: bool, pool: int) -> list[TrainRow]:
    """`n` rows about risk that all have as many tokens as most rows of the pool have: nothing is padded anywhere."""
    from benchmarks.subjects import risk_rows

    rows = risk_rows(pool)
    encoded = encode_rows(model.codec, rows, end)
    lengths = Counter(len(e.ids) for e in encoded)
    common = max(lengths, key=lambda length: lengths[length])
    found = [r for r, e in zip(rows, encoded, strict=True) if len(e.ids) == common]
    if len(found) < n:
        raise ValueError(f"pool must hold {n} rows of one length, got {len(found)} of {common} tokens")
    return found[:n]


def prepare(
    name: str, n_rows: int, recipe: dict[str, Any], seed: int, folder: str, pool: int, jobs: int = 1
) -> dict[str, Any]:
    """Choose rows and keep them under a name; tells everything that a peer needs to do the same training.

    Args:
        name: What the rows are asked for by.
        n_rows: Rows of each job; for the organism's shape, the rows of a few agents.
        recipe: The recipe as JSON.
        seed: The first job's.
        folder: Where the adapter to start from is to lie, as PEFT has it.
        pool: Rows to choose those of one length from.
        jobs: Jobs, each with rows of its own.

    Returns:
        Of the first job: token ids and labels of the rows in the order of training, the learning rate's factors, the
        adapter to start from, and tokens a row.
    """
    model, how = _LOADED["model"], Recipe.from_json(recipe)
    if model.name == organism_shape.NAME:
        agents = organism_shape.AGENTS
        share_of = len(agents) // jobs
        all_rows = organism_shape.choices()
        parts = [[r for r in all_rows if r.group in agents[share_of * j : share_of * (j + 1)]] for j in range(jobs)]
        _LOADED["rows"][name] = parts
        return {}
    rows = rows_of_one_length(model, n_rows * jobs, end=how.end_of_answer, pool=pool)
    parts = [rows[n_rows * j : n_rows * (j + 1)] for j in range(jobs)]
    _LOADED["rows"][name] = parts
    encoded = encode_rows(model.codec, parts[0], how.end_of_answer)
    steps = plan([r.group for r in parts[0]], how, seed)
    names = target_modules(model.module, how.targets)
    spec = AdapterSpec(kind="lora", rank=how.rank, alpha=how.alpha, targets=tuple(names))
    adapter = Adapter(spec=spec, lora=new_lora(model.module, names, how.rank, integer(seed, "lora")))
    save_adapter(adapter, Path(folder), model.module)
    ordered = [encoded[i] for taken in steps for i in taken]
    return {
        "rows": [{"input_ids": list(e.ids), "labels": [-100] * e.start + list(e.ids[e.start :])} for e in ordered],
        "factors": [share(s, len(steps), how.warmup, how.decay) for s in range(len(steps))],
        "adapter": folder,
        "tokens_a_row": len(encoded[0].ids),
    }


def warm() -> dict[str, Any]:
    """Score one item, so that what any first use of the model takes is there before memory is compared."""
    model, rows = _LOADED["model"], next(iter(_LOADED["rows"].values()))[0]
    model.option_logprobs([rows[0].messages], [("A", "B")])
    return memory_mb()


def run(name: str, recipe: dict[str, Any], seeds: list[int], together: bool = True) -> dict[str, Any]:
    """Train one job a seed, each on its part of the named rows, as a fleet or in turn; timed over the whole calls.

    Returns:
        Seconds, the jobs' losses, digests and tensors' sizes, and memory: `before`, `peak` since then, `now`.
    """
    model, how = _LOADED["model"], Recipe.from_json(recipe)
    parts = _LOADED["rows"][name]
    jobs = [TrainJob(name=str(s), rows=part, seed=s) for s, part in zip(seeds, parts, strict=False)]
    before = memory_mb()["now"]
    reset_peak()
    watch = Stopwatch()
    found = train(model, jobs, how) if together else [train(model, [job], how)[0] for job in jobs]
    read, memory = watch.read(), memory_mb()
    kept = _LOADED.setdefault("adapters", {})
    kept["together" if together else "apart"] = [t.adapter for t in found]
    return {
        **read,
        "losses": [t.losses for t in found],
        "tokens": sum(t.tokens_seen for t in found),
        "needed_flops": sum(t.tokens_seen for t in found) * flops_a_token(model.with_adapter(None).module, how.kind),
        "matmul_peak": matmul_peak(),
        "adapter_mb": sum(t.numel() * t.element_size() for t in found[0].adapter.tensors().values()) / 1e6,
        "memory": {"before": before, **memory},
    }


def choose(name: str, recipe: dict[str, Any], seeds: list[int], steps: int) -> dict[str, Any]:
    """What the executor chooses for these jobs, fleet or in turn, by timing `steps` steps of both."""
    fleet.STEPS = steps
    parts = _LOADED["rows"][name]
    jobs = [TrainJob(name=str(s), rows=part, seed=s) for s, part in zip(seeds, parts, strict=False)]
    return fleet.choose(_LOADED["model"], jobs, Recipe.from_json(recipe)).to_json()


def difference() -> dict[str, float]:
    """Largest difference between the tensors of the last adapters trained together and apart, and their largest size."""
    together, apart = _LOADED["adapters"]["together"], _LOADED["adapters"]["apart"]
    pairs = [
        (x, y)
        for a, b in zip(together, apart, strict=True)
        for x, y in zip(a.tensors().values(), b.tensors().values(), strict=True)
    ]
    return {
        "difference": max(float((x - y).abs().max()) for x, y in pairs),
        "largest": max(float(y.abs().max()) for _, y in pairs),
    }


if __name__ == "__main__":
    serve(load=load, prepare=prepare, warm=warm, choose=choose, run=run, difference=difference)
