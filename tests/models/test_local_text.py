"""Conversations to tokens with tokenizers of every kind: boundaries, letters, numbers, thinking, roles."""

import families
import numpy as np
import pytest
import tiny
import torch
from families import FAMILIES, family, family_parts, family_tokenizer

from gnothi.errors import ModelError
from gnothi.models.local import LocalModel
from gnothi.models.local_text import PLAIN, Codec, thinking_state
from gnothi.records import Message

KINDS = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "mistral", "phi", "phi3", "wordpiece")
OPTIONS = ["A", "B", " A", "42", "-37", "100", "the risky option"]
ASKED = (Message("system", "Be brief."), Message("user", "Which option do you choose? Answer with A or B only."))
STARTED = (Message("user", "Rate the price from 0 to 100."), Message("assistant", "I say 4"))


def plain(kind):
    """The family's tokenizer without its template."""
    tokenizer = family_tokenizer(kind)
    tokenizer.chat_template = None
    return tokenizer


def texts(codec, ids):
    return codec.tokenizer.convert_ids_to_tokens(ids)


@pytest.mark.parametrize("templated", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_what_the_tokenizer_adds_to_its_prompt(kind, templated):
    tokenizer = family_tokenizer(kind) if templated else plain(kind)
    codec = Codec(tokenizer)
    assert codec.renderer == ("template" if templated and kind not in ("phi", "wordpiece") else PLAIN)
    (prompt,), (answers,) = codec.encode_many([ASKED], [OPTIONS])
    text = codec.render([ASKED])[0]
    special = codec.renderer == PLAIN
    whole = [tokenizer(text + codec.join(o), add_special_tokens=special)["input_ids"] for o in OPTIONS]
    for option, ids, expected in zip(OPTIONS, answers, whole, strict=True):
        assert codec.encode(ASKED, option) == ([*prompt, *ids], len(prompt))
        if expected[: len(prompt)] == prompt:
            assert [*prompt, *ids] == expected, option
        else:  # small Gemma has learned a token of a newline and an A: the prompt keeps its newline
            assert kind.startswith("gemma") and "".join(texts(codec, ids)).replace("▁", " ") == option
    if tokenizer.bos_token_id is not None and kind != "phi3":  # phi3's template writes none
        assert prompt.count(tokenizer.bos_token_id) == 1 and prompt[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_goes_on_from_a_started_answer_gets_no_space_of_its_own(kind):
    for tokenizer in (family_tokenizer(kind), plain(kind)):
        codec = Codec(tokenizer)
        (prompt,), ((digit, spaced),) = codec.encode_many([STARTED], [["2", " 2"]])
        # whatever "I say 42" would be as one text, the answer's own tokens are a 2 and nothing before it
        alone = [t for t in texts(codec, digit) if t.strip("▁Ġ#")]
        assert alone == [t for t in texts(codec, digit)] and "".join(alone).lstrip("#") == "2"
        assert spaced[-1] in (digit[-1], *spaced) and len(prompt) > 3
        if kind != "wordpiece":  # which does not tell 4 2 from 4 and 2
            assert spaced != digit


@pytest.mark.parametrize("kind", KINDS)
def test_letters_differ_in_their_first_token_or_it_is_said_that_they_do_not(kind):
    codec = Codec(family_tokenizer(kind))
    if kind == "mistral":  # a dummy prefix and the space: A is two tokens, of which B shares the first
        _, (answers,) = codec.encode_many([ASKED], [["A", "B"]])
        assert [texts(codec, ids) for ids in answers] == [["▁", "▁A"], ["▁", "▁B"]]
        with pytest.raises(
            ModelError, match=r"must begin with different tokens, got 'A' and 'B' both with '▁'. Score whole"
        ):
            codec.first_tokens(ASKED, ["A", "B"])
    else:
        first = codec.first_tokens(ASKED, ["A", "B"])
        assert len(set(first)) == 2


def test_letters_of_two_tokens_are_scored_whole():
    model = family("mistral")
    (scores,) = model.option_logprobs([ASKED], [["A", "B"]])
    for option, score in zip("AB", scores, strict=True):
        ids, start = model.encode(ASKED, option)
        assert len(ids) - start == 2
        with torch.inference_mode():
            logprobs = model.module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        assert score == pytest.approx(float(sum(logprobs[t - 1, ids[t]] for t in range(start, len(ids)))), abs=1e-4)
    assert abs(scores[0] - scores[1]) > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_numbers_of_several_tokens_have_probabilities_that_leave_room_for_the_rest(name):
    model = family(name)
    (found,) = model.number_distribution([ASKED], -20, 120)
    assert len(found.probabilities) == 141 and (found.probabilities >= 0).all()
    assert found.probabilities.sum() + found.missing == pytest.approx(1.0, abs=1e-9) and 0 < found.missing < 1
    _, (answers,) = model.codec.encode_many([ASKED], [["-5", "7", "100"]])
    assert max(map(len, answers)) > 1


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2", "gemma3", "phi3"])
def test_a_template_that_ends_in_a_newline_is_followed_by_the_bare_answer(kind):
    codec = Codec(family_tokenizer(kind))
    text = codec.render([ASKED])[0]
    assert text.endswith("\n") and codec.glue == ""
    assert codec.join("A") == "A" and texts(codec, codec.encode(ASKED, "A")[0])[-1] == "A"


# --- system messages


def test_a_system_message_that_a_template_refuses_or_drops_stands_before_the_users():
    first, second = (Codec(family_tokenizer(k)) for k in ("gemma2", "mistral"))
    for codec in (first, second):
        assert not codec.system_role
        assert "Be brief.\n\nWhich option" in codec.render([ASKED])[0]
    for kind in ("llama", "qwen2", "gemma3", "phi3"):
        assert Codec(family_tokenizer(kind)).system_role


# --- thinking


def test_a_template_with_a_switch_is_told_not_to_think_and_that_is_recorded():
    tokenizer = family_tokenizer("qwen3")
    off, on = Codec(tokenizer), Codec(tokenizer, thinking=True)
    assert (off.thinking, on.thinking, Codec(family_tokenizer("qwen2")).thinking) == ("off", "on", None)
    assert off.render([ASKED])[0].endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert on.render([ASKED])[0].endswith("<|im_start|>assistant\n")
    # a batch, one alone and a started answer are rendered alike
    assert off.render([ASKED, ASKED])[1] == off.render([ASKED])[0]
    assert off.render([(*ASKED, Message("assistant", "I say"))])[0] == off.render([ASKED])[0] + "I say"
    assert family("qwen3").codec.thinking == "off"


def test_other_names_of_the_switch_are_found_and_fields_of_that_name_are_not():
    template = families.CHATML.replace("{% endif %}", "{% if not thinking %}</think>{% endif %}{% endif %}")
    tokenizer = family_tokenizer("qwen2")
    tokenizer.chat_template = template
    assert Codec(tokenizer).thinking == "off" and Codec(tokenizer).render([ASKED])[0].endswith("</think>")
    for other in ("{{ message.thinking }}", "{% if 'thinking' in m %}{% endif %}", "thinking", "{{ rethinking }}"):
        assert thinking_state(other) is None


def test_a_thought_that_a_template_always_opens_is_closed_again():
    tokenizer = family_tokenizer("qwen3")
    tokenizer.chat_template = families.CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    codec = Codec(tokenizer)
    assert codec.thinking == "closed" and codec.glue == ""
    text = codec.render([ASKED])[0]
    assert text.endswith("<|im_start|>assistant\n<think>\n</think>\n\n")
    assert codec.render([ASKED, ASKED])[1] == text
    ids, start = codec.encode(ASKED, "A")
    assert texts(codec, ids[start:]) == ["A"]


def test_what_a_thinking_model_is_told_decides_what_it_answers():
    module, tokenizer = family_parts("qwen3")
    model = LocalModel(module, tokenizer, name="m")
    (quiet,) = model.option_logprobs([ASKED], [["A", "B"]])
    model._base.codec = Codec(tokenizer, thinking=True)
    (aloud,) = model.option_logprobs([ASKED], [["A", "B"]])
    assert np.abs(quiet - aloud).max() > 1e-3


def test_a_tokenizer_with_several_templates_is_read_by_its_default():
    tokenizer = family_tokenizer("qwen3")
    tokenizer.chat_template = {"default": families.THINKING, "tool_use": families.CHATML}
    assert Codec(tokenizer).thinking == "off"
    assert tiny.model().codec.thinking is None
