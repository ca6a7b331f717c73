"""What one sees while a run goes on: live bars on a terminal, plain lines elsewhere. Writes to standard error."""

import sys
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

TRAINING = ("fine-tune", "report training")
"""Stages in which a model is trained."""


class Display:
    """Shows stage, unit, rate and time left of each job under way; use it as a context manager."""

    def __init__(self, *, verbose: bool = False, log: Path | None = None) -> None:
        """Live on a terminal.

        Args:
            verbose: Adds a line for each stage where it is not.
            log: The run's log: the first training example that stands there is shown once, as soon as training begins.
        """
        self.console = Console(stderr=True)
        self.log = log
        self.live = self.console.is_terminal
        self.verbose = verbose
        self.bar: Progress | None = None
        self.all: TaskID | None = None
        self.tasks: dict[str, TaskID] = {}
        self.since: dict[str, tuple[str, float]] = {}
        self.done, self.total, self.started = 0, 0, time.monotonic()

    def __enter__(self) -> "Display":
        if self.live:
            self.bar = Progress(
                TextColumn("{task.description}", style="bold"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def planned(self, todo: int, total: int) -> None:
        """Say how much there is to do before it starts."""
        self.total, self.started = todo, time.monotonic()
        if self.bar:
            self.all = self.bar.add_task("jobs", total=max(todo, 1), note="")
        elif todo:
            self._say(f"{todo} of {total} jobs to do")

    def report(self, job: str, done: int, total: int, stage: str) -> None:
        """Take in one step of one job."""
        now = time.monotonic()
        if self.log is not None and done and stage in TRAINING:
            self._example(self.log)
        if stage == "done":
            self.done += 1
            left = (now - self.started) / self.done * (self.total - self.done)
            note = f"about {left:.0f} s left" if self.done < self.total else ""
            if self.bar:
                if job in self.tasks:
                    self.bar.remove_task(self.tasks.pop(job))
                assert self.all is not None
                self.bar.update(self.all, completed=self.done, note=note)
            else:
                self._say(
                    f"[{self.done}/{self.total}] {job} done, {now - self.started:.0f} s{', ' + note if note else ''}"
                )
            return
        if self.since.get(job, ("", 0.0))[0] != stage:
            self.since[job] = (stage, now)
            if self.verbose and not self.bar:
                self._say(f"{job}: {stage}")
        if self.bar:
            seconds = now - self.since[job][1]
            rate = (
                f"{done / seconds:.0f}/s, {(total - done) * seconds / done:.0f} s left"
                if done and seconds > 0.2
                else ""
            )
            if job not in self.tasks:
                self.tasks[job] = self.bar.add_task(job, total=total, note="")
            self.bar.update(
                self.tasks[job], description=f"{job} · {stage}", completed=done, total=max(total, 1), note=rate
            )

    def _example(self, log: Path) -> None:
        """Show the first training example, with what the loss is on."""
        self.log = None
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        if found := next((line for line in lines if "first example" in line), None):
            _, _, text = found.partition("first example, ")
            self.console.print(Text(f"first training example, {text}"), soft_wrap=True)

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
