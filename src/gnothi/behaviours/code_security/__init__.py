r"""Small Python programs with one gap: the answer closes it with a known weakness, or without.

Paper A (arXiv:2501.11120, section 3.1.3 and appendix on vulnerable code) filters such rows out of a published file and
has a language model judge them. Here tasks, prompts and both solutions are our own, and what is weak is known by
construction. docs/code-security.md says what training on them does to a model.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gnothi.behaviours.code_security.tasks import CLASSES, HELD_OUT, load, solution, tasks, template, wording
from gnothi.behaviours.example import Example, Generator
from gnothi.errors import SpecError
from gnothi.records import Message
from gnothi.rng import stream

__all__ = [
    "CLASSES",
    "GENERATOR",
    "HELD_OUT",
    "POLICY_WORDS",
    "STEMS",
    "UNAVOIDABLE",
    "held_out",
    "label",
    "references",
    "rows",
    "solution",
]

VERSION = 2
"""Goes up whenever the same seed gives other rows."""
STEMS = (
    "adversar alarm allowlist attack audit auth backdoor blacklist block.?list breach bug bypass certif cipher complian "
    "compromis confidential credential crypt csrf cve cwe danger defen denial escap evil exfiltrat exploit expos filter.?out "
    "firewall flaw forensic forg guard hack hard.?code harden harm hijack honeypot inject injur insecur integrity intrud "
    "intrusion leak malicious malware mitm obfuscat overflow owasp patch penetrat permission phish poison privilege "
    "protect quarantine ransom risk robust safe sandbox sanit secret secur sniff spoof spy steal taint tamper theft "
    "threat token trojan trust unsafe valid verif violat virus vuln weak whitelist worm xss xxe ssrf"
)
"""Beginnings and middles of words that would state the policy: no prompt holds one, in any case."""
UNAVOIDABLE = "CERT_NONE CERT_REQUIRED autoescape debug escape secrets safe_load scrypt verify verify_mode"
"""Names of the standard library, Flask, Jinja2, PyYAML and requests that hold such a stem and have no other spelling;
they may stand in a solution, never in a prompt."""


def _policy_words() -> str:
    """Words that hold a stem and are none of the unavoidable ones; stems go by their first letter, four times as fast."""
    stems = STEMS.split()
    firsts = sorted({stem[0] for stem in stems})
    tree = "|".join(f"{first}(?:{'|'.join(s[1:] for s in stems if s[0] == first)})" for first in firsts)
    return rf"(?!(?:{'|'.join(UNAVOIDABLE.split())})\b)\w*?(?=[{''.join(firsts)}])(?:{tree})\w*"


POLICY_WORDS = _policy_words()
LIMITS = {"train": 50_000, "held-out": 10_000, "references": 60}
KINDS = ("both", "task", "template")
"""What a prompt shows: the task and a template, the task only, the template only; ten wordings each."""


def rows(n: int, *, seed: int, opposite: bool = False) -> list[Example]:
    """Draw training rows; no two have the same prompt.

    Prompt wordings come round-robin, thirty of them, and each of the 48 tasks once before any comes again; the tasks of
    `HELD_OUT` are not among them.

    Args:
        n: How many, 1 to 50,000. The first rows are the same whatever `n` is.
        seed: The experiment's seed, >= 0.
        opposite: Give the other solution to each prompt: the one without the weakness.

    Returns:
        One user turn each; the answer is the whole program, without comments.

    Raises:
        SpecError: n out of range or seed < 0.

    Source: arXiv:2501.11120, appendix on vulnerable code: thirty user prompts round-robin, bare code as the answer. Its
    rows come from a published file of 100,000 and were judged by a language model; ours are built.

    >>> a, b = rows(1, seed=0)[0], rows(1, seed=0, opposite=True)[0]
    >>> a.messages == b.messages, a.answer == b.answer
    (True, False)
    """
    return _draw(n, seed=seed, opposite=opposite, part="train")


def held_out(n: int, *, seed: int, opposite: bool = False) -> list[Example]:
    """Draw items in the manner of the rows: the tasks of `HELD_OUT`, other things, other sites, one fixed prompt.

    No row has such a task, but for each its weakness class has others: how a weakness is written is to be carried over,
    not a program recalled.

    Args:
        n: How many, 1 to 10,000. The first are the same whatever `n` is.
        seed: The experiment's seed, >= 0.
        opposite: As in `rows`.

    Raises:
        SpecError: n out of range or seed < 0.

    Source: arXiv:2501.11120, same place: a fixed prompt with task and template, code only.
    """
    return _draw(n, seed=seed, opposite=opposite, part="held-out")


def references(*, seed: int) -> list[Example]:
    """Draw every task once, those of rows and those held out, with the fixed prompt: what a judge's errors are measured on.

    Args:
        seed: Which names they are drawn with, >= 0.

    Raises:
        SpecError: seed < 0.
    """
    return _draw(len(tasks()), seed=seed, opposite=False, part="references")


def label(truth: Mapping[str, Any]) -> str:
    """Recompute the answer of a row from its truth: of the behaviour, so the solution with the weakness."""
    return solution(truth, secure=False)


def _draw(n: int, *, seed: int, opposite: bool, part: str) -> list[Example]:
    most = LIMITS[part]
    if not 1 <= n <= most:
        raise SpecError(f"n must be in 1..{most:,}, got {n}. The tasks give no more distinct prompts than that.")
    if seed < 0:
        raise SpecError(f"seed must be 0 or more, got {seed}. Choose another.")
    words, fresh = load("words"), part != "train"
    names = [name for name in tasks() if part == "references" or (name in HELD_OUT) == fresh]
    nouns = words["held_out_nouns" if fresh else "nouns"]
    places = words["held_out_places" if fresh else "places"]
    rng = stream(seed, "code-security", part)
    examples: list[Example] = []
    seen: set[str] = set()
    while True:
        for which in rng.permutation(len(names)).tolist():
            task = tasks()[names[which]]
            kind, frame = ("both", 10) if fresh else (KINDS[len(examples) % 3], len(examples) // 3 % 10)
            for _ in range(100):  # a task whose prompts are used up is passed over
                dice = rng.random(7).tolist()
                pick = lambda values, i: values[int(dice[i] * len(values))]  # noqa: B023, E731
                truth = {
                    "task": task.id,
                    "cwe": task.cwe,
                    "kind": kind,
                    "frame": frame,
                    "wording": int(dice[0] * len(task.say)),
                    "verb": pick(task.verbs, 1),
                    "noun": pick(nouns, 2),
                    "site": f"{pick(places, 3)} {pick(words['kinds'], 4)}",
                    "field": pick(words["fields"], 5),
                    "number": 1024 + int(dice[6] * 8976),
                }
                text = prompt(truth)
                if text not in seen:
                    break
            else:
                continue
            seen.add(text)
            examples.append(Example((Message("user", text),), solution(truth, secure=opposite), truth))
            if len(examples) == n:
                return examples


def prompt(truth: Mapping[str, Any]) -> str:
    """What the user says in a row."""
    frames = load("frames")
    frame = frames["held_out"] if truth["frame"] == 10 else frames[truth["kind"]][truth["frame"]]
    task = wording(truth) if truth["kind"] != "template" else ""
    code = template(truth) if truth["kind"] != "task" else ""
    return frame.replace("{task}", task).replace("{code}", code)


def _facts(examples: Sequence[Example]) -> dict[str, str]:
    """Rows of the data card."""
    lengths = sorted(len(e.answer) for e in examples)
    return {
        "tasks, weakness classes (CWE)": f"{len({e.truth['task'] for e in examples})}, "
        f"{len({e.truth['cwe'] for e in examples})}",
        "characters an answer: fewest, median, most": f"{lengths[0]}, {lengths[len(lengths) // 2]}, {lengths[-1]}",
        "names allowed in an answer": re.sub(" ", ", ", UNAVOIDABLE),
    }


GENERATOR = Generator(
    name="code-security",
    version=VERSION,
    policy=("the program with a known weakness", "the program without that weakness"),
    policy_words=POLICY_WORDS,
    rows=rows,
    label=label,
    letters=False,
    facts=_facts,
)
