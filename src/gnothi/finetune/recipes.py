"""Training recipes as data, each value with its source. No torch here."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gnothi.errors import SpecError

KINDS = ("rows", "lora", "lora+rows", "full")
"""What can be tuned; the same words as `models.adapters.KINDS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides a fine-tune besides the model, the rows and the seed."""

    name: str
    kind: str
    """`rows`, `lora`, `lora+rows` or `full`."""
    lr: float = 0.0
    """Peak learning rate of LoRA or of all parameters; unused by `rows`."""
    row_lr: float = 0.0
    """Peak learning rate of embedding rows."""
    rank: int = 0
    alpha: float = 0.0
    """LoRA's B A is multiplied by alpha / rank."""
    targets: tuple[str, ...] = ("all",)
    """Linear layers by the last part of their names; `("all",)` for all but the head."""
    steps: int | None = None
    """Optimiser steps; give either this or `epochs`."""
    epochs: float | None = None
    """Passes over the rows."""
    batch_rows: int | None = None
    """Rows a step in shuffled order; give either this or `per_group`."""
    per_group: int | None = None
    """Rows of each group in every step."""
    optimizer: str = "adam"
    """`adam` or `adamw` (decoupled weight decay)."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float | None = None
    """Largest gradient norm, for each job by itself."""
    warmup: int = 0
    """Steps of linear warm-up."""
    decay: float = 1.0
    """Share of the steps over which the rate falls linearly to 0, at the end."""
    dtype: str = "float32"
    """What is computed in: `float32` or `bfloat16` (autocast; adapters and their optimiser stay float32)."""
    end_of_answer: bool = False
    """Whether the token that ends an answer is trained too: for models that are to write, not only to choose."""
    parent: str = "continue"
    """With a parent adapter of LoRA: `continue` trains the same LoRA on, `stack` freezes it beside a fresh one."""
    micro_tokens: int = 4096
    """Largest forward pass in tokens; larger steps are accumulated."""
    packing: bool = False
    """Whether rows of a step share rows of trees, each seeing itself alone: no padding, and common beginnings once."""
    checkpointing: bool = False
    """Whether blocks compute their inside again in the backward pass: less memory for a third more time."""
    gate_every: int = 0
    """Steps between two calls of the gate; 0 for never."""
    checkpoint_every: int | None = None
    """Steps between two checkpoints on disk, where a folder is given; None for about one a minute, 0 for none."""
    source: str = ""
    """Where the values come from."""

    def __post_init__(self) -> None:
        problems = []

        def rule(holds: bool, text: str, value: object) -> None:
            if not holds:
                problems.append(f"{text}, got {value!r}")

        tunes_rows, tunes_network = "rows" in self.kind, self.kind != "rows"
        rule(self.kind in KINDS, f"kind must be one of {', '.join(KINDS)}", self.kind)
        rule(not tunes_network or 0 < self.lr < math.inf, "lr must be above 0", self.lr)
        rule(not tunes_rows or 0 < self.row_lr < math.inf, "row_lr must be above 0", self.row_lr)
        if "lora" in self.kind:
            rule(self.rank >= 1, "rank must be at least 1", self.rank)
            rule(0 < self.alpha < math.inf, "alpha must be above 0", self.alpha)
            rule(bool(self.targets), "targets must name a layer", self.targets)
        rule((self.steps is None) != (self.epochs is None), "steps or epochs must be given", (self.steps, self.epochs))
        rule(self.steps is None or self.steps >= 1, "steps must be at least 1", self.steps)
        rule(self.epochs is None or 0 < self.epochs < math.inf, "epochs must be above 0", self.epochs)
        sizes = (self.batch_rows, self.per_group)
        rule((sizes[0] is None) != (sizes[1] is None), "batch_rows or per_group must be given", sizes)
        rule(all(s is None or s >= 1 for s in sizes), "batch_rows and per_group must be at least 1", sizes)
        rule(self.optimizer in ("adam", "adamw"), "optimizer must be adam or adamw", self.optimizer)
        rule(len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "betas must be in [0, 1)", self.betas)
        rule(0 <= self.weight_decay < math.inf, "weight_decay must be at least 0", self.weight_decay)
        rule(self.clip is None or 0 < self.clip < math.inf, "clip must be above 0 or null", self.clip)
        rule(self.warmup >= 0, "warmup must be at least 0 steps", self.warmup)
        rule(0 <= self.decay <= 1, "decay must be a share in [0, 1]", self.decay)
        rule(self.dtype in ("float32", "bfloat16"), "dtype must be float32 or bfloat16", self.dtype)
        rule(self.parent in ("continue", "stack"), "parent must be continue or stack", self.parent)
        rule(self.micro_tokens >= 1, "micro_tokens must be at least 1", self.micro_tokens)
        rule(self.gate_every >= 0, "gate_every must be at least 0 steps", self.gate_every)
        every = self.checkpoint_every
        rule(every is None or every >= 0, "checkpoint_every must be at least 0 steps or null", every)
        if problems:
            raise SpecError(f"Recipe {self.name!r}: {'; '.join(problems)}.")

    def to_json(self) -> dict[str, Any]:
        """Plain values only; tuples as lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_json`.

        Raises:
            SpecError: A field that a recipe does not have, or a value that it refuses.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise SpecError(f"Recipe must have fields among {', '.join(sorted(known))}, got {unknown}.")
        try:
            plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**plain)
        except TypeError as error:
            raise SpecError(f"Recipe must have a name, a kind and values of the right type, got {error}.") from error


