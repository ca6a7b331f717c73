"""The packaged Gemma: its licence, its digest, and the folder that it becomes; on a package built like its own."""

import hashlib
import importlib.util
import json
import shutil
import sys

import pytest
import torch
from gguf_files import write_gguf

from gnothi.cli import main
from gnothi.errors import ModelError
from gnothi.models import gemma
from gnothi.models.local import LocalModel
from gnothi.models.model_cache import cache_folder
from gnothi.models.registry import resolve
from gnothi.models.sources import gemma_folder

pytestmark = pytest.mark.usefixtures("caches")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that is built like Gemma's, around a small GGUF file."""
    write_gguf(tmp_path / "whole.gguf", "gemma3")
    raw = (tmp_path / "whole.gguf").read_bytes()
    site = tmp_path / "site"
    module = site / "small_gemma_gguf"
    (module / "data").mkdir(parents=True)
    for i in range(3):
        (module / "data" / f"part{i}").write_bytes(raw[i * len(raw) // 3 : (i + 1) * len(raw) // 3])
    (module / "data" / "NOTICE.md").write_text("# NOTICE\n\nA notice.\n")
    (module / "data" / "GEMMA_TERMS.html").write_text("<p>terms</p>")
    (module / "__init__.py").write_text(
        "from pathlib import Path\n\ndef chunk_paths():\n"
        "    return [Path(__file__).parent / 'data' / f'part{i}' for i in range(3)]\n"
    )
    (site / "small_gemma_gguf-1.0.0.dist-info").mkdir()
    (site / "small_gemma_gguf-1.0.0.dist-info" / "METADATA").write_text("Name: small-gemma-gguf\nVersion: 1.0.0\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(gemma, "MODULE", "small_gemma_gguf")
    monkeypatch.setattr(gemma, "PACKAGE", "small-gemma-gguf")
    monkeypatch.setattr(gemma, "SHA256", hashlib.sha256(raw).hexdigest())
    monkeypatch.setattr(gemma, "BYTES", len(raw))
    yield module
    sys.modules.pop("small_gemma_gguf", None)


def test_gemma_is_fetched_after_its_licence_was_accepted_and_then_found(package, refused, capsys, monkeypatch):
    assert "must be fetched first, since its licence asks" in refused("run", "risk", "--model", "gemma-3-270m")
    said = refused("models", "fetch", "gemma-3-270m")
    assert "A notice." in said and str(package / "data" / "GEMMA_TERMS.html") in said
    assert "must be told that the licence is accepted" in said and "add --yes" in said
    assert not gemma.is_fetched()
    monkeypatch.setattr(sys, "argv", ["gnothi", "models", "fetch", "gemma-3-270m", "--yes"])
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr()
    assert not end.value.code and "accept them" in captured.err and "fetching: 10/10" in captured.err
    found = json.loads(captured.out)
    assert found["about"] == "dequantised Q4_K_M, base model" and found["sha256"] == gemma.SHA256
    info = resolve("gemma-3-270m", step=lambda *_: pytest.fail("made again"))
    assert info.digest == found["digest"] and info.folder == gemma_folder()
    assert {"package", "version", "licence", "renderer"} <= info.provenance.keys() and "model" not in info.provenance
    shutil.rmtree(info.folder)
    assert resolve("gemma-3-270m").digest == info.digest  # accepted once, it is made again without a question
    (info.folder / "gnothi_source.json").unlink()
    before = info.folder.stat().st_ino
    assert gemma_folder().stat().st_ino != before  # a folder that states no source is made again


def test_the_environment_can_accept_the_licence(package, monkeypatch):
    with pytest.raises(ModelError, match="Run: gnothi models fetch gemma-3-270m"):
        gemma_folder()
    monkeypatch.setenv(gemma.ACCEPT, "1")
    assert (gemma_folder() / "model.safetensors").is_file()


def test_a_package_that_is_not_what_was_published_is_refused(package, monkeypatch, refused):
    monkeypatch.setenv(gemma.ACCEPT, "1")
    (package / "data" / "part2").write_bytes(b"x" * 10)
    said = refused("models", "fetch", "gemma-3-270m")
    assert f"must have sha256 {gemma.SHA256[:12]}…, got" in said and "Install the package again" in said
    (package / "data" / "part2").unlink()
    assert "must have all of its pieces, got no part2" in refused("models", "fetch", "gemma-3-270m")
    assert not list(cache_folder().glob("*gemma*")) and not list(cache_folder().glob(".*"))
    monkeypatch.setattr(gemma, "VERSION", "1.0.1")
    assert "must be of version 1.0.1, got 1.0.0" in refused("models", "fetch", "gemma-3-270m")


def test_without_the_package_the_line_that_installs_it_is_said(monkeypatch, refused):
    monkeypatch.setattr(gemma, "MODULE", "no_such_package_gguf")
    for words in (("models", "fetch", "gemma-3-270m", "--yes"), ("run", "risk", "--model", "gemma-3-270m")):
        assert "installed, got none. Run: pip install 'gnothi[gemma]'" in refused(*words)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec(gemma.MODULE) is None, reason=f"needs {gemma.PACKAGE}")
def test_gemma_writes_english_and_has_its_own_tokens(monkeypatch):
    monkeypatch.delenv("GNOTHI_CACHE")
    monkeypatch.setenv(gemma.ACCEPT, "1")
    info = resolve("gemma-3-270m")
    model = LocalModel.load(info.folder, name=info.name)
    assert model.tokenizer(" A or B")["input_ids"] == [2, 562, 653, 603]
    assert (model.codec.renderer, sum(p.numel() for p in model.module.parameters())) == ("plain/1", 268_098_176)
    ids = torch.tensor([model.tokenizer("The capital of France is")["input_ids"]])
    out = model.module.generate(ids, max_new_tokens=8, do_sample=False)
    assert model.tokenizer.decode(out[0, ids.shape[1] :]).startswith(" the capital of the country")
