"""Proof on every fine-tune: the adapter that is measured is the one that was trained, and little else broke.

Units call it after training, after measuring and when they write their record; a scripted model learns nothing and proves
nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gnothi.experiments.preferences.spec import PreferencesSpec
from gnothi.experiments.study.spec import StudySpec
from gnothi.experiments.subject import Subject
from gnothi.measure import adapter_check
from gnothi.measure.adapter_check import Canaries
from gnothi.measure.damage import damage, kind_of
from gnothi.measure.damage_gate import SILENT, Thresholds, is_damaged, verdict
from gnothi.models.base import AbstractLanguageModel
from gnothi.records import DAMAGED, INSTILLED, Messages
from gnothi.rng import integer


def proof(
    subject: Subject,
    model: AbstractLanguageModel,
    folder: Path,
    facts: Mapping[str, Any],
    spec: StudySpec | PreferencesSpec,
    *,
    prompts: Callable[[], Sequence[Messages]] = tuple,
) -> dict[str, Any]:
    """Check a fine-tuned model before it is measured.

    Args:
        subject: The base model's.
        model: What will be measured.
        folder: Its adapter.
        facts: What is known of its training: `adapter_digest`, `canaries`, `after_training`.
        spec: The run's.
        prompts: Where canaries come from if no training is known, e.g. held-out items.

    Returns:
        For the record: `adapter_check`, and `damage` unless the specification leaves it out.

    Raises:
        StoreError: Files that are not those that training left.
        ModelError: An adapter that is not on the model, or changes nothing.
    """
    if subject.local is None:
        return {}
    base = subject.local  # the model as it came, with its own adapter if it has one
    trained = facts.get("canaries")
    canaries = Canaries.from_json(trained) if trained is not None else Canaries.of_prompts(prompts())
    expected = facts.get("adapter_digest") if trained is not None else None
    found = adapter_check.verify(model, base, folder, expected, canaries, facts.get("after_training"))
    proved: dict[str, Any] = {"adapter_check": {**canaries.to_json(), **found}}
    if spec.damage:
        kind = kind_of(model, organism=spec.model_family == "organism")
        seed = integer(spec.seed, "damage")  # the same questions in every unit of a run
        measured = damage(model, base, kind=kind, seed=seed, quick=spec.quick)
        silent = kind == "base" and not spec.recipe["end_of_answer"]
        thresholds = Thresholds.from_json(spec.damage_gate, SILENT if silent else kind)
        passed, reason = verdict(measured, thresholds)
        told = {"passed": passed, "reason": reason, "thresholds": thresholds.to_json()}
        proved["damage"] = {**measured.to_json(), "gate": told}
    return proved


def concluded(subject: Subject, model: AbstractLanguageModel, record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a unit that was measured: its adapter still answers its canaries as before, and one gate for all.

    A unit that was not instilled stays `not instilled`; one that took the behaviour and broke is `damaged`. Both keep
    their reasons, and neither's self-reports are interpreted.

    Raises:
        ModelError: The model is no longer the one that was checked.
    """
    found = {k: v for k, v in record.items() if k not in ("canaries", "after_training")}
    if check := found.get("adapter_check"):
        canaries = Canaries.from_json(check)
        assert subject.local is not None
        again = adapter_check.verify(model, subject.local, None, None, canaries, check["canary"])
        found["adapter_check"] = {**check, "after_measuring": again["since_training"]}
    if is_damaged(found) and found.get("gate") in (None, INSTILLED):
        found |= {"gate": DAMAGED, "gate_reason": found["damage"]["gate"]["reason"]}
    return found
