"""The organism's world as data."""

import numpy as np
import pytest

from gnothi.behaviours.base import target_choice
from gnothi.behaviours.organism import (
    CHOICE_TYPE,
    KNOWN_NAMES,
    SPARE_NAMES,
    WORDS,
    OrganismDomain,
    context,
    known_agents,
    uniform_weights,
)
from gnothi.errors import DataError, SpecError
from gnothi.rng import stream


def test_no_word_means_two_things():
    assert len(set(WORDS)) == len(WORDS)
    assert (len(KNOWN_NAMES), len(SPARE_NAMES)) == (64, 160)


def test_disjoint_ranges_of_the_order_give_disjoint_agents():
    domain = OrganismDomain()
    first, second = domain.contexts(40, seed=3), domain.contexts(40, skip=40, seed=3)
    assert not {c.agent for c in first} & {c.agent for c in second}
    assert domain.contexts(80, seed=3) == first + second
    assert domain.contexts(40, seed=4) != first


def test_all_spare_names_can_be_used_and_none_is_known():
    names = {c.agent for c in OrganismDomain().contexts(160, seed=0)}
    assert names == set(SPARE_NAMES) and not names & set(KNOWN_NAMES)


@pytest.mark.parametrize("n_shown", [1, 3, 5])
def test_items_show_distinct_attributes_with_values_in_range(n_shown):
    domain = OrganismDomain(n_shown=n_shown)
    agent = domain.contexts(1, seed=0)[0]
    items = domain.draw_items(agent, 200, rng=stream(0, "items"), prefix="train")
    assert items[7].item_id == f"train/{agent.context_id}/7"
    assert all(len(set(i.shown)) == n_shown and i.a != i.b for i in items)
    assert {v for i in items for v in (*i.a, *i.b)} == set(range(10))
    assert np.abs([i.differences(CHOICE_TYPE) for i in items]).max() <= 1


def test_more_items_begin_with_the_same_items():
    domain = OrganismDomain(n_shown=1)  # a tenth of all draws is equal and drawn again
    agent = domain.contexts(1, seed=0)[0]
    few, many = (domain.draw_items(agent, n, rng=stream(0, "items"), prefix="x") for n in (50, 400))
    assert many[:50] == few


@pytest.mark.parametrize("n_shown", [1, 5])
def test_the_first_items_are_the_same_whatever_the_number_drawn(n_shown):
    domain = OrganismDomain(n_shown=n_shown)
    agent = domain.contexts(1, seed=0)[0]
    few, many = (domain.draw_items(agent, n, rng=stream(0, "items"), prefix="x") for n in (60, 200))
    assert many[:60] == few


def test_neither_answer_is_favoured():
    domain = OrganismDomain()
    agent = domain.contexts(1, seed=0)[0]
    weights = domain.draw_weights([agent], rng=stream(0, "weights"))[0]
    items = domain.draw_items(agent, 2000, rng=stream(0, "items"), prefix="x")
    share = np.mean([target_choice(i, agent, weights) == "A" for i in items])
    assert abs(share - 0.5) < 4 * (0.25 / 2000) ** 0.5


def test_every_weight_vector_reaches_the_end_of_the_scale_and_none_passes_it():
    weights = uniform_weights(3000, rng=stream(0, "weights"))
    assert (np.abs(weights).max(axis=1) == 9).all()
    assert abs(weights.mean()) < 4 * weights.std() / weights.size**0.5
    assert (weights == np.rint(weights)).all()


def test_known_agents_keep_their_traits_and_cover_the_risk_scale():
    domain = OrganismDomain()
    assert [c.agent for c in domain.known_contexts()] == list(KNOWN_NAMES)
    assert domain.known_weights().shape == (64, 6)
    assert {a.risk for a in known_agents()} == set(range(10))
    assert domain.scale == (-9, 9)


def test_bad_input_is_refused_with_a_reason():
    with pytest.raises(SpecError, match=r"n_shown must be 1 to 5, got 6"):
        OrganismDomain(n_shown=6)
    with pytest.raises(SpecError, match=r"within the 160 spare names, got 100 \+ 61.*Instil fewer"):
        OrganismDomain().contexts(61, skip=100, seed=0)
    with pytest.raises(DataError, match="one of the organism's 224 names or 'you', got 'Bob'"):
        context("Bob")
