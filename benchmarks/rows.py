"""Rows of the table, repeats taken in turns, and the machine they were measured on."""

import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIELDS = (
    "name",
    "ours",
    "peer",
    "ratio",
    "unit",
    "peer_name",
    "peer_version",
    "repeats_s",
    "max_abs_diff",
    "flops",
    "headline",
)
"""What every row has; more may follow."""


@dataclass
class Repeats:
    """What the repeats of one side took, in seconds: on the clock, and of the processor."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, wall: float, cpu: float) -> None:
        """One more repeat."""
        self.wall.append(wall)
        self.cpu.append(cpu)


def row(
    name: str,
    *,
    amount: float,
    unit: str,
    ours: Repeats,
    peer: Repeats,
    peer_name: str,
    peer_version: str,
    max_abs_diff: float | None,
    flops: Any = None,
    headline: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """A row of rates: on each side the fastest repeat counts.

    Args:
        name: Benchmark and case, e.g. `scoring/letters`.
        amount: What one repeat gets through, in the unit's numerator; the same on both sides.
        unit: E.g. `items/s`.
        ours: Our repeats.
        peer: The peer's.
        peer_name: Whom we are measured against.
        peer_version: Its version and those of what it runs on.
        max_abs_diff: Largest difference between the numbers that came out.
        flops: Floating point operations, one number or by side.
        headline: Whether the row is the benchmark's claim.
        more: Further fields; `note` stands in the docs' table.
    """
    return {
        "name": name,
        "ours": amount / min(ours.wall),
        "peer": amount / min(peer.wall),
        "ratio": min(peer.wall) / min(ours.wall),
        "unit": unit,
        "peer_name": peer_name,
        "peer_version": peer_version,
        "repeats_s": {"ours": ours.wall, "peer": peer.wall},
        "cpu_s": {"ours": ours.cpu, "peer": peer.cpu},
        "max_abs_diff": max_abs_diff,
        "flops": flops,
        "headline": headline,
        **more,
    }


def in_turns(repeats: int, *sides: Callable[[], Any]) -> list[Repeats]:
    """The repeats of each side, taken in turns, so that a busy minute hits all.

    Args:
        repeats: How many.
        sides: Calls that do the work here, or that return the `seconds` and `cpu_s` of work done elsewhere.
    """
    found = [Repeats() for _ in sides]
    for _ in range(repeats):
        for side, times in zip(sides, found, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            said = side()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if isinstance(said, dict):
                wall, cpu = said["seconds"], said["cpu_s"]
            times.add(wall, cpu)
    return found


def processor() -> str:
    """The processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    """Processor, threads, libraries and commit of this run, in one line."""
    import torch
    import transformers

    root = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        found = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
        return found.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (
        f"{processor()}, {os.environ.get('OMP_NUM_THREADS', '?')} thread of {os.cpu_count()} cores, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, commit {commit}{changed}"
    )
