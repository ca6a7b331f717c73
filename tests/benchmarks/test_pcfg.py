"""The products that a training step is measured against are those that it makes."""

import pytest
import torch
from benchmarks import pcfg
from torch.utils.flop_counter import FlopCounterMode

from gnothi.experiments.labs.pcfg_spec import SIZES
from gnothi.testbeds.pcfg.data import Rows
from gnothi.testbeds.pcfg.tasks import Tasks
from gnothi.testbeds.pcfg.training import Recipe, answer_loss, new_model, optimisers_of, whole_loss


@pytest.mark.parametrize("name", ["whole", "answer"])
def test_products_are_as_many_operations_as_torch_counts(name: str):
    spec = {**SIZES["tiny"], "batch": 3}
    tasks = Tasks(terminals=3, window=24, last=16, rank=3)
    model = new_model(tasks, {n: spec[n] for n in ("layers", "heads", "width", "mlp")}, seed=0)
    ids = torch.randint(3, (3, tasks.length), generator=torch.Generator().manual_seed(0))
    rows = Rows(ids, ids[:, 0])
    _, muon = optimisers_of(model, Recipe(steps=1, batch=1, rate=1e-3, muon=1e-3))
    assert muon is not None
    with FlopCounterMode(display=False) as counter:
        (whole_loss(model, rows, tasks) if name == "whole" else answer_loss(model, rows)).backward()
        muon.step(1e-3)
    ours = sum(2 * b * n * k * m for b, n, k, m in pcfg.products(name, tasks, spec))
    assert ours == counter.get_total_flops()


def test_rows_have_what_every_benchmark_has():
    rows = [*pcfg.sampler_rows(repeats=1), *pcfg.training_rows(turns=1)]
    assert [r["name"] for r in rows if r["headline"]] == ["pcfg/sampler, strings", "pcfg/training step, whole"]
    assert all(r["ratio"] == pytest.approx(r["ours"] / r["peer"]) for r in rows)
    assert all(r["peak_share"] > 0 for r in rows[2:])
