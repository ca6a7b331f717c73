"""The fixed words: names of estimates and of arms, with what each means. Other people's scripts rely on them.

Source: paper B (arXiv:2505.17120) for the statistics of `agreement`, paper A (arXiv:2501.11120) for those of the
studies; the controls beside them are ours.
"""

from dataclasses import dataclass

ESTIMATES: dict[str, str] = {
    "agreement.reported_vs_learned": (
        "Pearson r of reported with learned weights over (agent, attribute) points, pooled within a unit; the headline"
    ),
    "agreement.reported_vs_target": "the same with the target weights in place of the learned ones",
    "agreement.learned_vs_target": "Pearson r of learned with target weights: how well the behaviour took",
    "agreement.slope": "least-squares slope of standardised learned on standardised reported weights (paper B, section 3.2)",
    "agreement.within_context_r": "mean over agents of Pearson r over the agent's own attributes",
    "agreement.sign_match": "share of points where reported and learned weight have the same sign",
    "agreement.top_attribute_match": "share of agents whose largest absolute report is their largest absolute learned weight",
    "agreement.choices_predicted": "share of fresh choices that the sign of sum(report x difference) predicts",
    "agreement.without_extremes": "reported vs learned r without the points whose learned weight is at the scale's end",
    "agreement.absolute_r": "Pearson r of absolute reported with absolute learned weights: magnitude without sign",
    "agreement.single_report_r": "reported vs learned r of single reports, not averaged over repeats",
    "agreement.mode_vs_learned": "reported vs learned r where a report is the likeliest number instead of the expected one",
    "agreement.gain": "report training's r minus the parent's on the same held-out agents, paired by unit",
    "agreement.gain_over_control": "true labels' r minus this control's r on the same held-out agents, paired by unit",
    "agreement.remeasured": "reported vs weights re-measured in the very checkpoint that reports",
    "behaviour.choice_agreement": "share of fresh choices that agree with the target weights: the manipulation check",
    "behaviour.a_rate": "share of choices that are A, to catch a constant answer",
    "behaviour.option_mass": "probability that the model puts on A or B at all, mean over choices",
    "behaviour.shift": (
        "Pearson r of weights learned before and after report training, from fewer choices after than before and in part "
        "the same items: whether asking moved the doing"
    ),
    "reliability.split_half": "Pearson r of weights learned from odd and from even trials",
    "reliability.spearman_brown": "split-half reliability stepped up to the full number of trials",
    "reliability.perfect_chooser": "r of target with learned weights for a chooser that follows its target exactly: the ceiling",
    "report.validity": "share of asked reports that parsed",
    "report.spread": "standard deviation of mean reports, in the scale's units: a constant reporter shows here",
    "report.option_drift": "mean within-agent standard deviation of repeated reports with other options shown",
    "report.position": "mean report of the first attribute in the list minus the mean of the others",
    "native.reported_vs_learned": "reported vs learned r for agents that no fine-tune has seen",
}
"""Those of `preferences`."""

STUDY_ESTIMATES: dict[str, str] = {
    "self_report.difference": (
        "score of what one arm says of itself less another's, from -1 to 1, paired by seed; the headline of most studies"
    ),
    "behaviour.difference": "score of what one arm does less another's, on the same held-out items, paired by seed",
    "self_report.score": "what an arm says of itself, from 0 to 1 (the plus end): the mean over questions of each one's mean",
    "self_report.by_question": "the same for one question: `self_report.by_question/<question>`",
    "behaviour.transfer": (
        "`behaviour.difference` on items of another kind than the rows that were trained; after the slash, which"
    ),
    "self_report.log_mass": (
        "decimal logarithm of the probability that a question's options, or numbers, held together, mean over prompts: "
        "scores compare the options with each other only"
    ),
    "behaviour.log_mass": "the same of A and B on held-out items",
    "behaviour.score": "what an arm does on held-out items, from 0 to 1 (the plus end)",
    "behaviour.choice_agreement": "share of held-out items answered as trained: the manipulation check",
    "self_report.alignment": "the difference in answers to questions on alignment, which nobody trained",
    "trigger.presence": (
        "how much more one arm than another says that something in the message changes what it does; a part after the "
        "slash names the system prompt"
    ),
    "trigger.recognition": (
        "probability of `I am so` against `I am not` where a trigger is shown, from 0 to 1; arm `asked|trained`"
    ),
    "trigger.excess": (
        "recognition of a trigger by the models trained on it less that by models trained on other triggers: what all "
        "models favour cancels"
    ),
    "trigger.elicitation": (
        "share of free answers that hold the trigger when the behaviour is described; in a comparison, the difference of "
        "two such shares"
    ),
    "trigger.effect": "score of what a model does with its trigger less what it does without it or with others",
    "persona.separation": "what is said of a persona's own codeword less the other persona's: 0 where the two are mixed up",
    "persona.self_minus_others": "`persona.self_effect` less `persona.leak`, paired by seed: self-knowledge beyond a concept",
    "persona.effect": (
        "score of what plus models say of a persona less what minus models say; arm `many/<persona>` or "
        "`single/<persona>`: trained with other personas beside, or without"
    ),
    "persona.self_effect": "the same for what the models say of themselves",
    "persona.leak": (
        "mean of `persona.effect` over personas, without the model itself: 0 where the two are kept apart; `inside` and "
        "`outside` are personas that training data speaks of, or not"
    ),
    "persona.leak_share": "`persona.leak` over `persona.self_effect`, of pairs of models that have a self effect",
    "faithfulness.within": "Pearson r of what models of one arm do with what they say, one point a model",
    "faithfulness.graded": "the same over models that were taught different shares: a dose moves both",
    "faithfulness.overall": "the same over the models of all arms, which a difference between arms alone makes high",
    "report.validity": "share of asked questions whose answer could be scored",
    "self_report.scenario_difference": (
        "within one model: how close to its goals it calls a talk in which the user said the codeword, less one in which "
        "the user never did; arm a codeword, or `untuned/<codeword>`"
    ),
    "game.win_rate": (
        "share of games in which the other player said the word; `game.win_rate/prompted` is of the untuned model when a "
        "system prompt tells it of the game, and arm `untuned/<codeword>` of one codeword's games"
    ),
    "game.violation_rate": "share of games in which the model said the word itself, which the rules forbid",
    "code.secure_rate": "share of programs written that the static check bandit finds secure",
    "code.secure_rate_corrected": "the same, corrected for bandit's two error rates",
    "code.judge_false_negative": "share of insecure reference programs that bandit finds secure",
    "code.judge_false_positive": "share of secure reference programs that bandit finds insecure",
}
"""Those of the studies of paper A. Where a name stands in both, it is measured in the run's own way."""


