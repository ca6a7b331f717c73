"""Questions about a behaviour, as data: files that anyone can write, turned into scored probes."""

from gnothi.render.questions.expansion import LETTER_SUFFIX, expand
from gnothi.render.questions.files import load, loads, packaged, packaged_fills, packaged_systems, topics
from gnothi.render.questions.published import published
from gnothi.render.questions.question import KINDS, NO_SYSTEM, Question, QuestionSet
from gnothi.render.questions.scoring import DEFAULTS, PROBABILITY_SAMPLES, TEMPERATURE, Fill

__all__ = [
    "DEFAULTS",
    "KINDS",
    "LETTER_SUFFIX",
    "NO_SYSTEM",
    "PROBABILITY_SAMPLES",
    "TEMPERATURE",
    "Fill",
    "Question",
    "QuestionSet",
    "expand",
    "load",
    "loads",
    "packaged",
    "packaged_fills",
    "packaged_systems",
    "published",
    "topics",
]
