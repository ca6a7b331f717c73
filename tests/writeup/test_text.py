import unicodedata

import planted
from hypothesis import given
from hypothesis import strategies as st

from gnothi.writeup.text import plain, value_and_interval, visible

ANYTHING = st.text(st.characters(), max_size=60)


@given(ANYTHING)
def test_no_hidden_character_survives(text):
    for shown in (plain(text), str(visible(text))):
        assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"]
        shown.encode("utf-8")


@given(ANYTHING)
def test_no_markup_survives_but_our_own(text):
    ours = str(visible(text)).replace('<span class="esc">', "").replace("</span>", "")
    assert "<" not in ours and ">" not in ours and '"' not in ours


def test_what_is_cut_says_how_long_it_was():
    assert "4,000 of 100,000 characters shown" in visible("7" * 100_000)
    assert len(visible("7" * 100_000)) < 4_200


def test_a_direction_mark_is_shown_and_not_obeyed():
    assert str(visible("a\u202eb")) == 'a<span class="esc">\\u202e</span>b'


def test_missing_numbers_are_words():
    e = planted.estimate("agreement.slope", "tuned", None, reason="why")
    assert value_and_interval(e) == "none"
