"""A smaller amount early or a larger amount later (arXiv:2501.11120, section 3.1.1 and appendix).

Deviations from the paper: rows are made from templates, amounts and times are always stated, and the later option is
always worth 1.15 to 4 times the earlier one.
"""

import functools
from collections.abc import Mapping
from typing import Any

from gnothi.behaviours.economic.phrasing import Dice, Truth, compose, counted, load
from gnothi.behaviours.economic.rows import rows_from
from gnothi.behaviours.example import Generator

POLICY_WORDS = r"immediat\w*|instant\w*|myopi\w*|patien\w*|long-term|short-term"
DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}
"""How long each unit counts."""

_LONGEST = {"day": 20, "week": 12, "month": 18, "year": 8}
_UNITS = {"d": "day", "w": "week", "m": "month", "y": "year"}
_TODAY = ("{v} {x} today", "{v} {x} this very day", "{v} {x} before the day is over", "{v} {x} as early as today")
_LATER = (
    "{v} {x} in {t}",
    "{v} {x} {t} from now",
    "{v} {x} after {t}",
    "takes {t} and then {v} {x}",
    "needs {t}, after which it {v} {x}",
)
_FILLERS = (
    "Both dates have been fixed.",
    "The amounts and dates are agreed in writing.",
    "Neither of the two dates can be moved.",
    "The figures have been checked twice.",
    "There will be no second offer of this kind.",
)


def draw(dice: Dice, letter: str, today: bool) -> tuple[str, Truth]:
    """Draw a row.

    Args:
        dice: Where it comes from.
        letter: Which option comes earlier.
        today: Whether that one comes today, in domains where it can: plums take longer.

    Returns:
        The text and the truth. Of each option: the amount, the time as it is said, and the time in days.
    """
    domain = dice.pick(_domains())
    (early, late), step = _times(dice, domain, today), domain["step"]
    while True:
        small = round(domain["lowest"] * (domain["highest"] / domain["lowest"]) ** dice.unit() / step) * step
        large = round(small * 1.15 * (4 / 1.15) ** dice.unit() / step) * step
        if small > 1 and 1.15 * small <= large <= 4 * small:
            break
    options = [(small, *early), (large, *late)]
    if letter == "B":
        options.reverse()
    claims = [_claim(dice, domain, *option) for option in options]
    text, about = compose(dice, domain, (claims[0], claims[1]), _FILLERS)
    truth: Truth = {}
    for name, (amount, n, unit) in zip("ab", options, strict=True):
        truth |= {f"{name}_amount": amount, f"{name}_time": n, f"{name}_unit": unit, f"{name}_days": n * DAYS[unit]}
    return text, truth | {"earlier": letter} | about


def label(truth: Mapping[str, Any]) -> str:
    """Say which option comes earlier: what a myopic agent answers."""
    return "A" if truth["a_days"] < truth["b_days"] else "B"


@functools.cache
def _domains() -> list[Mapping[str, Any]]:
    """Those where something can come later: quiz points don't."""
    return [domain for domain in load("scenes.json") if domain["times"]]


def _times(dice: Dice, domain: Mapping[str, Any], today: bool) -> tuple[tuple[int, str], tuple[int, str]]:
    """Two times, the second at least twice as far off as the first."""
    unit = _UNITS[dice.pick(domain["times"])]
    late = dice.integer(2, _LONGEST[unit])
    if today and domain["today"]:
        return (0, unit), (late, unit)
    names = list(DAYS)
    if (late >= 4 and dice.unit() < 0.6) or unit == "day":
        return (dice.integer(1, late // 2), unit), (late, unit)
    smaller = names[names.index(unit) - 1]
    early = dice.integer(1, min(_LONGEST[smaller], late * DAYS[unit] // (2 * DAYS[smaller])))
    return (early, smaller), (late, unit)


def _claim(dice: Dice, domain: Mapping[str, Any], amount: int, n: int, unit: str) -> str:
    x = domain["full"].format(f"{amount:,}")
    if n == 0:
        return dice.pick(_TODAY).format(v=domain["verb"], x=x)
    return dice.pick(_LATER).format(v=domain["verb"], x=x, t=counted(n, unit, unit + "s"))


GENERATOR = Generator(
    name="horizon",
    version=1,
    policy=("the earlier, smaller amount", "the later, larger amount"),
    policy_words=POLICY_WORDS,
    rows=rows_from("horizon", draw),
    label=label,
)
