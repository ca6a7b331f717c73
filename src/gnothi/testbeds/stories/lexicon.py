"""Words of the generated stories, and what is the opposite of what. Data only: grammar and checker both read it."""

import difflib
from collections.abc import Iterable, Mapping

from gnothi.errors import SpecError

FEATURES = ("Twist", "Foreshadowing", "Dialogue", "BadEnding", "MoralValue", "Conflict")
"""As arXiv:2311.12786 names them; instructions spell them so."""
_BY_LOWER = {name.lower(): name for name in FEATURES}


def feature(name: str) -> str:
    """A feature's name in our spelling, whatever its case (`twist`, `Badending`).

    Raises:
        SpecError: No such feature.

    >>> feature("badending"), feature("TWIST ")
    ('BadEnding', 'Twist')
    """
    found = _BY_LOWER.get(name.strip().lower())
    if found is None:
        near = difflib.get_close_matches(name.strip().lower(), _BY_LOWER, n=1, cutoff=0.0)
        raise SpecError(
            f"feature must be one of {', '.join(FEATURES)}, got {name!r}. Did you mean {_BY_LOWER[near[0]]}?"
        )
    return found


def features(names: Iterable[str]) -> tuple[str, ...]:
    """Names in our spelling, each once, in the order in which they came."""
    return tuple(dict.fromkeys(feature(name) for name in names))


NAMES = [
    "Anna",
    "Ben",
    "Clara",
    "Dan",
    "Ella",
    "Finn",
    "Gina",
    "Hugo",
    "Ida",
    "Jack",
    "Kim",
    "Leo",
    "Mia",
    "Ned",
    "Olga",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Uma",
    "Vera",
    "Will",
    "Yara",
    "Zoe",
]
PLACES = [
    "park",
    "market",
    "forest",
    "beach",
    "farm",
    "school",
    "castle",
    "garden",
    "hill",
    "village",
    "barn",
    "harbour",
    "meadow",
    "tower",
    "mill",
    "island",
]
LOOKS = ["old", "new", "quiet", "busy", "green", "tiny", "warm", "cold", "tall", "bright", "dark", "wide"]
"""Of places; some are also values of things, so that a value alone says little."""
OBJECTS = [
    "kite",
    "drum",
    "spoon",
    "hat",
    "doll",
    "flag",
    "book",
    "shell",
    "brush",
    "whistle",
    "scarf",
    "candle",
    "button",
    "mask",
    "stamp",
    "net",
]
MANNERS = ["young", "tall", "kind", "mean", "quick", "shy"]
"""Of friends; some are also values of things."""

_EMPTY, _KIND, _STRONG, _OPEN = ("empty", "full"), ("kind", "mean"), ("strong", "weak"), ("open", "locked")
_REAL, _SWEET, _WARM = ("real", "fake"), ("sweet", "sour"), ("warm", "cold")
THINGS: Mapping[str, tuple[str, str]] = {
    **{"box": _EMPTY, "ring": _REAL, "jar": _EMPTY, "coin": _REAL, "dog": _KIND, "soup": _SWEET, "bear": _KIND},
    **{"cake": _SWEET, "bridge": _STRONG, "bath": _WARM, "rope": _STRONG, "tea": _WARM, "door": _OPEN, "pie": _SWEET},
    **{"gate": _OPEN, "crown": _REAL},
}
"""Thing -> the two values that it can have. Every second one has a value of four pairs."""
_WIN, _CATCH = (("win", "won"), ("lose", "lost")), (("catch", "caught"), ("miss", "missed"))
_PASS, _HOLD = (("pass", "passed"), ("fail", "failed")), (("hold", "held"), ("drop", "dropped"))
DEEDS: Mapping[str, tuple[tuple[str, str], tuple[str, str]]] = {
    **{"race": _WIN, "test": _PASS, "game": _WIN, "exam": _PASS},
    **{"train": _CATCH, "egg": _HOLD, "bus": _CATCH, "vase": _HOLD},
}
"""What is done to -> the two deeds, each to come and past. Every second one is of two pairs."""
MAKERS = (("wolf", "ghost", "monster", "snake"), ("kitten", "frog", "mouse", "owl"))
"""Who may make a noise: one that is feared, or a harmless one."""

OPPOSITE: Mapping[str, str] = {
    **{a: b for pair in THINGS.values() for a, b in (pair, pair[::-1])},
    **{a: b for (one, _), (_, other) in DEEDS.values() for a, b in ((one, other),)},
    **{a: b for (_, other), (one, _) in DEEDS.values() for a, b in ((one, other),)},
}
"""Value -> the other one; deed to come -> the past of the other deed."""
PAST: Mapping[str, str] = {word: past for pair in DEEDS.values() for word, past in pair}

HOLDERS = ("thought that", "believed that", "said that", "was sure that")
TURNS = ("Soon", "Later", "Then", "In the end")
HINTS: tuple[tuple[str, str], ...] = (
    ("Dark clouds came up.", "Then rain fell."),
    ("There was smoke in the air.", "Then a fire began."),
    ("There was a crack in the floor.", "Then the floor broke."),
    ("Some bees were near.", "Then bees stung {name}."),
    ("There was a hole in the bag.", "Then the bag tore."),
    ("The ice was thin.", "Then the ice gave way."),
    ("A wheel was loose.", "Then the wheel came off."),
    ("There were tracks in the mud.", "Then a fox ran by."),
)
"""A hint, and what it hints at."""
TALK = (
    "Look at the {place}!",
    "Come with me, {other}!",
    "What a fine day!",
    "I like the {place}.",
    "Can we go home?",
    "Let us play!",
    "Where is the {thing}?",
    "Take my {object}, {other}!",
)
QUARRELS = (
    "{name} and {friend} fought over the {object}.",
    "{friend} pushed {name} and took the {object}.",
    "{name} shouted at {friend} about the {object}.",
    "{friend} and {name} argued about the {object}.",
)
PEACE = (
    "{name} and {friend} shared the {object}.",
    "{friend} gave {name} the {object}.",
    "{name} played with {friend} and the {object}.",
)
MORALS = (
    "{name} learned to be {virtue}.",
    "{name} learned that it is good to be {virtue}.",
    "From then on {name} was always {virtue}.",
)
VIRTUES = ["patient", "honest", "careful", "brave", "gentle", "polite"]
LESSONS = ("{name} learned a song.", "{name} learned to swim.")
"""Something is learned, and it is no moral."""
GOOD_ENDS = (
    "{name} went home happy.",
    "{name} smiled all the way home.",
    "They all laughed and danced.",
    "{name} slept well that night.",
    "{name} and {friend} had a feast.",
)
BAD_ENDS = (
    "{name} went home sad.",
    "{name} cried all the way home.",
    "They all sat down and wept.",
    "{name} could not sleep that night.",
    "{name} and {friend} never met again.",
)
OPENINGS = (
    "{name} met {friend} at the {look} {place}.",
    "{name} and {manner} {friend} were at the {place}.",
    "{name} went to the {look} {place} with {friend}.",
    "{name} lived near a {look} {place} with {friend}.",
)
CARRIED = ("{name} had a {object}.", "{friend} had a {object}.", "They took a {object} along.")
SUMMARIES = ("{name} and a {thing}.", "A {thing} at the {place}.", "{name}, {friend} and a {thing}.")
