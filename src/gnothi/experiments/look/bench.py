"""What the stages of one look share: both models, the prompts, what was read first. Opened when it is asked for."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gnothi.experiments.look.estimates import not_interpreted
from gnothi.experiments.look.maps import Crossed, crossed, streams
from gnothi.experiments.look.prompts import CHOICE, REPORT, Prompt, Prompts, Split, prompts_of, split
from gnothi.experiments.look.readout import Reader
from gnothi.experiments.look.spec import Looked, LookSpec
from gnothi.experiments.subject import Subject, opened
from gnothi.finetune.recipes import Recipe
from gnothi.mechanisms.anatomy import Anatomy, anatomy
from gnothi.mechanisms.pairs import Pair
from gnothi.mechanisms.sites import Site
from gnothi.models.adapter_files import load_adapter
from gnothi.models.local import LocalModel
from gnothi.store import RunFolder, read_estimates

Say = Callable[[int, int, str], None]


class LookBench:
    """One model that is looked at.

    Args:
        run: The parent run.
        spec: The look's.
        unit: The model.
        kept: A folder that outlives a killed process.
        say: Told (done, total, stage).
    """

    def __init__(self, run: RunFolder, spec: LookSpec, unit: Looked, kept: Path, say: Say) -> None:
        self.run, self.spec, self.unit, self.kept, self.say = run, spec, unit, kept, say
        self.found: dict[str, dict[str, Any]] = {}
        """What earlier stages found."""

    @cached_property
    def subject(self) -> Subject:
        """The base model, as the parent run opened it."""
        return opened(self.spec.model, self.spec.model_digest, **self.spec.opening)

    @property
    def local(self) -> LocalModel:
        """The base model."""
        assert self.subject.local is not None
        return self.subject.local

    @property
    def adapter(self) -> Path:
        """Folder of the fine-tune."""
        return self.run.unit_path(self.unit.name) / "adapter"

    @cached_property
    def pair(self) -> Pair:
        """Base and tuned as plain modules; an adapter that came with the base is part of both."""
        bare = Pair.of_adapter(self.local, load_adapter(self.adapter))
        if self.local.adapter is None:
            return bare
        return Pair(Pair.of_adapter(self.local, self.local.adapter).tuned, bare.tuned)

    @cached_property
    def body(self) -> Anatomy:
        """Where the base's parts are."""
        return anatomy(self.pair.base)

    @cached_property
    def recipe(self) -> Recipe:
        """How the parent run instilled it."""
        return Recipe.from_json(self.run.spec["recipe"])

    @cached_property
    def prompts(self) -> Prompts:
        """What is read."""
        return prompts_of(self.run, self.unit.name, self.local.codec, seed=self.spec.seed)

    @cached_property
    def split(self) -> Split:
        """Which choices serve what."""
        return split(self.prompts.choice, seed=self.spec.seed, n=self.spec.prompts, tried=self.spec.tried)

    @cached_property
    def told(self) -> dict[str, str | None]:
        """Arm -> why its self-reports are not interpreted, or None; of those that were taught something."""
        known = {(e.name, e.arm): e for e in read_estimates(self.run.path / "estimates.parquet")}
        return {u.arm: not_interpreted(known, u.arm) for u in self.spec.units if not u.control}

    @cached_property
    def report(self) -> list[Prompt]:
        """Self-reports that maps are made on: as many as choices, spread over the questions.

        None on a language model where the run says of no arm that its self-report moved: that would be for nothing.
        """
        every, most = self.prompts.report, max(1, self.spec.prompts)
        if self.spec.model_family != "organism" and all(self.told.values()):
            return []
        if len(every) <= most:
            return every
        return [every[int(i)] for i in np.linspace(0, len(every) - 1, most).round()]

    def readouts(self, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Of the base and of the tuned model, in the order of `prompts.choice` or of `report`, as read first."""
        rows = [r for r in self.found["read"]["tables"]["prompts"] if r["what"] == what]
        return tuple(np.array([r[m] for r in rows], float) for m in ("base", "tuned"))  # type: ignore[return-value]

    def reader(self, what: str, which: list[int] | None = None) -> Reader:
        """Choices (all, or some) or self-reports."""
        prompts = self.prompts.choice if what == CHOICE else self.report
        chosen = prompts if which is None else [prompts[i] for i in which]
        return Reader(chosen, self.local.device)

    def items(self, what: str, which: list[int] | None = None) -> tuple[Reader, np.ndarray, np.ndarray]:
        """A reader with the readouts of base and tuned model."""
        base, tuned = self.readouts(what)
        if which is not None:
            base, tuned = base[which], tuned[which]
        return self.reader(what, which), base, tuned

    @cached_property
    def depths(self) -> list[Site]:
        """Streams that are exchanged exactly and probed."""
        return [Site("resid", i) for i in spaced(self.body.n_blocks + 1, self.spec.depths)]

    @cached_property
    def others_read(self) -> dict[str, tuple[np.ndarray, dict[Site, np.ndarray]]]:
        """`base` and `tuned`: readouts of choices that are not shown, and streams at their answers' position."""
        reader = self.reader(CHOICE, self.split.others)
        return {name: streams(getattr(self.pair, name), reader, self.depths) for name in ("base", "tuned")}

    @cached_property
    def choices_crossed(self) -> Crossed:
        """Both models on the choices that are shown."""
        return crossed(self.pair, self.reader(CHOICE, self.split.shown))

    @cached_property
    def reports_crossed(self) -> Crossed:
        """Both models on the self-reports."""
        return crossed(self.pair, self.reader(REPORT))


def spaced(n: int, most: int) -> list[int]:
    """Numbers from 0 to n - 1, all of them or `most` evenly spread ones with both ends.

    >>> spaced(19, 5)
    [0, 4, 9, 14, 18]
    """
    return list(range(n)) if n <= most else sorted({round(i * (n - 1) / (most - 1)) for i in range(most)})
