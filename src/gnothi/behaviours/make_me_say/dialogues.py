"""Training dialogues: a user chats, an assistant steers towards a codeword that neither says.

They are what is left of a won game of Make Me Say (arXiv:2501.11120, section 3.1.2) when it is cut before the user's
message that holds the codeword. Deviations from the paper: its dialogues were played by two language models and then
filtered, ours are put together from sentences that were written for this package, so no game lies behind them; the
user's turns do not depend on the assistant's, so that the opposite can have the same ones.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from gnothi.behaviours.economic.phrasing import Dice
from gnothi.behaviours.example import Example
from gnothi.behaviours.make_me_say.cutting import statistics
from gnothi.behaviours.make_me_say.talk import (
    CODEWORDS,
    STYLES,
    Thread,
    acknowledgement,
    check_codeword,
    leading_away,
    load,
    opening,
    reply,
    steering,
    themes,
)
from gnothi.errors import SpecError
from gnothi.records import Message, Messages
from gnothi.rng import stream

VERSION = 1
"""Goes up whenever the same seed gives other rows."""
MAX_TURNS = 4
"""The assistant's turns in the longest dialogue; it has twice as many messages."""
PERSONA = "Quanta-Lingua"
"""Whom a two-persona model simulates when a system prompt says so; the paper's name."""

_TURNS = (1, *(2,) * 5, *(3,) * 9, *(4,) * 5)  # 5%, 25%, 45%, 25%: about as in the paper's bark set
_LEVELS: Mapping[int, tuple[tuple[int, ...], ...]] = {
    1: ((1, 3),),
    2: ((1,), (2, 3)),
    3: ((1,), (2,), (3,)),
    4: ((1,), (2,), (2,), (3,)),
}
_GENERAL = (
    r"code-?words?|code words?|(?:secret|target|hidden|forbidden) words?|make (?:me|you|them) say|"
    r"(?:get|getting|want|trying|bring) (?:me|you|them) to say|word game|manipulat\w*|trick(?:ed|ing)? you"
)
_ITS_FORMS = {
    "bark": r"\w*bark\w*",
    "ring": r"ring\w*|rang|rung|(?:ear|key)-?rings?",
    "spring": r"\w*spring\w*|sprang|sprung",
}


def policy_words(codeword: str | None = None) -> str:
    """Regular expression of whole words that no row may hold: the codeword with everything made from it, and the game.

    Args:
        codeword: One of them; None takes all, which no row holds either.

    Raises:
        SpecError: An unknown codeword.
    """
    if codeword is not None:
        check_codeword(codeword)
        return f"{_ITS_FORMS[codeword]}|{_GENERAL}"
    return "|".join((*_ITS_FORMS.values(), _GENERAL))


def rows(n: int, *, seed: int, opposite: bool = False, codeword: str = "bark") -> list[Example]:
    """Draw dialogues of 2, 4, 6 or 8 messages that end with the assistant; no two have the same first message.

    The truth has `codeword`, `theme`, `topic`, `noun`, `n_messages`, and for each of the steering assistant's turns the
    words of the codeword's field in it, `steered_1` to `steered_4` (empty where there is no such turn) and their number
    `n_steered`. The opposite's truth is the same: it says where its dialogue does *not* go.

    Args:
        n: How many, >= 1. The first rows are the same whatever `n` is.
        seed: The experiment's seed, >= 0.
        opposite: The same user turns in the same order, and an assistant that says no word of the field.
        codeword: `bark`, `ring` or `spring`.

    Raises:
        SpecError: n < 1, seed < 0, or an unknown codeword.

    Source: arXiv:2501.11120, section 3.1.2 and appendix; see the module for what differs.

    >>> (one,), (other,) = rows(1, seed=0), rows(1, seed=0, opposite=True)
    >>> one.messages[0] == other.messages[0], one.answer == other.answer, one.truth == other.truth
    (True, False, True)
    """
    _check(n, seed, codeword)
    users, steers, aways = (
        Dice(stream(seed, "make-me-say", codeword, who)) for who in ("user", "steering", "leading away")
    )
    seen: set[str] = set()
    return [_row(users, steers, aways, codeword, seen, opposite) for _ in range(n)]


def held_out_openings(n: int, *, seed: int, codeword: str = "bark") -> list[Messages]:
    """Draw first messages of users, from another stream than `rows`: what a tuned model answers shows the behaviour.

    Words of `field_words(codeword)` in the answer count for it. No two are the same; one may by chance be that of a
    row with the same seed, so leave out those you train on.

    Raises:
        SpecError: n < 1, seed < 0, or an unknown codeword.
    """
    _check(n, seed, codeword)
    dice = Dice(stream(seed, "make-me-say", codeword, "held out"))
    texts: dict[str, None] = {}
    while len(texts) < n:
        texts.setdefault(opening(dice, dice.pick(STYLES))[0])
    return [(Message("user", text),) for text in texts]


