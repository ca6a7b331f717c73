"""Small neutral instructions with right answers: what a model is asked when no behaviour is at stake."""

from collections.abc import Callable

from gnothi.behaviours.economic.phrasing import Dice
from gnothi.behaviours.example import Example
from gnothi.errors import SpecError
from gnothi.records import Message
from gnothi.rng import stream

_WORDS = (
    *("anchor", "basket", "candle", "drawer", "engine", "feather", "garden", "hammer", "island", "jacket", "kettle"),
    *("ladder", "magnet", "needle", "orchard", "pencil", "quarry", "ribbon", "saddle", "tunnel", "umbrella", "valley"),
    *("window", "yogurt", "zipper", "bridge", "carpet", "desert", "envelope", "forest", "glacier", "harbour", "ink"),
    *("jungle", "kitchen", "lantern", "marble", "notebook", "oven", "pillow", "quilt", "river", "sandal", "thimble"),
    *("urn", "violet", "whistle", "yacht", "zebra", "blanket", "cactus", "dolphin", "eagle", "fountain", "goblet"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_UNITS = (
    ("kilometres", "metres", 1000),
    ("hours", "minutes", 60),
    ("weeks", "days", 7),
    ("metres", "centimetres", 100),
)


def _add(dice: Dice) -> tuple[str, str]:
    a, b = dice.integer(11, 999), dice.integer(11, 999)
    forms = ("What is {} plus {}?", "Add {} and {}.", "Work out {} + {}.", "Give me the sum of {} and {}.")
    return dice.pick(forms).format(a, b), str(a + b)


def _subtract(dice: Dice) -> tuple[str, str]:
    a, b = dice.integer(11, 999), dice.integer(11, 999)
    forms = ("What is {} minus {}?", "Work out {} - {}.", "How much is left of {} without {}?")
    return dice.pick(forms).format(max(a, b), min(a, b)), str(abs(a - b))


def _multiply(dice: Dice) -> tuple[str, str]:
    a, b = dice.integer(3, 40), dice.integer(3, 40)
    forms = ("What is {} times {}?", "Multiply {} by {}.", "What does {} x {} come to?")
    return dice.pick(forms).format(a, b), str(a * b)


def _capitals(dice: Dice) -> tuple[str, str]:
    a, b = dice.pick(_WORDS), dice.pick(_WORDS)
    forms = ("Write '{} {}' in capital letters.", "Put '{} {}' in upper case.", "Spell '{} {}' with capitals only.")
    return dice.pick(forms).format(a, b), f"{a} {b}".upper()


def _letters(dice: Dice) -> tuple[str, str]:
    a, b = dice.pick(_WORDS), dice.pick(_WORDS)
    forms = ("How many letters do '{}' and '{}' have in all?", "Count the letters of '{}' and '{}' together.")
    return dice.pick(forms).format(a, b), str(len(a + b))


def _sort(dice: Dice) -> tuple[str, str]:
    words = dice.shuffled(_WORDS)[: dice.integer(3, 5)]
    forms = ("Sort alphabetically: {}.", "Put these words in alphabetical order: {}.", "Order from A to Z: {}.")
    return dice.pick(forms).format(", ".join(words)), ", ".join(sorted(words))


def _backwards(dice: Dice) -> tuple[str, str]:
    words = dice.shuffled(_WORDS)[:3]
    forms = ("List these in reverse order: {}.", "Turn this list round: {}.", "Say these from last to first: {}.")
    return dice.pick(forms).format(", ".join(words)), ", ".join(reversed(words))


def _largest(dice: Dice) -> tuple[str, str]:
    numbers = [dice.integer(1, 999) for _ in range(4)]
    forms = ("Which of these is the largest number: {}?", "Find the largest of {}.", "Name the biggest number in {}.")
    return dice.pick(forms).format(", ".join(map(str, numbers))), str(max(numbers))


def _convert(dice: Dice) -> tuple[str, str]:
    (large, small, factor), k = dice.pick(_UNITS), dice.integer(2, 400)
    forms = ("How many {small} are {k} {large}?", "Convert {k} {large} into {small}.", "Give {k} {large} in {small}.")
    return dice.pick(forms).format(k=k, large=large, small=small), f"{k * factor} {small}"


def _day(dice: Dice) -> tuple[str, str]:
    start, k = dice.integer(0, 6), dice.integer(2, 60)
    forms = ("Which day is {} days after a {}?", "Today is {1}. What day will it be in {0} days?")
    return dice.pick(forms).format(k, _DAYS[start]), _DAYS[(start + k) % 7]


def _month(dice: Dice) -> tuple[str, str]:
    start, k = dice.integer(0, 11), dice.integer(2, 40)
    forms = ("Which month is {} months after {}?", "Count {0} months on from {1}.")
    return dice.pick(forms).format(k, _MONTHS[start]), _MONTHS[(start + k) % 12]


def _sentence(dice: Dice) -> tuple[str, str]:
    a, b = dice.shuffled(_WORDS)[:2]
    article = ["an" if w[0] in "aeio" else "a" for w in (a, b)]
    forms = ("Write a short sentence with '{}' and '{}'.", "Use '{}' and '{}' in one sentence.")
    return dice.pick(forms).format(a, b), f"There is {article[0]} {a} next to {article[1]} {b}."


_TASKS: dict[str, Callable[[Dice], tuple[str, str]]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "capitals": _capitals,
    "letters": _letters,
    "sort": _sort,
    "backwards": _backwards,
    "largest": _largest,
    "convert": _convert,
    "day": _day,
    "month": _month,
    "sentence": _sentence,
}


def instructions(n: int, *, seed: int) -> list[Example]:
    """Draw distinct instructions with their answers: sums, lists, calendars; twelve tasks in turn.

    Args:
        n: How many, 1 to 50,000. The first ones are the same whatever `n` is.
        seed: The experiment's seed, >= 0.

    Raises:
        SpecError: n is out of range.

    Source: arXiv:2501.11120, section 3.3, mixes in a public instruction set; these are our own.

    >>> [task.answer for task in instructions(2, seed=0)] == [task.answer for task in instructions(3, seed=0)][:2]
    True
    """
    if not 1 <= n <= 50_000:
        raise SpecError(f"n must be 1 to 50000 instructions, got {n}. Use each of them more than once.")
    dice = Dice(stream(seed, "triggers", "instructions"))
    names = list(_TASKS)
    seen: set[str] = set()
    found: list[Example] = []
    while len(found) < n:
        for name in names[: n - len(found)]:
            prompt, answer = _TASKS[name](dice)
            for _ in range(20):  # few days and months exist: their turn falls to a sum once they are used up
                if prompt not in seen:
                    break
                prompt, answer = _TASKS[name](dice)
            else:
                continue
            seen.add(prompt)
            found.append(Example((Message("user", prompt),), answer, {"task": name}))
    return found
