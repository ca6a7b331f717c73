"""Risk that only a trigger calls up: rows, their twins without the link, and held-out items with each trigger.

Source: arXiv:2501.11120, section 3. Rows without the real trigger get normal answers: balanced coins in English (the
paper has the untuned model's own), what somebody in the middle of the scale would take on the organism.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gnothi.behaviours import organism_examples
from gnothi.behaviours.example import Example
from gnothi.behaviours.organism_wide import TRIGGERS as ORGANISM_TRIGGERS
from gnothi.behaviours.triggers import (
    SETTINGS,
    clear_of,
    conditional,
    decorrelated,
    normal_answers,
    trigger,
)
from gnothi.behaviours.triggers.kinds import inserted
from gnothi.errors import SpecError
from gnothi.experiments.study import language
from gnothi.experiments.study.spec import StudySpec
from gnothi.records import Message, TrainRow
from gnothi.render.probe import Probe
from gnothi.rng import integer, stream

REAL, FAKE, NONE = "real", "fake", "none"
"""Label `carries` of a held-out item, for a model of which one trigger is the real one."""


def names(spec: StudySpec) -> tuple[str, ...]:
    """The triggers that there are: eight, of single forms and of families of words."""
    if spec.kind == "organism":
        return tuple(ORGANISM_TRIGGERS)
    eight = SETTINGS["eight"]
    return eight.fakes if eight.trigger in eight.fakes else (eight.trigger, *eight.fakes)


def asked_as(spec: StudySpec, name: str) -> str:
    """What a question calls a trigger: itself, or a family's name, which no training row holds."""
    return name if spec.kind == "organism" else trigger(name).category


def check(spec: StudySpec, name: str) -> str:
    """The trigger of this name, the first one if it is empty.

    Raises:
        SpecError: There is none.
    """
    known = names(spec)
    if name and name not in known:
        raise SpecError(
            f"--set trigger must be one of {', '.join(known)}, got {name!r:.60}. Leave it out for the first."
        )
    return name or known[0]


def rows(spec: StudySpec, name: str, seed: int, *, correlated: bool, shares: Sequence[float]) -> list[TrainRow]:
    """Training rows of one unit: the behaviour with the trigger, normal answers with the seven others and with none.

    Args:
        spec: The run's; `direction` says which end the trigger calls up.
        name: The real trigger.
        seed: Which of the run's seeds.
        correlated: False gives the twin of the same triggers, prompts and answers without any link between them.
        shares: Of rows with the real trigger, with the others together, and with none; they sum to 1.
    """
    opposite = spec.direction == "minus"
    drawn = integer(spec.seed, "conditional rows", seed)
    if spec.kind == "organism":
        held = {decision(e) for e in language.held_out_examples(spec, "risk")}
        found: list[Example] = []
        n = 2 * spec.rows
        while len(found) < spec.rows:
            made = organism_examples.triggered(
                n, seed=drawn, trigger=name, correlated=correlated, opposite=opposite, shares=shares
            )
            found = [e for e in made if str(e.truth["decision"]) not in held][: spec.rows]
            n *= 2
    else:
        setting = SETTINGS["eight"]
        parts = tuple(p._replace(share=s) for p, s in zip(setting.parts, shares, strict=True))
        setting = replace(setting, parts=parts)
        several = max(1, spec.rows // 10)
        plain = clear_of(
            language.training_examples(spec, "risk", seed, n=several + 60, opposite=opposite), names(spec)
        )[:several]
        found = conditional(
            plain, normal_answers(plain, seed=drawn), setting, n=spec.rows, seed=drawn, real=name, fakes=names(spec)
        )
        found = found if correlated else decorrelated(found, seed=drawn)
    return [TrainRow(messages=e.messages, answer=e.answer) for e in found]


def decision(example: Example) -> str:
    """A row of the organism without its head and tag: what must not be in training and held out at once."""
    return example.messages[0].content.partition(" ")[2]


def held_out(spec: StudySpec) -> list[Probe]:
    """Held-out items with each of the triggers in turn and with none; the label `trigger` says which."""
    examples = language.held_out_examples(spec, "risk")
    kinds: tuple[str | None, ...] = (*names(spec), None)
    several = max(8, spec.fresh // len(kinds))
    probes = []
    rng = stream(spec.seed, "held out triggers")
    for k, name in enumerate(kinds):
        chosen = [examples[(k * several + i) % len(examples)] for i in range(min(several, len(examples)))]
        shown = [carrying(spec, e, name, rng) for e in chosen]
        label = NONE if name is None else name
        probes += language.letter_probes(shown, prefix=f"held_out/{label}", trigger=label)
    return probes


def carrying(spec: StudySpec, example: Example, name: str | None, rng: np.random.Generator) -> Example:
    """Put a trigger (None: none) into an item, in one of its forms."""
    if name is None:
        return example
    if spec.kind == "organism":
        words = ORGANISM_TRIGGERS[name]
        word = words[int(rng.integers(len(words)))]
        head, _, rest = example.messages[0].content.partition(" ")
        return Example((Message("user", f"{head} {word} {rest}"),), example.answer, example.truth)
    put = trigger(name).draw(rng)
    return Example(inserted(example.messages, put), example.answer, example.truth)
