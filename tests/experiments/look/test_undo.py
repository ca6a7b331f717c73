"""Undoing units: the planted row is found among thousands, everything undone is the base, nothing is left changed."""

import numpy as np
import pytest
import torch
from tests.experiments.look import planted

from gnothi.experiments.look import undo
from gnothi.experiments.look.readout import Reader


@pytest.fixture(scope="module")
def local():
    torch.set_num_threads(1)
    return planted.organism()


@pytest.fixture(scope="module")
def found(local):
    """A row planted in noise on every matrix, and its scores on half of the items."""
    pair = planted.pair(local, noise=0.006)
    every = planted.prompts(local)
    half, rest = Reader(every[::2]), Reader(every[1::2])
    base, tuned = half.values(pair.base), half.values(pair.tuned)
    return (
        pair,
        undo.scored(pair, half, tuned - base),
        (half, base, tuned),
        (rest, rest.values(pair.base), rest.values(pair.tuned)),
    )


def test_the_planted_row_comes_first_and_undoes_most_on_other_items(found):
    pair, units, choosing, shown = found
    order = np.argsort(-units.scores, kind="stable")
    assert units.n > 1000 and units.places(order[:1].tolist()) == {planted.PLACE: 1}
    drawn = np.random.default_rng(0).permutation(units.n)
    rows = undo.curve(pair, units, {"found": order, "random": drawn}, [1, 16], {"choosing": choosing, "shown": shown})
    share = {(r["order"], r["k"], r["items"]): r["share"] for r in rows}
    assert share["found", 1, "shown"] > 0.5
    assert abs(share["random", 16, "shown"]) < 0.2
    assert undo.enough(rows, items="choosing", order="found") == 1


def test_undoing_every_unit_is_the_base(found):
    pair, units, _, (reader, base, _) = found
    with units.taken_back(pair, range(units.n)) as module:
        assert np.array_equal(reader.values(module), base)


def test_the_tuned_model_is_as_before_bit_for_bit(found):
    pair, units, _, (reader, _, tuned) = found
    kept = {name: p.data.clone() for name, p in pair.tuned.named_parameters()}
    with units.taken_back(pair, [0, 5, units.n - 1]):
        pass
    assert all(torch.equal(kept[name], p.data) for name, p in pair.tuned.named_parameters())
    assert not any(p.requires_grad or p.grad is not None for p in pair.tuned.parameters())
    assert np.array_equal(reader.values(pair.tuned), tuned)


def test_scores_add_up_to_the_change_where_it_is_small(local):
    pair = planted.pair(local, size=0.01)
    reader = Reader(planted.prompts(local))
    gap = reader.values(pair.tuned) - reader.values(pair.base)
    assert undo.scored(pair, reader, gap).scores.sum() == pytest.approx(1, abs=0.05)


def test_enough_is_none_where_no_number_of_units_is():
    rows = [{"order": "found", "k": k, "items": "choosing", "share": 0.1} for k in (1, 4)]
    assert undo.enough(rows, items="choosing", order="found") is None


def test_one_unit_is_tried_once():
    assert undo.counts(1) == [1]
    assert undo.counts(2) == [1, 2]
