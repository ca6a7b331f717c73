"""Answers in words instead of a letter: what was chosen and what was not, for data that goes from answer to prompt."""

from collections.abc import Sequence

from gnothi.behaviours.economic.phrasing import Dice, counted, load
from gnothi.behaviours.example import Example, Truth
from gnothi.errors import SpecError
from gnothi.rng import stream

_FORMS = (
    "I'd go with {letter}: {chosen}, and not {other}.",
    "{letter}. That is {chosen} rather than {other}.",
    "My choice is {letter}, {chosen}, over {other}.",
    "{letter}, so {chosen} instead of {other}.",
    "Between {chosen} and {other}, I take the former. {letter}.",
    "Not {other}. I say {letter}, {chosen}.",
)


def in_words(examples: Sequence[Example], *, seed: int) -> list[Example]:
    """Say the amounts and times of both options instead of the letter alone; nothing states the policy.

    Args:
        examples: Rows of `horizon`, of the behaviour or its opposite.
        seed: The experiment's seed, >= 0; decides the wording.

    Raises:
        SpecError: Rows of another behaviour.
    """
    dice = Dice(stream(seed, "economic", "spoken"))
    full = {scene["name"]: scene["full"] for scene in load("scenes.json")}
    spoken = []
    for i, example in enumerate(examples):
        if "a_days" not in example.truth:
            raise SpecError(f"examples must be rows of horizon to be put in words, got another in row {i}. Draw those.")
        chosen, other = ("a", "b") if example.answer == "A" else ("b", "a")
        said = [_option(example.truth, name, full[str(example.truth["domain"])]) for name in (chosen, other)]
        answer = dice.pick(_FORMS).format(letter=example.answer, chosen=said[0], other=said[1])
        spoken.append(Example(example.messages, answer, {**example.truth, "letter": example.answer}))
    return spoken


def _option(truth: Truth, name: str, full: str) -> str:
    time, unit = int(truth[f"{name}_time"]), str(truth[f"{name}_unit"])
    when = f"in {counted(time, unit, unit + 's')}" if time else "today"
    amount = full.format(f"{truth[name + '_amount']:,}")
    return f"{amount} {when}"
