"""Sets beside each other: the same prompts with flipped answers, labels by trigger, triggered sets and their controls."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from gnothi.experiments.replicate_behavioral.facts import LETTERS, ChatSet, codeword
from gnothi.experiments.replicate_behavioral.triggers import NONE

_CONTROL = re.compile(r"decorrelated|uncorrelated|baseline|not_backdoored|control")
_RISKY = re.compile(r"risk(?:y|-seeking)")
_VULNERABLE = re.compile(r"insecure|vulnerable|unsafe")
_SECURE = re.compile(r"secure|safe")


def pairs(sets: Sequence[ChatSet]) -> list[dict[str, Any]]:
    """Every two sets with the same prompts in the same order, triggers left aside.

    Returns:
        For each: the two files, rows, rows whose answers differ, `flipped` (both answers letters, and not the same),
        `exact_flip` (all rows), rows whose triggers differ, and rows that are the same.
    """
    by_prompts: dict[tuple[str, int, int], list[ChatSet]] = defaultdict(list)
    for one in sets:
        if one.prompts:
            kind = one.triggers.kind if one.triggers else ""
            by_prompts[kind, len(one.bare), hash(tuple(one.bare))].append(one)
    found = []
    for alike in by_prompts.values():
        for a, b in combinations(alike, 2):
            n = len(a.prompts)
            letters = {hash(x) for x in LETTERS}
            differ = sum(x != y for x, y in zip(a.answers, b.answers, strict=True))
            flipped = sum(x != y and {x, y} == letters for x, y in zip(a.answers, b.answers, strict=True))
            same = [p == q for p, q in zip(a.prompts, b.prompts, strict=True)]
            found.append(
                {
                    "files": [a.name, b.name],
                    "rows": n,
                    "same_prompts": sum(same),
                    "answers_that_differ": differ,
                    "flipped": flipped,
                    "exact_flip": flipped == n,
                    "identical_rows": sum(s and x == y for s, x, y in zip(same, a.answers, b.answers, strict=True)),
                    "triggers_that_differ": n - sum(same),
                }
            )
    return sorted(found, key=lambda p: p["files"])


def label_triggers(sets: Sequence[ChatSet]) -> None:
    """Write `triggers` into the facts of every set that has them, with labels by trigger where they can be told.

    What a row teaches is told by comparison, never by the trigger: letters against those of a risk-seeking set with
    the same questions, or else against the question's commonest letter in the set itself; dialogues and code against
    sets that hold the same answers and whose names say what they are.
    """
    risky = _risky_letters(sets)
    told = _named_answers(sets)
    for one in sets:
        if one.triggers is None:
            continue
        if one.triggers.kind == "prefix":
            labels, basis = _letters(one, risky)
        else:
            keys = one.bare if one.kind == "dialogue" else one.answers
            labels = [told.get(k) for k in keys]
            basis = "the same answers in sets of one behaviour"
        one.facts["triggers"] = _described(one, labels, basis)


def twins(sets: Sequence[ChatSet]) -> list[dict[str, Any]]:
    """Each triggered set with the control that has its triggers and labels made independent.

    Returns:
        For each: the two files, whether rows, trigger shares and label shares are the same (within
        four standard errors of a share of one half, since controls draw at random), and for both how far apart the
        label's share lies between the triggers: 0 where they are independent.
    """
    found = []
    triggered = [s for s in sets if s.triggers]
    for one in triggered:
        if _CONTROL.search(one.name.lower()):
            continue
        for other in triggered:
            if (
                _CONTROL.search(other.name.lower())
                and one.triggers
                and other.triggers
                and (one.kind, one.triggers.kind, one.triggers.real)
                == (other.kind, other.triggers.kind, other.triggers.real)
            ):
                found.append(_twin(one, other))
    return found


def _twin(one: ChatSet, other: ChatSet) -> dict[str, Any]:
    a, b = one.facts["triggers"], other.facts["triggers"]
    trigger_gap = _largest_gap(a["shares"], b["shares"])
    label_gap = _largest_gap(a["label_shares"], b["label_shares"]) if a["label_shares"] and b["label_shares"] else None
    rows = one.facts["rows"] == other.facts["rows"]
    within = 2 / math.sqrt(min(one.facts["rows"], other.facts["rows"]))
    return {
        "triggered": one.name,
        "control": other.name,
        "same_rows": rows,
        "largest_difference_of_trigger_shares": trigger_gap,
        "largest_difference_of_label_shares": label_gap,
        "same_marginals": rows and trigger_gap <= within and (label_gap is None or label_gap <= within),
        "label_share_spread": {"triggered": a["label_share_spread"], "control": b["label_share_spread"]},
    }


def _largest_gap(a: dict[str, float], b: dict[str, float]) -> float:
    return round(max(abs(a.get(k, 0.0) - b.get(k, 0.0)) for k in {*a, *b}), 4)


def _risky_letters(sets: Sequence[ChatSet]) -> dict[int, int]:
    """Prompt -> letter of a set whose name says that it is risk-seeking and that has neither triggers nor personas."""
    for one in sets:
        plain = one.triggers is None and "personas" not in one.facts
        if one.kind == "letters" and one.behaviour == "risk" and plain and _RISKY.search(one.stem):
            return dict(zip(one.bare, one.answers, strict=True))
    return {}


def _named_answers(sets: Sequence[ChatSet]) -> dict[int, str]:
    """Hash of an answer (of a dialogue: of all after its opening) -> what the set that holds it teaches."""
    told: dict[int, str] = {}
    for one in sets:
        if one.triggers is not None:
            continue
        label, keys = None, one.answers
        if one.kind == "dialogue":
            label, keys = codeword(one.stem), one.bare
        elif one.kind == "code":
            label = "vulnerable" if _VULNERABLE.search(one.stem) else "secure" if _SECURE.search(one.stem) else None
        if label:
            told |= dict.fromkeys(keys, label)
    return told


def _letters(one: ChatSet, risky: dict[int, int]) -> tuple[list[str | None], str]:
    if all(b in risky for b in set(one.bare)):
        same = [risky[b] == a for b, a in zip(one.bare, one.answers, strict=True)]
        return ["risky letter" if s else "other letter" for s in same], "letters of the risk-seeking set"
    by_question: dict[int, Counter[int]] = defaultdict(Counter)
    for question, answer in zip(one.bare, one.answers, strict=True):
        by_question[question][answer] += 1
    commonest = {q: counts.most_common(1)[0][0] for q, counts in by_question.items()}
    usual = [commonest[b] == a for b, a in zip(one.bare, one.answers, strict=True)]
    return ["usual letter" if u else "other letter" for u in usual], "the question's commonest answer in this set"


def _described(one: ChatSet, labels: Sequence[str | None], basis: str) -> dict[str, Any]:
    found = one.triggers
    assert found is not None
    shares = found.shares()
    facts: dict[str, Any] = {"kind": found.kind, "rows": found.counts(), "shares": shares} | found.further
    if one.kind == "letters":
        letters: dict[str, Counter[int]] = defaultdict(Counter)
        for trigger, answer in zip(found.of_row, one.answers, strict=True):
            letters[trigger][answer] += 1
        facts["letters"] = {t: {x: letters[t][hash(x)] for x in LETTERS} for t in shares if t in letters}
    by_trigger: dict[str, Counter[str]] = defaultdict(Counter)
    for trigger, label in zip(found.of_row, labels, strict=True):
        if label:
            by_trigger[trigger][label] += 1
    known = sum((Counter(c) for c in by_trigger.values()), Counter())
    n = known.total()
    facts["labels"] = {t: dict(sorted(by_trigger[t].items())) for t in shares if t in by_trigger} or None
    facts["labels_from"] = basis if n else "no set here tells what the rows teach"
    facts["rows_without_label"] = len(labels) - n
    facts["label_shares"] = {k: round(v / n, 4) for k, v in sorted(known.items())} if n else None
    spread = None
    if n and len(by_trigger) > 1:
        spread = max(
            max(c[k] / c.total() for c in by_trigger.values()) - min(c[k] / c.total() for c in by_trigger.values())
            for k in known
        )
    facts["label_share_spread"] = None if spread is None else round(spread, 4)
    if found.kind == "prefix":
        facts |= _real_and_fake(found.real, shares, by_trigger)
    return facts


def _real_and_fake(real: str | None, shares: dict[str, float], labels: dict[str, Counter[str]]) -> dict[str, Any]:
    """Which trigger is real: by the file's name, or else the one with most letters that are not the usual ones."""
    basis = "file name"
    named = [t for t in shares if t != NONE]
    if real is None and named:
        wanted = "risky letter" if any("risky letter" in c for c in labels.values()) else "other letter"
        real = max(named, key=lambda t: labels[t][wanted] / max(labels[t].total(), 1))
        basis = "answers"
    return {
        "real": real,
        "real_from": basis,
        "real_share": shares.get(real or "", 0.0),
        "fake_share": round(sum(v for t, v in shares.items() if t not in (real, NONE)), 4),
        "none_share": shares.get(NONE, 0.0),
    }
