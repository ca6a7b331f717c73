"""What a fine-tune changed, matrix by matrix, stream by stream, position by position, and on the way from base to tuned."""

from typing import Any

import numpy as np
import torch

from gnothi.experiments.look.bench import LookBench
from gnothi.experiments.look.maps import Crossed
from gnothi.experiments.look.prompts import CHOICE, REPORT
from gnothi.experiments.look.readout import undone
from gnothi.mechanisms.cka import linear_cka
from gnothi.mechanisms.diffing import update_norms
from gnothi.mechanisms.diffing_activations import kl_by_position
from gnothi.mechanisms.pairs import interpolated

LINE = (0.25, 0.5, 0.75)
"""Where on the line from base to tuned readouts are taken, between both ends."""
FEWEST = 4
"""Prompts from which on streams are compared as wholes."""
LAST = 12
"""Positions before the answer whose divergence is kept one by one."""
MOST_TEXTS = 4
"""Prompts whose divergence is taken at every position: a language model's logits are large."""


def changes(bench: LookBench) -> dict[str, Any]:
    """Everything that does not ask what carries a readout."""
    bench.say(0, 4, "matrices")
    matrices = _matrices(bench)
    bench.say(1, 4, "streams of choices")
    streams = _streams(bench.choices_crossed, CHOICE)
    if bench.report:
        bench.say(2, 4, "streams of self-reports")
        streams += _streams(bench.reports_crossed, REPORT)
    bench.say(3, 4, "positions and the line")
    positions = _positions(bench, CHOICE) + (_positions(bench, REPORT) if bench.report else [])
    return {"tables": {"matrices": matrices, "streams": streams, "positions": positions, "line": _line(bench)}}


def _matrices(bench: LookBench) -> list[dict[str, Any]]:
    places = {m.name: (i, part) for i, b in enumerate(bench.body.blocks) for part, m in b.matrices.items()}
    base = dict(bench.pair.base.named_parameters())
    rows = []
    for row in update_norms(bench.pair).to_dict("records"):
        name = str(row["parameter"])
        block, part = places.get(name, (None, "embed" if base[name].dim() > 1 else "other"))
        before = float(base[name].detach().float().norm())
        rank = row["effective_rank"]
        rank = None if rank is None or not np.isfinite(rank) else float(rank)
        rows.append(
            {"name": name, "block": block, "part": part, "norm": float(row["norm"]), "before": before, "rank": rank}
        )
    return rows


def _streams(seen: Crossed, what: str) -> list[dict[str, Any]]:
    rows = []
    for site, relative in seen.relative.items():
        ends = seen.ends["base"][site], seen.ends["tuned"][site]
        rows.append(
            {
                "what": what,
                "site": str(site),
                "kind": site.kind,
                "block": site.block,
                "relative": relative,
                "cka": linear_cka(*(torch.from_numpy(e) for e in ends)) if len(ends[0]) >= FEWEST else None,
            }
        )
    return rows


def _positions(bench: LookBench, what: str) -> list[dict[str, Any]]:
    """KL divergence of the tuned model's next token from the base's, by distance from the answer."""
    which = list(bench.split.tried)[:MOST_TEXTS] if what == CHOICE else list(range(len(bench.report)))[:MOST_TEXTS]
    ids, mask = bench.reader(what, which).inputs(range(len(which)))
    found = kl_by_position(bench.pair, ids, mask, answer=ids.shape[1] - 1, rows=1).to_dict("records")
    by_distance: dict[int, list[tuple[float, int]]] = {}
    for row in found:
        by_distance.setdefault(min(ids.shape[1] - 1 - int(row["position"]), LAST), []).append(
            (float(row["kl"]), int(row["n"]))
        )
    return [
        {
            "what": what,
            "from_end": back,
            "kl": sum(kl * n for kl, n in seen) / sum(n for _, n in seen),
            "n": sum(n for _, n in seen),
        }
        for back, seen in sorted(by_distance.items())
    ]


def _line(bench: LookBench) -> list[dict[str, Any]]:
    """How much of the change is there on the line, and the cross-entropy with the tuned model's own choices."""
    reader, base, tuned = bench.items(CHOICE, bench.split.tried)
    rows = []
    for t in (0.0, *LINE, 1.0):
        if t in (0.0, 1.0):
            values = base if t == 0.0 else tuned
        else:
            with interpolated(bench.pair, t) as module:
                values = reader.values(module)
        loss = float(np.mean(np.logaddexp(0, -np.sign(tuned) * values)))
        rows.append({"t": t, "share": undone(tuned - base, values - base), "loss": loss})
    return rows
