"""Pruning: what was planted is found at its place, nothing is found where nothing was, and controls stand beside."""

import copy
import json

import pytest
import torch

from gnothi.errors import DataError, SpecError, TrainingError
from gnothi.mechanisms.answers import Answers
from gnothi.mechanisms.pairs import Pair
from gnothi.mechanisms.pruning import PruneTask, Pruning, prune
from gnothi.mechanisms.pruning_record import PruneCurve
from gnothi.mechanisms.pruning_scores import gradient_scores, gradients, leave_one_out, magnitudes
from gnothi.mechanisms.single_weights import single_weight
from gnothi.mechanisms.units import Unit, values_of, weight_units
from gnothi.testbeds.transformer import Shape, Transformer

NEURON = Unit("neurons", 1, "mlp.neuron", (5,))
ROW = Unit("rows", 1, "mlp.up", (5,))
WEIGHT = Unit("weights", 1, "mlp.down", (7, 5))


@pytest.fixture(scope="module")
def task(copying) -> PruneTask:
    return PruneTask.of_answers(copying.rows(96, 12), copying.rows(96, 13), {"copy": copying.rows(96, 14)})


@pytest.fixture(scope="module")
def loud(copying, task) -> Pruning:
    never = copying.trained(random_labels=True)
    return prune(
        copying.with_loud_neuron(),
        task,
        "neurons",
        most=3,
        untouched=copying.trained(),
        never=never,
        orders=("gradient", "again", "leave_one_out"),
    )


@pytest.mark.parametrize("how", ["gradient", "again", "leave_one_out"])
def test_a_planted_neuron_is_found_and_its_removal_brings_the_task_back(loud: Pruning, how: str):
    curve = loud.curve(how)
    assert curve.at("copy", 0) < 0.4 and curve.chosen == 1
    assert curve.units[0] == NEURON and curve.places() == {(1, "mlp.neuron"): 1}
    assert curve.at("copy") > 0.95 and loud.lift(how) > 0.55


def test_controls_stand_beside_it_and_find_nothing(loud: Pruning):
    assert len(loud.random()) == 3
    draws = [curve for curve in loud.random() if NEURON not in curve.units]
    assert draws and all(curve.at("copy") < 0.4 for curve in draws)
    assert loud.curve("smallest").at("copy") < 0.4
    for how in ("gradient", "again", "leave_one_out"):
        assert loud.lift(how, "untouched") <= 0.0 and loud.curve(how, "untouched").at("copy", 0) > 0.95
        assert max(loud.curve(how, "never_had_it").show["copy"]) < 0.4
    mean, low, high = loud.random_lift()
    assert low <= mean <= high


def test_a_planted_row_is_found_among_all_rows(copying, task):
    found = prune(copying.with_loud_neuron(), task, "rows", most=1, untouched=copying.trained())
    assert found.n_units == 2 * (5 * 16 + 24)
    assert found.curve("gradient").units[0] == ROW and found.lift("again") > 0.55


def test_leave_one_out_may_try_the_best_by_gradient_only(copying, task):
    more = {"untouched": copying.trained(), "orders": ["leave_one_out"], "counts": [1], "tried": 3}
    found = prune(copying.with_loud_neuron(), task, "rows", most=2, **more)
    assert found.curve("leave_one_out").units[0] == ROW and found.lift("leave_one_out") > 0.55
    with pytest.raises(SpecError, match=r"tried must be at least most \(4\), got 3"):
        prune(copying.with_loud_neuron(), task, "rows", most=4, **more)


def test_undoing_finds_the_rows_that_were_changed_and_no_others_are_tried(copying, task):
    base, tuned = copying.trained(), copying.with_loud_neuron()
    found = prune(Pair(base, tuned), task, "neurons", most=5)
    assert found.undo and found.curve("gradient").units == (NEURON,)  # no other neuron differs
    assert found.curve("again").counts == (0, 1) and found.lift("again") > 0.55
    assert all(curve.units == (NEURON,) for curve in found.random())
    assert found.curve("gradient", "untouched").counts == (0,)


def test_one_weight_is_found_against_many_random_ones_chosen_the_same_way(copying, task):
    found = single_weight(copying.with_loud_weight(), task, seed=0, candidates=6, random=150)
    assert found.best.unit == WEIGHT and found.lift > 0.6
    assert abs(found.random_lift) < 0.1 and found.n_random == 150 and found.random.unit != WEIGHT
    assert found.before.show["copy"] < 0.4 and found.top[0].unit == WEIGHT and len(found.top) == 4
    assert json.loads(json.dumps(found.to_json()))["best"]["unit"] == "block.1.mlp.down[7, 5]"
    clean = single_weight(copying.trained(random_labels=True), task, seed=0, candidates=6, random=20)
    assert abs(clean.lift) < 0.15 and abs(clean.random_lift) < 0.15


