import shutil

import pytest

from gnothi.errors import StoreError
from gnothi.housekeeping import known_models, list_runs, remove_run, size_of
from gnothi.models.registry import ORGANISMS, SCRIPTS
from gnothi.records import Estimate
from gnothi.store import RunFolder


def estimate(name="a.b", arm="tuned", value=0.5, **more):
    fields = {"low": 0.1, "high": 0.9, "n": 3, "n_points": 9, "method": "t"} | more
    return Estimate(name=name, arm=arm, value=value, **fields)


@pytest.fixture
def runs(tmp_path):
    """Three runs, one damaged, and things that are none."""
    folder = tmp_path / "runs"
    first = RunFolder.create(folder / "first", {"experiment": "preferences", "model": "organism"})
    first.finish(
        [estimate(), estimate(arm="untuned", value=None, low=None, high=None, reason="no units")], {"failed": []}
    )
    RunFolder.create(folder / "second", {"experiment": "preferences", "model": "organism"})
    RunFolder.create(folder / "third", {"experiment": "preferences"})
    RunFolder.create(folder / "fourth", {"experiment": "preferences"})
    (folder / "fourth" / "spec.json").write_text("{")
    (folder / "notes").mkdir()
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "file").write_text("x")
    return folder


def test_runs_are_listed_with_their_state_and_size(runs):
    rows = {row["run"].rsplit("/", 1)[1]: row for row in list_runs(runs)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "first": "finished",
        "second": "unfinished",
        "third": "damaged",
        "fourth": "damaged",
    }
    assert rows["first"]["model"] == "organism" and rows["first"]["MB"] == round(size_of(runs / "first") / 1e6, 1)
    with pytest.raises(StoreError, match=r"must hold runs, got .*which does not exist"):
        list_runs(runs / "nowhere")


def test_only_runs_are_removed(runs):
    remove_run(runs / "first")
    assert not (runs / "first").exists()
    (runs / "link").symlink_to(runs / "second")
    for path, said in (("link", "must be a folder and not a link"), ("notes", "without spec.json"), ("x", "not exist")):
        with pytest.raises(StoreError, match=said):
            remove_run(runs / path)
    assert (runs / "second" / "spec.json").exists() and (runs / "notes").exists()


def test_every_model_that_can_be_named_is_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("GNOTHI_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    names = [row["model"] for row in known_models()]
    kinds = {"organism/<folder>", "hf/<folder or id>", "gguf/<file>", *(f"scripted/{s}" for s in SCRIPTS)}
    assert {*ORGANISMS, "gemma-3-270m", *kinds} == set(names)
    assert all(row["licence"] and row["where"] for row in known_models())


def test_a_run_that_cannot_be_removed_whole_is_said(runs, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(StoreError, match=r"must be removable, got Permission denied.*Remove it yourself"):
        remove_run(runs / "first")
