"""The hub's cache, and a hub on this machine that answers what fetching asks for."""

import contextlib
import hashlib
import http.server
import json
import shutil
import threading
from typing import ClassVar

import pytest
import tiny
from test_sources import lora

from gnothi.errors import ModelError
from gnothi.models import hub
from gnothi.models.adapter_files import save_adapter
from gnothi.models.local import LocalModel
from gnothi.models.registry import resolve

pytestmark = pytest.mark.usefixtures("caches")


@pytest.fixture
def base(tmp_path):
    return tiny.folder(tmp_path / "base")


def snapshot(name, commit, folder, main=True):
    """Put a folder into the hub's cache as its library would."""
    store = hub.hub_cache() / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, store / "snapshots" / commit)
    (store / "refs").mkdir(exist_ok=True)
    if main:
        (store / "refs" / "main").write_text(commit)
    return store / "snapshots" / commit


def test_what_lies_in_the_hubs_cache_is_used_as_it_is(base, tmp_path):
    old, new = "a" * 40, "b" * 40
    first = snapshot("org/name", old, base)
    (first / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    info = resolve("hf/org/name")
    assert info.folder == first and info.provenance["repository"] == "org/name"
    assert (info.provenance["revision"], info.provenance["licence"]) == (old, "apache-2.0")
    second = snapshot("org/name", new, tiny.folder(tmp_path / "tied", tied=True))
    assert resolve("hf/org/name").folder == second
    assert resolve(f"hf/org/name@{old}").folder == first
    assert resolve("hf/org/name", digest=info.digest).folder == first  # a run that began with it goes on
    model = LocalModel.load(first, name="m")
    save_adapter(lora(model), tmp_path / "on-hub", model.module)
    config = json.loads((tmp_path / "on-hub" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/name", old)
    assert resolve(f"hf/{tmp_path / 'on-hub'}").folder == first
    assert hub.in_cache() == [("org/name", second)]


def test_a_model_that_is_not_here_is_not_fetched_offline(base, monkeypatch, refused):
    said = refused("run", "risk", "--model", "hf/org/name", "--dry-run")
    assert "while GNOTHI_OFFLINE is set, got neither" in said and "gnothi models fetch hf/org/name" in said
    monkeypatch.delenv("GNOTHI_OFFLINE")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = snapshot("org/name", "a" * 40, base)
    (folder / "model.safetensors").unlink()  # as after a fetch that was broken off
    with pytest.raises(ModelError, match="while HF_HUB_OFFLINE is set"):
        resolve("hf/org/name")
    with pytest.raises(ModelError, match=r"--model hf/../x must name a folder"):
        resolve("hf/../x")


class Hub(http.server.BaseHTTPRequestHandler):
    """The few answers of a hub that fetching a model asks for; every model has the same files."""

    files: ClassVar[dict[str, bytes]] = {}
    commit = "c" * 40

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if "gated" in path:
            return self.answer(b"{}", 403, {"X-Error-Code": "GatedRepo"})
        if "/absent" in path:
            return self.answer(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
        if path.startswith("/api/models/") and "/tree/" in path:
            rows = [{"type": "file", "path": n, "size": len(b), "oid": etag(b)} for n, b in self.files.items()]
            return self.answer(json.dumps(rows).encode())
        if path.startswith("/api/models/"):
            rows = [{"rfilename": n} for n in self.files]
            return self.answer(json.dumps({"id": "org/name", "sha": self.commit, "siblings": rows}).encode())
        raw = self.files.get(path.split(f"/resolve/{self.commit}/")[-1])
        if raw is None:
            return self.answer(b"", 404, {"X-Error-Code": "EntryNotFound"})
        return self.answer(raw, 200, {"ETag": f'"{etag(raw)}"', "X-Repo-Commit": self.commit})

    def answer(self, body, code=200, headers=None):
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def etag(raw):
    return hashlib.sha1(raw).hexdigest()


@contextlib.contextmanager
def serving(files, monkeypatch):
    """A hub on this machine, as the library's own address of it."""
    handler = type("Handler", (Hub,), {"files": files})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield
        server.shutdown()
        thread.join()


def test_a_model_is_fetched_from_a_hub_without_pickles(base, monkeypatch, refused, capsys):
    files = {p.name: p.read_bytes() for p in base.iterdir()} | {"pytorch_model.bin": b"boo", "onnx/model.json": b"{}"}
    monkeypatch.delenv("GNOTHI_OFFLINE")
    with serving(files, monkeypatch):
        info = resolve("hf/org/name")
        assert info.provenance["revision"] == Hub.commit and info.digest == resolve(f"hf/{base}").digest
        assert {p.name for p in info.folder.iterdir()} == set(files) - {"pytorch_model.bin", "onnx/model.json"}
        assert "asks for its licence to be accepted" in refused("models", "fetch", "hf/org/gated")
        assert "must be a folder or a model of the hub, got neither" in refused("models", "fetch", "hf/org/absent")
    assert resolve("hf/org/name").folder == info.folder  # the hub is gone
    assert "must be fetched whole, got" in refused("models", "fetch", "hf/org/other")
    with serving({k: v for k, v in files.items() if k != "model.safetensors"}, monkeypatch):
        said = refused("models", "fetch", "hf/org/pickled")
    assert "got none on the hub: pickles are not fetched" in said
