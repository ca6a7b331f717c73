"""Sites, interventions, gradients and attention of a Llama-shaped model, against forward passes written by others.

The first is written out below, in plain einsums. The second is TransformerLens: it runs in the environment whose Python
GNOTHI_ORACLE_PYTHON names, or in this one where it is installed (3.9 with torch 2.13 and transformers 5.24 was tried).
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.attention import attention_maps
from gnothi.mechanisms.attribution import attribution_patch
from gnothi.mechanisms.heads import direct_effect
from gnothi.mechanisms.hooks import AbstractIntervention, Add, MeanAblate, Replace, Resample, Scale, Zero, capture
from gnothi.mechanisms.hooks import intervened as with_changes
from gnothi.mechanisms.metrics import logit_difference
from gnothi.mechanisms.patching import patch
from gnothi.mechanisms.sites import Site

BLOCKS, HEADS, KEYS, WIDTH, MLP, SIZE, TOKENS = 3, 6, 3, 48, 64, 8, 40
CLOSE = 1e-5
N_CASES = 60
METRIC = logit_difference(4, 7, -1)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """A random Llama with shared keys and norms that matter."""
    config = LlamaConfig(
        vocab_size=TOKENS,
        hidden_size=WIDTH,
        intermediate_size=MLP,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEYS,
        head_dim=SIZE,
        initializer_range=0.15,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    made = LlamaForCausalLM(config).eval()
    draws = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter.copy_(1 + 0.2 * torch.randn(parameter.shape, generator=draws))
            else:
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=draws))
    return made


IDS = torch.randint(TOKENS, (4, 11), generator=torch.Generator().manual_seed(12))
OTHER = torch.randint(TOKENS, (4, 11), generator=torch.Generator().manual_seed(13))

Change = Callable[[str, Tensor], Tensor]


def by_hand(
    model: LlamaForCausalLM, ids: Tensor, change: Change = lambda name, x: x
) -> tuple[Tensor, dict[str, Tensor]]:
    """Llama's forward pass, written out; every site passes through `change`. Returns logits, and attention by block."""
    p = dict(model.named_parameters())
    eps, length = model.config.rms_norm_eps, ids.shape[1]

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / torch.sqrt(torch.mean(x * x, -1, keepdim=True) + eps) * weight

    angles = torch.arange(length)[:, None] / 10000.0 ** (torch.arange(0, SIZE, 2) / SIZE)
    turn = torch.polar(torch.ones_like(angles), angles)  # (T, size / 2), on pairs of a value and the one half a head on

    def rotated(x: Tensor) -> Tensor:
        pairs = torch.complex(x[..., : SIZE // 2], x[..., SIZE // 2 :]) * turn[:, None]
        return torch.cat([pairs.real, pairs.imag], -1)

    maps = {}
    x = change("embed", p["model.embed_tokens.weight"][ids])
    for i in range(BLOCKS):
        w = {n.removeprefix(f"model.layers.{i}."): v for n, v in p.items() if n.startswith(f"model.layers.{i}.")}
        x = change(f"resid.{i}", x)
        h = norm(x, w["input_layernorm.weight"])
        q = rotated(torch.einsum("btd,hed->bthe", h, w["self_attn.q_proj.weight"].view(HEADS, SIZE, WIDTH)))
        k = rotated(torch.einsum("btd,hed->bthe", h, w["self_attn.k_proj.weight"].view(KEYS, SIZE, WIDTH)))
        v = torch.einsum("btd,hed->bthe", h, w["self_attn.v_proj.weight"].view(KEYS, SIZE, WIDTH))
        shared = [head * KEYS // HEADS for head in range(HEADS)]
        scores = torch.einsum("bqhe,bkhe->bhqk", q, k[:, :, shared]) / SIZE**0.5
        hidden = torch.ones(length, length).triu(1) * -1e30
        maps[f"{i}"] = torch.softmax(scores + hidden, -1)
        z = torch.einsum("bhqk,bkhe->bqhe", maps[f"{i}"], v[:, :, shared])
        z = torch.stack([change(f"block.{i}.attn.head.{head}.out", z[:, :, head]) for head in range(HEADS)], 2)
        z = change(f"block.{i}.attn.heads", z.flatten(2)).unflatten(2, (HEADS, SIZE))
        added = torch.einsum("bthe,dhe->btd", z, w["self_attn.o_proj.weight"].view(WIDTH, HEADS, SIZE))
        x = x + change(f"block.{i}.attn.out", added)
        h = norm(x, w["post_attention_layernorm.weight"])
        gate = torch.einsum("btd,nd->btn", h, w["mlp.gate_proj.weight"])
        up = torch.einsum("btd,nd->btn", h, w["mlp.up_proj.weight"])
        neurons = change(f"block.{i}.mlp.neurons", gate * torch.sigmoid(gate) * up)
        x = x + change(f"block.{i}.mlp.out", torch.einsum("btn,dn->btd", neurons, w["mlp.down_proj.weight"]))
    x = change(f"resid.{BLOCKS}", x)
    return torch.einsum("btd,vd->btv", norm(x, p["model.norm.weight"]), p["lm_head.weight"]), maps


def cases(model: LlamaForCausalLM) -> list[list[AbstractIntervention]]:
    """Random interventions of every kind, one to three at a time, each at a site of its own."""
    draws = torch.Generator().manual_seed(14)
    body = anatomy(model)
    sites = body.sites(("embed", "resid", "attn", "head", "mlp", "neurons"))

    def below(n: int) -> int:
        return int(torch.randint(n, (), generator=draws))

    found: list[list[AbstractIntervention]] = []
    for number in range(N_CASES):
        order = torch.randperm(len(sites), generator=draws)[: 1 + number % 3]
        changes: list[AbstractIntervention] = []
        for j, index in enumerate(order.tolist()):
            site, size = sites[index], body.size(sites[index])
            value = torch.randn(4, 11, size, generator=draws)
            at = [None, below(11), [below(11), -1], torch.randint(11, (4,), generator=draws)][below(4)]
            units = None if below(2) else sorted({below(size) for _ in range(5)})
            rows = torch.randint(4, (4,), generator=draws)
            changes.append(change_of((number + j) % 6, site, value, rows, {"positions": at, "units": units}))
        found.append(changes)
    return found


def change_of(kind: int, site: Site, value: Tensor, rows: Tensor, where: dict) -> AbstractIntervention:
    """One of the six kinds."""
    if kind == 0:
        return Replace(site, value, **where)
    if kind == 1:
        return Add(site, value[0, 0], **where)
    if kind == 2:
        return Scale(site, float(value[0, 0, 0]), **where)
    if kind == 3:
        return Zero(site, **where)
    return MeanAblate(site, value.mean((0, 1)), **where) if kind == 4 else Resample(site, value, rows, **where)


def places(one: AbstractIntervention) -> list[list[int]] | None:
    """Positions for each of the four rows."""
    if one.positions is None:
        return None
    if isinstance(one.positions, Tensor):
        return [[int(p)] for p in one.positions]
    several = [one.positions] if isinstance(one.positions, int) else list(one.positions)
    return [[p % 11 for p in several]] * 4


def written_out(one: AbstractIntervention, x: Tensor) -> Tensor:
    """The same change, value by value."""
    new = x.detach().clone()
    where = places(one) or [list(range(11))] * 4
    units = range(x.shape[-1]) if one.units is None else one.units
    for row in range(4):
        for place in where[row]:
            for unit in units:
                old = x[row, place, unit]
                match one:
                    case Replace(value=value) if isinstance(value, Tensor):
                        new[row, place, unit] = value[row, place, unit]
                    case Add(value=value) if isinstance(value, Tensor):
                        new[row, place, unit] = old + value[unit]
                    case Scale(factor=factor):
                        new[row, place, unit] = old * factor
                    case Zero():
                        new[row, place, unit] = 0
                    case MeanAblate(mean=mean):
                        new[row, place, unit] = mean[unit]
                    case Resample(other=other, order=order) if other is not None:
                        new[row, place, unit] = other[order[row], place, unit]
    return new


def largest(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, after a look at the shapes."""
    assert ours.shape == theirs.shape
    return float((ours.detach() - theirs.detach()).abs().max())


def test_every_site_holds_what_the_written_out_pass_has(model: LlamaForCausalLM):
    seen: dict[str, Tensor] = {}
    logits, maps = by_hand(model, IDS, lambda name, x: seen.setdefault(name, x))
    ours, at = capture(model, IDS, [Site.parse(name) for name in seen])
    assert set(seen) >= set(map(str, anatomy(model).sites()))
    assert largest(ours, logits) < CLOSE
    assert max(largest(value, seen[str(site)]) for site, value in at.items()) < CLOSE
    for i, weights in enumerate(attention_maps(model, IDS)):
        assert largest(weights, maps[f"{i}"]) < CLOSE


def test_interventions_do_what_they_do_in_the_written_out_pass(model: LlamaForCausalLM):
    plain = by_hand(model, IDS)[0]
    worst, least = 0.0, 1.0
    for changes in cases(model):
        by_site = {str(one.site): one for one in changes}

        def change(name: str, x: Tensor, by_site: dict = by_site) -> Tensor:
            return written_out(by_site[name], x) if name in by_site else x

        with torch.no_grad():
            theirs = by_hand(model, IDS, change)[0]
        with with_changes(model, changes):
            ours = capture(model, IDS, [])[0]
        worst = max(worst, largest(ours, theirs))
        least = min(least, largest(ours, plain))
    print(f"largest difference over {N_CASES} cases: {worst:.1e}; least effect {least:.1e}")
    assert worst < CLOSE
    assert least > 100 * CLOSE  # each of them does something


def test_gradients_and_patching_are_those_of_the_written_out_pass(model: LlamaForCausalLM):
    sites = [Site("resid", 1), Site("head", 1, 2), Site("neurons", 0), Site("mlp", 2), Site("attn", 1)]
    clean = capture(model, OTHER, sites)[1]
    exact = patch(model, OTHER, IDS, sites, METRIC, positions=[2, 10])
    guess = attribution_patch(model, OTHER, IDS, sites, METRIC, positions=[2, 10])
    before = METRIC(by_hand(model, IDS)[0])
    for i, site in enumerate(sites):
        held: list[Tensor] = []

        def root(name: str, x: Tensor, site: Site = site, held: list[Tensor] = held) -> Tensor:
            if name == str(site):
                held.append(x.detach().requires_grad_())
                return held[0]
            return x

        (slope,) = torch.autograd.grad(METRIC(by_hand(model, IDS, root)[0]).sum(), held)
        for j, place in enumerate((2, 10)):
            put = Replace(site, clean[site], positions=place)
            patched = METRIC(by_hand(model, IDS, lambda n, x, p=put: written_out(p, x) if n == str(p.site) else x)[0])
            assert largest(exact.effects[i, j], patched - before) < CLOSE
            product = ((clean[site] - held[0]) * slope).sum(-1)[:, place]
            assert largest(guess.effects[i, j], product) < CLOSE


def test_direct_effects_are_those_of_the_written_out_pass(model: LlamaForCausalLM):
    seen: dict[str, Tensor] = {}
    by_hand(model, IDS, lambda name, x: seen.setdefault(name, x.detach()))
    parts = direct_effect(model, IDS, 4, 7, -1)
    p = dict(model.named_parameters())
    last = seen[f"resid.{BLOCKS}"][:, -1]
    scale = torch.rsqrt((last**2).mean(-1, keepdim=True) + model.config.rms_norm_eps)
    onto = p["model.norm.weight"] * (p["lm_head.weight"][4] - p["lm_head.weight"][7])
    for i in range(BLOCKS):
        output = p[f"model.layers.{i}.self_attn.o_proj.weight"].view(WIDTH, HEADS, SIZE)
        for head in range(HEADS):
            z = seen[f"block.{i}.attn.head.{head}.out"][:, -1]
            assert largest(parts.heads[i, head], (scale * (z @ output[:, head].T)) @ onto) < CLOSE
        assert largest(parts.mlps[i], (scale * seen[f"block.{i}.mlp.out"][:, -1]) @ onto) < CLOSE


@pytest.fixture(scope="module")
def lens(model: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What TransformerLens finds."""
    python = os.environ.get("GNOTHI_ORACLE_PYTHON", sys.executable)
    if python == sys.executable:
        pytest.importorskip("transformer_lens", minversion="3.0")
    folder: Path = tmp_path_factory.mktemp("lens")
    model.save_pretrained(folder)
    values, listed = {"ids": IDS}, []
    for number, changes in enumerate(cases(model)):
        listed.append([])
        for i, one in enumerate(changes):
            name, head = Site.parse(one.site).transformer_lens(BLOCKS)
            kind = {Replace: "replace", Add: "add", Scale: "scale", Zero: "zero", MeanAblate: "replace"}.get(type(one))
            case = {
                "name": name,
                "head": head,
                "kind": kind or "resample",
                "positions": places(one),
                "units": one.units,
            }
            if isinstance(one, Resample):
                case["order"] = torch.as_tensor(one.order).tolist()
            value = next(
                (v for n in ("value", "factor", "mean", "other") if (v := getattr(one, n, None)) is not None), None
            )
            if value is not None:
                values[f"{number}.{i}"] = torch.as_tensor(value).contiguous()
            listed[-1].append(case)
    save_file(values, folder / "values.safetensors")
    (folder / "cases.json").write_text(json.dumps(listed))
    script = Path(__file__).with_name("transformer_lens_peer.py")
    quiet = {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, script, folder], env={**os.environ, **quiet}, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(folder / "found.safetensors")


def test_every_site_holds_what_transformer_lens_has(model: LlamaForCausalLM, lens: dict[str, Tensor]):
    sites = anatomy(model).sites()
    logits, at = capture(model, IDS, sites, grad=True)
    slopes = torch.autograd.grad(METRIC(logits).sum(), list(at.values()))
    worst, steepest = largest(logits, lens["logits"]), 0.0
    for (site, value), slope in zip(at.items(), slopes, strict=True):
        name, head = site.transformer_lens(BLOCKS)
        theirs, gradient = lens[f"cache.{name}"], lens[f"gradient.{name}"]
        if head is not None:
            theirs, gradient = theirs[:, :, head], gradient[:, :, head]
        worst = max(worst, largest(value, theirs))
        steepest = max(steepest, largest(slope, gradient) / float(gradient.abs().max()))
    maps = attention_maps(model, IDS)
    patterns = max(largest(maps[i], lens[f"cache.blocks.{i}.attn.hook_pattern"]) for i in range(BLOCKS))
    print(
        f"largest differences: activations {worst:.1e}, gradients {steepest:.1e} of their size, attention {patterns:.1e}"
    )
    assert max(worst, steepest, patterns) < CLOSE


def test_interventions_do_what_they_do_in_transformer_lens(model: LlamaForCausalLM, lens: dict[str, Tensor]):
    found = []
    for number, changes in enumerate(cases(model)):
        with with_changes(model, changes):
            found.append(largest(capture(model, IDS, [])[0], lens[f"case.{number}"]))
    print(f"largest difference over {len(found)} cases: {max(found):.1e}")
    assert max(found) < CLOSE
