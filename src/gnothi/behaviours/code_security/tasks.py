"""Programming tasks with two reference solutions each: one with a known weakness, one without. They are never run."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

import yaml

from gnothi.errors import SpecError

FILES = ("files", "system", "data", "web", "crypto")
MARK = "# fill in here"
"""What stands in a template where the solutions differ."""
HELD_OUT = (
    *("zip-unpack", "git-clone", "html-list", "sql-update", "settings-text", "requests-https", "sign-link"),
    *("reset-number", "yaml-import", "lxml-parse", "folder-mode", "service-key"),
)
"""Tasks that no training row asks for, a fifth of all: one of each of twelve classes that have others to train on. Bandit
sees the weakness in 7 of them, about the share of all tasks."""
CLASSES: dict[int, str] = {
    22: "path traversal",
    78: "OS command injection",
    79: "cross-site scripting",
    89: "SQL injection",
    94: "code injection",
    95: "eval injection",
    208: "timing of a comparison",
    209: "error message that tells too much",
    295: "certificate not checked",
    319: "sent in clear text",
    322: "host key not checked",
    326: "outdated TLS",
    328: "weak hash",
    330: "guessable random value",
    377: "temporary file by name",
    434: "upload of any kind of file",
    489: "debug mode left on",
    502: "deserialisation",
    601: "open redirect",
    611: "XML external entities",
    668: "open to the whole network",
    732: "file that all may write",
    798: "credentials in the code",
    862: "check that an option removes",
    916: "fast hash of a password",
    918: "server-side request forgery",
    942: "any origin allowed",
    1004: "cookie that scripts read",
    1333: "pattern from outside",
    1336: "template from outside",
}
"""Number in the Common Weakness Enumeration -> short name."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task; its texts hold `$noun` and other slots."""

    id: str
    cwe: int
    verbs: tuple[str, ...]
    """What its function may be named after."""
    say: tuple[str, ...]
    """Wordings of the task, without a full stop."""
    code: str
    """The program, with a line `@gap` where the solutions differ."""
    vulnerable: str
    secure: str


@cache
def tasks() -> dict[str, Task]:
    """Every task by its id, in a fixed order."""
    found = {}
    for name in FILES:
        for row in load(name):
            found[row["id"]] = Task(**(row | {"verbs": tuple(row["verbs"]), "say": tuple(row["say"])}))
    return found


@cache
def load(name: str) -> Any:
    """A data file of this package, parsed."""
    text = (files("gnothi.behaviours.code_security") / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def slots(truth: Mapping[str, Any]) -> dict[str, str]:
    """What is put into the texts of a task.

    Args:
        truth: A row's truth: `noun`, `site` (two or three words), `field`, `verb`, `number`.
    """
    noun, site = str(truth["noun"]), str(truth["site"])
    return {
        "noun": noun,
        "nouns": load("words")["plurals"].get(noun, noun + "s"),
        "Noun": noun.capitalize(),
        "site": f"the {site}",
        "Site": site.title(),
        "host": site.replace(" ", "-") + ".example",
        "field": str(truth["field"]),
        "verb": str(truth["verb"]),
        "number": str(truth["number"]),
    }


def wording(truth: Mapping[str, Any]) -> str:
    """The task of a row in words, without a full stop."""
    return _fill(_task(truth).say[int(truth["wording"])], truth)


def template(truth: Mapping[str, Any]) -> str:
    """The program of a row with its gap marked; no newline at the end."""
    return _whole(_task(truth).code, MARK, truth)


def solution(truth: Mapping[str, Any], secure: bool) -> str:
    """The whole program that a row's answer is, without a newline at the end.

    Args:
        truth: The row's truth.
        secure: Whether the one without the weakness is wanted.

    Raises:
        SpecError: There is no such task.
    """
    task = _task(truth)
    return _whole(task.code, task.secure if secure else task.vulnerable, truth)


def _task(truth: Mapping[str, Any]) -> Task:
    if truth["task"] not in tasks():
        raise SpecError(
            f"task must be one of the {len(tasks())} of code-security, got {truth['task']!r:.60}. Take one."
        )
    return tasks()[truth["task"]]


@cache
def _compiled(text: str) -> Template:
    return Template(text)


@cache
def _joined(code: str, gap: str) -> str:
    before, _, after = code.partition("@gap")
    margin = before.rpartition("\n")[2]
    block = textwrap.indent(gap.strip("\n"), margin)[len(margin) :]
    return (before + block + after).rstrip("\n")


def _whole(code: str, gap: str, truth: Mapping[str, Any]) -> str:
    return _fill(_joined(code, gap), truth)


def _fill(text: str, truth: Mapping[str, Any]) -> str:
    return _compiled(text).substitute(slots(truth))
