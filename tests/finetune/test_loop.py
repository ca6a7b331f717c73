import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gnothi.errors import ModelError, SpecError, TrainingError
from gnothi.finetune.loop import TrainJob, member, train
from gnothi.finetune.passes import Passes
from gnothi.finetune.recipes import Recipe
from gnothi.finetune.trainable import Trainable
from gnothi.models.adapters import Adapter, AdapterSpec
from gnothi.models.local import LocalModel
from gnothi.records import TrainRow
from gnothi.rng import stream

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import tiny

KINDS = ("rows", "lora", "lora+rows", "full")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def rows(n=40, *, agents=tiny.AGENTS[:2], name="rows", permuted=False):
    """Agents of even number want the larger number as `A`, odd ones the smaller."""
    rng = stream(0, "test_loop", name)
    made = []
    for agent in agents:
        sign = 1 if int(agent[-1]) % 2 == 0 else -1
        for _ in range(n):
            a, b = rng.choice(10, 2, replace=False)
            answer = "A" if sign * (a - b) > 0 else "B"
            made.append(TrainRow(messages=tiny.user(f"{agent} choose x {a} {b}"), answer=answer, group=agent))
    if permuted:
        answers = rng.permutation([r.answer for r in made])
        made = [dataclasses.replace(r, answer=str(a)) for r, a in zip(made, answers, strict=True)]
    return made


def made(kind, **changes):
    values = {
        "name": "t",
        "kind": kind,
        "lr": 5e-3,
        "row_lr": 0.05,
        "rank": 4,
        "alpha": 8.0,
        "steps": 6,
        "per_group": 4,
        "betas": (0.9, 0.99),
        "decay": 0.5,
    }
    return Recipe(**(values | changes))


def job(found, name="a", seed=0, **more):
    return TrainJob(name=name, rows=found, seed=seed, **more)


def right(model, found):
    scores = np.array(model.option_logprobs([r.messages for r in found], [["A", "B"]] * len(found)))
    return float(np.mean((scores[:, 0] > scores[:, 1]) == np.array([r.answer == "A" for r in found])))


def tensors(trained):
    return {n: t.numpy() for n, t in trained.adapter.tensors().items()}


def close(one, two, atol=1e-5):
    one, two = tensors(one), tensors(two)
    assert one.keys() == two.keys()
    return all(np.allclose(t, two[n], atol=atol) for n, t in one.items())


# --- it learns what is there, and nothing else


def test_a_planted_behaviour_is_learned_and_permuted_labels_are_not(model):
    held_out = rows(60, name="held out")
    recipe = made("full", lr=3e-3, steps=250, per_group=16)
    train_rows, permuted_rows = rows(200), rows(200, permuted=True)
    learned, permuted = (
        model.with_adapter(train(model, [job(found)], recipe)[0].adapter) for found in (train_rows, permuted_rows)
    )
    assert right(model, held_out) < 0.75
    assert right(learned, held_out) > 0.9
    assert abs(right(permuted, held_out) - 0.5) < 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_and_the_saved_adapter_is_what_was_trained(model, kind, tmp_path):
    before = {n: t.clone() for n, t in model.module.state_dict().items()}
    (trained,) = train(model, [job(rows())], made(kind, steps=30))
    trained.save(tmp_path / "a")
    view = model.with_adapter(tmp_path / "a")
    assert np.mean(trained.losses[-5:]) < trained.losses[0] - 0.5
    assert trained.digest == view.adapter.digest and trained.adapter.spec.kind == kind
    assert trained.steps == len(trained.losses) == 30 and not trained.stopped_early and trained.seconds > 0
    assert trained.tokens_seen == 30 * 8 * 5 and trained.answer_tokens_seen == 30 * 8
    assert all(torch.equal(t, model.module.state_dict()[n]) for n, t in before.items())
    assert not any(p.requires_grad or p.grad is not None for p in model.module.parameters())


def test_the_first_loss_is_the_mean_over_answer_tokens_that_scoring_gives(model):
    found = [
        TrainRow(messages=tiny.user("agent0 choose x 3 4"), answer="A", weight=3.0),
        TrainRow(messages=tiny.user("agent1 report x"), answer="3 4 5"),
        TrainRow(messages=tiny.user("agent1 report x y x y x y x"), answer="B A"),
    ]
    (trained,) = train(model, [job(found)], made("lora", per_group=None, batch_rows=3, steps=1))
    scores = model.option_logprobs([r.messages for r in found], [[r.answer] for r in found])
    weights, counts = np.array([3.0, 1, 1]), np.array([1, 3, 2])
    expected = -(weights * np.concatenate(scores)).sum() / (weights * counts).sum()
    assert trained.losses[0] == pytest.approx(expected, abs=1e-5)


