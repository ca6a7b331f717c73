"""Opening a transformers folder: what must be there, what is refused, and the digest of what decides the answers."""

import contextlib
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gnothi.errors import ModelError, SpecError
from gnothi.models.local_text import Codec
from gnothi.models.model_cache import folder_digest, own_code, read_json
from gnothi.models.model_files import check_model

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BITS = ("4bit", "8bit")
"""How a model can be quantised while it is opened, by bitsandbytes."""


def check_device(device: str) -> None:
    """Refuse a device that torch does not have here.

    Raises:
        SpecError: No device of that name, or not on this machine.
    """
    try:
        kind = torch.device(device).type
        if kind == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError, ImportError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpecError(
            f"device must be one that torch has here, got {device!r} ({said:.120}). "
            "Use cpu, or see `gnothi doctor` for what is missing."
        ) from error


@contextlib.contextmanager
def quiet(warnings: bool = True) -> Iterator[None]:
    """No bars of transformers' on the terminal, nor its warnings where what they would say is said in another way."""
    from transformers.utils import logging

    bar, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    if not warnings:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def open_folder(
    folder: Path, dtype: str, device: str, trust_remote_code: bool = False, quantise: str | None = None
) -> tuple[nn.Module, Any, str]:
    """Module, tokenizer and digest of a transformers folder; the errors are those of `LocalModel.load`."""
    if dtype not in DTYPES:
        raise SpecError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    check_device(device)
    check_model("model folder", folder)
    _check_code(folder, trust_remote_code)
    extra = _quantised(quantise, DTYPES[dtype], device)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet():
            opened: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=DTYPES[dtype],
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                **extra,
            )
            module, info = opened
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise ModelError(
            f"model folder must open with transformers, got {type(error).__name__} from {folder}: {error}"
        ) from error
    absent = sorted(info["missing_keys"]) + sorted(str(k) for k in info.get("mismatched_keys", ()))
    if absent:
        raise ModelError(
            f"model must have all parameters that its config names, got none for {absent[:3]} "
            f"({len(absent)} in all) in {folder}. Fetch or save it again."
        )
    return module if extra else module.to(device), tokenizer, folder_digest(folder)


def _check_code(folder: Path, trusted: bool) -> None:
    """Refuse a folder that transformers can open only by running the folder's own code, unless that was asked for."""
    code = own_code(folder)
    if trusted or "AutoModelForCausalLM" not in code:
        return
    from transformers import CONFIG_MAPPING

    if read_json(folder / "config.json").get("model_type") not in CONFIG_MAPPING:
        files = sorted({f"{str(v).split('.')[0]}.py" for v in code.values() if isinstance(v, str)})
        raise ModelError(
            f"model folder must open without code of its own, got one that brings {', '.join(files)[:200]} in {folder}. "
            "Read that code; if you trust it, set trust_remote_code=true, and it is run on this machine."
        )


def _quantised(bits: str | None, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """What transformers has to be told so that linear layers are quantised while they are read."""
    if bits is None:
        return {}
    if bits not in BITS:
        raise SpecError(f"quantise must be one of {', '.join(BITS)}, got {bits!r}.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"quantise {bits} must have bitsandbytes installed, got none. Run: pip install 'gnothi[quantised]'"
        )
    from transformers import BitsAndBytesConfig

    if bits == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:  # NF4, as QLoRA does (arXiv:2305.14314)
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": config, "device_map": {"": device}}


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
