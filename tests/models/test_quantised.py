"""Models whose linear layers are quantised while they are opened; needs bitsandbytes, which runs on CPUs too."""

import warnings

import numpy as np
import pytest
import tiny
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gnothi.errors import ModelError, SpecError
from gnothi.finetune.loop import TrainJob, train
from gnothi.finetune.recipes import Recipe
from gnothi.models.local import LocalModel
from gnothi.records import TrainRow

PROMPTS = [tiny.user("agent0 choose" + " x 3 4" * n) for n in (1, 2, 3, 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Wide enough for blocks of 64 numbers."""
    path = tmp_path_factory.mktemp("models") / "wide"
    config = {**tiny.config(len(tiny.WORDS)).to_dict(), "hidden_size": 128, "intermediate_size": 128, "head_dim": 64}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**config | {"initializer_range": 0.1})).save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


def test_an_unknown_width_is_refused_and_so_is_a_missing_package(folder, monkeypatch):
    with pytest.raises(SpecError, match="quantise must be one of 4bit, 8bit, got '2bit'"):
        LocalModel.load(folder, name="m", quantise="2bit")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(
        ModelError, match=r"must have bitsandbytes installed, got none. Run: pip install 'gnothi\[quant"
    ):
        LocalModel.load(folder, name="m", quantise="4bit")


@pytest.mark.parametrize(("bits", "near"), [("8bit", 0.5), ("4bit", 3.0)])
def test_a_quantised_model_scores_nearly_alike_and_is_tuned(folder, bits, near, tmp_path):
    pytest.importorskip("bitsandbytes")
    with warnings.catch_warnings():  # it warns of the types that it computes in
        warnings.simplefilter("ignore")
        plain, model = LocalModel.load(folder, name="m"), LocalModel.load(folder, name="m", quantise=bits)
        assert model.digest == plain.digest
        ours, theirs = (np.array(m.option_logprobs(PROMPTS, [["A", "B"]] * 4)) for m in (model, plain))
        assert 0 < np.abs(ours - theirs).max() < near
        rows = [TrainRow(messages=m, answer=a) for m, a in zip(PROMPTS, "ABBA", strict=True)]
        recipe = Recipe(name="t", kind="lora", lr=0.01, rank=2, alpha=4.0, steps=8, batch_rows=4)
        (trained,) = train(model, [TrainJob(name="a", rows=rows, seed=0)], recipe)
        assert trained.losses[-1] < trained.losses[0] - 0.1
        trained.save(tmp_path / "a")
        after = [m.with_adapter(tmp_path / "a").option_logprobs(PROMPTS, [["A", "B"]] * 4) for m in (model, plain)]
        assert np.abs(np.array(after[0]) - ours).max() > 0.1  # QLoRA's adapter also fits the model as it was
        assert np.abs(np.array(after[0]) - np.array(after[1])).max() < 2 * near
