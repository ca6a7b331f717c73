"""Small scripted runs through the real command line: whole pipeline, no torch, seconds."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SIZES = "agents=4 untrained_agents=4 choices=10 fresh=10 native_choices=10 remeasured=10 report_training=false"
SMALL = ["run", "preferences", "--model", "scripted/oracle", "--seed", "3", "--seeds", "1"]
SMALL += [x for size in SIZES.split() for x in ("--set", size)]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "200"}


@dataclass
class CommandLine:
    """`gnothi` in a process of its own, in a folder of its own."""

    folder: Path
    small: list[str]
    """Arguments of a run that takes seconds; add `--out`."""

    def __call__(self, *args: object, **options) -> subprocess.CompletedProcess[str]:
        """Run to the end; never raises for an exit code."""
        options = {
            "cwd": self.folder,
            "capture_output": True,
            "text": True,
            "env": ENVIRONMENT,
            "timeout": 300,
        } | options
        return subprocess.run([sys.executable, "-m", "gnothi.cli", *map(str, args)], check=False, **options)

    def start(self, *args: object, **options) -> subprocess.Popen[str]:
        """Start in a process group of its own, its words in `words`."""
        words = (self.folder / "words").open("a", encoding="utf-8")
        command = [sys.executable, "-m", "gnothi.cli", *map(str, args)]
        with words:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=ENVIRONMENT,
                stdout=words,
                stderr=words,
                text=True,
                start_new_session=True,
                # a shell's background jobs ignore Ctrl-C, and what they start would inherit that
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def refused(self, *args: object, **options) -> str:
        """Run what must end with exit code 2 and one line on standard error; return that line."""
        done = self(*args, **options)
        assert done.returncode == 2, (args, done.returncode, done.stderr[-2000:])
        assert not done.stdout and "Traceback" not in done.stderr, (args, done.stdout, done.stderr)
        last = [line for line in done.stderr.splitlines() if not line.startswith(("[", *"0123456789"))]  # progress
        assert len(last) == 1 and last[0].startswith("gnothi: "), (args, done.stderr)
        return last[0]


@pytest.fixture
def gnothi(tmp_path: Path) -> CommandLine:
    """The command line, in `tmp_path`."""
    return CommandLine(tmp_path, SMALL)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished small run, undisturbed. Copy it before you touch it."""
    folder = tmp_path_factory.mktemp("finished")
    done = CommandLine(folder, SMALL)(*SMALL, "--out", "run", "--engine", "inline")
    assert done.returncode == 0, done.stderr
    return folder / "run"
