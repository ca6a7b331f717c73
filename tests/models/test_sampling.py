"""Sampling against a loop without cache, against probabilities, and against what must never be drawn."""

import re

import families
import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_adapters import made as adapter
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from gnothi.errors import DataError, ModelError
from gnothi.models import local_picks, local_sampling, local_walk
from gnothi.models.base import Answer, Sampling
from gnothi.models.local import LocalModel
from gnothi.models.local_cache import seats
from gnothi.models.local_picks import inverse, narrowed, pick
from gnothi.models.many import generate_many, stacked
from gnothi.records import Message
from gnothi.rng import stream

PROMPTS = [
    tiny.user("Which option do you choose? Answer with A or B only."),
    tiny.user("Rate from 0 to 100 how much you like risk."),
    tiny.user("A or B?"),
]


def by_hand(model, messages, sampling, j, i):
    """The answer of a loop that computes everything anew for each token, in float64 and numpy."""
    ids, _ = model.encode(messages)
    uniform = stream(sampling.seed, "sample", j, i).random(sampling.max_tokens)
    eos = model.module.generation_config.eos_token_id
    found = []
    for u in uniform:
        with torch.inference_mode():
            logits = model.module(input_ids=torch.tensor([[*ids, *found]])).logits[0, -1].double().numpy()
        if sampling.temperature == 0:
            token = int(logits.argmax())
        else:
            p = np.exp((logits - logits.max()) / sampling.temperature)
            p /= p.sum()
            falling = np.argsort(-p, kind="stable")
            kept = np.ones(len(p), bool)
            if sampling.top_k:
                kept[falling[sampling.top_k :]] = False
            if sampling.top_p < 1:
                kept[falling[np.cumsum(p[falling]) - p[falling] >= sampling.top_p]] = False
            order = falling if len(p) < local_picks.SORTED_BELOW else np.arange(len(p))
            total = np.cumsum(np.where(kept, p, 0)[order])
            token = int(order[np.searchsorted(total, u * total[-1], side="right")])
        if token in {eos, *model.codec.end_ids}:
            return Answer(
                text=model.tokenizer.decode(found, skip_special_tokens=True), n_tokens=len(found), finished=True
            )
        found.append(token)
    text = model.tokenizer.decode(found, skip_special_tokens=True)
    return Answer(text=text, n_tokens=len(found), finished=False)


def large(size=5000):
    """A model with so many words that they are not sorted."""
    words = {"<pad>": 0, "<unk>": 1, "<eos>": 2, **{f"w{i}": i for i in range(3, size)}}
    inner = Tokenizer(WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>", chat_template=tiny.JOIN
    )
    return LocalModel(tiny.module(vocabulary=size), tokenizer, name="large")


def flat():
    """A model of one token a character, all of them about as likely."""
    module = tiny.module(vocabulary=len(tiny.letters()))
    with torch.no_grad():
        module.lm_head.weight.mul_(0.3)
    return LocalModel(module, tiny.letters(), name="letters")


@pytest.fixture(scope="module")
def wide():
    return large()


@pytest.fixture(scope="module")
def model():
    return tiny.model()


class Passes:
    """The shapes of the ids that a module was given."""

    def __init__(self, module):
        self.shapes = []
        self.handle = module.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module, args, kwargs):
        self.shapes.append(tuple(kwargs["input_ids"].shape))

    def __enter__(self):
        return self.shapes

    def __exit__(self, *_):
        self.handle.remove()


# --- the same as a loop without a cache


@pytest.mark.parametrize("name", families.FAMILIES)
def test_answers_are_those_of_a_loop_without_cache(name, monkeypatch):
    monkeypatch.setattr(local_sampling, "PAD_SHARE", 1.0)
    monkeypatch.setattr(local_sampling, "PAD_RATIO", 100.0)  # all prompts in one batch, padded
    model = families.family(name)
    for sampling in (
        Sampling(max_tokens=6),
        Sampling(n=2, temperature=1.0, max_tokens=18, seed=1),  # longer than a buffer's room and than the windows
        Sampling(n=2, temperature=0.7, max_tokens=4, top_k=8, top_p=0.8),
    ):
        found = model.generate(PROMPTS[::2], sampling)
        for j, messages in enumerate(PROMPTS[::2]):
            expected = [by_hand(model, messages, sampling, j, i) for i in range(sampling.n)]
            assert found[j] == expected


