"""The tutorial runs from top to bottom, and is kept without its outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "tutorial.ipynb"


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_no_outputs_are_kept(notebook: nbformat.NotebookNode):
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert not any(c.outputs or c.execution_count for c in code)


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own
def test_every_cell_runs_and_shows_what_the_text_says(
    notebook: nbformat.NotebookNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(NOTEBOOK.parent))
    outputs = [c.outputs for c in notebook.cells if c.cell_type == "code"]
    assert any("'passed'" in str(o) or " passed " in str(o) for o in outputs)
    assert any("image/png" in str(o) for o in outputs)
    tuned, base = (float(v) for v in re.findall(r"value=(-?[\d.]+)", str(outputs[-1])))
    assert tuned > 0.6 > 0.35 > abs(base)
