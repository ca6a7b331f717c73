"""Runs jobs that depend on one another: in this process or in worker processes of one thread each.

A job is a name, what must come before it, and a JSON payload; the work is a function named by `module:function`.
Workers are started as `python -m gnothi.worker`, so no `if __name__ == "__main__"` is needed and a notebook can use
them; a worker ends when its parent's pipe closes, so a killed parent leaves nothing behind that still writes.
"""

import contextlib
import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gnothi.errors import GnothiError, SpecError, TrainingError

ENGINES = ("pool", "inline")
IDLE_DEATHS = 8
"""Workers that may end without a job before no more are started: something in the environment kills them."""
Report = Callable[[str, int, int, str], None]
"""Called with (job, done, total, stage) while a job runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work that leaves one whole unit behind."""

    name: str
    after: tuple[str, ...] = ()
    """Names of the jobs that must be whole first."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """What the function needs, JSON-serialisable."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that ended with an error."""

    job: str
    message: str
    expected: bool
    """Whether you can mend it: bad input or environment, and neither a bug nor a training that diverged."""
    details: str = ""
    kind: str = ""
    """Class of the error."""


def load_function(path: str) -> Callable[..., Any]:
    """Import `module:function`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def check_engine(engine: str, workers: int) -> None:
    """Refuse an engine that does not exist, before anything is written.

    Raises:
        SpecError: With the engines that there are.
    """
    if engine not in ENGINES:
        raise SpecError(f"--engine must be one of {', '.join(ENGINES)}, got {engine!r}. Leave it out for {ENGINES[0]}.")
    if workers < 1:
        raise SpecError(f"--workers must be at least 1, got {workers}. Leave it out for 2.")


def execute(
    jobs: Sequence[Job],
    *,
    function: str,
    folder: Path,
    engine: str,
    workers: int,
    report: Report,
    held: Sequence[int] = (),
) -> list[Failure]:
    """Run every job after those that it waits for; what depends on a failed job is left out.

    After a failure that you must mend, e.g. a full disk, no further job is started.

    Args:
        jobs: Any order; `after` may name jobs that are not among them (they are whole already).
        function: `module:function`, called with (folder: str, job: Job, report).
        folder: The run folder.
        engine: `pool` or `inline`.
        workers: Worker processes for `pool`, >= 1.
        report: Called in this process as work goes on; ends of jobs come as done == total with stage `done`.
        held: File descriptors that workers keep open, such as the run's lock.

    Returns:
        What failed, in order. Results are read from the folder, not returned.
    """
    check_engine(engine, workers)
    if not jobs:
        return []
    if engine == "inline" or (workers == 1 and len(jobs) == 1):
        return _execute_inline(jobs, function, folder, report)
    return _Pool(jobs, function, folder, min(workers, len(jobs)), report, held).run()


def ready(waiting: Mapping[str, Job], finished: set[str]) -> list[Job]:
    """Jobs whose predecessors are whole or were never asked for, in the order given."""
    return [job for job in waiting.values() if all(a not in waiting and a in finished for a in job.after)]


def _execute_inline(jobs: Sequence[Job], function: str, folder: Path, report: Report) -> list[Failure]:
    work = load_function(function)
    waiting = {job.name: job for job in jobs}
    finished = {a for job in jobs for a in job.after if a not in waiting}
    failures: list[Failure] = []
    while runnable := ready(waiting, finished):
        job = runnable[0]
        del waiting[job.name]
        try:
            work(str(folder), job, report)
        except Exception as error:
            failures.append(failure_of(job, error))
            if failures[-1].expected:
                return failures
        else:
            finished.add(job.name)
            report(job.name, 1, 1, "done")
    return failures


def failure_of(job: Job, error: Exception) -> Failure:
    """Keep what is worth knowing of an error; the traceback goes to the log, not to the user."""
    details = "".join(traceback.format_exception(error))
    ours = isinstance(error, GnothiError)
    message = str(error) if ours else f"{type(error).__name__}: {error}"
    return Failure(job.name, message, ours and not isinstance(error, TrainingError), details, type(error).__name__)


class _Pool:
    """Worker processes and the jobs that wait for them."""

    def __init__(
        self, jobs: Sequence[Job], function: str, folder: Path, workers: int, report: Report, held: Sequence[int]
    ) -> None:
        self.waiting = {job.name: job for job in jobs}
        self.finished = {a for job in jobs for a in job.after if a not in self.waiting}
        self.function, self.folder, self.report, self.held = function, folder, report, tuple(held)
        self.events: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
        self.processes: dict[int, subprocess.Popen[str]] = {}
        self.busy: dict[int, Job] = {}
        self.died: set[str] = set()
        self.failures: list[Failure] = []
        self.next_id = 0
        self.size = workers
        self.idle_deaths = 0

    def run(self) -> list[Failure]:
        try:
            for _ in range(self.size):
                self._start()
            self._assign()
            while self.busy and not any(f.expected for f in self.failures):
                self._handle(*self.events.get())
                self._assign()
            if not self.processes:
                for job in ready(self.waiting, self.finished):
                    self.failures.append(Failure(job.name, "no worker process stays alive", False))
            return self.failures
        finally:
            for process in self.processes.values():
                process.kill()
            for process in self.processes.values():
                _end(process)

    def _start(self) -> None:
        threads = {k: "1" for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        path = os.pathsep.join(p for p in sys.path if p)
        process = subprocess.Popen(
            [sys.executable, "-m", "gnothi.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **threads, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"},
            pass_fds=self.held,
        )
        number, self.next_id = self.next_id, self.next_id + 1
        self.processes[number] = process
        threading.Thread(target=self._listen, args=(number, process), daemon=True).start()

    def _listen(self, number: int, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                self.events.put((number, json.loads(line)))
        except ValueError:
            pass  # the pipe was closed at the end of the run
        self.events.put((number, {"event": "died"}))

    def _assign(self) -> None:
        for number, process in list(self.processes.items()):
            runnable = ready(self.waiting, self.finished)
            if number in self.busy or not runnable:
                continue
            job = self.waiting.pop(runnable[0].name)
            self.busy[number] = job
            line = json.dumps({"function": self.function, "folder": str(self.folder), "job": asdict(job)})
            assert process.stdin is not None
            try:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            except OSError:
                pass  # it died; the listener says so next

    def _handle(self, number: int, event: dict[str, Any]) -> None:
        job = self.busy.get(number)
        match event["event"]:
            case "progress" if job:
                self.report(job.name, event["done"], event["total"], event["stage"])
            case "finished" if job:
                self.finished.add(self.busy.pop(number).name)
                self.report(job.name, 1, 1, "done")
            case "failed" if job:
                self.busy.pop(number)
                self.failures.append(Failure(**event["failure"]))
            case "died":
                process = self.processes.pop(number)
                code = _end(process)
                self.idle_deaths += job is None
                if self.idle_deaths < IDLE_DEATHS:
                    self._start()
                if job:
                    self.busy.pop(number)
                    # A worker that the system killed (memory, a stray signal) gets one more try.
                    if job.name in self.died:
                        message = f"the worker on {job.name} ended twice without a word (exit code {code})"
                        self.failures.append(Failure(job.name, message, False))
                    else:
                        self.died.add(job.name)
                        self.waiting = {job.name: job, **self.waiting}


def _end(process: "subprocess.Popen[str]") -> int:
    """Wait for a process and close its pipes."""
    code = process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):  # what was still to be said to a dead worker
                pipe.close()
    return code
