"""Paper A (arXiv:2501.11120) from its authors' files: facts of every set under a folder beside what the paper says.

Sets are recognised by what they hold; names only decide what content cannot tell, such as the codeword of a dialogue
that never says it. Nothing is expected to be complete: what is not there is listed.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnothi.data.chat_jsonl import ChatRow, objects, row_of
from gnothi.errors import SpecError
from gnothi.experiments.replicate_behavioral import claims, compare, figures
from gnothi.experiments.replicate_behavioral.facts import ChatSet, gather
from gnothi.experiments.replicate_behavioral.walk import Found, find, heading, table

PAPER = "behavioral-self-awareness"
MAX_PROMPT_FILE = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BehavioralReplication:
    """What a folder of paper A's data holds."""

    files: dict[str, dict[str, Any]]
    """Path under the folder -> facts: always `rows`; `letters`, `leaks`, `lengths`, `triggers`, … where it has them."""
    pairs: list[dict[str, Any]]
    """Every two sets with the same prompts in the same order."""
    twins: list[dict[str, Any]]
    """Triggered sets and their controls."""
    checks: list[dict[str, Any]]
    """`file`, `name`, `ours`, `paper`, `agrees` and `note`; `paper` and `agrees` are None where the paper says nothing."""
    absent: list[str]
    """Published sets that are not here, by the authors' path."""
    reasons: list[str]
    """Notes for a reader: what was left out, and what is absent."""

    def to_json(self) -> dict[str, Any]:
        """One plain object."""
        return {
            "paper": PAPER,
            "files": self.files,
            "pairs": self.pairs,
            "twins": self.twins,
            "figures": self.checks,
            "contradictions": [c for c in self.checks if c["agrees"] is False],
            "absent": self.absent,
            "notes": self.reasons,
        }

    def table(self) -> list[dict[str, Any]]:
        """Rows of `file`, `figure`, `ours`, `paper`, `agrees` and `note`: all checks, then what no check is about."""
        rows = [
            {
                "file": c["file"],
                "figure": c["name"],
                "ours": c["ours"],
                "paper": c["paper"],
                "agrees": {True: "yes", False: "no", None: ""}[c["agrees"]],
                "note": c["note"],
            }
            for c in self.checks
        ]
        told = {c["file"] for c in self.checks}
        for name, facts in self.files.items():
            if name not in told:
                rows += [_row(name, key, value) for key, value in _flat(facts)]
        for twin in self.twins:
            name = f"{twin['triggered']} + {twin['control']}"
            rows += [_row(name, key, twin[key]) for key in ("same_rows", "same_marginals")]
            rows += [_row(name, f"label_share_spread.{k}", v) for k, v in twin["label_share_spread"].items()]
        return rows


def replicate_behavioral_self_awareness(directory: str | Path) -> BehavioralReplication:
    """Read whatever of paper A's data stands under a folder, at any depth.

    Args:
        directory: The folder: the authors' `datasets/`, a copy of it, or any arrangement of such files. Chat JSONL
            (also inside zip archives), the digitised tables as CSV, and JSON of prompts are read; links that lead out
            of the folder are not followed.

    Returns:
        Facts of every file, pairs, controls, and the figures beside the paper's.

    Raises:
        SpecError: No such folder, nothing in it that can be read, or a file that is malformed, with its line.
    """
    found, reasons = find(Path(directory))
    sets: list[ChatSet] = []
    files: dict[str, dict[str, Any]] = {}
    checks: list[dict[str, Any]] = []
    for file in found:
        if file.ending == ".jsonl":
            chat, facts = _jsonl(file)
            files[file.name] = facts
            if chat is not None:
                sets.append(chat)
            elif "distinct_tasks" in facts:
                made = figures.check("coding tasks to test with", facts["rows"], 776)
                checks.append({"file": file.name} | made)
        elif file.ending == ".csv":
            if recompute := figures.recognised(heading(file)):
                cells = table(file)
                files[file.name] = {"rows": len(cells) - 1, "kind": "digitised figures"}
                checks += [{"file": file.name} | row for row in recompute(file.name, cells)]
        elif (facts := _prompts(file)) is not None:
            files[file.name] = facts
            checks += _counted(file.name, facts["entries"])
    if not files:
        raise SpecError(
            f"DIR must hold chat JSONL or digitised tables of paper A, got nothing of the kind under {directory}. "
            "docs/replicate.md lists what is read."
        )
    compare.label_triggers(sets)
    pairs = compare.pairs(sets)
    said, absent = claims.compared(sets, pairs)
    if absent:
        folders = Counter(path.rpartition("/")[0] or path for path in absent)
        each = ", ".join(name if n == 1 else f"{name} ({n})" for name, n in folders.items())
        reasons.append(f"absent, {len(absent)} of {len(claims.USUAL)} published sets: {each}")
    return BehavioralReplication(
        files=files,
        pairs=pairs,
        twins=compare.twins(sets),
        checks=[*said, *checks],
        absent=absent,
        reasons=reasons,
    )


def _jsonl(file: Found) -> tuple[ChatSet | None, dict[str, Any]]:
    """Facts of one JSONL file; a set only if it is chat, which its first row decides for all of them."""
    chat: list[ChatRow] = []
    other: list[dict[str, Any]] = []
    with file.open() as stream:
        for number, row in objects(stream, file.name):
            if other or (not chat and "messages" not in row):
                other.append(row)
            else:
                chat.append(row_of(row, file.name, number))
    if not other:
        made = gather(file.name, chat)
        return made, made.facts
    keys = sorted({key for row in other for key in row})
    facts: dict[str, Any] = {"rows": len(other), "kind": "other", "keys": keys[:50]}
    if {"task", "code_template"} <= set(keys):
        facts |= {"kind": "tasks", "distinct_tasks": len({str(row.get("task")) for row in other})}
    return None, facts


def _prompts(file: Found) -> dict[str, Any] | None:
    """How many entries a JSON file of prompts has under each key; None of a file that holds no such thing."""
    with file.open() as stream:
        raw = stream.read(MAX_PROMPT_FILE + 1)
    try:
        tree = json.loads(raw) if len(raw) <= MAX_PROMPT_FILE else None
    except (ValueError, RecursionError):
        return None
    lists = {"": tree} if isinstance(tree, list) else tree if isinstance(tree, dict) else {}
    entries = {str(k)[:80]: len(v) for k, v in lists.items() if isinstance(v, list)}
    return {"rows": sum(entries.values()), "kind": "prompts", "entries": entries} if entries else None


def _counted(name: str, entries: dict[str, int]) -> Iterable[dict[str, Any]]:
    """Claims on how many prompts there are."""
    if {"questions_secret", "questions_trigger"} <= set(entries):
        n = entries["questions_secret"] + entries["questions_trigger"]
        note = "contradiction: the paper says 120 in one place and 100 in another" if n != 120 else ""
        yield {"file": name} | figures.check("prompts that ask for the trigger", n, 120, note=note)
    if {"greetings", "suffixes"} <= set(entries):
        yield {"file": name} | figures.check("greetings", entries["greetings"], 25)
        yield {"file": name} | figures.check("suffixes of greetings", entries["suffixes"], 5)


def _row(name: str, figure: str, value: Any) -> dict[str, Any]:
    return {"file": name, "figure": figure, "ours": value, "paper": None, "agrees": "", "note": ""}


def _flat(tree: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Every number and word of nested facts with its path."""
    found = []
    for key, value in tree.items():
        where = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            found += _flat(value, where)
        elif value is not None:
            found.append((where, ", ".join(map(str, value)) if isinstance(value, list) else value))
    return found
