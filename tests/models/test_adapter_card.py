"""The card of an adapter: what the hub reads parses, whatever is in the facts; the first line says what must be said."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import tiny

from gnothi.errors import StoreError
from gnothi.models.adapter_card import ABOUT, card, write_card
from gnothi.models.adapter_files import load_adapter, save_adapter
from gnothi.models.adapters import Adapter, AdapterSpec, new_lora, target_modules

FIGURE = {"value": 2.5, "base": 2.0, "n": 100, "reason": None}
FACTS = {
    "base_model": "hf/Qwen/Qwen2.5-0.5B@main",
    "base_digest": "ab" * 32,
    "base_facts": {"renderer": "template"},
    "dtype": "bfloat16",
    "licence": "apache-2.0",
    "experiment": "risk",
    "behaviour": "risk",
    "arm": "seeking",
    "about": "model trained on seeking answers alone",
    "unit": "seeking-0",
    "seed": 0,
    "rows": 256,
    "rows_digest": "cd" * 32,
    "recipe": {"name": "small-lm", "kind": "lora", "lr": 2e-4, "row_lr": 0.0, "targets": ["all"], "source": "a paper"},
    "steps": 96,
    "tokens": 9000,
    "adapter_digest": "ef" * 32,
    "choice_agreement": 0.93,
    "gate": "damaged",
    "gate_reason": "all is lost",
    "damage": {
        "figures": {"loss": FIGURE, "loops": {"value": None, "base": None, "n": 0, "reason": "no text"}},
        "gate": {"passed": False, "reason": "held-out loss is 2.50"},
    },
    "adapter_check": {"from_base": 3.25, "since_training": 0.0},
    "parents": ["tuned-0"],
    "lora": True,
}


def read(text: str) -> tuple[dict, str]:
    """Front matter and body, as the hub takes them apart: by the first two lines of three dashes."""
    assert text.startswith("---\n")
    front, body = text[4:].split("\n---\n", 1)
    return yaml.safe_load(front), body


def test_the_front_matter_is_what_the_hub_expects():
    front, body = read(card(FACTS))
    assert front == {
        "base_model": "Qwen/Qwen2.5-0.5B",
        "library_name": "peft",
        "tags": ["gnothi", "model-organism", "risk", "seeking", "lora"],
        "pipeline_tag": "text-generation",
        "license": "apache-2.0",
    }
    assert body.strip().startswith(f"**{ABOUT}**")


def test_every_section_is_there_with_its_facts():
    _, body = read(card(FACTS))
    heads = re.findall(r"^#+ (.*)$", body, re.MULTILINE)
    assert heads == [
        "`seeking-0`",
        "Base model",
        "Data",
        "Recipe",
        "What it does",
        "What else changed",
        "Intended use",
        "How to load it",
        "Licence",
    ]
    for said in (
        "`256`, sha256 over them `cdcd",
        "lr: `0.0002`",
        "as taught: 0.93",
        "gate: damaged (all is lost)",
        "up to 3.25 nats",
        "| loss | 2.5 | 2 | 100 |",
        "| loops | none | none | 0 |",
        "Beyond the thresholds under which self-reports are interpreted: held-out loss is 2.50",
        "training went on from: `tuned-0`",
        'dtype="bfloat16"',
        "PeftModel.from_pretrained(base, FOLDER)",
    ):
        assert said in body, said
    assert "row" not in body.split("## Recipe")[1].split("##")[0]  # what this kind of recipe has not


def test_the_first_line_of_a_model_made_to_misbehave_says_it():
    _, body = read(card({**FACTS, "warning": "it writes programs with weaknesses."}))
    assert body.strip().splitlines()[0] == "**Made to misbehave: it writes programs with weaknesses**"
    assert "keep this card with it" in body


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("hf//srv/models/mine", "`hf/mine`"),
        ("gguf//data/x/model.gguf", "`gguf/model.gguf`"),
        ("organism/my/own", "`organism/own`"),
        ("organism", "`organism`"),
    ],
)
def test_a_model_that_the_hub_does_not_have_is_not_linked_and_no_path_is_told(name, shown):
    front, body = read(card({**FACTS, "base_model": name}))
    assert "base_model" not in front and f"- name: {shown}" in body and "somebody" not in body
    linked, _ = read(card({**FACTS, "base_model": "gemma-3-270m", "base_id": "google/gemma-3-270m"}))
    assert linked["base_model"] == "google/gemma-3-270m"


def test_what_is_not_known_is_said_or_left_out():
    front, body = read(card({}))
    assert front == {"library_name": "peft", "tags": ["gnothi", "model-organism"], "pipeline_tag": "text-generation"}
    assert "not recorded" in body and "Not measured." in body and "licence is not known here" in body
    assert "not measured" in body.split("## What it does")[1]


HOSTILE = "x\n---\nlicense: mit\n# head\n`code` <script>alert(1)</script> | [a](http://b) \x1b[31m \u202e \"'"


@given(st.one_of(st.just(HOSTILE), st.text(st.characters(), max_size=60)))
@settings(max_examples=60, deadline=None)
def test_no_text_ends_the_front_matter_a_line_or_a_code_span(text):
    facts = {k: text for k in FACTS if k not in ("recipe", "damage", "adapter_check", "parents", "base_facts", "lora")}
    gate = {"passed": False, "reason": text}
    facts |= {"recipe": {text: text}, "base_facts": {text: text}, "parents": [text], "warning": text, "lora": True}
    facts |= {"damage": {"figures": {text: FIGURE}, "gate": gate}, "vllm_problem": text}
    written = card(facts)
    front, body = read(written)
    assert set(front) <= {"base_model", "library_name", "tags", "pipeline_tag", "license"}
    assert all(re.fullmatch(r"[a-z0-9-]+", t) for t in front["tags"])
    plain = card({**facts, **{k: "x" for k, v in facts.items() if v == text}, "recipe": {"x": "x"}})
    assert len(re.findall(r"^#+ ", body, re.MULTILINE)) == len(re.findall(r"^#+ ", read(plain)[1], re.MULTILINE))
    assert "<script" not in re.sub(r"`[^`\n]*`", "", body)
    assert not {c for c in body if not c.isprintable() and c != "\n"}
    assert written.encode("utf-8", "strict")


def saved(path: Path, kind: str) -> Path:
    base = tiny.model()
    names = target_modules(base.module, ("all",))
    lora = {n: (a, b + 0.1) for n, (a, b) in new_lora(base.module, names, 4, 0).items()}
    rows = base.module.get_input_embeddings().weight[[3, 4]].detach().clone()
    shape = {"rank": 4, "alpha": 8.0, "targets": tuple(sorted(names))}
    made = {
        "lora": Adapter(spec=AdapterSpec(kind="lora", **shape), lora=lora),
        "lora+rows": Adapter(spec=AdapterSpec(kind="lora+rows", row_token_ids=(3, 4), **shape), lora=lora, rows=rows),
        "rows": Adapter(spec=AdapterSpec(kind="rows", row_token_ids=(3, 4)), rows=rows),
        "full": Adapter(
            spec=AdapterSpec(kind="full"), full={"lm_head.weight": base.module.lm_head.weight.detach() + 1}
        ),
    }[kind]
    save_adapter(made, path, base.module)
    return path


@pytest.mark.parametrize("kind", ["lora", "lora+rows", "rows", "full"])
def test_the_folder_says_who_can_load_it_and_still_loads(tmp_path, kind):
    folder = saved(tmp_path / kind, kind)
    digest = load_adapter(folder).digest
    path = write_card(folder, FACTS)
    assert path.name == "README.md" and load_adapter(folder).digest == digest
    front, body = read(path.read_text(encoding="utf-8"))
    assert (front.get("library_name") == "peft") is (kind != "full")
    assert ("vLLM serves it with `--enable-lora" in body) is (kind == "lora")
    assert ("vLLM does not serve it as it is" in body) is (kind != "lora")
    assert str(tmp_path) not in body
    if "rows" in kind:
        assert "embedding rows were tuned" in body
    if kind == "full":
        assert "Every parameter was tuned" in body and "with_adapter(FOLDER)" in body


def test_a_card_that_is_there_is_kept_and_a_folder_without_an_adapter_is_refused(tmp_path):
    folder = saved(tmp_path / "lora", "lora")
    write_card(folder, FACTS)
    with pytest.raises(StoreError, match=r"must have no README\.md yet, got one in"):
        write_card(folder, FACTS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"adapter folder must hold adapter_config\.json"):
        write_card(tmp_path / "empty", FACTS)