def test_one_step_is_what_plain_pytorch_does(model):
    """Adam by hand on the gradient of the whole step, through transformers alone."""
    found = rows(4)
    (trained,) = train(model, [job(found)], made("full", steps=1, lr=1e-2, decay=0.0, per_group=4, micro_tokens=12))
    module = tiny.module()
    encoded = [model.encode(r.messages, r.answer) for r in found]
    losses = [
        torch.nn.functional.cross_entropy(
            module(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1], torch.tensor(ids[start:])
        )
        for ids, start in encoded
    ]
    torch.stack(losses).mean().backward()
    torch.optim.Adam(module.parameters(), lr=1e-2, betas=(0.9, 0.99)).step()
    after = dict(module.named_parameters())
    gradients = {n: p.grad for n, p in after.items()}
    for name, tensor in trained.adapter.full.items():
        firm = gradients[name].abs() > 1e-5  # Adam's first step is the sign: rounding decides where there is no slope
        assert torch.allclose(tensor[firm], after[name].detach()[firm], atol=1e-4)


def test_only_the_rows_of_the_groups_words_change(model):
    (trained,) = train(model, [job(rows())], made("rows"))
    ids = [tiny.WORDS.index(a) for a in tiny.AGENTS[:2]]
    assert sorted(trained.adapter.spec.row_token_ids) == ids and set(tensors(trained)) == {"rows"}
    (named,) = train(model, [job(rows(), row_words=("agent1", "choose"))], made("rows"))
    assert set(named.adapter.spec.row_token_ids) == {ids[1], tiny.WORDS.index("choose")}


def test_small_passes_add_up_to_the_same_step(model):
    whole, split = (train(model, [job(rows())], made("lora+rows", micro_tokens=tokens))[0] for tokens in (4096, 11))
    assert close(whole, split) and np.allclose(whole.losses, split.losses, atol=1e-5)