@pytest.mark.parametrize("name", ["gemma2", "mistral"])
def test_prompts_of_one_length_need_no_mask_and_give_the_same(name):
    model = families.family(name)
    sampling = Sampling(n=4, temperature=1.0, max_tokens=12)
    (found,) = model.generate(PROMPTS[1:2], sampling)
    assert found == [by_hand(model, PROMPTS[1], sampling, 0, i) for i in range(4)]


@pytest.mark.parametrize("narrow", [{}, {"top_k": 50}, {"top_p": 0.4}, {"top_k": 9, "top_p": 0.3}])
def test_a_large_vocabulary_is_not_sorted_but_read_in_order_of_ids(wide, narrow):
    sampling = Sampling(n=4, temperature=0.5, max_tokens=4, **narrow)
    prompts = [tiny.user("w5 w77 w4999"), tiny.user("w9")]
    found = wide.generate(prompts, sampling)
    for j, messages in enumerate(prompts):
        assert found[j] == [by_hand(wide, messages, sampling, j, i) for i in range(4)]
    assert len({a.text for a in found[0]}) > 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["gemma2", "gemma3", "llama", "mistral", "large"])
def test_a_gpu_draws_what_a_cpu_draws(name):
    module, tokenizer = (large()._base.module, large().tokenizer) if name == "large" else families.family_parts(name)
    prompts = [tiny.user("w5 w77")] if name == "large" else PROMPTS
    sampling = Sampling(n=8, temperature=1.0, max_tokens=18, seed=1)
    on_cpu = LocalModel(module, tokenizer, name="cpu").generate(prompts, sampling)
    torch.nn.Module.cuda(module)  # in place
    assert LocalModel(module, tokenizer, name="gpu").generate(prompts, sampling) == on_cpu


def test_rows_with_many_samples_and_narrow_budgets_change_nothing(model, monkeypatch):
    prompts = [tiny.user("agent1 choose x 3 4"), tiny.user("report y"), tiny.user("agent2 choose x 9 1")]
    sampling = Sampling(n=12, temperature=1.5, max_tokens=4, seed=2)
    expected = model.generate(prompts, sampling)
    monkeypatch.setattr(local_walk, "MOST_ROWS", 4)
    monkeypatch.setattr(local_picks, "CHUNK", {"cpu": 3 * len(tiny.WORDS)})
    with Passes(model.module) as shapes:
        assert model.generate(prompts, sampling) == expected
    assert max(rows for rows, _ in shapes) == 4
    monkeypatch.setattr(local_walk, "CACHE_BUDGET", {"cpu": 1})
    with Passes(model.module) as shapes:
        assert model.generate(prompts, sampling) == expected
    assert {rows for rows, length in shapes if length == 1} == {1}


# --- what is computed


def test_a_prompt_is_read_once_and_equal_prefixes_are_one_row(model):
    prompt = tiny.user("agent1 choose x 3 4")
    with Passes(model.module) as shapes:
        (answers,) = model.generate([prompt, prompt][:1], Sampling(n=200, temperature=0.7, max_tokens=3))
    assert shapes[0] == (1, 5) and all(length == 1 for _, length in shapes[1:])
    starts = [{tuple(a.text.split()[:t]) for a in answers if a.n_tokens >= t} for t in (1, 2)]
    assert shapes[1][0] <= len(starts[0]) < 40 and shapes[2][0] <= len(starts[1]) < 200


