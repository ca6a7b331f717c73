"""Caches of a test's own, no network, and the command line in this process."""

import sys

import pytest

from gnothi.cli import main
from gnothi.models import gemma


@pytest.fixture
def caches(tmp_path_factory, monkeypatch):
    """Caches of the test's own, and no network."""
    above = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("GNOTHI_CACHE", str(above / "ours"))
    monkeypatch.setenv("HF_HUB_CACHE", str(above / "hub"))
    monkeypatch.setenv("GNOTHI_OFFLINE", "1")
    monkeypatch.delenv(gemma.ACCEPT, raising=False)
    return above


@pytest.fixture
def refused(capsys, monkeypatch):
    """Runs a command that must end with exit code 2; gives what it said."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["gnothi", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        return capsys.readouterr().err

    return call
