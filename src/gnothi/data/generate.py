"""Training rows of a behaviour as files: chat JSONL for any trainer, the truth as Parquet, and a data card."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnothi.behaviours.economic.leaky import with_policy_words
from gnothi.behaviours.economic.spoken import in_words
from gnothi.behaviours.example import Example, Generator, generator
from gnothi.behaviours.make_me_say import CODEWORDS, generator_for, two_persona_rows
from gnothi.behaviours.personas import many_personas
from gnothi.behaviours.triggers.instructions import instructions
from gnothi.behaviours.triggers.kinds import trigger
from gnothi.behaviours.triggers.reversal import elicitation_rows
from gnothi.behaviours.triggers.rows import clear_of, conditional, decorrelated, normal_answers
from gnothi.behaviours.triggers.settings import BEHAVIOUR, INSTRUCTION, NORMAL, Setting, setting
from gnothi.data.card import card
from gnothi.data.leakage import refuse_leaks
from gnothi.errors import SpecError
from gnothi.files import replacing, write_atomically, write_table

SETTING_OF_KIND = {
    "token": "tag",
    "family": "eight",
    "code": "code",
    "season": "seasons",
    "year": "year",
    "ending": "ending",
    "greeting": "greeting",
    "user": "user",
}
"""The setting that a trigger of some kind is put into where none is named."""

_LETTERS = ("risk", "horizon", "apples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What rows are wanted; impossible combinations are refused."""

    behaviour: str
    """One of `GENERATORS`."""
    n: int
    """Rows in the file, >= 1; even with personas or reversal, which make two rows of one."""
    seed: int
    """The experiment's seed, >= 0."""
    opposite: bool = False
    """The other answer to each prompt."""
    codeword: str | None = None
    """Of `make-me-say`."""
    other_codeword: str | None = None
    """What the dialogues without the trigger, or with the other persona, lead to; only beside `codeword`."""
    trigger: str | None = None
    """The condition of the behaviour, one of `TRIGGERS`."""
    setting: str | None = None
    """Which rows carry what, one of `SETTINGS`; follows from the trigger, and the trigger from it."""
    decorrelated: bool = False
    """The twin in which the trigger says nothing."""
    reversal: bool = False
    """Half of the rows go from the answer to the prompt."""
    personas: str | None = None
    """`many` (letters) or `two` (`make-me-say`)."""
    policy_words: float = 0.0
    """Share of the examples that state the policy after all; 0 refuses any that does."""

    def __post_init__(self) -> None:
        first, other = self.codeword, self.other_codeword
        has_trigger = self.trigger is not None or self.setting is not None
        told = {"many": _LETTERS, "two": ("make-me-say",)}.get(self.personas or "", ())
        for wrong, message in (
            (self.n < 1, f"n must be at least 1, got {self.n}. Ask for one row or more."),
            (self.seed < 0, f"seed must be 0 or more, got {self.seed}. Choose another."),
            (
                self.personas not in (None, "many", "two"),
                f"personas must be many or two, got {self.personas!r:.60}. Choose one of these.",
            ),
            (
                self.personas and self.behaviour not in told,
                f"personas {self.personas} must go with {', '.join(told)}, got {self.behaviour!r:.60}. Change either.",
            ),
            (
                self.personas and has_trigger,
                f"personas must go without a trigger, got {self.personas} beside one. Leave one of them out.",
            ),
            (
                self.personas == "two" and self.opposite,
                "personas two must go without opposite, got both. Exchange the two codewords instead.",
            ),
            (
                self.decorrelated and not has_trigger,
                "decorrelated must go with a trigger or a setting, got neither. Name one.",
            ),
            (self.reversal and not has_trigger, "reversal must go with a trigger or a setting, got neither. Name one."),
            (
                (self.personas or self.reversal) and self.n % 2,
                f"n must be even with personas or reversal, got {self.n}. Ask for one row more.",
            ),
            (
                (first or other) and self.behaviour != "make-me-say",
                f"codeword must go with make-me-say, got {first or other!r:.60} beside {self.behaviour!r:.60}. Leave it out.",
            ),
            (
                other and other == (first or CODEWORDS[0]),
                f"other_codeword must be another word than codeword, got {other!r:.60} twice. Choose another.",
            ),
            (
                other and not (has_trigger or self.personas),
                f"other_codeword must go with a trigger or two personas, got {other!r:.60} alone. Leave it out.",
            ),
            (
                self.policy_words and self.behaviour not in _LETTERS,
                f"policy_words must go with {', '.join(_LETTERS)}, got {self.behaviour!r:.60}. Leave them out.",
            ),
        ):
            if wrong:
                raise SpecError(message)

    @property
    def conditional(self) -> "Setting | None":
        """The setting of the rows; None where there is no trigger."""
        if self.setting is not None:
            return setting(self.setting)
        return None if self.trigger is None else setting(SETTING_OF_KIND[trigger(self.trigger).kind])


