"""Power by seeds: what the noncentral t says, what Fisher's z says, and the page that quotes it."""

import re
from pathlib import Path

import numpy as np
import pytest

from gnothi.errors import SpecError
from gnothi.experiments.power import EFFECTS, UNITS, power, power_of_correlation, units_needed

PAGE = Path(__file__).parents[2] / "docs" / "how-many-seeds.md"


def exact(effect: float, units: int) -> float:
    """Power of Student's t in closed form; the effect in sds of the difference."""
    from scipy import stats

    limit, centre = stats.t.ppf(0.975, units - 1), effect * np.sqrt(units)
    found = stats.ncf.sf(limit**2, 1, units - 1, centre**2) if effect else 0.05
    assert 0 <= found <= 1
    return float(found)


def tables() -> list[list[list[float]]]:
    """The numbers of the page's tables, row by row."""
    found, rows = [], []
    for line in [*PAGE.read_text(encoding="utf-8").splitlines(), ""]:
        if re.match(r"\| [\d.]+ \|", line):
            rows.append([float(cell) for cell in line.strip("| ").split("|")])
        elif rows and not line.startswith("|"):
            found.append(rows)
            rows = []
    return found


@pytest.mark.parametrize("units, effect", [(3, 2.0), (5, 0.0), (5, 1.5), (10, 1.0)])
def test_power_is_that_of_the_noncentral_t(units: int, effect: float):
    assert power(effect, 0.3 / 0.3, units, n_simulations=2000) == pytest.approx(exact(effect, units), abs=0.035)
    ours = power(effect * 0.2, 0.2, units, against="arm", shared=0.75, n_simulations=2000)
    assert ours == pytest.approx(exact(effect / np.sqrt(0.5), units), abs=0.035)


@pytest.mark.parametrize("table, scale", [(0, 1.0), (1, np.sqrt(2)), (2, 1.0)])
def test_the_page_s_differences_are_exact_to_three_points(table: int, scale: float):
    rows = tables()[table]
    assert [row[0] for row in rows] == list(EFFECTS)
    want = [[100 * exact(effect / scale, n) for n in UNITS] for effect in EFFECTS]
    assert np.abs(np.array(rows)[:, 1:] - np.array(want)).max() < 3


def test_the_page_s_correlations_are_those_of_this_code():
    rows = tables()[5]
    assert rows[3][0] == 0.7
    assert 100 * power_of_correlation(0.7, 10, n_simulations=1000) == pytest.approx(rows[3][3], abs=4)


def test_welch_gains_on_pairing_where_seeds_share_nothing_and_is_right_where_nothing_is_there():
    from scipy import stats

    common = {"n_simulations": 2000}
    assert power(2, 1, 5, against="arm, unpaired", **common) > power(2, 1, 5, against="arm", **common) + 0.05
    assert power(0, 1, 5, against="arm, unpaired", **common) == pytest.approx(0.045, abs=0.02)
    a, b = np.random.default_rng(0).standard_normal((2, 400, 5))
    theirs = stats.ttest_ind(a + 1, b, axis=1, equal_var=False).pvalue < 0.05
    from gnothi.experiments.power import _welch

    assert (_welch(a + 1, b, 0.95) == theirs).all()


def test_noise_of_asking_weakens_a_correlation_as_the_product_says():
    noisy = power_of_correlation(0.8, 15, reliability=0.5, n_simulations=1500)
    assert noisy == pytest.approx(power_of_correlation(0.4, 15, n_simulations=1500), abs=1e-9)
    assert power_of_correlation(0.0, 15, n_simulations=2000) == pytest.approx(0.05, abs=0.02)
    half = 1.96 / np.sqrt(30 - 3)
    from scipy.stats import norm

    fisher = norm.sf((half - np.arctanh(0.5)) * np.sqrt(27))
    assert power_of_correlation(0.5, 30, n_simulations=2000) == pytest.approx(fisher, abs=0.04)


def test_units_needed_is_the_first_that_suffices():
    assert units_needed(lambda n: 1 - 1 / n) == 5
    assert units_needed(lambda n: 0.9) == 3
    assert units_needed(lambda n: n / 1000) is None
    assert units_needed(lambda n: n / 100, most=100) == 80
    assert exact(2.0, 5) > 0.8 > exact(2.0, 4)
    assert units_needed(lambda n: power(2.0, 1.0, n, n_simulations=2000)) == 5


def test_the_same_seed_simulates_the_same_experiments():
    assert power(1, 1, 5, n_simulations=300) == power(1, 1, 5, n_simulations=300)
    assert power(1, 1, 5, n_simulations=300) != power(1, 1, 5, n_simulations=300, seed=1)


def test_what_makes_no_sense_is_refused():
    for wrong in ({"units": 2}, {"level": 1.0}, {"n_simulations": 0}):
        with pytest.raises(SpecError, match="units must be >= 3, n_simulations >= 1 and level in"):
            power(1.0, 1.0, **{"units": 5, **wrong})
    with pytest.raises(SpecError, match=r"sd must be > 0 and effect finite, got 0\.0"):
        power(1.0, 0.0, 5)
    with pytest.raises(SpecError, match="sd must be > 0 and effect finite"):
        power(float("nan"), 1.0, 5)
    with pytest.raises(SpecError, match=r"shared must be in \[0, 1\), got 1"):
        power(1.0, 1.0, 5, against="arm", shared=1)
    with pytest.raises(SpecError, match="against must be 'one model', 'arm' or 'arm, unpaired', got 'x'"):
        power(1.0, 1.0, 5, against="x")  # pyright: ignore[reportArgumentType]
    with pytest.raises(SpecError, match="units must be >= 4"):
        power_of_correlation(0.5, 3)
    with pytest.raises(SpecError, match=r"r must be in \(-1, 1\) and reliability in \(0, 1\], got 1 and 1"):
        power_of_correlation(1, 5)
    with pytest.raises(SpecError, match="reliability in"):
        power_of_correlation(0.5, 5, reliability=0)
