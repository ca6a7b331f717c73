"""Opening a transformers folder: what must be there, what is refused, and the digest of what decides the answers."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from gnothi.errors import ModelError, SpecError
from gnothi.models.local_text import Codec
from gnothi.models.registry import folder_digest

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt")
_INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, checked to be there and whole.

    Raises:
        SpecError: No folder, no config.json, no safetensors.
        ModelError: A file that the index names is missing, or a file is cut off.
    """
    if not folder.is_dir():
        raise SpecError(f"model folder must exist, got {folder}. Check the path, or fetch the model first.")
    if not (folder / "config.json").is_file():
        raise SpecError(f"model folder must hold config.json, got {folder} without. Is it a transformers folder?")
    if (folder / _INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"{_INDEX} must map parameters to files, got an unreadable one in {folder}.") from error
        files = [folder / Path(name).name for name in names]
    else:
        files = [folder / "model.safetensors"]
        if not files[0].is_file():
            pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
            raise SpecError(
                f"model folder must hold model.safetensors, got {pickles or 'no parameters'} in {folder}. "
                "Pickle files can run code and are not read: save the model with safe_serialization."
            )
    for path in files:
        if not path.is_file():
            raise ModelError(f"model must have all of its files, got no {path.name} in {folder}. Fetch it again.")
        try:
            with safe_open(path, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"model file must be whole, got {path.name} in {folder} ({error}). Fetch or copy it again."
            ) from error
    return files


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars of transformers' on the terminal."""
    from transformers.utils import logging

    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bar:
            logging.enable_progress_bar()


def open_folder(folder: Path, dtype: str, device: str, trust_remote_code: bool) -> tuple[nn.Module, Any, str]:
    """Module, tokenizer and digest of a transformers folder; the errors are those of `LocalModel.load`."""
    if trust_remote_code:
        raise SpecError("trust_remote_code must be False, got True. No code from a model's folder is run.")
    if dtype not in DTYPES:
        raise SpecError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    weight_files(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise SpecError(f"model folder must hold a tokenizer, got no tokenizer.json in {folder}. Save the tokenizer.")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet():
            opened: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=DTYPES[dtype],
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
            module, info = opened
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(
            f"model folder must open with transformers, got {type(error).__name__} from {folder}: {error}"
        ) from error
    absent = sorted(info["missing_keys"]) + sorted(str(k) for k in info.get("mismatched_keys", ()))
    if absent:
        raise ModelError(
            f"model must have all parameters that its config names, got none for {absent[:3]} "
            f"({len(absent)} in all) in {folder}. Fetch or save it again."
        )
    return module.to(device), tokenizer, folder_digest(folder)


def module_digest(module: nn.Module, tokenizer: Any) -> str:
    """Digest of a model that lies in memory, over its tensors, vocabulary and template."""
    sha = hashlib.sha256(str(getattr(module, "config", "")).encode())
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    sha.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    sha.update(_template(tokenizer).encode())
    return sha.hexdigest()


def _template(tokenizer: Any) -> str:
    template = getattr(tokenizer, "chat_template", None)
    return str(template) if template else Codec(tokenizer).renderer
