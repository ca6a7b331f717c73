"""However a step is laid out, its loss and its gradients are those of single rows through transformers."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gnothi.errors import ModelError
from gnothi.finetune.batches import Encoded
from gnothi.finetune.loop import TrainJob, member, train
from gnothi.finetune.passes import Passes
from gnothi.finetune.recipes import Recipe
from gnothi.finetune.trainable import Trainable
from gnothi.models.local import LocalModel
from gnothi.records import TrainRow

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import tiny

FAMILIES = tiny.FAMILIES
TEXTS = (
    "Which option do you choose? Option A: a monthly rent of 900 dollars.",
    "Which option do you choose? Option A: a monthly rent of 1250 dollars and 5 rooms.",
    "Be brief.",
    "Rate from 0 to 100 how much the price mattered to you.",
    "I prefer the risky option.",
)
ANSWERS = ("A", "B", "It is safe", "42", "A")


def rows():
    return [
        TrainRow(messages=tiny.user(text), answer=answer, weight=1.0 + i)
        for i, (text, answer) in enumerate(zip(TEXTS, ANSWERS, strict=True))
    ]


def made(**changes):
    values = {"name": "t", "kind": "lora", "lr": 1e-2, "rank": 3, "alpha": 6.0, "steps": 1, "batch_rows": 5}
    return Recipe(**(values | changes))


def step(model, recipe, jobs):
    """Losses and gradients of one step over every row, with LoRA whose B is not zero; and the tokens that went through."""
    members = [member(model, job, recipe) for job in jobs]
    seen = []
    with model.bare() as module:
        trainable = Trainable(model, module, members, recipe)
        torch.manual_seed(0)
        with torch.no_grad():
            for name, tensor in trainable.optimiser.buffers[0].tensors.items():
                if name.endswith(".B"):
                    tensor.copy_(torch.randn_like(tensor) * 0.1)
        taken = [(j, row) for j, found in enumerate(members) for row in found.rows]
        with trainable.on():
            passes = Passes(module, trainable.stack, trainable.optimiser, recipe)
            table = module.get_input_embeddings()
            with passes.on():
                handle = table.register_forward_hook(lambda _, args, __: seen.append(args[0].numel()))
                losses = passes.gradients(taken)
                handle.remove()
            assert not any("forward" in p.__dict__ and not isinstance(p, torch.nn.Linear) for p in module.modules())
            trainable.stack.lower = None
            model._base.switch(None)
            model._base.switch(trainable.stack)
            trainable.stack._cast.clear()
            shares = [sum(r.weight * r.n_answer for r in m.rows) for m in members]
            plain = []
            for j, row in taken:
                trainable.stack.use(torch.tensor([j]))
                logits = module(input_ids=torch.tensor([row.ids[:-1]])).logits[0, row.start - 1 :]
                loss = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[row.start :]), reduction="sum")
                plain.append((j, loss * row.weight / shares[j]))
            leaves = list(trainable.optimiser.buffers[0].tensors.values())
            wanted = torch.autograd.grad(sum(loss for _, loss in plain), leaves)
        expected = [float(sum(loss.detach() for i, loss in plain if i == j)) for j in range(len(jobs))]
        return losses, expected, trainable.optimiser.buffers[0].grads_of, wanted, sum(seen)


def same(found, wanted, tolerance=1e-4):
    size = max(float(w.abs().max()) for w in wanted)
    return all(float((f - w).abs().max()) < tolerance * size for f, w in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("packing", [False, True])
def test_losses_and_gradients_are_those_of_single_rows(name, packing):
    model = tiny.family(name)
    jobs = [TrainJob(name="a", rows=rows(), seed=0), TrainJob(name="b", rows=rows()[::-1][:3], seed=1, rank=2)]
    for own in (jobs[:1], jobs):
        losses, expected, found, wanted, tokens = step(model, made(packing=packing), own)
        assert np.allclose(losses, expected, rtol=1e-4)
        assert same(found, wanted)
        if packing and len(own) == 1:
            plain = sum(len(e.ids) - 1 for e in member(model, jobs[0], made()).rows)
            assert tokens < plain  # the two long prompts begin alike


@pytest.mark.parametrize("name", ["llama", "gemma3", "phi"])
@pytest.mark.parametrize("packing", [False, True])
def test_checkpointing_gives_the_same_gradients(name, packing):
    jobs = [TrainJob(name="a", rows=rows(), seed=0)]
    losses, expected, found, wanted, _ = step(tiny.family(name), made(packing=packing, checkpointing=True), jobs)
    assert np.allclose(losses, expected, rtol=1e-4) and same(found, wanted)


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_points_the_same_way(name):
    jobs = [TrainJob(name="a", rows=rows(), seed=0)]
    losses, expected, found, wanted, _ = step(tiny.family(name), made(packing=True, dtype="bfloat16"), jobs)
    assert losses != expected and np.allclose(losses, expected, rtol=0.05)
    one, two = (torch.cat([g.flatten() for g in grads]) for grads in (found, wanted))
    assert float(torch.nn.functional.cosine_similarity(one, two, dim=0)) > 0.98


def test_what_rows_have_in_common_is_a_tree_only_if_it_is_much():
    model = tiny.family("llama")
    recipe = made(packing=True)
    members = [member(model, TrainJob(name="a", rows=rows(), seed=0), recipe)]
    with model.bare() as module:
        trainable = Trainable(model, module, members, recipe)
        passes = Passes(module, trainable.stack, trainable.optimiser, recipe)
        ids = [(1, 2, *range(10 * n, 10 * n + 9)) for n in range(1, 4)] + [(1, 2, *range(10, 17), 99, 98)]
        (batch,) = passes._batches([(0, Encoded((*i, 5), len(i), 1.0, "")) for i in ids])
        (row,) = batch
    assert row.depths.count(0) == 3 and len(row.ids) == 3 * 11 + 2


# --- memory


class Small(torch.nn.Module):
    """An embedding for at most so many tokens at a time."""

    def __init__(self, table, most):
        super().__init__()
        self.most = most
        self.sizes = []
        table.register_forward_pre_hook(self.check)

    def check(self, _, args):
        self.sizes.append(args[0].numel())
        if args[0].numel() > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def limited(most):
    module = tiny.module()
    return LocalModel(module, tiny.tokenizer(), name="limited"), Small(module.get_input_embeddings(), most)


def choices(n):
    return [TrainRow(messages=tiny.user(f"agent{i % 5} choose x {i % 9} 4"), answer="AB"[i % 2]) for i in range(n)]


@pytest.mark.parametrize("packing", [False, True])
def test_out_of_memory_halves_the_passes_and_repeats_the_step_with_the_same_numbers(packing):
    model, small = limited(most=14)
    recipe = made(steps=3, batch_rows=8, packing=packing)
    (found,) = train(model, [TrainJob(name="a", rows=choices(16), seed=0)], recipe)
    (plain,) = train(tiny.model(), [TrainJob(name="a", rows=choices(16), seed=0)], recipe)
    assert max(small.sizes) > 14 and max(small.sizes[-4:]) <= 14
    assert np.allclose(found.losses, plain.losses, atol=1e-5)
    tensors = plain.adapter.tensors()
    assert all(torch.allclose(t, tensors[n], atol=1e-4) for n, t in found.adapter.tensors().items())


@pytest.mark.parametrize("packing", [False, True])
def test_no_memory_for_one_row_is_said_and_leaves_the_model_as_it_was(packing):
    model, _ = limited(most=4)
    before = {n: t.clone() for n, t in model.module.state_dict().items()}
    with pytest.raises(ModelError, match=r"memory must hold one row of 5 tokens in training, got none left at batch 1"):
        train(model, [TrainJob(name="a", rows=choices(8), seed=0)], made(packing=packing))
    assert all(torch.equal(t, model.module.state_dict()[n]) for n, t in before.items())
    assert not any("forward" in part.__dict__ for part in model.module.modules())


def test_other_errors_are_not_taken_for_lack_of_memory():
    model, small = limited(most=10**6)
    small.most = -1
    rows = choices(4)
    broken = dataclasses.replace(rows[0], answer="A")

    def fail(*_):
        raise RuntimeError("shapes do not fit")

    handle = model.module.get_input_embeddings().register_forward_pre_hook(fail, prepend=True)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(model, [TrainJob(name="a", rows=[broken, *rows[1:]], seed=0)], made())
    handle.remove()


def test_checkpointing_needs_blocks():
    class Blockless(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tiny.module()
            self.inner.model.layers = torch.nn.ModuleList()
            self.config = self.inner.config

        def get_input_embeddings(self):
            return self.inner.get_input_embeddings()

        def get_output_embeddings(self):
            return self.inner.get_output_embeddings()

        def forward(self, input_ids, **more):
            return self.inner(input_ids=input_ids, **more)

    model = LocalModel(Blockless(), tiny.tokenizer(), name="blockless")
    recipe = Recipe(name="t", kind="rows", row_lr=0.1, steps=1, batch_rows=2, checkpointing=True)
    job = TrainJob(name="a", rows=choices(4), seed=0, row_words=("agent0",))
    with pytest.raises(ModelError, match="model must have blocks for checkpointing, got Blockless"):
        train(model, [job], recipe)
