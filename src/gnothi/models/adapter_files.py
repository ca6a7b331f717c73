"""Adapters as folders: PEFT's two files in and out, and one of ours beside them.

| kind | `adapter_config.json` | tensors |
|---|---|---|
| rows | `peft_type` TRAINABLE_TOKENS | `adapter_model.safetensors`, PEFT's names |
| lora, lora+rows | `peft_type` LORA (rows as `trainable_token_indices`) | `adapter_model.safetensors`, PEFT's names |
| full | none: PEFT has no such thing | `parameters.safetensors`: every changed parameter by its module's name |

`gnothi_adapter.json` holds the kind, the adapter's digest and the base model's, and where the base was read from, as
`adapter_config.json` does; a folder that PEFT wrote lacks it.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gnothi.errors import ModelError, StoreError
from gnothi.models import hub
from gnothi.models.adapters import Adapter, AdapterSpec, embedding, head, is_tied, module_name

CONFIG, TENSORS, FULL, OURS = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "parameters.safetensors",
    "gnothi_adapter.json",
)
_PREFIX = "base_model.model."
_UNSUPPORTED = ("use_dora", "modules_to_save", "alpha_pattern", "rank_pattern", "lora_bias", "layer_replication")
_UNSUPPORTED += ("fan_in_fan_out", "target_parameters", "use_qalora", "use_bdlora", "velora_config")


def save_adapter(adapter: Adapter, folder: Path, module: nn.Module) -> None:
    """Write an adapter as a folder that PEFT loads (kind `full`: parameters only).

    Args:
        adapter: What to write.
        folder: A new or empty folder; made if missing.
        module: The base model, for the names of its embedding and head.

    Raises:
        StoreError: The folder holds an adapter already.
    """
    folder = Path(folder)
    if (folder / CONFIG).exists() or (folder / OURS).exists():
        raise StoreError(f"adapter folder must be new, got {folder} with an adapter in it. Choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    spec = adapter.spec
    if spec.kind == "full":
        save_file({n: t.contiguous() for n, t in adapter.full.items()}, folder / FULL)
    else:
        tensors, config = _to_peft(adapter, module)
        save_file({n: t.contiguous() for n, t in tensors.items()}, folder / TENSORS)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    ours = {"format": 1, "kind": spec.kind, "digest": adapter.digest, "base_digest": adapter.base_digest}
    ours["base"] = base_of(module)[0]
    (folder / OURS).write_text(json.dumps(ours, indent=2) + "\n", encoding="utf-8")


def _to_peft(adapter: Adapter, module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    spec = adapter.spec
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in adapter.lora.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = a
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = b
    table = module_name(module, embedding(module))
    leaf = table.rsplit(".", 1)[-1]
    base, revision = base_of(module)
    common = {"base_model_name_or_path": base, "revision": revision, "inference_mode": True, "task_type": "CAUSAL_LM"}
    if spec.kind == "rows":
        assert adapter.rows is not None
        tensors[f"{_PREFIX}{table}.trainable_tokens_delta"] = adapter.rows
        out = head(module)
        if out is not None and is_tied(module):
            tensors[f"{_PREFIX}{module_name(module, out)}.trainable_tokens_delta"] = adapter.rows.clone()
        config = {"peft_type": "TRAINABLE_TOKENS", "target_modules": [leaf], "token_indices": list(spec.row_token_ids)}
        return tensors, config | {"init_weights": True} | common
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": False,
        "target_modules": sorted(adapter.lora),
    }
    if adapter.rows is not None:
        tensors[f"{_PREFIX}{table}.token_adapter.trainable_tokens_delta"] = adapter.rows
        config["trainable_token_indices"] = {leaf: list(spec.row_token_ids)}
    return tensors, config | common


def base_of(module: nn.Module) -> tuple[str | None, str | None]:
    """Where a module was read from: a hub's id and commit, or a folder's absolute path; None for one made in memory."""
    path = getattr(getattr(module, "config", None), "_name_or_path", "")
    if not path or not Path(path).is_dir():
        return None, None
    folder = Path(path).absolute()
    return hub.id_of(folder) or (str(folder), None)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"adapter file must be readable JSON, got {path} ({type(error).__name__}).") from error
    if not isinstance(found, dict):
        raise StoreError(f"adapter file must hold a JSON object, got {path} with a {type(found).__name__}.")
    return found


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"adapter tensors must be a whole safetensors file, got {path} ({error}). Train or copy it again."
        ) from error


def load_adapter(folder: Path) -> Adapter:
    """Read an adapter folder, ours or PEFT's.

    Raises:
        StoreError: Missing or unreadable files, pickle files only, or a digest that does not hold.
        ModelError: A PEFT feature that is not read here, or tensors that belong to nothing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StoreError(f"adapter must be a folder, got {folder}, which does not exist.")
    ours = _json(folder / OURS) if (folder / OURS).exists() else {}
    base_digest = str(ours.get("base_digest", ""))
    if (folder / FULL).exists():
        spec = AdapterSpec(kind="full")
        adapter = Adapter(spec=spec, full=_tensors(folder / FULL), base_digest=base_digest)
    elif (folder / TENSORS).exists() and (folder / CONFIG).exists():
        adapter = _from_peft(_json(folder / CONFIG), _tensors(folder / TENSORS), base_digest, folder)
    else:
        found = sorted(p.name for p in folder.iterdir())
        raise StoreError(
            f"adapter folder must hold {CONFIG} and {TENSORS} (or {FULL}), got {found} in {folder}. "
            "Pickle files are not read; save with safetensors."
        )
    if ours and adapter.digest != ours.get("digest"):
        raise StoreError(
            f"adapter must match its digest {str(ours.get('digest'))[:12]}, got {adapter.digest[:12]} in {folder}. "
            "The folder was altered after training."
        )
    return adapter


