"""Run benchmarks: `python -m benchmarks NAME --json`, or all of them into docs/benchmarks.md."""

import argparse
import importlib
import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NAMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "logit": ("logit", ()),
    "lora": ("training", ("lora",)),
    "fleet": ("training", ("fleet",)),
    "sampling": ("sampling", ()),
}
"""What can be measured -> the module that does it and what its `run` is given."""
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
FIELDS = [
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
]


def measure(name: str) -> list[dict[str, Any]]:
    """Run one benchmark; every row has all of `FIELDS`."""
    module, arguments = NAMES[name]
    rows = importlib.import_module(f"benchmarks.{module}").run(*arguments)
    for row in rows:
        missing = [f for f in FIELDS if f not in row]
        if missing:
            raise KeyError(f"benchmark {name} must give {', '.join(FIELDS)}, got a row without {', '.join(missing)}")
    return rows


def processor() -> str:
    """The processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def page(rows: list[dict[str, Any]]) -> str:
    """The table for the docs."""
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}, {processor()}, one thread. A ratio above 1 is better",
        "for us; both sides were measured in the same run on the same numbers. Headline rows are in bold.",
        "",
        "| what | ours | peer | unit | ratio | peer | largest difference | share of matmul peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"**{row['name']}**" if row["headline"] else row["name"]
        peer = "" if row["peer"] is None else f"{row['peer']:.4g}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        diff = "" if row["max_abs_diff"] is None else f"{row['max_abs_diff']:.1e}"
        version = f"{row['peer_name']} {row['peer_version'] or ''}".strip()
        share = f"{row['peak_share']:.0%}" if row.get("peak_share") else ""
        cells = [name, f"{row['ours']:.4g}", peer, row["unit"], ratio, version, diff, share]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(NAMES), help="one benchmark; all if left out")
    parser.add_argument("--json", action="store_true", help="rows as JSON on standard output")
    given = parser.parse_args()
    names = [given.name] if given.name else list(NAMES)
    rows = []
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows += measure(name)
    if given.json:
        print(json.dumps(rows, indent=1))
    else:
        print(page(rows))
    if not given.name:
        PAGE.write_text(page(rows), encoding="utf-8")
        print(f"wrote {PAGE}", file=sys.stderr)


if __name__ == "__main__":
    main()
