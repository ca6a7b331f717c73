import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from gnothi.errors import GnothiError, ModelError, SpecError
from gnothi.models.organism import organism_folder, read_card
from gnothi.models.registry import ORGANISMS, SCRIPTS, check_device, folder_digest, resolve


def model_folder(path):
    path.mkdir()
    (path / "config.json").write_text("{}")
    save_file({"a": np.zeros(2, np.float32)}, path / "model.safetensors")
    (path / "tokenizer.json").write_text("{}")
    (path / "chat_template.jinja").write_text("t")
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("name", ORGANISMS)
def test_shipped_organisms_are_found_by_both_their_names(name):
    info = resolve(name)
    assert info.family == "organism" and info.folder == organism_folder(name) and info.name == name
    versions = {"organism": "organism/2", "organism-weak": "organism/1-weak"}
    versioned = versions.get(name, name)
    card = read_card(organism_folder(name))
    assert resolve(versioned).digest == info.digest == card["digest"] and card["name"] == versioned


def test_the_first_organism_is_what_it_was():
    assert resolve("organism/1").digest == "16abbf1134737bf17850ce4a931ae710aba280a591ce76a7f6755baef09c64f9"


def test_a_run_that_began_when_organism_meant_an_earlier_one_finds_it_again():
    earlier = resolve("organism/1")
    found = resolve("organism", digest=earlier.digest)
    assert (found.name, found.digest, found.folder) == ("organism", earlier.digest, earlier.folder)
    for digest in (None, "0" * 64, resolve("organism/2").digest):
        assert resolve("organism", digest=digest).digest == resolve("organism/2").digest
    assert resolve("organism/2", digest=earlier.digest).digest != earlier.digest


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_need_no_folder(script):
    info = resolve(f"scripted/{script}")
    assert (info.family, info.folder) == ("scripted", None) and len(info.digest) == 64


def test_folders_are_models_if_they_hold_config_and_safetensors(tmp_path):
    folder = model_folder(tmp_path / "m")
    assert resolve(f"hf/{folder}").family == "hf"
    with pytest.raises(ModelError, match=r"without organism.json. Use hf/"):
        resolve(f"organism/{folder}")
    (folder / "organism.json").write_text("{}")
    assert resolve(f"organism/{folder}").digest == resolve(f"hf/{folder}").digest


def test_the_digest_changes_with_what_decides_answers_and_with_nothing_else(tmp_path):
    folder = model_folder(tmp_path / "m")
    before = folder_digest(folder)
    assert folder_digest(shutil.copytree(folder, tmp_path / "copy")) == before
    for name in ("README.md", "organism.json", "optimizer.pt"):
        (folder / name).write_text("x")
        assert folder_digest(folder) == before
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "tokenizer_config.json"):
        old = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_text('{"changed": 1}')
        assert folder_digest(folder) != before
        (folder / name).unlink() if old is None else (folder / name).write_bytes(old)
    assert folder_digest(folder) == before
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert folder_digest(folder) != before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: shutil.rmtree(f), "which does not exist. Give a path"),
        (lambda f: (f / "config.json").unlink(), "must hold config.json, got none"),
        (lambda f: (f / "config.json").write_text("{"), "config.json that parses"),
        (lambda f: (f / "model.safetensors").unlink(), r"must hold \*.safetensors, got none"),
        (lambda f: (f / "model.safetensors").rename(f / "m.bin"), r"got pickled parameters only \(m.bin\).*not opened"),
        (
            lambda f: (f / "model.safetensors").rename(f / "m.safetensors"),
            "must hold model.safetensors or .*got m.safe",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 9), "must be whole, got model.safetensors .* header"),
        (lambda f: cut(f / "model.safetensors"), r"must be whole, got \d+ of \d+ bytes of model.safetensors"),
        (lambda f: (f / "tokenizer.json").unlink(), "must hold a tokenizer, got no tokenizer.json"),
        (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "must map parameters to files"),
        (
            lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b.safetensors"}}'),
            "must have all of its files, got no b.safetensors",
        ),
    ],
)
def test_a_folder_that_cannot_be_opened_is_refused_with_what_is_wrong(tmp_path, spoil, said):
    folder = model_folder(tmp_path / "m")
    spoil(folder)
    with pytest.raises(ModelError, match=said):
        resolve(f"hf/{folder}")


def test_a_folder_needs_no_kind_before_it_where_its_name_can_be_no_other(tmp_path, monkeypatch):
    folder = model_folder(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    assert resolve(str(folder)).family == "hf"
    assert resolve("./m").digest == resolve("hf/m").digest
    with pytest.raises(SpecError, match="--model must be organism"):
        resolve("m")


def test_the_page_learns_how_a_model_is_spoken_to(tmp_path):
    folder = model_folder(tmp_path / "m")
    assert resolve(f"hf/{folder}").provenance == {"renderer": "template"}
    (folder / "chat_template.jinja").write_text("{% if enable_thinking %}<think>{% endif %}")
    assert resolve(f"hf/{folder}").provenance == {"renderer": "template", "thinking": "off"}
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text('{"chat_template": [{"name": "default", "template": "{{ x }}"}]}')
    assert resolve(f"hf/{folder}").provenance == {"renderer": "template"}
    (folder / "tokenizer_config.json").unlink()
    assert resolve(f"hf/{folder}").provenance == {"renderer": "plain/1"}


def test_code_counts_where_the_configuration_names_it(tmp_path):
    folder = model_folder(tmp_path / "m")
    before = folder_digest(folder)
    (folder / "modeling.py").write_text("x = 1")
    assert folder_digest(folder) == before
    (folder / "config.json").write_text('{"auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}')
    named = folder_digest(folder)
    (folder / "modeling.py").write_text("x = 2")
    assert folder_digest(folder) != named


def test_the_cpu_is_always_here_and_other_devices_are_asked_for():
    check_device("cpu")
    with pytest.raises(SpecError, match="device must be one that torch has here, got 'warp'"):
        check_device("warp")


@pytest.mark.parametrize(
    "name", ["", "gpt-9", "hf/", "hf", "organism/", "scripted", "scripted/", "openai/x", "a\0b", "hf/\ud800"]
)
def test_other_names_are_refused_with_those_that_there_are(name):
    with pytest.raises(SpecError, match="--model"):
        resolve(name)


def test_an_organism_that_is_not_shipped_is_named(tmp_path):
    with pytest.raises(ModelError, match="give its folder as organism/<folder>"):
        organism_folder("organism/3")
    (tmp_path / "organism.json").write_text("{")
    with pytest.raises(GnothiError, match="must be a JSON file written by organism training"):
        read_card(tmp_path)
    (tmp_path / "organism.json").write_text(json.dumps({"name": "x"}))
    assert read_card(tmp_path) == {"name": "x"}
