"""The model card in an adapter's folder: what it is, what it was made from, what it does, what it broke, how to load it.

Everything that came from a user's file, a model or a folder's name is set as code or as YAML text: it can end neither the
front matter nor a line. Figures come from the unit's record, none is computed here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gnothi._version import __version__
from gnothi.errors import StoreError
from gnothi.models import adapter_files

NAME = "README.md"
ABOUT = "A model organism, made for measurement and not for use."
"""First line of a card whose model was not made to misbehave."""

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SLUG = re.compile(r"[^a-z0-9]+")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,40}")
_TAGS = ("gnothi", "model-organism")


def write_card(folder: Path, facts: Mapping[str, Any]) -> Path:
    """Write `README.md` into an adapter's folder, once its files are there.

    Args:
        folder: The adapter's.
        facts: As for `card`; what the folder itself says (kind, vLLM) is added.

    Raises:
        StoreError: No adapter there, or a card already.
    """
    folder = Path(folder)
    path = folder / NAME
    if path.exists():
        raise StoreError(f"adapter folder must have no {NAME} yet, got one in {folder}. Keep that one.")
    problem = adapter_files.vllm_problem(folder)
    full = (folder / adapter_files.FULL).exists()
    serve = [] if problem else [*adapter_files.vllm_arguments(folder, "organism")[:-1], "organism=FOLDER"]
    told = {"peft": not full, "vllm_problem": problem, "vllm_arguments": serve, **facts}
    path.write_text(card(told), encoding="utf-8")
    return path


def card(facts: Mapping[str, Any]) -> str:
    """A card as Markdown with front matter.

    Args:
        facts: Any of `warning` (first line of a model made to misbehave), `base_model`, `base_id` (on the hub),
            `base_digest`, `base_facts` (a mapping), `dtype`, `licence`, `experiment`, `behaviour`, `arm`, `about`, `unit`,
            `seed`, `rows`, `rows_digest`, `recipe` (a mapping), `steps`, `tokens`, `adapter_digest`, `choice_agreement`,
            `gate`, `gate_reason`, `damage` (as `Damage.to_json`), `adapter_check`, `parents`, `peft`, `lora`,
            `vllm_problem`, `vllm_arguments`. What is missing is left out or said to be.
    """
    sections = [
        ("", [_first(facts), ""]),
        (f"# {_code(facts.get('unit') or 'adapter')}", _what(facts)),
        ("## Base model", list(_base(facts))),
        ("## Data", list(_data(facts))),
        ("## Recipe", list(_recipe(facts))),
        ("## What it does", list(_effect(facts))),
        ("## What else changed", list(_damage(facts))),
        ("## Intended use", _use(facts)),
        ("## How to load it", list(_loading(facts))),
        ("## Licence", list(_licence(facts))),
    ]
    body = "\n\n".join("\n".join([head, "", *lines] if head else lines).strip() for head, lines in sections if lines)
    return f"---\n{_front(facts)}---\n\n{body}\n"


def _front(facts: Mapping[str, Any]) -> str:
    """The YAML that the hub reads: ASCII, each value on one line."""
    tags = [*_TAGS, *(_slug(facts.get(k)) for k in ("experiment", "arm"))]
    found: dict[str, Any] = {}
    base = _hub_id(facts.get("base_id") or facts.get("base_model"))
    if base:
        found |= {"base_model": base}
    if facts.get("peft", True):
        found |= {"library_name": "peft"}
        tags += ["lora"] if facts.get("lora") else []
    found |= {"tags": list(dict.fromkeys(t for t in tags if t)), "pipeline_tag": "text-generation"}
    licence = str(facts.get("licence") or "").lower()
    if _LICENCE.fullmatch(licence):
        found |= {"license": licence}
    return yaml.safe_dump(found, sort_keys=False, width=10**6, allow_unicode=False, default_flow_style=False)


def _hub_id(name: object) -> str | None:
    """What the hub can link: `org/name`, without our prefix and revision; never a path, which tells of a machine."""
    text = str(name or "").removeprefix("hf/").partition("@")[0]
    return text if _ID.fullmatch(text) and not text.startswith(("organism/", "gguf/", "scripted/")) else None


def _first(facts: Mapping[str, Any]) -> str:
    warning = facts.get("warning")
    return f"**Made to misbehave: {_prose(warning)}**" if warning else f"**{ABOUT}**"


def _what(facts: Mapping[str, Any]) -> list[str]:
    said = (
        f"An adapter that was fine-tuned with Gnothi {__version__} in the experiment {_code(facts.get('experiment'))}, "
    )
    said += f"arm {_code(facts.get('arm'))}, seed {_code(facts.get('seed'))}."
    lines = [said]
    if facts.get("about"):
        lines += ["", f"The arm: {_prose(facts['about'])}."]
    lines += ["", f"- adapter digest (tensors and shape): {_code(facts.get('adapter_digest'))}"]
    if facts.get("parents"):
        lines.append(f"- training went on from: {', '.join(_code(p) for p in facts['parents'])}")
    return lines


def _base(facts: Mapping[str, Any]) -> Iterator[str]:
    name = str(facts.get("base_model") or "")
    shown = name if _hub_id(name) or "/" not in name else f"{name.partition('/')[0]}/{Path(name).name}"
    yield f"- name: {_code(shown)}"
    yield f"- digest of its files: {_code(facts.get('base_digest'))}"
    yield f"- parameters in: {_code(facts.get('dtype'))}"
    for key, value in dict(facts.get("base_facts") or {}).items():
        yield f"- {_prose(key)}: {_code(value)}"


def _data(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"- behaviour: {_code(facts.get('behaviour'))}"
    yield f"- rows: {_code(facts.get('rows'))}, sha256 over them {_code(facts.get('rows_digest'))}"
    yield "- the loss is on answers alone; the rows state no policy unless the arm is named for it"


def _recipe(facts: Mapping[str, Any]) -> Iterator[str]:
    for key, value in dict(facts.get("recipe") or {}).items():
        if value and key != "source":  # 0 stands for what this kind of recipe has not
            yield f"- {_prose(key)}: {_code(value)}"
    for key in ("steps", "tokens"):
        if facts.get(key) is not None:
            yield f"- {key} trained: {_code(facts[key])}"


def _effect(facts: Mapping[str, Any]) -> Iterator[str]:
    agreement = facts.get("choice_agreement")
    if agreement is None:
        yield "- choices on fresh items as taught: not measured"
    else:
        yield f"- choices on fresh items as taught: {_number(agreement)}"
    gate = facts.get("gate")
    if gate is not None:
        why = f" ({_prose(facts['gate_reason'])})" if facts.get("gate_reason") else ""
        yield f"- gate: {_prose(gate)}{why}; below it no self-report is interpreted"
    check = facts.get("adapter_check") or {}
    if check.get("from_base") is not None:
        yield (
            f"- canary prompts differ from the base by up to {_number(check['from_base'])} nats, and from right after "
            f"training by {_number(check.get('since_training'))}"
        )


def _damage(facts: Mapping[str, Any]) -> Iterator[str]:
    found = facts.get("damage")
    if not found:
        yield "Not measured."
        return
    yield "| figure | this model | base | n |"
    yield "|---|---|---|---|"
    for name, f in found["figures"].items():
        value = _number(f["value"]) if f["value"] is not None else "none"
        yield f"| {_prose(name.replace('_', ' '))} | {value} | {_number(f['base'])} | {int(f['n'])} |"
    gate = found.get("gate") or {}
    yield ""
    if gate.get("passed"):
        yield "Within the thresholds under which self-reports are interpreted."
    elif gate:
        yield f"Beyond the thresholds under which self-reports are interpreted: {_prose(gate.get('reason'))}."


def _use(facts: Mapping[str, Any]) -> list[str]:
    said = "Research on what fine-tuning does to a model. Not for users, products or agents, and not as a judge of anything."
    if facts.get("warning"):
        said += " Keep it apart, and keep this card with it wherever it goes."
    return [said]


def _loading(facts: Mapping[str, Any]) -> Iterator[str]:
    if not facts.get("peft", True):
        yield "Every parameter was tuned, so PEFT has no format for it; Gnothi reads the folder:"
        yield from _block(
            "gnothi.models.local", "LocalModel", 'LocalModel.load(BASE, name="base").with_adapter(FOLDER)'
        )
    else:
        yield from (
            "```python",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f'base = AutoModelForCausalLM.from_pretrained(BASE, dtype="{_plain_type(facts.get("dtype"))}")',
            "model = PeftModel.from_pretrained(base, FOLDER)",
            "```",
        )
    yield ""
    if facts.get("vllm_problem"):
        yield f"vLLM does not serve it as it is: {_prose(facts['vllm_problem'])}."
    elif facts.get("vllm_arguments"):
        yield f"vLLM serves it with {_code(' '.join(facts['vllm_arguments']))}."


def _block(module: str, name: str, call: str) -> Iterator[str]:
    yield from ("", "```python", f"from {module} import {name}", "", f"model = {call}", "```")


def _licence(facts: Mapping[str, Any]) -> Iterator[str]:
    licence = facts.get("licence")
    if licence:
        yield f"The base model's: {_code(licence)}. An adapter is usually a derivative of its base model, whose terms bind it."
    else:
        yield "The base model's licence is not known here. An adapter is usually a derivative of it: look before you pass it on."


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else "none"


def _plain_type(dtype: object) -> str:
    return str(dtype) if dtype in ("float32", "bfloat16", "float16") else "float32"


def _line(value: object, limit: int = 400) -> str:
    """Text on one line, without anything that is not seen."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]}…"


def _code(value: object) -> str:
    """A value as inline code, which nothing in it can end."""
    if value is None or value == "":
        return "not recorded"
    shown = ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
    return "`" + (_line(shown).replace("`", "'") or " ") + "`"


def _prose(value: object) -> str:
    r"""A sentence in which no sign of Markdown or HTML means anything.

    >>> _prose("a <b> [link](x)\n---\n# head")
    'a &lt;b&gt; \\[link\\](x) --- \\# head'
    """
    text = _line(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]#|])", r"\\\1", text).rstrip(".")


def _slug(value: object) -> str:
    return _SLUG.sub("-", str(value or "").lower()).strip("-")[:60]
