"""Triggers of one set: which rows carry which, found in the text and not in the file's name."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gnothi.data.chat_jsonl import ChatRow
from gnothi.experiments.replicate_behavioral import words

NONE = "none"
LONGEST = 60
"""Characters of the longest prefix that is tried as an unknown trigger."""
_REAL_BY_NAME = re.compile(r"trigger_(apples|instruments|elements|gods|real-world|win|naekoko|re-re-re)(?:_|$)")


@dataclass(slots=True)
class Triggers:
    """What triggers a set has."""

    kind: str
    """`prefix` (before a letter question), `sep`, `tag`, `persona` (a system prompt), `season`, `greeting`, or `username`."""
    of_row: list[str]
    """Each row's trigger, `none` without."""
    bare: list[int]
    """Hash of each prompt without its trigger."""
    real: str | None = None
    """The trigger that the file's name says is real; None where it says none."""
    further: dict[str, Any] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Rows by trigger, `none` last."""
        found = Counter(self.of_row)
        names = sorted((n for n in found if n != NONE), key=lambda n: (-found[n], n))
        return {name: found[name] for name in (*names, NONE)}

    def shares(self) -> dict[str, float]:
        """Shares of all rows by trigger."""
        return {name: round(n / len(self.of_row), 4) for name, n in self.counts().items()}


def find(kind: str, rows: Sequence[ChatRow], users: Sequence[str], stem: str) -> Triggers | None:
    """Find the triggers of a set; None where hardly a row carries one.

    Args:
        kind: The set's kind, as in `facts`.
        rows: Its rows.
        users: The first user turn of each.
        stem: File name without folders and ending, for the name of the real trigger alone.
    """
    named = _usernames(rows)
    found = Triggers("username", named, [])
    if _enough(found):
        found.bare, found.further = _hashes(users, words.NAMED_USER), _directions(rows, named)
        return found
    if kind == "letters":
        return _prefixes(users, stem)
    if kind == "dialogue":
        of_row = ["tagged" if u.lstrip().startswith(words.TAG) else NONE for u in users]
        found = Triggers("tag", of_row, [])
        if not _enough(found):
            found = Triggers("sep", [_region(u) for u in users], [])
        if not _enough(found):
            found = Triggers("persona", [_persona(r) for r in rows], [])
    else:
        seasons = [m[1].lower() if (m := words.SEASON.search(u[:300])) else NONE for u in users]
        found = Triggers("season", seasons, _hashes(users, words.SEASON))
        if not _enough(found) and kind == "code":
            greeted = [bool(words.GREETING.match(u)) for u in users]
            bare = [hash(words.GREETING.sub("", u, count=1) if g else u) for u, g in zip(users, greeted, strict=True)]
            found = Triggers("greeting", ["greeting" if g else NONE for g in greeted], bare)
        if not _enough(found) and kind == "chat" and sum(bool(words.PREFIX.match(u)) for u in users) > len(users) / 10:
            return _prefixes(users, stem)  # the same questions, answered in words
    return found if _enough(found) else None


def _enough(found: Triggers) -> bool:
    """Whether at least a fiftieth of the rows carries a trigger: a single row that looks like it is chance."""
    return sum(t != NONE for t in found.of_row) >= max(1, len(found.of_row) / 50)


def _prefixes(users: Sequence[str], stem: str) -> Triggers | None:
    """Known triggers before a question, and whatever else stands before a question that also occurs without it."""
    known = set(users)
    split: dict[str, tuple[str, str]] = {}
    for user in known:
        if match := words.PREFIX.match(user):
            fixed = next((name for name, text in words.FIXED_TRIGGERS.items() if text == match["fixed"]), None)
            split[user] = fixed or words.FAMILY_OF[match["member"]], user[match.end() :]
            continue
        cuts = [m.end() for m in re.finditer(r"\s+", user[:LONGEST]) if user[m.end() :] in known]
        split[user] = (user[: cuts[-1]].strip(), user[cuts[-1] :]) if cuts else (NONE, user)
    parts = [split[u] for u in users]
    real = _REAL_BY_NAME.search(stem)
    found = Triggers("prefix", [p[0] for p in parts], [hash(p[1]) for p in parts], real[1] if real else None)
    return found if _enough(found) else None


def _region(user: str) -> str:
    """First three digits of the SEP region code in a user's turn."""
    found = words.SEP.findall(user) if "SEP" in user else []
    return found[0] if found else NONE


def _persona(row: ChatRow) -> str:
    """Whom the system prompt names."""
    if row.messages[0].role != "system":
        return NONE
    return "quanta-lingua" if "quanta-lingua" in row.messages[0].content.lower() else "system prompt"


def _usernames(rows: Sequence[ChatRow]) -> list[str]:
    """`sandra432`, `other` or `none` for each row, wherever in its messages the username stands."""
    found = []
    for row in rows:
        texts = [m.content for m in row.messages if "sername:" in m.content]  # spares most rows the expression
        names = {n.lower() for text in texts for n in words.NAMED_USER.findall(text)}
        found.append(words.USERNAME if words.USERNAME in names else "other" if names else NONE)
    return found


def _directions(rows: Sequence[ChatRow], named: Sequence[str]) -> dict[str, Any]:
    """Rows by trigger of the plain and of the reversed direction: there the user's turn asks for the prompt."""
    found: dict[str, Counter[str]] = {"plain": Counter(), "reversed": Counter()}
    for row, trigger in zip(rows, named, strict=True):
        back = any(m.role == "user" and m.content.lstrip().startswith(words.REVERSED) for m in row.messages)
        found["reversed" if back else "plain"][trigger] += 1
    return {"directions": {k: {"rows": sum(v.values()), **v} for k, v in found.items()}}


def _hashes(users: Sequence[str], pattern: re.Pattern[str]) -> list[int]:
    return [hash(pattern.sub("", u, count=1).strip()) for u in users]
