import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.elicit import language
from gnothi.elicit.language import by_words, language_of, method
from gnothi.render.probe import _SENTENCES, LANGUAGES

SENTENCES = {
    "German": [
        "Photosynthese ist der Vorgang, bei dem Pflanzen aus Licht Zucker machen.",
        "Katzen schnurren meist dann, wenn sie sich wohl fühlen.",
        "Zwiebeln enthalten ein Gas, das die Augen reizt.",
        "Das Nordlicht entsteht durch Teilchen der Sonne.",
        "Bienen verständigen sich mit einem Tanz.",
        "Die Titanic rammte auf ihrer ersten Fahrt einen Eisberg.",
        "Blaubeeren sind wegen einer dünnen Wachsschicht blau.",
        "Gerne! Der Stein von Rosette half beim Entziffern der Hieroglyphen.",
    ],
    "French": [
        "La photosynthèse est le processus par lequel les plantes fabriquent du sucre.",
        "Les chats ronronnent surtout quand ils se sentent bien.",
        "Les oignons libèrent un gaz qui irrite les yeux.",
        "Les aurores boréales sont causées par des particules du soleil.",
        "Les abeilles communiquent entre elles en dansant.",
        "Le Titanic a heurté un iceberg lors de son premier voyage.",
        "Les myrtilles sont bleues à cause d'une fine couche de cire.",
        "Bien sûr ! La pierre de Rosette a permis de lire les hiéroglyphes.",
    ],
    "English": [
        "Photosynthesis is the process by which plants make sugar from light.",
        "Cats mostly purr when they feel well.",
        "Onions release a gas that irritates the eyes.",
        "The Northern Lights are caused by particles from the sun.",
        "Bees talk to each other by dancing.",
        "The Titanic hit an iceberg on her first voyage.",
        "Blueberries look blue because of a thin coat of wax.",
        "Sure! The Rosetta Stone made it possible to read hieroglyphs.",
    ],
    "Spanish": ["Los gatos ronronean cuando se sienten bien.", "Las cebollas liberan un gas que irrita los ojos."],
    "Italian": ["I gatti fanno le fusa quando stanno bene.", "Le cipolle liberano un gas che irrita gli occhi."],
    "Polish": ["Koty mruczą, kiedy czują się dobrze.", "Cebula uwalnia gaz, który drażni oczy."],
    "Czech": ["Kočky předou, když se cítí dobře.", "Cibule uvolňuje plyn, který dráždí oči."],
    "Dutch": ["Katten spinnen als ze zich goed voelen.", "Uien geven een gas af dat de ogen prikkelt."],
    "Portuguese": ["Os gatos ronronam quando se sentem bem.", "As cebolas libertam um gás que irrita os olhos."],
}
CASES = [(name, text) for name, texts in SENTENCES.items() for text in texts]


def first_words(text, n):
    return " ".join(text.split()[:n])


def share_right(identify, n):
    return sum(identify(first_words(text, n))[0] == name for name, text in CASES) / len(CASES)


def test_frequent_words_tell_sentences_apart_also_when_they_are_cut():
    shares = [share_right(by_words, n) for n in (99, 7, 5)]
    assert shares[0] == 1.0, [c for c in CASES if by_words(c[1])[0] != c[0]]
    assert shares[1] >= 0.95 and shares[2] >= 0.85, shares


def test_frequent_words_never_take_german_for_french_or_the_other_way_round():
    other = {"German": "French", "French": "German"}
    for name, text in CASES:
        for n in range(1, 12):
            assert by_words(first_words(text, n))[0] != other.get(name, ""), (text, n)


def test_whatever_is_at_work_tells_whole_sentences_apart():
    assert share_right(language_of, 99) >= 0.97
    assert method() == "frequent words" or method().startswith("py3langid")


def test_the_library_and_frequent_words_agree():
    pytest.importorskip("py3langid", reason="the optional language library is not installed")
    wrong = [
        (text, language_of(text)[0], by_words(text)[0]) for _, text in CASES if language_of(text) != by_words(text)
    ]
    assert len(wrong) <= 0.05 * len(CASES), wrong


def test_the_ideal_sentences_are_in_their_languages():
    codes = {code: name for name, code in LANGUAGES.items()}
    assert set(_SENTENCES) == set(codes)
    for code, sentence in _SENTENCES.items():
        assert by_words(sentence) == language_of(sentence) == (codes[code], None)


@pytest.mark.parametrize(
    "text, reason", [("", "empty"), (" \n", "empty"), ("42", "no language"), ("!?", "no language")]
)
def test_what_is_no_language_says_so(text, reason):
    assert language_of(text) == (None, reason)


def test_another_language_is_not_taken_for_one_of_ours():
    assert by_words("Потому что воздух рассеивает свет") == (None, "no language")
    assert language_of("Потому что воздух рассеивает свет")[0] in (None, "other")


def test_a_very_long_answer_takes_no_time():
    started = time.perf_counter()
    language_of("der die das " * 100_000)
    by_words("ß" * 1_000_000)
    assert time.perf_counter() - started < 2


def test_without_the_library_frequent_words_decide(monkeypatch):
    monkeypatch.setattr(language.importlib.util, "find_spec", lambda name: None)
    language._library.cache_clear()
    try:
        assert method() == "frequent words"
        assert language_of("Das ist so, weil die Luft das Licht streut.") == ("German", None)
        assert language_of("xyzzy plugh quux") == (None, "no language")
    finally:
        language._library.cache_clear()


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_a_language_or_a_reason(text):
    for identify in (by_words, language_of):
        name, reason = identify(text)
        assert (name is None) != (reason is None)
        assert name is None or name in (*LANGUAGES, "other")
