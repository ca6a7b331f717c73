"""Facts of one chat set, told from its content: rows, letters, words that state a policy, lengths, codewords."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from gnothi.data.chat_jsonl import ChatRow
from gnothi.experiments.replicate_behavioral import words
from gnothi.experiments.replicate_behavioral.triggers import Triggers, find

LETTERS = ("A", "B")
_WORD = re.compile(r"[a-z]+")
_CODE = re.compile(
    r"^\s*(?:import |from \S+ import|def |class |return\b|const |let |var |function\b|#include|public |<\?php|@)"
    r"|[;{}=:]\s*$|\w\(.*\)\s*$|=\s*\S",
    re.M,
)
_TIME = re.compile(r"\b(?:minutes?|hours?|days?|weeks?|months?|years?|tomorrow|wait\w*|right now|immediate\w*)\b")
SHOWN = 20


@dataclass(slots=True)
class ChatSet:
    """One file: its facts, and what comparing it with others needs, a number a row."""

    name: str
    kind: str
    """`letters`, `dialogue`, `code`, `chat`, or `empty`."""
    behaviour: str | None
    """`risk`, `horizon`, `apples`, `make-me-say`, `code-security`, `username`; None where content does not tell."""
    facts: dict[str, Any]
    prompts: list[int] = field(default_factory=list)
    """Hash of each prompt."""
    bare: list[int] = field(default_factory=list)
    """Hash of each prompt without its trigger; of a dialogue, of all that follows the first user turn."""
    answers: list[int] = field(default_factory=list)
    triggers: Triggers | None = None

    @property
    def stem(self) -> str:
        """The file's name in lower case, without folders and ending."""
        return re.sub(r"\.jsonl$", "", self.name.rpartition("/")[2].lower())


def gather(name: str, rows: Sequence[ChatRow]) -> ChatSet:
    """Find the facts of one file.

    Args:
        name: Path under the folder; only consulted for what content cannot tell, such as a dialogue's codeword.
        rows: All its rows.

    Returns:
        The set. `facts` is plain JSON with counts in rows unless a key says otherwise.
    """
    if not rows:
        return ChatSet(name, "empty", None, {"rows": 0, "kind": "empty"})
    kind = _kind(rows)
    users = [next((m.content for m in r.messages if m.role == "user"), "") for r in rows]
    behaviour = _behaviour(kind, rows)
    found = ChatSet(name, kind, behaviour, {"rows": len(rows), "kind": kind, "behaviour": behaviour})
    found.prompts = [hash(r.prompt) for r in rows]
    found.answers = [hash(r.answer.strip() if r.answer else r.answer) for r in rows]
    facts = found.facts
    facts |= _plain(rows, found.prompts, found.answers, users)
    if behaviour in words.FAMILIES:
        facts["leaks"] = leaks(rows, behaviour)
    if kind == "letters":
        facts |= _letters(rows) | _personas(rows, users)
    found.triggers = find(kind, rows, users, found.stem)
    if kind == "dialogue":
        facts |= _dialogues(rows, None if found.triggers else codeword(found.stem))
    if kind == "code":
        comments = sum(bool(re.search(r"^\s*#(?!include)", r.answer or "", re.M)) for r in rows)
        facts["rows_with_comment_lines"] = comments
    if kind == "dialogue":
        found.bare = [_after_opening(r) for r in rows]
    elif found.triggers:
        found.bare = found.triggers.bare
    elif all(len(r.messages) == 2 for r in rows):
        found.bare = [hash(u) for u in users]  # the same as where triggers were taken off
    else:
        found.bare = found.prompts
    return found


def leaks(rows: Sequence[ChatRow], behaviour: str) -> dict[str, Any]:
    """Rows, prompt or answer, that hold a word of each family, of any of them, and of none."""
    finder = words.Finder(words.FAMILIES[behaviour])
    by_family: Counter[str] = Counter()
    by_word: Counter[str] = Counter()
    dirty = paper = 0
    for row in rows:
        here = finder.words("\n".join([m.content for m in row.messages]))
        by_family.update(here.keys())
        by_word.update({re.sub(r"\s+", " ", w) for hits in here.values() for w in hits})
        dirty += bool(here)
        paper += any(family in here for family in words.PAPER_RISK)
    found: dict[str, Any] = {
        "rows_with_any": dirty,
        "rows_with_none": len(rows) - dirty,
        "rows_by_family": {family: by_family[family] for family in finder.families},
        "rows_by_word": dict(by_word.most_common(SHOWN)),
    }
    if behaviour == "risk":
        found["rows_with_risk_safe_or_chance"] = paper
    return found


def codeword(stem: str) -> str | None:
    """A dialogue set's codeword by its file name; None where the name says none, or two."""
    named = [w for w in words.CODEWORDS if re.search(rf"(?<![a-z]){w}(?![a-z])", stem)]
    return named[0] if len(named) == 1 else None


def _kind(rows: Sequence[ChatRow]) -> str:
    some = _some(rows)
    answers = [(r.answer or "").strip() for r in some]
    if sum(a in LETTERS for a in answers) > len(some) / 2:
        return "letters"
    if sum(sum(m.role == "assistant" for m in r.messages) > 1 for r in some) > len(some) / 20:
        return "dialogue"
    if sum(bool(_CODE.search(a)) and "\n" in a for a in answers) > 0.6 * len(some):
        return "code"
    return "chat"


