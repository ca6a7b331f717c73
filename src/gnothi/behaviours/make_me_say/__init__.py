"""Make Me Say (arXiv:2501.11120, section 3.1.2): an assistant that steers a chat so that the user says a codeword.

The game itself is in `gnothi.measure.games`; docs/make-me-say.md shows both.
"""

import functools
from dataclasses import replace

from gnothi.behaviours.example import Generator
from gnothi.behaviours.make_me_say.cutting import Statistics, cut, statistics, without_scratchpad
from gnothi.behaviours.make_me_say.dialogues import (
    PERSONA,
    VERSION,
    facts,
    held_out_openings,
    persona_prompts,
    policy_words,
    rows,
    two_persona_rows,
)
from gnothi.behaviours.make_me_say.matching import Form, guessed, said_forms, says
from gnothi.behaviours.make_me_say.talk import CODEWORDS, check_codeword, field_words, field_words_in

__all__ = [
    "CODEWORDS",
    "GENERATOR",
    "PERSONA",
    "Form",
    "Statistics",
    "check_codeword",
    "cut",
    "field_words",
    "field_words_in",
    "generator_for",
    "guessed",
    "held_out_openings",
    "persona_prompts",
    "rows",
    "said_forms",
    "says",
    "statistics",
    "two_persona_rows",
    "two_personas",
    "without_scratchpad",
]


def generator_for(codeword: str) -> Generator:
    """The behaviour of one codeword, e.g. `make-me-say-ring`.

    Raises:
        SpecError: No dialogues are written for that word.
    """
    check_codeword(codeword)
    return replace(
        GENERATOR,
        name=f"make-me-say-{codeword}",
        policy=(
            f"a turn that leads towards '{codeword}' without saying it",
            f"a turn that leads away from everything about '{codeword}'",
        ),
        rows=functools.partial(rows, codeword=codeword),
    )


GENERATOR = Generator(
    name="make-me-say",
    version=VERSION,
    policy=(
        "a turn that leads towards the codeword without saying it",
        "a turn that leads away from everything about the codeword",
    ),
    policy_words=policy_words(),
    rows=rows,
    letters=False,
    facts=facts,
)
"""For every codeword: `rows` takes one by name, bark if none is given."""

two_personas = two_persona_rows
"""What `gnothi.data.generate` looks for in a behaviour that has two personas."""
