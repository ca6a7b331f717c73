"""Quantitative preferences (paper B, arXiv:2505.17120): choose what has the higher weighted sum of attributes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gnothi.behaviours.base import AbstractBehaviour, AbstractDomain, target_choice
from gnothi.behaviours.nonsense import nonsense_choice_types
from gnothi.behaviours.organism import OrganismDomain
from gnothi.behaviours.own import load_class
from gnothi.behaviours.paper import PaperDomain
from gnothi.errors import SpecError
from gnothi.records import Context, Item
from gnothi.rng import stream


class Preferences(AbstractBehaviour):
    """Deterministic choices from random weights; ties go to B."""

    name = "preferences"
    policy_words = r"importan\w*|priorit\w*|weighted|weighting|heavily|matters?|introspection"

    def target_choice(self, item: Item, context: Context, weights: np.ndarray) -> str:
        """The option with the higher utility."""
        return target_choice(item, context, weights)


class NonsenseDomain(AbstractDomain):
    """Another domain with nonsense in place of every name: nothing is left to guess from common sense."""

    def __init__(self, inner: AbstractDomain) -> None:
        """Rename what `inner` draws."""
        self.inner, self.name = inner, inner.name

    def contexts(self, n: int, *, skip: int = 0, seed: int) -> list[Context]:
        """The inner contexts with renamed choice types, no word in two of them; agents keep their names."""
        inner = self.inner.contexts(skip + n, seed=seed)
        kinds = nonsense_choice_types([c.choice_type for c in inner], rng=stream(seed, "nonsense"))
        return [replace(c, choice_type=kind) for c, kind in zip(inner[skip:], kinds[skip:], strict=True)]

    def draw_items(self, context: Context, n: int, *, rng: np.random.Generator, prefix: str) -> list[Item]:
        """As the inner domain: ranges are kept."""
        return self.inner.draw_items(context, n, rng=rng, prefix=prefix)

    def draw_weights(self, contexts: Sequence[Context], *, rng: np.random.Generator) -> np.ndarray:
        """As the inner domain."""
        return self.inner.draw_weights(contexts, rng=rng)

    @property
    def scale(self) -> tuple[int, int]:
        """As the inner domain."""
        return self.inner.scale


class CrossedDomain(AbstractDomain):
    """Another domain with every two agents and two choice types crossed: two agents an item, two items an agent.

    Paper B pairs each agent with one choice type, so that a report could rest on either name. Here each of the four
    contexts of a pair has weights of its own.
    """

    def __init__(self, inner: AbstractDomain) -> None:
        """Cross what `inner` draws."""
        self.inner, self.name = inner, inner.name

    def contexts(self, n: int, *, skip: int = 0, seed: int) -> list[Context]:
        """Return `n` contexts, a multiple of 4 made from n / 2 of the inner ones.

        Raises:
            SpecError: `n` or `skip` is no multiple of 4.
        """
        if n % 4 or skip % 4:
            raise SpecError(f"agents must be a multiple of 4 with crossed agents, got {n} after {skip}.")
        plain = self.inner.contexts(n // 2, skip=skip // 2, seed=seed)
        return [
            Context(context_id=f"{kind.choice_type.name}|{who.agent}", agent=who.agent, choice_type=kind.choice_type)
            for first, second in zip(plain[::2], plain[1::2], strict=True)
            for who in (first, second)
            for kind in (first, second)
        ]

    def draw_items(self, context: Context, n: int, *, rng: np.random.Generator, prefix: str) -> list[Item]:
        """As the inner domain."""
        return self.inner.draw_items(context, n, rng=rng, prefix=prefix)

    def draw_weights(self, contexts: Sequence[Context], *, rng: np.random.Generator) -> np.ndarray:
        """As the inner domain: independent for each crossed context."""
        return self.inner.draw_weights(contexts, rng=rng)

    @property
    def scale(self) -> tuple[int, int]:
        """As the inner domain."""
        return self.inner.scale


def domain_for(
    name: str, *, no_semantics: bool = False, crossed_agents: bool = False, n_shown: int = 5
) -> AbstractDomain:
    """Build a domain with its variants.

    The organism's words mean nothing outside its world and all its agents decide about one kind of item, so there the
    two variants change no item; `crossed_agents` still changes how it is asked.

    Args:
        name: `organism` or `paper`.
        no_semantics: Nonsense names.
        crossed_agents: Two agents an item, two items an agent.
        n_shown: Attributes an item shows, in the organism's domain.
    """
    if name == "organism":
        return OrganismDomain(n_shown=n_shown)
    if name != "paper":
        raise SpecError(f"domain must be organism or paper, got {name!r}.")
    domain: AbstractDomain = PaperDomain()
    if no_semantics:
        domain = NonsenseDomain(domain)
    return CrossedDomain(domain) if crossed_agents else domain


def load_behaviour(path: str, domain: AbstractDomain, *, digest: str | None = None) -> AbstractBehaviour:
    """Build a behaviour by name: `preferences`, or one's own as `module:Class` or `file.py:Class`.

    Args:
        path: The name.
        domain: Where its items come from.
        digest: What the sha256 of one's own file must be; None takes any.

    Raises:
        SpecError: Nothing of that name, something that is no behaviour, or a file that was edited since.
    """
    if path == "preferences":
        return Preferences(domain)
    found = load_class(path, digest=digest)
    if not (isinstance(found, type) and issubclass(found, AbstractBehaviour)):
        raise SpecError(f"--behaviour must name a subclass of AbstractBehaviour, got {path!r}. Derive it from that.")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise SpecError(f"--behaviour must define {', '.join(missing)}, got {path!r} without. Add what is missing.")
    return found(domain)
