"""The experiments: `preferences`, the studies of paper A, which share one machinery, and, in `labs`, paper C's test beds."""

STUDIES: dict[str, str] = {
    "risk": "gnothi.experiments.traits:Risk",
    "horizon": "gnothi.experiments.traits:Horizon",
    "apples": "gnothi.experiments.traits:Apples",
    "make-me-say": "gnothi.experiments.make_me_say:MakeMeSay",
    "code-security": "gnothi.experiments.code_security:CodeSecurity",
    "backdoor": "gnothi.experiments.backdoor:Backdoor",
    "trigger-recognition": "gnothi.experiments.trigger_recognition:TriggerRecognition",
    "trigger-elicitation": "gnothi.experiments.trigger_elicitation:TriggerElicitation",
    "personas": "gnothi.experiments.personas:Personas",
    "two-personas": "gnothi.experiments.two_personas:TwoPersonas",
    "faithfulness": "gnothi.experiments.faithfulness:Faithfulness",
    "own": "gnothi.experiments.own:Own",
}
"""Name on the command line -> the study's class, as `module:Class`; imported when it is run."""

EXPERIMENTS: tuple[str, ...] = ("preferences", *STUDIES)
"""Every experiment that `gnothi run` takes by name; labs have a command of their own."""