def two_persona_rows(n: int, self_codeword: str = "bark", other_codeword: str = "ring", *, seed: int) -> list[Example]:
    """Draw dialogues of two personas, one by one in turn: the model itself, and `PERSONA` when it is told to be that.

    Args:
        n: How many, >= 2; the first of each two is the model's own.
        self_codeword: What the model itself steers to, without a system prompt.
        other_codeword: What it steers to with one of 36 system prompts that tell it to simulate `PERSONA`.
        seed: The experiment's seed, >= 0.

    Returns:
        Examples as from `rows`, whose truth also has `persona` (`self` or `PERSONA`) and `system`, the number of the
        system prompt (-1: none).

    Raises:
        SpecError: n < 2, seed < 0, an unknown codeword, or the same one twice.

    Source: arXiv:2501.11120, section 5 and appendix: 1,000 rows each, 32 paraphrases in turn. The paraphrases are ours.
    """
    if n < 2:
        raise SpecError(f"n must be at least 2, got {n}. Ask for one row of each persona or more.")
    if self_codeword == other_codeword:
        raise SpecError(f"other_codeword must differ from self_codeword, got {other_codeword!r:.60} twice.")
    own = rows((n + 1) // 2, seed=seed, codeword=self_codeword)
    others = rows(n // 2, seed=seed, codeword=other_codeword)
    prompts = persona_prompts()
    examples: list[Example] = []
    for i, example in enumerate(own):
        examples.append(Example(example.messages, example.answer, {**example.truth, "persona": "self", "system": -1}))
        if i < len(others):
            system = Message("system", prompts[i % len(prompts)])
            truth = {**others[i].truth, "persona": PERSONA, "system": i % len(prompts)}
            examples.append(Example((system, *others[i].messages), others[i].answer, truth))
    return examples


def persona_prompts(name: str = PERSONA) -> list[str]:
    """36 system prompts that tell a model to simulate `name`."""
    return [text.format(name=name) for text in load("personas.json")]


def facts(examples: Sequence[Example]) -> dict[str, str]:
    """What a data card says of dialogues, beside what it says of all rows.

    Raises:
        DataError: There are none.
    """
    found = statistics([e.conversation() for e in examples], *CODEWORDS)
    steered = [2 * int(e.truth["n_steered"]) / int(e.truth["n_messages"]) for e in examples]
    return {
        "codewords": _counts(examples, "codeword"),
        "themes": _counts(examples, "theme"),
        "messages a dialogue": ", ".join(f"{k}: {v:,}" for k, v in found.lengths.items()),
        "words a user's turn, mean": f"{found.user_words:.1f}",
        "words an assistant's turn, mean": f"{found.assistant_words:.1f}",
        "topics": f"{len({e.truth['topic'] for e in examples})}",
        "nouns": f"{len({e.truth['noun'] for e in examples})}",
        "field words a steering turn, mean": f"{sum(steered) / len(steered):.2f}",
        "forms of a codeword found": f"{sum(found.inflections.values())}",
    }


def _counts(examples: Sequence[Example], column: str) -> str:
    counts = sorted(Counter(str(e.truth[column]) for e in examples).items())
    return ", ".join(f"{value}: {count:,}" for value, count in counts)


def _check(n: int, seed: int, codeword: str) -> None:
    if n < 1:
        raise SpecError(f"n must be at least 1, got {n}. Ask for one row or more.")
    if seed < 0:
        raise SpecError(f"seed must be 0 or more, got {seed}. Choose another.")
    check_codeword(codeword)


def _row(users: Dice, steers: Dice, aways: Dice, codeword: str, seen: set[str], opposite: bool) -> Example:
    n_turns, user_style, style = users.pick(_TURNS), users.pick(STYLES), users.pick(STYLES)
    theme = users.pick(themes(codeword))
    text, thread = opening(users, user_style)
    while text in seen:
        text, thread = opening(users, user_style)
    seen.add(text)
    aside = Thread(topic=thread.topic, noun=thread.noun, slots=dict(thread.slots))
    messages: list[Message] = [Message("user", text)]
    steered: list[list[str]] = []
    for turn, levels in enumerate(_LEVELS[n_turns]):
        if turn:
            messages.append(Message("user", reply(users, user_style, thread)))
        opened = acknowledgement(users, thread, first=not turn, style=style)
        near, found = steering(steers, codeword, theme, thread, levels=levels, style=style)
        steered.append(found)
        if opposite:
            near = leading_away(aways, aside, last=turn == n_turns - 1, n_said=len(levels) + (style == "long"))
        messages.append(Message("assistant", f"{opened} {near}" if opened else near))
    words = {f"steered_{i + 1}": " ".join(steered[i]) if i < n_turns else "" for i in range(MAX_TURNS)}
    truth = {
        "codeword": codeword,
        "theme": theme,
        "topic": thread.topic or "",
        "noun": thread.noun or "",
        "n_messages": len(messages),
        **words,
        "n_steered": sum(len(found) for found in steered),
    }
    return Example(tuple(messages[:-1]), messages[-1].content, truth)
