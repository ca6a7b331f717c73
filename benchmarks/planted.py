"""Planted changes found: in how many of a hundred random constructions each method names the place, and nothing but it.

    python -m benchmarks.planted [--subject speaker|sorter] [--kinds KIND,…] [--first SEED] [--count N]

Constructions are those of `tests/mechanisms/constructions.py`: a neutral fine-tune in both members, and a change of at most
a tenth of the whole difference in norm in one of them. Limits of the methods were chosen on seeds under 1160; what is reported
begins at 2000. Prints one line a construction on standard error and the counts as JSON at the end.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from gnothi.intervals import wilson
from gnothi.mechanisms.localise import METHODS

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "mechanisms"))
BASES = 4
"""Models that learned a language, in turns."""


def main() -> None:
    """Entry point."""
    import constructions  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=__doc__)
    parser.add_argument("--subject", choices=("speaker", "sorter"), default="speaker")
    parser.add_argument("--kinds", help="default: all that can be planted in the subject, and neutral")
    parser.add_argument("--first", type=int, default=2000, help="first seed")
    parser.add_argument("--count", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    of_subject = constructions.Speaker if given.subject == "speaker" else constructions.Sorter
    for kind in given.kinds.split(",") if given.kinds else (*of_subject.kinds, "neutral"):
        started, shares, redrawn = time.perf_counter(), [], 0
        found = {name: Counter() for name in METHODS}
        scores = {name: [] for name in METHODS}
        for seed in range(given.first, given.first + given.count):
            of = constructions.speaker(seed % BASES) if given.subject == "speaker" else constructions.sorter()
            made = constructions.make(kind, of, seed)
            shares.append(made.share)
            redrawn += made.redrawn
            line = [f"{kind} {seed} {made.place} effect {made.effect:.2f}"]
            for name, method in METHODS.items():
                said = method(made.pair, made.behaviour)
                outcome = "right" if said.name == made.place else "nothing" if said.name is None else "another"
                found[name][outcome] += 1
                scores[name].append(said.score)
                line.append(f"{name}: {said.name} {said.score:.1f}" + ("" if outcome == "right" else f" ({outcome})"))
            print(" | ".join(line), file=sys.stderr, flush=True)
        for name, counts in found.items():
            estimate = wilson(counts["right"], given.count, name="planted.right", arm=f"{kind}/{name}")
            rows.append(
                {
                    "subject": given.subject,
                    "kind": kind,
                    "method": name,
                    "n": given.count,
                    "right": counts["right"],
                    "named_another": counts["another"],
                    "named_nothing": given.count - counts["another"] - (0 if kind == "neutral" else counts["right"]),
                    "low": estimate.low,
                    "high": estimate.high,
                    "scores": [min(scores[name]), sorted(scores[name])[given.count // 2], max(scores[name])],
                    "share_of_update": [min(shares), max(shares)],
                    "redrawn": redrawn,
                    "seeds": [given.first, given.first + given.count - 1],
                    "seconds": time.perf_counter() - started,
                }
            )
    print("[" + ",\n ".join(map(json.dumps, rows)) + "]")


if __name__ == "__main__":
    main()
