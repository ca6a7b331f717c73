"""A fleet of eight adapters against the same eight trained one after the other, each with data and a seed of its own.

Adapters must be those that are trained alone: `max_abs_diff` is over the losses of all steps, `adapters` over the
tensors, with the largest of them beside it. Memory is measured in fresh processes: a fleet may take what base and
adapters take (parameters, gradients and both moments of each) and 1.2 times the activations of one run.
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
COPIES = 4
"""An adapter in training: parameters, gradients, two moments."""


def run() -> list[dict[str, Any]]:
    """The organism's shape, and Gemma on a CPU."""
    organism = recipe("organism-lora+rows", steps=30)
    gemma = recipe("small-lm", epochs=None, steps=3, batch_rows=4, warmup=2)
    return [
        on_folder(NAME, "organism's shape", organism, repeats=5),
        on_folder(str(subjects.gemma()), "Gemma 3 270M", gemma, repeats=3),
    ]


def on_folder(folder: str, name: str, how: Recipe, *, repeats: int, pool: int = 6000) -> dict[str, Any]:
    """One row.

    Args:
        folder: A model's folder, or `organism-shaped`.
        name: What the row calls it.
        how: The recipe of all jobs.
        repeats: Of each side.
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
        fleet, apart = in_turns(repeats, lambda: call(worker, True), lambda: call(worker, False))
        together, alone = kept["True"], kept["False"]
        adapters = worker.ask("difference")
    difference = max(largest_difference(a, b) for a, b in zip(together["losses"], alone["losses"], strict=True))
    memory = _memory(folder, how, asked, seeds, pool)
    return row(
        f"fleet/{FLEET} adapters, {name}",
        amount=together["tokens"],
        unit="tokens/s",
        ours=fleet,
        peer=apart,
        peer_name="our loop, one job at a time",
        peer_version=__version__,
        max_abs_diff=difference,
        flops=together["needed_flops"],
        headline=True,
        adapters=adapters,
        memory_mb=memory,
        peak_flops=together["matmul_peak"],
        peak_share=together["needed_flops"] / min(fleet.wall) / together["matmul_peak"],
        note=f"peak memory {memory['fleet']:.0f} of at most {memory['limit']:.0f} MB",
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
        with Worker("benchmarks.own_training", ours=True) as worker:
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
