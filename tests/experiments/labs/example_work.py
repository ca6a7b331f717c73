"""What the example lab's units are made by: gradient descent on one slope, with a checkpoint every ten steps."""

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from gnothi.errors import TrainingError
from gnothi.experiments.labs.base import Bench, LabJob, UnitData
from gnothi.rng import stream

BREAKS = 900
"""Planted: a run of seed 900 + k breaks its unit k."""


def work(spec: Mapping[str, Any], job: LabJob, bench: Bench) -> UnitData:
    """The shared points, or a line fitted to them."""
    if job.name == "points":
        x = stream(spec["seed"], "points").normal(size=50).astype(np.float32)
        return UnitData(record={"n": np.int64(len(x))}, tensors={"x": torch.from_numpy(x)})
    if job.name == f"tuned-{spec['seed'] - BREAKS}":
        raise TrainingError("the loss must stay finite, got inf. Take a smaller rate.")
    parent = bench.parent("points")
    assert parent.record["n"] == 50
    x = parent.tensors["x"].double()
    noise = stream(spec["seed"], "noise", job.name).normal(size=50)
    y = job.payload["slope"] * x + 0.1 * torch.from_numpy(noise)
    slope, losses, rows, first = torch.zeros((), dtype=torch.double), [], [], 0
    state = bench.checkpoints / "state.json"
    if state.is_file():
        kept = json.loads(state.read_text())
        slope, losses, rows, first = torch.tensor(kept["slope"]).double(), kept["losses"], kept["rows"], kept["step"]
    for step in range(first, spec["steps"]):
        error = slope * x - y
        slope = slope - 0.1 * float((error * x).mean())
        losses.append(float((error**2).mean()))
        rows.append({"step": step, "slope": float(slope)})
        bench.report(step + 1, spec["steps"], "fine-tune")
        if step % 10 == 9:
            fresh = state.with_suffix(".new")
            fresh.write_text(json.dumps({"slope": float(slope), "losses": losses, "rows": rows, "step": step + 1}))
            fresh.replace(state)
        time.sleep(spec["pause"])
    bench.report(1, 1, "done")  # a stage of this name must not end the job on the bars
    return UnitData(
        record={"losses": losses, "steps": spec["steps"], "resumed_from": first, "gate": "passed"},
        tables={"curve": pd.DataFrame(rows), "empty": pd.DataFrame({"name": pd.Series([], dtype=str)})},
        tensors={"slope": slope},
    )
