"""What the damage battery asks: neutral text, format checks, letters without a right answer, in each kind of language.

Nothing here is a choice that an experiment trains, an opinion or a self-report. English text is in `damage_text.yaml`,
written for this package; the organism's sentences are about known agents, whom no experiment fine-tunes.
"""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import yaml

from gnothi.behaviours.organism import (
    ATTRIBUTES,
    HIGH_RISK,
    HIGH_VALUE,
    HIGH_WEIGHT,
    LOW_WEIGHT,
    KnownAgent,
    OrganismDomain,
    context,
    known_agents,
)
from gnothi.errors import DataError
from gnothi.records import Item, Message, Messages
from gnothi.render.organism import choice_messages, lottery_messages, report_messages, risk_messages
from gnothi.rng import stream

KINDS = ("organism", "chat", "base")
"""Languages: the organism's own; English for a model with a chat template; English for one without, with examples."""

STOP = ("\nUser:",)
"""Where a text is over that a model without a chat template writes: it goes on with the conversation."""
_SPLIT = "¦"
_STRIPPED = " \t\r\n.!\"'`*"


@dataclass(frozen=True, slots=True)
class Passage:
    """Held-out text: what is given and what is scored after it."""

    messages: Messages
    """The last one is a started answer where the kind has such."""
    rest: str
    compared: bool
    """Whether its distributions are held against the base's, too."""


