"""How cost grows with items, options and seeds on a tiny model: slopes on log-log axes, where 1 is linear.

Cost is the fastest of a few repeats. Options have three tokens each and beginnings of their own; below a hundred of them
the prompt itself counts, which makes the slope smaller. Seeds are fine-tunes of one job each, all in one call.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.organism_shape import WORDS, choices, organism_shaped
from gnothi._version import __version__
from gnothi.finetune.loop import TrainJob, train
from gnothi.finetune.recipes import recipe
from gnothi.records import Messages
from gnothi.rng import stream
from gnothi.writeup import style

FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "linear.svg"
ITEMS = (100, 316, 1000, 3162, 10_000, 31_623, 100_000)
OPTIONS = (16, 64, 256, 1024)
SEEDS = (1, 2, 4, 8, 16, 32)
PROMPTS = 8
"""Prompts whose options are counted."""


def slope(sizes: Sequence[float], seconds: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Least-squares slope of log cost over log size, with its t interval.

    >>> [round(x, 6) for x in slope([1, 10, 100], [2, 20, 200])]
    [1.0, 1.0, 1.0]
    """
    fit = stats.linregress(np.log(sizes), np.log(seconds))
    half = float(fit.stderr) * stats.t.ppf((1 + level) / 2, df=len(sizes) - 2)
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


def prompts(n: int) -> list[Messages]:
    """`n` prompts of 12 tokens."""
    rows = [row.messages for row in choices(60)]
    return [rows[i % len(rows)] for i in range(n)]


def phrases(n: int) -> tuple[str, ...]:
    """`n` options of three words."""
    rng = stream(0, "benchmarks", "linear")
    words = [w for w in WORDS if w.startswith("word")]
    found: dict[str, None] = {}
    while len(found) < n:
        found[" ".join(words[i] for i in rng.integers(0, len(words), 3))] = None
    return tuple(found)


def timed(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each repeat."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return found


def run(
    items: Sequence[int] = ITEMS, options: Sequence[int] = OPTIONS, seeds: Sequence[int] = SEEDS, figure: bool = True
) -> list[dict[str, Any]]:
    """One row each for items, options and seeds; draws the figure."""
    import torch

    torch.set_num_threads(1)
    model, rows = organism_shaped(), choices(4)
    how = recipe("organism-lora+rows", steps=10, per_group=1)
    model.option_logprobs(prompts(64), [("A", "B")] * 64)  # whatever is done once

    def score(n: int) -> Callable[[], object]:
        asked = prompts(n)
        return lambda: model.option_logprobs(asked, [("A", "B")] * n)

    def score_options(n: int) -> Callable[[], object]:
        asked, given = prompts(PROMPTS), phrases(n)
        return lambda: model.option_logprobs(asked, [given] * PROMPTS)

    def tune(n: int) -> Callable[[], object]:
        jobs = [TrainJob(name=str(j), rows=rows, seed=j) for j in range(n)]
        return lambda: train(model, jobs, how)

    found = []
    for name, sizes, made in (("items", items, score), ("options", options, score_options), ("seeds", seeds, tune)):
        seconds = {n: timed(made(n), 3 if n <= 10_000 else 1) for n in sizes}
        value, low, high = slope(sizes, [min(s) for s in seconds.values()])
        found.append(
            {
                "name": f"linear/{name}",
                "ours": value,
                "peer": 1.0,
                "ratio": 1 / value,
                "unit": "log-log slope",
                "peer_name": "linear growth",
                "peer_version": __version__,
                "repeats_s": {"ours": seconds, "peer": []},
                "max_abs_diff": None,
                "flops": None,
                "headline": False,
                "low": low,
                "high": high,
                "note": f"slope {value:.2f} [{low:.2f}, {high:.2f}] from {sizes[0]} to {sizes[-1]}",
            }
        )
    if figure:
        draw(found, FIGURE)
    return found


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Cost over size, one panel a row, with the fitted line."""
    with style.styled():
        figure, axes = style.grid(len(rows), height=3.0)
        for axis, found in zip(axes, rows, strict=True):
            sizes = [int(n) for n in found["repeats_s"]["ours"]]
            best = [min(s) for s in found["repeats_s"]["ours"].values()]
            level = np.exp(np.mean(np.log(best)) - found["ours"] * np.mean(np.log(sizes)))
            axis.loglog(sizes, level * np.array(sizes, float) ** found["ours"], color="0.6", lw=1)
            axis.loglog(sizes, best, "o", ms=4, color="C0")
            axis.minorticks_off()
            for ticks in (axis.xaxis, axis.yaxis):
                ticks.set_major_formatter(lambda value, _: f"{value:,g}")  # our style draws no formulas
            axis.set_title(found["note"].partition(" from")[0])
            axis.set_xlabel(found["name"].partition("/")[2])
        axes[0].set_ylabel("seconds")
    path.parent.mkdir(exist_ok=True)
    path.write_text(style.to_svg(figure), encoding="utf-8")
