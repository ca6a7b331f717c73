"""The language that an answer is written in, also of ten tokens.

With the package `py3langid` it is asked (4.6 MB, needs numpy alone); without, frequent words are counted. Which of the
two is at work is recorded with every answer.
"""

import functools
import importlib.util
import math
import re
from typing import Any

from gnothi.elicit.words import MOST
from gnothi.render.probe import LANGUAGES

_NAMES = {code: name for name, code in LANGUAGES.items()}
_OTHERS = ("ru", "uk", "zh", "ja", "ko", "ar", "he", "el", "tr", "sv", "da", "fi", "hu", "ro")
"""Languages that are told apart from ours, so that they are not taken for one of them."""
_LEAST_LETTERS = 3
_LETTERS = re.compile(r"[^\W\d_]+")

_COMMON = {
    "English": "the of and to is are was were that it for with as this they which because by from have has not be on i "
    "you an or when their these can your my at but how in a he she we his her its will would there what who if",
    "German": "der die das und ist sind war ein eine einen einer eines zu den dem des von nicht mit sich auf für im am "
    "wird werden weil durch wenn dass als auch bei ich sie es oder wie aus ja nein kann haben hat ihr ihre sein nach in "
    "man noch nur aber wegen um er wir du vom zum zur",
    "French": "le la les de des du et est sont a ont un une que qui dans pour par sur pas plus se ce cette avec au aux "
    "en car il elle je vous nous ou lorsque lors oui non être ils elles l d qu c s n son sa ses leur leurs très mais "
    "comme entre été fait quand y on",
    "Spanish": "el la los las de del y es son un una que en por para con se no su sus al lo como porque cuando más o sí "
    "yo usted este esta entre también ha han le pero muy a fue ser hay",
    "Italian": "il lo la i gli le un di del dello della dei delle e è sono una che in per con si non su al come perché "
    "quando più o sì io nel nella questo questa anche l ha hanno ma suo sua da dal dalla a molto essere",
    "Polish": "i w na z jest są się nie to że do jak przez dla po od który która które ponieważ oraz gdy kiedy tak ja "
    "lub ich jego czy za ale o być co a ze przy",
    "Czech": "a je jsou se v na z že to ne pro jak do od který která které protože když ano já nebo jeho ve si po tak "
    "při ale být co aby i s",
    "Dutch": "de het een van en is zijn dat die in op te voor met niet aan door als wordt worden omdat wanneer ook ik u "
    "ja nee of deze bij naar ze zich er maar heeft hebben kan om uit dan hun wat hij we",
    "Portuguese": "o a os as de do da dos das e é são um uma que em por para com se não no na ao como porque quando mais "
    "ou sim eu você este esta também foi ser tem mas seu sua pelo pela muito",
}
_WORDS = {name: frozenset(words.split()) for name, words in _COMMON.items()}
_WEIGHT = {word: 1 / sum(word in words for words in _WORDS.values()) for word in frozenset().union(*_WORDS.values())}
"""A word that several languages have says less."""
_MARKS = {
    "German": "äöüß",
    "French": "çèêëîïôûùœà",
    "Spanish": "ñ¿¡",
    "Italian": "ìò",
    "Polish": "łąęśżźćń",
    "Czech": "řěůčďť",
    "Portuguese": "ãõ",
}


def method() -> str:
    """What tells languages apart here: `py3langid` with its version, or `frequent words`."""
    if importlib.util.find_spec("py3langid") is None:
        return "frequent words"
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"py3langid {version('py3langid')}"
    except PackageNotFoundError:
        return "py3langid"


def language_of(text: str) -> tuple[str | None, str | None]:
    """Name the language of an answer.

    Returns:
        (name, None): one of `LANGUAGES`, or `other`; or (None, reason) where the text is too short to tell.

    >>> language_of("Das ist so, weil die Luft das Licht streut.")
    ('German', None)
    """
    if not text.strip():
        return None, "empty"
    text = text[:MOST]
    if sum(len(w) for w in _LETTERS.findall(text)) < _LEAST_LETTERS:
        return by_words(text)
    if (library := _library()) is None:
        return by_words(text)
    code = str(library.classify(text)[0])
    return _NAMES.get(code, "other"), None


def by_words(text: str) -> tuple[str | None, str | None]:
    """Name the language by its frequent words and its own letters; the fallback, and exact about what it counts.

    >>> by_words("Parce que la lumière est diffusée")
    ('French', None)
    >>> by_words("42")
    (None, 'no language')
    """
    text = text[:MOST].casefold()
    words = _LETTERS.findall(text)
    scores = {
        name: sum(_WEIGHT[word] for word in words if word in common)
        + sum(text.count(mark) for mark in _MARKS.get(name, ""))
        for name, common in _WORDS.items()
    }
    best = max(scores.values())
    found = [name for name, score in scores.items() if math.isclose(score, best)]
    return (found[0], None) if best > 0 and len(found) == 1 else (None, "no language")


@functools.cache
def _library() -> Any:
    """An identifier of our own, since the package's is shared by everyone in the process."""
    if importlib.util.find_spec("py3langid") is None:
        return None
    langid = importlib.import_module("py3langid.langid")
    identifier = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    identifier.set_languages((*LANGUAGES.values(), *_OTHERS))
    return identifier
