"""Stored answers as prompts: orientation from the scores, scales turned where they were, what no token shows left out."""

import numpy as np
import pytest
from tests.experiments.look import planted

from gnothi.experiments.look import prompts
from gnothi.experiments.look.prompts import NUMBERS, OPTIONS, opposite_pairs, split
from gnothi.records import Message, Sample


def sample(i: int = 0, **fields) -> Sample:
    """A stored answer."""
    values = {"sample_id": str(i), "kind": "choice", "context_id": "you", "value": (0.9,)}
    values |= {"messages": (Message("user", "you offer 3 6"),), "extra": {"question": "held_out", "log_mass": -0.1}}
    return Sample(**(values | fields))


@pytest.mark.parametrize(("score", "words"), [(0.9, ("A", "B")), (0.1, ("B", "A"))])
def test_the_option_of_the_plus_end_comes_first_whatever_letter_it_is(score: float, words: tuple[str, str]):
    logprobs = (float(np.log(0.9)), float(np.log(0.1)))
    kind, found, _, stored, flipped = prompts._answers(sample(options=("A", "B"), logprobs=logprobs, value=(score,)))
    assert (kind, found, flipped) == (OPTIONS, words, score < 0.5)
    assert stored == pytest.approx(np.log(9) if score > 0.5 else -np.log(9))


def test_a_reversed_scale_is_turned():
    extra = {"question": "liking", "probabilities": [0.7, 0.2, 0.1], "low": 0}
    for score, values in ((0.2, (0.0, 0.5, 1.0)), (0.8, (1.0, 0.5, 0.0))):
        kind, words, found, stored, _ = prompts._answers(sample(kind="report", value=(score,), extra=extra))
        assert (kind, words, found) == (NUMBERS, ("0", "1", "2"), values)
        assert stored == pytest.approx(score)


def test_whole_texts_and_written_answers_are_left_out():
    texts = {"question": "held_out", "n": 1}
    assert (
        prompts._answers(sample(options=("def f", "def g"), logprobs=(-1.0, -2.0), value=(0.7,), extra=texts)) is None
    )
    assert prompts._answers(sample(text="risky", extra={"question": "one_word"})) is None


def test_options_that_begin_with_one_token_are_left_out():
    codec = planted.organism().codec
    same = sample(options=("A", "A "), logprobs=(-0.1, -2.0))
    good = sample(1, options=("A", "B"), logprobs=(-0.1, -2.4))
    found = prompts._encoded([same, good], codec)
    assert found[0] is None and found[1] is not None and found[1].sample_id == "1"


def test_prompts_are_dealt_out_once_each_and_the_same_every_time():
    items = list(range(50))
    first, second = (split(items, seed=3, n=20, tried=8) for _ in range(2))  # type: ignore[arg-type]
    assert first == second
    assert sorted([*first.shown, *first.others]) == items
    assert set(first.tried) | set(first.choosing) <= set(first.shown) and not set(first.tried) & set(first.choosing)
    assert len(first.shown) == 20 and len(first.tried) == len(first.choosing) == 8
    few = split(items[:10], seed=3, n=20, tried=8)  # type: ignore[arg-type]
    assert len(few.others) >= 4 and few.tried and few.choosing


def test_pairs_have_opposite_choices_and_none_comes_twice():
    contrasts = np.array([1.0, -1.0, 2.0, -3.0, 0.5, 0.0])
    pairs = opposite_pairs(contrasts, n=100, seed=1)
    assert len(pairs) == len({tuple(sorted(p)) for p in pairs}) == 6
    assert all(contrasts[a] * contrasts[b] < 0 for a, b in pairs)
    assert {contrasts[a] > 0 for a, _ in pairs} == {True, False}
    assert opposite_pairs(np.ones(4), n=8, seed=1) == []