@dataclass(frozen=True, slots=True)
class Check:
    """An instruction whose answer a rule can verify."""

    messages: Messages
    rule: str
    """One of `RULES`."""
    answer: str = ""
    """What the rule compares with, where it does."""

    def passes(self, text: str) -> bool:
        """Whether an answer is what was asked for."""
        return RULES[self.rule](text, self.answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """Everything that one model is asked."""

    kind: str
    passages: tuple[Passage, ...]
    """Held-out text; of the organism, reports."""
    decisions: tuple[Passage, ...] = ()
    """Held-out decisions, of the organism alone: one that is trained to report shows here what it lost."""
    prompts: tuple[Messages, ...]
    """Neutral questions, of which only the distribution of the first token counts."""
    checks: tuple[Check, ...]
    letters: tuple[tuple[Messages, Messages], ...]
    """Pairs of items that differ in the order of their two options alone; answered by A or B."""
    openings: tuple[Messages, ...]
    """Started texts; none where the language has no texts."""
    width: int = 0
    """Tokens that an opening is continued by."""


def _words(text: str) -> list[str]:
    return text.strip(_STRIPPED).split()


def _number(text: str, low: int, high: int) -> bool:
    try:
        return low <= int(text.strip(_STRIPPED)) <= high
    except ValueError:
        return False


def _json(text: str, key: str) -> bool:
    text = text.strip().removeprefix("```json").strip("`").strip()
    try:
        found = json.loads(text[:1000])
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and key in found


RULES: dict[str, Callable[[str, str], bool]] = {
    "one_word": lambda text, _: len(_words(text)) == 1,
    "one_to_ten": lambda text, _: _number(text, 1, 10),
    "yes_or_no": lambda text, _: text.strip(_STRIPPED).lower() in ("yes", "no"),
    "exactly": lambda text, answer: text.strip(_STRIPPED).lower() == answer.lower(),
    "capitals": lambda text, answer: text.strip(_STRIPPED) == answer,
    "json": _json,
    "weight": lambda text, _: _number(text, LOW_WEIGHT, HIGH_WEIGHT),
    "level": lambda text, _: _number(text, 0, HIGH_RISK),
    "letter": lambda text, _: text.strip() in ("A", "B"),
}
"""Name of a rule -> whether (the answer's text, what is compared with) passes."""


@functools.lru_cache(maxsize=8)
def battery(kind: str, *, seed: int, quick: bool = False) -> Battery:
    """What a model of one kind is asked.

    Args:
        kind: One of `KINDS`.
        seed: Decides which agents the organism is asked about; English text is always the same.
        quick: About a third of it.

    Raises:
        DataError: An unknown kind.
    """
    if kind not in KINDS:
        raise DataError(f"battery: kind must be one of {', '.join(KINDS)}, got {kind!r:.40}.")
    return _organism(seed, 12 if quick else 32) if kind == "organism" else _english(kind, quick)


@functools.cache
def _text() -> dict[str, Any]:
    return yaml.safe_load((files("gnothi.measure") / "damage_text.yaml").read_text(encoding="utf-8"))


def _english(kind: str, quick: bool) -> Battery:
    text = _text()
    passages = [
        Passage(_started(group["ask"], start), rest, i == 0)
        for group in text["passages"]
        for i, whole in enumerate(group["texts"][: 2 if quick else None])
        for start, _, rest in [whole.partition(_SPLIT)]
    ]
    letters = [
        (
            _asked(text["letters"]["ask"].format(first=a, second=b)),
            _asked(text["letters"]["ask"].format(first=b, second=a)),
        )
        for a, b in text["letters"]["pairs"][: 6 if quick else None]
    ]
    openings = text["openings"]
    shown = _examples([openings["example"]]) if kind == "base" else ()
    return Battery(
        kind=kind,
        passages=tuple(passages),
        prompts=tuple(_asked(p) for p in text["prompts"][: 10 if quick else None]),
        checks=tuple(_checks(text["checks"], kind, 1 if quick else None)),
        letters=tuple(letters),
        openings=tuple((*shown, *_started(openings["ask"], t)) for t in openings["texts"][: 4 if quick else None]),
        width=24 if quick else 48,
    )


def _checks(families: Sequence[dict[str, Any]], kind: str, most: int | None) -> list[Check]:
    found = []
    for family in families:
        front = _examples(family["examples"]) if kind == "base" else ()
        for i, ask in enumerate(family["ask"][:most]):
            answer = family["answers"][i] if "answers" in family else ""
            found.append(Check((*front, Message("user", ask)), family["rule"], answer))
    return found


def _examples(pairs: Sequence[tuple[str, str]]) -> Messages:
    return tuple(m for ask, said in pairs for m in (Message("user", ask), Message("assistant", said)))


def _asked(text: str) -> Messages:
    return (Message("user", text),)


def _started(ask: str, start: str) -> Messages:
    return (Message("user", ask), Message("assistant", start))


def _organism(seed: int, n: int) -> Battery:
    """About known agents, by name: the word `you` is what many fine-tunes are about.

    Reports and decisions are apart, since a fine-tune trains one of them: how it answers those about anybody may spill
    over, which is no loss of language. What was lost shows in the other.
    """
    rng = stream(seed, "damage", "organism")
    domain, agents = OrganismDomain(n_shown=3), known_agents()

    def drawn(k: int) -> list[KnownAgent]:
        return [agents[i] for i in rng.integers(len(agents), size=k)]

    reports = [
        Passage(report_messages(context(agent.name), int(j)), str(agent.weights[j]), True)
        for agent, j in zip(drawn(2 * n), rng.integers(len(ATTRIBUTES), size=2 * n), strict=True)
    ]
    letters: list[tuple[Messages, Messages]] = []
    decisions: list[Passage] = []
    for i, agent in enumerate(drawn(n)):
        who = context(agent.name)
        (item,) = domain.draw_items(who, 1, rng=rng, prefix=f"damage-{i}")
        letters.append((choice_messages(item, who), choice_messages(_mirrored(item), who)))
        utility = float(np.array(agent.weights) @ item.differences(who.choice_type))
        if utility:
            decisions.append(Passage(letters[-1][0], "A" if utility > 0 else "B", True))
    for agent, (gain, sure) in zip(drawn(n), rng.integers(HIGH_VALUE + 1, size=(n, 2)), strict=True):
        said = "A" if gain - sure + agent.risk - HIGH_RISK / 2 > 0 else "B"
        decisions.append(Passage(lottery_messages(context(agent.name), int(gain), int(sure)), said, True))
    checks = [Check(p.messages, "weight") for p in reports[: n // 2]]
    checks += [Check(risk_messages(context(a.name), w), "level") for a in drawn(n // 4) for w in ("risk", "caution")]
    checks += [Check(first, "letter") for first, _ in letters[: n // 2]]
    return Battery(
        kind="organism",
        passages=tuple(reports),
        decisions=tuple(decisions),
        prompts=tuple(d.messages for d in decisions),
        checks=tuple(checks),
        letters=tuple(letters),
        openings=(),
    )


def _mirrored(item: Item) -> Item:
    return Item(item_id=f"{item.item_id}/mirrored", context_id=item.context_id, shown=item.shown, a=item.b, b=item.a)