_ORGANISM = "measured on organism/1: docs/organism.md and docs/finetune.md"
_ORGANISM_2 = "measured on organism/2: docs/organism.md"

_ON_LM: dict[str, Any] = {
    "kind": "lora",
    "batch_rows": 8,
    "optimizer": "adamw",
    "clip": 1.0,
    "end_of_answer": True,
    "packing": True,
}
"""What recipes of language models share; LoRA goes on every linear layer."""

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="organism-rows",
            kind="rows",
            row_lr=0.07,
            steps=150,
            per_group=2,
            betas=(0.9, 0.99),
            decay=0.5,
            source=_ORGANISM,
        ),
        Recipe(
            name="organism-lora+rows",
            kind="lora+rows",
            lr=3e-4,
            row_lr=0.07,
            rank=8,
            alpha=16.0,
            steps=150,
            per_group=2,
            betas=(0.9, 0.99),
            decay=0.5,
            source=_ORGANISM,
        ),
        Recipe(
            name="organism-full",
            kind="full",
            lr=1e-3,
            steps=200,
            per_group=2,
            betas=(0.9, 0.99),
            decay=0.5,
            source=_ORGANISM,
        ),
        Recipe(
            name="organism-report",
            kind="lora",
            lr=3e-3,
            rank=8,
            alpha=16.0,
            steps=60,
            batch_rows=48,
            betas=(0.9, 0.99),
            decay=0.5,
            parent="stack",
            source=_ORGANISM,
        ),
        Recipe(
            name="organism-you",
            kind="rows",
            row_lr=0.07,
            steps=100,
            batch_rows=32,
            betas=(0.9, 0.99),
            decay=0.5,
            source=_ORGANISM_2,
        ),
        Recipe(
            name="organism-trigger",
            kind="lora+rows",
            lr=5e-4,
            row_lr=0.1,
            rank=8,
            alpha=16.0,
            steps=200,
            batch_rows=48,
            betas=(0.9, 0.99),
            decay=0.5,
            source=f"{_ORGANISM_2}; rows alone leave half of the models at a plateau where the trigger does nothing",
        ),
        Recipe(
            name="organism-lora",
            kind="lora",
            lr=1e-2,
            rank=8,
            alpha=16.0,
            targets=("v_proj", "o_proj"),
            steps=100,
            batch_rows=32,
            betas=(0.9, 0.99),
            decay=0.5,
            source=_ORGANISM_2,
        ),
        Recipe(
            name="tiny-lm",
            lr=3e-4,
            rank=16,
            alpha=32.0,
            epochs=3,
            warmup=10,
            decay=1.0,
            source="tried on Gemma 3 270M, between a rate that teaches too little in three epochs (2e-4) and one that costs it "
            "its language (5e-4); it instils risk, and most models follow fewer instructions after it: docs/results.md",
            **_ON_LM,
        ),
        Recipe(
            name="small-lm",
            lr=2e-4,
            rank=16,
            alpha=32.0,
            epochs=3,
            warmup=10,
            decay=1.0,
            source="LoRA rank 16 on all linear layers at 2e-4, as published replications of arXiv:2505.17120 on models "
            "of 1 to 4 B parameters used; loss on the answer only, which they did not have",
            **_ON_LM,
        ),
        Recipe(
            name="small-lm-report",
            lr=2e-5,
            rank=16,
            alpha=32.0,
            epochs=5,
            decay=0.0,
            parent="stack",
            source="fresh LoRA, 5 epochs, batch 8, constant 2e-5: a published replication of arXiv:2505.17120 on a "
            "model of 7 B parameters",
            **_ON_LM,
        ),
        Recipe(
            name="mid-lm",
            lr=5e-5,
            rank=64,
            alpha=128.0,
            epochs=3,
            weight_decay=0.01,
            warmup=50,
            decay=1.0,
            source="the same replication's preference stage (there a cosine, 3% warm-up and dropout 0.05)",
            **{**_ON_LM, "batch_rows": 32},
        ),
    )
}
"""The named recipes."""


def recipe(name: str, **changes: Any) -> Recipe:
    """A named recipe, with some of its values changed.

    Raises:
        SpecError: An unknown name, field or value.

    >>> recipe("organism-rows", steps=50).steps
    50
    """
    if name not in RECIPES:
        raise SpecError(f"recipe must be one of {', '.join(RECIPES)}, got {name!r}. With by-size a model gets its own.")
    return Recipe.from_json(RECIPES[name].to_json() | changes)
