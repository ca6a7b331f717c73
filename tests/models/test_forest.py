"""Trees of tokens: whoever lies in a row sees its own beginning and nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import FAMILIES, family

from gnothi.models.forest import as_forest, batches_of, rows_of, shared_share
from gnothi.models.local_forward import forest_logits, row_width, style

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple), min_size=1, max_size=14)


@settings(max_examples=150, deadline=None)
@given(SEQUENCES, st.integers(0, 30), st.integers(1, 60), st.data())
def test_a_token_sees_its_beginning_alone(sequences, width, budget, data):
    owners = data.draw(st.lists(st.integers(0, 1), min_size=len(sequences), max_size=len(sequences)))
    rows = rows_of(sequences, width=width, owners=owners)
    found = []
    for batch in batches_of(rows, tokens=budget):
        forest = as_forest(batch)
        assert len(batch) == 1 or forest.ids.numel() <= budget
        seen = forest.mask()
        assert seen.any(-1).all()  # padding sees itself, so that no softmax is over nothing
        for i, row, path in forest.members:
            found.append(i)
            assert forest.owners[row] == owners[i]
            assert tuple(forest.ids[row, path].tolist()) == sequences[i]
            assert forest.depths[row, path].tolist() == list(range(len(path)))
            for depth, place in enumerate(path):
                assert seen[row, 0, place].nonzero()[:, 0].tolist() == path[: depth + 1].tolist()
    assert sorted(found) == list(range(len(sequences)))


@settings(max_examples=100, deadline=None)
@given(SEQUENCES)
def test_nothing_is_held_twice_in_a_wide_row(sequences):
    (row,) = rows_of(sequences, width=10**6)
    beginnings = {s[:n] for s in sequences for n in range(1, len(s) + 1)}
    assert len(row.ids) == len(beginnings)
    total = sum(map(len, sequences))
    assert shared_share(sequences) == pytest.approx(1 - len(beginnings) / total)


def test_a_window_counts_depth_and_not_place():
    (row,) = rows_of([(1, 2, 3, 4), (1, 2, 5)], width=99)
    forest = as_forest([row])
    assert forest.mask(2)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 1, 0, 0, 1],
    ]


def test_wanted_places_bound_a_row_and_a_batch():
    sequences = [(1, 2, i) for i in range(10)]
    rows = rows_of(sequences, width=99, keeps=[2] * 10, most_wanted=4)
    assert [len(r.members) for r in rows] == [2] * 5
    assert [len(b) for b in batches_of(rows, tokens=99, most_wanted=8)] == [2, 2, 1]


@pytest.mark.parametrize("name", FAMILIES)
def test_trees_give_what_single_sequences_give(name):
    model = family(name)
    module = model.module
    rng = np.random.default_rng(0)
    vocabulary = min(150, module.config.vocab_size)
    header = tuple(rng.integers(3, vocabulary, 12).tolist())
    sequences = [(*header, *rng.integers(3, vocabulary, n).tolist()) for n in (1, 5, 9, 14)] + [(4, 5, 6)]
    assert style(module) in ("tensor", "mapping") and row_width(module) >= 64
    with torch.inference_mode():
        (batch,) = batches_of(rows_of(sequences, width=200), tokens=999)
        forest = as_forest(batch)
        assert forest.ends is not None and forest.ids.numel() < sum(map(len, sequences))
        last = {i: (row, path[-1]) for i, row, path in forest.members}
        rows = torch.tensor([last[i][0] for i in range(5)])
        places = torch.tensor([last[i][1] for i in range(5)])
        found = forest_logits(module, forest, rows, places)
        for i, sequence in enumerate(sequences):
            alone = module(input_ids=torch.tensor([sequence])).logits[0, -1]
            spread = float(alone.max() - alone.min())
            assert spread > 0.1
            assert float((found[i] - alone).abs().max()) < 1e-4 * spread