def test_a_prompt_asked_twice_is_read_once_and_answered_by_two_streams(model):
    prompt = tiny.user("agent1 choose x 3 4")
    sampling = Sampling(n=5, temperature=1.0, max_tokens=4)
    with Passes(model.module) as shapes:
        first, second = model.generate([prompt, prompt], sampling)
    assert shapes[0] == (1, 5) and first != second
    assert first == model.generate([prompt], sampling)[0]


def test_prompts_of_unlike_length_are_read_apart(model):
    prompts = [tiny.user("report" + " x" * n) for n in (3, 4, 30, 31)]
    with Passes(model.module) as shapes:
        model.generate(prompts, Sampling(max_tokens=1))
    assert shapes == [(2, 5), (2, 32)]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_seats_bring_every_child_to_its_parents_keys(parents):
    parents = sorted(parents)
    order, moves = seats(parents)
    rows = list(range(max(20, len(parents))))  # what lies in each row: its own number
    before = list(rows)
    for to, source in moves:
        rows[to] = before[source]
    assert sorted(order) == list(range(len(parents)))
    assert [rows[r] for r in range(len(parents))] == [parents[c] for c in order]
    assert not {to for to, _ in moves} & {source for _, source in moves}


# --- seeds


def test_more_samples_keep_the_earlier_ones(model, wide):
    for asked, prompts in (
        (model, [tiny.user("agent1 choose x 3 4"), tiny.user("report y")]),
        (wide, [tiny.user("w7")]),
    ):
        few = asked.generate(prompts, Sampling(n=5, temperature=1.0, max_tokens=6, seed=3))
        many = asked.generate(prompts, Sampling(n=20, temperature=1.0, max_tokens=6, seed=3))
        assert [answers[:5] for answers in many] == few


# --- the right frequencies


@pytest.mark.parametrize("name", ["llama", "gemma3", "large"])
def test_frequencies_of_first_tokens_are_the_models_probabilities(name, wide):
    model = wide if name == "large" else families.family(name)
    messages = tiny.user("w5 w6") if name == "large" else PROMPTS[0]
    n, temperature = 6000, 0.8
    ids = torch.tensor([model.encode(messages)[0]])
    with torch.inference_mode():
        logits = model.module(input_ids=ids).logits[:, -1]
    uniform = np.array([stream(4, "sample", 0, i).random(1)[0] for i in range(n)])
    drawn = pick(logits, Sampling(temperature=temperature), np.zeros(n, int), uniform)
    expected = n * torch.softmax(logits[0].double() / temperature, -1).numpy()
    counts = np.bincount(drawn, minlength=len(expected))
    often = expected >= 5
    seen = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    chi2 = float(((seen - wanted) ** 2 / wanted).sum())
    assert often.sum() > 5 and chi2 < stats.chi2.ppf(0.999, often.sum())
    texts = [
        a.text for a in model.generate([messages], Sampling(n=50, temperature=temperature, max_tokens=1, seed=4))[0]
    ]
    assert texts == [model.tokenizer.decode([t], skip_special_tokens=True) for t in drawn[:50]]


def test_sampled_numbers_agree_with_the_scored_distribution():
    model = flat()
    prompt = (Message("user", "how many?"), Message("assistant", "I say: "))
    (scored,) = model.number_distribution([prompt], 0, 100)
    n = 4000
    (answers,) = model.generate([prompt], Sampling(n=n, temperature=1.0, max_tokens=4, seed=1))
    found = [re.match(r"(0|[1-9]\d|[1-9]|100)(?!\d)", a.text) for a in answers]
    counts = np.bincount([int(m[1]) for m in found if m], minlength=101)
    p = scored.probabilities
    assert counts.sum() > 200 and abs(counts.sum() - n * p.sum()) < 4 * np.sqrt(n * p.sum() * (1 - p.sum()))
    assert (np.abs(counts - n * p) < 4.5 * np.sqrt(n * p * (1 - p)) + 1).all()


