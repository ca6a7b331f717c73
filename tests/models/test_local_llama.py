import dataclasses

import pytest
import tiny
import torch
from test_adapters import made
from transformers import LlamaForCausalLM

from gnothi.models.local import LocalModel
from gnothi.models.local_llama import applies, end_logits

IDS = torch.tensor([[27, 5, 7, 21, 22, 9], [28, 5, 8, 14, 27, 4]])


def llama(**changes):
    torch.manual_seed(0)
    config = tiny.config(len(tiny.WORDS), changes.pop("tied", False))
    for name, value in changes.items():
        setattr(config, name, value)
    return LlamaForCausalLM(config).float().eval()


@pytest.mark.parametrize("keep", [1, 2, 6, 9])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tied": True},
        {"num_key_value_heads": 1},
        {"hidden_act": "silu"},
        {"attention_bias": True, "mlp_bias": True},
    ],
)
def test_logits_are_those_of_transformers(changes, keep):
    module = llama(**changes)
    assert applies(module, ())
    with torch.inference_mode():
        expected = module(input_ids=IDS).logits[:, -keep:]
        assert (end_logits(module, IDS, keep) - expected).abs().max() < 1e-5


def test_scaled_rotation_is_the_modules_own():
    module = llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0})
    with torch.inference_mode():
        assert (end_logits(module, IDS, 2) - module(input_ids=IDS).logits[:, -2:]).abs().max() < 1e-5


def test_half_precision_agrees_to_its_rounding():
    module = llama().to(torch.bfloat16)
    with torch.inference_mode():
        expected = module(input_ids=IDS).logits[:, -1:].float()
        assert (end_logits(module, IDS, 1).float() - expected).abs().max() < 0.02 * expected.abs().max()


def test_gradients_are_those_of_transformers():
    one, two = llama(), llama()
    end_logits(one, IDS, 2).log_softmax(-1)[..., 3].sum().backward()
    two(input_ids=IDS).logits[:, -2:].log_softmax(-1)[..., 3].sum().backward()
    for (name, p), q in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-5 * float(q.grad.abs().max()) + 1e-6), name


@pytest.mark.parametrize("kind", ["rows", "lora", "lora+rows", "full"])
@pytest.mark.parametrize("tied", [False, True])
def test_adapters_take_part(kind, tied):
    model = tiny.model(tied)
    view = model.with_adapter(made(kind, model))
    with torch.inference_mode(), view.attached() as module:
        assert applies(module, model._base.on.hook_ids)
        expected = module(input_ids=IDS).logits[:, -1:]
        found = view.end_logits(IDS, None, 1)
    assert (found - expected).abs().max() < 3e-5


def test_a_hook_of_somebody_else_sees_the_whole_forward_pass():
    model = tiny.model()
    view = model.with_adapter(dataclasses.replace(made("rows", model)))
    seen = []
    module = view.module
    for part in (module.model.layers[1], module.model.layers[1].self_attn.o_proj, module.model.layers[0].mlp):
        for register in ("register_forward_hook", "register_forward_pre_hook"):
            handle = getattr(part, register)(lambda *found: seen.append(found[1][0].shape[1]))
            view.option_logprobs([tiny.user("agent1 choose x 3 4")], [["A"]])
            handle.remove()
    assert seen == [5] * 6


def test_it_stands_back_where_it_does_not_apply():
    eager = llama()
    eager.set_attn_implementation("eager")
    patched = llama()
    patched.model.layers[0].mlp.forward = patched.model.layers[0].mlp.forward
    assert not applies(eager, ()) and not applies(patched, ()) and not applies(llama().train(), ())
    assert not applies(torch.nn.Linear(2, 2), ())
    assert isinstance(tiny.model(), LocalModel)
