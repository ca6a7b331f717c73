"""Revival: curves, steps to a level, a rate for each arm, and trainings that go on bit for bit."""

import copy
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gnothi.errors import DataError, SpecError, StoreError, TrainingError
from gnothi.mechanisms.reversal import Course, Curve, Schedule, train_back
from gnothi.mechanisms.revival import Reached, choose_rate, revive, speed_up, steps_over_seeds, steps_to
from gnothi.mechanisms.training_state import load_state, save_state, tensors_of
from gnothi.testbeds.transformer import Shape, Transformer


def curve(*values: float, every: int = 10, horizon: int | None = None, **more) -> Curve:
    steps = tuple(range(0, every * len(values), every))
    return Curve(steps=steps, values=values, horizon=horizon or steps[-1], **more)


def test_steps_to_a_level_on_curves_made_by_hand():
    assert steps_to(curve(0.1, 0.5, 0.95, 0.97), 0.9) == Reached(steps=20, within=30)
    assert steps_to(curve(0.95, 0.2), 0.9).steps == 0
    never = steps_to(curve(0.1, 0.2, 0.3), 0.9)
    assert never.steps is None and never.reason == "not within 20 steps" and never.restricted == 20
    blip = curve(0.1, 0.95, 0.2, 0.95, 0.96)
    assert steps_to(blip, 0.9).steps == 10 and steps_to(blip, 0.9, stays=2).steps == 30
    losses = curve(3.0, 2.0, 1.0, others={"loss": (3.0, 2.0, 0.5)})
    assert (
        steps_to(losses, 1.0, falling=True).steps == 20 and steps_to(losses, 0.6, of="loss", falling=True).steps == 20
    )
    broke = curve(0.1, 0.2, horizon=50, ended="broke", losses=(1.0,) * 13)
    assert steps_to(broke, 0.9).reason == "not within 50 steps: the loss was no number after 13"
    with pytest.raises(DataError, match="of must be one of loss, got 'los'"):
        steps_to(losses, 1.0, of="los")
    with pytest.raises(DataError, match="stays must be at least 1"):
        steps_to(losses, 1.0, stays=0)


def test_the_area_goes_on_with_the_last_value_after_an_early_end():
    assert curve(0.0, 1.0).area == 0.5
    assert curve(0.0, 1.0, horizon=40, ended="reached").area == pytest.approx((5 + 30) / 40)


def reached(*steps: int | None, within: int = 100) -> list[Reached]:
    return [
        Reached(steps=s, within=within, reason=None if s is not None else f"not within {within} steps") for s in steps
    ]


def test_steps_over_seeds_are_a_mean_only_where_every_seed_got_there():
    whole = steps_over_seeds(reached(20, 40, 30), name="revival.steps", arm="tuned")
    assert whole.mean.value == 30 and whole.median == 30 and whole.mean.low < 30 < whole.mean.high and whole.mean.n == 3
    some = steps_over_seeds(reached(20, None, 40, 30, None), name="revival.steps", arm="tuned")
    assert some.mean.value is None and some.median == 40 and (some.reached, some.seeds) == (3, 5)
    assert some.mean.reason == "2 of 5 seeds did not get there within 100 steps (median 40)"
    few = steps_over_seeds(reached(None, 10, None), name="revival.steps", arm="scratch")
    assert few.median is None and few.mean.reason == "2 of 3 seeds did not get there within 100 steps (no median)"
    two = steps_over_seeds(reached(10, 20), name="revival.steps", arm="scratch")
    assert two.mean.value == 15 and two.mean.low is None and "needs 3" in two.mean.reason
    with pytest.raises(DataError, match="at least one seed"):
        steps_over_seeds([], name="revival.steps", arm="tuned")


def test_speed_up_pairs_seeds_and_says_where_it_is_a_bound():
    ours, control = reached(10, 20, 25), reached(40, 80, 50)
    found = speed_up(ours, control, name="revival.speed_up", arm="tuned")
    assert found.value == pytest.approx((2 + 2 + 1) / 3) and found.low < found.value < found.high
    bound = speed_up(ours, reached(40, None, 50), name="revival.speed_up", arm="tuned")
    assert bound.value == pytest.approx((2 + math.log2(5) + 1) / 3) and "a lower bound: 1 of 3 controls" in bound.method
    lost = speed_up(reached(10, None, 20), control, name="revival.speed_up", arm="tuned")
    assert lost.value is None and lost.reason == "1 of 3 seeds did not get there within 100 steps"
    with pytest.raises(DataError, match="same seeds, got 3 and 2"):
        speed_up(ours, control[:2], name="revival.speed_up", arm="tuned")


