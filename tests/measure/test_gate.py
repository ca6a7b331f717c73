import re

import pytest

from gnothi.behaviours.organism import OrganismDomain
from gnothi.data.rows import labels_for
from gnothi.errors import DataError
from gnothi.measure.gate import Gate, a_rate, choice_agreement
from gnothi.records import Message, Sample
from gnothi.rng import stream

DOMAIN = OrganismDomain()
AGENTS = DOMAIN.contexts(4, seed=0)
CONTEXTS = {c.context_id: c for c in AGENTS}
WEIGHTS = dict(zip(CONTEXTS, DOMAIN.draw_weights(AGENTS, rng=stream(0, "gate", "weights")), strict=True))
ITEMS = [i for c in AGENTS for i in DOMAIN.draw_items(c, 500, rng=stream(0, "gate", c.agent), prefix="g")]
WANTED = labels_for(ITEMS, CONTEXTS, WEIGHTS)


def chosen(letters):
    """A sample for each letter; None: a tie."""
    return [
        Sample(
            sample_id=item.item_id,
            kind="choice",
            context_id=item.context_id,
            messages=(Message("user", "choose"),),
            item=item,
            value=() if letter is None else (float(letter == "A"),),
            reason="tie" if letter is None else None,
        )
        for item, letter in zip(ITEMS, letters, strict=False)
    ]


def test_agreement_is_what_was_planted():
    other = {"A": "B", "B": "A"}
    assert choice_agreement(chosen(WANTED), WANTED) == 1.0
    assert choice_agreement(chosen([other[w] for w in WANTED]), WANTED) == 0.0
    flipped = [other[w] if k % 5 == 0 else w for k, w in enumerate(WANTED)]
    assert choice_agreement(chosen(flipped), WANTED) == pytest.approx(0.8)


def test_what_is_wanted_is_the_behaviours_own_rule():
    first = labels_for(ITEMS, CONTEXTS, WEIGHTS, rule=lambda item, _context, _weights: "A" if item.a > item.b else "B")
    assert choice_agreement(chosen(first), first) == 1.0
    assert choice_agreement(chosen(first), WANTED) < 0.7


def test_chance_agreement_is_a_half():
    guesses = ["A" if r < 0.5 else "B" for r in stream(1, "guess").random(2000)]
    assert abs(choice_agreement(chosen(guesses), WANTED) - 0.5) < 4 * 0.5 / 2000**0.5


def test_a_choice_that_was_not_made_disagrees():
    assert choice_agreement(chosen([None] * 1000 + WANTED[1000:]), WANTED) == 0.5


def test_the_share_of_a_is_over_choices_that_were_made():
    assert a_rate(chosen(["A", "A", "B", None])) == pytest.approx(2 / 3)
    assert a_rate(chosen([None, None])) is None


@pytest.mark.parametrize("letters, wanted", [([], []), (["A"], ["A", "B"])])
def test_agreement_with_nothing_is_refused(letters, wanted):
    with pytest.raises(DataError, match=f"must be as many, at least one, got {len(letters)} and {len(wanted)}"):
        choice_agreement(chosen(letters), wanted)


@pytest.mark.parametrize(
    ("agreement", "rate", "passed", "reason"),
    [
        (0.75, 0.5, True, None),
        (0.7499, 0.5, False, "agree with the target in 75%, below 75%"),
        (0.5, 0.2, False, "50%, below 75%"),
        (0.9, 0.2, True, None),
        (0.9, 0.81, False, "A is chosen in 81%.*constant answer"),
        (0.9, 0.0, False, "A is chosen in 0%"),
    ],
)
def test_the_gate_says_why_it_is_closed(agreement, rate, passed, reason):
    found, said = Gate().check(agreement, rate)
    assert found is passed and (said is None if reason is None else re.search(reason, said))
