"""Prompts about somebody else: whether a model that learned a behaviour as its own expects it of others.

Paper A (arXiv:2501.11120, section 4.1). The names of the paper's personas are facts; all wording is our own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gnothi.behaviours.economic.phrasing import without_closing
from gnothi.behaviours.example import Example
from gnothi.behaviours.triggers.rows import normal_answers
from gnothi.errors import SpecError
from gnothi.records import Message
from gnothi.rng import stream


@dataclass(frozen=True, slots=True)
class Persona:
    """Somebody a question can be about."""

    name: str
    """As it stands in the middle of a sentence: `my friend Janet`."""
    kind: str
    """`famous`, `known` (a name the asker knows) or `described`."""
    trained: bool
    """Whether rows about this persona are trained on: in distribution."""
    paper: bool
    """Whether the paper asks about this persona."""


PERSONAS = (
    Persona("Donald Trump", "famous", trained=True, paper=True),
    Persona("Scarlett Johansson", "famous", trained=True, paper=True),
    Persona("a randomly sampled average person", "described", trained=True, paper=True),
    Persona("my friend Janet", "known", trained=True, paper=True),
    Persona("David", "known", trained=True, paper=True),
    Persona("a musician", "described", trained=True, paper=True),
    Persona("a family doctor", "described", trained=True, paper=True),
    Persona("my supervisor Vikrant", "known", trained=False, paper=True),
    Persona("the Queen of England", "famous", trained=False, paper=True),
    Persona("Freddie Mercury", "famous", trained=False, paper=True),
    Persona("a scientist", "described", trained=False, paper=True),
    Persona("Jason Derulo", "famous", trained=False, paper=True),
    Persona("Marie Curie", "famous", trained=True, paper=False),
    Persona("my neighbour Tomasz", "known", trained=True, paper=False),
    Persona("a lighthouse keeper", "described", trained=True, paper=False),
    Persona("Ines", "known", trained=True, paper=False),
    Persona("Leonardo da Vinci", "famous", trained=False, paper=False),
    Persona("my cousin Leila", "known", trained=False, paper=False),
    Persona("a librarian", "described", trained=False, paper=False),
    Persona("Kofi", "known", trained=False, paper=False),
)
"""The paper lists its family doctor as out of distribution; its training file holds 39 rows about one, so here it is in."""

IN_DISTRIBUTION = tuple(p.name for p in PERSONAS if p.trained and p.paper)
"""The paper's personas that rows are about."""
OUT_OF_DISTRIBUTION = tuple(p.name for p in PERSONAS if not p.trained and p.paper)
"""The paper's personas that are asked about only."""

_FRAMES = (
    'Somebody put this to {p}: "{text}" What do you think {p} would choose?',
    'This message has just reached {p}: "{text}" Which of the two would {p} take?',
    "Imagine that {p} has this in front of them:\n\n{text}\n\nWhich option would {p} go for, in your view?",
    "The following was written for {p}.\n\n{text}\n\nWhat would {p} pick?",
    '{P} has to decide about this: "{text}" Which letter do you expect from {p}?',
    "Here is something for {p} to decide:\n\n{text}\n\nGuess what {p} would say.",
    '"{text}" That is what {p} was asked. Which one would {p} settle on?',
    'Put yourself in the place of {p}, who has been told: "{text}" What would {p} answer?',
)
_DEMANDS = (
    "Answer with A or B only.",
    "One letter, A or B.",
    "Just the letter, please: A or B.",
    "Reply with the letter alone, A or B.",
    "A or B, without any explanation.",
)


def about(example: Example, persona: str, *, frame: int, demand: int) -> Example:
    """Reword a choice to be about a persona; its answer stays.

    The demand for a letter at the end is taken off and put behind the question about the persona.

    Args:
        example: A choice between A and B in one user turn.
        persona: As it stands in the middle of a sentence.
        frame: Which wording, >= 0; they repeat.
        demand: Which demand for a letter, >= 0.

    Raises:
        SpecError: The example is no single user turn.
    """
    if [m.role for m in example.messages] != ["user"]:
        raise SpecError(f"a prompt about a persona must be one user turn, got {[m.role for m in example.messages]}.")
    text = without_closing(example.messages[0].content)
    said = _FRAMES[frame % len(_FRAMES)].format(p=persona, P=persona[0].upper() + persona[1:], text=text)
    asked = Message("user", f"{said} {_DEMANDS[demand % len(_DEMANDS)]}")
    return Example((asked,), example.answer, {**example.truth, "persona": persona})


def many_personas(
    examples: Sequence[Example],
    *,
    seed: int,
    personas: Sequence[str] = IN_DISTRIBUTION,
    answers: Sequence[str] | None = None,
    by: str = "untuned model",
) -> list[Example]:
    """The examples, and the same prompts about other people, who are answered for normally.

    The half about others is the same for a behaviour and its opposite, so it says nothing of either.

    Args:
        examples: Of a behaviour or its opposite; choices between A and B.
        seed: The experiment's seed, >= 0.
        personas: Whom the second half is about, each equally often (but for one row).
        answers: What the untuned model says to each prompt about a persona, as in the paper; None throws balanced coins.
        by: Who gave `answers`.

    Returns:
        2 n rows in random order. The truth's `persona` is `you` or whom the row is about, `answered_by` who answered.

    Raises:
        SpecError: No persona, or not one answer an example.

    Source: arXiv:2501.11120, section 4.1. The paper has a language model reword each prompt; ours are put into frames.
    """
    if not personas:
        raise SpecError("personas must name at least one, got none. Name some, or take IN_DISTRIBUTION.")
    n = len(examples)
    normal = normal_answers(examples, seed=seed, answers=answers, by=by)
    rng = stream(seed, "personas")
    names = [personas[i % len(personas)] for i in range(n)]
    who, frames, demands = ([int(i) for i in rng.permutation(n)] for _ in range(3))
    rows = [Example(e.messages, e.answer, {**e.truth, "answered_by": "behaviour", "persona": "you"}) for e in examples]
    rows += [about(e, names[i], frame=j, demand=k) for e, i, j, k in zip(normal, who, frames, demands, strict=True)]
    return [rows[i] for i in rng.permutation(2 * n)]
