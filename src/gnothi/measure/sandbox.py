"""Runs a function that a model wrote, on some arguments, in a process that can do nothing but compute.

Model output is hostile text. It never runs, and is never even parsed, in this process. What stops it, and what does
not, stands in docs/sandbox.md.
"""

import json
import math
import os
import platform
import re
import struct
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue

from gnothi.errors import ModelError, SpecError

MAX_CODE = 64_000
"""Characters of the longest code that is looked at."""
MACHINES = ("x86_64", "aarch64")
_CHILD = Path(__file__).with_name("sandbox_child.py")
_FENCE = re.compile(
    r"^[ \t]*(?:```|~~~)[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*(?:```|~~~)[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)
_WORDS = re.compile(r"[\w .,:()-]{1,90}")


@dataclass(frozen=True, slots=True)
class Return:
    """What a function gave for one argument: a number in [0, 1], or why there is none."""

    value: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A function to be run."""

    code: str
    """Python text, without Markdown around it (see `extract_code`)."""
    function: str
    arguments: tuple[str, ...]
    """Each is handed to a call of its own, one after another in one process."""


def extract_code(text: str) -> str:
    r"""The code in an answer: its first fenced block, of Python where there are several; all of it where none is fenced.

    >>> extract_code("Here it is:\n```python\nx = 1\n```\nBye.")
    'x = 1\n'
    """
    blocks = _FENCE.findall(text[: 4 * MAX_CODE])
    for kind, code in blocks:
        if kind.lower() in ("python", "py", "python3"):
            return code
    return blocks[0][1] if blocks else text


@cache
def unavailable() -> str | None:
    """Why nothing can be run on this machine; None where it can. Looked up once."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return f"the sandbox needs Linux on {' or '.join(MACHINES)}, this is {sys.platform} on {platform.machine()}"
    try:
        with _Runner() as runner:
            lines = runner.run(Job("def f(x):\n    return 1.0\n", "f", ("",)), seconds=5.0, memory_mb=64)
    except (OSError, ModelError) as error:
        return f"the sandbox does not start: {error!s:.80}"
    return None if lines == [Return(1.0)] else f"the sandbox does not work here: {lines[0].reason}"


def run_function(
    code: str, function: str, arguments: Sequence[str], *, seconds: float = 2.0, memory_mb: int = 256
) -> list[Return]:
    """Run one function on some arguments; see `run_functions`.

    Returns:
        One entry an argument, in their order.
    """
    return run_functions([Job(code, function, tuple(arguments))], seconds=seconds, memory_mb=memory_mb)[0]


def run_functions(
    jobs: Sequence[Job], *, seconds: float = 2.0, memory_mb: int = 256, workers: int = 1
) -> list[list[Return]]:
    """Run each job in a fresh process that cannot open, connect, start or signal anything.

    The same jobs give the same returns: `random` starts from the same seed, `hash` of a text is fixed, and time is
    counted in the process's own CPU seconds.

    Args:
        jobs: What to run.
        seconds: CPU seconds that one job has for its code and all its arguments, in (0, 60]. By the clock it has five
            times as long and five seconds more.
        memory_mb: What it may allocate, 16 to 4096 MiB.
        workers: How many run at a time, 1 to 64.

    Returns:
        For each job, one entry an argument: a finite number in [0, 1] that is an `int` or a `float` and no subclass, or
        None and why: the code is no Python, was refused before it was run, raised, was stopped, ran too long, or what
        came back is no such number. A job that breaks off keeps what it returned before.

    Raises:
        SpecError: A limit out of range, or a machine that the sandbox does not know (see `unavailable`).
    """
    _check_limits(seconds, memory_mb, workers)
    if not jobs:
        return []
    if why := unavailable():
        raise SpecError(
            f"run_functions must have a sandbox, got none: {why}. Run it on Linux, or leave these answers out."
        )
    found: list[list[Return]] = [[] for _ in jobs]
    left: SimpleQueue[int] = SimpleQueue()
    for i in range(len(jobs)):
        left.put(i)

    def work() -> None:
        with _Runner() as runner:
            while True:
                try:
                    i = left.get_nowait()
                except Empty:
                    return
                found[i] = runner.run(jobs[i], seconds=seconds, memory_mb=memory_mb)

    n = min(workers, len(jobs))
    if n == 1:
        work()
    else:
        with ThreadPoolExecutor(n) as pool:
            for task in [pool.submit(work) for _ in range(n)]:
                task.result()
    return found


def _check_limits(seconds: float, memory_mb: int, workers: int = 1) -> None:
    if not (0 < seconds <= 60 and 16 <= memory_mb <= 4096 and 1 <= workers <= 64):
        raise SpecError(
            "the sandbox must get seconds in (0, 60], memory_mb in 16..4096 and workers in 1..64, got "
            f"{seconds}, {memory_mb} and {workers}. Choose limits in range."
        )


class Sandbox:
    """Runs functions as they come, each in a fork of one process that starts with the first; what an asker is handed.

    Called with code, function and arguments, it gives for each argument a number in [0, 1], or in words why there is
    none, also where this machine has no sandbox.
    """

    def __init__(self, *, seconds: float = 2.0, memory_mb: int = 256) -> None:
        """Take the limits of `run_functions`; nothing starts yet.

        Raises:
            SpecError: A limit out of range.
        """
        _check_limits(seconds, memory_mb)
        self.seconds, self.memory_mb = seconds, memory_mb
        self._close: weakref.finalize | None = None
        self._runner: _Runner | None = None

    def __call__(self, code: str, function: str, arguments: Sequence[str]) -> list[float | str]:
        """Run a function; see `run_functions`."""
        if why := unavailable():
            return [why] * len(arguments)
        if self._runner is None:
            self._runner = _Runner().__enter__()
            self._close = weakref.finalize(self, self._runner.__exit__)
        job = Job(code, function, tuple(arguments))
        returns = self._runner.run(job, seconds=self.seconds, memory_mb=self.memory_mb)
        return [r.reason or "" if r.value is None else r.value for r in returns]

    def close(self) -> None:
        """End the process; a later call starts another. Without this, it ends with the object."""
        if self._close is not None:
            self._close()
        self._close = self._runner = None


class _Runner:
    """A process that forks once a job. It has no environment, no folder of ours and none of our files."""

    def __enter__(self) -> "_Runner":
        self.folder = tempfile.TemporaryDirectory(prefix="gnothi-sandbox-")
        os.chmod(self.folder.name, 0o555)
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        os.chmod(self.folder.name, 0o700)
        self.folder.cleanup()

    def _start(self) -> None:
        # -I would also leave out PYTHONHASHSEED; with these and an environment of our own nothing else is read
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-S", "-B", "-W", "ignore", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder.name,
            env={"PYTHONHASHSEED": "0"},
            close_fds=True,
            start_new_session=True,
            bufsize=0,
        )

    def _stop(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def run(self, job: Job, *, seconds: float, memory_mb: int) -> list[Return]:
        """Run one job; a runner that was lost is started anew, and the job is missing."""
        if not job.arguments:
            return []
        if len(job.code) > MAX_CODE:
            return [Return(None, f"the code is longer than {MAX_CODE:,} characters")] * len(job.arguments)
        text = json.dumps(
            {
                "code": job.code,
                "function": job.function,
                "arguments": job.arguments,
                "seconds": seconds,
                "memory_mb": memory_mb,
            }
        ).encode()
        try:
            self._write(struct.pack("!I", len(text)) + text)
            (size,) = struct.unpack("!I", self._read(4))
            how, _, lines = self._read(size).partition(b"\n")
        except (OSError, ModelError) as error:
            self._stop()
            self._start()
            return [Return(None, f"the sandbox broke off ({error!s:.60})")] * len(job.arguments)
        return _returns(how.decode("ascii", "replace"), lines, len(job.arguments), seconds)

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) or 0 :]

    def _read(self, size: int) -> bytes:
        assert self.process.stdout is not None
        data = b""
        while len(data) < size:
            part = self.process.stdout.read(size - len(data))
            if not part:
                raise ModelError("its process ended")
            data += part
        return data


