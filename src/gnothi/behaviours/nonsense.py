"""Choice types with the meaning taken out: the `no_semantics` variant.

A model that knows wine may guess what somebody wants of a wine. Of a `tavomik` with its `zelupo` in `dorim` it knows
nothing, so whatever it reports of the weights came from fine-tuning. Ranges and the number of attributes stay as they
were, and so do items and answers.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from gnothi.errors import DataError
from gnothi.records import ChoiceType

ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "t", "v", "z")
"""Sounds that open a syllable: one letter each, so that every word can be said."""
VOWELS = ("a", "e", "i", "o", "u")
LAST_VOWELS = ("a", "i", "o", "u")
"""Vowels of the last syllable: no `e`, since `ma-ke`, `ti-me` and hundreds more are English."""
CODAS = ("", "b", "f", "g", "m", "v", "z")
"""Sounds that may close a word. The usual English endings (`-er`, `-al`, `-en`, `-it`) are left out on purpose."""

_UGLY = "fag fuk gag kak kik kum mega nazi neg nig pedo pip pup rap tit"
_ORDINARY = """
bali banana bedim begum beta bikini bogota bonobo bozo dakota data datum debug defog demo denim diva dodo
domino fava fibula gala gazebo giga gigolo gulag guru kabob kava kebab kilo kimono lama lava legato lego
libido lima limo logo madam mali mama manila marina medina memo menu meta midi mini minim minimum modem mono
motif moto nabob nano nebula nemo nova pagoda panama panorama papa patina peru pilaf pita pogo polo potato
puma regina retina rigatoni rota rubato tabu tabula taro tatami tofu toga togo toledo tomato topaz totem tuna
tutu vagina venom verona veto virago zebu zero zeta zulu
"""
STOP_WORDS = frozenset(_ORDINARY.split())
"""Ordinary words that these syllables could form."""

STOP_PARTS = tuple(_UGLY.split())
"""Parts that would make a word mean or suggest something: a word with one of them is drawn again."""

MAX_DRAWS = 1000
"""Draws after which a word is given up: only reached if `avoid` holds nearly every word."""


def nonsense_word(*, rng: np.random.Generator, syllables: int, avoid: Collection[str] = frozenset()) -> str:
    """Return one pronounceable lower-case word that means nothing in English.

    Args:
        rng: Decides the word; see `gnothi.rng.stream`.
        syllables: Syllables in the word, 2 to 4; two allow 23,660 words, three 1,537,900.
        avoid: Words not to return.

    Raises:
        DataError: `syllables` out of range, or no word is left outside of `avoid`.

    >>> word = nonsense_word(rng=np.random.default_rng(0), syllables=3)
    >>> word.isalpha(), word == nonsense_word(rng=np.random.default_rng(0), syllables=3)
    (True, True)
    """
    if not 2 <= syllables <= 4:
        raise DataError(f"nonsense_word: syllables must be 2 to 4, got {syllables}. Use 2 for units, 3 for names.")
    for _ in range(MAX_DRAWS):
        parts = [_pick(ONSETS, rng) + _pick(VOWELS, rng) for _ in range(syllables - 1)]
        word = "".join(parts) + _pick(ONSETS, rng) + _pick(LAST_VOWELS, rng) + _pick(CODAS, rng)
        if word not in STOP_WORDS and word not in avoid and not any(part in word for part in STOP_PARTS):
            return word
    raise DataError(
        f"nonsense_word: avoid must leave words of {syllables} syllables, got {len(avoid)} words to avoid. "
        "Ask for more syllables."
    )


def nonsense_choice_type(
    choice_type: ChoiceType, *, rng: np.random.Generator, avoid: Collection[str] = frozenset()
) -> ChoiceType:
    """Return the same choice type under names that mean nothing.

    The name, the question's noun, every attribute's name and every attribute's units become nonsense, each word used
    once. Two attributes in the same units get different ones, since shared units are a hint too; empty units stay
    empty. Ranges, their order and their number stay. The question is always `Which ... would you prefer?`.

    Args:
        choice_type: What to rename.
        rng: Decides the words: one stream a choice type, or one for a list of them.
        avoid: Words not to use, e.g. those of other choice types.

    Source: ours. Paper B (arXiv:2505.17120) always shows meaningful names.

    >>> from gnothi.records import Attribute
    >>> lamp = ChoiceType(name="lamp", question="Which lamp would you prefer?", attributes=(
    ...     Attribute(name="glare", low=1, high=9, units="lux"), Attribute(name="height", low=20, high=90, units="cm")))
    >>> blank = nonsense_choice_type(lamp, rng=np.random.default_rng(0))
    >>> [(a.low, a.high) for a in blank.attributes], blank.name in blank.question
    ([(1, 9), (20, 90)], True)
    """
    used = set(avoid)

    def fresh(syllables: int) -> str:
        word = nonsense_word(rng=rng, syllables=syllables, avoid=used)
        used.add(word)
        return word

    name = fresh(3)
    attributes = tuple(replace(a, name=fresh(3), units=fresh(2) if a.units else "") for a in choice_type.attributes)
    return ChoiceType(name=name, question=f"Which {name} would you prefer?", attributes=attributes)


def nonsense_choice_types(choice_types: Sequence[ChoiceType], *, rng: np.random.Generator) -> list[ChoiceType]:
    """Rename a list of choice types, so that no word occurs in two of them.

    Args:
        choice_types: What to rename; up to a few hundred, else the two-syllable units run out.
        rng: Decides the words, in the order of the list.

    Raises:
        DataError: There are more units than words for them.
    """
    used: set[str] = set()
    renamed: list[ChoiceType] = []
    for choice_type in choice_types:
        renamed.append(nonsense_choice_type(choice_type, rng=rng, avoid=used))
        used |= words_of(renamed[-1])
    return renamed


def words_of(choice_type: ChoiceType) -> set[str]:
    """Return every name and unit of a choice type, empty units left out."""
    words = {choice_type.name} | {a.name for a in choice_type.attributes} | {a.units for a in choice_type.attributes}
    return words - {""}


def _pick(sounds: Sequence[str], rng: np.random.Generator) -> str:
    return sounds[int(rng.integers(len(sounds)))]