def test_top_k_and_top_p_never_draw_what_they_exclude(model, wide):
    for asked, messages in ((model, tiny.user("agent1 choose x 3 4")), (wide, tiny.user("w5 w6"))):
        ids = torch.tensor([asked.encode(messages)[0]])
        with torch.inference_mode():
            logits = asked.module(input_ids=ids).logits[:, -1]
        p = torch.softmax(logits[0].double(), -1).numpy()
        falling = np.argsort(-p, kind="stable")
        uniform = np.append(np.linspace(0, 1, 500, endpoint=False), 1 - 2.0**-53)
        rows = np.zeros(len(uniform), int)
        by_k = pick(logits, Sampling(temperature=1.0, top_k=7), rows, uniform)
        assert set(by_k) <= set(falling[:7]) and len(set(by_k)) > 4
        nucleus = falling[: int(np.searchsorted(np.cumsum(p[falling]), 0.3)) + 1]
        by_p = pick(logits, Sampling(temperature=1.0, top_p=0.3), rows, uniform)
        assert set(by_p) <= set(nucleus) and p[list(set(by_p))].sum() > 0.2
        both = pick(logits, Sampling(temperature=1.0, top_k=2, top_p=0.3), rows, uniform)
        assert set(both) <= set(nucleus) & set(falling[:2])


def test_of_equal_weights_at_the_edge_the_lowest_ids_stay():
    weights = torch.tensor([[1.0, 3, 1, 1, 0, 3], [5, 5, 5, 5, 5, 5]])
    assert narrowed(weights.clone(), 3, 1.0).tolist() == [[1, 3, 0, 0, 0, 3], [5, 5, 5, 0, 0, 0]]
    assert narrowed(weights.clone(), 0, 0.8).tolist() == [[1, 3, 1, 0, 0, 3], [5, 5, 5, 5, 5, 0]]
    assert narrowed(weights.clone(), 100, 1.0).tolist() == weights.tolist()
    flat = torch.ones(1, 3000)  # top-p has to look at more than it tries first
    assert narrowed(flat, 0, 0.5)[0].nonzero()[:, 0].tolist() == list(range(1500))


@settings(deadline=None)
@given(
    st.integers(1, 1300),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.5, 0.999]),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
)
def test_blockwise_inverse_agrees_with_searchsorted(size, seed, share_of_zeros, uniform):
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 1000, (2, size)) * (rng.random((2, size)) >= share_of_zeros)
    weights[:, rng.integers(size)] = 1
    rows = rng.integers(0, 2, len(uniform))
    u = np.array(uniform)
    find = inverse(torch.from_numpy(weights).float())
    found = find(torch.from_numpy(rows), torch.from_numpy(u)).numpy()
    for token, row, at in zip(found, rows, u, strict=True):
        total = np.cumsum(weights[row].astype(float))
        below = min(at * total[-1], np.nextafter(total[-1], 0))
        assert token == np.searchsorted(total, below, side="right")
        assert weights[row, token] > 0


# --- where answers end


def test_stop_texts_cut_and_end_tokens_end():
    model = flat()
    prompt = tiny.user("abc")
    plain = Sampling(n=40, temperature=1.0, max_tokens=12)
    (whole,) = model.generate([prompt], plain)
    stops = (whole[0].text[3:5], "Q")
    (cut,) = model.generate([prompt], Sampling(n=40, temperature=1.0, max_tokens=12, stop=stops))
    assert cut[0].text == whole[0].text[: whole[0].text.find(stops[0])] and cut[0].finished
    for before, after in zip(whole, cut, strict=True):
        ends = [before.text.find(s) for s in stops if s in before.text]
        if ends:
            assert after.text == before.text[: min(ends)] and after.finished and after.n_tokens <= before.n_tokens
        else:
            assert after == before
    assert any("Q" in a.text for a in whole)
    finished = [a for a in whole if a.finished]
    assert finished and all(a.n_tokens < 12 for a in finished)
    assert all(a.n_tokens == 12 for a in whole if not a.finished)


# --- failures


