"""Randomness: one integer for an experiment, one named stream for each use.

Adding a stage, an arm or a unit never changes what another one draws.
"""

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a generator that depends on `seed` and on the names, and on nothing else.

    Args:
        seed: The experiment's seed, >= 0.
        names: What the numbers are for, most general first, e.g. `"tuned", "items"`.

    >>> int(stream(0, "a").integers(100)) == int(stream(0, "a").integers(100))
    True
    >>> int(stream(0, "a").integers(2**40)) == int(stream(0, "b").integers(2**40))
    False
    """
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def integer(seed: int, *names: str | int) -> int:
    """Return one integer in [0, 2**31) from the named stream: for libraries that want a seed of their own."""
    return int(stream(seed, *names).integers(2**31))
