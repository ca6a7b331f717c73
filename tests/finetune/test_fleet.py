"""Together or in turn: what was faster by enough, measured on steps of the training itself."""

import dataclasses

import pytest

from gnothi.finetune import fleet
from gnothi.finetune.loop import TrainJob
from gnothi.finetune.recipes import Recipe


class Clock:
    """Stands still but where training takes time; the first round takes ten times as long, as first rounds do."""

    def __init__(self, together: float, alone: float) -> None:
        self.now, self.rounds = 0.0, 0
        self.seconds = {True: together, False: alone}

    def perf_counter(self) -> float:
        return self.now

    def train(self, model, jobs, recipe: Recipe, *, together: bool) -> None:
        assert recipe.epochs is None and not recipe.gate_every and recipe.checkpoint_every == 0
        self.now += self.seconds[together] * recipe.steps * (10 if self.rounds < 2 else 1)
        self.rounds += 1


class Bare:
    device = type("device", (), {"type": "cpu", "__str__": lambda self: "cpu"})()


RECIPE = Recipe(name="r", kind="lora", lr=1e-3, rank=2, alpha=4.0, epochs=2, batch_rows=4, gate_every=3)
JOBS = [TrainJob(name=n, rows=[], seed=0) for n in "ab"]


@pytest.mark.parametrize("together, chosen", [(0.5, True), (0.94, True), (0.96, False), (1.0, False), (2.0, False)])
def test_a_fleet_has_to_be_faster_than_noise(together, chosen, monkeypatch):
    clock = Clock(together, alone=1.0)
    monkeypatch.setattr(fleet, "time", clock)
    monkeypatch.setattr(fleet, "train", clock.train)
    found = fleet.choose(Bare(), JOBS, RECIPE)
    assert found.together is chosen
    assert (found.seconds_together, found.seconds_alone) == pytest.approx((together, 1.0))
    assert found.to_json()["jobs"] == 2


@pytest.mark.parametrize("jobs, kind", [(JOBS[:1], "lora"), (JOBS, "full")])
def test_what_cannot_be_a_fleet_is_not_timed(jobs, kind, monkeypatch):
    monkeypatch.setattr(fleet, "train", None)
    assert not fleet.choose(Bare(), jobs, dataclasses.replace(RECIPE, kind=kind)).together
