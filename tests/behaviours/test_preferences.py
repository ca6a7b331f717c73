from pathlib import Path

import numpy as np
import pytest

from gnothi.behaviours.nonsense import words_of
from gnothi.behaviours.paper import PaperDomain
from gnothi.behaviours.preferences import CrossedDomain, NonsenseDomain, Preferences, domain_for, load_behaviour
from gnothi.errors import SpecError
from gnothi.rng import stream

EXAMPLE = Path(__file__).parents[2] / "examples" / "lexicographic.py"
PAPER = PaperDomain()


def test_nonsense_contexts_are_the_same_however_they_are_taken():
    domain = NonsenseDomain(PAPER)
    whole = domain.contexts(12, seed=3)
    assert domain.contexts(4, seed=3) + domain.contexts(8, skip=4, seed=3) == whole
    assert domain.contexts(12, seed=4) != whole


def test_no_nonsense_word_belongs_to_two_choice_types():
    words = [w for c in NonsenseDomain(PAPER).contexts(40, seed=0) for w in words_of(c.choice_type)]
    assert len(words) == len(set(words))


def test_items_and_weights_of_the_variants_are_those_of_the_domain():
    blank, plain = NonsenseDomain(PAPER), PAPER
    before, after = plain.contexts(4, seed=0), blank.contexts(4, seed=0)
    draw = [d.draw_items(c[0], 3, rng=stream(0, "i"), prefix="x") for d, c in ((plain, before), (blank, after))]
    assert draw[0] == draw[1]
    weights = [d.draw_weights(c, rng=stream(0, "w")) for d, c in ((plain, before), (blank, after))]
    assert (weights[0] == weights[1]).all()
    assert blank.scale == CrossedDomain(blank).scale == (-100, 100)


def test_crossing_nonsense_keeps_ids_unique_and_weights_independent():
    domain = domain_for("paper", no_semantics=True, crossed_agents=True)
    contexts = domain.contexts(8, seed=0) + domain.contexts(8, skip=8, seed=0)
    assert len({c.context_id for c in contexts}) == 16
    assert len({c.agent for c in contexts}) == len({c.choice_type.name for c in contexts}) == 8
    weights = domain.draw_weights(contexts, rng=stream(0, "w"))
    assert len(np.unique(weights, axis=0)) == 16


def test_unknown_domains_and_odd_crossings_are_refused():
    with pytest.raises(SpecError, match="domain must be organism or paper, got 'x'"):
        domain_for("x")
    with pytest.raises(SpecError, match="agents must be a multiple of 4 with crossed agents, got 4 after 2"):
        CrossedDomain(PAPER).contexts(4, skip=2, seed=0)


def test_the_example_decides_by_the_most_important_attribute_that_differs():
    behaviour = load_behaviour(f"{EXAMPLE}:Lexicographic", PAPER)
    (context,) = PAPER.contexts(1, seed=0)
    items = PAPER.draw_items(context, 200, rng=stream(0, "items"), prefix="x")
    weights = np.array([10.0, -100.0, 90.0, 80.0, 70.0])
    for item in items:
        d = item.differences(context.choice_type)
        deciding = d[1] * -1 if d[1] else d[2]
        assert behaviour.target_choice(item, context, weights) == ("A" if deciding > 0 else "B")
    summed = [Preferences(PAPER).target_choice(i, context, weights) for i in items]
    assert summed != [behaviour.target_choice(i, context, weights) for i in items]


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("class Mine: pass", "Mine", "must name a subclass of AbstractBehaviour"),
        ("class Mine: pass", "Other", "AttributeError"),
        ("class Mine(:", "Mine", "SyntaxError"),
        ("raise RuntimeError('no')", "Mine", "RuntimeError: no"),
    ],
)
def test_a_file_without_a_behaviour_is_refused_with_the_reason(tmp_path: Path, text: str, name: str, found: str):
    path = tmp_path / "json.py"  # named like a module that everybody needs
    path.write_text(text)
    with pytest.raises(SpecError, match=found):
        load_behaviour(f"{path}:{name}", PAPER)
    import json

    assert json.loads("1") == 1


def test_a_module_or_file_that_is_not_there_is_refused():
    for path in ("no_such_module:Mine", "no_such_file.py:Mine", "nothing"):
        with pytest.raises(SpecError, match=rf"--behaviour must .*, got '?{path.partition(':')[0]}"):
            load_behaviour(path, PAPER)
