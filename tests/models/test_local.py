import json
import shutil

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from gnothi.errors import DataError, ModelError, SpecError
from gnothi.models.base import Sampling
from gnothi.models.local import LocalModel, batches, pad_left
from gnothi.records import Message

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def letter_model():
    return tiny.letter_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def by_hand(model, ids, start):
    """Log-probability of ids[start:], one sequence through transformers alone."""
    with torch.inference_mode(), model.attached() as module:
        logits = module(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return float(sum(logits[t - 1, ids[t]] for t in range(start, len(ids))))


# --- opening a folder


def test_a_folder_opens_with_the_same_answers_and_digest_each_time(folder):
    one, two = (LocalModel.load(folder, name="tiny") for _ in range(2))
    asked = [tiny.user("agent1 choose x 3 4")], [["A", "B"]]
    assert one.digest == two.digest and one.name == "tiny" and one.dtype == "float32"
    assert np.array_equal(one.option_logprobs(*asked)[0], two.option_logprobs(*asked)[0])
    assert one.capabilities().logprobs and one.capabilities().training and one.capabilities().module


def test_dtype_is_what_was_asked_for_and_not_the_checkpoints(folder):
    assert LocalModel.load(folder, name="tiny", dtype="bfloat16").dtype == "bfloat16"


def test_the_digest_changes_with_parameters_and_template(folder, copy, tmp_path):
    before = LocalModel.load(folder, name="t").digest
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "chat_template.jinja").write_text("{{ messages[-1].content }}")
    assert len({before, LocalModel.load(copy, name="t").digest, LocalModel.load(other, name="t").digest}) == 3


def refused(folder, error, match, **options):
    with pytest.raises(error, match=match):
        LocalModel.load(folder, name="tiny", **options)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    refused(tmp_path / "none", ModelError, "model folder must name a folder, got .*none, which does not exist")


def test_a_folder_without_config_is_refused(copy):
    (copy / "config.json").unlink()
    refused(copy, ModelError, "model folder must hold config.json, got none in")


def test_pickle_only_is_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    refused(copy, ModelError, r"got pickled parameters only \(pytorch_model.bin\).*pickles are not opened")


def test_a_folder_without_parameters_is_refused(copy):
    (copy / "model.safetensors").unlink()
    refused(copy, ModelError, r"must hold \*.safetensors, got none")


