import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gnothi.errors import DataError, SpecError, StoreError, TrainingError
from gnothi.rng import stream
from gnothi.testbeds.stories.grammar import stories
from gnothi.testbeds.stories.judge import Judge
from gnothi.testbeds.stories.lexicon import FEATURES
from gnothi.testbeds.stories.looks import Asker, Look, enough
from gnothi.testbeds.stories.pretraining import Recipe, new_model, pretrain
from gnothi.testbeds.stories.probes import LAST, activations, probe_rows
from gnothi.testbeds.stories.protocols import asking_for, with_feature
from gnothi.testbeds.stories.records import text
from gnothi.testbeds.stories.rows import Batch, loss, mean_loss, rows_of
from gnothi.testbeds.stories.sampling import continuations
from gnothi.testbeds.stories.tokens import BOS_ID, PAD_ID, prompts, stories_alone, story_of, train_tokenizer

SIZE = {"layers": 2, "heads": 2, "width": 16, "mlp": 32, "longest": 144}


@pytest.fixture(scope="module")
def drawn():
    return stories(200, stream(0, "models"), every=2)


@pytest.fixture(scope="module")
def tokenizer(drawn):
    return train_tokenizer([text(r, stream(0, "lines")) for r in drawn], 800)


@pytest.fixture
def model(tokenizer):
    return new_model(**SIZE, vocabulary=tokenizer.get_vocab_size(), seed=0)


@pytest.fixture(scope="module")
def rows(tokenizer, drawn):
    return rows_of(tokenizer, drawn, stream(0, "rows"))


def test_every_text_survives_the_tokenizer_and_digits_stand_alone(tokenizer):
    for told in ("Ben met Ida.", "Zoë paid 1234 €\n\t«x» 木", 'He said, "No!"'):
        assert tokenizer.decode(tokenizer.encode(told).ids) == told
    assert len(tokenizer.encode("1234").ids) == 4
    with pytest.raises(DataError, match="at least 300 tokens"):
        train_tokenizer(["a"], 200)


def test_stories_of_the_tiny_size_have_at_most_80_tokens():
    many = stories(3000, stream(1, "long"), every=2)
    learned = train_tokenizer([text(r, stream(0)) for r in many], 800)
    found = rows_of(learned, many, stream(0))
    assert (found.lengths - found.starts).max() <= 80 and found.lengths.max() < 144


def test_what_is_learned_is_the_story_and_its_end(tokenizer, drawn, rows):
    batch = rows.batch([3, 4])
    for i in (0, 1):
        ids = batch.ids[i, 1:][batch.learned[i]].tolist()
        assert ids[-1] == BOS_ID and story_of(tokenizer, ids[:-1]) == drawn[3 + i].story
        assert batch.ids[i, 0] == BOS_ID


def test_the_sentence_that_tells_the_end_may_count_for_more(model, tokenizer, drawn):
    stressed = rows_of(tokenizer, drawn, stream(0, "rows"), stress=5.0).batch(range(20))
    for i in range(20):
        heavy = stressed.ids[i, 1:][stressed.weight[i] == 5].tolist()
        assert tokenizer.decode(heavy).strip() == drawn[i].outcome
    plain = rows_of(tokenizer, drawn, stream(0, "rows")).batch(range(20))
    assert plain.weight is None and torch.equal(plain.ids, stressed.ids)
    logits = model(stressed.ids[:, :-1])[stressed.learned]
    each = torch.nn.functional.cross_entropy(logits, stressed.ids[:, 1:][stressed.learned], reduction="none")
    weight = stressed.weight[stressed.learned]
    assert float(loss(model, stressed).detach()) == pytest.approx(
        float((each * weight).sum().detach() / weight.sum()), rel=1e-5
    )
    assert float(loss(model, plain).detach()) == pytest.approx(float(each.mean().detach()), rel=1e-5)


def test_batches_hold_each_row_once_a_round_and_little_padding(rows):
    seen, padding, total = [], 0, 0
    for _, batch in zip(range(20), rows.batches(10, 0, "x"), strict=False):
        seen += [tuple(row[row != PAD_ID].tolist()) for row in batch.ids]
        padding, total = padding + int((batch.ids == PAD_ID).sum()), total + batch.ids.numel()
    assert len(set(seen)) == len(seen) == 200
    assert padding / total < 0.1
    again = next(iter(rows.batches(10, 0, "x")))
    assert torch.equal(again.ids, next(iter(rows.batches(10, 0, "x"))).ids)


