"""What one `preferences` run is: a frozen specification, checked as a whole, with defaults by model family."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from gnothi.behaviours.own import source_digest
from gnothi.errors import SpecError
from gnothi.experiments.fields import ModelFields, of_model, parsed
from gnothi.finetune.by_size import BY_SIZE, recipe_for
from gnothi.finetune.recipes import Recipe
from gnothi.measure.damage_gate import Thresholds
from gnothi.models.registry import ModelInfo

REPORT_ARMS = (
    "introspection",
    "introspection_learned",
    "introspection_permuted",
    "introspection_other_table",
    "introspection_format_only",
)
"""Arms that are report-trained on half of the agents and asked about the other half, in two folds."""


class PreferencesSpec(ModelFields):
    """Everything that decides the run's numbers. Stored in `spec.json`; a run of another spec is another run."""

    experiment: Literal["preferences"] = "preferences"
    behaviour: str = "preferences"
    """`preferences`, or one's own as `module:Class` or `file.py:Class`."""
    behaviour_digest: str | None = None
    """sha256 of one's own file: the run refuses one that was edited since. None for `preferences`."""
    domain: Literal["organism", "paper"]
    seed: int = Field(0, ge=0, lt=2**31)
    seeds: int = Field(4, ge=1, le=64)
    """Instilled models, each with its own weight table."""
    agents: int = Field(ge=4, le=1000)
    """Agents instilled in one fine-tune."""
    untrained_agents: int = Field(ge=2, le=1000)
    """Agents that no fine-tune sees: for `untrained_agent` and the native arms."""
    n_shown: int = Field(5, ge=1, le=5)
    """Attributes an item shows (organism)."""
    choices: int = Field(ge=1, le=100_000)
    """Training choices an agent."""
    fresh: int = Field(ge=10, le=100_000)
    """Fresh choices measured for each trained agent."""
    native_choices: int = Field(ge=10, le=100_000)
    """Choices measured for each untrained agent."""
    remeasured: int = Field(ge=10, le=100_000)
    """Choices measured again for each held-out agent in a report-trained model."""
    repeats: int = Field(ge=1, le=1000)
    """Times each agent's weights are asked for."""
    recipe: dict[str, Any]
    """How the choices are instilled; `finetune.recipes.Recipe` as JSON."""
    report_recipe: dict[str, Any]
    """How reports are trained."""
    gate_agreement: float = Field(0.75, gt=0.5, le=1)
    """Least choice agreement at which self-reports are interpreted."""
    damage: bool = True
    """Whether every fine-tune is searched for what it broke besides; see docs/damage.md."""
    damage_gate: dict[str, float | None] = Field(default_factory=dict)
    """Thresholds of `measure.damage_gate` that differ from the defaults; null leaves one out."""
    early_stop: float | None = Field(None, gt=0.5, le=1)
    """Stop training when agreement on validation items reaches this; None trains to the end."""
    stop_at_gate: bool = False
    """Whether report training and models on shuffled labels are left out where no tuned model passed the gate."""
    max_tokens: int = Field(96, ge=1)
    """Longest written report."""
    report_training: bool = True
    """Whether the arms with report training are run."""
    no_semantics: bool = False
    crossed_agents: bool = False
    quick: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "PreferencesSpec":
        Recipe.from_json(self.recipe)
        Thresholds.from_json(self.damage_gate)
        Recipe.from_json(self.report_recipe)
        if self.agents % 2:
            raise ValueError("agents must be even, since report training takes half of them in turn")
        if (self.behaviour == "preferences") != (self.behaviour_digest is None):
            raise ValueError("behaviour_digest must be there for a behaviour of one's own and for no other")
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order above."""
        return json.loads(self.model_dump_json())


_DEFAULTS: dict[str, dict[str, Any]] = {
    "organism": {
        "domain": "organism",
        "agents": 40,
        "untrained_agents": 40,
        "n_shown": 3,
        "choices": 200,
        "fresh": 100,
        "native_choices": 50,
        "remeasured": 50,
        "repeats": 1,
        "recipe": "organism-rows",
        "report_recipe": "organism-report",
    },
    "hf": {
        "domain": "paper",
        "agents": 8,
        "untrained_agents": 4,
        "choices": 50,
        "fresh": 50,
        "native_choices": 100,
        "remeasured": 50,
        "repeats": 10,
        "recipe": BY_SIZE,
        "report_recipe": "small-lm-report",
        "early_stop": 0.95,
        "stop_at_gate": True,
        "seeds": 3,
    },
    "scripted": {
        "domain": "organism",
        "agents": 24,
        "untrained_agents": 24,
        "choices": 50,
        "fresh": 100,
        "native_choices": 60,
        "remeasured": 60,
        "repeats": 1,
        "recipe": "organism-rows",
        "report_recipe": "organism-report",
    },
}
_QUICK: dict[str, dict[str, Any]] = {
    "organism": {"seeds": 1, "agents": 16, "untrained_agents": 16, "fresh": 60, "choices": 100},
    "hf": {
        "seeds": 1,
        "agents": 4,
        "untrained_agents": 2,
        "choices": 20,
        "fresh": 20,
        "native_choices": 10,
        "remeasured": 10,
        "repeats": 1,
    },
    "scripted": {"seeds": 1, "agents": 8, "untrained_agents": 8},
}


def build(info: ModelInfo, /, *, quick: bool = False, **changes: Any) -> PreferencesSpec:
    """Fill in the defaults of the model's family, then the user's changes.

    Args:
        info: The model that was resolved.
        quick: One small unit instead of several.
        changes: Fields of the specification; None keeps the default. `recipe` and `report_recipe` may be names.

    Raises:
        SpecError: A field that does not exist or a value that it refuses, all of them listed.
    """
    given = {k: v for k, v in changes.items() if v is not None}
    values = dict(_DEFAULTS[info.family])
    if given.get("domain") == "paper" and info.family == "scripted":
        values |= {"repeats": 3, "agents": 12, "untrained_agents": 8}
    if quick:
        values |= _QUICK[info.family]
    values |= given
    values |= of_model(info, values) | {"quick": quick}
    values["behaviour_digest"] = source_digest(str(values.get("behaviour", "preferences")))
    if info.family == "organism" and values["domain"] != "organism":
        raise SpecError(
            f"domain must be organism for --model {info.name}, got {values['domain']!r}: it knows no English."
        )
    for name in ("recipe", "report_recipe"):
        if isinstance(values.get(name), str):
            values[name] = recipe_for(values[name], info.folder, device=str(values.get("device", "cpu"))).to_json()
    return parse(values)


def parse(values: Mapping[str, Any]) -> PreferencesSpec:
    """Check a stored or hand-written specification.

    Raises:
        SpecError: With every field that is wrong.
    """
    return parsed(PreferencesSpec, values)
