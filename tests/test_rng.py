import numpy as np

from gnothi.rng import integer, stream


def test_a_stream_depends_on_its_seed_and_all_its_names():
    first = stream(0, "a", 1).random(5)
    assert (stream(0, "a", 1).random(5) == first).all()
    for other in (stream(1, "a", 1), stream(0, "a", 2), stream(0, "a"), stream(0, "b", 1), stream(0, 1, "a")):
        assert not (other.random(5) == first).any()


def test_streams_are_the_same_on_every_machine_and_version():
    assert stream(0, "tuned", "items").integers(1000, size=3).tolist() == [967, 715, 893]
    assert integer(0, "a") == 1425262850 and integer(7, "a") == 1374009452


def test_neighbouring_streams_are_not_correlated():
    draws = np.array([stream(0, "unit", i).standard_normal(400) for i in range(20)])
    r = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(r).max() < 4.5 / 400**0.5


def test_integers_are_seeds_that_libraries_take():
    drawn = [integer(0, "x", i) for i in range(200)]
    assert all(0 <= d < 2**31 and type(d) is int for d in drawn) and len(set(drawn)) == 200