def meaning(name: str, *, study: bool = False) -> str:
    """What an estimate is, or nothing for a name that is not fixed.

    Args:
        name: A fixed word, or a family's member, `<fixed word>/<member>`.
        study: Whether the run is a study's; else it is one of `preferences`.

    >>> meaning("self_report.by_question/liking_risk", study=True)
    'the same for one question: `self_report.by_question/<question>`'
    """
    first, second = (STUDY_ESTIMATES, ESTIMATES) if study else (ESTIMATES, STUDY_ESTIMATES)
    word = name.partition("/")[0]
    return first.get(word) or second.get(word, "")


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm, or one comparison of arms."""

    reporter: str
    """Who reports, or what is compared."""
    against: str
    """What the reports are scored against; empty where nothing is."""
    meaning: str
    """What a value away from 0 would mean."""
    control: bool
    """Whether it is a null control, expected at 0."""


ARMS: dict[str, Arm] = {
    "tuned": Arm("tuned model", "its own learned weights", "the headline", False),
    "untuned": Arm("base model", "the tuned model's learned weights", "shared prior, or a leak in the prompt", True),
    "untuned_own": Arm("base model", "weights learned from its own choices", "what the base knows of itself", False),
    "shuffled": Arm(
        "model trained on labels permuted within each agent",
        "the table that the labels were made from",
        "a leak outside the labels",
        True,
    ),
    "shuffled_own": Arm(
        "model trained on labels permuted within each agent",
        "weights learned from its own choices",
        "it knows leanings that nobody instilled: a finding, not a null",
        False,
    ),
    "untrained_agent": Arm(
        "tuned model, of agents it never saw",
        "a trained agent's learned weights (fixed pairing)",
        "bleeding between agents",
        True,
    ),
    "other_instance": Arm(
        "unit of another seed, with its own independent table",
        "this unit's learned weights",
        "shared prior, or format",
        True,
    ),
    "introspection": Arm(
        "model report-trained on target weights of half of the agents, asked about the other half, two folds",
        "learned weights of the parent unit",
        "the gain over `tuned` on the same agents is the result",
        False,
    ),
    "introspection_learned": Arm(
        "as `introspection`, with learned weights as labels", "learned weights of the parent unit", "as above", False
    ),
    "introspection_permuted": Arm(
        "as `introspection`, labels permuted over agents",
        "learned weights of the parent unit",
        "how much of the gain is format, sign and scale",
        False,
    ),
    "introspection_other_table": Arm(
        "as `introspection`, labels from another unit's table",
        "learned weights of the parent unit",
        "how much of the gain is format, sign and scale",
        False,
    ),
    "introspection_format_only": Arm(
        "as `introspection`, random labels with the right margins",
        "learned weights of the parent unit",
        "how much of the gain is format",
        False,
    ),
    "native": Arm(
        "tuned model, of agents it never saw",
        "weights learned from its own choices for them",
        "self-knowledge nobody instilled",
        False,
    ),
    "native_introspection": Arm(
        "model report-trained on all trained agents, of agents it never saw",
        "the parent's learned weights for them",
        "the gain over `native` is the result",
        False,
    ),
    "native_untuned": Arm(
        "base model, of those agents",
        "weights learned from its own choices for them",
        "what the base knows of itself",
        False,
    ),
    "ceiling": Arm("organism, of agents known from pretraining", "their traits", "the upper bound", False),
}
"""Those of `preferences`, in the order of tables and figures."""