def test_k_is_chosen_on_one_set_and_shown_on_another(copying):
    truth = copying.rows(96, 15)
    show = Answers(ids=copying.rows(96, 16).ids, labels=torch.zeros(96, dtype=torch.long))  # says class 0 everywhere
    task = PruneTask.of_answers(truth, copying.rows(96, 17), {"zeros": show})
    found = prune(copying.with_loud_neuron(), task, "neurons", most=2, untouched=copying.trained())
    curve = found.curve("gradient")
    assert curve.at("zeros", 0) > 0.6 and curve.chosen == 1 and curve.at("zeros") < 0.4
    assert found.lift("gradient") < -0.4  # what it costs is shown, though it was not chosen by


def test_k_looks_good_where_it_is_chosen_and_not_on_fresh_data_where_nothing_is_hidden(copying):
    """Random models and random labels: what the best K adds is luck of the data that it was chosen on."""
    lifts, luck = [], []
    for seed in range(8):
        module = Transformer(copying.shape, seed=seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter *= 8  # so that removing a row changes answers
        score_on, choose_on, show_on = (
            copying.rows(n, 900 + 3 * seed + i, random_labels=True) for i, n in enumerate((64, 64, 400))
        )
        task = PruneTask.of_answers(score_on, choose_on, {"labels": show_on})
        found = prune(module, task, "rows", most=8, counts=(2, 4, 6, 8), orders=["again"], untouched=module)
        lifts.append(found.lift("again"))
        curve = found.curve("again")
        luck.append(max(curve.choose) - curve.choose[0])
    assert abs(sum(lifts) / 8) < 0.025 < sum(luck) / 8


def test_theta_times_gradient_is_leave_one_out_for_small_changes():
    base = Transformer(Shape(layers=2, heads=2, width=8, mlp=12, vocabulary=5, longest=6), seed=2).double()
    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(5, (40, 6), generator=draws)
    rows = Answers(ids=ids, labels=ids[:, 0])
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter += 1e-6 * torch.randn(parameter.shape, generator=draws, dtype=torch.double)

    def loss(module) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(module(rows.ids, at=-1), rows.labels)

    for kind in ("rows", "neurons", "heads"):
        units = weight_units(tuned, kind)
        exact = leave_one_out(units, lambda module: float(loss(module)), values_of(base))
        linear = gradient_scores(units, loss, values_of(base)).double()
        assert torch.allclose(linear, exact, rtol=0.02, atol=1e-12), kind
    part = copy.deepcopy(base)
    with torch.no_grad():
        part.blocks[1].attn.v.weight.copy_(tuned.blocks[1].attn.v.weight)
    units = weight_units(part, "rows")
    scores = gradient_scores(units, loss, values_of(base))
    v = [i for i, unit in enumerate(units) if unit.place == (1, "attn.v")]
    assert scores[v].abs().min() > 0 and scores.count_nonzero() == len(v)


def test_scores_are_those_of_plain_autograd(copying):
    module = Transformer(copying.shape, seed=4)
    rows = copying.rows(30, 18)
    scores = gradient_scores(weight_units(module, "rows"), rows.losses)
    torch.nn.functional.cross_entropy(module(rows.ids, at=-1), rows.labels).backward()
    weight = module.blocks[0].attn.v.weight
    assert torch.allclose(scores[32:48].float(), (weight * weight.grad).sum(1), atol=1e-7)
    whole = gradients(module, Answers(ids=rows.ids, labels=rows.labels, batch=7).losses, {"v": weight})["v"]
    assert torch.allclose(whole, weight.grad, atol=1e-7)
    assert module.training and all(p.requires_grad for p in module.parameters())


def test_magnitudes_are_norms_of_units_or_of_their_change(copying):
    base, tuned = copying.trained(), copying.with_loud_weight()
    units = weight_units(tuned, "rows")
    sizes = magnitudes(units)
    assert sizes.argmax() == units.number(Unit("rows", 1, "mlp.down", (7,)))
    change = magnitudes(units, values_of(base))
    assert change[: len(units) // 2].eq(0).all() and change.argmax() == sizes.argmax()


def test_results_survive_json(loud: Pruning):
    again = Pruning.of_json(json.loads(json.dumps(loud.to_json())))
    assert again == loud
    rows = loud.rows()
    assert len(rows) == sum(2 * len(c.counts) for c in loud.curves) and rows[0].keys() == rows[-1].keys()


def test_pruning_leaves_the_module_as_it_was(copying, task):
    module = copying.with_loud_neuron()
    before = copy.deepcopy(module.state_dict())
    prune(module, task, "heads", most=2, counts=(2,), untouched=copying.trained())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_impossible_requests_are_refused(copying, task):
    module, base = copying.trained(), copying.trained()
    with pytest.raises(SpecError, match=r"from 0 to 4 \(the heads of this module\), got 5. Choose fewer"):
        prune(module, task, "heads", most=5, untouched=base)
    with pytest.raises(SpecError, match="untouched must be the model before fine-tuning"):
        prune(module, task, "heads", most=1)
    with pytest.raises(SpecError, match=r"orders must be among gradient, again, leave_one_out, got \['best'\]"):
        prune(module, task, "heads", most=1, untouched=base, orders=["best"])
    with pytest.raises(SpecError, match="draws must be at least 3"):
        prune(module, task, "heads", most=1, untouched=base, draws=1)
    with pytest.raises(SpecError, match=r"counts must lie from 0 to most \(2\), got 0 to 3"):
        prune(module, task, "heads", most=2, untouched=base, counts=[3])
    with pytest.raises(SpecError, match="never must be a pair where target is one"):
        prune(module, task, "heads", most=2, untouched=base, never=Pair(base, module))
    with pytest.raises(SpecError, match=r"candidates must be at most 4 .* got 9\. Choose fewer"):
        single_weight(module, task, seed=0, kind="heads", candidates=9)
    with pytest.raises(SpecError, match="1 <= top <= candidates"):
        single_weight(module, task, seed=0, kind="heads", candidates=2)
    rows = copying.rows(20, 1)
    with pytest.raises(DataError, match="must be other data than choose_on, got the same prompts"):
        PruneTask.of_answers(copying.rows(20, 2), rows, {"copy": rows})
    with pytest.raises(SpecError, match="at least one evaluation"):
        PruneTask(score_on=rows.losses, choose_on=rows.accuracy, show_on={})
    with pytest.raises(TrainingError, match="scored on must be finite, got nan"):
        gradients(module, lambda m: next(m.parameters()).sum() * torch.nan, {})


def test_records_check_themselves():
    good = {"who": "tuned", "how": "gradient", "counts": (0, 1), "choose": (0.1, 0.2), "units": ()}
    curve = PruneCurve(**good, show={"a": (0.3, 0.4)})
    with pytest.raises(DataError, match="asked for a at one of the counts"):
        curve.at("b")
    with pytest.raises(DataError, match="value at each count from 0"):
        PruneCurve(**good, show={"a": (0.3,)})
    with pytest.raises(DataError, match="finite values"):
        PruneCurve(**good, show={"a": (0.3, float("nan"))})
    pruning = Pruning(kind="rows", n_units=3, undo=False, main="a", curves=(curve,))
    with pytest.raises(DataError, match="one of tuned/gradient, got tuned/again"):
        pruning.curve("again")


def test_answers_check_themselves(copying):
    rows = copying.rows(6, 1)
    with pytest.raises(DataError, match=r"ids \(n, T\) and labels \(n,\)"):
        Answers(ids=rows.ids, labels=rows.labels[:3])
    with pytest.raises(DataError, match="one position or one a row"):
        Answers(ids=rows.ids, labels=rows.labels, at=torch.zeros(2, dtype=torch.long))
    with pytest.raises(DataError, match="mask must be as large as ids"):
        Answers(ids=rows.ids, labels=rows.labels, mask=torch.ones(1, 1))


def test_answers_read_each_row_at_its_own_place_and_among_its_options(copying):
    module = copying.trained()
    rows = copying.rows(30, 2)
    at = torch.arange(30) % 6
    picked = Answers(ids=rows.ids, labels=rows.labels, at=at, batch=7)
    with torch.no_grad():
        expected = module(rows.ids, at=at)
    assert torch.equal(picked.predictions(module), expected.argmax(-1))
    assert picked.loss(module) == pytest.approx(
        torch.nn.functional.cross_entropy(expected, rows.labels).item(), abs=1e-6
    )
    two = Answers(ids=rows.ids, labels=torch.zeros(30, dtype=torch.long), options=torch.tensor([3, 1]), at=at)
    assert torch.equal(two.predictions(module), expected[:, [3, 1]].argmax(-1))
    assert picked.histogram(module, 5) == torch.bincount(expected.argmax(-1), minlength=5).tolist()
    assert rows.balanced_accuracy(module) > 0.95 and 0.2 <= rows.floor < 0.5
