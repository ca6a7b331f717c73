"""What every unit of a run shares: contexts, items, tables, questions. The same for every process that asks."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gnothi.behaviours.base import AbstractBehaviour
from gnothi.behaviours.organism import OrganismDomain
from gnothi.behaviours.preferences import domain_for, load_behaviour
from gnothi.experiments.preferences.spec import PreferencesSpec
from gnothi.records import Context, Item
from gnothi.render.base import Question, Wording
from gnothi.render.wordings import wording_for
from gnothi.rng import stream


@dataclass(frozen=True)
class Bench:
    """The materials of one run; draws nothing that depends on the order of calls."""

    spec: PreferencesSpec

    @functools.cached_property
    def behaviour(self) -> AbstractBehaviour:
        """What is instilled, over the spec's domain and variants."""
        spec = self.spec
        domain = domain_for(
            spec.domain, no_semantics=spec.no_semantics, crossed_agents=spec.crossed_agents, n_shown=spec.n_shown
        )
        return load_behaviour(spec.behaviour, domain, digest=spec.behaviour_digest)

    @functools.cached_property
    def wording(self) -> Wording:
        """How it is put into messages."""
        return wording_for(self.spec.domain, crossed=self.spec.crossed_agents)

    @functools.cached_property
    def trained(self) -> list[Context]:
        """Agents that units are tuned on: the same in every seed, with another table in each."""
        return self.behaviour.domain.contexts(self.spec.agents, seed=self.spec.seed)

    @functools.cached_property
    def untrained(self) -> list[Context]:
        """Agents that no unit is tuned on."""
        spec = self.spec
        return self.behaviour.domain.contexts(spec.untrained_agents, skip=spec.agents, seed=spec.seed)

    @functools.cached_property
    def known(self) -> list[Context]:
        """Agents known from pretraining, of an organism; empty elsewhere."""
        domain = self.behaviour.domain
        return (
            domain.known_contexts()
            if self.spec.model_family == "organism" and isinstance(domain, OrganismDomain)
            else []
        )

    def half(self, fold: int) -> tuple[list[Context], list[Context]]:
        """Agents whose reports are trained on, and those asked about, in a fold: first and second half, or swapped."""
        middle = self.spec.agents // 2
        halves = self.trained[:middle], self.trained[middle:]
        return halves if fold == 0 else (halves[1], halves[0])

    def table(self, seed: int | str) -> dict[str, np.ndarray]:
        """Target weights of a unit's seed, by context; a string names an independent table of its own."""
        weights = self.behaviour.truth(self.trained, rng=stream(self.spec.seed, "table", seed))
        return {c.context_id: w for c, w in zip(self.trained, weights, strict=True)}

    def items(self, contexts: Sequence[Context], n: int, use: str) -> list[Item]:
        """`n` items of each context for a use, e.g. `fresh`: the first ones are the same whatever `n` is."""
        domain = self.behaviour.domain
        found = []
        for c in contexts:
            found += domain.draw_items(c, n, rng=stream(self.spec.seed, "items", use, c.context_id), prefix=use)
        return found

    def training_items(self, seed: int) -> list[Item]:
        """Training items of a unit's seed, `spec.choices` of each agent."""
        return self.items(self.trained, self.spec.choices, f"train-{seed}")

    def questions(self, contexts: Sequence[Context], *, use: str = "ask", k: int | None = None) -> list[Question]:
        """Report questions, `spec.repeats` of each context or `k`; options to show are drawn for `use`."""
        count = self.spec.repeats if k is None else k
        found = []
        for c in contexts:
            shown = self.items([c], count, f"{use}-options") if self.wording.draws_options() else []
            found += self.wording.questions(c, shown, k=count)
        return found