def verify_digest(folder: Path) -> str:
    """Read an adapter folder of ours again and return its digest, after checking it against the recorded one.

    Raises:
        StoreError: As `load_adapter`, or no recorded digest.
    """
    if not (Path(folder) / OURS).exists():
        raise StoreError(f"adapter folder must hold {OURS} with a digest, got none in {folder}. PEFT wrote it?")
    return load_adapter(folder).digest


VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank` (vllm/config/lora.py, 2025 and 2026); its default is 16."""


def vllm_problem(folder: Path) -> str | None:
    """Why vLLM does not serve an adapter as it is, or None if it does; nothing of vLLM is needed to know.

    Args:
        folder: An adapter's folder, ours or PEFT's.

    Raises:
        StoreError: No adapter there.

    Source: vLLM's `lora/peft_helper.py` and `config/lora.py`; rows of tokens beside LoRA are asked for there and open
    (vllm-project/vllm, issue 36501). Rank-stabilised LoRA is served.
    """
    folder = Path(folder)
    if (folder / FULL).exists():
        return "every parameter was tuned, and vLLM's adapters are LoRA alone: merge it into the base model"
    if not (folder / CONFIG).exists():
        raise StoreError(f"adapter folder must hold {CONFIG} or {FULL}, got neither in {folder}.")
    config = _json(folder / CONFIG)
    if config.get("peft_type") == "TRAINABLE_TOKENS" or config.get("trainable_token_indices"):
        return "embedding rows were tuned, which vLLM refuses in an adapter: merge it into the base model"
    if config.get("peft_type") != "LORA":
        return f"its kind is {config.get('peft_type')!r}, and vLLM's adapters are LoRA alone"
    if config.get("use_dora"):
        return "it is DoRA, which vLLM refuses: merge it into the base model"
    if config.get("modules_to_save"):
        return "whole modules were saved with it, which vLLM refuses: merge it into the base model"
    if config.get("bias", "none") != "none":
        return "biases were tuned, which vLLM refuses: merge it into the base model"
    ranks = [int(config.get("r") or 0), *map(int, (config.get("rank_pattern") or {}).values())]
    if max(ranks) > VLLM_RANKS[-1]:
        return f"its rank is {max(ranks)}, and vLLM takes at most {VLLM_RANKS[-1]}: merge it into the base model"
    return None


def vllm_arguments(folder: Path, name: str) -> list[str]:
    """What `vllm serve BASE` needs besides to serve an adapter under a name.

    Args:
        folder: The adapter's folder.
        name: What requests call it, as `model`.

    Raises:
        ModelError: vLLM does not serve it.
    """
    if problem := vllm_problem(folder):
        raise ModelError(f"adapter must be one that vLLM serves, got {folder}: {problem}.")
    rank = int(_json(Path(folder) / CONFIG).get("r") or 0)
    least = next(r for r in VLLM_RANKS if r >= max(rank, 16))
    return ["--enable-lora", "--max-lora-rank", str(least), "--lora-modules", f"{name}={Path(folder)}"]


def _from_peft(config: Mapping[str, Any], tensors: dict[str, Tensor], base_digest: str, folder: Path) -> Adapter:
    kind = config.get("peft_type")
    if kind not in ("LORA", "TRAINABLE_TOKENS"):
        raise ModelError(f"peft_type must be LORA or TRAINABLE_TOKENS, got {kind!r} in {folder}.")
    used = [key for key in _UNSUPPORTED if config.get(key)]
    if used or config.get("bias", "none") != "none":
        raise ModelError(f"adapter must be plain LoRA or trained rows, got {used or ['bias']} in {folder}. Merge it.")
    rank = int(config.get("r") or 0)
    alpha = float(config.get("lora_alpha") or 0.0)
    if config.get("use_rslora") and rank:
        alpha *= rank**0.5  # rank-stabilised LoRA scales by alpha / sqrt(rank)
    lora: dict[str, dict[str, Tensor]] = {}
    rows: Tensor | None = None
    unknown = []
    for key, tensor in tensors.items():
        pair = re.fullmatch(rf"{re.escape(_PREFIX)}(.+)\.lora_([AB])\.weight", key)
        if pair:
            lora.setdefault(pair[1], {})[pair[2]] = tensor.to(torch.float32)
        elif key.startswith(_PREFIX) and key.endswith(".trainable_tokens_delta"):
            if rows is not None and not torch.equal(rows, tensor.to(torch.float32)):
                raise ModelError(f"tuned rows of a tied embedding and head must be equal, got two in {folder}.")
            rows = tensor.to(torch.float32)
        else:
            unknown.append(key)
    if unknown:
        raise ModelError(f"adapter tensors must be LoRA pairs or token rows, got {unknown[:3]} in {folder}.")
    halves = [name for name, found in lora.items() if len(found) != 2]
    if halves:
        raise ModelError(f"LoRA must have an A and a B for each layer, got one of them for {halves[:3]} in {folder}.")
    indices = config.get("token_indices") or config.get("trainable_token_indices") or []
    if isinstance(indices, dict):
        lists = list(indices.values())
        if any(found != lists[0] for found in lists):
            raise ModelError(f"tuned rows must be the same for embedding and head, got {sorted(indices)} in {folder}.")
        indices = lists[0] if lists else []
    ids = tuple(int(i) for i in indices)
    if (0 if rows is None else len(rows)) != len(ids):
        raise ModelError(f"adapter must have one row for each of {len(ids)} tokens, got tensors that differ: {folder}.")
    if not lora and rows is None:
        raise ModelError(f"adapter must change something, got no tensors in {folder}. Was it written whole?")
    kind = "rows" if not lora else "lora" if rows is None else "lora+rows"
    spec = AdapterSpec(
        kind=kind,
        rank=rank if lora else 0,
        alpha=alpha if lora else 0.0,
        targets=tuple(sorted(lora)),
        row_token_ids=ids,
    )
    pairs = {name: (found["A"], found["B"]) for name, found in lora.items()}
    return Adapter(spec=spec, lora=pairs, rows=rows, base_digest=base_digest)
