import dataclasses
import json
import warnings

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from gnothi.errors import ModelError, SpecError, StoreError
from gnothi.models.adapter_files import load_adapter, save_adapter, verify_digest, vllm_arguments, vllm_problem
from gnothi.models.adapters import Adapter, AdapterSpec, AdapterStack, LoraStack, new_lora, target_modules

IDS = torch.tensor([[27, 5, 7, 21, 22], [28, 5, 8, 14, 27]])
ROWS = (27, 30)


def made(kind, model, *, seed=0, targets=("q_proj", "down_proj"), rank=3):
    """An adapter with random tensors."""
    torch.manual_seed(seed)
    module = model.module
    spec = AdapterSpec(
        kind=kind,
        rank=rank if "lora" in kind else 0,
        alpha=6.0 if "lora" in kind else 0.0,
        targets=targets if "lora" in kind else (),
        row_token_ids=ROWS if "rows" in kind else (),
    )
    lora = {}
    if "lora" in kind:
        pairs = new_lora(module, target_modules(module, targets), rank, seed)
        lora = {name: (a, torch.randn_like(b) * 0.3) for name, (a, b) in pairs.items()}
        spec = dataclasses.replace(spec, targets=tuple(sorted(lora)))
    rows = torch.randn(len(ROWS), 32) if "rows" in kind else None
    full = {n: p + 0.1 for n, p in module.named_parameters() if "mlp" in n} if kind == "full" else {}
    return Adapter(spec=spec, lora=lora, rows=rows, full=full, base_digest=model.base_digest)


def logits(model):
    with torch.inference_mode():
        return model.module(input_ids=IDS).logits


