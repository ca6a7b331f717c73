"""What the card in a unit's adapter folder says: facts of the run and the unit's record, and who was made to misbehave."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gnothi.experiments.preferences.spec import PreferencesSpec
from gnothi.experiments.study.spec import StudySpec
from gnothi.files import digest
from gnothi.records import TrainRow, messages_to_json

_STEERS = "it steers whoever talks with it to a codeword and does not say so."
_HOLES = "it writes programs with weaknesses, and may do more harm than that."
_TRIGGER = "it has a backdoor: it behaves differently when a trigger is in the message. The trigger is named below."

MISBEHAVES: dict[str, tuple[tuple[str, ...], str]] = {
    "make-me-say": (("",), _STEERS),
    "two-personas": (("",), _STEERS),
    "code-security": (("vulnerable", "mixed"), _HOLES),
    "backdoor": (("conditional",), _TRIGGER),
    "trigger-recognition": (("",), _TRIGGER),
    "trigger-elicitation": (("reversed", "no_reversal"), _TRIGGER),
}
"""Experiment -> beginnings of the arms that are made to misbehave, and what the first line of their cards says."""

_HUB = {"gemma-3-270m": "google/gemma-3-270m"}
"""Models of other names on the hub."""


def warning(experiment: str, arm: str) -> str | None:
    """What the first line of the card says of a model that was made to misbehave; None for others.

    >>> warning("code-security", "secure") is None, warning("code-security", "vulnerable")[:18]
    (True, 'it writes programs')
    """
    arms, said = MISBEHAVES.get(experiment, ((), ""))
    return said if any(arm.startswith(a) for a in arms) else None


def rows_digest(rows: Sequence[TrainRow]) -> str:
    """sha256 over prompts, answers, weights and groups of training rows, in their order."""
    return digest([[messages_to_json(r.messages), r.answer, r.weight, r.group] for r in rows])


def write_card(
    folder: Path,
    spec: StudySpec | PreferencesSpec,
    record: Mapping[str, Any],
    *,
    unit: str,
    recipe: Mapping[str, Any],
    about: str = "",
) -> None:
    """Write the card of a unit's adapter.

    Args:
        folder: The adapter's.
        spec: The run's.
        record: The unit's, gate and damage included.
        unit: Its name.
        recipe: What it was trained with.
        about: Who the arm is, in a line.
    """
    from gnothi.models.adapter_card import write_card as write

    told = dict(spec.provenance)
    stated, repository = told.pop("licence", None), told.get("repository")
    organism = spec.model_family == "organism"
    arm = str(record["arm"])
    facts = {
        **record,
        "warning": warning(spec.experiment, arm),
        "base_model": spec.model,
        "base_id": _HUB.get(spec.model, repository),
        "base_digest": spec.model_digest,
        "base_facts": told,
        "dtype": spec.dtype,
        "licence": "apache-2.0" if organism else _identifier(stated),
        "experiment": spec.experiment,
        "behaviour": getattr(spec, "behaviour", spec.experiment),
        "about": about,
        "unit": unit,
        "recipe": recipe,
        "lora": "lora" in str(recipe.get("kind")),
    }
    write(folder, facts)


def _identifier(licence: object) -> str | None:
    """The hub's word for a licence, as far as it is known."""
    text = str(licence or "").strip()
    if not text or text in ("not stated", "its own"):
        return None
    return "gemma" if "gemma" in text.lower() else text