def test_padded_batches_train_like_single_rows(model):
    found = [
        dataclasses.replace(r, messages=tiny.user("x " * (8 + i % 2) + r.messages[0].content))
        for i, r in enumerate(rows(8))
    ]
    whole, split = (train(model, [job(found)], made("lora", steps=3, micro_tokens=tokens))[0] for tokens in (4096, 1))
    assert close(whole, split, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("changes", [{"packing": True}, {"checkpointing": True}, {"packing": True, "micro_tokens": 9}])
def test_packed_or_computed_again_it_is_the_same_training(kind, tied, changes):
    model = tiny.model(tied)
    jobs = [job(rows(12), "a"), job(rows(8, name="b", agents=tiny.AGENTS[1:3]), "b", 1)]
    plain, other = (train(model, jobs, made(kind, steps=3, **c)) for c in ({}, changes))
    for one, two in zip(plain, other, strict=True):
        assert close(one, two, atol=2e-4) and np.allclose(one.losses, two.losses, atol=1e-4)


# --- seeds and fleets


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits(model, kind):
    one, two = (train(model, [job(rows())], made(kind, clip=1.0, warmup=2))[0] for _ in range(2))
    assert one.digest == two.digest and one.losses == two.losses
    (other,) = train(model, [job(rows(), seed=1)], made(kind, clip=1.0, warmup=2))
    assert other.digest != one.digest


@pytest.mark.parametrize("kind", KINDS)
def test_a_fleet_gives_each_job_what_it_would_have_got_alone(model, kind):
    """Jobs differ in agents, in number of rows and in number of tuned rows."""
    jobs = [
        job(rows(), "a", 0),
        job(rows(20, agents=tiny.AGENTS[1:4], name="b"), "b", 1),
        job(rows(30, agents=tiny.AGENTS[2:4], name="c"), "c", 2),
    ]
    recipe = made(kind, clip=0.5, optimizer="adamw", weight_decay=0.01)
    together = train(model, jobs, recipe)
    assert [t.name for t in together] == ["a", "b", "c"]
    for found, alone_job in zip(together, jobs, strict=True):
        (alone,) = train(model, [alone_job], recipe)
        assert close(found, alone, atol=2e-4) and np.allclose(found.losses, alone.losses, atol=1e-4)
        assert found.tokens_seen == alone.tokens_seen


@pytest.mark.parametrize("kind", ["lora", "lora+rows", "rows"])
@pytest.mark.parametrize("together", [True, False])
def test_jobs_of_one_fleet_have_their_own_rank_rates_and_length(model, kind, together):
    own = [{}, {"lr": 2e-2, "rank": 2, "alpha": 1.0}, {"rank": 7, "row_lr": 0.2}]
    allowed = {"lora": ("lr", "rank", "alpha"), "rows": ("row_lr",), "lora+rows": ("lr", "rank", "alpha", "row_lr")}[
        kind
    ]
    jobs = [
        job(rows(n, name=name), name, seed, **{k: v for k, v in own[seed].items() if k in allowed})
        for seed, (name, n) in enumerate([("a", 20), ("b", 8), ("c", 14)])
    ]
    recipe = made(kind, steps=None, epochs=2, warmup=3, clip=0.5, optimizer="adamw", weight_decay=0.01)
    seen = []
    found = train(model, jobs, recipe, together=together, progress=lambda *now: seen.append(now))
    assert [(t.name, t.steps) for t in found] == [("a", 10), ("b", 4), ("c", 7)]
    assert len(seen) == (10 if together else 21)
    for one, alone_job in zip(found, jobs, strict=True):
        (alone,) = train(model, [alone_job], recipe)
        assert one.adapter.spec == alone.adapter.spec and one.steps == alone.steps
        assert close(one, alone, atol=2e-4) and np.allclose(one.losses, alone.losses, atol=1e-4)
    if "lora" in kind:
        assert [(t.adapter.spec.rank, t.adapter.spec.alpha) for t in found] == [(4, 8.0), (2, 1.0), (7, 8.0)]


def test_zeros_up_to_the_largest_rank_stay_zero(model):
    jobs = [job(rows(), "a", rank=1), job(rows(name="b"), "b", 1, rank=5)]
    recipe = made("lora", optimizer="adamw", weight_decay=0.1)
    with model.bare() as module:
        trainable = Trainable(model, module, [member(model, j, recipe) for j in jobs], recipe)
        with trainable.on():
            passes = Passes(module, trainable.stack, trainable.optimiser, recipe)
            for step in range(4):
                passes.gradients([(j, row) for j, m in enumerate(trainable.fleet) for row in m.rows[:8]])
                trainable.optimiser.step(step)
        for a, b in trainable.stack.loras[0].pairs.values():
            assert a.shape[1] == 5 and b[0, :, 0].any() and b[1].any()
            assert not a[0, 1:].any() and not b[0, :, 1:].any()


@pytest.mark.parametrize(
    "kind, own, match",
    [
        ("rows", {"lr": 0.1}, "job 'a' must leave lr to a recipe of kind 'rows', got 0.1"),
        ("rows", {"rank": 2}, "job 'a' must leave rank to a recipe of kind 'rows', got 2"),
        ("lora", {"row_lr": 0.1}, "job 'a' must leave row_lr to a recipe of kind 'lora', got 0.1"),
        ("full", {"alpha": 2.0}, "job 'a' must leave alpha to a recipe of kind 'full', got 2.0"),
        ("lora", {"lr": 0.0}, "lr of job 'a' must be above 0, got 0.0"),
        ("lora", {"rank": -1}, "rank of job 'a' must be above 0, got -1"),
        ("full", {"lr": float("nan")}, "lr of job 'a' must be above 0, got nan"),
    ],
)
def test_values_that_a_job_cannot_have_are_refused(model, kind, own, match):
    with pytest.raises(SpecError, match=match):
        train(model, [job(rows(), **own)], made(kind))


def test_clipping_bounds_the_gradient_of_each_job(model):
    free, tight = (train(model, [job(rows())], made("lora", clip=clip, steps=1))[0] for clip in (None, 1e-12))
    assert not close(free, tight)


# --- parents


@pytest.fixture
def parent(model, tmp_path):
    (trained,) = train(model, [job(rows())], made("rows"))
    trained.save(tmp_path / "rows")
    return tmp_path / "rows", trained


def test_a_fresh_lora_leaves_the_parents_rows_as_they_are(model, parent):
    path, before = parent
    (after,) = train(model, [job(rows(name="more"), parent=path)], made("lora"))
    assert after.adapter.spec.kind == "lora+rows"
    assert torch.equal(after.adapter.rows, before.adapter.rows) and after.adapter.lora


def test_the_parents_rows_are_trained_on_with_a_recipe_that_tunes_rows(model, parent):
    path, before = parent
    more = rows(name="more", agents=tiny.AGENTS[1:4])
    (after,) = train(model, [job(more, parent=path)], made("lora+rows"))
    n = len(before.adapter.rows)
    assert after.adapter.spec.row_token_ids[:n] == before.adapter.spec.row_token_ids
    assert len(after.adapter.rows) == n + 2 and not torch.equal(after.adapter.rows[:n], before.adapter.rows)


def test_training_goes_on_where_the_parent_stopped(model, parent):
    path, before = parent
    (after,) = train(model, [job(rows(), parent=path)], made("rows", row_lr=1e-9))
    assert np.allclose(after.adapter.rows, before.adapter.rows, atol=1e-6)


def test_a_lora_is_continued_or_stacked(model, tmp_path):
    (first,) = train(model, [job(rows())], made("lora"))
    first.save(tmp_path / "lora")
    more = [job(rows(name="more"), parent=tmp_path / "lora")]
    (on,) = train(model, more, made("lora", lr=1e-9))
    assert on.adapter.spec.rank == 4 and close(on, first, atol=1e-6)
    still = made("lora", parent="stack", lr=1e-9, rank=2, alpha=2.0, targets=("q_proj",))
    (stacked,) = train(model, more, still)
    assert stacked.adapter.spec.rank == 6 and stacked.adapter.spec.scale == 1
    stacked.save(tmp_path / "stacked")
    ids = torch.tensor([[27, 5, 7, 21, 22]])
    with torch.inference_mode():
        expected = model.with_adapter(first.adapter).module(input_ids=ids).logits
        found = model.with_adapter(tmp_path / "stacked").module(input_ids=ids).logits
    assert (found - expected).abs().max() < 1e-5
    with pytest.raises(SpecError, match=r"must have its parent's LoRA \(rank 4, alpha 8, 14 layers\) to continue it"):
        train(model, more, made("lora", rank=2))


def test_a_model_with_an_adapter_is_trained_on_top_of_it(model, parent, tmp_path):
    """Without being told: what a model was instilled with is not dropped."""
    path, rows_of_names = parent
    (lora,) = train(model, [job(rows())], made("lora"))
    for before, kind in ((rows_of_names, "lora"), (lora, "rows"), (lora, "lora")):
        view = model.with_adapter(before.adapter)
        still = made(kind, lr=1e-9, row_lr=1e-9, parent="stack", rank=2)
        (after,) = train(view, [job(rows(name="more"))], still)
        assert after.adapter.base_digest == model.base_digest
        prompts, options = [r.messages for r in rows(3)], [["A", "B"]] * 6
        expected = view.option_logprobs(prompts, options)
        assert np.abs(np.array(expected) - model.option_logprobs(prompts, options)).max() > 0.05
        assert np.allclose(model.with_adapter(after.adapter).option_logprobs(prompts, options), expected, atol=1e-4)
    (named,) = train(model.with_adapter(lora.adapter), [job(rows(name="more"), parent=path)], made("rows"))
    assert named.adapter.spec.kind == "rows"  # a parent that is named comes before the model's own


def test_parents_of_different_rank_and_scale_are_one_fleet(model, tmp_path):
    paths = []
    for name, changes in (("one", {"rank": 2, "alpha": 3.0}), ("two", {"rank": 5})):
        (trained,) = train(model, [job(rows(name=name), name)], made("lora", **changes))
        trained.save(tmp_path / name)
        paths.append(tmp_path / name)
    jobs = [job(rows(name="more"), path.name, seed, parent=path) for seed, path in enumerate(paths)]
    recipe, seen = made("lora", parent="stack", rank=3), []
    together = train(model, jobs, recipe, progress=lambda *now: seen.append(now))
    assert len(seen) == 6 and [t.adapter.spec.rank for t in together] == [5, 8]
    for found, alone_job in zip(together, jobs, strict=True):
        (alone,) = train(model, [alone_job], recipe)
        assert close(found, alone, atol=2e-4)


@pytest.mark.parametrize("first, second", [("full", "lora+rows"), ("lora+rows", "full"), ("full", "full")])
def test_a_change_of_all_parameters_folds_what_comes_with_it(model, tmp_path, first, second):
    (before,) = train(model, [job(rows())], made(first))
    before.save(tmp_path / "parent")
    (after,) = train(model, [job(rows(), parent=tmp_path / "parent")], made(second, lr=1e-9, row_lr=1e-9))
    assert after.adapter.spec.kind == "full"
    prompts, options = [r.messages for r in rows(3)], [["A", "B"]] * 6
    expected = model.with_adapter(before.adapter).option_logprobs(prompts, options)
    assert np.allclose(model.with_adapter(after.adapter).option_logprobs(prompts, options), expected, atol=1e-4)


def test_a_parent_of_another_base_is_refused(parent):
    with pytest.raises(ModelError, match="must belong to the base model"):
        train(tiny.model(seed=1), [job(rows(), parent=parent[0])], made("rows"))


# --- gate, progress, other types


def test_the_gate_stops_a_job_and_leaves_the_others(model):
    seen, marks = [], []

    def gate(step, name, tuned):
        seen.append((step, name))
        assert isinstance(tuned, LocalModel) and tuned.adapter is not None
        marks.append(right(tuned, rows(2)))
        return name == "a" and step >= 4

    recipe = made("lora+rows", gate_every=2, steps=7)
    stopped, whole = train(model, [job(rows(), "a"), job(rows(name="b"), "b", 1)], recipe, gate=gate)
    assert seen == [(2, "a"), (2, "b"), (4, "a"), (4, "b"), (6, "b")]
    assert stopped.stopped_early and stopped.steps == 4 and not whole.stopped_early and whole.steps == 7
    (alone,) = train(model, [job(rows(name="b"), "b", 1)], recipe)
    assert close(whole, alone, atol=2e-4)


def test_the_gate_sees_a_fully_tuned_model_and_training_goes_on(model):
    (gated,) = train(model, [job(rows())], made("full", gate_every=2), gate=lambda *_: right(_[2], rows(2)) > 2)
    (plain,) = train(model, [job(rows())], made("full"))
    assert gated.digest == plain.digest


def test_progress_is_called_after_every_step(model):
    calls = []
    (trained,) = train(model, [job(rows())], made("rows"), progress=lambda *found: calls.append(found))
    assert [c[:2] for c in calls] == [(i + 1, 6) for i in range(6)]
    assert [c[2] for c in calls] == trained.losses


def test_bfloat16_computes_with_float32_adapters(model):
    (lower,) = train(model, [job(rows())], made("lora", dtype="bfloat16"))
    (plain,) = train(model, [job(rows())], made("lora"))
    assert all(t.dtype == torch.float32 for t in lower.adapter.tensors().values())
    assert lower.losses != plain.losses and np.allclose(lower.losses, plain.losses, atol=0.3)


# --- what is refused


def test_two_jobs_of_one_name_are_refused(model):
    with pytest.raises(SpecError, match=r"jobs must have unique names, got \['a', 'a'\]"):
        train(model, [job(rows()), job(rows())], made("rows"))


def test_no_rows_are_refused(model):
    with pytest.raises(TrainingError, match="training rows must be at least one"):
        train(model, [job([])], made("lora"))


def test_words_that_cannot_be_tuned_are_refused(model):
    with pytest.raises(ModelError, match="row word must be one token of the tokenizer, got 'no such word'"):
        train(model, [job(rows(), row_words=("no such word",))], made("rows"))
    with pytest.raises(TrainingError, match="row word must occur in the rows of job 'a', got 'agent5'"):
        train(model, [job(rows(), row_words=("agent5",))], made("rows"))
    nameless = [dataclasses.replace(r, group="") for r in rows()]
    with pytest.raises(SpecError, match="job 'a' must have row_words or groups"):
        train(model, [job(nameless)], made("rows"))


def test_a_loss_that_is_not_finite_stops_training_and_restores_the_model(model):
    before = {n: t.clone() for n, t in model.module.state_dict().items()}
    with pytest.raises(
        TrainingError, match=r"loss of job 'a' must be finite, got nan at step \d.*Lower the learning rate"
    ):
        train(model, [job(rows())], made("full", lr=1e30))
    assert all(torch.equal(t, model.module.state_dict()[n]) for n, t in before.items())


def test_every_parameter_in_half_precision_is_refused():
    module = tiny.module().to(torch.bfloat16)
    with pytest.raises(ModelError, match="model must be float32 for kind 'full', got bfloat16"):
        train(LocalModel(module, tiny.tokenizer(), name="half"), [job(rows())], made("full"))


def test_an_adapter_without_any_change_is_not_kept(model):
    with pytest.raises(ModelError, match="adapter must change something"):
        model.with_adapter(Adapter(spec=AdapterSpec(kind="full")))
