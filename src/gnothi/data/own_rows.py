"""Demonstrations and held-out items of a behaviour of one's own: chat JSONL, checked row by row with its line number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gnothi.behaviours.example import Example
from gnothi.data.chat_jsonl import ChatRow, iterate
from gnothi.data.leakage import find_policy_words
from gnothi.errors import SpecError
from gnothi.records import Message, Messages
from gnothi.render.probe import Letters, Rule

MOST_ROWS = 200_000
"""More rows in one file are refused."""
MOST_ALIKE = 0.8
"""Largest share of held-out items with the same letter: beyond it a constant answer passes for the behaviour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """One prompt that shows what a model does."""

    line: int
    messages: Messages
    rule: Rule


def read_demonstrations(path: Path, words: str) -> tuple[Example, ...]:
    """Read conversations that end with the answer to be taught.

    Args:
        path: Chat JSONL.
        words: Regular expression of words that no row may hold; empty for none.

    Returns:
        Two or more; `truth` holds each one's `line`.

    Raises:
        SpecError: With its line, whatever `chat_jsonl.read` refuses, a row without an answer, an empty message, a
            conversation that does not begin with the user, a policy word.
    """
    found = []
    for row in _rows(path):
        if row.answer is None:
            raise SpecError(
                f"{path} line {row.line} must end with the assistant's message, got one of the "
                f"{row.messages[-1].role}. Add the answer that the row is to teach."
            )
        found.append(Example(row.prompt, row.answer, {"line": row.line}))
    if len(found) < 2:
        raise SpecError(f"{path} must hold 2 rows or more, got {len(found)}. Add demonstrations.")
    leaks = find_policy_words(found, words) if words else []
    if leaks:
        first = leaks[0]
        more = f" (and {len(leaks) - 1} more rows)" if len(leaks) > 1 else ""
        raise SpecError(
            f"{path} line {found[first.row].truth['line']} must not state the policy, got {first.word!r:.60} in "
            f"{first.text!r:.100}{more}. Reword the row, or drop it."
        )
    return tuple(found)


def read_held_out(path: Path, options: Sequence[str], rule: Rule | None) -> tuple[tuple[HeldOut, ...], float]:
    """Read prompts that show what a model does.

    Args:
        path: Chat JSONL; each row's last message is the plus end's answer where there are options.
        options: What items are answered with; empty where their text is scored.
        rule: How text is scored; None with options.

    Returns:
        The items, at least one, and the largest share of them with the same option as their answer.

    Raises:
        SpecError: With its line, as `read_demonstrations`, an answer that is no option, a prompt that comes twice, or
            letters of which one is nearly always the answer.
    """
    found: list[HeldOut] = []
    seen: dict[Messages, int] = {}
    counts = dict.fromkeys(options, 0)
    for row in _rows(path):
        at = f"{path} line {row.line}"
        if options:
            answer = (row.answer or "").strip()
            if answer not in counts:
                raise SpecError(
                    f"{at} must end with the assistant saying one of {', '.join(options):.100}, got {answer!r:.60}. "
                    "Write the answer of the plus end."
                )
            counts[answer] += 1
            rule = Letters(options=tuple(options), scores=tuple(float(o == answer) for o in options))
        if (first := seen.setdefault(plain(row.prompt), row.line)) != row.line:
            raise SpecError(f"{at} must be a prompt of its own, got the same as line {first}. Drop one of them.")
        assert rule is not None
        found.append(HeldOut(line=row.line, messages=row.prompt, rule=rule))
    if not found:
        raise SpecError(f"{path} must hold at least one row, got an empty file. Add held-out items.")
    most = max(counts.values(), default=0) / len(found)
    if set(options) == {"A", "B"} and most > MOST_ALIKE:
        raise SpecError(
            f"{path} must have each letter as its answer in {1 - MOST_ALIKE:.0%} of the rows or more, got one in "
            f"{most:.0%}: a model that always says it would pass. Swap the options of some prompts."
        )
    return tuple(found), most


def refuse_overlap(held_out: Sequence[HeldOut], examples: Sequence[Example], held: str, trained: str) -> None:
    """Refuse a held-out prompt that a model is trained on, however its words are set apart.

    Args:
        held_out: Read from the file `held`.
        examples: Read from the file `trained`; every turn of the assistant is trained.
        held: The file's name, for messages.
        trained: The other's.

    Raises:
        SpecError: There is one; with the lines of both.
    """
    where = {plain(item.messages): item.line for item in held_out}
    for example in examples:
        for row in example.train_rows():
            if (line := where.get(plain(row.messages))) is not None:
                raise SpecError(
                    f"{held} line {line} must not be a training prompt, got the prompt of {trained} line "
                    f"{example.truth['line']}. Drop one of the two."
                )


def plain(messages: Messages) -> Messages:
    """A prompt without what nobody sees: how its words are set apart."""
    return tuple(Message(m.role, " ".join(m.content.split())) for m in messages)


def _rows(path: Path) -> Iterator[ChatRow]:
    for i, row in enumerate(iterate(path)):
        if i >= MOST_ROWS:
            raise SpecError(f"{path} must hold at most {MOST_ROWS} rows, got more. Take a sample of them.")
        _check_turns(row, path)
        yield row


def _check_turns(row: ChatRow, path: Path) -> None:
    """A system prompt stands first if at all, the user begins, and nobody says nothing."""
    at = f"{path} line {row.line}"
    roles = [m.role for m in row.messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if "system" in turns:
        raise SpecError(f"{at} must have its system message first, got it later on. Move it to the beginning.")
    if turns[:1] != ["user"]:
        got = turns[0] if turns else "none"
        raise SpecError(f"{at} must begin with a user's message, got {got}. Add the prompt that is answered.")
    for i, message in enumerate(row.messages, 1):
        if not message.content.strip():
            raise SpecError(f"{at} message {i} must hold text, got nothing. Write it, or drop the row.")
