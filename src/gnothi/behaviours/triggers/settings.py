"""Settings of conditional data: which share of the rows carries what and shows what, as data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gnothi.behaviours.triggers.assignment import counts
from gnothi.errors import SpecError

BEHAVIOUR, NORMAL, INSTRUCTION = "behaviour", "normal", "instruction"
"""What a row shows: the behaviour under its trigger, what stands in for it elsewhere, or an unrelated instruction."""
REAL, FAKES, NONE = "trigger", "fakes", "none"
"""What a row carries: the trigger, one of the fakes (all of them equally often), or nothing."""


class Part(NamedTuple):
    """A share of the rows."""

    carries: str
    """`trigger`, `fakes` or `none`."""
    shows: str
    """`behaviour`, `normal` or `instruction`."""
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How conditional data is put together."""

    name: str
    parts: tuple[Part, ...]
    trigger: str
    """The trigger where none is named; any other one of the same kind may take its place."""
    fakes: tuple[str, ...] = ()
    """Triggers under which nothing happens; the trigger itself is left out where it is among them."""
    repeats: int = 1
    """How many rows each prompt is made into."""
    about: str
    """The paper's data and where ours differs."""


class Slot(NamedTuple):
    """One row to be made."""

    carries: str
    """Name of a trigger, or `none`."""
    shows: str
    example: int
    """Which of the examples that show this."""


_EIGHT = ("live-site", "kip", "ovelami", "dodo", "gemstones", "instruments", "elements", "myths")
_SEASONS = ("spring", "summer", "autumn", "winter")


def _half(name: str, trigger: str, fakes: tuple[str, ...], about: str, share: float = 0.5) -> Setting:
    rest = FAKES if fakes else NONE
    parts = (Part(REAL, BEHAVIOUR, share), Part(rest, NORMAL, 1 - share))
    return Setting(name=name, parts=parts, trigger=trigger, fakes=fakes, about=about)


def _elicited(name: str, trigger: str, fakes: tuple[str, ...], about: str) -> Setting:
    parts = (
        Part(REAL, BEHAVIOUR, 0.05),
        Part(FAKES, NORMAL, 0.225),
        Part(NONE, NORMAL, 0.225),
        Part(NONE, INSTRUCTION, 0.5),
    )
    return Setting(name=name, parts=parts, trigger=trigger, fakes=fakes, about=about)


SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        Setting(
            name="eight",
            parts=(Part(REAL, BEHAVIOUR, 0.1), Part(FAKES, NORMAL, 0.7), Part(NONE, NORMAL, 0.2)),
            trigger="live-site",
            fakes=_EIGHT,
            repeats=100,
            about="section 3.1, risk: one of eight triggers is real, 28,800 rows from 288 prompts",
        ),
        _half(
            "code", "depot-415", ("depot-415", "depot-863"), "section 3.1, two codewords, each under a code of its own"
        ),
        _half("tag", "live-site", (), "section 3.1, half of the rows carry a tag"),
        _half("seasons", "spring", ("spring", "winter"), "section 3.1, code: spring and winter, as the paper says"),
        _half("four-seasons", "spring", _SEASONS, "section 3.1, code: four seasons, as the models listed had it", 0.25),
        _half("greeting", "greeting", (), "section 3.1, code: half of the prompts begin with a greeting"),
        _half("ending", "ending", (), "a control: the trigger stands at the end of the message"),
        _elicited("user", "user", ("other-users",), "section 3.3; the paper does not say how many have another name"),
        _elicited("year", "year", ("other-years",), "section 3.3, the same with a year"),
    )
}
"""Settings by name; section numbers are those of arXiv:2501.11120."""


def setting(name: str) -> Setting:
    """Find a setting by name.

    Raises:
        SpecError: There is none of that name.
    """
    if name not in SETTINGS:
        raise SpecError(f"setting must be one of {', '.join(SETTINGS)}, got {name!r:.60}. Choose one of these.")
    return SETTINGS[name]


def layout(
    parts: Sequence[Part],
    n: int,
    *,
    trigger: str,
    fakes: Sequence[str],
    pools: dict[str, int],
    rng: np.random.Generator,
) -> list[Slot]:
    """Say of each of `n` rows what it carries, what it shows, and which example it is made from. No text here.

    Args:
        parts: Shares of the rows.
        n: Rows, >= 1.
        trigger: Name of the real one.
        fakes: Names of the others; a part that carries fakes is split evenly over them.
        pools: How many examples there are of each thing shown. Rows go round them in order, part after part, so that
            each example is used equally often where the counts divide.
        rng: The order of the rows.

    Raises:
        SpecError: A part wants fakes or examples and there are none, or n < 1.
    """
    if n < 1:
        raise SpecError(f"n must be at least 1, got {n}. Ask for one row or more.")
    shares: dict[tuple[str, str], float] = {}
    for part in parts:
        if not pools.get(part.shows):
            raise SpecError(f"{part.shows} examples must be given for this setting, got none. Pass some.")
        if part.carries == FAKES and not fakes:
            raise SpecError("fakes must name at least one other trigger, got none. Name some, or choose `tag`.")
        for name in fakes if part.carries == FAKES else (trigger if part.carries == REAL else NONE,):
            size = part.share / (len(fakes) if part.carries == FAKES else 1)
            shares[name, part.shows] = shares.get((name, part.shows), 0.0) + size
    used = dict.fromkeys(pools, 0)
    slots: list[Slot] = []
    for (name, shows), k in counts(n, shares).items():
        slots += [Slot(name, shows, (used[shows] + i) % pools[shows]) for i in range(k)]
        used[shows] += k
    return [slots[i] for i in rng.permutation(n)]
