"""Grammars: the paper's, anyone's, and those that can't be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.errors import SpecError
from gnothi.testbeds.pcfg.grammar import make_grammar, read_grammar

ANY = {"start": "s", "terminals": ["a", "b", "c"], "rules": {"s": ["a x", "b"], "x": {"c": 3, "a x": 1}}}


def test_the_papers_grammar_has_two_equal_rules_a_symbol_and_strings_of_275_tokens():
    grammar = read_grammar("paper")
    assert len(grammar.rules) == 16
    assert all([p for _, p in sides] == [0.5, 0.5] for sides in grammar.rules.values())
    assert grammar.mean_lengths()["s"] == pytest.approx(275.625)
    assert grammar.mean_lengths()["d"] == 2.5


def test_weights_become_probabilities_and_a_grammar_comes_back_from_its_plain_values():
    grammar = make_grammar(ANY)
    assert grammar.rules["x"] == ((("c",), 0.75), (("a", "x"), 0.25))
    assert make_grammar(grammar.to_json()) == grammar
    # x has 4/3 tokens: 3/4 x 1 + 1/4 x (1 + x); s has half of (1 + x) and half of 1
    assert grammar.mean_lengths()["x"] == pytest.approx(4 / 3)
    assert grammar.mean_lengths()["s"] == pytest.approx(0.5 * (1 + 4 / 3) + 0.5)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"start": "S"}, "start must be a symbol with rules, got 'S'"),
        ({"rules": {"s": ["a x"], "x": ["c b", "a xx"]}}, r"the undefined 'xx' in a rule of 'x'. Did you mean x\?"),
        ({"rules": {**ANY["rules"], "z": ["a"]}}, "got the unreachable z"),
        ({"terminals": ["a", "b", "c", "d"]}, "got the unreachable d"),
        ({"rules": {"s": ["a x", "b c"], "x": ["a x"]}}, "got x, which never ends. Give 'x' a rule without itself"),
        ({"rules": {"s": ["s s", "a b c"]}}, "a grammar that never ends"),
        ({"rules": {"s": {"s s": 9, "a b c": 1}}}, "grows into 1.80 of its kind"),
        ({"terminals": ["a", "b", "c", "x"]}, "got both for 'x'"),
        ({"terminals": ["a", "a", "b", "c"]}, "must be 2 to 500 different symbols"),
        ({"terminals": "abc"}, "terminals must be a list of symbols"),
        ({"rules": {"s": []}}, "rules of 's' must be different right sides"),
        ({"rules": {"s": ["a b c", ""]}}, "must be symbols apart by spaces, got ''"),
        ({"rules": {"s": {"a b c": 0}}}, "a weight of 's' must be a number above 0, got 0"),
        ({"rules": ["s"]}, "rules must be a mapping"),
        ({"more": 1}, "must have the fields start, terminals, rules"),
    ],
)
def test_a_grammar_that_cannot_be_is_refused_in_one_line(change: dict, said: str):
    with pytest.raises(SpecError, match=said) as caught:
        make_grammar({**ANY, **change})
    assert "\n" not in str(caught.value)


def test_a_file_is_read_and_its_faults_name_the_file(tmp_path):
    good = tmp_path / "mine.yaml"
    good.write_text("start: s\nterminals: [a, b, c]\nrules:\n  s: [a b c, a s]\n")
    assert read_grammar(good).mean_lengths()["s"] == pytest.approx(4.0)
    bad = tmp_path / "bad.yaml"
    bad.write_text("start: s\nterminal: [a]\nrules:\n  s: [a]\n")
    with pytest.raises(SpecError, match=r"bad.yaml, line 2: .* Did you mean terminals\?"):
        read_grammar(bad)
    with pytest.raises(SpecError, match="exist"):
        read_grammar(tmp_path / "nowhere.yaml")


sides = st.lists(
    st.lists(st.sampled_from("abcxyz"), min_size=1, max_size=3).map(" ".join), min_size=1, max_size=3, unique=True
)


@settings(max_examples=60, deadline=None)
@given(rules=st.dictionaries(st.sampled_from("sxyz"), sides, min_size=1))
def test_any_rules_make_a_grammar_that_comes_back_or_a_spec_error(rules: dict):
    try:
        grammar = make_grammar({"start": "s", "terminals": ["a", "b", "c"], "rules": rules})
    except SpecError:
        return
    assert make_grammar(grammar.to_json()) == grammar
    assert 1 <= grammar.mean_lengths()["s"] < 100_000
