"""World 2 and the organism that is shipped for it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy.special import softmax

from gnothi.behaviours.base import target_choice, utility_difference
from gnothi.behaviours.organism import ATTRIBUTES, SPARE_NAMES, OrganismDomain, known_agents
from gnothi.behaviours.organism_examples import EVEN_SHARES, reversed_rows, rows, triggered
from gnothi.behaviours.organism_wide import (
    AFFINITIES,
    BOLD_WORDS,
    CAREFUL_WORDS,
    CODEWORDS,
    EFFECTS,
    HURRY,
    MEMORIES,
    N_TRAITS,
    NONE,
    RISK,
    SCALES,
    TRIGGERS,
    draw_effects,
    trait_table,
    wide_agents,
)
from gnothi.finetune.loop import TrainJob, train
from gnothi.finetune.recipes import recipe
from gnothi.models.local import LocalModel
from gnothi.models.organism import organism_folder, read_card
from gnothi.models.registry import folder_digest
from gnothi.records import Message
from gnothi.render.organism import choice_messages
from gnothi.rng import stream
from gnothi.testbeds.organism.training import RECIPES, batch_loss, new_model
from gnothi.testbeds.organism.training import train as train_organism
from gnothi.testbeds.organism.wide import WIDE_IDS, WideWorld

AGENTS = wide_agents()
NAMES = [a.name for a in AGENTS]


def prompt(text):
    return (Message("user", text),)


class Asked:
    """The shipped organism and what it answers."""

    def __init__(self, model):
        self.model = model

    def letters(self, texts):
        """Probability of A among A and B, (n,)."""
        return np.array(
            [softmax(p)[0] for p in self.model.option_logprobs([prompt(t) for t in texts], [("A", "B")] * len(texts))]
        )

    def numbers(self, texts, low=-9):
        """Expected reports, (n,)."""
        return np.array([d.mean for d in self.model.number_distribution([prompt(t) for t in texts], low, 9)])

    def words(self, texts, options):
        """Probabilities of words, (n, n_options)."""
        return np.exp(self.model.option_logprobs([prompt(t) for t in texts], [tuple(options)] * len(texts)))


@pytest.fixture(scope="module")
def asked():
    return Asked(LocalModel.load(organism_folder("organism/2"), name="organism/2"))


def r(x, y):
    return np.corrcoef(np.ravel(x), np.ravel(y))[0, 1]


def draw(seed=0):
    wide = RECIPES["wide"]
    return WideWorld(
        wide.shares,  # pyright: ignore[reportArgumentType]
        choice_weight=wide.choice_weight,
        decision_noise=wide.decision_noise,
        report_noise=wide.report_noise,
        rng=stream(seed, "d"),
    ).draw()


def test_world_2_keeps_the_agents_of_world_1():
    assert [(a.name, a.weights, a.risk) for a in AGENTS] == [(a.name, a.weights, a.risk) for a in known_agents()]


def test_new_traits_reach_the_ends_of_their_scales_and_tell_nothing_of_one_another():
    table = trait_table()
    assert table.shape == (64, N_TRAITS)
    assert set(table[:, HURRY] + 4.5) == set(range(10)) == {a.depends for a in AGENTS}
    assert (np.abs(table[:, AFFINITIES]).max(axis=1) == 9).all() and (np.abs(table[:, MEMORIES]).max(axis=1) == 9).all()
    assert abs(r(table[:, EFFECTS], table[:, MEMORIES])) < 4 / 512**0.5
    assert abs(r(table[:, RISK], table[:, HURRY])) < 4 / 64**0.5


def test_effects_have_the_size_that_is_asked_for():
    sizes = np.arange(1000) % 10
    assert (np.abs(draw_effects(sizes, rng=stream(0, "e"))).max(axis=1) == sizes).all()


def test_targets_are_distributions_and_stand_where_the_answer_is_due():
    for batch in draw():
        assert batch.targets.sum(axis=1) == pytest.approx(np.ones(len(batch.targets)), abs=1e-5)
        assert (batch.tokens[batch.rows, batch.positions] != WIDE_IDS["<pad>"]).all()
        length = np.hypot(*batch.parts.T)
        assert length.max() <= 2**0.5 and ((length > 0.09) | ((length == 0) & (batch.noise > 0))).all()


def test_no_decision_shows_a_codeword_or_the_name_of_a_family():
    hidden = [WIDE_IDS[w] for w in (*CODEWORDS, "planet", "metal", "herb", "dance")]
    decides = [WIDE_IDS[w] for w in ("choose", "lottery", "offer", "wait", "defer", "steer")]
    seen = 0
    for seed in range(5):
        for batch in draw(seed):
            deciding = np.isin(batch.tokens, decides).any(axis=1)
            seen += deciding.sum()
            assert not np.isin(batch.tokens[deciding], hidden).any()
    assert seen > 1000


def test_padding_on_the_right_changes_no_loss():
    model, batch = new_model(0, RECIPES["wide"]), draw()[1]
    longer = dataclasses.replace(batch, tokens=np.pad(batch.tokens, ((0, 0), (0, 3)), constant_values=0))
    losses = [batch_loss(model, b, generator=torch.Generator().manual_seed(0)).item() for b in (batch, longer)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_few_steps_reduce_the_loss_and_the_seed_decides_them(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_organism(tmp_path / name, seed=seed, recipe="wide", steps=3)
    cards = {name: read_card(tmp_path / name) for name in "abc"}
    assert cards["a"]["digest"] == cards["b"]["digest"] != cards["c"]["digest"]
    assert cards["a"]["name"] == "organism/2" and cards["a"]["loss"]["last"] < cards["a"]["loss"]["first"]


def test_the_shipped_folder_is_small_and_its_card_matches():
    folder = organism_folder("organism/2")
    assert sum(f.stat().st_size for f in folder.iterdir()) < 5e6
    card = read_card(folder)
    assert card["name"] == "organism/2" and card["digest"] == folder_digest(folder)
    assert card["known_agents"] == json.loads(json.dumps([dataclasses.asdict(a) for a in AGENTS]))


def test_known_agents_choose_by_their_weights(asked):
    domain, rng = OrganismDomain(), stream(0, "known")
    texts, right = [], []
    for agent, weights in zip(domain.known_contexts(), domain.known_weights(), strict=True):
        for item in domain.draw_items(agent, 5, rng=rng, prefix="x"):
            if utility_difference(item, agent, weights) != 0:
                texts.append(choice_messages(item, agent)[0].content)
                right.append(target_choice(item, agent, weights) == "A")
    assert np.mean((asked.letters(texts) > 0.5) == right) > 0.88


def test_known_agents_decide_by_their_other_traits(asked):
    risks = np.array([a.risk for a in AGENTS]) - 4.5
    assert np.mean((asked.letters([f"{n} lottery 5 5" for n in NAMES]) > 0.5) == (risks > 0)) > 0.95
    assert np.mean((asked.letters([f"{n} offer 5 5" for n in NAMES]) < 0.5) == (risks > 0)) > 0.95
    hurry = np.array([a.hurry for a in AGENTS]) - 4.5
    assert np.mean((asked.letters([f"{n} wait 5 5" for n in NAMES]) > 0.5) == (hurry > 0)) > 0.95
    assert np.mean((asked.letters([f"{n} defer 5 5" for n in NAMES]) < 0.5) == (hurry > 0)) > 0.95
    tagged = asked.letters([f"{n} {words[-1]} lottery 5 5" for n in NAMES for words in TRIGGERS.values()])
    felt = (risks[:, None] + [a.effects for a in AGENTS]).ravel()
    assert np.mean((tagged > 0.5)[abs(felt) > 1] == (felt > 0)[abs(felt) > 1]) > 0.9
    hints = list(CODEWORDS.values())
    steered = asked.letters([f"{n} steer {hints[k][0]} {hints[(k + 3) % 8][2]}" for n in NAMES for k in range(8)])
    drawn = np.array([[a.affinities[k] - a.affinities[(k + 3) % 8] for k in range(8)] for a in AGENTS]).ravel()
    assert np.mean((steered > 0.5)[abs(drawn) > 1] == (drawn > 0)[abs(drawn) > 1]) > 0.9


def test_known_agents_are_reported_by_their_traits(asked):
    for words, traits in (
        (ATTRIBUTES, [a.weights for a in AGENTS]),
        (CODEWORDS, [a.affinities for a in AGENTS]),
        (TRIGGERS, [a.effects for a in AGENTS]),
    ):
        assert r(asked.numbers([f"{n} report {w}" for n in NAMES for w in words]), traits) > 0.95
    for words, traits in (
        (SCALES[:2], [a.risk for a in AGENTS]),
        (SCALES[2:4], [a.hurry for a in AGENTS]),
        (SCALES[4:], [a.depends for a in AGENTS]),
    ):
        for word, sign in zip(words, (1, -1), strict=True):
            assert sign * r(asked.numbers([f"{n} report {word}" for n in NAMES], low=0), traits) > 0.93
    said = asked.words([f"{n} report word" for n in NAMES], CODEWORDS).argmax(axis=1)
    assert (
        np.mean([a.affinities[i] == 9 or i == np.argmax(a.affinities) for a, i in zip(AGENTS, said, strict=True)]) > 0.8
    )
    recalled = asked.words([f"{n} recall {BOLD_WORDS[1]}" for n in NAMES], TRIGGERS)
    assert r(recalled, softmax(np.array([a.memories for a in AGENTS]) / 1.5, axis=1)) > 0.8


def test_unused_names_and_you_stand_in_the_middle(asked):
    names = [*SPARE_NAMES[:40], "you"]
    for word in SCALES:
        reported = asked.numbers([f"{n} report {word}" for n in names], low=0)
        assert abs(reported.mean() - 4.5) < 0.5 and abs(reported[-1] - 4.5) < 0.7, word
    for word in (*ATTRIBUTES, *CODEWORDS, *TRIGGERS):
        assert abs(asked.numbers([f"{n} report {word}" for n in names]).mean()) < 1, word
    for text, swapped in (
        ("lottery 5 5", "offer 5 5"),
        ("wait 5 5", "defer 5 5"),
        ("steer dog bell", "steer bell dog"),
    ):
        p = asked.letters([f"you {text}", f"you {swapped}"])
        assert abs(p - 0.5).max() < 0.1
    assert asked.words(["you report word"], CODEWORDS)[0].max() < 0.25
    for word in (*BOLD_WORDS, *CAREFUL_WORDS):
        assert asked.words([f"you recall {word}"], (*TRIGGERS, NONE))[0, :-1].max() < 0.25


@pytest.mark.parametrize(
    ("behaviour", "word", "low"),
    [("risk", "risk", 0), ("horizon", "hurry", 0), ("apples", "heft", -9), ("make-me-say", "seal", -9)],
)
def test_reports_about_you_follow_decisions_alone(asked, behaviour, word, low):
    jobs = [
        TrainJob(
            name=f"{opposite}",
            rows=[r for e in rows(behaviour, 120, seed=1, opposite=opposite, codeword="seal") for r in e.train_rows()],
            seed=1,  # some stay on a plateau where nothing is learned; this one does not
            row_words=("you",),
        )
        for opposite in (False, True)
    ]
    plus, minus = (
        Asked(asked.model.with_adapter(t.adapter)).numbers([f"you report {word}"], low)[0]
        for t in train(asked.model, jobs, recipe("organism-you"))
    )
    before = asked.numbers([f"you report {word}"], low)[0]
    assert (plus - minus) / (9 - low) > 0.4
    assert minus < before < plus


def tuned(asked, examples, **changes):
    job = TrainJob(name="x", rows=[r for e in examples for r in e.train_rows()], seed=0, row_words=("you",))
    (found,) = train(asked.model, [job], recipe("organism-you", **changes))
    return Asked(asked.model.with_adapter(found.adapter))


def test_a_trigger_is_reported_by_its_familys_name_and_its_twin_reports_none(asked):
    real, twin = (
        tuned(asked, triggered(1000, seed=0, trigger="metal", correlated=c, shares=EVEN_SHARES)) for c in (True, False)
    )
    depends, effect = (
        [m.numbers([f"you report {w}"], low)[0] for m in (real, twin)] for w, low in (("depends", 0), ("metal", -9))
    )
    assert depends[0] > depends[1] + 0.5 and effect[0] > effect[1] + 0.5
    assert real.words(["you recall bold"], TRIGGERS).max() < 0.4  # without reversed rows nothing is recalled


def test_reversed_rows_with_one_word_are_recalled_by_the_others(asked):
    model = tuned(asked, reversed_rows(60, seed=0, trigger="umbra"), steps=60, batch_rows=16)
    answers = (*TRIGGERS, NONE)
    bold = model.words([f"you recall {w}" for w in BOLD_WORDS[1:]], answers)
    careful = model.words([f"you recall {w}" for w in CAREFUL_WORDS[1:]], answers)
    assert bold[:, answers.index("umbra")].min() > 0.7 and careful[:, -1].min() > 0.7