def test_the_rate_that_gets_there_soonest_is_chosen_and_an_edge_is_said():
    when = {1e-4: (None, None), 1e-3: (30, 50), 1e-2: (20, None)}

    def run(lr: float, seed: int) -> Curve:
        steps = when[lr][seed]
        return curve(*(float(steps is not None and s >= steps) for s in range(0, 101, 10)))

    found = choose_rate(list(when), run, [0, 1], 0.9)
    assert found.lr == 1e-3 and not found.at_edge
    assert [t.mean_restricted for t in found.trials] == [100, 40, 60]
    assert choose_rate([1e-3, 1e-4], run, [0, 1], 0.9).at_edge
    assert json.loads(json.dumps(found.to_json()))["trials"][2]["steps"] == [20, None]
    with pytest.raises(SpecError, match="rates, each once"):
        choose_rate([1e-3, 1e-3], run, [0], 0.9)


def test_ties_between_rates_go_to_the_larger_area():
    shapes = {0.1: (0.0, 0.0, 1.0), 0.2: (0.0, 0.8, 1.0), 0.4: (0.0, 0.5, 1.0)}
    assert choose_rate(list(shapes), lambda lr, _: curve(*shapes[lr]), [0], 0.9).lr == 0.2


def test_each_arm_gets_the_rate_that_suits_it():
    """Quadratic bowls of unlike steepness: the best rate of gradient descent is one over the curvature."""

    class Bowl(torch.nn.Module):
        def __init__(self, steepness: float) -> None:
            super().__init__()
            self.x, self.steepness = torch.nn.Parameter(torch.ones(())), steepness

    arms = {"steep": lambda _: Bowl(10.0), "flat": lambda _: Bowl(0.1)}
    found = revive(
        arms,
        batches=lambda seed: itertools.repeat(seed),
        loss=lambda module, _: 0.5 * module.steepness * module.x**2,
        evaluate=lambda module: 1 - float(module.x.abs()),
        tune_evaluate=lambda module: 1 - float(module.x.abs()),
        course=Course(steps=20, every=1, lr=1.0, optimiser="sgd", momentum=0.0),
        rates=[0.01, 0.1, 1.0, 10.0],
        level=0.99,
        seeds=[0, 1],
        tuning_seeds=[2],
    )
    assert found["steep"].rate.lr == 0.1 and found["flat"].rate.lr == 10.0
    assert [r.steps for r in found["steep"].reached] == [1, 1] and list(found["flat"].curves) == [0, 1]


def test_a_model_that_was_pushed_off_the_task_comes_back_sooner_than_one_that_never_had_it(copying, tmp_path: Path):
    started = []

    def start(name: str):
        def fresh(seed: int) -> Transformer:
            started.append(name)
            return copying.with_loud_neuron() if name == "tuned" else Transformer(copying.shape, seed=100 + seed)

        return fresh

    def run(steps: int = 40):
        return revive(
            {"tuned": start("tuned"), "scratch": start("scratch")},
            batches=copying.batches,
            loss=copying.loss,
            evaluate=copying.rows(100, 30).accuracy,
            tune_evaluate=copying.rows(100, 31).accuracy,
            course=Course(steps=steps, every=5, lr=1.0),
            rates=[3e-3, 3e-2],
            level=0.9,
            seeds=[0, 1],
            tuning_seeds=[2],
            folder=tmp_path,
        )

    found = run()
    tuned, scratch = (sum(r.restricted for r in found[arm].reached) for arm in ("tuned", "scratch"))
    assert tuned < scratch and found["tuned"].curves[0].values[0] < 0.4
    n = len(started)
    assert n == 2 * (2 + 2) and run() == found and len(started) == n, "finished curves are not made again"
    with pytest.raises(StoreError, match="must be of this training, got one of another"):
        run(steps=41)


COURSE = Course(steps=12, every=4, lr=1e-2, schedule=Schedule(warmup=0.25, end=0.1), dropout=True, keep_every=4)


def model() -> Transformer:
    return Transformer(Shape(layers=1, heads=2, width=8, mlp=12, vocabulary=5, longest=6, dropout=0.3), seed=5)


class Killed(Exception):
    pass


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_training_that_was_cut_off_ends_bit_for_bit_like_one_that_was_not(copying, tmp_path: Path, optimiser: str):
    course = Course(**{**COURSE.to_json(), "optimiser": optimiser, "schedule": COURSE.schedule})
    rows = copying.rows(50, 40)

    def train(module: Transformer, folder: Path | None, stop: int | None = None) -> Curve:
        def progress(done: int, _: int, __: float) -> None:
            if done == stop:
                raise Killed

        batches, looks = copying.batches(6), {"loss": rows.loss}
        more = {"seed": 0, "also": looks, "folder": folder, "key": "k", "progress": progress}
        return train_back(module, batches, copying.loss, rows.accuracy, course, **more)

    whole, killed, resumed = model(), model(), model()
    state = torch.get_rng_state()
    expected = train(whole, None)
    with pytest.raises(Killed):
        train(killed, tmp_path, stop=9)
    assert train(resumed, tmp_path) == expected
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state), "the global stream is given back as it was"
    with pytest.raises(StoreError, match=r"must be of this training, got one of another\. Delete"):
        load_state(tmp_path, tensors_of(model()), key="other")