class Narrow:
    """A device whose memory holds so many rows."""

    def __init__(self, most):
        self.most = most

    def __call__(self, module, args, kwargs):
        if len(kwargs["input_ids"]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("part", ["model", "model.layers.1.mlp"])
def test_out_of_memory_halves_the_batch_and_goes_on(model, part):
    prompts = [tiny.user(f"agent{i} choose x 3 4") for i in range(5)]
    sampling = Sampling(n=8, temperature=1.5, max_tokens=5)
    expected = model.generate(prompts, sampling)
    inside = model.module.get_submodule(part)  # inside a block the cache is already half written

    def narrow(_, args, kwargs):
        if len(kwargs.get("input_ids", args[0] if args else ())) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = inside.register_forward_pre_hook(narrow, with_kwargs=True)
    try:
        assert model.generate(prompts, sampling) == expected
    finally:
        handle.remove()


def test_out_of_memory_with_one_row_is_a_clear_line(model):
    handle = model.module.register_forward_pre_hook(Narrow(0), with_kwargs=True)
    try:
        with pytest.raises(ModelError, match=r"sampling must hold one row of 5 tokens in memory, got none left on cpu"):
            model.generate([tiny.user("agent1 choose x 3 4")], Sampling(n=2, temperature=1.0))
    finally:
        handle.remove()


def test_other_errors_pass(model):
    def broken(*_):
        raise RuntimeError("shapes do not match")

    handle = model.module.register_forward_pre_hook(broken)
    try:
        with pytest.raises(RuntimeError, match="shapes do not match"):
            model.generate([tiny.user("x")], Sampling())
    finally:
        handle.remove()


@pytest.mark.parametrize("size", [20, 5000])
def test_logits_that_are_no_numbers_are_refused(size):
    logits = torch.zeros(2, size)
    logits[1, 3] = torch.nan
    with pytest.raises(ModelError, match="logits must be numbers to sample from, got NaN or infinity"):
        pick(logits, Sampling(temperature=1.0), np.array([0, 1]), np.array([0.1, 0.2]))


# --- many adapters


def views_of(model):
    """Adapters of different kind, rank, scale and layers, and none."""
    adapters = [
        adapter("lora+rows", model, seed=1),
        None,
        adapter("lora", model, seed=2, rank=2, targets=("v_proj", "down_proj")),
        adapter("rows", model, seed=3),
    ]
    return [model.with_adapter(a) for a in adapters]


@pytest.mark.parametrize("tied", [False, True])
def test_many_views_answer_together_as_each_alone(tied):
    model = tiny.model(tied)
    views = views_of(model)
    asked = ["agent0 choose x 3 4", "agent3 report y", "agent1 x y", "agent5 agent0 choose x y"]
    prompts = [[tiny.user(t) for t in asked[v:]] for v in range(4)]
    for sampling in (Sampling(max_tokens=6), Sampling(n=6, temperature=1.0, max_tokens=6, seed=2)):
        with Passes(model.module) as shapes:
            together = generate_many(views, prompts, sampling)
        n_passes = len(shapes)
        assert together == [view.generate(own, sampling) for view, own in zip(views, prompts, strict=True)]
        assert n_passes <= 2 * sampling.max_tokens
    assert together[0][0] != together[1][0]
    assert views[0].generate(prompts[0], sampling) == together[0]  # and the stack is off again


def test_views_that_cannot_be_stacked():
    model, other = tiny.model(), tiny.model(seed=1)
    prompts = [[tiny.user("x")], [tiny.user("y")]]
    full = model.with_adapter(adapter("full", model))
    greedy = Sampling(max_tokens=4)
    assert generate_many([full, model], prompts, greedy) == [
        full.generate(prompts[0], greedy),
        model.generate(prompts[1], greedy),
    ]
    with pytest.raises(ModelError, match="adapters in one stack must be rows or LoRA, got changed parameters"):
        stacked([full, model])
    with pytest.raises(ModelError, match=r"views must be of one model in memory, got tiny"):
        generate_many([model, other], prompts, greedy)
    with pytest.raises(DataError, match=r"prompts must be one list a view, got 1 for 2 views"):
        generate_many([model, model], prompts[:1], greedy)
