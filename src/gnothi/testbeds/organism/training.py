"""Train an organism from nothing: a stock Llama of a quarter million parameters, in minutes on one core.

Two things make self-reports follow decisions when a new name is tuned on decisions alone. Every document about a known
agent adds fresh Gaussian noise to that name's input row, so that decisions and reports have to read a trait from the
same directions of the row. And some documents are about *mixtures*, whose row is a mix of two known names' rows and
whose traits are the same mix, so that rows between and beyond the known ones mean something too. The recipe `strong`
has both in decisions and in reports, `weak` only in decisions: there a name learns to decide as well, and reports
follow half-way, so that training on reports has something to gain.

Source: out-of-context reasoning about learned behaviour is the finding of arXiv:2501.11120 and arXiv:2505.17120, on
large models; the world, the noise and this size are ours. Mixing inputs and targets is mixup (arXiv:1710.09412), here
on the row of a name, with weights cos and sin of a random angle so that a mixed row is as long as the others.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from gnothi.behaviours.organism import END, HIGH_WEIGHT, PAD, UNKNOWN, WORDS, known_agents
from gnothi.behaviours.organism_wide import KINDRED, WIDE_WORDS, trait_table, wide_agents
from gnothi.errors import SpecError, TrainingError
from gnothi.models.organism import CARD
from gnothi.models.registry import folder_digest
from gnothi.rng import integer, stream
from gnothi.testbeds.muon import Muon
from gnothi.testbeds.organism.wide import WIDE_IDS, WideShare, WideWorld
from gnothi.testbeds.organism.world import IDS, NUMBER_IDS, ROW_SD, Batch, Share, World

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% if not loop.last %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %} {% endif %}"
)
"""Contents joined by spaces: a prompt and its answer read exactly as a document of the world."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides an organism, besides the seed."""

    name: str
    decision_noise: float
    """Standard deviation of the noise on known names' rows in documents that decide."""
    report_noise: float
    """The same in documents that report."""
    steps: int
    muon_rate: float = 0.03
    """For the projections."""
    adam_rate: float = 3e-3
    """For embeddings, head and norms."""
    warmup: int = 20
    """Steps of linear warm-up."""
    decay: float = 0.6
    """Last part of the steps, over which rates fall linearly to 0."""
    choice_weight: float = 2.0
    """Weight of a choice in the loss; a report weighs 1."""
    shares: tuple[Share, ...] | tuple[WideShare, ...]
    """Documents a step."""
    world: int = 1
    """Version of the world: 1, or 2 for the wide one."""
    hidden: int = 64
    layers: int = 4
    heads: int = 4
    intermediate: int = 192
    rope_theta: float = 100.0
    picture: float = 2.0
    """World 2: length at which a trait at the end of its scale stands in a known name's first row."""
    kindred: float = 0.7
    """World 2: share of variance that the first rows of words of one kind have in common."""


# Within a recipe the order of shares decides the order of draws, so a shipped organism is only reproduced in this order.
RECIPES = {
    "strong": Recipe(
        name="strong",
        decision_noise=0.3,
        report_noise=0.3,
        steps=550,
        shares=(
            Share("name", 56, 14, 56, 14),
            Share("mixed", 56, 14, 56, 14),
            Share("you_are", 28, 7, 28, 7),
            Share("tagged", 14, 4, 14, 4),
            Share("fresh", 70, 21, 10, 6),
            Share("fresh_you_are", 14, 7, 4, 2),
            Share("you", 42, 12, 14, 3),
        ),
    ),
    "weak": Recipe(
        name="weak",
        decision_noise=0.3,
        report_noise=0.0,
        steps=550,
        shares=(
            Share("name", 56, 14, 56, 14),
            Share("mixed", 0, 0, 56, 14),
            Share("you_are", 28, 7, 28, 7),
            Share("tagged", 14, 4, 14, 4),
            Share("fresh", 70, 21, 24, 6),
            Share("fresh_you_are", 14, 7, 6, 2),
            Share("you", 42, 12, 14, 3),
        ),
    ),
    "wide": Recipe(
        name="wide",
        world=2,
        decision_noise=0.2,
        report_noise=0.2,
        steps=1100,
        shares=(
            WideShare("name", 24, 110, 70),
            WideShare("mixed", 36, 160, 130),
            WideShare("you_mixed", 6, 36, 30),
            WideShare("you_are", 10, 24, 24),
            WideShare("fresh", 8, 30, 50),
            WideShare("fresh_you_are", 3, 8, 14),
            WideShare("you", 5, 16, 30),
        ),
        hidden=96,
        intermediate=256,
    ),
}


