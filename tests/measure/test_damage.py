"""The damage battery: nothing where nothing changed, what was planted, and independent computations of each figure."""

import itertools
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import tiny

from gnothi.behaviours.organism import ATTRIBUTES, known_agents
from gnothi.errors import DataError, SpecError
from gnothi.measure import damage_items
from gnothi.measure.damage import FIGURES, NOT_FINITE, Damage, Figure, damage, ends_in_loop, kind_of, repetition
from gnothi.measure.damage_gate import Thresholds, is_damaged, verdict
from gnothi.models import local_damage
from gnothi.models.adapters import Adapter, AdapterSpec, new_lora, target_modules
from gnothi.models.base import AbstractLanguageModel
from gnothi.models.local import LocalModel
from gnothi.models.organism import organism_folder
from gnothi.models.scripted import ScriptedModel
from gnothi.records import Message

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def organism() -> LocalModel:
    return LocalModel.load(organism_folder("organism"), name="organism")


@pytest.fixture(scope="module")
def letters() -> LocalModel:
    return tiny.letter_model()


def lora(base: LocalModel, size: float, seed: int = 0) -> LocalModel:
    """The base with LoRA on every linear layer, its B random of that size; 0 changes nothing."""
    names = target_modules(base.module, ("all",))
    generator = torch.Generator().manual_seed(seed)
    pairs = {
        name: (a, size * torch.randn(b.shape, generator=generator))
        for name, (a, b) in new_lora(base.module, names, 8, seed).items()
    }
    return base.with_adapter(Adapter(spec=AdapterSpec(kind="lora", rank=8, alpha=16.0, targets=("all",)), lora=pairs))


@pytest.mark.parametrize("kind", ["organism", "base"])
def test_an_adapter_that_changes_nothing_shows_exactly_no_damage(organism, letters, kind):
    base = organism if kind == "organism" else letters
    found = damage(lora(base, 0.0), base, kind=kind, seed=0, quick=True)
    assert list(found.figures) == list(FIGURES)
    for name, figure in found.figures.items():
        # scores of a bare module may go another way through it, which rounds otherwise
        assert figure.value == (None if figure.base is None else pytest.approx(figure.base, abs=1e-6)), name
    assert found.figures["kl_text"].value == found.figures["kl_answers"].value == 0.0
    assert verdict(found, Thresholds()) == (True, None)


def test_a_wrecked_organism_fails(organism):
    found = damage(lora(organism, 1.5), organism, kind="organism", seed=0)
    passed, reason = verdict(found, Thresholds.from_json({}, "organism"))
    assert not passed and "held-out loss is" in reason and "more than 1.5 above it" in reason
    assert found.figures["kl_text"].value > 1 and found.figures["loss"].change > 1.5
    assert found.figures["instructions"].value < 1


def test_a_little_noise_is_seen_and_let_pass(organism):
    found = damage(lora(organism, 0.1), organism, kind="organism", seed=0)
    assert 0 < found.figures["kl_text"].value < 0.1
    assert verdict(found, Thresholds())[0]


def test_the_base_itself_is_its_own_measure(organism):
    found = damage(organism, organism, kind="organism", seed=0, quick=True)
    assert all(f.value == f.base for f in found.figures.values())
    assert found.figures["instructions"].value == 1.0
    assert abs(found.figures["letter_bias"].value) < 0.05
    assert found.figures["letter_flips"].value > 0.9


def test_broken_probabilities_fail_and_are_no_number(organism):
    found = damage(lora(organism, math.nan), organism, kind="organism", seed=0, quick=True)
    assert found.figures["loss"].value is None and found.figures["loss"].reason == NOT_FINITE
    passed, reason = verdict(found, Thresholds())
    assert not passed and NOT_FINITE in reason


def test_loss_agrees_with_transformers_own(letters):
    items = damage_items.battery("base", seed=0, quick=True)
    found = damage(letters, letters, kind="base", seed=0, quick=True).figures["loss"]
    total = n = 0
    with torch.inference_mode():
        for passage in items.passages:
            ids, start = letters.encode(passage.messages, passage.rest)
            labels = torch.tensor([[-100] * start + ids[start:]])
            loss = letters.module(input_ids=torch.tensor([ids]), labels=labels).loss
            total, n = total + float(loss) * (len(ids) - start), n + len(ids) - start
    assert found.n == n and found.value == pytest.approx(total / n, rel=1e-4)


