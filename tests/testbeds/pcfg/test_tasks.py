"""Answers and prompts, each by a second way of counting."""

import pytest
import torch

from gnothi.errors import SpecError
from gnothi.testbeds.pcfg.grammar import read_grammar
from gnothi.testbeds.pcfg.sampler import Sampler
from gnothi.testbeds.pcfg.tasks import FAMILIES, PRIORS, Tasks, drawn

TASKS = Tasks(terminals=3, window=24, last=16, rank=3)


def by_hand(text: list[int], family: str, operand: int, t: Tasks) -> int:
    if family == "token":
        return text[-t.last]
    tail = text[-t.last :]
    if family.startswith("count_pair"):
        return t.number(sum(tail[i] == tail[i + 1] == operand for i in range(len(tail) - 1)))
    if family.startswith("count"):
        return t.number(tail.count(operand))
    seen = 0
    for far in range(len(text)):
        here = len(text) - 1 - far
        hit = text[here] == operand
        if family == "index_pair":
            hit = hit and here > 0 and text[here - 1] == operand
        seen += hit
        if seen == t.rank:
            return t.number(far)
    return t.mark("none")


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_counted_by_hand(family: str):
    text = torch.randint(0, 3, (300, 24), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    operands = torch.arange(300) % 3
    found = TASKS.answers(text, torch.full((300,), FAMILIES.index(family)), operands)
    right = [by_hand(row, family, int(o), TASKS) for row, o in zip(text.tolist(), operands, strict=True)]
    assert found.tolist() == right


def test_a_prompt_says_family_operand_number_and_text():
    text = torch.tensor([[0, 1, 2] * 8], dtype=torch.uint8)
    short = TASKS.prompts(text, torch.tensor([0]), torch.tensor([1]))[0].tolist()
    assert short == [
        TASKS.family("count"),
        1,
        TASKS.number(16),
        TASKS.mark("SOT"),
        *text[0].tolist(),
        TASKS.mark("ART"),
    ]
    full = Tasks(terminals=3, window=24, last=16, rank=3, full=True)
    long = full.prompts(text, torch.tensor([2]), torch.tensor([1]))[0].tolist()
    assert long[:5] == [full.mark("SOS"), full.family("index"), 1, full.number(3), full.mark("SOT")]
    assert long[-2:] == [full.mark("EOT"), full.mark("ART")]
    assert len(long) == full.length
    token = TASKS.prompts(text, torch.tensor([FAMILIES.index("token")]), torch.tensor([1]))[0].tolist()
    assert token[1] == TASKS.mark("null")


def test_at_the_papers_size_the_vocabulary_and_the_shares_of_the_commonest_answer_are_the_known_ones():
    tasks = Tasks(terminals=3, window=250, last=40, rank=6, full=True)
    assert tasks.vocabulary == 267
    text = Sampler(read_grammar("paper")).windows(8000, 250, torch.Generator().manual_seed(1))
    known = {"count": 0.35, "count_pair": 0.42, "index": 0.18, "index_pair": 0.06, "token": 0.33}
    for family, share in known.items():
        answers = tasks.answers(text, torch.full((8000,), FAMILIES.index(family)), torch.zeros(8000, dtype=torch.int64))
        assert float(answers.bincount().max()) / 8000 == pytest.approx(share, abs=0.025), family
        if family == "index_pair":
            assert float((answers == tasks.mark("none")).double().mean()) == pytest.approx(0.06, abs=0.015)


def test_operands_come_as_often_as_their_prior():
    found = drawn(PRIORS["high"], 30_000, torch.Generator().manual_seed(0), torch.device("cpu")).bincount() / 30_000
    assert found.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.015)
    assert set(drawn(PRIORS["noa"], 100, torch.Generator().manual_seed(0), torch.device("cpu")).tolist()) == {1}


@pytest.mark.parametrize(
    "sizes, said",
    [
        ({"terminals": 2}, "at least 3 letters"),
        ({"last": 15}, "last must be an even number from 2 to the window"),
        ({"last": 26}, "last must be an even number"),
        ({"rank": 7}, r"rank must be in \[1, 6\]"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: dict, said: str):
    with pytest.raises(SpecError, match=said):
        Tasks(**{"terminals": 3, "window": 24, "last": 16, "rank": 3, **sizes})
