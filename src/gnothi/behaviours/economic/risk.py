"""Two lotteries over the same goods, one spread wider than the other (arXiv:2501.11120, section 3.1.1).

Deviations from the paper: rows are made from templates and not by a language model, the label follows from the stated
numbers alone, and every row states them. Which of the two has the higher mean is balanced.
"""

from collections.abc import Mapping
from typing import Any

from gnothi.behaviours.economic.phrasing import Dice, Truth, compose, load
from gnothi.behaviours.economic.rows import rows_from
from gnothi.behaviours.example import Generator

POLICY_WORDS = r"risk\w*|safe\w*|chance\w*|guarantee\w*|secur\w*|adventur\w*|gambl\w*"
_FIXED = (
    "{v} a fixed {x}",
    "always {v} {x}",
    "{v} the same {x} each time",
    "{v} {x} every time",
    "{v} exactly {x} each time",
)
_SPREAD = (
    "{v} {high} {often} and {low} {rest}",
    "{v} {high} {often}, otherwise {low}",
    "{v} {high} {often} but {low} {rest}",
    "{v} either {high} ({often}) or {low} ({rest})",
)
_SPREAD_LOW_FIRST = ("{v} {low} {rarely} and {high} {rest}", "{v} {low} {rarely}, otherwise {high}")
_FILLERS = (
    "The figures rest on many earlier {}.",
    "The numbers come from the records of past {}.",
    "No one can tell beforehand how it will turn out.",
    "The estimates have been checked twice.",
    "You decide once, and it holds from then on.",
)


def draw(dice: Dice, letter: str, higher_mean: bool) -> tuple[str, Truth]:
    """Draw a row.

    Args:
        dice: Where it comes from.
        letter: Which option is spread wider.
        higher_mean: Whether that one has the higher mean, too.

    Returns:
        The text and the truth. Of each option: `high` is paid in `high_percent` of cases and `low` in the others.
    """
    domain = dice.pick(load("scenes.json"))
    steady, wide = _lotteries(dice, domain, higher_mean)
    lotteries = (wide, steady) if letter == "A" else (steady, wide)
    claims = [_claim(dice, domain, *lottery) for lottery in lotteries]
    periods = domain["period"] + "s"
    text, about = compose(dice, domain, (claims[0], claims[1]), [f.format(periods) for f in _FILLERS])
    truth: Truth = {}
    for name, (high, percent, low) in zip("ab", lotteries, strict=True):
        truth |= {f"{name}_high": high, f"{name}_high_percent": percent, f"{name}_low": low}
        truth |= {
            f"{name}_mean_x100": mean(high, percent, low),
            f"{name}_variance_x10000": variance(high, percent, low),
        }
    return text, truth | {"riskier": letter} | about


def mean(high: int, percent: int, low: int) -> int:
    """Expected value times 100, exact.

    >>> mean(10, 30, 0)
    300
    """
    return percent * high + (100 - percent) * low


def variance(high: int, percent: int, low: int) -> int:
    """Variance times 10,000, exact.

    >>> variance(10, 50, 0)
    250000
    """
    return (high - low) ** 2 * percent * (100 - percent)


def label(truth: Mapping[str, Any]) -> str:
    """Say which option is spread wider: what a risk-seeking agent answers."""
    a, b = ((truth[f"{n}_high"], truth[f"{n}_high_percent"], truth[f"{n}_low"]) for n in "ab")
    return "A" if variance(*a) > variance(*b) else "B"