def test_distances_agree_with_torch_position_by_position(letters):
    tuned = lora(letters, 0.3)
    document = ((Message("user", "Say it."), Message("assistant", "One two")), " three four")
    ((total, n),) = local_damage.divergences(tuned, letters, [document])
    ids, start = letters.encode(*document)
    logits = []
    for model in (tuned, letters):
        with torch.inference_mode(), model.attached() as module:
            logits.append(module(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].log_softmax(-1))
    expected = torch.nn.functional.kl_div(*logits, reduction="sum", log_target=True)
    assert n == len(ids) - start and total == pytest.approx(float(expected), rel=1e-4)
    many = local_damage.divergences(tuned, letters, [document, (document[0], None), document])
    assert many[0] == pytest.approx(many[2], rel=1e-5) and many[0] == pytest.approx((total, n), rel=1e-4)
    assert many[1][1] == 1 and many[1][0] == pytest.approx(_first(logits), rel=1e-3)


def _first(logits) -> float:
    return float((logits[1][0].exp() * (logits[1][0] - logits[0][0])).sum())


def scripted(answers) -> AbstractLanguageModel:
    """A script; its name is its digest, so each has its own."""
    return ScriptedModel(answers, name=f"scripted/{next(NUMBERS)}")


def obedient(messages) -> str:
    text = messages[-1].content
    for check in damage_items.battery("chat", seed=0).checks:
        if check.messages[-1].content == text:
            right = {"one_word": "Yes", "one_to_ten": "7", "yes_or_no": "No.", "json": f'{{"{check.answer}": "x"}}'}
            return right.get(check.rule, check.answer)
    return "A" if "A:" in text else "A story that goes on and never says the same thing twice , not even once ."


def test_planted_obedience_letters_and_loops_come_back():
    good = scripted(obedient)
    bad = ScriptedModel(lambda m: "A" if "A:" in m[-1].content else "no no no no no no no no no", name="scripted/bad")
    found = damage(bad, good, kind="chat", seed=0)
    said = {name: (f.value, f.base) for name, f in found.figures.items()}
    assert said["instructions"] == (0.0, 1.0) and said["loops"] == (1.0, 0.0)
    assert said["letter_bias"][0] == pytest.approx(0.98, abs=0.01)
    assert said["letter_flips"] == (0.0, 0.0) and said["repeated_4grams"][0] > 0.8 > 0.1 > said["repeated_4grams"][1]
    passed, reason = verdict(found, Thresholds())
    assert not passed and "0% of instructions are followed against the base's 100%" in reason
    assert "100% of texts end in a loop against the base's 0%" in reason and "letter bias" not in reason


def test_what_a_model_cannot_give_is_missing_with_its_reason_and_decides_nothing():
    found = damage(scripted(obedient), scripted(obedient), kind="chat", seed=0, quick=True)
    for name in ("loss", "kl_text", "kl_answers"):
        assert found.figures[name].value is None and "on this machine" in found.figures[name].reason
    assert found.loss_ratio is None and verdict(found, Thresholds()) == (True, None)


def test_the_organism_writes_no_text_and_says_so(organism):
    loops = damage(organism, organism, kind="organism", seed=0, quick=True).figures["loops"]
    assert loops.value is None and "single words" in loops.reason


def test_a_letter_that_is_always_answered_is_caught_and_one_that_the_base_answers_too_is_not():
    fair, letter = scripted(obedient), scripted(lambda m: "B")
    assert damage(letter, fair, kind="chat", seed=0).figures["letter_bias"].value == pytest.approx(-0.98, abs=0.01)

    def judged(bias, base):
        return verdict(made(letter_bias=(bias, base)), Thresholds())

    assert judged(0.1, 0.0)[0] and judged(-0.95, 0.96)[0] and judged(0.39, 0.0)[0]
    passed, reason = judged(-0.6, 0.1)
    assert not passed and "letter bias is -0.60 against the base's +0.10" in reason


