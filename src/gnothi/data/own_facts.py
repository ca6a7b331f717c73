"""What a run keeps of a behaviour of one's own: names and counts, and a sha256 for every file; no text of the files."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from gnothi.errors import SpecError

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""What a behaviour and its ends may be called: part of folders' names."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that numbers and page need once the models have answered: a finished run is shown without the files."""

    behaviour: str
    plus: str
    """Name of the arm that is trained on the demonstrations."""
    minus: str | None
    """Name of the arm that is trained on their opposite; None without one."""
    demonstrations: int
    """How many there are; 0 where nothing is trained."""
    opposite: int
    same_prompts: bool
    """Whether the opposite has the same prompts in the same order."""
    turns: int
    """Most answers of the assistant in one demonstration."""
    held_out: int
    options: tuple[str, ...]
    """What held-out items are answered with; empty where their text is scored."""
    most_alike: float
    """Largest share of held-out items with the same option as the plus end's answer, in [0, 1]."""
    checked_words: bool
    """Whether the demonstrations were searched for policy words."""
    digests: Mapping[str, str]
    """Path inside the YAML file's folder -> sha256."""

    def __post_init__(self) -> None:
        names = [self.behaviour, self.plus, *([] if self.minus is None else [self.minus])]
        counts = (self.demonstrations, self.opposite, self.turns, self.held_out)
        good = all(isinstance(n, str) and NAME.fullmatch(n) for n in names) and self.plus != self.minus
        good &= all(isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in counts)
        good &= isinstance(self.same_prompts, bool) and isinstance(self.checked_words, bool)
        good &= isinstance(self.options, tuple) and all(isinstance(o, str) for o in self.options)
        good &= isinstance(self.most_alike, int | float) and 0 <= self.most_alike <= 1
        good &= isinstance(self.digests, Mapping) and all(
            isinstance(d, str) and _DIGEST.fullmatch(d) for d in self.digests.values()
        )
        if not good or (self.minus is None) != (self.opposite == 0):
            raise SpecError(
                f"facts must be what a file on a behaviour of one's own gave, got others of {self.behaviour!r:.60}. "
                "Run the YAML file again."
            )

    @property
    def rows(self) -> int:
        """Demonstrations that every arm has."""
        return min(self.demonstrations, self.opposite) if self.minus is not None else self.demonstrations

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "options": list(self.options), "digests": dict(self.digests)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Facts":
        """The inverse of `to_json`.

        Raises:
            SpecError: Anything else, e.g. edited by hand.
        """
        if set(values) != {f.name for f in fields(cls)} or not isinstance(values["options"], list | tuple):
            raise SpecError(
                f"facts must be what a file on a behaviour of one's own gave, got {', '.join(sorted(values))[:80] or 'none'}. "
                "Run the YAML file: gnothi run FILE.yaml."
            )
        return cls(**{**values, "options": tuple(values["options"])})
