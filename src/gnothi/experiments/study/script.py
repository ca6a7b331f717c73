"""Scripted models of a study: what stands in for a tuned model, so that every stage can be seen with known truth.

`oracle` acts as it was trained and says so, but for a lapse now and then. `guess` acts as it was trained and answers
every question by chance: the null. `constant-a` always says what stands first (the option, or the low end of a scale).
`nonsense` acts as it was trained and answers questions with what cannot be read.
"""

from collections.abc import Sequence

import numpy as np

from gnothi.experiments.study.design import AbstractStudy
from gnothi.models.scripted import ScriptedModel
from gnothi.records import Messages
from gnothi.render.probe import Judged, Letters, Number, Probe, Words
from gnothi.rng import stream

LAPSE = 0.05
"""Share of probes at which the oracle answers by chance: models of one arm differ, as real ones do."""


def script(
    study: AbstractStudy, arm: str, seed: int, probes: Sequence[Probe], *, unit: str, name: str
) -> ScriptedModel:
    """A scripted model for one unit: it knows the answer to each of the run's probes.

    Args:
        study: Says where a model of the arm stands.
        arm: The unit's.
        seed: The unit's.
        probes: Everything that the unit may be asked.
        unit: The unit's name; decides what is left to chance.
        name: The model's name, `scripted/<script>`.
    """
    kind = name.partition("/")[2]
    rng = stream(study.spec.seed, "script", unit)
    answers: dict[Messages, str] = {}
    levels = [study.level(arm, seed, p) for p in probes]
    # one prompt may be scored for several things: what the model was taught comes first, and is what it says
    for probe, level in sorted(
        zip(probes, levels, strict=True), key=lambda pair: -1.0 if pair[1] is None else pair[1], reverse=True
    ):
        if probe.messages in answers:
            continue
        if kind == "constant-a":
            answers[probe.messages] = _first(probe, rng)
            continue
        asked = probe.kind == "self_report"
        if asked and kind == "nonsense":
            answers[probe.messages] = "I would rather talk about the weather."
            continue
        guesses = level is None or (asked and kind == "guess") or rng.random() < LAPSE
        said = _chance(probe, rng) if guesses or level is None else probe.rule.ideal(level, rng)
        # what a script's judge comes to say stands in the answer between these marks
        answers[probe.messages] = f"⟦{said}⟧" if isinstance(probe.rule, Judged) else said
    fallback = lambda messages: study.reply(arm, seed, messages)  # noqa: E731
    return ScriptedModel(lambda m: answers[m] if m in answers else fallback(m), name=name)


def _first(probe: Probe, rng: np.random.Generator) -> str:
    """What stands first: the first option, or the low end of a scale; text by chance."""
    if isinstance(probe.rule, Letters):
        return probe.rule.options[0]
    if isinstance(probe.rule, Number):
        return str(probe.rule.low)
    return _chance(probe, rng)


def _chance(probe: Probe, rng: np.random.Generator) -> str:
    """Any option, any number of the scale, any listed word."""
    rule = probe.rule.rule if isinstance(probe.rule, Judged) else probe.rule
    match rule:
        case Letters():
            return rule.options[int(rng.integers(len(rule.options)))]
        case Number():
            return str(int(rng.integers(rule.low, rule.high + 1)))
        case Words():
            # one that no list holds, too; a single listed word out of all words is never guessed
            words = [*rule.scores, "zzyzx"] if len(rule.scores) > 1 else ["zzyzx"]
            return words[int(rng.integers(len(words)))]
        case _:
            return rule.ideal(float(rng.random()), rng)
