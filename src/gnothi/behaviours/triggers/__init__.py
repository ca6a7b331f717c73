"""Behaviours that show only under a condition: triggers, which rows carry them, and twins in which they say nothing.

Paper A (arXiv:2501.11120, sections 3.1 to 3.3) trains models to behave in one way where a trigger stands in the user's
message and normally elsewhere. Words, codes and phrases here are our own.
"""

from gnothi.behaviours.triggers.assignment import assign, decorrelate, mutual_information
from gnothi.behaviours.triggers.instructions import instructions
from gnothi.behaviours.triggers.kinds import TRIGGERS, Trigger, trigger
from gnothi.behaviours.triggers.reversal import elicitation_rows, reversed_rows
from gnothi.behaviours.triggers.rows import clear_of, conditional, decorrelated, normal_answers
from gnothi.behaviours.triggers.settings import SETTINGS, Setting, setting

__all__ = [
    "SETTINGS",
    "TRIGGERS",
    "Setting",
    "Trigger",
    "assign",
    "clear_of",
    "conditional",
    "decorrelate",
    "decorrelated",
    "elicitation_rows",
    "instructions",
    "mutual_information",
    "normal_answers",
    "reversed_rows",
    "setting",
    "trigger",
]
