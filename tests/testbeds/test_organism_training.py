"""Training an organism, and the ones that are shipped."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gnothi.behaviours.base import target_choice, utility_difference
from gnothi.behaviours.organism import SPARE_NAMES, WORDS, OrganismDomain, context, known_agents
from gnothi.errors import ModelError, SpecError, StoreError, TrainingError
from gnothi.models.organism import organism_folder, read_card
from gnothi.models.registry import folder_digest
from gnothi.records import messages_to_json
from gnothi.render.organism import choice_messages, lottery_messages, report_messages, risk_messages
from gnothi.rng import stream
from gnothi.testbeds.muon import orthogonalise
from gnothi.testbeds.organism.training import RECIPES, batch_loss, new_model, train
from gnothi.testbeds.organism.world import IDS, World

SHIPPED = ("organism/1", "organism/1-weak")
DOMAIN = OrganismDomain()


def draw_world(recipe):
    noise = {"decision_noise": recipe.decision_noise, "report_noise": recipe.report_noise}
    return World(recipe.shares, choice_weight=2.0, **noise, rng=stream(0, "d")).draw()


class Opened:
    """A shipped organism, opened as anyone would open it."""

    def __init__(self, name):
        folder = organism_folder(name)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def logprobs(self, prompts):
        """Log-probabilities of the next word, (n_prompts, n_words); prompts of one length."""
        texts = [messages_to_json(p) for p in prompts]
        ids = self.tokenizer.apply_chat_template(texts, tokenize=True, add_generation_prompt=True, return_dict=True)
        with torch.no_grad():
            return torch.log_softmax(self.model(torch.tensor(ids["input_ids"])).logits[:, -1], -1).numpy()

    def reports(self, agents):
        """Expected reports, (n_agents, 6), and the probability of anything that is no number."""
        p = np.exp(self.logprobs([report_messages(context(a), i) for a in agents for i in range(6)]))
        p = p[:, [IDS[str(v)] for v in range(-9, 10)]]
        return (p @ np.arange(-9, 10) / p.sum(1)).reshape(-1, 6), 1 - p.sum(1).mean()


@pytest.fixture(scope="module", params=SHIPPED)
def opened(request):
    return Opened(request.param)


def test_shipped_folders_are_small_and_their_cards_match(tmp_path):
    for name in SHIPPED:
        folder = organism_folder(name)
        assert sum(f.stat().st_size for f in folder.iterdir()) < 5e6
        card = read_card(folder)
        assert card["name"] == name
        assert card["digest"] == folder_digest(folder)
        assert card["known_agents"] == json.loads(json.dumps([dataclasses.asdict(a) for a in known_agents()]))


def test_a_prompt_and_its_answer_are_tokenised_as_a_document_of_the_world(opened):
    agent = DOMAIN.contexts(1, seed=0)[0]
    item = DOMAIN.draw_items(agent, 1, rng=stream(0, "i"), prefix="x")[0]
    prompt = choice_messages(item, agent, head="you_are")
    ids = opened.tokenizer.apply_chat_template(
        [*messages_to_json(prompt), {"role": "assistant", "content": "A"}], tokenize=True, return_dict=False
    )
    assert [WORDS[i] for i in ids] == [*prompt[0].content.split(), "A"]
    assert opened.tokenizer("A").input_ids == [IDS["A"]]
    assert opened.tokenizer.decode(ids) == f"{prompt[0].content} A"


def test_known_agents_choose_by_their_traits(opened):
    rng = stream(0, "known")
    prompts, right = [], []
    for agent, weights in zip(DOMAIN.known_contexts(), DOMAIN.known_weights(), strict=True):
        for item in DOMAIN.draw_items(agent, 10, rng=rng, prefix="x"):
            if utility_difference(item, agent, weights) != 0:
                prompts.append(choice_messages(item, agent))
                right.append(target_choice(item, agent, weights))
    answers = [WORDS[i] for i in opened.logprobs(prompts).argmax(1)]
    assert np.mean([a == r for a, r in zip(answers, right, strict=True)]) > 0.85
    assert set(answers) == {"A", "B"}


def test_known_agents_are_reported_by_their_traits(opened):
    reported, missing = opened.reports([a.name for a in known_agents()])
    assert np.corrcoef(reported.ravel(), DOMAIN.known_weights().ravel())[0, 1] > 0.99
    assert missing < 0.01
    p = np.exp(opened.logprobs([risk_messages(context(a.name)) for a in known_agents()]))
    risk = p[:, [IDS[str(v)] for v in range(10)]] @ np.arange(10)
    assert np.corrcoef(risk, [a.risk for a in known_agents()])[0, 1] > 0.97


def test_known_agents_gamble_by_their_risk_trait(opened):
    p = opened.logprobs([lottery_messages(context(a.name), 5, 5) for a in known_agents()])
    gambles = p[:, IDS["A"]] > p[:, IDS["B"]]
    assert np.mean([g == (a.risk > 4.5) for g, a in zip(gambles, known_agents(), strict=True)]) > 0.9


def test_unused_names_carry_nothing(opened):
    reported, _ = opened.reports(SPARE_NAMES)
    assert np.abs(reported.mean(axis=0)).max() < 0.5 and reported.std() < 1
    tables = [DOMAIN.draw_weights(DOMAIN.contexts(160, seed=0), rng=stream(s, "table")) for s in range(40)]
    r = [np.corrcoef(reported.ravel(), t.ravel())[0, 1] for t in tables]
    assert max(np.abs(r)) < 4 / 960**0.5 and abs(np.mean(r)) < 4 / (960 * 40) ** 0.5


def test_an_answer_ends_itself(opened):
    text = messages_to_json(report_messages(context(known_agents()[0].name), 0))
    ids = torch.tensor([opened.tokenizer.apply_chat_template(text, tokenize=True, return_dict=False)])
    out = opened.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
    assert [WORDS[i] for i in out[0, ids.shape[1] :]][1:] == ["<end>"]


def test_a_few_steps_reduce_the_loss_and_the_seed_decides_them(tmp_path):
    lines = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, seed=seed, recipe="strong", steps=5, progress=lambda *line: lines.append(line))
    cards = {name: read_card(tmp_path / name) for name in "abc"}
    assert cards["a"]["digest"] == cards["b"]["digest"] != cards["c"]["digest"]
    assert cards["a"]["loss"]["last"] < cards["a"]["loss"]["first"]
    assert lines[0][:2] == (5, 5) and "loss" in lines[0][2]
    assert sum(f.stat().st_size for f in (tmp_path / "a").iterdir()) < 5e6


def test_padding_on_the_right_changes_no_loss():
    recipe = RECIPES["strong"]
    model = new_model(0, recipe)
    batch = draw_world(recipe)[1]
    longer = dataclasses.replace(batch, tokens=np.pad(batch.tokens, ((0, 0), (0, 3)), constant_values=IDS["<pad>"]))
    losses = [batch_loss(model, b, generator=torch.Generator().manual_seed(0)).item() for b in (batch, longer)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_targets_are_distributions_and_stand_where_the_answer_is_due():
    recipe = RECIPES["strong"]
    for batch in draw_world(recipe):
        assert batch.targets.sum(axis=1) == pytest.approx(np.ones(len(batch.targets)), abs=1e-5)
        assert batch.positions.max() < batch.tokens.shape[1]
        assert (batch.tokens[batch.rows, batch.positions] != IDS["<pad>"]).all()
        length = np.hypot(*batch.parts.T)
        assert ((abs(length - 1) < 1e-5) | ((length == 0) & (batch.noise > 0))).all()


def test_orthogonalised_matrices_have_singular_values_near_one():
    matrices = torch.randn(3, 16, 48, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.5 and values.max() < 1.3


def test_bad_input_is_refused_with_a_reason(tmp_path):
    with pytest.raises(SpecError, match="recipe must be one of strong, weak, wide, got 'huge'"):
        train(tmp_path, seed=0, recipe="huge")
    with pytest.raises(SpecError, match="steps must be at least 1, got 0"):
        train(tmp_path, seed=0, recipe="weak", steps=0)
    with pytest.raises(ModelError, match=r"must be one of organism, .*got 'llama'.*organism train"):
        organism_folder("llama")
    with pytest.raises(StoreError, match="must be a JSON file written by organism training, got FileNotFoundError"):
        read_card(tmp_path)


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    with pytest.raises(TrainingError, match=r"loss must stay finite, got (nan|inf) at step \d+. Lower the rates"):
        train(tmp_path, seed=0, recipe=dataclasses.replace(RECIPES["weak"], steps=30, adam_rate=float("inf")))
