"""GGUF files opened: exactly the model that was written, once, and nothing that the loader would drop."""

import shutil
import sys

import numpy as np
import pytest
import torch
from gguf_files import write_gguf

from gnothi.errors import ModelError, StoreError
from gnothi.models.local import LocalModel
from gnothi.models.model_cache import cache_folder
from gnothi.models.registry import resolve
from gnothi.models.sources import find

pytestmark = pytest.mark.usefixtures("caches")

TEXT = "Which option  do you\nchoose? A or B, 42 or 7."


@pytest.mark.parametrize("family", ["llama", "llama-tied", "qwen2", "gemma2", "gemma3"])
def test_a_gguf_file_opens_as_the_model_that_was_written(family, tmp_path):
    module, tokenizer = write_gguf(tmp_path / "m.gguf", family)
    info = resolve(f"gguf/{tmp_path}/m.gguf")
    model = LocalModel.load(info.folder, name=info.name)
    ids = tokenizer(TEXT)["input_ids"]
    assert model.tokenizer(TEXT)["input_ids"] == ids
    with torch.inference_mode():
        assert torch.equal(model.module(torch.tensor([ids])).logits, module(torch.tensor([ids])).logits)
    assert (model.codec.renderer, model.digest, info.family) == ("template", info.digest, "hf")
    assert info.provenance["about"] == "dequantised from GGUF (ALL_F32)" and info.provenance["licence"] == "apache-2.0"


def test_a_quantised_file_opens_as_its_rounded_numbers(tmp_path):
    gguf = pytest.importorskip("gguf")
    module, tokenizer = write_gguf(tmp_path / "m.gguf", quantised=True)
    kind = gguf.GGMLQuantizationType.Q8_0
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 2 and parameter.shape[1] % 32 == 0:
                rounded = gguf.quants.dequantize(gguf.quants.quantize(parameter.numpy(), kind), kind)
                assert 0 < np.abs(rounded - parameter.numpy()).max() < 0.1
                parameter.copy_(torch.from_numpy(rounded))
    info = resolve(f"gguf/{tmp_path}/m.gguf")
    assert info.provenance["about"] == "dequantised from GGUF (Q8_0)"
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    with torch.inference_mode():
        theirs = LocalModel.load(info.folder, name="m").module(ids).logits
        assert (theirs - module(ids).logits).abs().max() < 1e-5


def test_a_file_is_converted_once_and_found_by_what_is_in_it(tmp_path):
    write_gguf(tmp_path / "m.gguf")
    steps = []
    first = find(f"gguf/{tmp_path}/m.gguf", step=lambda done, total, text: steps.append((done, total, text)))
    assert [s[0] for s in steps] == [0, 1, 2, 3, 4] and steps[1][2] == "dequantising"
    shutil.copy(tmp_path / "m.gguf", tmp_path / "copy.gguf")
    again = find(f"gguf/{tmp_path}/copy.gguf", step=lambda *_: pytest.fail("converted again"))
    assert again.folder == first.folder == cache_folder() / f"gguf-{first.facts['sha256'][:16]}"
    assert [p.name for p in cache_folder().iterdir()] == [first.folder.name]  # nothing half-made is left
    write_gguf(tmp_path / "m.gguf", "qwen2")
    assert find(f"gguf/{tmp_path}/m.gguf").folder != first.folder


def test_what_was_converted_is_the_same_whatever_the_file_is_called(tmp_path, monkeypatch):
    write_gguf(tmp_path / "m.gguf")
    before = resolve(f"gguf/{tmp_path}/m.gguf").digest
    monkeypatch.setenv("GNOTHI_CACHE", str(tmp_path / "other"))
    (tmp_path / "m.gguf").rename(tmp_path / "n.gguf")
    assert resolve(f"gguf/{tmp_path}/n.gguf").digest == before


def test_a_converted_model_that_was_altered_is_refused(tmp_path, refused):
    write_gguf(tmp_path / "m.gguf")
    path = find(f"gguf/{tmp_path}/m.gguf").folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(
        StoreError, match=r"model.safetensors must be as it was when it was made \(sha256 \w{12}\), got"
    ):
        resolve(f"gguf/{tmp_path}/m.gguf")
    assert "models fetch gguf/" in refused("models", "fetch", f"gguf/{tmp_path}/m.gguf")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"leave_out": ("blk.1.ffn_up.weight",)},
            r"got none that fits \['model.layers.1.mlp.up_proj.weight'\] \(1 in all",
        ),
        ({"more": {"llama.rope.scaling.type": "yarn"}}, "must have plain rotary positions, got scaled ones in m.gguf"),
        ({"extra": {"blk.0.attn_q.bias": np.ones(32, np.float32)}}, r"a place for every number, got \d+ in m.gguf"),
        ({"extra": {"rope_freqs.weight": np.ones(4, np.float32)}}, "must have plain rotary positions"),
        ({"architecture": "clip"}, "must be one that transformers reads, got .* from m.gguf"),
    ],
)
def test_what_the_loader_would_leave_out_is_refused(options, said, tmp_path):
    write_gguf(tmp_path / "m.gguf", **options)
    with pytest.raises(ModelError, match=said):
        resolve(f"gguf/{tmp_path}/m.gguf")
    assert not list(cache_folder().glob("*")) and not list(cache_folder().glob(".*"))


def test_a_gguf_file_that_is_cut_off_or_none_is_refused(tmp_path, refused):
    write_gguf(tmp_path / "m.gguf")
    raw = (tmp_path / "m.gguf").read_bytes()
    for share in (0.1, 0.6, 0.999):
        (tmp_path / "m.gguf").write_bytes(raw[: int(share * len(raw))])
        with pytest.raises(ModelError, match=r"GGUF file must be whole, got one that cannot be read: .*m.gguf"):
            resolve(f"gguf/{tmp_path}/m.gguf")
    assert "must be whole" in refused("run", "risk", "--model", f"gguf/{tmp_path}/m.gguf", "--dry-run")
    (tmp_path / "m.gguf").write_bytes(b"PK\3\4 and more")
    with pytest.raises(ModelError, match=r"must be a GGUF file, got one that begins with b'PK\\x03\\x04'"):
        resolve(f"gguf/{tmp_path}/m.gguf")
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(raw)
    with pytest.raises(ModelError, match="must be one file, got a part of several"):
        resolve(f"gguf/{tmp_path}/m-00001-of-00002.gguf")


def test_reading_gguf_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    write_gguf(tmp_path / "m.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=r"package gguf must be installed .*pip install 'gnothi\[gguf\]'"):
        resolve(f"gguf/{tmp_path}/m.gguf")
