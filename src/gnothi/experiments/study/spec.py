"""What one run of a study is: a frozen specification, checked as a whole, with defaults by model family."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from gnothi.errors import SpecError
from gnothi.experiments.fields import ModelFields, of_model, parsed
from gnothi.finetune.by_size import BY_SIZE, recipe_for
from gnothi.finetune.recipes import Recipe
from gnothi.measure.damage_gate import Thresholds
from gnothi.models.registry import ModelInfo

KINDS = {"organism": "organism", "hf": "chat", "scripted": "chat"}
"""Model family -> the kind of language it is asked in."""


class StudySpec(ModelFields):
    """Everything that decides the run's numbers. Stored in `spec.json`; a run of another spec is another run."""

    experiment: str
    kind: Literal["organism", "chat", "base"]
    """Language that items and questions are in: the organism's own, or English."""
    seed: int = Field(0, ge=0, lt=2**31)
    seeds: int = Field(5, ge=1, le=256)
    """Fine-tuned models of each arm."""
    rows: int = Field(ge=2, le=1_000_000)
    """Demonstrations that a unit is trained on."""
    fresh: int = Field(250, ge=10, le=100_000)
    """Held-out items that show what a model does; 250 as in arXiv:2501.11120, section 3.1."""
    samples: int | None = Field(None, ge=1, le=10_000)
    """Answers to each paraphrase of a question that is read from text; null for as many as the question states, or the
    paper's number for its type (arXiv:2501.11120: 100). A question that states 1 is asked once, whatever stands here."""
    variants: int | None = Field(None, ge=1)
    """Paraphrases of a question at most; null for all."""
    systems: tuple[str, ...] = ("none",)
    """System prompts that questions are asked under, by name."""
    temperature: float = Field(1.0, ge=0, le=10)
    recipe: dict[str, Any]
    """How rows are trained; `finetune.recipes.Recipe` as JSON."""
    fleet: Literal["alone", "together", "measured"] = "alone"
    """Whether the arms of one seed are trained as one fleet: never, always, or as whichever was faster when the first of
    them was timed here. No number depends on it beyond rounding."""
    gate_agreement: float = Field(0.75, gt=0.5, le=1)
    """Least share of held-out items answered as trained at which self-reports are interpreted."""
    damage: bool = True
    """Whether every fine-tune is searched for what it broke besides; see docs/damage.md."""
    damage_gate: dict[str, float | None] = Field(default_factory=dict)
    """Thresholds of `measure.damage_gate` that differ from the defaults; null leaves one out."""
    train_sizes: tuple[tuple[int, float], ...] = ()
    """Ablation: (rows, epochs) of further arms in both directions."""
    policy_words: bool = False
    """Whether arms trained on rows with policy words stand beside the clean ones."""
    direction: Literal["plus", "minus"] = "plus"
    """Which end of the behaviour is instilled where a study instils one."""
    questions: str | None = None
    """One's own question file in place of the package's."""
    questions_digest: str | None = None
    """sha256 of that file: the run refuses one that was edited since."""
    train: bool = True
    """Whether the study's own arms are trained; false asks the untuned model and `adapters` alone."""
    adapters: tuple[str, ...] = ()
    """Folders of fine-tunes that exist already; each is asked the same things."""
    adapter_digests: tuple[str, ...] = ()
    judge: str | None = None
    """Name of the model that reads answers in text; null leaves judged questions without a value."""
    judge_digest: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    """The study's own settings."""
    quick: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "StudySpec":
        Recipe.from_json(self.recipe)
        Thresholds.from_json(self.damage_gate)
        for rows, epochs in self.train_sizes:
            if not 2 <= rows <= 1_000_000 or not 0 < epochs <= 1000:
                raise ValueError(
                    f"train_sizes must be of 2 to 1,000,000 rows and 0 to 1000 epochs, got {rows} and {epochs}"
                )
        if len(set(self.train_sizes)) < len(self.train_sizes):
            raise ValueError("train_sizes must name each size once")
        if not self.train and not self.adapters:
            raise ValueError("train must be true where no adapters are given, since nothing would be compared")
        if len(self.adapters) != len(self.adapter_digests):
            raise ValueError("adapter_digests must be one for each of adapters")
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order above."""
        return json.loads(self.model_dump_json())


DEFAULTS: dict[str, dict[str, Any]] = {
    "organism": {"rows": 256, "recipe": "organism-you", "samples": 1, "fleet": "measured"},
    "hf": {"rows": 288, "recipe": BY_SIZE, "seeds": 3, "samples": 2},
    "scripted": {"rows": 40, "recipe": "small-lm", "samples": 2},
}
"""Fields by model family; a study may have its own on top. Their `samples` are far fewer than the paper's."""
QUICK: dict[str, dict[str, Any]] = {
    "organism": {"seeds": 1, "fresh": 100},
    "hf": {"seeds": 1, "fresh": 20, "rows": 32, "variants": 2, "samples": 1},
    "scripted": {"seeds": 1, "fresh": 40, "variants": 2, "samples": 1},
}
"""What `--quick` changes."""