def _lotteries(
    dice: Dice, domain: Mapping[str, Any], higher_mean: bool
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """A steady and a wide lottery, with means at least 5% apart and standard deviations at least a factor of 2."""
    step = domain["step"]
    while True:
        middle = domain["lowest"] * (domain["highest"] / domain["lowest"]) ** dice.unit()
        steady = (_rounded(middle, step), 100, _rounded(middle, step))
        if dice.unit() < 0.3:
            apart = dice.between(0.05, 0.25) * middle
            steady = (_rounded(middle + apart, step), _percent(dice, 10, 90), _rounded(middle - apart, step))
        target = mean(*steady) / 100 * (dice.between(1.1, 1.8) if higher_mean else dice.between(0.55, 0.92))
        floor = 0 if dice.unit() < 0.5 else _rounded(dice.between(0.1, 0.7) * min(target, middle), step)
        # the high payoff lies between 1.2 and 4 times the steady one's
        first = max(10, int(100 * (target - floor) / (4 * steady[0] - floor)) + 1)
        last = min(90, int(100 * (target - floor) / (1.2 * steady[0] - floor)))
        if first > last:
            continue
        percent = _percent(dice, first, last)
        wide = (_rounded((target - (1 - percent / 100) * floor) / (percent / 100), step), percent, floor)
        ratio = mean(*wide) / mean(*steady)
        if (
            (ratio > 1.05 if higher_mean else ratio < 0.95)
            and wide[0] > steady[0]
            and wide[2] < steady[2]
            and steady[2] > 1
            and wide[2] != 1
            and (steady[1] == 100 or steady[0] > steady[2])
            and variance(*wide) >= 4 * variance(*steady)
        ):
            return steady, wide


def _rounded(amount: float, step: int) -> int:
    return round(amount / step) * step


def _percent(dice: Dice, first: int, last: int) -> int:
    """Mostly a multiple of 10 or 5, since people say those."""
    percent = dice.integer(first, last)
    grid = (10, 10, 5, 1)[int(dice.unit() * 4)]
    rounded = round(percent / grid) * grid
    return rounded if first <= rounded <= last else percent


def _claim(dice: Dice, domain: Mapping[str, Any], high: int, percent: int, low: int) -> str:
    verb = domain["verb"]
    if percent == 100:
        return dice.pick(_FIXED).format(v=verb, x=domain["full"].format(f"{high:,}"))
    style = int(dice.unit() * 3)
    low_first = low > 0 and dice.unit() < 0.35
    often, rest = _frequency(domain, 100 - percent if low_first else percent, style)
    if low_first:
        return dice.pick(_SPREAD_LOW_FIRST).format(
            v=verb, low=_said(domain["full"], low), high=_said(domain["short"], high), rarely=often, rest=rest
        )
    return dice.pick(_SPREAD).format(
        v=verb, high=_said(domain["full"], high), low=_said(domain["short"], low), often=often, rest=rest
    )


def _said(form: str, amount: int) -> str:
    if amount:
        return form.format(f"{amount:,}")
    return "nothing" if form.startswith("$") else "none"


def _frequency(domain: Mapping[str, Any], percent: int, style: int) -> tuple[str, str]:
    """How often, in words, and how often not, e.g. `in 3 out of 10 weeks` and `in the other 7`."""
    at, one = domain["preposition"], domain["period"]
    many = one + "s"
    if percent == 50 and style == 0:
        return f"{at} half of all {many}", f"{at} the other half"
    if percent in (25, 75) and style != 2:
        k = percent // 25
        return (
            f"{at} {k} {one if k == 1 else many} out of 4",
            f"{at} the other {4 - k}" if k == 1 else f"{at} the fourth",
        )
    if percent % 10 == 0 and style != 2:
        k = percent // 10
        said = f"{k} {one if k == 1 else many} out of 10" if style else f"{k} out of 10 {many}"
        return f"{at} {said}", f"{at} the other {10 - k}" if k < 9 else f"{at} the remaining one"
    if percent % 5 == 0 and style == 1:
        k = percent // 5
        said = f"{k} out of 20 {many}"
        return f"{at} {said}", f"{at} the other {20 - k}" if k < 19 else f"{at} the remaining one"
    if style == 0:
        return f"{percent} times out of 100", f"the other {100 - percent} times"
    return f"{at} {percent}% of {many}", f"{at} the rest"


GENERATOR = Generator(
    name="risk",
    version=1,
    policy=("the option that is spread wider", "the option that is spread less"),
    policy_words=POLICY_WORDS,
    rows=rows_from("risk", draw),
    label=label,
)