def train(
    out: Path,
    *,
    seed: int,
    recipe: Recipe | str,
    progress: Callable[[int, int, str], None] | None = None,
    steps: int | None = None,
) -> Path:
    """Train an organism and write it as an ordinary model folder.

    Runs on one thread: matrices are too small for more, and the same seed then gives the same parameters.

    Args:
        out: Folder to write: config, safetensors, tokenizer and `organism.json`.
        seed: Decides initial parameters, documents and noise.
        recipe: `strong`, `weak` or one of your own.
        progress: Called with (steps done, steps in all, a line about the loss) now and then.
        steps: Fewer or more steps than the recipe has; the schedule is stretched.

    Returns:
        `out`.

    Raises:
        SpecError: An unknown recipe, or fewer than one step.
        TrainingError: The loss is not finite any more.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise SpecError(f"train: recipe must be one of {', '.join(RECIPES)}, got {recipe!r}.")
        recipe = RECIPES[recipe]
    if steps is not None:
        recipe = dataclasses.replace(recipe, steps=steps)
    if recipe.steps < 1:
        raise SpecError(f"train: steps must be at least 1, got {recipe.steps}.")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, losses = _fit(seed, recipe, progress)
    finally:
        torch.set_num_threads(threads)
    return _save(Path(out), model, seed, recipe, losses)


def words_of(recipe: Recipe) -> tuple[str, ...]:
    """The vocabulary of a recipe's world, in the order of the token ids."""
    return WIDE_WORDS if recipe.world == 2 else WORDS


def new_model(seed: int, recipe: Recipe) -> LlamaForCausalLM:
    """The network before its first step: small outputs, and number rows that start as smooth curves of the number."""
    config = LlamaConfig(
        vocab_size=len(words_of(recipe)),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        hidden_act="gelu",
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=IDS[END],
        pad_token_id=IDS[PAD],
        use_cache=True,
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(integer(seed, "organism", "init"))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim < 2:
                continue
            sd = ROW_SD if "embed_tokens" in name else 0.02 if "lm_head" in name else p.shape[1] ** -0.5
            if "o_proj" in name or "down_proj" in name:
                sd *= 0.1
            p.normal_(0.0, sd, generator=generator)
        rows = model.model.embed_tokens.weight
        v = torch.arange(-HIGH_WEIGHT, HIGH_WEIGHT + 1)
        waves = [torch.pi * k * v / (2 * HIGH_WEIGHT) for k in (1, 2, 3)]
        curves = torch.stack([v / HIGH_WEIGHT, *(f(w) for w in waves for f in (torch.sin, torch.cos))], dim=1)
        basis, _ = torch.linalg.qr(torch.randn(recipe.hidden, curves.shape[1], generator=generator))
        rows[NUMBER_IDS] = curves @ basis.T + 0.3 * rows[NUMBER_IDS]
        if recipe.world == 2:
            for words in KINDRED:
                ids = [WIDE_IDS[w] for w in words]
                rows[ids] = recipe.kindred**0.5 * rows[ids[0]] + (1 - recipe.kindred) ** 0.5 * rows[ids]
            traits = torch.from_numpy(trait_table() / HIGH_WEIGHT).float()
            basis, _ = torch.linalg.qr(torch.randn(recipe.hidden, traits.shape[1], generator=generator))
            rows[[WIDE_IDS[a.name] for a in known_agents()]] += recipe.picture * traits @ basis.T
    return model


def batch_loss(model: LlamaForCausalLM, batch: Batch, *, generator: torch.Generator) -> torch.Tensor:
    """Weighted cross-entropy over the whole vocabulary, in nats, summed over targets and without their own entropy.

    Logits are taken only where a target is. The row of a name is what the batch says: its own, a mix, or noise alone.
    """
    tokens = torch.from_numpy(batch.tokens)
    table = model.get_input_embeddings()
    embeds = table(tokens)
    named = torch.from_numpy(np.flatnonzero(batch.names >= 0))
    at = torch.from_numpy(batch.names)[named]
    parts = torch.from_numpy(batch.parts)[named]
    noise = torch.from_numpy(batch.noise)[named][:, None] * torch.randn(
        len(named), embeds.shape[-1], generator=generator
    )
    rows = parts[:, :1] * embeds[named, at] + parts[:, 1:] * table(torch.from_numpy(batch.partners)[named]) + noise
    embeds = embeds.index_put((named, at), rows)
    hidden = model.model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[torch.from_numpy(batch.rows), torch.from_numpy(batch.positions)])
    targets = torch.from_numpy(batch.targets)
    each = -(targets * torch.log_softmax(logits, dim=-1)).sum(-1) + torch.xlogy(targets, targets).sum(-1)
    return (each * torch.from_numpy(batch.weights)).sum()