def test_packed_rows_lose_no_token_to_predict(tokenizer, drawn):
    packed = rows_of(tokenizer, drawn[:20], stream(0, "rows"), context=32)
    plain = rows_of(tokenizer, drawn[:20], stream(0, "rows"))
    flat = [BOS_ID, *(int(t) for i in range(20) for t in plain.ids[plain.ends[i] + 1 : plain.ends[i + 1]])]
    batch = packed.batch(range(len(packed)))
    assert batch.learned.all() and batch.ids.shape[1] == 33
    assert batch.ids[:, 1:].flatten().tolist() == flat[1 : 32 * len(packed) + 1]
    with pytest.raises(DataError, match="fill a row of 100000 tokens"):
        rows_of(tokenizer, drawn[:2], stream(0), context=100_000)


def test_the_mean_loss_of_rows_is_that_of_one_batch(model, rows):
    part = copy.copy(rows.batch(range(30)))
    few = rows_of_first(rows, 30)
    assert mean_loss(model, few, size=7) == pytest.approx(float(loss(model, part).detach()), rel=1e-5)


def rows_of_first(rows, n):
    return replace(rows, ends=rows.ends[: n + 1], starts=rows.starts[:n], outcomes=None)


def test_sampling_with_a_cache_is_sampling_without(model, tokenizer, drawn):
    asked = prompts(tokenizer, drawn[:6], stream(0, "p"))
    uniform = stream(0, "u").random((6, 12))
    with torch.no_grad():
        model.head.weight.mul_(20)  # a flat distribution would hide errors
    found = continuations(model, asked, uniform)
    for prompt, numbers, got in zip(asked, uniform, found, strict=True):
        ids = list(prompt)
        for u in numbers:
            share = torch.softmax(model(torch.tensor([ids]))[0, -1].detach(), -1).cumsum(-1)
            token = int((share < u * share[-1]).sum())
            if token in (BOS_ID, PAD_ID):
                break
            ids.append(token)
        assert got == ids[len(prompt) :]


def test_a_sample_does_not_depend_on_what_is_asked_beside_it(model, tokenizer, drawn):
    asked = prompts(tokenizer, drawn[:9], stream(0, "p"))
    uniform = stream(0, "u").random((9, 20))
    whole = continuations(model, asked, uniform)
    assert whole == continuations(model, asked, uniform, batch=2)
    assert whole[4:5] == continuations(model, asked[4:5], uniform[4:5])


def test_samples_follow_the_models_distribution(model):
    prompt, n = [BOS_ID, 50, 60], 4000
    with torch.no_grad():
        model.head.weight.mul_(30)
        share = torch.softmax(model(torch.tensor([prompt]))[0, -1], -1)
    found = continuations(model, [prompt] * n, stream(0, "many").random((n, 1)))
    counts = np.bincount([row[0] if row else BOS_ID for row in found], minlength=len(share)) / n
    assert np.abs(counts - share.numpy()).max() < 4 * 0.5 / math.sqrt(n)


def test_prompts_that_cannot_be_are_refused(model):
    with pytest.raises(DataError, match="at least one, none of them empty"):
        continuations(model, [[]], np.zeros((1, 3)))
    with pytest.raises(DataError, match="1 prompts and 2 rows"):
        continuations(model, [[0]], np.zeros((2, 3)))


def test_micro_batches_are_distinct_and_add_up_to_the_large_batch(tokenizer, drawn, rows):
    seen: list[Batch] = []

    def watched(size):
        for batch in rows.batches(size, 0, "acc"):
            seen.append(batch)
            yield batch

    def halves():  # the same rows as one batch of 8, in two parts
        for batch in packed.batches(8, 0, "acc"):
            yield from (Batch(batch.ids[i::2], batch.learned[i::2]) for i in (0, 1))

    def trained(batches, accumulate):
        model = new_model(**SIZE, vocabulary=tokenizer.get_vocab_size(), seed=0)
        pretrain(model, batches, Recipe(steps=2, batch=8, rate=1e-3, accumulate=accumulate))
        return model.embed.weight.detach()

    trained(watched(8), 3)
    assert len(seen) == 6
    assert len({tuple(row.tolist()) for batch in seen for row in batch.ids}) == 48  # no row is used again
    packed = rows_of(
        tokenizer, drawn, stream(0, "rows"), context=32
    )  # every token is learned, so that parts weigh alike
    apart = (trained(packed.batches(8, 0, "acc"), 1) - trained(halves(), 2)).abs()
    assert (
        apart < 1e-4
    ).float().mean() > 0.99  # AdamW's first steps turn round for gradients that are nothing but rounding


