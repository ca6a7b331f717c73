"""Scores over shared beginnings are those of every text by itself."""

import numpy as np
import pytest
import torch
from tiny import FAMILIES, family

from gnothi.errors import DataError, ModelError
from gnothi.models import local_scoring
from gnothi.models.adapters import Adapter, AdapterSpec, AdapterStack, LoraStack, new_lora, target_modules
from gnothi.models.many import option_logprobs_many
from gnothi.records import Message

HEADER = "You play a game for points. Read both offers and take one. "
PROMPTS = [
    (Message("user", f"{HEADER}Offer A pays {10 + i} points. Offer B pays {50 - 7 * i} points half of the time."),)
    for i in range(4)
]
OPTIONS = [["A", "B"], ["A", "B", "Offer A", "Offer B", "neither of them"], ["7", "70", "71", "0"], ["both"]]


def alone(model, messages, option):
    """Log-probability of an option after a prompt, by one plain pass over the whole text."""
    (prompt,), ((answer,),) = model.codec.encode_many([messages], [[option]])
    with torch.inference_mode(), model.attached() as module:
        logits = module(input_ids=torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(prompt) + t - 1, token]) for t, token in enumerate(answer))


@pytest.mark.parametrize("name", FAMILIES)
def test_equal_to_each_text_by_itself(name):
    model = family(name)
    found = model.option_logprobs(PROMPTS, OPTIONS)
    for messages, options, scores in zip(PROMPTS, OPTIONS, found, strict=True):
        wanted = np.array([alone(model, messages, o) for o in options])
        np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_numbers_end_where_no_digit_follows(name):
    model = family(name)
    (found,) = model.number_distribution(PROMPTS[:1], 0, 12)
    (digit_ids,) = [model.codec.digit_ids]
    (prompt,), (answers,) = model.codec.encode_many(PROMPTS[:1], [[str(v) for v in range(13)]])
    with torch.inference_mode(), model.attached() as module:
        for value, answer in enumerate(answers):
            p = module(input_ids=torch.tensor([prompt + answer])).logits[0].double().softmax(-1)
            wanted = float(np.prod([float(p[len(prompt) + t - 1, token]) for t, token in enumerate(answer)]))
            if not model._whole_numbers(PROMPTS[:1], [answers], 0, 12):
                wanted *= 1 - float(p[-1, digit_ids].sum())
            assert found.probabilities[value] == pytest.approx(wanted, rel=1e-3, abs=1e-12)


def test_trees_are_used_where_beginnings_are_shared(monkeypatch):
    model = family("llama")
    laid = []
    plain = local_scoring.as_forest
    monkeypatch.setattr(local_scoring, "as_forest", lambda rows, device: laid.append(rows) or plain(rows, device))
    numbers = [[str(v) for v in range(101)]] * 2
    model.option_logprobs(PROMPTS[:2], numbers)
    prompt_ids, answers = model.codec.encode_many(PROMPTS[:2], numbers)
    whole = sum(len(p) + len(a) for p, options in zip(prompt_ids, answers, strict=True) for a in options)
    assert sum(len(r.ids) for rows in laid for r in rows) < whole / 20


def adapters(module, ranks):
    names = target_modules(module, ("all",))
    made = []
    for seed, rank in enumerate(ranks):
        generator = torch.Generator().manual_seed(seed)
        lora = {
            n: (a, torch.randn(b.shape, generator=generator) * 0.3)
            for n, (a, b) in new_lora(module, names, rank, seed).items()
        }
        spec = AdapterSpec(kind="lora", rank=rank, alpha=2.0 * rank, targets=tuple(names))
        made.append(Adapter(spec=spec, lora=lora))
    return made


@pytest.mark.parametrize("name", FAMILIES)
def test_several_adapters_in_one_batch(name):
    model = family(name)
    made = adapters(model.module, (4, 4, 4))
    stack = AdapterStack(3)
    pairs = {n: tuple(torch.stack([a.lora[n][side] for a in made]) for side in (0, 1)) for n in made[0].lora}
    stack.loras = [LoraStack(pairs, 2.0)]
    stack.row_ids = [()] * 3
    prompt_ids, answers = model.codec.encode_many(PROMPTS, OPTIONS)
    three = [0, 1, 2]
    with model.bare() as module, stack.on(module):
        found = local_scoring.score(
            module,
            [p for p in prompt_ids for _ in three],
            [a for a in answers for _ in three],
            owners=three * len(prompt_ids),
            stack=stack,
        )
    for j, adapter in enumerate(made):
        wanted = model.with_adapter(adapter).option_logprobs(PROMPTS, OPTIONS)
        for i in range(len(PROMPTS)):
            np.testing.assert_allclose(found[3 * i + j], wanted[i], rtol=1e-4, atol=1e-5)
    assert not np.allclose(found[0], found[1])


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "llama"])
def test_views_of_one_model_in_common_batches(name):
    model = family(name)
    small, large = adapters(model.module, (2, 5))
    views = [model.with_adapter(small), model.with_adapter(None), model.with_adapter(large)]
    prompts, options = [PROMPTS, PROMPTS[:2], PROMPTS[1:3]], [OPTIONS, OPTIONS[:2], OPTIONS[2:]]
    together = option_logprobs_many(views, prompts, options)
    for view, own, texts, found in zip(views, prompts, options, together, strict=True):
        wanted = view.option_logprobs(own, texts)
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match=r"prompts and options must be one list a view, got 1 and 2 for 2 views\."):
        option_logprobs_many(views[:2], prompts[:1], options[:2])


class Room:
    """A hook before a head: there is memory for so many positions."""

    def __init__(self, positions):
        self.positions, self.refused = positions, 0

    def __call__(self, _, args):
        if args[0].shape[-2] > self.positions:
            self.refused += 1
            raise torch.OutOfMemoryError("no room")


def test_out_of_memory_halves_the_batch_and_says_so_at_one(monkeypatch):
    model = family("qwen2")  # not the short path of Llama
    two = [["A", "B"]] * len(PROMPTS)
    wanted = model.option_logprobs(PROMPTS, two)
    prompt_ids, answers = model.codec.encode_many(PROMPTS, two)
    room = Room(0)
    handle = model.module.get_output_embeddings().register_forward_pre_hook(room)
    try:
        with pytest.raises(ModelError, match=r"memory must hold one row of \d+ tokens, got none left at batch 1"):
            local_scoring.score(model.module, prompt_ids, answers, share=False)
    finally:
        handle.remove()
    assert room.refused >= 2
    plain, sizes = local_scoring._logits, []

    def small(module, batch, *rest):
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("no room")
        return plain(module, batch, *rest)

    monkeypatch.setattr(local_scoring, "_logits", small)
    found = local_scoring.score(model.module, prompt_ids, answers, share=False)
    assert max(sizes) > 1 and sizes.count(1) == len(PROMPTS)
    np.testing.assert_allclose(np.array(found), np.array(wanted), rtol=1e-4)
