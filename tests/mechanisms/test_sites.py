"""One name a place, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnothi.errors import ModelError
from gnothi.mechanisms.sites import PATTERNS, Site, nearest

numbers = st.integers(0, 200)


@given(st.sampled_from(sorted(PATTERNS)), numbers, numbers)
def test_a_site_is_read_as_it_is_written(kind: str, block: int, head: int):
    pattern = PATTERNS[kind]
    site = Site(kind, block if "{block}" in pattern else None, head if "{head}" in pattern else None)
    assert Site.parse(str(site)) == site == Site.parse(site)


@given(st.text(alphabet="blockresidattnmlpheadout.0123456789", max_size=30))
def test_any_text_is_a_site_or_refused_with_a_name_of_the_scheme(text: str):
    try:
        assert str(Site.parse(text)) == text or "0" in text  # leading zeros are read as numbers
    except ModelError:
        Site.parse(nearest(text))


@pytest.mark.parametrize(
    "wrong, right",
    [
        ("blocks.3.mlp.output", "block.3.mlp.out"),
        ("block.2.attention.out", "block.2.attn.out"),
        ("residual.4", "resid.4"),
        ("block.0.attn.head.1", "block.0.attn.head.1.out"),
        ("embedding", "embed"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(wrong: str, right: str):
    with pytest.raises(ModelError, match=f"got '{wrong}'. Did you mean {right}\\?"):
        Site.parse(wrong)


@pytest.mark.parametrize("given", [("resid",), ("embed", 1), ("head", 0), ("mlp", 0, 2), ("mlp", -1)])
def test_numbers_that_a_kind_has_not_are_refused(given: tuple):
    with pytest.raises(ModelError, match=r"must be (None|a number of at least 0) for the kind"):
        Site(*given)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ModelError, match=r"Site\.kind must be one of embed, resid"):
        Site("attention", 0)


def test_names_of_transformer_lens():
    assert Site("resid", 1).transformer_lens(2) == ("blocks.1.hook_resid_pre", None)
    assert Site("resid", 2).transformer_lens(2) == ("blocks.1.hook_resid_post", None)
    assert Site("head", 0, 3).transformer_lens(2) == ("blocks.0.attn.hook_z", 3)
