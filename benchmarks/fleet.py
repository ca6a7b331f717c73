"""A fleet of eight adapters against the same eight trained one after the other, each with data and a seed of its own.

Ours is what the executor does: it times a few steps of both and takes the fleet where that is faster, else one job at a
time (the ratio is then 1, since nothing is done differently). `fleet_ratio` is of the fleet in any case, which has nothing
to win where a step is bound by arithmetic.

Adapters must be those that are trained alone: `max_abs_diff` is over the losses of all steps, `adapters` over the
tensors, with the largest of them beside it. Memory is measured in fresh processes whose allocator gives back what is
freed: a fleet may take what base and adapters take (parameters, gradients, both moments and the finished copy of each)
and 1.2 times the activations of one run.
"""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks import subjects
from benchmarks.organism_shape import NAME, largest_difference
from benchmarks.peers import Worker
from benchmarks.rows import in_turns, row
from gnothi._version import __version__
from gnothi.finetune.recipes import Recipe, recipe

FLEET = 8
ALLOWANCE = 1.2
"""Times one run's activations."""
COPIES = 5
"""An adapter in training: parameters, gradients, two moments, and the copy that is handed over."""
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""For the C library's allocator, where memory is measured: what is freed counts no longer."""


def run() -> list[dict[str, Any]]:
    """The organism's shape, and Gemma on a CPU."""
    organism = recipe("organism-lora+rows", steps=30)
    # a pass holds one job's step, so that a fleet has no more activations at a time than one run
    gemma = recipe("small-lm", epochs=None, steps=3, batch_rows=4, warmup=2, micro_tokens=400, packing=False)
    return [
        on_folder(NAME, "organism's shape", organism, repeats=5, choosing=4),
        on_folder(str(subjects.gemma()), "Gemma 3 270M", gemma, repeats=3, choosing=1),
    ]


def on_folder(
    folder: str, name: str, how: Recipe, *, repeats: int, choosing: int = 4, pool: int = 6000
) -> dict[str, Any]:
    """One row.

    Args:
        folder: A model's folder, or `organism-shaped`.
        name: What the row calls it.
        how: The recipe of all jobs.
        repeats: Of each side.
        choosing: Steps by which the executor chooses.
        pool: Rows to choose those of one length from.
    """
    seeds = list(range(FLEET))
    asked = {"name": "a", "recipe": how.to_json()}
    kept: dict[str, Any] = {}

    def call(worker: Worker, together: bool) -> dict[str, Any]:
        kept[str(together)] = said = worker.ask("run", **asked, seeds=seeds, together=together)
        return said

    with Worker("benchmarks.own_training", ours=True) as worker:
        _prepare(worker, folder, how, pool)
        choice = worker.ask("choose", **asked, seeds=seeds, steps=choosing)
        fleet, apart = in_turns(repeats, lambda: call(worker, True), lambda: call(worker, False))
        together, alone = kept["True"], kept["False"]
        adapters = worker.ask("difference")
    difference = max(largest_difference(a, b) for a, b in zip(together["losses"], alone["losses"], strict=True))
    memory = _memory(folder, how, asked, seeds, pool)
    chosen = fleet if choice["together"] else apart
    gain = min(apart.wall) / min(fleet.wall)
    return row(
        f"fleet/{FLEET} adapters, {name}",
        amount=together["tokens"],
        unit="tokens/s",
        ours=chosen,
        peer=apart,
        peer_name="our loop, one job at a time",
        peer_version=__version__,
        max_abs_diff=difference,
        flops=together["needed_flops"],
        headline=True,
        executor=choice,
        fleet_ratio=gain,
        fleet_s=fleet.wall,
        adapters=adapters,
        memory_mb=memory,
        peak_flops=together["matmul_peak"],
        peak_share=together["needed_flops"] / min(chosen.wall) / together["matmul_peak"],
        note=f"executor chose {'the fleet' if choice['together'] else 'one at a time'}; fleet x{gain:.2f}, "
        f"its peak memory {memory['fleet']:.0f} of at most {memory['limit']:.0f} MB",
    )


def _prepare(worker: Worker, folder: str, how: Recipe, pool: int) -> None:
    worker.ask("load", folder=folder)
    with tempfile.TemporaryDirectory() as start:
        n = (how.steps or 1) * (how.batch_rows or 1)
        worker.ask(
            "prepare",
            name="a",
            n_rows=n,
            recipe=how.to_json(),
            seed=0,
            folder=str(Path(start) / "start"),
            pool=pool,
            jobs=FLEET,
        )


def _memory(folder: str, how: Recipe, asked: dict[str, Any], seeds: list[int], pool: int) -> dict[str, float]:
    """Peaks in fresh processes, and what a fleet may take, in megabytes."""
    found = {}
    for side, of in (("one", seeds[:1]), ("fleet", seeds)):
        with Worker("benchmarks.own_training", ours=True, **GIVE_BACK) as worker:
            _prepare(worker, folder, how, pool)
            worker.ask("warm")
            found[side] = worker.ask("run", **asked, seeds=of)
    one, fleet = found["one"], found["fleet"]
    training = COPIES * one["adapter_mb"]
    activations = one["memory"]["peak"] - one["memory"]["before"] - training
    limit = fleet["memory"]["before"] + len(seeds) * training + ALLOWANCE * activations
    return {
        "base": fleet["memory"]["before"],
        "adapters": len(seeds) * training,
        "activations_of_one": activations,
        "one": one["memory"]["peak"],
        "fleet": fleet["memory"]["peak"],
        "limit": limit,
        "within": fleet["memory"]["peak"] <= limit,
    }
