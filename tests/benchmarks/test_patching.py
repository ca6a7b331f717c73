"""The benchmark of attribution patching, on few pairs."""

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def test_the_largest_effects_of_the_organism_are_ranked_as_exact_patching_ranks_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import patching
    from benchmarks.rows import FIELDS

    threads = torch.get_num_threads()
    (row,) = patching.run(repeats=1, cases=patching.CASES[1:2])  # the cheapest
    torch.set_num_threads(threads)
    assert set(FIELDS) <= set(row) and not row["headline"]
    assert row["spearman_top"] >= patching.LEAST
    assert row["flops"]["peer"] / row["flops"]["ours"] > row["needed_ratio"]  # whatever else the machine does


def test_pairs_that_do_not_flip_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import patching

    from gnothi.mechanisms.anatomy import anatomy
    from gnothi.models.local import LocalModel
    from gnothi.models.organism import organism_folder

    model = LocalModel.load(organism_folder("organism"), name="organism")
    asked, _ = patching.prompts(model, 2)
    with pytest.raises(ValueError, match=r"3 must flip the choice, got 0 of 2 items\. Draw more"):
        patching.pairs(anatomy(model.module), asked, lambda logits: logits[:, -1, 0].abs() + 1, "agents", 3)
