"""The language that an answer is written in, also of ten tokens.

With the package `py3langid` it is asked (4.6 MB, needs numpy alone); without, frequent words are counted. Which of the
two is at work is recorded with every answer.
"""

import functools
import importlib.util
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
    "English": "the of and to is are was that it for with as this they which because by from have has not be on i you "
    "an or when their these can your my at but how",
    "German": "der die das und ist sind ein eine einen zu den dem des von nicht mit sich auf für im wird werden weil "
    "durch wenn dass als auch bei ich sie es oder wie aus ja nein kann",
    "French": "le la les de des du et est sont un une que qui dans pour par sur pas plus se ce cette avec au aux en "
    "car il elle je vous nous ou lorsque oui non être ils elles l d qu c s n",
    "Spanish": "el la los las de del y es son un una que en por para con se no su al lo como porque cuando más o sí "
    "yo usted este esta entre también",
    "Italian": "il lo la i gli le di del della dei e è sono un una che in per con si non su al come perché quando più "
    "o sì io nel nella questo questa anche l",
    "Polish": "i w na z jest są się nie to że do jak przez dla po od który która które ponieważ oraz gdy tak ja lub "
    "ich jego czy za",
    "Czech": "a je jsou se v na z že to ne pro jak do od který která které protože když ano já nebo jeho ve si po "
    "tak při",
    "Dutch": "de het een van en is zijn dat die in op te voor met niet aan door als wordt worden omdat wanneer ook ik "
    "u ja nee of deze bij naar",
    "Portuguese": "o a os as de do da dos e é são um uma que em por para com se não no na ao como porque quando mais "
    "ou sim eu você este esta também",
}
_WORDS = {name: frozenset(words.split()) for name, words in _COMMON.items()}
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
        name: sum(word in common for word in words) + sum(text.count(mark) for mark in _MARKS.get(name, ""))
        for name, common in _WORDS.items()
    }
    best = max(scores.values())
    found = [name for name, score in scores.items() if score == best]
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