def test_cut_off_parameters_are_refused(copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    refused(copy, ModelError, r"model file must be whole, got \d+ of \d+ bytes of model.safetensors")


def test_missing_parameters_are_refused(copy):
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    refused(copy, ModelError, r"must have all parameters .* got none for \['model.layers.1.mlp.up_proj.weight'\]")


def test_a_missing_shard_is_refused(copy):
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-00001.safetensors"}}))
    refused(copy, ModelError, "must have all of its files, got no model-00001.safetensors")


def test_an_unreadable_index_is_refused(copy):
    (copy / "model.safetensors.index.json").write_text("{")
    refused(copy, ModelError, "model.safetensors.index.json must map parameters to files")


def test_a_folder_without_tokenizer_is_refused(copy):
    for path in copy.glob("tokenizer*"):
        path.unlink()
    refused(copy, ModelError, "must hold a tokenizer, got no tokenizer.json")


def test_an_unknown_architecture_is_refused(copy):
    (copy / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    refused(copy, ModelError, "must open with transformers, got ValueError")


def test_a_device_that_is_not_here_is_refused(folder):
    for device in ("gpu", "meta", "cuda:7"):
        refused(folder, SpecError, rf"device must be one that torch has here, got '{device}'", device=device)


OWN_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path(__file__).with_name("ran").touch()
class MineConfig(LlamaConfig):
    model_type = "mine-of-my-own"
class Mine(LlamaForCausalLM):
    config_class = MineConfig
"""


def test_code_of_a_folder_is_run_only_when_that_is_asked_for(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    config = json.loads((copy / "config.json").read_text()) | {"model_type": "mine-of-my-own"}
    config["auto_map"] = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.Mine"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "mine.py").write_text(OWN_CODE)
    refused(
        copy, ModelError, r"must open without code of its own, got one that brings mine.py .*trust_remote_code=true"
    )
    assert not list(tmp_path.rglob("ran"))
    model = LocalModel.load(copy, name="m", trust_remote_code=True)
    assert type(model.module).__name__ == "Mine" and list(tmp_path.rglob("ran"))


def test_an_unknown_dtype_is_refused(folder):
    refused(folder, SpecError, "dtype must be one of float32, bfloat16, float16, got 'int8'", dtype="int8")


# --- text to tokens


def test_prompt_and_answer_are_joined_at_the_token_boundary(model):
    ids, start = model.encode(tiny.user("agent1 choose x 3 4"), "A")
    words = [tiny.WORDS[i] for i in ids]
    assert words == ["agent1", "choose", "x", "3", "4", "A"] and start == 5
    assert model.encode(tiny.user("agent1 choose x 3 4"), " A") == (ids, start)
    assert model.encode(tiny.user("agent1 choose x 3 4")) == (ids[:5], 5)


def test_a_started_answer_is_part_of_the_prompt(model):
    messages = (*tiny.user("agent1 report"), Message("assistant", "x"))
    ids, start = model.encode(messages, " 3")
    assert [tiny.WORDS[i] for i in ids] == ["agent1", "report", "x", "3"] and start == 3


def test_a_model_without_template_gets_the_plain_renderer_and_one_bos(letter_model):
    messages = (Message("system", "s"), Message("user", "u"), Message("assistant", "a"), Message("user", "v"))
    ids, start = letter_model.encode(messages, "A")
    assert letter_model.tokenizer.decode(ids) == "<s>s\n\nUser: u\nAssistant: a\nUser: v\nAssistant: A"
    assert ids.count(1) == 1 and start == len(ids) - 2  # the answer is " A"
    assert letter_model.capabilities().system_role


def test_a_template_that_writes_bos_gets_no_second_one():
    model = tiny.letter_model("<s>" + CHATML)
    ids, _ = model.encode(tiny.user("u"), "A")
    assert ids.count(1) == 1 and ids[0] == 1
    assert model.tokenizer.decode(ids).endswith("<|assistant|>A")
    assert model.codec.end_ids == (2,)


def test_a_template_that_refuses_the_system_role_gets_it_in_front_of_the_users_message():
    model = tiny.letter_model(NO_SYSTEM)
    assert not model.capabilities().system_role
    merged = (Message("user", "s\n\nu"), Message("assistant", "A"), Message("user", "v"))
    apart = (Message("system", "s"), Message("user", "u"), Message("assistant", "A"), Message("user", "v"))
    assert model.encode(apart) == model.encode(merged)


def test_empty_prompts_and_answers_are_refused(model):
    with pytest.raises(DataError, match="prompt must have at least one message"):
        model.encode(())
    with pytest.raises(DataError, match="answer must have at least one token, got ''"):
        model.option_logprobs([tiny.user("x")], [[""]])
    with pytest.raises(DataError, match="prompt must have at least one token"):
        model.encode(tiny.user(""))


# --- scoring


def test_options_of_any_length_score_as_one_sequence_at_a_time_would(letter_model):
    prompts = [tiny.user(text) for text in ("a", "which one?", "which two?", "xyz " * 9)]
    options = [["A", "B"], ["apple", "apply", "b"], ["12", "1", "-3"], ["long answer of many tokens", "x"]]
    found = letter_model.option_logprobs(prompts, options)
    for messages, texts, scores in zip(prompts, options, found, strict=True):
        for text, score in zip(texts, scores, strict=True):
            assert score == pytest.approx(by_hand(letter_model, *letter_model.encode(messages, text)), abs=1e-4)


def test_scores_do_not_depend_on_what_else_is_in_the_batch(model):
    prompts = [tiny.user(f"agent{i} choose" + " x 3 4" * (i + 1)) for i in range(4)]
    together = model.option_logprobs(prompts, [["A", "B"]] * 4)
    alone = [model.option_logprobs([p], [["A", "B"]])[0] for p in prompts]
    assert np.allclose(together, alone, atol=1e-5)


def test_options_must_be_given_for_each_prompt(model):
    with pytest.raises(DataError, match="options must be one list a prompt, got 1 for 2 prompts"):
        model.option_logprobs([tiny.user("x"), tiny.user("y")], [["A"]])


def test_nothing_asked_gives_nothing(model):
    assert model.option_logprobs([], []) == [] and model.number_distribution([], 0, 9) == []


def test_single_token_numbers_come_from_one_position(model):
    (found,) = model.number_distribution([tiny.user("agent1 report x")], -9, 9)
    ids, start = model.encode(tiny.user("agent1 report x"), "4")
    assert found.probabilities[13] == pytest.approx(np.exp(by_hand(model, ids, start)), rel=1e-4)
    assert found.missing == pytest.approx(1 - found.probabilities.sum()) and 0 < found.missing < 1


def test_a_number_of_several_tokens_does_not_include_longer_ones(letter_model):
    prompt = tiny.user("how many?")
    (found,) = letter_model.number_distribution([prompt], 0, 12)
    digits = [letter_model.encode(prompt, f"5{d}") for d in range(10)]
    five = np.exp(by_hand(letter_model, *letter_model.encode(prompt, "5")))
    longer = sum(np.exp(by_hand(letter_model, *d)) for d in digits)
    assert found.probabilities[5] == pytest.approx(five - longer, rel=1e-3)
    # as answers they exclude each other: 1 is not counted again in 10, 11 and 12
    assert found.probabilities.sum() + found.missing == pytest.approx(1)


def test_a_range_upside_down_is_refused(model):
    with pytest.raises(DataError, match=r"number range must have low <= high, got 3\.\.1"):
        model.number_distribution([tiny.user("x")], 3, 1)


# --- batches


def test_batches_hold_every_sequence_once_within_the_budgets():
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(1, 60, 50).tolist(), *[12] * 40]
    found = list(batches(lengths, [1] * 90, vocabulary=10, tokens=200))
    assert sorted(i for batch in found for i in batch) == list(range(90))
    for batch in found:
        longest = max(lengths[i] for i in batch)
        assert longest * len(batch) <= 200
        assert longest * len(batch) - sum(lengths[i] for i in batch) <= 0.125 * longest * len(batch)


def test_padding_is_on_the_left_and_absent_where_lengths_are_equal():
    ids, mask = pad_left([[5, 6], [7]], "cpu")
    assert ids.tolist() == [[5, 6], [0, 7]] and mask.tolist() == [[1, 1], [0, 1]]
    assert pad_left([[5], [6]], "cpu")[1] is None


# --- generation


def test_greedy_generation_agrees_with_transformers(model):
    prompts = [tiny.user("agent1 choose x 3 4"), tiny.user("report y"), tiny.user("agent2 choose x 9 1")]
    found = model.generate(prompts, Sampling(max_tokens=8))
    for messages, (answer,) in zip(prompts, found, strict=True):
        ids, _ = model.encode(messages)
        out = model.module.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0)
        assert answer.text == model.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)


def test_a_sample_depends_on_its_seed_prompt_and_number_alone(model):
    prompts = [tiny.user("agent1 choose x 3 4"), tiny.user("report y")]
    few = model.generate(prompts[:1], Sampling(n=2, temperature=1.0, max_tokens=6, seed=3))
    more = model.generate(prompts, Sampling(n=5, temperature=1.0, max_tokens=6, seed=3))
    assert more[0][:2] == few[0]
    assert len({answer.text for answer in more[0]}) > 1
    other = model.generate(prompts[:1], Sampling(n=2, temperature=1.0, max_tokens=6, seed=4))
    assert other != few


def test_sampled_frequencies_are_the_models_probabilities(model):
    prompt = tiny.user("agent1 choose x 3 4")
    n = 4000
    drawn = [a.text for a in model.generate([prompt], Sampling(n=n, temperature=1.0, max_tokens=1))[0]]
    top = max(tiny.WORDS[3:], key=drawn.count)
    p = float(np.exp(model.option_logprobs([prompt], [[top]])[0][0]))
    assert abs(drawn.count(top) / n - p) < 4 * (p * (1 - p) / n) ** 0.5


def test_top_k_and_top_p_leave_out_what_they_should(model):
    prompt = tiny.user("agent1 choose x 3 4")
    greedy = model.generate([prompt], Sampling(max_tokens=4))[0][0].text
    for narrow in (
        Sampling(temperature=2.0, top_k=1, max_tokens=4),
        Sampling(temperature=2.0, top_p=1e-9, max_tokens=4),
    ):
        assert model.generate([prompt], narrow)[0][0].text == greedy


def test_a_stop_text_ends_an_answer_and_is_cut_off(model):
    prompt = tiny.user("agent1 choose x 3 4")
    (whole,) = model.generate([prompt], Sampling(max_tokens=6))[0]
    words = whole.text.split()
    (cut,) = model.generate([prompt], Sampling(max_tokens=6, stop=(words[1],)))[0]
    assert cut.finished and cut.text.strip() == words[0]


def test_impossible_sampling_is_refused(model):
    with pytest.raises(DataError, match=r"Sampling must have n >= 1, .* got 0, 64, 0.0 and 1.0"):
        model.generate([tiny.user("x")], Sampling(n=0))