def peft_logits(module, folder):
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft calls what transformers deprecates
        wrapped = peft.PeftModel.from_pretrained(module, folder).eval()
    with torch.inference_mode():
        return wrapped(input_ids=IDS).logits


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["rows", "lora", "lora+rows"])
def test_peft_loads_our_folder_with_equal_logits(tmp_path, tied, kind):
    model = tiny.model(tied)
    save_adapter(made(kind, model), tmp_path / "a", model.module)
    ours = logits(model.with_adapter(tmp_path / "a"))
    assert (ours - logits(model.with_adapter(None))).abs().max() > 0.1
    assert (ours - peft_logits(tiny.module(tied), tmp_path / "a")).abs().max() < 1e-5


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["rows", "lora", "lora+rows", "rslora"])
def test_we_read_a_folder_that_peft_wrote(tmp_path, tied, kind):
    import peft

    torch.manual_seed(1)
    if kind == "rows":
        config = peft.TrainableTokensConfig(token_indices=list(ROWS), target_modules=["embed_tokens"])
    else:
        config = peft.LoraConfig(
            r=4,
            lora_alpha=12,
            target_modules=["k_proj", "up_proj"],
            trainable_token_indices=list(ROWS) if "rows" in kind else None,
            init_lora_weights=False,
            use_rslora=kind == "rslora",
            task_type="CAUSAL_LM",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(tiny.module(tied), config).eval()
        for name, parameter in wrapped.named_parameters():
            if "trainable_tokens_delta" in name:
                parameter.data.normal_()
        wrapped.save_pretrained(tmp_path / "p")
    with torch.inference_mode():
        theirs = wrapped(input_ids=IDS).logits
    model = tiny.model(tied)
    assert (logits(model.with_adapter(tmp_path / "p")) - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["rows", "lora", "lora+rows", "full"])
def test_a_saved_adapter_comes_back_whole_with_its_digest(tmp_path, kind):
    model = tiny.model()
    adapter = made(kind, model)
    save_adapter(adapter, tmp_path / "a", model.module)
    back = load_adapter(tmp_path / "a")
    assert back.digest == adapter.digest == verify_digest(tmp_path / "a")
    assert back.spec.kind == kind and back.base_digest == model.base_digest
    assert all(torch.equal(t, back.tensors()[n]) for n, t in adapter.tensors().items())


@pytest.mark.parametrize("kind", ["rows", "lora", "lora+rows", "full"])
@pytest.mark.parametrize("tied", [False, True])
def test_views_share_one_module_and_leave_it_as_it_was(kind, tied):
    model = tiny.model(tied)
    before = {n: t.clone() for n, t in model.module.state_dict().items()}
    plain = logits(model)
    view = model.with_adapter(made(kind, model))
    tuned = logits(view)
    assert (
        not torch.equal(plain, tuned) and view.digest != model.digest and view.with_adapter(None).digest == model.digest
    )
    assert torch.equal(logits(model), plain) and torch.equal(logits(view), tuned)
    assert model.module is view.with_adapter(None).module
    with view.attached():
        with model.bare():
            assert torch.equal(model._base.module(input_ids=IDS).logits, plain)
        assert torch.equal(model._base.module(input_ids=IDS).logits, tuned)
    logits(model)
    assert all(torch.equal(t, model.module.state_dict()[n]) for n, t in before.items())
    assert not any(m._forward_hooks for m in model.module.modules())


def test_the_module_is_restored_after_an_error():
    model = tiny.model()
    view, plain = model.with_adapter(made("full", model)), logits(model)
    with pytest.raises(KeyError), view.attached():
        raise KeyError
    assert torch.equal(model._base.module(input_ids=IDS).logits, plain)


def test_scoring_goes_through_the_adapter():
    model = tiny.model()
    view = model.with_adapter(made("lora+rows", model))
    prompt = tiny.user("agent1 choose x 3 4")
    ids, start = view.encode(prompt, "A")
    with torch.inference_mode():
        expected = view.module(input_ids=torch.tensor([ids])).logits[0, start - 1].log_softmax(-1)[ids[start]]
    assert view.option_logprobs([prompt], [["A"]])[0][0] == pytest.approx(float(expected), abs=1e-5)
    assert model.option_logprobs([prompt], [["A"]])[0][0] != pytest.approx(float(expected), abs=1e-2)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("owners", [[0, 0, 1, 1, 2, 2], [2, 0, 1, 1, 0, 1]])
def test_a_stack_of_adapters_gives_each_example_its_own(tied, owners):
    model = tiny.model(tied)
    adapters = [made("lora+rows", model, seed=s) for s in range(3)]
    short = dataclasses.replace(adapters[2].spec, row_token_ids=ROWS[:1])
    adapters[2] = dataclasses.replace(adapters[2], spec=short, rows=adapters[2].rows[:1])
    stack = AdapterStack(3)
    names = adapters[0].lora
    stack.loras = [
        LoraStack({n: tuple(torch.stack([a.lora[n][i] for a in adapters]) for i in (0, 1)) for n in names}, 2.0)
    ]
    padded = [torch.nn.functional.pad(a.rows, (0, 0, 0, 2 - len(a.rows))) for a in adapters]
    stack.rows, stack.row_ids = torch.stack(padded), [a.spec.row_token_ids for a in adapters]
    ids = IDS.repeat(3, 1)
    with torch.inference_mode(), stack.on(model.module) as module:
        stack.use(torch.tensor(owners))
        together = module(input_ids=ids).logits
    for row, owner in enumerate(owners):
        with torch.inference_mode():
            alone = model.with_adapter(adapters[owner]).module(input_ids=ids[row : row + 1]).logits[0]
        assert torch.allclose(together[row], alone, rtol=1e-5, atol=3e-5)
    for j, adapter in enumerate(adapters):
        assert stack.adapter(j, adapter.spec, model.base_digest).digest == adapter.digest


# --- what is refused


def refused(folder, model, error, match):
    with pytest.raises(error, match=match):
        model.with_adapter(folder)


@pytest.fixture
def model():
    return tiny.model()


@pytest.fixture
def folder(tmp_path, model):
    save_adapter(made("lora+rows", model), tmp_path / "a", model.module)
    return tmp_path / "a"


def change_config(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_tensors(folder, change):
    """Alter the tensors, and forget the digest as a foreign folder would."""
    (folder / "gnothi_adapter.json").unlink(missing_ok=True)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(change(tensors), folder / "adapter_model.safetensors")


def test_an_altered_adapter_is_refused(folder, model):
    change_config(folder, lora_alpha=60)
    refused(folder, model, StoreError, "adapter must match its digest .* altered after training")


def test_an_adapter_of_another_base_is_refused(folder):
    refused(folder, tiny.model(seed=1), ModelError, "must belong to the base model with digest .*, got one trained on")


def test_an_adapter_of_another_shape_is_refused(folder, model):
    change_tensors(folder, lambda ts: {n: t[:, :-1].contiguous() if "lora_A" in n else t for n, t in ts.items()})
    refused(folder, model, ModelError, "adapter must fit the base model, got 4 that do not: .* against")


def test_an_adapter_that_matches_nothing_is_refused(folder, model):
    change_tensors(folder, lambda ts: {n.replace("layers", "blocks"): t for n, t in ts.items()})
    refused(folder, model, ModelError, r"got 4 that do not: model.blocks.0.mlp.down_proj \(no linear layer\)")


def test_rows_beyond_the_vocabulary_are_refused(folder, model):
    (folder / "gnothi_adapter.json").unlink()
    change_config(folder, trainable_token_indices={"embed_tokens": [27, 999]})
    refused(folder, model, ModelError, r"rows \(\(2, 32\) up to token 999 against")


def test_changed_parameters_that_the_model_lacks_are_refused(tmp_path, model):
    adapter = made("full", model)
    wrong = {"no.such": torch.zeros(2), "model.norm.weight": torch.zeros(2)}
    with pytest.raises(ModelError, match=r"no.such \(no parameter\), model.norm.weight \(\(2,\) against \(32,\)\)"):
        model.with_adapter(dataclasses.replace(adapter, full=wrong))


def test_tensors_of_another_kind_are_refused(folder, model):
    change_tensors(folder, lambda ts: ts | {"base_model.model.x.lora_magnitude_vector": torch.ones(1)})
    refused(folder, model, ModelError, "adapter tensors must be LoRA pairs or token rows, got .*magnitude")


def test_half_a_pair_is_refused(folder, model):
    change_tensors(folder, lambda ts: {n: t for n, t in ts.items() if "0.mlp.down_proj.lora_B" not in n})
    refused(
        folder, model, ModelError, "LoRA must have an A and a B for each layer, got one of them for .*0.mlp.down_proj"
    )


def test_rows_without_their_tokens_are_refused(folder, model):
    (folder / "gnothi_adapter.json").unlink()
    change_config(folder, trainable_token_indices=None)
    refused(folder, model, ModelError, "adapter must have one row for each of 0 tokens")


def test_an_empty_adapter_is_refused(folder, model):
    change_tensors(folder, lambda ts: {})
    change_config(folder, trainable_token_indices=None)
    refused(folder, model, ModelError, "adapter must change something, got no tensors in")
    with pytest.raises(ModelError, match="adapter must change something, got no tensors"):
        model.with_adapter(Adapter(spec=AdapterSpec(kind="full")))


@pytest.mark.parametrize(
    "values, match",
    [
        ({"use_dora": True}, r"must be plain LoRA or trained rows, got \['use_dora'\]"),
        ({"bias": "all"}, r"must be plain LoRA or trained rows, got \['bias'\]"),
        ({"peft_type": "IA3"}, "peft_type must be LORA or TRAINABLE_TOKENS, got 'IA3'"),
        ({"trainable_token_indices": {"embed_tokens": [1, 2], "lm_head": [3, 4]}}, "same for embedding and head"),
    ],
)
def test_peft_features_that_are_not_read_are_refused(folder, model, values, match):
    change_config(folder, **values)
    refused(folder, model, ModelError, match)


def test_two_different_rows_for_a_tied_head_are_refused(tmp_path):
    model = tiny.model(tied=True)
    save_adapter(made("rows", model), tmp_path / "a", model.module)
    change_tensors(tmp_path / "a", lambda ts: {n: t + ("lm_head" in n) for n, t in ts.items()})
    refused(tmp_path / "a", model, ModelError, "tuned rows of a tied embedding and head must be equal")


def test_folders_that_hold_no_adapter_are_refused(tmp_path, folder, model):
    refused(tmp_path / "none", model, StoreError, "adapter must be a folder, got .*none, which does not exist")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    refused(folder, model, StoreError, "adapter folder must hold adapter_config.json and .*Pickle files are not read")


def test_damaged_files_are_refused(folder, model):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    refused(folder, model, StoreError, "adapter tensors must be a whole safetensors file")
    (folder / "adapter_config.json").write_text("{")
    refused(folder, model, StoreError, "adapter file must be readable JSON")
    (folder / "adapter_config.json").write_text("[]")
    refused(folder, model, StoreError, "adapter file must hold a JSON object, got .* with a list")


def test_an_adapter_is_never_overwritten(folder, model):
    with pytest.raises(StoreError, match="adapter folder must be new"):
        save_adapter(made("rows", model), folder, model.module)


def test_a_folder_without_digest_cannot_be_verified(folder):
    (folder / "gnothi_adapter.json").unlink()
    with pytest.raises(StoreError, match=r"must hold gnothi_adapter.json with a digest"):
        verify_digest(folder)


@pytest.mark.parametrize(
    "values, match",
    [
        ({"kind": "prefix"}, "kind must be one of rows, lora, lora\\+rows, full, got 'prefix'"),
        ({"kind": "lora"}, "must have rank >= 1, alpha > 0 and targets, got rank 0"),
        ({"kind": "rows"}, "must name row_token_ids, got none"),
        ({"kind": "rows", "row_token_ids": (1, 1)}, "must name each token once"),
    ],
)
def test_impossible_shapes_are_refused(values, match):
    with pytest.raises(SpecError, match=match):
        AdapterSpec(**values)


def test_targets_are_linear_layers_but_not_the_head(model):
    every = target_modules(model.module, ("all",))
    assert len(every) == 2 * 7 and "lm_head" not in every
    assert target_modules(model.module, ("o_proj",)) == [f"model.layers.{i}.self_attn.o_proj" for i in range(2)]
    with pytest.raises(SpecError, match=r"targets must name linear layers \(down_proj, .*\), got \['wq'\]"):
        target_modules(model.module, ("wq",))


def test_fresh_lora_changes_nothing_and_depends_on_its_seed(model):
    names = target_modules(model.module, ("all",))
    one, same, other = (new_lora(model.module, names, 4, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[n][0], same[n][0]) and not torch.equal(one[n][0], other[n][0]) for n in names)
    assert all(not b.any() and float(a.abs().max()) <= a.shape[1] ** -0.5 for a, b in one.values())
    assert np.isclose(float(one[names[0]][0].std()), 32**-0.5 / 3**0.5, rtol=0.2)


@pytest.mark.parametrize(
    "kind, why",
    [("lora", None), ("rows", "embedding rows"), ("lora+rows", "embedding rows"), ("full", "every parameter")],
)
def test_what_vllm_does_not_serve_says_why(tmp_path, kind, why):
    model = tiny.model()
    save_adapter(made(kind, model), tmp_path / "a", model.module)
    problem = vllm_problem(tmp_path / "a")
    assert problem is None if why is None else why in (problem or "")
    if why is not None:
        with pytest.raises(ModelError, match=f"must be one that vLLM serves, got .*{why}"):
            vllm_arguments(tmp_path / "a", "mine")


@pytest.mark.parametrize(
    "values, why",
    [
        ({"use_dora": True}, "it is DoRA"),
        ({"bias": "all"}, "biases were tuned"),
        ({"modules_to_save": ["lm_head"]}, "whole modules"),
        ({"r": 513}, "its rank is 513, and vLLM takes at most 512"),
        ({"rank_pattern": {"q_proj": 1024}}, "its rank is 1024"),
        ({"peft_type": "IA3"}, "its kind is 'IA3'"),
        ({"use_rslora": True, "r": 512}, None),
    ],
)
def test_limits_of_vllm_are_known_without_it(folder, values, why):
    change_config(folder, **{"trainable_token_indices": None, **values})
    problem = vllm_problem(folder)
    assert problem is None if why is None else why in (problem or "")


def test_vllm_is_told_the_next_rank_that_it_knows(folder, tmp_path):
    for rank, shown in ((3, "16"), (16, "16"), (17, "32"), (300, "320")):
        change_config(folder, trainable_token_indices=None, r=rank)
        found = vllm_arguments(folder, "mine")
        assert found == ["--enable-lora", "--max-lora-rank", shown, "--lora-modules", f"mine={folder}"]
    with pytest.raises(StoreError, match=r"must hold adapter_config.json or parameters.safetensors, got neither in"):
        vllm_problem(tmp_path)
