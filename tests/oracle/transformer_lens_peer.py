"""TransformerLens on a Llama of ours, for `test_mechanisms_oracle.py`; runs where transformer_lens is installed.

Usage: `python transformer_lens_peer.py FOLDER`. The folder holds a model as transformers saves it, `cases.json` (a list of
interventions, each a list of changes with TransformerLens' names) and `values.safetensors` (`ids` and the changes' values).
`found.safetensors` is written beside them: logits of every case, and activations, attention and gradients of the plain run.

Made for TransformerLens 3, the last with a forward pass of its own (version 4 wraps transformers' modules instead).
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_llama_weights
from transformers import LlamaForCausalLM


def hooked(folder: Path) -> HookedTransformer:
    """The model, in TransformerLens' own modules, without any folding."""
    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = theirs.config
    made = HookedTransformer(
        HookedTransformerConfig(
            n_layers=config.num_hidden_layers,
            d_model=config.hidden_size,
            n_ctx=64,
            d_head=config.head_dim,
            n_heads=config.num_attention_heads,
            n_key_value_heads=config.num_key_value_heads,
            d_mlp=config.intermediate_size,
            d_vocab=config.vocab_size,
            act_fn="silu",
            gated_mlp=True,
            normalization_type="RMS",
            final_rms=True,
            eps=config.rms_norm_eps,
            positional_embedding_type="rotary",
            rotary_dim=config.head_dim,
            rotary_base=int(config.rope_parameters["rope_theta"]),
            device="cpu",
        )
    )
    made.load_and_process_state_dict(
        convert_llama_weights(theirs, made.cfg),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    return made.eval()


def hook(change: dict, value: torch.Tensor | None):
    """One change as TransformerLens' hook; it edits a copy."""

    def edit(activation: torch.Tensor, hook) -> torch.Tensor:
        new = activation.clone()
        part = new if change["head"] is None or new.dim() == 3 else new[:, :, change["head"]]
        before = part.clone()
        after = {
            "replace": lambda: value.expand_as(before),
            "add": lambda: before + value,
            "scale": lambda: before * value,
            "zero": lambda: torch.zeros_like(before),
            "resample": lambda: value[change["order"]] if "order" in change else None,
        }[change["kind"]]()
        for row in range(len(part)):
            places = range(part.shape[1]) if change["positions"] is None else change["positions"][row]
            units = range(part.shape[2]) if change["units"] is None else change["units"]
            block = torch.meshgrid(torch.tensor(list(places)), torch.tensor(list(units)), indexing="ij")
            part[row][block] = after[row][block]
        return new

    return edit


def main(folder: Path) -> None:
    model, given = hooked(folder), load_file(folder / "values.safetensors")
    ids = given["ids"]
    found: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        logits, cache = model.run_with_cache(ids)
        found["logits"] = logits
        found |= {f"cache.{name}": value for name, value in cache.items()}
        for number, case in enumerate(json.loads((folder / "cases.json").read_text())):
            hooks = [(c["name"], hook(c, given.get(f"{number}.{i}"))) for i, c in enumerate(case)]
            found[f"case.{number}"] = model.run_with_hooks(ids, fwd_hooks=hooks)
    kept: dict[str, torch.Tensor] = {}

    def keep(gradient: torch.Tensor, hook) -> None:
        kept[f"gradient.{hook.name}"] = gradient.detach().clone()

    with model.hooks(bwd_hooks=[(lambda name: "hook_" in name and "scale" not in name, keep)]):
        logits = model(ids)
        (logits[:, -1, 4] - logits[:, -1, 7]).sum().backward()
    found |= kept
    save_file({name: value.contiguous().clone() for name, value in found.items()}, folder / "found.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