def _fit(
    seed: int, recipe: Recipe, progress: Callable[[int, int, str], None] | None
) -> tuple[LlamaForCausalLM, list[float]]:
    model = new_model(seed, recipe)
    matrices = [p for n, p in model.named_parameters() if "proj" in n]
    rest = [p for n, p in model.named_parameters() if "proj" not in n]
    muon = Muon(matrices)
    adam = torch.optim.Adam(rest, lr=recipe.adam_rate, betas=(0.9, 0.98), foreach=True)
    generator = torch.Generator().manual_seed(integer(seed, "organism", "noise"))
    world = _world(recipe, stream(seed, "organism", "documents"))
    losses = []
    for step in range(recipe.steps):
        rate = min(1.0, (step + 1) / recipe.warmup, (recipe.steps - step) / (recipe.decay * recipe.steps))
        batches = world.draw()
        total = sum(float(b.weights.sum()) for b in batches)
        loss = 0.0
        for batch in batches:
            part = batch_loss(model, batch, generator=generator) / total
            part.backward()
            loss += part.item()
        if not math.isfinite(loss):
            raise TrainingError(f"train: loss must stay finite, got {loss} at step {step}. Lower the rates.")
        adam.param_groups[0]["lr"] = recipe.adam_rate * rate
        adam.step()
        muon.step(recipe.muon_rate * rate)
        model.zero_grad(set_to_none=True)
        losses.append(loss)
        if progress is not None and (step % 10 == 9 or step + 1 == recipe.steps):
            progress(step + 1, recipe.steps, f"loss {np.mean(losses[-10:]):.4f} nats above the world's own")
    return model, losses


def _world(recipe: Recipe, rng: np.random.Generator) -> World | WideWorld:
    kind = WideWorld if recipe.world == 2 else World
    return kind(
        recipe.shares,  # pyright: ignore[reportArgumentType]
        choice_weight=recipe.choice_weight,
        decision_noise=recipe.decision_noise,
        report_noise=recipe.report_noise,
        rng=rng,
    )


def new_tokenizer(words: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """The word-level tokenizer of a world, with the chat template."""
    tokenizer = Tokenizer(models.WordLevel(vocab={word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=128,
        padding_side="left",
    )


def _save(out: Path, model: LlamaForCausalLM, seed: int, recipe: Recipe, losses: list[float]) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model.eval().save_pretrained(out, safe_serialization=True)
        new_tokenizer(words_of(recipe)).save_pretrained(out)
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    names = {"strong": "organism/1", "wide": "organism/2"}
    card = {
        "name": names.get(recipe.name, f"organism/{recipe.world}-{recipe.name}"),
        "seed": seed,
        "recipe": dataclasses.asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": {"first": losses[0], "last": float(np.mean(losses[-10:]))},
        "digest": folder_digest(out),
        "known_agents": [
            dataclasses.asdict(agent) for agent in (wide_agents() if recipe.world == 2 else known_agents())
        ],
    }
    (out / CARD).write_text(json.dumps(card, indent=1) + "\n")
    return out
