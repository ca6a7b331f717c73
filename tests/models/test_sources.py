"""Adapters as models: on their base and on no other, asked with it and tuned on from it."""

import json
import shutil
import warnings

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from gnothi.errors import ModelError
from gnothi.experiments.subject import Order, opened
from gnothi.finetune.recipes import Recipe
from gnothi.models.adapter_files import save_adapter
from gnothi.models.adapters import Adapter, AdapterSpec
from gnothi.models.local import LocalModel
from gnothi.models.registry import resolve
from gnothi.records import TrainRow

pytestmark = pytest.mark.usefixtures("caches")


def lora(model, seed=0, scale=0.1):
    """A LoRA adapter of rank 2 with random numbers, on two layers."""
    torch.manual_seed(seed)
    names = [n for n, part in model.module.named_modules() if n.endswith(("0.mlp.up_proj", "1.self_attn.q_proj"))]
    parts = dict(model.module.named_modules())
    pairs = {n: (torch.randn(2, parts[n].in_features), scale * torch.randn(parts[n].out_features, 2)) for n in names}
    spec = AdapterSpec(kind="lora", rank=2, alpha=2.0, targets=tuple(sorted(names)))
    return Adapter(spec=spec, lora=pairs, base_digest=model.base_digest)


@pytest.fixture
def base(tmp_path):
    return tiny.folder(tmp_path / "base")


@pytest.fixture
def tuned(base, tmp_path):
    model = LocalModel.load(base, name="base")
    save_adapter(lora(model), tmp_path / "tuned", model.module)
    return tmp_path / "tuned"


def test_an_adapters_folder_is_a_model_on_its_base(base, tuned):
    info = resolve(f"hf/{tuned}")
    assert (info.folder, info.adapter, info.provenance["base"]) == (base, tuned, str(base))
    model = opened(f"hf/{tuned}", info.digest).local
    view = LocalModel.load(base, name="base").with_adapter(tuned)
    assert model.digest == view.digest == info.digest != resolve(f"hf/{base}").digest
    prompts = [tiny.user("agent0 choose x 3 4")]
    asked = [m.option_logprobs(prompts, [["A", "B"]])[0] for m in (model, view, view.with_adapter(None))]
    assert np.array_equal(asked[0], asked[1]) and np.abs(asked[0] - asked[2]).max() > 0.01


def test_tuning_an_adapter_goes_on_from_it(base, tuned):
    rows = [TrainRow(messages=tiny.user(f"agent{i} choose x 3 4"), answer="AB"[i % 2]) for i in range(4)]
    recipe = Recipe(name="t", kind="lora", lr=0.01, rank=2, alpha=4.0, steps=3, batch_rows=4, end_of_answer=False)
    losses, digests = {}, {}
    for name in (f"hf/{tuned}", f"hf/{base}"):
        subject = opened(name, resolve(name).digest)
        order = Order(unit="u", rows=rows, seed=0, parent=None, script=lambda: pytest.fail("no script"))
        made = tuned.parent / f"made-{len(losses)}"
        ((model, facts),) = subject.tune([order], recipe, save=lambda _, made=made: made, step=lambda *_: None)
        asked = subject.local.option_logprobs([r.messages for r in rows], [[r.answer] for r in rows])
        assert facts["losses"][0] == pytest.approx(-float(np.mean([a[0] for a in asked])), abs=1e-4)
        losses[name], digests[name] = facts["losses"], model.digest
    first = [found[0] for found in losses.values()]
    assert abs(first[0] - first[1]) > 1e-3 and len(set(digests.values())) == 2
    # what was made is whole: it lies on the base, and holds the parent's part
    again = resolve(f"hf/{tuned.parent / 'made-0'}")
    assert again.folder == base and again.digest == digests[f"hf/{tuned}"]


def test_an_adapter_of_another_base_is_refused(base, tuned, refused):
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    said = refused("run", "risk", "--model", f"hf/{tuned}", "--dry-run")
    assert "must be on the model that it was trained on (digest" in said and "Put that model back" in said


def test_an_adapter_whose_base_is_gone_or_not_stated_is_refused(base, tuned):
    base.rename(base.parent / "elsewhere")
    with pytest.raises(
        ModelError, match=r"must name the model that it was trained on, got '.*base' .*not here.*--adapter"
    ):
        resolve(f"hf/{tuned}")
    for name in ("adapter_config.json", "gnothi_adapter.json"):
        stated = json.loads((tuned / name).read_text())
        stated = {k: v for k, v in stated.items() if k not in ("base", "base_model_name_or_path")}
        (tuned / name).write_text(json.dumps(stated))
    with pytest.raises(ModelError, match="must name the model that it was trained on, got 'none'"):
        resolve(f"hf/{tuned}")


def test_a_base_is_found_beside_the_adapter_and_by_digest(base, tuned):
    for name, key in (("adapter_config.json", "base_model_name_or_path"), ("gnothi_adapter.json", "base")):
        stated = json.loads((tuned / name).read_text())
        (tuned / name).write_text(json.dumps(stated | {key: "../base"}))
    assert resolve(f"hf/{tuned}").folder.resolve() == base.resolve()
    organism = resolve("organism")
    model = LocalModel.load(organism.folder, name="organism")
    save_adapter(lora(model), tuned.parent / "of-organism", model.module)
    for name, key in (("adapter_config.json", "base_model_name_or_path"), ("gnothi_adapter.json", "base")):
        stated = json.loads((tuned.parent / "of-organism" / name).read_text())
        assert stated[key] == str(organism.folder)
        (tuned.parent / "of-organism" / name).write_text(json.dumps(stated | {key: "on/another/machine"}))
    assert resolve(f"hf/{tuned.parent / 'of-organism'}").folder == organism.folder


def test_what_peft_wrote_is_a_model_too(base, tmp_path):
    peft = pytest.importorskip("peft")
    model = LocalModel.load(base, name="base")
    config = peft.LoraConfig(r=2, target_modules=["up_proj"], init_lora_weights=False)
    with warnings.catch_warnings():  # peft asks transformers for a name that is to go
        warnings.simplefilter("ignore")
        peft.get_peft_model(model.module, config).save_pretrained(tmp_path / "theirs")
    info = resolve(f"hf/{tmp_path / 'theirs'}")
    assert info.folder == base and info.adapter == tmp_path / "theirs"
    view = opened(info.name, info.digest).local
    assert view.adapter is not None and view.digest == info.digest


def test_an_adapter_on_an_adapter_is_refused(tuned, tmp_path):
    shutil.copytree(tuned, tmp_path / "second")
    for name, key in (("adapter_config.json", "base_model_name_or_path"), ("gnothi_adapter.json", "base")):
        stated = json.loads((tmp_path / "second" / name).read_text())
        (tmp_path / "second" / name).write_text(json.dumps(stated | {key: str(tuned)}))
    with pytest.raises(ModelError, match="must be an adapter on a model, got one on another adapter"):
        resolve(f"hf/{tmp_path / 'second'}")


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "model file must be whole, got"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "got pickled parameters only"),
        (lambda f: [p.unlink() for p in f.glob("tokenizer*")], "must hold a tokenizer"),
        (lambda f: (f / "config.json").write_text("[1"), "config.json that parses"),
    ],
)
def test_a_folder_that_cannot_be_opened_ends_a_run_before_it_begins(base, spoil, said, refused, tmp_path):
    spoil(base)
    assert said in refused("run", "risk", "--model", base, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
