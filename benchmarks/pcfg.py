"""The grammar test bed on one thread: tokens a second, and what share of its own products' speed a training step reaches.

Times are the processor's. The sampler's peer is the number that was asked for, 20 million tokens a second; windows of the
paper's length (what training sees, one of each string) stand beside it. A training step's peer is that very step's matrix
products, shape by shape, each timed alone on operands that are in the cache: the share says how much of a step is arithmetic
that can't be left out. Steps and products are taken in turns. `whole` is a step on all positions (text and answer), `answer`
one on the answer alone, in which the last block is computed only where it is read: its products are fewer, and so is what it
is measured against. Dropout, which the tiny size has in pretraining, draws random numbers and keeps attention from its fused
form, so that each step stands there without it, too.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.rows import Repeats, row
from gnothi.experiments.labs.pcfg_spec import SIZES
from gnothi.testbeds.pcfg.data import Rows, World
from gnothi.testbeds.pcfg.grammar import read_grammar
from gnothi.testbeds.pcfg.sampler import Sampler
from gnothi.testbeds.pcfg.tasks import PRIORS, Tasks
from gnothi.testbeds.pcfg.training import Recipe, answer_loss, new_model, optimisers_of, whole_loss
from gnothi.testbeds.transformer import Transformer

Product = tuple[int, int, int, int]
"""(batch, n, k, m): (n, k) times (k, m), that many at once."""

WANTED = 20e6
"""Tokens a second of the sampler."""
SHARE = 0.45
"""Least share of the peak at the same shapes."""
STRINGS, REPEATS, TURNS = 8_000, 20, 60


def sampler_rows(repeats: int = REPEATS) -> list[dict[str, Any]]:
    """Raw strings, and windows of the two sizes."""
    sampler, generator = Sampler(read_grammar("paper")), torch.Generator().manual_seed(0)
    found = []
    cases: list[tuple[str, Callable[[], int], bool]] = [
        ("strings", lambda: len(sampler.strings(STRINGS, generator).tokens), True),
        ("windows of 250", lambda: sampler.windows(STRINGS, 250, generator).numel(), False),
    ]
    for name, draw, headline in cases:
        draw()
        times, made = Repeats(), 0
        rates = []
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            made = draw()
            times.add(time.perf_counter() - wall, time.process_time() - cpu)
            rates.append(made / times.cpu[-1])
        times.wall, times.cpu = times.cpu, times.wall  # as below
        peer = Repeats()
        peer.add(made / WANTED, made / WANTED)
        found.append(
            row(
                f"pcfg/sampler, {name}",
                amount=made,
                unit="tokens/s",
                ours=times,
                peer=peer,
                peer_name="what was asked for",
                peer_version="",
                max_abs_diff=None,
                headline=headline,
                note=f"median {statistics.median(rates) / 1e6:.0f} M tokens/s; lengths and pairs of letters are tested "
                "against a sampler that follows the rules one symbol at a time",
            )
        )
    return found


def products(name: str, tasks: Tasks, spec: Mapping[str, Any]) -> list[Product]:
    """Every matrix product of a step: forward and backward, attention's, and those of the optimiser.

    Args:
        name: `whole`, or `answer`, where the last block is computed at one position a row.
        tasks: Decide lengths and the head.
        spec: Sizes of the model and of a batch.
    """
    width, mlp, heads, layers = (spec[n] for n in ("width", "mlp", "heads", "layers"))
    rows, batch = spec["batch"] * tasks.length, spec["batch"]
    forward: list[Product] = []
    for block in range(layers):
        short = name == "answer" and block == layers - 1
        n, asking = (batch, 1) if short else (rows, tasks.length)
        forward += [(1, n, width, width), (1, rows, width, width), (1, rows, width, width), (1, n, width, width)]
        forward += [(1, n, width, mlp), (1, n, mlp, width)]
        forward.append((batch * heads, asking, width // heads, tasks.length))
        forward.append((batch * heads, asking, tasks.length, width // heads))
    forward.append((1, batch if name == "answer" else rows, width, tasks.vocabulary))
    backward = [p for b, n, k, m in forward for p in ((b, n, m, k), (b, k, n, m))]  # of the input, of the other factor
    orthogonal: list[Product] = []
    for count, r, c in ((4 * layers, width, width), (2 * layers, min(width, mlp), max(width, mlp))):
        orthogonal += 5 * [(count, r, c, r), (count, r, r, r), (count, r, r, c)]  # five steps of Newton and Schulz
    return [*forward, *backward, *orthogonal]


def training_rows(turns: int = TURNS) -> list[dict[str, Any]]:
    """Steps of the tiny size, each in turns with its own products."""
    spec = SIZES["tiny"]
    tasks = Tasks(terminals=3, window=spec["window"], last=spec["last"], rank=spec["rank"])
    sizes = {n: spec[n] for n in ("layers", "heads", "width", "mlp", "dropout")}
    world = World(read_grammar("paper"), tasks, spread=spec["spread"])
    batch = world.pretraining(spec["batch"], world.generator(0, "b"), families=spec["families"], prior=PRIORS["low"])
    found = []
    for dropout in dict.fromkeys((0.0, sizes["dropout"])):
        for name in ("whole", "answer"):
            model = new_model(tasks, {**sizes, "dropout": dropout}, seed=0)
            found.append(_training_row(name, batch, model, tasks, turns, dropout))
    return found


def _training_row(
    name: str, batch: Rows, model: Transformer, tasks: Tasks, turns: int, dropout: float
) -> dict[str, Any]:
    optimisers, muon = optimisers_of(model, Recipe(steps=1, batch=1, rate=1e-5, muon=1e-5))
    assert muon is not None

    def step() -> None:
        (whole_loss(model, batch, tasks) if name == "whole" else answer_loss(model, batch)).backward()
        optimisers[0].step()
        muon.step(1e-5)
        model.zero_grad(set_to_none=True)

    wanted = products(name, tasks, SIZES["tiny"])
    operands = {p: (torch.randn(p[:3]), torch.randn(p[0], *p[2:])) for p in set(wanted)}
    alone = {p: Repeats() for p in operands}
    for _ in range(3):
        step()
    ours = Repeats()
    for _ in range(turns):  # short turns, so that a busy moment hits both
        _timed(ours, step)
        for product, (a, b) in operands.items():
            for _ in range(3):  # after the first its operands are in the cache
                _timed(alone[product], lambda a=a, b=b: a[0] @ b[0] if len(a) == 1 else a @ b)
    floor = sum(min(alone[p].cpu) for p in wanted)
    matrices = sum(min(alone[p].cpu) for p in wanted if p[0] == 1)
    flops = sum(2.0 * b * n * k * m for b, n, k, m in wanted)
    peer, best = Repeats(), min(ours.cpu)
    peer.add(floor, floor)
    ours.wall, ours.cpu = ours.cpu, ours.wall  # one thread: the processor's time, which other programs don't lengthen
    return row(
        f"pcfg/training step, {name}" + (f", dropout {dropout:g}" if dropout else ""),
        amount=len(batch) * tasks.length,
        unit="tokens/s",
        ours=ours,
        peer=peer,
        peer_name="the step's own products, each alone",
        peer_version=f"torch {torch.__version__}",
        max_abs_diff=None,
        flops=flops,
        headline=name == "whole" and not dropout,
        peak_share=floor / best,
        least_share=SHARE,
        note=f"at least {SHARE:.2f} of the products' speed is wanted; {1e3 * best:.1f} ms of the processor a step, "
        f"{flops / best / 1e9:.0f} of {flops / floor / 1e9:.0f} GFLOP/s; {matrices / best:.2f} without attention's and the "
        "optimiser's products",
    )


def _timed(times: Repeats, call: Callable[[], Any]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    times.add(wall, cpu)


def run() -> list[dict[str, Any]]:
    """All rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*sampler_rows(), *training_rows()]
    finally:
        torch.set_num_threads(threads)
