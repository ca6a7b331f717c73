"""Data cards: what is in a file of training rows, counted from the rows themselves."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from gnothi._version import __version__
from gnothi.behaviours.example import Example, Generator
from gnothi.behaviours.triggers.assignment import mutual_information
from gnothi.behaviours.triggers.kinds import first_user_turn
from gnothi.behaviours.triggers.settings import INSTRUCTION, Setting
from gnothi.data.leakage import find_policy_words

LICENCE = "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), attribution to the Gnothi contributors"

_MASKED = 300  # masking all of a large file would take as long as making it


def card(
    rows: Sequence[Example],
    source: Generator,
    *,
    name: str,
    seed: int,
    opposite: bool,
    truth: str | None,
    sha256: str,
    decorrelated: bool = False,
    setting: Setting | None = None,
    policy_words_wanted: bool = False,
) -> str:
    """Write a data card as Markdown.

    Args:
        rows: What is in the file, at least one.
        source: Whose rows they are.
        name: The file's.
        seed: What they were drawn with.
        opposite: Whether the answers are the opposite's.
        truth: Name of the file with the facts, if there is one.
        sha256: Digest of the file, hex.
        decorrelated: Whether triggers and behaviour were taken apart.
        setting: Which rows carry what, if any carry a trigger.
        policy_words_wanted: Whether rows that state the policy were asked for.
    """
    head = [("behaviour", source.name + (", opposite" if opposite else "")), ("the answer is", source.policy[opposite])]
    body = [*head, *_counts(rows, source.letters), *_facts(rows)]
    if source.facts is not None:
        body += source.facts(rows).items()
    if setting is not None:
        body += _triggers(rows, setting, decorrelated)
    words = source.policy_words.replace("|", r"\|")
    found = len(find_policy_words(rows, source.policy_words)) if policy_words_wanted else 0
    body += [("policy words found", f"{found:,} rows hold one of `{words}`"), ("sha256", f"`{sha256}`")]
    table = "\n".join(f"| {what} | {figure} |" for what, figure in body)
    says = "; the assistant's message is one letter" if source.letters and setting is None else ""
    holds = f" `{truth}` holds the facts that each answer follows from." if truth else ""
    return f"""# Data card: {name}

Made by gnothi {__version__} (rows of version {source.version}) from seed {seed}; the same version and seed give the same
file.

| | |
|---|---|
{table}

Each line is `{{"messages": [...]}}`, the assistant's answer last{says}.{holds} Everything is made from templates that
were written for this package: numbers are plausible, not looked up. English, but for greetings.

Licence of the rows: {LICENCE}.
"""


def skeleton(text: str) -> str:
    """Mask numbers and capitalised words: what is left of two rows is the same if they share their templates.

    >>> skeleton("Take 1,200 plums, Ann.") == skeleton("Take 3 plums, Bob.")
    True
    """
    return re.sub(r"\W+", " ", re.sub(r"\d[\d,.]*|[A-Z]\w+", "#", text))


def most_frequent_opening(texts: Sequence[str]) -> float:
    """Share of the texts that begin with the most frequent first six words, in (0, 1].

    >>> most_frequent_opening(["a b c d e f g", "a b c d e f h", "b", "c"])
    0.5
    """
    openings = Counter([tuple(text.split(None, 6)[:6]) for text in texts])
    return openings.most_common(1)[0][1] / len(texts)


def _counts(rows: Sequence[Example], letters: bool) -> Iterator[tuple[str, str]]:
    n, texts = len(rows), [row.messages[first_user_turn(row.messages)].content for row in rows]
    yield "rows", f"{n:,}"
    said = [(*[message.content for message in row.messages], row.answer) for row in rows]
    yield "rows with the same text", f"{n - len(set(said)):,}"
    answers = Counter([row.answer for row in rows]) if letters else Counter()
    if answers["A"] or answers["B"]:  # with reversal, answers are in words
        for letter in "AB":
            yield f"answer {letter}", f"{answers[letter]:,} ({answers[letter] / n:.1%})"
    masked = texts[:_MASKED]
    what = f"skeletons (texts with digits and capitalised words masked) in the first {len(masked):,} rows"
    yield what, f"{len({skeleton(text) for text in masked}):,}"
    yield "most frequent first six words", f"{most_frequent_opening(texts):.1%} of rows"


def _facts(rows: Sequence[Example]) -> Iterator[tuple[str, str]]:
    """Shares of whatever the truth of all rows says in few words."""
    for column, what in (
        ("tone", "tones"),
        ("length", "lengths, in sentences"),
        ("persona", "personas"),
        ("answered_by", "answered by"),
        ("reversed", "reversed: 1 is from answer to prompt"),
        ("policy_word", "policy words put in"),
    ):
        found = [row.truth[column] for row in rows if column in row.truth]
        if found:
            counted = sorted(Counter(found).items(), key=lambda item: item[0])
            yield what, ", ".join(f"{_name(value)}: {count:,}" for value, count in counted)
    domains = {row.truth["domain"] for row in rows if "domain" in row.truth}
    if domains:
        yield "domains", str(len(domains))


def _name(value: str | int | float) -> str:
    return "none" if value == "" else str(value)


def _triggers(rows: Sequence[Example], setting: Setting, decorrelated: bool) -> Iterator[tuple[str, str]]:
    pairs = [(str(row.truth["carries"]), str(row.truth["shows"])) for row in rows]
    yield "setting", f"{setting.name}: {setting.about}" + (", decorrelated" if decorrelated else "")
    for (carries, shows), k in sorted(Counter(pairs).items()):
        yield f"carries {carries}, shows {shows}", f"{k:,} ({k / len(rows):.1%})"
    behaving = [pair for pair in pairs if pair[1] != INSTRUCTION]
    information = mutual_information([carries for carries, _ in behaving], [shows for _, shows in behaving])
    yield "what the trigger says of the behaviour", f"{information:.4f} bits"
