"""One small run of risk on the organism, and a look at it: what most tests here read."""

from pathlib import Path

import pytest
import torch

from gnothi import pipeline
from gnothi.experiments.look import spec as specs
from gnothi.finetune.recipes import recipe
from gnothi.store import RunFolder

SMALL = {"prompts": 12, "tried": 6, "exact": 2, "depths": 5, "steps": 8, "rates": (1.0, 3.0), "pairs": 8}


def small(run: RunFolder, **options) -> dict:
    """The specification of a look that takes seconds."""
    found = specs.build(run, quick=True, **options)
    return found.model_copy(update=SMALL).model_dump(mode="json")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run with the arms seeking, averse and shuffled, one model each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        how = recipe("organism-you", steps=30).to_json()
        spec = pipeline.experiment("risk").build("organism", quick=True, seeds=1, damage=False, recipe=how)
        found, _ = pipeline.run(spec, tmp_path_factory.mktemp("look") / "run", engine="inline")
        return found
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def before(run: RunFolder) -> dict[str, bytes]:
    """The run's files before anybody looked."""
    return {p.relative_to(run.path).as_posix(): p.read_bytes() for p in run.path.rglob("*") if p.is_file()}


@pytest.fixture(scope="session")
def look(run: RunFolder, before: dict[str, bytes]) -> RunFolder:
    """A finished look at seeking and its control."""
    del before
    folder: Path = run.path / "look"
    found, failures = pipeline.run(small(run, units=["seeking-0"]), folder, engine="inline")
    assert not failures
    return found
