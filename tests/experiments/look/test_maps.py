"""Maps of sites: what was planted in one block is there and nowhere before it, by estimate and exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.experiments.look import planted

from gnothi.experiments.look import maps
from gnothi.experiments.look.readout import Reader, undone
from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.metrics import logit_difference
from gnothi.mechanisms.patching import patch
from gnothi.mechanisms.sites import Site


@pytest.fixture(scope="module")
def local():
    torch.set_num_threads(1)
    return planted.organism()


@pytest.fixture(scope="module")
def pair(local):
    return planted.pair(local)


@pytest.fixture(scope="module")
def reader(local):
    return Reader(planted.prompts(local))


@pytest.fixture(scope="module")
def seen(pair, reader):
    return maps.crossed(pair, reader)


def test_a_readout_is_the_difference_of_two_logits_of_the_whole_forward_pass(pair, reader):
    prompt = reader.prompts[0]
    logits = pair.base(torch.tensor([prompt.ids])).logits[0, -1]
    assert reader.values(pair.base)[0] == pytest.approx(
        float(logits[prompt.tokens[0]] - logits[prompt.tokens[1]]), abs=1e-5
    )


def test_padding_changes_no_readout(local, pair):
    mixed = planted.prompts(local)
    longer = [replace(p, ids=p.ids[:1] * 3 + p.ids) for p in mixed[:4]]
    alone = np.array([Reader([p]).values(pair.base)[0] for p in (*mixed, *longer)])
    assert Reader([*mixed, *longer]).values(pair.base) == pytest.approx(alone, abs=1e-4)


def test_attribution_puts_the_planted_mlp_first_and_nothing_before_it(seen):
    shares = {s: seen.share(s, maps.INTO_TUNED) for s in seen.relative if s.kind in maps.WRITERS}
    assert maps.foremost(shares, 1) == [Site("mlp", 2)]
    assert all(shares[s] == pytest.approx(0, abs=1e-6) for s in shares if s.block < 2)


def test_exact_patching_takes_everything_back_from_the_planted_block_on(pair, reader, seen):
    streams = [Site("resid", i) for i in range(5)]
    found = maps.exchanged(pair, reader, [*streams, Site("mlp", 2)], maps.INTO_TUNED)
    shares = [undone(seen.gap, seen.tuned - found[s]) for s in streams]
    assert shares[:3] == pytest.approx([0, 0, 0], abs=1e-5)
    assert shares[3:] == pytest.approx([1, 1], abs=1e-4)
    assert undone(seen.gap, seen.tuned - found[Site("mlp", 2)]) == pytest.approx(1, abs=1e-4)


def test_the_other_direction_brings_the_change_into_the_base(pair, reader, seen):
    found = maps.exchanged(pair, reader, [Site("mlp", 2)], maps.INTO_BASE)
    assert undone(seen.gap, found[Site("mlp", 2)] - seen.base) == pytest.approx(1, abs=1e-4)


def test_exchanging_agrees_with_patching_of_one_model_from_another(pair, reader, seen):
    sites = [Site("attn", 3), Site("mlp", 3), Site("head", 3, 1)]
    ours = maps.exchanged(pair, reader, sites, maps.INTO_TUNED)
    ids, mask = reader.inputs(range(len(reader)))
    assert mask is None
    first, second = (torch.tensor([p.tokens[k] for p in reader.prompts]) for k in (0, 1))
    theirs = patch(
        pair.tuned, ids, ids, sites, logit_difference(first, second, -1), source=pair.base, by_position=False
    )
    for i, site in enumerate(sites):
        effect = theirs.effects[i].reshape(-1).double().numpy()
        assert ours[site] - seen.tuned == pytest.approx(effect, abs=1e-4)


def test_heads_of_a_block_and_its_mlp_add_up_to_what_the_streams_around_it_say(pair, reader):
    body = anatomy(pair.base)
    noisy = maps.crossed(planted.pair(planted.organism(), size=0.0, noise=1e-3), reader)
    heads = sum(noisy.share(Site("head", 1, h), maps.INTO_TUNED) for h in range(body.n_heads))
    assert np.isfinite(heads)
    last = noisy.share(Site("resid", body.n_blocks), maps.INTO_TUNED)
    assert last == pytest.approx(1, abs=0.05)  # a small change is linear


def test_between_items_the_last_stream_carries_the_whole_way(pair, reader, seen):
    signs = np.ones(len(reader))
    values = seen.tuned
    order = np.argsort(values)
    pairs = [(int(order[-1]), int(order[0])), (int(order[0]), int(order[-1]))]
    last = Site("resid", anatomy(pair.tuned).n_blocks)
    found = maps.patched_between(pair.tuned, reader, seen, "tuned", signs, pairs, [last, Site("resid", 0)])
    assert found[last] == pytest.approx(1, abs=1e-4)
    assert abs(found[Site("resid", 0)]) < 0.9  # the items differ elsewhere than in their last token


def test_no_change_has_no_shares():
    assert undone(np.zeros(4), np.ones(4)) is None
    assert undone(np.array([1.0, -2.0]), np.array([0.5, -1.0])) == 0.5
