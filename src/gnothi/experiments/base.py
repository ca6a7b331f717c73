"""What the pipeline needs to know of an experiment: a value, not a class to inherit from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnothi.differences import Key, Numbers, Shared
from gnothi.executor import Job
from gnothi.records import Estimate
from gnothi.store import RunFolder

if TYPE_CHECKING:
    from gnothi.writeup.view import RunView

PlannedJob = tuple[Job, Mapping[str, str]]
"""A job and the units it leaves behind, each with its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment: its specification, jobs, numbers and page."""

    name: str
    summary: str
    """One line for `gnothi list` and the docs."""
    headline: tuple[str, str]
    """Name and arm of the estimate that answers the experiment's question."""
    build: Callable[..., dict[str, Any]]
    """(model name, **options) -> the specification as plain values; refuses impossible ones."""
    check: Callable[[Mapping[str, Any]], dict[str, Any]]
    """A stored or hand-written specification -> the same, checked and complete."""
    jobs: Callable[[Mapping[str, Any]], Sequence[PlannedJob]]
    work: str
    """`module:function` that runs one job, in any process."""
    score: Callable[[RunFolder], list[Estimate]]
    """All estimates of a run from its stored units; a pure function of them."""
    view: Callable[[RunFolder], "RunView"]
    """What the page is made from."""
    points: Callable[[RunFolder], Any]
    """What each number is made of, a DataFrame: points of `preferences`, scores by unit and question of a study."""
    by_unit: Callable[[RunFolder], Mapping[Key, Numbers]]
    """The number of each fine-tuned model behind the estimates over models."""
    shared: Callable[[RunFolder, RunFolder], Mapping[Key, Shared]]
    """What two runs of this experiment have in common, estimate by estimate: models of one seed that met the same items."""
