"""What a fine-tune changed, matrix by matrix, stream by stream, position by position, and on the way from base to tuned."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnothi.experiments.look.bench import LookBench
from gnothi.experiments.look.maps import Crossed
from gnothi.experiments.look.prompts import CHOICE, REPORT
from gnothi.experiments.look.readout import Reader, undone
from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.pairs import differences, interpolated

LINE = (0.25, 0.5, 0.75)
"""Where on the line from base to tuned readouts are taken, between both ends."""
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
    base = dict(bench.pair.base.named_parameters())
    places = {m.name: (i, part) for i, b in enumerate(bench.body.blocks) for part, m in b.matrices.items()}
    rows = []
    for name, delta in differences(bench.pair).items():
        block, part = places.get(name, (None, "other"))
        if name not in places and delta.dim() > 1:
            part = "embed"
        rows.append(
            {
                "name": name,
                "block": block,
                "part": part,
                "norm": float(delta.norm()),
                "before": float(base[name].detach().float().norm()),
                "rank": _effective_rank(delta) if delta.dim() > 1 else None,
                "rows_changed": int((delta.flatten(1) != 0).any(1).sum()) if delta.dim() > 1 else 1,
            }
        )
    return rows


def _effective_rank(delta: Tensor) -> float:
    kept = delta.flatten(1)
    kept = kept[(kept != 0).any(1)]
    squares = torch.linalg.svdvals(kept).double().square()
    p = squares / squares.sum()
    p = p[p > 0]
    return float(torch.exp(-(p * p.log()).sum()))


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
                "cka": _cka(*ends),
            }
        )
    return rows


def _cka(x: np.ndarray, y: np.ndarray) -> float | None:
    x, y = (a.astype(float) - a.mean(0) for a in (x, y))
    gram_x, gram_y = x @ x.T, y @ y.T
    size = np.sqrt((gram_x**2).sum() * (gram_y**2).sum())
    return float((gram_x * gram_y).sum() / size) if size > 1e-12 else None


def _positions(bench: LookBench, what: str) -> list[dict[str, Any]]:
    """KL divergence of the tuned model's next token from the base's, by distance from the answer."""
    which = list(bench.split.tried)[:MOST_TEXTS] if what == CHOICE else list(range(len(bench.report)))[:MOST_TEXTS]
    prompts = bench.reader(what, which).prompts
    found: dict[int, list[float]] = {}
    with torch.no_grad():
        for prompt in prompts:
            ids, _ = Reader([prompt], bench.local.device).inputs([0])
            base, tuned = (
                anatomy(m).logits(ids)[0].float().log_softmax(-1) for m in (bench.pair.base, bench.pair.tuned)
            )
            kl = (tuned.exp() * (tuned - base)).sum(-1).clamp(min=0)
            for back, value in enumerate(kl.flip(0).tolist()):
                found.setdefault(min(back, LAST), []).append(value)
    return [
        {"what": what, "from_end": back, "kl": float(np.mean(values)), "n": len(values)}
        for back, values in found.items()
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