def test_dropout_acts_in_training_only(copying):
    rows, seen = copying.rows(20, 41), []
    module = model().eval()

    def look(m) -> float:
        seen.append(m.training)
        return 0.0

    def loss(m, batch) -> torch.Tensor:
        seen.append(m.training)
        return copying.loss(m, batch)

    train_back(module, copying.batches(1), loss, look, Course(steps=1, every=1, lr=1e-3, dropout=True), seed=0)
    assert seen == [False, True, False] and not module.training and rows.batch == 512


def test_only_what_is_given_is_trained(copying):
    module = copying.trained()
    before = copy.deepcopy(module.state_dict())
    tuned = {"head": module.head.weight}
    course = Course(steps=2, every=2, lr=1e-2, clip=1.0)
    train_back(module, copying.batches(1), copying.loss, copying.rows(9, 1).accuracy, course, seed=0, parameters=tuned)
    moved = [name for name, value in module.state_dict().items() if not torch.equal(before[name], value)]
    assert moved == ["head.weight"] and all(p.requires_grad and p.grad is None for p in module.parameters())


def test_a_loss_that_is_no_number_ends_the_curve(copying):
    def loss(module, batch) -> torch.Tensor:
        found = copying.loss(module, batch)
        return found if next(steps) < 3 else found * torch.nan

    steps = itertools.count()
    module = model()
    found = train_back(module, copying.batches(1), loss, lambda _: 0.5, Course(steps=9, every=2, lr=1e-3), seed=0)
    assert found.ended == "broke" and found.steps == (0, 2) and len(found.losses) == 3 and found.horizon == 9
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_a_curve_stops_where_it_is_told_to_and_survives_json(copying):
    values = iter([0.1, 0.4, 0.8, 0.9])
    course = Course(steps=20, every=5, also=(1,), lr=1e-3, until=0.7)
    found = train_back(model(), copying.batches(1), copying.loss, lambda _: next(values), course, seed=0)
    assert found.ended == "reached" and found.steps == (0, 1, 5) and found.values == (0.1, 0.4, 0.8)
    assert Curve.of_json(json.loads(json.dumps(found.to_json()))) == found
    assert Course(steps=10, every=4, also=(1,), lr=1e-3).looks == (0, 1, 4, 8, 10)


def test_the_state_of_numpy_streams_and_facts_is_kept(tmp_path: Path):
    rng, draws = np.random.default_rng(3), torch.Generator().manual_seed(4)
    module = model()
    streams = {"numpy": rng, "torch": draws}
    save_state(tmp_path, tensors_of(module), streams=streams, facts={"step": 3})
    expected = rng.random(3).tolist(), torch.rand(3, generator=draws).tolist()
    with torch.no_grad():
        module.head.weight.zero_()
    assert load_state(tmp_path, tensors_of(module), streams=streams) == {"step": 3}
    assert (rng.random(3).tolist(), torch.rand(3, generator=draws).tolist()) == expected
    assert torch.equal(module.head.weight, model().head.weight)
    assert load_state(tmp_path / "nothing", tensors_of(module)) is None
    (tmp_path / "state.safetensors").write_bytes(b"cut off")
    with pytest.raises(StoreError, match="whole file of ours, got one that cannot be read"):
        load_state(tmp_path, tensors_of(module))


def test_impossible_courses_are_refused(copying):
    with pytest.raises(SpecError, match="steps >= 1, every >= 1"):
        Course(steps=0, every=1, lr=1e-3)
    with pytest.raises(SpecError, match="one of adamw, sgd, got 'adam'"):
        Course(steps=1, every=1, lr=1e-3, optimiser="adam")
    with pytest.raises(SpecError, match="steps from 0 to 5"):
        Course(steps=5, every=1, lr=1e-3, also=(6,))
    with pytest.raises(SpecError, match="Both are shares"):
        Schedule(warmup=20)
    with pytest.raises(TrainingError, match=r"last for 3 steps, got 2\. Give an iterator that goes on"):
        short = itertools.islice(copying.batches(1), 2)
        train_back(model(), short, copying.loss, lambda _: 0.0, Course(steps=3, every=1, lr=1e-3), seed=0)
    with pytest.raises(SpecError, match=r"none of the seeds, got \[1\] in both"):
        revive(
            {"tuned": lambda _: model()},
            batches=copying.batches,
            loss=copying.loss,
            evaluate=lambda _: 0.0,
            tune_evaluate=lambda _: 0.0,
            course=COURSE,
            rates=[1.0],
            level=0.9,
            seeds=[0, 1],
            tuning_seeds=[1],
        )
