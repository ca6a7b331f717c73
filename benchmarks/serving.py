"""The measured side of a benchmark: a process that answers requests, one JSON object a line. Knows no Gnothi.

Both sides of a comparison can run so, each in its own process and environment, which makes repeats alternate and gives
each side its own peak of memory. While it waits for a request a process uses no processor.
"""

import contextlib
import importlib.metadata
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def serve(**actions: Callable[..., Any]) -> None:
    """Answer requests until standard input closes: `{"do": name, …}` calls the action of that name with the rest.

    An answer is `{"ok": value}` or `{"error": traceback}`. Whatever libraries print goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = {"ok": actions[request.pop("do")](**request)}
            except Exception:  # the other side raises it
                answer = {"error": traceback.format_exc()}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


class Stopwatch:
    """Seconds on the clock and of the processor since it was made."""

    def __init__(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """`seconds` on the clock and `cpu_s` of this process."""
        return {"seconds": time.perf_counter() - self._wall, "cpu_s": time.process_time() - self._cpu}


def versions(*names: str) -> str:
    """Installed versions, in the order of the names."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def memory_mb() -> dict[str, float]:
    """Resident memory of this process now and at its peak since `reset_peak`, in megabytes (10^6 bytes)."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found[name] = int(value.split()[0]) * 1024 / 1e6
    return {"now": found["VmRSS"], "peak": found["VmHWM"]}


def reset_peak() -> None:
    """Let the peak of resident memory start from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def counted_flops(call: Callable[[], Any]) -> tuple[Any, int]:
    """What a call returns, and the floating point operations of its matrix products and attention, as they were run.

    PyTorch's counter leaves out attention on CPUs, so its formula is given here.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={on_cpu: attention}) as counter:
        found = call()
    return found, int(counter.get_total_flops())
