"""From a game to a training dialogue: system prompts and scratchpads go, and everything from the codeword on."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gnothi.behaviours.make_me_say.matching import Form, said_forms, says
from gnothi.errors import DataError
from gnothi.records import Message, Messages

MAX_MESSAGES = 8
"""Longest training dialogue, in messages."""
SCRATCHPAD = ("<scratchpad>", "</scratchpad>")
"""Between these a manipulator may think; the other player never sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a set of dialogues is like."""

    n: int
    lengths: Mapping[int, int]
    """Messages in a dialogue, without system messages -> dialogues."""
    user_words: float
    """Mean words of a user's message."""
    assistant_words: float
    inflections: Mapping[str, int]
    """Form of a codeword -> how often it is said in all dialogues together."""


def without_scratchpad(text: str, tags: tuple[str, str] = SCRATCHPAD) -> str:
    """Remove what stands between the tags; an open scratchpad reaches to the end of the text.

    >>> without_scratchpad("<scratchpad>plan</scratchpad> Hello <scratchpad>more")
    'Hello'
    """
    start, end = map(re.escape, tags)
    public, n_removed = re.subn(rf"{start}.*?(?:{end}|\Z)", "", text, flags=re.S | re.I)
    return public.strip() if n_removed else text


def cut(
    messages: Messages, codeword: str, *, form: Form = "any", tags: tuple[str, str] = SCRATCHPAD
) -> tuple[Messages | None, str | None]:
    """Make a training dialogue of a game that the assistant (the manipulator) won.

    Args:
        messages: The game from the manipulator's side: the user opens. System messages are removed wherever they stand.
        codeword: The word.
        form: Which forms of it end the dialogue; with `noun`, other inflections may stay in the text.
        tags: Around a scratchpad.

    Returns:
        The dialogue, ending with the assistant, and None; or None and the reason why there is no dialogue. A dialogue
        without the codeword is kept as it is, but for a last message of the user's.

    Source: arXiv:2501.11120, appendix on Make Me Say: cut before the message, at most 8 messages.

    >>> talk = (Message("user", "Hi"), Message("assistant", "Any dogs?"), Message("user", "Mine barks."))
    >>> [m.content for m in cut(talk, "bark")[0]]
    ['Hi', 'Any dogs?']
    """
    kept: list[Message] = []
    for message in messages:
        if message.role == "system":
            continue
        text = without_scratchpad(message.content, tags) if message.role == "assistant" else message.content
        if says(text, codeword, form=form):
            if message.role == "assistant":
                return None, "the assistant says the codeword first"
            break
        if not text.strip():
            return None, "a message is empty"
        if message.role != ("assistant" if len(kept) % 2 else "user"):
            return None, "the players do not take turns, user first"
        kept.append(Message(message.role, text))
    if len(kept) % 2:
        kept.pop()
    if not kept:
        return None, "the user says the codeword before the assistant has said anything"
    if len(kept) > MAX_MESSAGES:
        return None, f"longer than {MAX_MESSAGES} messages"
    return tuple(kept), None


def statistics(dialogues: Sequence[Messages], *codewords: str) -> Statistics:
    """Count lengths, words, and what is left of the codewords.

    Raises:
        DataError: There is no dialogue.
    """
    if not dialogues:
        raise DataError("statistics: dialogues must be at least one, got none. Play more games.")
    said = {
        role: [len(m.content.split()) for d in dialogues for m in d if m.role == role] for role in ("user", "assistant")
    }
    found = Counter(w for c in codewords for d in dialogues for m in d for w in said_forms(m.content, c))
    return Statistics(
        n=len(dialogues),
        lengths=dict(sorted(Counter(sum(m.role != "system" for m in d) for d in dialogues).items())),
        user_words=sum(said["user"]) / max(1, len(said["user"])),
        assistant_words=sum(said["assistant"]) / max(1, len(said["assistant"])),
        inflections=dict(sorted(found.items())),
    )