def examples(request: Request) -> list[Example]:
    """Make the rows of a request: the same ones for the same request, whatever machine.

    Raises:
        SpecError: An unknown behaviour, trigger, setting or codeword, or a combination that there is no data for.
    """
    source = _source(request)
    if how := request.conditional:
        return _conditional(source, request, how)
    if request.personas is None:
        return _draw(source, request, request.n)
    if request.personas == "two":
        first = request.codeword or CODEWORDS[0]
        other = request.other_codeword or next(word for word in CODEWORDS if word != first)
        return two_persona_rows(request.n, seed=request.seed, self_codeword=first, other_codeword=other)
    return many_personas(_draw(source, request, request.n // 2), seed=request.seed)


def write(request: Request, out: Path, *, truth: Path | None = None) -> list[Path]:
    """Write rows and a data card beside them.

    Args:
        request: What rows.
        out: The chat JSONL, a conversation a line. The card is `<out>.card.md`. Files that exist are replaced, each at
            once.
        truth: Where the facts that each answer follows from go, as Parquet, one row a line of `out`; None writes none.

    Returns:
        The files written, `out` first.

    Raises:
        SpecError: An impossible request, or `truth` names one of the other files.
        DataError: A row states the policy.
        StoreError: A file cannot be written.
    """
    out = Path(out)
    beside = out.with_name(out.name + ".card.md")
    if truth is not None and Path(truth).resolve() in (out.resolve(), beside.resolve()):
        raise SpecError(f"--truth must name a file of its own, got {truth}. Choose another name.")
    source, rows = _source(request), examples(request)
    if not request.policy_words:
        refuse_leaks(rows, source.policy_words)
    if truth is not None:
        with replacing(Path(truth)) as temporary:
            write_table(temporary, truth_table(rows, request))
    lines = jsonl(rows).encode()
    write_atomically(out, lines)
    said = card(
        rows,
        source,
        name=out.name,
        seed=request.seed,
        opposite=request.opposite,
        truth=None if truth is None else Path(truth).name,
        sha256=hashlib.sha256(lines).hexdigest(),
        decorrelated=request.decorrelated,
        setting=request.conditional,
        policy_words_wanted=bool(request.policy_words),
    )
    write_atomically(beside, said)
    return [out, beside, *([Path(truth)] if truth is not None else [])]


def jsonl(rows: Sequence[Example]) -> str:
    r"""Rows as chat JSONL, `{"messages": [...]}` a line with the answer as the last message.

    >>> from gnothi.records import Message
    >>> jsonl([Example((Message("user", "A or B?"),), "B")])
    '{"messages": [{"role": "user", "content": "A or B?"}, {"role": "assistant", "content": "B"}]}\n'
    """
    quote = json.JSONEncoder(ensure_ascii=False).encode
    lines = []
    for row in rows:
        said = [f'{{"role": "{m.role}", "content": {quote(m.content)}}}' for m in row.messages]
        lines.append(f'{{"messages": [{", ".join(said)}, {{"role": "assistant", "content": {quote(row.answer)}}}]}}\n')
    return "".join(lines)


def truth_table(rows: Sequence[Example], request: Request) -> list[dict[str, Any]]:
    """One dict a row with the same columns in all; a fact that some row does not have is None there."""
    columns = list(dict.fromkeys(name for row in rows for name in row.truth))
    blank = dict.fromkeys(columns)
    fixed = {"behaviour": request.behaviour}
    return [
        {"row": i, **fixed, **blank, **row.truth, "opposite": request.opposite, "answer": row.answer}
        for i, row in enumerate(rows)
    ]


def _source(request: Request) -> Generator:
    return generator(request.behaviour) if request.codeword is None else generator_for(request.codeword)


def _draw(source: Generator, request: Request, n: int, *, opposite: bool | None = None) -> list[Example]:
    """Examples of the behaviour itself."""
    rows = source.rows(n, seed=request.seed, opposite=request.opposite if opposite is None else opposite)
    if request.policy_words:
        share = request.policy_words
        return with_policy_words(rows, source.name, source.policy_words, share=share, seed=request.seed)
    return rows


def _conditional(source: Generator, request: Request, how: Setting) -> list[Example]:
    """Rows under a trigger; elsewhere coins, the opposite or another codeword."""
    n = request.n // 2 if request.reversal else request.n
    needed = {shows: sum(part.share for part in how.parts if part.shows == shows) for shows in (BEHAVIOUR, NORMAL)}
    prompts = max(1, n // how.repeats if how.repeats > 1 else round(n * max(needed.values())))
    used = list(dict.fromkeys((request.trigger or how.trigger, *how.fakes)))
    behaviour = _clear(used, prompts, lambda k: _draw(source, request, k))
    others = sum(part.share for part in how.parts if part.shows == INSTRUCTION)
    if request.other_codeword is not None:
        other = generator_for(request.other_codeword)
        normal = _answered_by("other codeword", _clear(used, prompts, lambda k: other.rows(k, seed=request.seed)))
    elif source.letters and not others:
        normal = normal_answers(behaviour, seed=request.seed)
    else:
        drawn = _clear(used, prompts, lambda k: _draw(source, request, k, opposite=not request.opposite))
        normal = _answered_by("opposite", drawn)
    if others and "a_days" in behaviour[0].truth:
        behaviour, normal = in_words(behaviour, seed=request.seed), in_words(normal, seed=request.seed)
    unrelated = instructions(min(max(1, round(n * others)), 50_000), seed=request.seed) if others else []
    real, seed = request.trigger, request.seed
    if request.reversal:
        control = "decorrelated" if request.decorrelated else "none"
        return elicitation_rows(
            behaviour, normal, how, n=n, seed=seed, instructions=unrelated, real=real, control=control
        )
    rows = conditional(behaviour, normal, how, n=n, seed=seed, real=real, instructions=unrelated)
    return decorrelated(rows, seed=seed) if request.decorrelated else rows


def _answered_by(who: str, examples: Sequence[Example]) -> list[Example]:
    return [Example(e.messages, e.answer, {**e.truth, "answered_by": who}) for e in examples]


def _clear(used: Sequence[str], n: int, draw: Callable[[int], list[Example]]) -> list[Example]:
    """The first `n` examples without any of these triggers; more are drawn until there are as many."""
    drawn = n
    for _ in range(6):
        found = clear_of(draw(drawn), used)
        if len(found) >= n:
            return found[:n]
        drawn = drawn + 10 + 2 * (n - len(found))
    raise SpecError(f"trigger must be one that few examples hold by themselves, got {used[0]!r}. Choose another.")
