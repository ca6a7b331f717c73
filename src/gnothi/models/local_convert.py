"""A GGUF file as an ordinary folder: dequantised once by transformers' loader, written as safetensors in float32.

The loader passes over what it does not know. So what it left out is looked for here and refused: parameters without a
value, tensors without a place, and positions stretched in a way that it does not read. Without these checks such a file
would open as another model. Gnothi's own names for models are not known here.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from gnothi.errors import ModelError
from gnothi.models.local_files import quiet

Step = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and what comes next."""

STEPS = 4
_VOLATILE = ("transformers_version", "_name_or_path", "_from_model_config")
_LOST = ("missing_keys", "mismatched_keys")
_SPARE = r"rope_freqs\.weight|rope_factors_(long|short)\.weight"
_TEXT = 80


def convert(path: Path, folder: Path, *, step: Step | None = None) -> dict[str, Any]:
    """Write a GGUF file's model and tokenizer into a folder, in float32.

    What is written depends on the file and on how transformers reads it, and on no path or version number.

    Args:
        path: The GGUF file.
        folder: A new or empty folder; made if missing.
        step: Told what is done.

    Returns:
        What the file says of itself: architecture, name, file type (as Q4_K_M) and licence, each None where unsaid.

    Raises:
        ModelError: The package `gguf` is missing; a file that is cut off or no GGUF file; an architecture that transformers
            does not read; anything in the file that the loader would drop without a word.
    """
    step = step or (lambda done, total, text: None)
    step(0, STEPS, "reading the file")
    reader, facts = _header(path)
    with _read_once(reader), quiet(warnings=False):
        step(1, STEPS, "dequantising")
        module = _module(path, reader)
        step(2, STEPS, "making the tokenizer")
        tokenizer = _tokenizer(path)
    step(3, STEPS, "writing")
    with quiet():
        module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        _settle(folder / name)
    step(STEPS, STEPS, "")
    return facts


def _header(path: Path) -> tuple[Any, dict[str, Any]]:
    """A reader of the file, and what the file says of itself."""
    try:
        from gguf import GGUFReader, LlamaFileType
    except ImportError as error:
        raise ModelError(
            f"package gguf must be installed to read {path.name}, got none. Run: pip install 'gnothi[gguf]'"
        ) from error
    try:
        reader = GGUFReader(path)
        said = {k: reader.get_field(f"general.{k}") for k in ("architecture", "name", "license", "file_type")}
        found = {k: None if field is None else field.contents() for k, field in said.items()}
    except Exception as error:  # the reader trusts the file: a cut or foreign one raises whatever numpy or struct raise
        raise ModelError(
            f"GGUF file must be whole, got one that cannot be read: {path} ({type(error).__name__}: {error!s:.200}). "
            "Fetch or copy it again."
        ) from error
    kind = found.pop("file_type")
    facts = {k: None if v is None else _plain(v) for k, v in found.items()}
    known = {int(t): t.name.removeprefix("MOSTLY_") for t in LlamaFileType}
    facts["file_type"] = None if kind is None else known.get(int(kind), f"type {kind}")
    return reader, facts


def _said(reader: Any, ending: str) -> Any:
    """The value of the one key that ends so, behind the architecture's name; None where there is none."""
    found = [field.contents() for key, field in reader.fields.items() if key.partition(".")[2] == ending]
    return found[0] if found else None


@contextlib.contextmanager
def _read_once(reader: Any) -> Iterator[None]:
    """Let transformers use this reader, without its bar: it makes three, and one takes seconds for a large vocabulary."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils as loader

    with contextlib.ExitStack() as stack:
        for owner, name, instead in (
            (gguf, "GGUFReader", lambda *_: reader),
            (loader, "tqdm", lambda items, **_: items),
        ):
            if hasattr(owner, name):
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, instead)
        yield


def _plain(value: Any) -> str:
    return "".join(c for c in str(value) if c.isprintable())[:_TEXT]


def _module(path: Path, reader: Any) -> Any:
    from transformers import AutoModelForCausalLM

    spare = [t.name for t in reader.tensors if re.fullmatch(_SPARE, t.name)]
    if spare or _said(reader, "rope.scaling.type") not in (None, "none"):
        # Llama 3.1 and later, Phi 3 with long context, Gemma 3 from 4B on: the loader would leave it out
        raise ModelError(
            f"GGUF file must have plain rotary positions, got scaled ones in {path.name}, which transformers' loader "
            "leaves out. Use the model's own safetensors: hf/<id>."
        )
    try:
        opened: Any = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are listed below
            local_files_only=True,
            trust_remote_code=False,
            **_dequantised(),
        )
    except Exception as error:  # as for the header: the loader trusts the file
        raise ModelError(
            f"GGUF file must be one that transformers reads, got {type(error).__name__} from {path.name}: {error!s:.300}. "
            "Use the model's own safetensors: hf/<id>."
        ) from error
    module, info = opened
    absent = sorted({str(k[0] if isinstance(k, tuple) else k) for w in _LOST for k in info.get(w, ())})
    if absent:
        raise ModelError(
            f"GGUF file must give every parameter its value, got none that fits {absent[:3]} ({len(absent)} in all) in "
            f"{path.name}. Use the model's own safetensors: hf/<id>."
        )
    held, stated = sum(p.numel() for p in module.parameters()), sum(int(t.n_elements) for t in reader.tensors)
    if held != stated:
        raise ModelError(
            f"GGUF file must have a place for every number, got {stated} in {path.name} of which transformers' model takes "
            f"{held}. Use the model's own safetensors: hf/<id>."
        )
    _mend(module.config, reader)
    return _fresh(module)


def _mend(config: Any, reader: Any) -> None:
    """What the loader fills in with one checkpoint's defaults though the file, or llama.cpp's rule, says otherwise.

    Source: llama.cpp scales Gemma's queries by the head's width, and in the 27B models by width over heads.
    """
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if (value := _said(reader, key)) is not None and hasattr(config, key):
            setattr(config, key, float(value))
    if hasattr(config, "query_pre_attn_scalar"):
        largest = (config.model_type, config.num_hidden_layers) in (("gemma2", 46), ("gemma3_text", 62))
        width = config.hidden_size // config.num_attention_heads if largest else config.head_dim
        config.query_pre_attn_scalar = width


def _dequantised() -> dict[str, Any]:
    """Newer loaders keep some architectures packed unless they are told not to; older ones know no such setting."""
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _fresh(module: Any) -> Any:
    """The same parameters in a model that was not read from GGUF, which `save_pretrained` would refuse."""
    config = module.config
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, name):
            delattr(config, name)
    with torch.device("meta"):  # no second copy of the parameters, and no time spent on drawing them
        fresh = type(module)(config)
    fresh.load_state_dict({k: v.to(torch.float32) for k, v in module.state_dict().items()}, assign=True)
    fresh.tie_weights()
    return fresh


def _tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise ModelError(
            f"GGUF file must hold a tokenizer that transformers reads, got {type(error).__name__} from {path.name}: "
            f"{error!s:.300}. Use the model's own safetensors: hf/<id>."
        ) from error


def _settle(path: Path) -> None:
    """Take out of a JSON file what differs between versions and machines, so that its digest does not."""
    if not path.is_file():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    for name in (*_VOLATILE, "is_local", "local_files_only", "gguf_file", "name_or_path"):
        found.pop(name, None)
    path.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
