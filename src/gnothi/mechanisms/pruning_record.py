"""What pruning found, as plain values: curves over the number of units removed, and the units by place. No torch here."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gnothi.errors import DataError
from gnothi.mechanisms.unit import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneCurve:
    """One model pruned in one order."""

    who: str
    """`tuned`, `untouched` or `never_had_it`."""
    how: str
    """`gradient`, `again`, `leave_one_out`, or a control: `largest`, `smallest`, `random`."""
    draw: int = 0
    """Of the random order."""
    counts: tuple[int, ...]
    """Numbers of units removed, from 0; fewer than asked for where fewer units differ from what is written into them."""
    choose: tuple[float, ...]
    """What K is chosen by, at each count."""
    show: Mapping[str, tuple[float, ...]]
    """What is reported, at each count, by name, on other data."""
    units: tuple[Unit, ...]
    """In the order of their removal."""

    def __post_init__(self) -> None:
        lengths = {len(self.counts), len(self.choose), *(len(values) for values in self.show.values())}
        if len(lengths) != 1 or not self.counts or self.counts[0] != 0:
            raise DataError(f"PruneCurve must have a value at each count from 0 on, got lengths {sorted(lengths)}.")
        if not all(math.isfinite(x) for values in (self.choose, *self.show.values()) for x in values):
            raise DataError(f"PruneCurve {self.who}/{self.how} must have finite values, got one that is not.")

    @property
    def chosen(self) -> int:
        """K: the smallest count whose `choose` is best. 0 where removing nothing is."""
        return self.counts[self.choose.index(max(self.choose))]

    def at(self, name: str, k: int | None = None) -> float:
        """What is reported at the chosen K, or at another count.

        Raises:
            DataError: A name or count that was not evaluated.
        """
        k = self.chosen if k is None else k
        if name not in self.show or k not in self.counts:
            raise DataError(
                f"PruneCurve.at must be asked for {', '.join(self.show)} at one of the counts {self.counts}, got "
                f"{name!r} at {k}."
            )
        return self.show[name][self.counts.index(k)]

    def places(self, k: int | None = None) -> dict[tuple[int, str], int]:
        """How many of the first K units lie in each (block, matrix)."""
        found = Counter(unit.place for unit in self.units[: self.chosen if k is None else k])
        return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """All curves of one tuned model, controls included."""

    kind: str
    n_units: int
    """Of this kind in the module."""
    undo: bool
    """Whether units were put back to the base's values, not zeroed."""
    main: str
    """Name of the task that is to come back."""
    curves: tuple[PruneCurve, ...]

    def curve(self, how: str, who: str = "tuned", draw: int = 0) -> PruneCurve:
        """One curve.

        Raises:
            DataError: There is none.
        """
        for one in self.curves:
            if (one.who, one.how, one.draw) == (who, how, draw):
                return one
        known = sorted({f"{c.who}/{c.how}" for c in self.curves})
        raise DataError(f"Pruning.curve must be one of {', '.join(known)}, got {who}/{how} (draw {draw}).")

    def random(self) -> list[PruneCurve]:
        """The curves of random units, one a draw."""
        return [one for one in self.curves if one.how == "random"]

    def lift(self, how: str, who: str = "tuned", draw: int = 0, name: str | None = None) -> float:
        """What pruning adds at the chosen K, on fresh data."""
        one, name = self.curve(how, who, draw), name or self.main
        return one.at(name) - one.at(name, 0)

    def random_lift(self, name: str | None = None) -> tuple[float, float, float]:
        """Mean, lowest and highest lift of the random orders, each with the K that is best for it."""
        lifts = [self.lift("random", draw=one.draw, name=name) for one in self.random()]
        return sum(lifts) / len(lifts), min(lifts), max(lifts)

    def rows(self) -> list[dict[str, Any]]:
        """One row a curve, count and set (`choose` and each name), for a table."""
        return [
            {"who": c.who, "how": c.how, "draw": c.draw, "k": k, "set": name, "value": value, "chosen": c.chosen == k}
            for c in self.curves
            for name, values in {"choose": c.choose, **c.show}.items()
            for k, value in zip(c.counts, values, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        curves = [
            {
                "who": c.who,
                "how": c.how,
                "draw": c.draw,
                "counts": list(c.counts),
                "choose": list(c.choose),
                "show": {name: list(values) for name, values in c.show.items()},
                "units": [str(unit) for unit in c.units],
            }
            for c in self.curves
        ]
        return {"kind": self.kind, "n_units": self.n_units, "undo": self.undo, "main": self.main, "curves": curves}

    @classmethod
    def of_json(cls, plain: Mapping[str, Any]) -> "Pruning":
        """The inverse of `to_json`."""
        curves = tuple(
            PruneCurve(
                who=c["who"],
                how=c["how"],
                draw=c["draw"],
                counts=tuple(c["counts"]),
                choose=tuple(c["choose"]),
                show={name: tuple(values) for name, values in c["show"].items()},
                units=tuple(Unit.parse(unit) for unit in c["units"]),
            )
            for c in plain["curves"]
        )
        return cls(**{**plain, "curves": curves})