_SIGNALS = {31: "made a forbidden system call", 9: "was killed", 11: "crashed", 6: "crashed", 7: "crashed"}


def _returns(how: str, lines: bytes, n: int, seconds: float) -> list[Return]:
    """Read what came back, which the code itself may have written: only numbers in [0, 1] and short reasons pass."""
    found: list[Return] = []
    rest = _ending(how, seconds)
    for line in lines.decode("ascii", "replace").split("\n")[:-1]:
        kind, said = line[:1], line[1:]
        if kind == "=":
            found.append(_number(said))
        elif kind in ("!", "*") and _WORDS.fullmatch(said):
            if kind == "*":
                rest = said if said.startswith(("refused", "was", "raised")) else f"the code {said}"
                break
            found.append(Return(None, said))
        else:
            rest = "wrote something else than returns"
            break
    found = found[:n]
    return found + [Return(None, rest)] * (n - len(found))


def _ending(how: str, seconds: float) -> str:
    if how == "late" or how in ("signal 27", "signal 24"):
        return f"ran longer than {seconds:g} s"
    if how == "loud":
        return "wrote too much"
    if how.startswith("signal "):
        return _SIGNALS.get(int(how[7:]), f"ended by {how}")
    return "ended before it returned"


def _number(text: str) -> Return:
    try:
        value = float(text)
    except ValueError:
        return Return(None, "wrote something else than returns")
    if not math.isfinite(value):
        return Return(None, "returned a number that is not finite")
    return Return(value) if 0 <= value <= 1 else Return(None, "returned a number outside [0, 1]")
