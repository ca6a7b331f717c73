"""Run benchmarks: `python -m benchmarks NAME --json`, or all of them into docs/benchmarks.md."""

import argparse
import importlib
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.rows import FIELDS, machine

NAMES = ("scoring", "lora", "fleet", "sampling", "logit", "organism", "linear", "patching", "pcfg")
"""What is run without a name: modules with a `run`."""
ON_REQUEST = ("gpu",)
"""What is run by name, and without one where there is a CUDA device."""
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
KEPT = ROOT / ".benchmarks"
"""Rows of each benchmark's last run, from which the page is written anew."""


def measure(name: str) -> list[dict[str, Any]]:
    """Run one benchmark, and keep its rows; every row has all of `FIELDS`."""
    started = time.perf_counter()
    rows = importlib.import_module(f"benchmarks.{name}").run()
    for row in rows:
        missing = [f for f in FIELDS if f not in row]
        if missing:
            raise KeyError(f"benchmark {name} must give {', '.join(FIELDS)}, got a row without {', '.join(missing)}")
    kept = {
        "on": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "seconds": time.perf_counter() - started,
        "rows": rows,
    }
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    return rows


def page(runs: dict[str, dict[str, Any]]) -> str:
    """The page for the docs, from what was kept of each benchmark."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. A ratio above 1 is better for us; both sides were measured in the same run, with one",
        "thread each, repeats taken in turns, the fastest of each side counts, and the numbers that came out were",
        "compared. Headline rows are in bold. Peers live in an environment of their own (`.venv-peers`, made when it is",
        "first needed, versions in `benchmarks/theirs/requirements.txt`). `python -m benchmarks NAME --json` gives one",
        f"benchmark with all repeats, NAME being one of {', '.join(f'`{n}`' for n in (*NAMES, *ON_REQUEST))}.",
        "",
        "Rows on Gemma 3 270M are of the base model as its package has it, dequantised from Q4_K_M: they are about",
        "speed. The first benchmark that needs it shows Gemma's notice and fetches it; its terms bind whoever does that.",
        "",
    ]
    for name, run in runs.items():
        lines += [
            f"## {name}",
            "",
            (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip(),
            "",
            f"Measured on {run['on']} in {run['seconds'] / 60:.0f} min: {run['machine']}.",
            "",
            "| what | ours | peer | unit | ratio | peer | largest difference | share of matmul peak | |",
            "|---|---|---|---|---|---|---|---|---|",
            *(_line(row) for row in run["rows"]),
            "",
        ]
        if name == "linear":
            lines += ["![Seconds over items, options and seeds, with fitted lines](figures/linear.svg)", ""]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    name = f"**{row['name']}**" if row["headline"] else row["name"]
    version = f"{row['peer_name']} ({row['peer_version']})" if row["peer_version"] else row["peer_name"] or ""
    cells = [
        name,
        f"{row['ours']:.4g}",
        "" if row["peer"] is None else f"{row['peer']:.4g}",
        row["unit"],
        "" if row["ratio"] is None else f"{row['ratio']:.2f}",
        version,
        "" if row["max_abs_diff"] is None else f"{row['max_abs_diff']:.1e}",
        f"{row['peak_share']:.0%}" if row.get("peak_share") else "",
        row.get("note", ""),
    ]
    return f"| {' | '.join(cells)} |"


def write_page() -> None:
    """Write the docs' page from the rows that were kept."""
    found = {n: KEPT / f"{n}.json" for n in (*NAMES, *ON_REQUEST)}
    runs = {n: json.loads(path.read_text(encoding="utf-8")) for n, path in found.items() if path.exists()}
    PAGE.write_text(page(runs), encoding="utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=(*NAMES, *ON_REQUEST), help="one benchmark; all if left out")
    parser.add_argument("--json", action="store_true", help="rows as JSON on standard output")
    parser.add_argument("--page", action="store_true", help="only write docs/benchmarks.md from the last runs' rows")
    given = parser.parse_args()
    if given.page:
        write_page()
        return
    names = [given.name] if given.name else [*NAMES, *(ON_REQUEST if _has_cuda() else ())]
    rows = []
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows += measure(name)
    print(json.dumps(rows, indent=1) if given.json else "\n".join(map(_line, rows)))
    if not given.name:
        write_page()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    main()
