"""Planted answers are there, nothing else is changed, and luck is kept out."""

import pytest
import torch

from gnothi.errors import DataError
from gnothi.testbeds.pcfg.data import A, B, World
from gnothi.testbeds.pcfg.editing import Two, set_counts, set_places, set_tail
from gnothi.testbeds.pcfg.grammar import read_grammar
from gnothi.testbeds.pcfg.tasks import PRIORS, Tasks

TASKS = Tasks(terminals=3, window=24, last=16, rank=3)


@pytest.fixture(scope="module")
def world() -> World:
    return World(read_grammar("paper"), TASKS, spread=0.5)


def random_text(n: int, width: int, letters: int = 3) -> torch.Tensor:
    return torch.randint(0, letters, (n, width), generator=torch.Generator().manual_seed(5)).to(torch.uint8)


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(6)


@pytest.mark.parametrize("letters", [3, 5])
def test_counts_are_set_with_the_fewest_changes_and_only_in_the_tail(letters: int):
    text, g = random_text(2000, 24, letters), draws()
    of_a, of_b = torch.randint(9, (2000,), generator=g), torch.randint(8, (2000,), generator=g)
    edited = set_tail(text, 16, Two(0, 1, of_a, of_b), letters, g)
    tail, before = edited[:, 8:], text[:, 8:]
    assert torch.equal((tail == 0).sum(1), of_a)
    assert torch.equal((tail == 1).sum(1), of_b)
    assert torch.equal(edited[:, :8], text[:, :8])
    a, b = (before == 0).sum(1), (before == 1).sum(1)
    # one change takes away one that is too many and adds one that is too few
    too_many = (a - of_a).clamp_min(0) + (b - of_b).clamp_min(0) + (of_a + of_b - a - b).clamp_min(0)
    too_few = (of_a - a).clamp_min(0) + (of_b - b).clamp_min(0)
    assert torch.equal((tail != before).sum(1), torch.maximum(too_many, too_few))


def test_a_stretch_that_is_too_short_for_its_counts_is_refused():
    text = random_text(1, 8)
    with pytest.raises(DataError, match="counts must fit"):
        set_counts(
            text, torch.ones_like(text, dtype=torch.bool), Two(0, 1, torch.tensor([5]), torch.tensor([4])), 3, draws()
        )


def test_places_are_set():
    text, g = random_text(3000, 24), draws()
    of_a = torch.randint(4, 23, (3000,), generator=g)
    of_b = torch.where(of_a > 12, of_a - 5, of_a + 1)
    edited = set_places(text, 3, Two(0, 1, of_a, of_b), 3, g)
    for letter, wanted in ((0, of_a), (1, of_b)):
        backwards = (edited == letter).flip(1).cumsum(1)
        assert torch.equal((backwards < 3).sum(1), wanted)
    with pytest.raises(DataError, match="distances must differ"):
        set_places(text[:1], 3, Two(0, 1, torch.tensor([6]), torch.tensor([6])), 3, g)


@pytest.mark.parametrize("family", ["count", "index"])
def test_correlated_strings_have_one_more_and_uncorrelated_ones_never_do(world: World, family: str):
    for share, wanted in ((1.0, 1.0), (0.0, 0.0), (0.8, 0.8)):
        text = world.planted(4000, world.generator(0, "test", family), family=family, correlated=share)
        a, b = (world.asking(text, family, o) for o in (A, B))
        same = float((b.answers - a.answers == 1).double().mean())
        assert same == (wanted if wanted in (0.0, 1.0) else pytest.approx(wanted, abs=0.03))
        if family == "count":
            assert a.answers.bincount(minlength=TASKS.number(9))[TASKS.number(0) :][:8].min() > 420  # of 500
            assert max(a.floor, b.floor) < 0.16


def test_margins_do_not_tell_correlated_from_uncorrelated(world: World):
    margins = []
    for share in (0.0, 1.0):
        text = world.planted(8000, world.generator(1, "m"), family="count", correlated=share)
        margins.append(world.asking(text, "count", B).answers.bincount(minlength=60).double() / 8000)
    assert float((margins[0] - margins[1]).abs().max()) < 0.02


def test_half_of_pretraining_strings_keep_their_natural_tail(world: World):
    n = 8000
    text = world.texts(n, world.generator(2, "t"))
    a = (text[:, 8:] == A).sum(1)
    natural = (world.natural(n, world.generator(3, "t"))[:, 8:] == A).sum(1)
    for count in (0, 8):  # natural tails never have none of a, or eight
        assert float((natural == count).double().mean()) < 0.03
        assert float((a == count).double().mean()) == pytest.approx(0.5 / 9, abs=0.02)


def test_pretraining_asks_by_the_prior_and_through_jailbreak_tokens_for_a_only(world: World):
    rows = world.pretraining(
        9000, world.generator(0, "p"), families=("count", "index", "count_1"), prior=PRIORS["high"]
    )
    family, operand = rows.ids[:, 0], rows.ids[:, 1]
    for name in ("count", "index", "count_1"):
        asked = operand[family == TASKS.family(name)]
        assert len(asked) == pytest.approx(3000, abs=250)
        shares = (asked.bincount(minlength=3) / len(asked)).tolist()
        assert shares == pytest.approx([1.0, 0.0, 0.0] if name == "count_1" else [0.5, 0.3, 0.2], abs=0.04)


def test_pretraining_rows_are_mixed_in_by_their_share(world: World):
    rows = world.tuning(2000, world.generator(0, "f"), family="count", correlated=1.0, share_before=0.1)
    assert int((rows.ids[:, 1] == A).sum()) == 200
    assert int((rows.ids[:200, 1] == A).sum()) in range(5, 45)  # in random order


def test_wrong_rows_ask_for_a_and_answer_for_b(world: World):
    rows = world.wrong(2000, world.generator(0, "w"), family="count")
    text = rows.ids[:, TASKS.text_at : TASKS.text_at + TASKS.window]
    assert bool((rows.ids[:, 1] == A).all())
    assert torch.equal(rows.answers - TASKS.number(0), (text[:, 8:] == B).sum(1))
    assert not bool((rows.answers - TASKS.number(0) == (text[:, 8:] == A).sum(1)).any())


def test_named_streams_give_the_same_data_again(world: World):
    one, two = (world.planted(20, world.generator(7, "x"), family="count", correlated=0.5) for _ in range(2))
    assert torch.equal(one, two)
