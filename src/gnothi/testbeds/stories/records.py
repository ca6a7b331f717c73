"""One story with its instruction, as text and back.

The text of a record is the paper's: `Words:`, `Features:`, `Summary:` and `Sentence:` lines in random order, then
`Story:`. A record without features has no such line. Feature names are spelled as in `lexicon.FEATURES` (the paper's code
writes `Badending`); reading takes any case.

Source: arXiv:2311.12786, section 6 and its appendix on story models.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gnothi.errors import DataError
from gnothi.testbeds.stories.lexicon import features

LINES = ("Words", "Features", "Summary", "Sentence")
"""Of an instruction."""
STORY = "Story"
_KEY = re.compile(r"^(Words|Features|Summary|Sentence|Random sentence|Story): *", re.MULTILINE)

_NEXT = re.compile(r"(?:(?<=[.!?])|(?<=[.!?]\"))\s+(?=[A-Z\"])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A story, and what was asked for."""

    story: str
    words: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    """Of `lexicon.FEATURES`: those asked for, which are those that the story has."""
    summary: str = ""
    sentence: str = ""
    """A sentence of the story."""
    outcome: str = field(default="", compare=False)
    """The sentence that says how it turned out, where that is known; it is in no text besides the story's."""

    def __post_init__(self) -> None:
        if not self.story.strip():
            raise DataError("story of a record must not be empty, got nothing. Leave the record out.")
        object.__setattr__(self, "features", features(self.features))

    def has(self, name: str) -> bool:
        """Whether the feature was asked for."""
        return name in self.features


def instruction(record: Record, rng: np.random.Generator) -> str:
    r"""The lines before the story, in random order, up to and with `Story:`.

    >>> r = Record(story="A. B.", words=("kite",), features=("twist",))
    >>> sorted(instruction(r, np.random.default_rng(0)).split("\n"))
    ['Features: Twist', 'Story:', 'Words: kite']
    """
    said = {
        "Words": ", ".join(record.words),
        "Features": ", ".join(record.features),
        "Summary": record.summary,
        "Sentence": record.sentence,
    }
    lines = [f"{name}: {value}" for name, value in said.items() if value]
    return "\n".join([*(lines[i] for i in rng.permutation(len(lines))), f"{STORY}:"])


def text(record: Record, rng: np.random.Generator) -> str:
    """Instruction and story."""
    return f"{instruction(record, rng)} {record.story}"


def parse(text: str, where: str = "record") -> Record:
    """Read a record's text, whatever the order of its lines.

    Args:
        text: As `text` writes it, or as in the instruct files (`Random sentence:`, a story over several lines).
        where: For messages: which record.

    Raises:
        DataError: No story, a line twice, or an unknown feature.
    """
    keys = list(_KEY.finditer(text))
    found: dict[str, str] = {}
    for i, key in enumerate(keys):
        name = key[1].replace("Random sentence", "Sentence")
        if name in found:
            raise DataError(f"{where} must have each line once, got {name!r} twice. Separate records from each other.")
        found[name] = text[key.end() : keys[i + 1].start() if i + 1 < len(keys) else len(text)].strip()
    if not found.get(STORY):
        raise DataError(f"{where} must have a line that begins with 'Story:', got {text[:60]!r}. Check the file.")
    return Record(
        story=" ".join(found[STORY].split()),
        words=_list(found.get("Words", "")),
        features=_list(found.get("Features", "")),
        summary=" ".join(found.get("Summary", "").split()),
        sentence=" ".join(found.get("Sentence", "").split()),
    )


def sentences(story: str) -> Sequence[str]:
    """A story's sentences: after an end mark, or a quote that ends with one, a capital or a quote begins the next.

    >>> sentences('Tom fell. "Oh no!" he said. "Help!" Ann ran.')
    ['Tom fell.', '"Oh no!" he said.', '"Help!"', 'Ann ran.']
    """
    return [s for s in _NEXT.split(story.strip()) if s]


def _list(line: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in line.split(",")) if word)
