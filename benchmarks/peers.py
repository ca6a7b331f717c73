"""The tools we are measured against: an environment of their own, and processes in it that answer requests.

`.venv-peers` in the repository root is made when it is first needed, from the versions in `theirs/requirements.txt`,
and again when those change. Nothing is asked of the network when measuring.
"""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".venv-peers"
REQUIREMENTS = Path(__file__).parent / "theirs" / "requirements.txt"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "CUDA_VISIBLE_DEVICES": "",
}
"""The same for both sides: one thread, no network, no GPU."""


def python() -> Path:
    """The interpreter of the peers' environment, which is made if it is missing or of other versions."""
    FOLDER.mkdir(exist_ok=True)
    found = FOLDER / "bin" / "python"
    wanted = f"{sys.version_info[:2]}\n{REQUIREMENTS.read_text(encoding='utf-8')}"
    stamp = FOLDER / ".installed"
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two benchmarks at once make it once
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            stamp.unlink(missing_ok=True)
            print(f"making {FOLDER} (minutes, once) …", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True, stdout=sys.stderr)
            install = [found, "-m", "pip", "install", "--quiet"]
            # torch first and alone, so that nothing else chooses its version
            torch = next(line for line in wanted.splitlines() if line.startswith("torch=="))
            subprocess.run([*install, torch], check=True, stdout=sys.stderr)
            subprocess.run([*install, "-r", REQUIREMENTS], check=True, stdout=sys.stderr)
            stamp.write_text(wanted, encoding="utf-8")
    return found


class Worker:
    """A process that answers requests (see `serving`), in the peers' environment or in this one.

    Use it in a `with` block: at its end the process ends.
    """

    def __init__(self, module: str, *, ours: bool = False, **environment: str):
        """Start a process.

        Args:
            module: Module to run, e.g. `benchmarks.theirs.scoring`.
            ours: Whether it runs in this environment; by default in the peers'.
            environment: Further variables for the process.
        """
        self.module = module
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable if ours else python(), "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=os.environ | ENVIRONMENT | environment,
        )

    def ask(self, do: str, **request: Any) -> Any:
        """Have an action done.

        Raises:
            RuntimeError: It failed there, or the process ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._log.seek(0)
            code = self._process.wait()  # -9: killed, for want of memory if by the system
            said = self._log.read()[-3000:]
            raise RuntimeError(f"{self.module} must answer {do!r}, but its process ended with {code}:\n{said}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.module} must do {do!r}, but it failed there:\n{answer['error']}")
        return answer["ok"]

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()
