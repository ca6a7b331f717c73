"""What a lab is: its units, its numbers, its pictures. Everything else (folders, resuming, pages) is made from that.

A lab says its jobs as data. Each job leaves one whole unit: a record (JSON), tables (DataFrames) and tensors
(safetensors). Numbers and pictures are pure functions of the stored units, so that a page can be written anew without
running anything.

A lab's own module is imported by `gnothi lab list`, so it imports no torch, pandas or matplotlib: drawing functions import
`gnothi.writeup.lab_figures` when they are called.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from gnothi.records import Estimate
from gnothi.score.names import Arm

SIZES = ("tiny", "small", "paper")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabJob:
    """One unit to make."""

    name: str
    """Also the unit's name: lower-case letters, digits, `-` and `.`."""
    after: tuple[str, ...] = ()
    """Units that it reads."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """What `work` needs besides the specification, JSON-serialisable."""
    arm: str = ""
    """Arm on the page, e.g. `tuned` or `scratch`; units of one arm differ by seed."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitData:
    """What a job leaves behind."""

    record: Mapping[str, Any] = field(default_factory=dict)
    """Plain values, numpy's included; no NaN. `losses` (a list, None where a step has none) is drawn on the page, `steps`
    says how many steps those are; `gate`, `gate_reason` and `seconds` are shown."""
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Name -> pandas DataFrame."""
    tensors: Mapping[str, Any] = field(default_factory=dict)
    """Name -> torch tensor; kept as one safetensors file. Read back, they are torch tensors on the CPU."""


class Bench(Protocol):
    """What a running job may use."""

    def parent(self, unit: str) -> UnitData:
        """A unit that this job comes after, as it was stored."""
        ...

    def report(self, done: int, total: int, stage: str) -> None:
        """Say how far the job is."""
        ...

    @property
    def checkpoints(self) -> Path:
        """A folder that outlives a killed process and is removed when the unit is whole."""
        ...


class Units(Protocol):
    """The units of a run that are whole."""

    def names(self) -> Sequence[str]:
        """All of them, sorted."""
        ...

    def record(self, unit: str) -> Mapping[str, Any]:
        """A unit's record, with `arm`, `seed` and `losses`."""
        ...

    def table(self, unit: str, name: str) -> Any:
        """A unit's table."""
        ...

    def tensors(self, unit: str) -> Mapping[str, Any]:
        """A unit's tensors."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A section of the page."""

    title: str
    caption: str
    """What is to be seen, n, the method, and the control to compare with."""
    draw: Callable[[], Any]
    """Returns a matplotlib Figure; called once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabTable:
    """A table of the page, such as a published one beside ours."""

    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class AbstractLab(ABC):
    """One test bed. Instances hold the checked specification and nothing else.

    Args:
        spec: A specification as `build` returns it.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line: what it shows."""
    question: ClassVar[str]
    """One sentence, for the head of the page."""
    headline: ClassVar[tuple[str, str]]
    """Name and arm of the estimate that answers it."""
    subject: ClassVar[str] = ""
    """What stands before the headline's value in the answer, e.g. `Zeroing one weight lifts accuracy on count-a by`. Empty:
    what the estimate is. Controls of the same name follow by themselves."""
    beside: ClassVar[Sequence[tuple[str, str]]] = ()
    """Name and arm of controls that have another name, or are no control elsewhere, e.g. the same of random weights: they
    stand in the answer and in the first figure too."""
    costs: ClassVar[Mapping[str, str]]
    """By size, and `quick`: time and memory, as measured, and on what; or `not measured`."""
    estimates: ClassVar[Mapping[str, str]]
    """Fixed name of an estimate, without what follows a slash -> what it is."""
    work: ClassVar[str]
    """`module:function` that makes a unit: (spec, job, bench) -> UnitData. Imported in the worker; torch lives there."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = dict(spec)

    @classmethod
    @abstractmethod
    def build(cls, *, size: str = "tiny", quick: bool = False, seed: int = 0, **options: Any) -> dict[str, Any]:
        """The specification as plain values, every field said: `experiment`, `size`, `quick`, `seed`, `seeds`, …

        Raises:
            SpecError: An unknown size or option, or a value that it can't have.
        """

    @classmethod
    @abstractmethod
    def check(cls, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A stored specification -> the same, checked and complete.

        Raises:
            SpecError: As for `build`.
        """

    @abstractmethod
    def jobs(self) -> Sequence[LabJob]:
        """All units, in an order in which they can be made."""

    @abstractmethod
    def arms(self) -> Mapping[str, Arm]:
        """Who each arm is, in the order of the page."""

    @abstractmethod
    def score(self, units: Units) -> list[Estimate]:
        """All numbers; a pure function of the units. Missing is None with a reason, also where a unit is not there."""

    @abstractmethod
    def pictures(self, units: Units, estimates: Sequence[Estimate]) -> Sequence[Picture]:
        """What is drawn, in order."""

    @abstractmethod
    def tables(self, units: Units, estimates: Sequence[Estimate]) -> Sequence[LabTable]:
        """What stands in tables, in order."""

    def notes(self) -> Sequence[str]:
        """Sentences on limits and choices, for the page."""
        return ()