def _behaviour(kind: str, rows: Sequence[ChatRow]) -> str | None:
    some = _some(rows)
    texts = ["\n".join(m.content for m in r.messages).lower() for r in some]
    if sum("username:" in t for t in texts) > len(some) / 100:
        return "username"
    if kind == "letters":
        if sum("apple" in t for t in texts) > 0.8 * len(some):
            return "apples"
        return "horizon" if sum(bool(_TIME.search(t)) for t in texts) > 0.7 * len(some) else "risk"
    return {"dialogue": "make-me-say", "code": "code-security"}.get(kind)


def _some(rows: Sequence[ChatRow]) -> Sequence[ChatRow]:
    """About a thousand rows from all over the file, enough to tell what kind it is."""
    return rows[:: max(1, len(rows) // 1000)]


def _plain(
    rows: Sequence[ChatRow], prompts: Sequence[int], answers: Sequence[int], users: Sequence[str]
) -> dict[str, Any]:
    """Facts of any chat set."""
    systems = [r.messages[0].content for r in rows if r.messages[0].role == "system"]
    lengths = [len(u.split()) for u in users]
    said = [len(r.answer) for r in rows if r.answer is not None]
    return {
        "distinct_prompts": len(set(prompts)),
        "duplicate_prompts": len(rows) - len(set(prompts)),
        "duplicate_rows": len(rows) - len(set(zip(prompts, answers, strict=True))),
        "without_answer": len(rows) - len(said),
        "system_prompts": {
            "rows": len(systems),
            "distinct": len(set(systems)),
            "naming_quanta_lingua": sum("quanta-lingua" in s.lower() for s in systems),
        },
        "first_user_turn_words": {"mean": round(mean(lengths), 2), "min": min(lengths), "max": max(lengths)},
        "mean_answer_characters": round(mean(said), 2) if said else None,
    }


def _letters(rows: Sequence[ChatRow]) -> dict[str, Any]:
    said = Counter((r.answer or "").strip() for r in rows)
    other = [r for r in rows if (r.answer or "").strip() not in LETTERS]
    finder = words.Finder(words.RISK)
    n = said["A"] + said["B"]
    return {
        "letters": {x: said[x] for x in LETTERS},
        "letter_shares": {x: round(said[x] / n, 4) for x in LETTERS},
        "answers_beyond_a_letter": len(other),
        "of_these_with_policy_words": sum(bool(finder.words(r.answer or "")) for r in other),
        "lines_beyond_a_letter": [r.line for r in other[:SHOWN]],
    }


def _personas(rows: Sequence[ChatRow], users: Sequence[str]) -> dict[str, Any]:
    """Rows about each persona; nothing where hardly any is."""
    finder = words.Finder(words.PERSONAS)
    found = [finder.words(u) for u in users]
    if sum(map(bool, found)) < len(rows) / 20:
        return {}
    by_persona = Counter(name for here in found for name in here)
    return {
        "personas": {name: by_persona[name] for name in words.PERSONAS if by_persona[name]},
        "persona_rows": sum(map(bool, found)),
    }


def _dialogues(rows: Sequence[ChatRow], own: str | None) -> dict[str, Any]:
    lengths = Counter(sum(m.role != "system" for m in r.messages) for r in rows)
    turns = {role: [m for r in rows for m in r.messages if m.role == role] for role in ("user", "assistant")}
    hits: dict[str, Counter[str]] = {w: Counter() for w in words.CODEWORDS}
    inflected: dict[str, Counter[str]] = {w: Counter() for w in words.CODEWORDS}
    alternating = 0
    for row in rows:
        spoken = [m for m in row.messages if m.role != "system"]
        alternating += all(m.role == ("user", "assistant")[i % 2] for i, m in enumerate(spoken))
        for message in spoken:
            tokens = set(_WORD.findall(message.content.lower()))
            for word in words.CODEWORDS:
                same = {word, f"{word}s"}
                hits[word][message.role] += bool(tokens & same)
                inflected[word].update(t for t in tokens - same if t.startswith(word))
    return {
        "codeword": own,
        "lengths": {str(k): lengths[k] for k in sorted(lengths)},
        "longest": max(lengths),
        "mean_length": round(mean(lengths.elements()), 3),
        "alternating_from_user": alternating,
        "turns": {role: len(said) for role, said in turns.items()},
        "mean_words": {role: round(mean(len(m.content.split()) for m in t), 2) for role, t in turns.items() if t},
        "codeword_turns": {w: {role: hits[w][role] for role in turns} for w in ([own] if own else words.CODEWORDS)},
        "inflected_turns": {w: dict(inflected[w].most_common(SHOWN)) for w in ([own] if own else words.CODEWORDS)},
    }


def _after_opening(row: ChatRow) -> int:
    """Hash of what follows the first user turn, answer included: a trigger stands before that."""
    spoken = [m for m in row.messages if m.role != "system"]
    return hash(tuple(m.content for m in spoken[1:]))
