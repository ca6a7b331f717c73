"""The benchmarks' own machinery: what a row holds, how operations are counted, processes that answer, small runs."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
MODULES = (
    "fleet",
    "gpu",
    "linear",
    "logit",
    "lora",
    "organism",
    "organism_shape",
    "own_training",
    "peers",
    "sampling",
    "scoring",
    "subjects",
)


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(ROOT)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported_without_any_peer(name):
    importlib.import_module(f"benchmarks.{name}")


def test_the_fastest_repeat_of_each_side_counts():
    from benchmarks.rows import FIELDS, Repeats, row

    found = row(
        "scoring/x",
        amount=12,
        unit="items/s",
        ours=Repeats([3.0, 2.0], [2.9, 1.9]),
        peer=Repeats([8.0, 6.0], [7.0, 5.0]),
        peer_name="peer",
        peer_version="1.0",
        max_abs_diff=0.0,
    )
    assert set(FIELDS) <= set(found)
    assert (found["ours"], found["peer"], found["ratio"]) == (6.0, 2.0, 3.0)
    assert found["repeats_s"] == {"ours": [3.0, 2.0], "peer": [8.0, 6.0]}


def test_sides_take_turns_and_may_say_their_own_seconds():
    from benchmarks.rows import in_turns

    order = []

    def here():
        order.append("a")

    def elsewhere():
        order.append("b")
        return {"seconds": 7.0, "cpu_s": 5.0}

    a, b = in_turns(2, here, elsewhere)
    assert order == ["a", "b", "a", "b"]
    assert b.wall == [7.0, 7.0] and b.cpu == [5.0, 5.0] and len(a.wall) == 2


def test_operations_of_products_and_attention_are_counted():
    from benchmarks.serving import counted_flops

    x, w = torch.randn(5, 8), torch.randn(3, 8)
    q = torch.randn(2, 4, 6, 8)  # batch head pos d_head
    with torch.inference_mode():
        _, linear = counted_flops(lambda: torch.nn.functional.linear(x, w))
        _, attention = counted_flops(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert linear == 2 * 5 * 8 * 3
    assert attention == 2 * (2 * 4) * 6 * 8 * 6 * 2  # scores and values


def test_a_process_answers_and_its_errors_are_raised_here():
    from benchmarks.organism_shape import NAME
    from benchmarks.peers import Worker

    from gnothi.finetune.recipes import recipe

    how = recipe("organism-rows", steps=2).to_json()
    with Worker("benchmarks.own_training", ours=True) as worker:
        worker.ask("load", folder=NAME)
        worker.ask("prepare", name="a", n_rows=0, recipe=how, seed=0, folder="", pool=0, jobs=2)
        together = worker.ask("run", name="a", recipe=how, seeds=[0, 1])
        worker.ask("run", name="a", recipe=how, seeds=[0, 1], together=False)
        assert np.shape(together["losses"]) == (2, 2) and together["memory"]["peak"] >= together["memory"]["before"] > 0
        assert worker.ask("difference")["difference"] < 1e-4
        with pytest.raises(RuntimeError, match=r"must do 'run', but it failed there(.|\n)*KeyError: 'b'"):
            worker.ask("run", name="b", recipe=how, seeds=[0])


def test_a_process_that_ends_is_named():
    from benchmarks.peers import Worker

    ended = pytest.raises(RuntimeError, match=r"benchmarks\.nothing must answer 'load', but its process ended with 1")
    with Worker("benchmarks.nothing", ours=True) as worker, ended:
        worker.ask("load")


def test_the_organisms_own_path_gives_the_public_codes_numbers(one_thread):
    from benchmarks import organism

    (row,) = organism.run(n=60, repeats=1)
    assert row["max_abs_diff"] < 1e-4 and row["headline"]


def test_slopes_of_planted_growth_come_back():
    from benchmarks.linear import slope

    sizes = [1, 10, 100, 1000]
    value, low, high = slope(sizes, [3 * n**1.5 for n in sizes])
    assert value == pytest.approx(1.5) and low == pytest.approx(1.5) and high == pytest.approx(1.5)
    noise = np.exp(0.1 * np.random.default_rng(0).standard_normal(4))
    value, low, high = slope(sizes, list(noise * sizes))
    assert low < 1 < high


def test_growth_is_measured_and_drawn(tmp_path, monkeypatch, one_thread):
    from benchmarks import linear

    monkeypatch.setattr(linear, "FIGURE", tmp_path / "linear.svg")
    rows = linear.run(items=(20, 40, 80), options=(4, 8, 16), seeds=(1, 2, 3))
    assert [r["name"] for r in rows] == ["linear/items", "linear/options", "linear/seeds"]
    assert (tmp_path / "linear.svg").read_text().startswith("<?xml")


def test_gpu_rows_come_from_a_tiny_shape_on_a_cpu_too(tmp_path, monkeypatch, one_thread):
    import tiny
    from benchmarks import gpu, rows, subjects

    tiny.folder(tmp_path)
    monkeypatch.setattr(subjects, "small_llama", lambda: tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = gpu.run(steps=1, repeats=1, items=8)
    assert [r["name"].partition(",")[0] for r in found] == ["gpu/tiny"] * 3
    assert all(set(rows.FIELDS) <= set(r) for r in found) and json.dumps(found)


def test_questions_of_each_kind_are_drawn():
    from benchmarks import subjects

    prompts, options = subjects.scales(4)
    assert len({p[0].content for p in prompts}) == 4 and all(len(o) == 101 for o in options)
    prompts, options = subjects.phrases(12)
    assert all(len(set(o)) == 4 for o in options)
    prompts, _ = subjects.preferences(8, 2)
    assert len(set(prompts)) == 8
    with pytest.raises(ValueError, match="n must be at most"):
        subjects.scales(10_000)


def test_the_page_says_where_and_when_it_was_measured():
    from benchmarks.__main__ import page

    rows = [
        {
            "name": "logit/1x2x3",
            "ours": 1.0,
            "peer": None,
            "ratio": None,
            "unit": "s",
            "peer_name": "nobody",
            "peer_version": "",
            "repeats_s": {},
            "max_abs_diff": None,
            "flops": None,
            "headline": True,
        }
    ]
    text = page({"logit": {"on": "2026-01-01", "machine": "a machine, commit abc", "seconds": 90, "rows": rows}})
    assert "| **logit/1x2x3** | 1 |  | s |" in text and "a machine, commit abc" in text and "2026-01-01" in text


@pytest.mark.slow
def test_the_harness_scores_the_same_tokens_to_the_same_numbers():
    from benchmarks import peers, scoring, subjects

    if not (peers.FOLDER / ".installed").exists():
        pytest.skip("the peers' environment is not made; `python -m benchmarks scoring` makes it")
    prompts, options = subjects.letters(6)
    case = scoring.Case(name="A/B", prompts=prompts, options=options, tried=3)
    (row,) = scoring.on_folder(subjects.small_llama(), [case])
    assert row["max_abs_diff"] < 1e-4 and row["predicted_ratio"] > 0.5