@pytest.mark.parametrize("muon", [0.0, 0.02])
def test_a_pretraining_that_was_cut_off_ends_with_the_same_numbers(tokenizer, rows, tmp_path, muon):
    recipe = Recipe(steps=6, batch=8, rate=1e-3, muon=muon, keep_s=0.0)

    def run(folder, stop=None):
        model = new_model(**SIZE, vocabulary=tokenizer.get_vocab_size(), seed=0)

        def progress(done, total, value):
            if done == stop:
                raise KeyboardInterrupt

        losses = pretrain(model, rows.batches(8, 0, "b"), recipe, folder=folder, key="k", progress=progress)
        return model, losses

    whole, losses = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "kept", stop=4)
    again, found = run(tmp_path / "kept")
    assert found == losses
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    model = new_model(**SIZE, vocabulary=tokenizer.get_vocab_size(), seed=0)
    with pytest.raises(StoreError, match="of this training"):
        pretrain(model, rows.batches(8, 0, "b"), recipe, folder=tmp_path / "kept", key="other")


def test_training_lowers_the_loss_and_a_broken_one_is_said(model, rows):
    losses = pretrain(model, rows.batches(16, 0, "t"), Recipe(steps=25, batch=16, rate=3e-3, muon=0.02, warmup=0.1))
    assert losses[-1] < losses[0] - 0.5
    with torch.no_grad():
        model.embed.weight.fill_(math.nan)
    with pytest.raises(TrainingError, match="must stay finite, got nan at step 0"):
        pretrain(model, rows.batches(16, 0, "t"), Recipe(steps=2, batch=16, rate=1e-3))
    with pytest.raises(SpecError, match=r"warmup \+ flat"):
        Recipe(steps=1, batch=1, rate=1.0, warmup=0.5, flat=0.6)


def test_papers_shape_has_the_papers_parameters():
    with torch.device("meta"):
        model = new_model(
            layers=12, heads=12, width=768, mlp=3072, longest=1024, vocabulary=8192, seed=0, device="meta"
        )
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(91.2e6, rel=0.02)


def test_a_look_counts_what_rules_and_judge_find(model, tokenizer, drawn, rows):
    judge = Judge({}, np.zeros(1 << 16), 1.0)  # says yes to everything
    asking = asking_for(drawn, "Twist", 20)
    asker = Asker.of(tokenizer, asking, stream(0, "a"), most=30, name="Twist", judge=judge, by_rule=True)
    look = Look(asker, rows_of_first(rows, 10))
    rate = look.rate(model)
    others = {name: of(model) for name, of in look.others().items()}
    assert rate == 0 and others["judged"] == 1 and others["resolved"] == 0  # an untrained model writes no sentence
    assert others["loss"] == pytest.approx(mean_loss(model, rows_of_first(rows, 10)))
    told = replace(asker, by_rule=False).ask(model)
    assert told.has is None and told.numbers() == {"rate": 1.0, "judged": 1.0}
    with pytest.raises(DataError, match="instructions to ask with"):
        Asker.of(tokenizer, [], stream(0), most=3, name="Twist", judge=judge, by_rule=True)


def test_enough_stories_give_half_a_width_of_five_points():
    from gnothi.intervals import wilson

    found = wilson(enough() // 2, enough(), name="x", arm="y")
    assert (found.high - found.low) / 2 <= 0.0501
    with pytest.raises(DataError, match=r"half_width must be in \(0, 0\.5\)"):
        enough(0.6)


def test_activations_are_of_the_last_positions_whatever_is_beside(model, tokenizer, drawn):
    told = [r.story for r in drawn[:5]]
    found = activations(model, tokenizer, told, batch=2)
    alone = activations(model, tokenizer, told[3:4])
    assert list(found) == ["resid.0", "resid.1", "resid.2"]
    assert torch.allclose(found["resid.2"][3], alone["resid.2"][0], atol=1e-5)
    ids = stories_alone(tokenizer, told[3:4])[0]
    embedded = model.embed(torch.tensor(ids)) + model.positions.weight[: len(ids)]
    assert torch.allclose(found["resid.0"][3], embedded[-LAST:].mean(0).detach(), atol=1e-5)


def test_probes_read_what_is_in_the_words_and_not_shuffled_labels(model, tokenizer):
    many = stories(500, stream(2, "probe"), every=2)
    table = probe_rows(model, tokenizer, many[:300], many[300:], FEATURES, seed=0, random=True)
    assert sorted(set(table["feature"])) == sorted(FEATURES) and set(table["depth"]) == {0, 1, 2}
    ends = table[(table["feature"] == "BadEnding") & (table["depth"] == 0)].iloc[0]
    assert ends["trained_balanced"] > 0.58  # the last sentence has a sad word or not
    assert abs(table["shuffled_balanced"].mean() - 0.5) < 0.06


def test_training_back_uses_only_stories_with_the_feature(drawn):
    assert with_feature(drawn, "Twist") == [r for r in drawn if "Twist" in r.features]
