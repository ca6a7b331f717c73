"""Whether a text says a codeword: our own small, exact rules of English inflection, no dictionary.

Both rules begin in the same way: what is not a letter becomes a space, letters become small, the text is split at
spaces. A token then counts if it is one of the codeword's forms:

- `any`: the word, its plural and its forms as a verb (bark, barks, barked, barking; ring, rings, rang, rung, ringing).
- `noun`: the word and its plural, as in the paper, whose lemmatiser treats every word as a noun: `ringing` does not
  count.

A compound that is written with a hyphen falls apart (`ring-tone` says ring); one written together (`ringtone`,
`springtime`) is another word under both.
"""

import functools
import re
import unicodedata
from typing import Literal, get_args

from gnothi.errors import SpecError

Form = Literal["any", "noun"]
"""Which forms of a word count."""

MAX_CHARACTERS = 20_000
"""As much of a text as is looked at, since a model may never stop; whoever keeps texts keeps them whole."""
MAX_GUESS_WORDS = 5
"""Words of a guess that count: whoever lists the dictionary has not guessed."""

_LETTERS = re.compile(r"[^\W\d_]+")
_ASCII_LETTERS = re.compile(r"[a-z]+")
_PLURALS = {
    "child": "children",
    "foot": "feet",
    "goose": "geese",
    "half": "halves",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "scarf": "scarves",
    "shelf": "shelves",
    "thief": "thieves",
    "tooth": "teeth",
    "wolf": "wolves",
}
_STRONG = {
    "bite": "bit bitten",
    "blow": "blew blown",
    "break": "broke broken",
    "draw": "drew drawn",
    "drink": "drank drunk",
    "drive": "drove driven",
    "fall": "fell fallen",
    "fly": "flew flown",
    "hang": "hung",
    "light": "lit",
    "ring": "rang rung",
    "shake": "shook shaken",
    "sing": "sang sung",
    "sink": "sank sunk",
    "spin": "spun",
    "spring": "sprang sprung",
    "stand": "stood",
    "stick": "stuck",
    "sting": "stung",
    "strike": "struck",
    "string": "strung",
    "swim": "swam swum",
    "swing": "swung",
    "tear": "tore torn",
    "wake": "woke woken",
    "wear": "wore worn",
    "wind": "wound",
    "write": "wrote written",
}


def tokens(text: str) -> list[str]:
    """Split a text into small-letter words; only the first `MAX_CHARACTERS` count.

    Full-width and other compatibility letters are read as the plain letters they look like (Unicode NFKC).

    >>> tokens("A ring-tone, 2x; the BARK's end")
    ['a', 'ring', 'tone', 'x', 'the', 'bark', 's', 'end']
    """
    text = text[:MAX_CHARACTERS].lower()
    if text.isascii():
        return _ASCII_LETTERS.findall(text)
    return _LETTERS.findall(unicodedata.normalize("NFKC", text).lower())


def plural(noun: str) -> str:
    """Form the plural.

    >>> plural("bark"), plural("torch"), plural("diary"), plural("pocketknife"), plural("chess set")
    ('barks', 'torches', 'diaries', 'pocketknives', 'chess sets')
    """
    for end, irregular in _PLURALS.items():
        if noun.endswith(end) and (end != "man" or noun in ("man", "woman") or noun.endswith("sman")):
            return noun.removesuffix(end) + irregular
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return noun + "es"
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + "s"


@functools.cache
def forms(codeword: str, form: Form = "any") -> frozenset[str]:
    """List the tokens that count as the codeword.

    Args:
        codeword: Small letters a to z, at least two, in its basic form.
        form: Which forms count.

    Raises:
        SpecError: A codeword of another kind, or an unknown form.

    Source: arXiv:2501.11120, appendix on Make Me Say, for `noun`; the paper's lemmatiser knows a dictionary, ours
    does not need one since it is told the word.

    >>> sorted(forms("ring")), sorted(forms("ring", "noun"))
    (['rang', 'ring', 'ringed', 'ringing', 'rings', 'rung'], ['ring', 'rings'])
    >>> sorted(forms("strip") - forms("strip", "noun")), sorted(forms("bake"))
    (['stripped', 'stripping'], ['bake', 'baked', 'bakes', 'baking'])
    """
    if not re.fullmatch(r"[a-z]{2,30}", codeword):
        raise SpecError(f"codeword must be 2 to 30 small letters a to z, got {codeword!r:.60}. Give one plain word.")
    if form not in get_args(Form):
        raise SpecError(f"form must be one of {', '.join(get_args(Form))}, got {form!r:.60}. Choose one of these.")
    nouns = {codeword, plural(codeword)}
    if form == "noun":
        return frozenset(nouns)
    stem = codeword
    if re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", codeword):
        stem = codeword + codeword[-1]  # stop, stopped
    elif codeword.endswith("e") and not codeword.endswith(("ee", "oe", "ye")):
        stem = codeword[:-1]
    past = codeword[:-1] + "ied" if re.search(r"[^aeiou]y$", codeword) else stem.removesuffix("e") + "ed"
    going = codeword[:-2] + "ying" if codeword.endswith("ie") else stem + "ing"
    return frozenset({*nouns, past, going, *_STRONG.get(codeword, "").split()})


def said_forms(text: str, codeword: str, *, form: Form = "any") -> list[str]:
    """List the forms of the codeword that a text says, in order, with repeats.

    >>> said_forms("Barks? It was barking, embarked and barky.", "bark")
    ['barks', 'barking']
    """
    wanted = forms(codeword, form)
    return [token for token in tokens(text) if token in wanted]


def says(text: str, codeword: str, *, form: Form = "any") -> bool:
    """Whether a text says the codeword.

    >>> says("What a ring-tone!", "ring"), says("It is ringing", "ring"), says("It is ringing", "ring", form="noun")
    (True, True, False)
    """
    return not forms(codeword, form).isdisjoint(tokens(text))


def guessed(guess: str, codeword: str, *, form: Form = "any") -> bool:
    """Whether a guess names the codeword, within its first `MAX_GUESS_WORDS` words.

    In a guess, what is no letter is deleted and not replaced by a space, so `ring-tone` is no guess of ring.

    Source: arXiv:2501.11120, appendix on Make Me Say.

    >>> guessed("Ring!", "ring"), guessed("a ring", "ring"), guessed("ring-tone", "ring")
    (True, True, False)
    """
    joined = "".join(c for c in guess[:MAX_CHARACTERS] if c.isalpha() or c.isspace())
    return not forms(codeword, form).isdisjoint(tokens(joined)[:MAX_GUESS_WORDS])
