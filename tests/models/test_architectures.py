"""The same code on other architectures with random parameters: padding, scaled and tied embeddings, sliding windows."""

import warnings

import numpy as np
import pytest
import tiny
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from gnothi.errors import SpecError
from gnothi.finetune.loop import TrainJob, train
from gnothi.finetune.recipes import Recipe
from gnothi.models.base import Sampling
from gnothi.models.local import LocalModel
from gnothi.models.local_text import Codec
from gnothi.models.registry import resolve
from gnothi.records import Message, TrainRow

SIZES = {
    "vocab_size": len(tiny.WORDS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
ENDS = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.3}


def gemma():
    more = {"num_key_value_heads": 1, "head_dim": 16, "sliding_window": 4, "final_logit_softcapping": 5.0}
    return Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, **ENDS, **more, layer_types=["sliding_attention", "full_attention"])
    )


def qwen():
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, **ENDS, num_key_value_heads=1, head_dim=16))


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(tiny.WORDS), n_embd=32, n_layer=2, n_head=2, **ENDS))


def neox():
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, **ENDS))


def made(architecture):
    torch.manual_seed(0)
    return LocalModel(architecture().float(), tiny.tokenizer(), name="tiny")


PROMPTS = [tiny.user("agent0 choose" + " x 3 4" * n) for n in (1, 2, 3, 3)]


@pytest.mark.parametrize("architecture", [gemma, qwen, gpt2, neox])
def test_padded_scores_and_greedy_answers_are_those_of_single_prompts(architecture, monkeypatch):
    monkeypatch.setattr("gnothi.models.local.PAD_SHARE", 1.0)
    model = made(architecture)
    together = model.option_logprobs(PROMPTS, [["A", "B", "A B"]] * 4)
    for messages, scores in zip(PROMPTS, together, strict=True):
        ids, start = model.encode(messages, "A B")
        with torch.inference_mode():
            logprobs = model.module(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        expected = sum(float(logprobs[t - 1, ids[t]]) for t in range(start, len(ids)))
        assert scores[2] == pytest.approx(expected, abs=1e-4)
    for messages, (answer,) in zip(PROMPTS, model.generate(PROMPTS, Sampling(max_tokens=6)), strict=True):
        ids, _ = model.encode(messages)
        out = model.module.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False, pad_token_id=0)
        assert answer.text == model.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["rows", "lora", "lora+rows"])
@pytest.mark.parametrize("architecture", [gemma, qwen, neox])
def test_what_is_trained_is_what_peft_loads(architecture, kind, tmp_path):
    import peft

    model = made(architecture)
    rows = [TrainRow(messages=m, answer=a, group="agent0") for m, a in zip(PROMPTS, "ABBA", strict=True)]
    recipe = Recipe(name="t", kind=kind, lr=0.01, row_lr=0.1, rank=2, alpha=4.0, steps=8, batch_rows=4)
    (trained,) = train(model, [TrainJob(name="a", rows=rows, seed=0)], recipe)
    assert trained.losses[-1] < trained.losses[0]
    trained.save(tmp_path / "a")
    view = model.with_adapter(tmp_path / "a")
    ids = torch.tensor([view.encode(PROMPTS[2], "A")[0]])
    with torch.inference_mode():
        ours, plain = view.module(input_ids=ids).logits, model.module(input_ids=ids).logits
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.PeftModel.from_pretrained(architecture().float(), tmp_path / "a").eval()
    with torch.inference_mode():
        theirs = wrapped(input_ids=ids).logits
    assert (ours - plain).abs().max() > 1e-2 and (ours - theirs).abs().max() < 1e-5
    assert np.isfinite(trained.losses).all()


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_every_family_opens_from_a_folder_as_it_was_saved(name, tmp_path):
    folder = tiny.family_folder(tmp_path / "m", name)
    made, tokenizer = tiny.family_parts(name)
    info = resolve(f"hf/{folder}")
    model = LocalModel.load(folder, name=info.name)
    assert model.digest == info.digest and (model.dtype, model.device.type) == ("float32", "cpu")
    assert info.provenance.get("renderer") == model.codec.renderer
    assert info.provenance.get("thinking") == model.codec.thinking
    messages = (Message("system", "Be brief."), Message("user", "A or B? 42"))
    ids = torch.tensor([Codec(tokenizer).encode(messages, "A")[0]])
    assert model.encode(messages, "A")[0] == ids[0].tolist()
    with torch.inference_mode():
        assert torch.equal(model.module(ids).logits, made(ids).logits)
    assert LocalModel.load(folder, name="m", dtype="bfloat16").dtype == "bfloat16"


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_lora_of_every_family_learns_and_is_what_peft_loads(name, tmp_path):
    import peft

    made, tokenizer = tiny.family_parts(name)
    model = LocalModel(made, tokenizer, name=name)
    prompts = [tiny.user(f"Option A: {n} dollars. Option B: {9 - n} dollars. A or B?") for n in range(4)]
    rows = [TrainRow(messages=m, answer=a) for m, a in zip(prompts, "ABBA", strict=True)]
    recipe = Recipe(name="t", kind="lora", lr=0.01, rank=2, alpha=4.0, steps=8, batch_rows=4)
    (trained,) = train(model, [TrainJob(name="a", rows=rows, seed=0)], recipe)
    assert trained.losses[-1] < trained.losses[0] - 0.1
    trained.save(tmp_path / "a")
    ids = torch.tensor([model.encode(prompts[2], "A")[0]])
    with torch.inference_mode():
        ours, plain = model.with_adapter(tmp_path / "a").module(ids).logits, model.module(ids).logits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.PeftModel.from_pretrained(tiny.family_parts(name)[0], tmp_path / "a").eval()
    with torch.inference_mode():
        theirs = wrapped(ids).logits
    assert (ours - plain).abs().max() > 1e-2 and (ours - theirs).abs().max() < 1e-4


def test_a_model_without_linear_layers_is_refused_for_lora():
    recipe = Recipe(name="t", kind="lora", lr=0.01, rank=2, alpha=4.0, steps=1, batch_rows=1)
    rows = [TrainRow(messages=PROMPTS[0], answer="A")]
    with pytest.raises(SpecError, match=r"targets must name linear layers \(\), got \['all'\]"):
        train(made(gpt2), [TrainJob(name="a", rows=rows, seed=0)], recipe)