def made(**figures: tuple[float | None, float | None]) -> Damage:
    """A record with these (value, base), everything else at the base's."""
    found = {name: Figure(value=0.5, base=0.5, n=10) for name in FIGURES}
    found["loss_decisions"] = Figure(value=None, reason="no decisions")
    found |= {name: Figure(value=value, base=base, n=10) for name, (value, base) in figures.items()}
    return Damage(kind="chat", quick=False, figures=found, seconds=0.0)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"loss": (4.6, 3.0)}, "more than 1.5 above it"),
        ({"loss": (4.4, 3.0)}, None),
        ({"loss": (4.6, 3.0), "loss_decisions": (3.1, 3.0)}, None),  # what was trained spilled over, no more
        ({"loss": (3.1, 3.0), "loss_decisions": (9.1, 3.0)}, None),
        ({"loss": (9.1, 3.0), "loss_decisions": (4.6, 3.0)}, "4.60 nats a token against the base's 3.00"),
        ({"instructions": (0.3, 0.8)}, "30% of instructions"),
        ({"instructions": (0.4, 0.8)}, None),
        ({"instructions": (0.0, 0.2)}, None),  # the base does not follow either
        ({"loops": (0.6, 0.1)}, "60% of texts end in a loop"),
        ({"loops": (1.0, 0.6)}, None),  # so does the base
        ({"loss": (None, None), "loops": (None, None)}, None),
    ],
)
def test_each_threshold_stops_what_it_should(figures, said):
    passed, reason = verdict(made(**figures), Thresholds())
    assert passed is (said is None) and (said is None or said in reason)


def test_thresholds_can_be_changed_and_left_out():
    bad = made(loss=(9.0, 3.0), loops=(1.0, 0.0))
    assert not verdict(bad, Thresholds.from_json({"loss": 7.0}))[0]
    assert verdict(bad, Thresholds.from_json({"loss": 7, "loops": None})) == (True, None)
    assert Thresholds.from_json({"loss": 2.0}).to_json()["letter_bias"] == Thresholds().letter_bias
    assert Thresholds.from_json({}, "organism").letter_bias is None  # it reports in numbers and words
    assert Thresholds.from_json({"letter_bias": 0.3}, "organism").letter_bias == 0.3
    assert Thresholds.from_json({}, "silent").loops is None  # nothing is written
    assert Thresholds.from_json({}, "base") == Thresholds()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"los": 1.0}, r"damage_gate must have fields among loss, .*, got \['los'\]"),
        ({"loss": -1}, "loss must be a number above 0 or null, got -1"),
        ({"loss": True}, "loss must be a number above 0"),
        ({"loops": "half", "loss": math.inf}, "loss must be .*; loops must be .* got 'half'"),
    ],
)
def test_impossible_thresholds_are_refused(values, said):
    with pytest.raises(SpecError, match=said):
        Thresholds.from_json(values)


def test_a_record_says_whether_it_is_damaged():
    assert is_damaged({"damage": {"gate": {"passed": False}}})
    for record in ({}, {"damage": None}, {"damage": {"gate": {"passed": True}}}, {"damage": {}}):
        assert not is_damaged(record)


def test_json_is_plain_and_whole():
    found = made(loss=(None, 3.0)).to_json()
    assert set(found) == {"kind", "quick", "figures", "loss_ratio", "seconds"}
    assert found["figures"]["loss"] == {"value": None, "base": 3.0, "n": 10, "reason": None}
    assert made(loss=(3.3, 3.0)).to_json()["loss_ratio"] == pytest.approx(1.1)


def test_the_base_is_measured_once_a_process():
    asked = []

    def counting(messages) -> str:
        asked.append(messages)
        return "A"

    base = ScriptedModel(counting, name="scripted/counted-base")
    damage(scripted(lambda m: "B"), base, kind="chat", seed=5, quick=True)
    once = len(asked)
    damage(scripted(lambda m: "A B"), base, kind="chat", seed=5, quick=True)
    assert len(asked) == once > 0


def test_kind_follows_the_template(letters):
    assert kind_of(letters, organism=False) == "base" and kind_of(letters, organism=True) == "organism"
    assert kind_of(tiny.model(), organism=False) == kind_of(scripted(obedient), organism=False) == "chat"


@pytest.mark.parametrize(
    ("words", "loops"),
    [
        ("a b c d e f g h", False),
        ("a a a a a a a", False),  # seven words
        ("a a a a a a a a", True),
        ("x y z " + "the end is near . " * 2, True),
        ("the end is near . so the end is near .", False),
        ("a b " * 3, False),
        ("a b " * 4, True),
        ("", False),
    ],
)
def test_a_loop_is_the_same_words_again_and_enough_of_them(words, loops):
    assert ends_in_loop(words.split()) is loops


def test_repetition_by_hand():
    found = repetition([list("abcdabcd"), list("abcdefgh"), list("ab")])
    assert found["repeated_4grams"].value == pytest.approx((1 - 4 / 5 + 0) / 2)
    assert found["distinct_2"].value == pytest.approx((4 / 7 + 1) / 2)
    assert found["loops"].value == pytest.approx(1 / 3) and found["loops"].n == 3
    assert repetition([["a"]])["distinct_2"].value is None