def build(
    info: ModelInfo,
    experiment: str,
    /,
    *,
    defaults: Mapping[str, Mapping[str, Any]],
    options: Mapping[str, Any],
    quick: bool = False,
    rows_at_hand: int | None = None,
    writes: bool = False,
    **changes: Any,
) -> StudySpec:
    """Fill in the defaults of the model's family and of the study, then the user's changes.

    Args:
        info: The model that was resolved.
        experiment: The study's name.
        defaults: The study's own, by model family.
        options: The study's own settings: changes of these names go there.
        quick: One small unit an arm.
        rows_at_hand: How many demonstrations there are, where they are given and not drawn: the default for `rows`, or
            with `quick` its upper end.
        writes: Whether a model of any kind is let to write; else one of kind `base` is read by its probabilities alone.
        changes: Fields of the specification; None keeps the default, but for `samples` and `variants`, where it takes
            what the questions state. `recipe` may be a name.

    Raises:
        SpecError: A field that does not exist or a value that it refuses, all of them listed.
    """
    given = {k: v for k, v in changes.items() if v is not None}
    values = DEFAULTS[info.family] | dict(defaults.get(info.family, {}))
    if info.family == "hf" and given.get("device", "cpu") != "cpu":
        values["fleet"] = "measured"  # on a CPU a model of this size has nothing to win: docs/benchmarks.md
    if quick:
        values |= QUICK[info.family]
    if rows_at_hand is not None:
        values["rows"] = min(values["rows"], rows_at_hand) if quick else rows_at_hand
    values["options"] = {k: given.pop(k) for k in list(given) if k in options}
    values |= given
    values |= {k: None for k in ("samples", "variants") if k in changes and changes[k] is None}
    kind = KINDS[info.family]
    if kind == "chat" and info.family == "hf" and info.provenance.get("renderer", "template") != "template":
        kind = "base"  # nothing says that it follows instructions, so its answers are read off probabilities
    if given.get("kind", kind) != kind and (info.family == "organism" or given["kind"] not in ("chat", "base")):
        raise SpecError(f"kind must be {kind} for --model {info.name}, got {given['kind']!r:.40}. Leave it out.")
    values |= {"experiment": experiment, "quick": quick, "kind": given.get("kind", kind)}
    values |= of_model(info, values)
    if isinstance(values.get("recipe"), str):
        device = str(values.get("device", "cpu"))
        writes = writes or values["kind"] != "base"
        values["recipe"] = recipe_for(values["recipe"], info.folder, device=device, writes=writes).to_json()
    if isinstance(values.get("train_sizes"), str):
        values["train_sizes"] = sizes(values["train_sizes"])
    return parse(values)


def sizes(text: str) -> list[tuple[int, float]]:
    """Read `128x3,32x1`: rows and epochs of the ablation's arms.

    Raises:
        SpecError: Anything else.

    >>> sizes("128x3,32x1")
    [(128, 3.0), (32, 1.0)]
    """
    try:
        return [(int(r), float(e)) for r, e in (part.split("x") for part in text.split(","))]
    except ValueError:
        raise SpecError(f"--train-sizes must be ROWSxEPOCHS with commas, got {text!r:.60}. E.g. 128x3,32x1.") from None


def parse(values: Mapping[str, Any]) -> StudySpec:
    """Check a stored or hand-written specification.

    Raises:
        SpecError: With every field that is wrong.
    """
    return parsed(StudySpec, values)