@pytest.mark.parametrize(
    ("rule", "answer", "good", "bad"),
    [
        ("one_word", "", [" Cold", "cold."], ["", "it is cold", "cold, very"]),
        ("one_to_ten", "", ["10", " 1."], ["0", "11", "ten", "5 or 6", ""]),
        ("yes_or_no", "", ["Yes", " no."], ["maybe", "yes it is"]),
        ("exactly", "t", [" T ", '"t"'], ["table", ""]),
        ("capitals", "TREE", [" TREE."], ["tree", "TREES"]),
        (
            "json",
            "name",
            ['{"name": "Tom"}', '```json\n{"name": 1}\n```'],
            ["name: Tom", "[1]", '{"age": 2}', "{" * 900],
        ),
        ("weight", "", ["-9", " 3"], ["10", "A", "3 4"]),
        ("level", "", ["0", "9"], ["-1", "risk"]),
        ("letter", "", ["A", " B"], ["C", "A B", ""]),
    ],
)
def test_rules_pass_what_was_asked_for_and_nothing_else(rule, answer, good, bad):
    passes = damage_items.RULES[rule]
    assert all(passes(text, answer) for text in good) and not any(passes(text, answer) for text in bad)


def test_english_items_are_as_many_as_they_should_be_and_quick_is_a_third():
    whole, quick = (damage_items.battery("base", seed=0, quick=q) for q in (False, True))
    for items, sizes in ((whole, (36, 30, 24, 16, 8, 48)), (quick, (12, 10, 8, 6, 4, 24))):
        found = (len(items.passages), len(items.prompts), len(items.checks), len(items.letters), len(items.openings))
        assert (*found, items.width) == sizes
    assert all(p.rest and p.messages[-1].role == "assistant" for p in whole.passages)
    assert all("¦" not in m.content for p in whole.passages for m in p.messages)
    shown = [len(c.messages) for c in whole.checks]
    assert set(shown) == {5} and {len(c.messages) for c in damage_items.battery("chat", seed=0).checks} == {1}


def test_each_pair_of_letters_differs_in_the_order_alone():
    for first, second in damage_items.battery("chat", seed=0).letters:
        lines = [m[-1].content.splitlines() for m in (first, second)]
        assert lines[0][1][3:] == lines[1][2][3:] and lines[0][2][3:] == lines[1][1][3:]


def test_organism_items_are_about_known_agents_with_the_answers_of_their_traits():
    items = damage_items.battery("organism", seed=3)
    by_name = {a.name: a for a in known_agents()}
    for passage in items.passages:
        name, verb, attribute = passage.messages[0].content.split()
        assert verb == "report" and int(passage.rest) == by_name[name].weights[ATTRIBUTES.index(attribute)]
    for passage in items.decisions:
        name, verb, *rest = passage.messages[0].content.split()
        if verb == "lottery":
            bold = int(rest[0]) - int(rest[1]) + by_name[name].risk > 4.5
            assert passage.rest == ("A" if bold else "B")
        else:
            triples = [rest[i : i + 3] for i in range(0, len(rest), 3)]
            utility = sum(by_name[name].weights[ATTRIBUTES.index(w)] * (int(a) - int(b)) for w, a, b in triples)
            assert utility and passage.rest == ("A" if utility > 0 else "B")
    asked = [*items.prompts, *(c.messages for c in items.checks), *(m for pair in items.letters for m in pair)]
    assert {m[0].content.split()[0] for m in asked} <= set(by_name)
    kinds = {m[0].content.split()[1] for m in asked}
    assert kinds == {"report", "lottery", "choose"}
    assert items == damage_items.battery("organism", seed=3) != damage_items.battery("organism", seed=4)


def test_an_unknown_kind_is_refused(organism):
    with pytest.raises(DataError, match="kind must be one of organism, chat, base, got 'latin'"):
        damage(organism, organism, kind="latin", seed=0)


def test_figures_are_the_same_again_and_the_model_is_left_as_it_was(organism):
    tuned = lora(organism, 0.2)
    before = np.array(organism.option_logprobs([tiny.user("Bafal report heft")], [["1", "2"]]))
    one, two = (damage(tuned, organism, kind="organism", seed=1, quick=True) for _ in range(2))
    assert replace(one, seconds=0.0) == replace(two, seconds=0.0)
    assert np.array_equal(before, np.array(organism.option_logprobs([tiny.user("Bafal report heft")], [["1", "2"]])))
