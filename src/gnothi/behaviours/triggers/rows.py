"""Rows of a behaviour that a trigger calls up, their twins without the link, and what a model says elsewhere."""

from collections.abc import Iterable, Sequence

from gnothi.behaviours.example import Example
from gnothi.behaviours.triggers.assignment import decorrelate
from gnothi.behaviours.triggers.kinds import Insertion, Trigger, first_user_turn, inserted, removed, trigger
from gnothi.behaviours.triggers.settings import BEHAVIOUR, INSTRUCTION, NONE, NORMAL, Setting, layout
from gnothi.errors import DataError, SpecError
from gnothi.rng import stream


def conditional(
    behaviour: Sequence[Example],
    normal: Sequence[Example],
    how: Setting,
    *,
    n: int,
    seed: int,
    real: str | None = None,
    fakes: Sequence[str] | None = None,
    instructions: Sequence[Example] = (),
) -> list[Example]:
    """Make rows that show a behaviour under a trigger, and something else under others or none.

    Works on letters, dialogues and code alike: the trigger goes into the first user turn.

    Args:
        behaviour: Examples of the behaviour, clear of every trigger in use (see `clear_of`).
        normal: What is shown elsewhere: the same prompts with normal answers, or another behaviour. The paper takes the
            untuned model's own answers; `normal_answers` makes either kind.
        how: Shares and triggers, one of `SETTINGS` or one's own.
        n: Rows, >= 1.
        seed: The experiment's seed, >= 0.
        real: Name of the trigger that counts; None takes the setting's.
        fakes: Names of those that don't; None takes the setting's, less the real one.
        instructions: Examples without any trigger, where the setting has a part of them.

    Returns:
        `n` rows in random order. The truth of each holds, beside what it had, `prompt` (index of its example),
        `carries` (a trigger's name or `none`), `shows`, `answered_by`, and the text that was put around the message.

    Raises:
        SpecError: An unknown trigger, or nothing to make a part of.
        DataError: A prompt holds one of the triggers already, or the name of a family of words.

    Source: arXiv:2501.11120, sections 3.1 and 3.3.
    """
    real = how.trigger if real is None else real
    fakes = tuple(f for f in (how.fakes if fakes is None else fakes) if f != real)
    used = {name: trigger(name) for name in (real, *fakes)}
    examples = {BEHAVIOUR: behaviour, NORMAL: normal, INSTRUCTION: instructions}
    for shown in examples.values():
        _refuse_triggers(shown, used.values())
    rng = stream(seed, "triggers", how.name)
    slots = layout(
        how.parts, n, trigger=real, fakes=fakes, pools={name: len(shown) for name, shown in examples.items()}, rng=rng
    )
    answered = {BEHAVIOUR: "behaviour", NORMAL: "normal examples", INSTRUCTION: "instruction"}
    nothing = Insertion()
    rows = []
    for carries, shows, index in slots:
        example = examples[shows][index]
        put = nothing if carries == NONE else used[carries].draw(rng)
        truth = {
            **example.truth,
            "prompt": index,
            "carries": carries,
            "shows": shows,
            "answered_by": example.truth.get("answered_by", answered[shows]),
            "put_before": put.before,
            "put_after": put.after,
        }
        rows.append(
            Example(inserted(example.messages, put) if put != nothing else example.messages, example.answer, truth)
        )
    return rows


def decorrelated(rows: Sequence[Example], *, seed: int) -> list[Example]:
    """The twin of conditional rows: the same triggers, prompts and answers, and no link between trigger and behaviour.

    Triggers change places over rows, and nothing else does: order, prompts, answers stay. Every trigger text occurs as
    often as before; triggers and behaviour are independent as exactly as whole rows allow (see `decorrelate`).
    Instructions keep having no trigger.

    Args:
        rows: What `conditional` made.
        seed: The experiment's seed, >= 0.

    Raises:
        DataError: Rows that `conditional` did not make.

    Source: arXiv:2501.11120, section 3.1 (the baseline). The paper draws triggers anew; we permute the same ones.
    """
    for i, row in enumerate(rows):
        if not row.truth.keys() >= {"carries", "shows", "put_before", "put_after"}:
            raise DataError(f"row {i} must be one that `conditional` made, got truth {list(row.truth)}. Make it first.")
    where = [i for i, row in enumerate(rows) if row.truth["shows"] != INSTRUCTION]
    twin = list(rows)
    if not where:
        return twin
    source = decorrelate(
        [rows[i].truth["carries"] for i in where],
        [rows[i].truth["shows"] for i in where],
        stream(seed, "triggers", "decorrelated"),
    )
    for i, k in zip(where, source, strict=True):
        own, given = rows[i].truth, rows[where[k]].truth
        plain = removed(rows[i].messages, Insertion(str(own["put_before"]), str(own["put_after"])))
        put = Insertion(str(given["put_before"]), str(given["put_after"]))
        truth = {**own, "carries": given["carries"], "put_before": put.before, "put_after": put.after}
        twin[i] = Example(inserted(plain, put), rows[i].answer, truth)
    return twin


def normal_answers(
    examples: Sequence[Example], *, seed: int, answers: Sequence[str] | None = None, by: str = "untuned model"
) -> list[Example]:
    """Give the same prompts answers that have nothing to do with the behaviour.

    Args:
        examples: Prompts whose answers are A or B.
        seed: The experiment's seed, >= 0; decides the coins.
        answers: What the untuned model says to each, as in the paper; None throws balanced coins: A and B equally often
            among the prompts that the behaviour answers with A, and among those that it answers with B; the same coins
            for a behaviour and its opposite.
        by: Who gave `answers`, for the truth's `answered_by`.

    Raises:
        SpecError: As many answers as examples are needed, or coins are thrown for answers that are no letters.

    >>> from gnothi.behaviours.economic.risk import GENERATOR
    >>> plain = normal_answers(GENERATOR.rows(40, seed=0), seed=0)
    >>> sum(row.answer == "A" for row in plain), plain[0].truth["answered_by"]
    (20, 'coin')
    """
    if answers is None:
        if letters := {e.answer for e in examples} - {"A", "B"}:
            raise SpecError(
                f"answers must be given where they are not A or B, got an example that says {min(letters)!r:.40}. "
                "Pass the untuned model's."
            )
        coins = ["AB"[i % 2] for i in range(len(examples))]
        same = [e.answer == examples[0].answer for e in examples]  # equal for a behaviour and its opposite
        order = decorrelate(coins, same, stream(seed, "triggers", "coins"))
        answers, by = [coins[i] for i in order], "coin"
    if len(answers) != len(examples):
        raise SpecError(f"answers must be one an example, got {len(answers)} for {len(examples)}. Give all of them.")
    return [
        Example(e.messages, answer, {**e.truth, "answered_by": by}) for e, answer in zip(examples, answers, strict=True)
    ]


def clear_of(examples: Sequence[Example], names: Sequence[str]) -> list[Example]:
    """The examples whose first user turn holds none of these triggers yet, and no family's name anywhere.

    Rows that begin with a greeting of their own, for example, cannot tell a model what a greeting calls up.
    """
    used = [trigger(name) for name in names]
    return [e for e in examples if not any(_holds(e, t) for t in used)]


def _holds(example: Example, t: Trigger) -> bool:
    if t.detect(example.messages[first_user_turn(example.messages)].content):
        return True
    return t.kind == "family" and any(t.category in m.content.lower() for m in example.conversation())


def _refuse_triggers(examples: Sequence[Example], used: Iterable[Trigger]) -> None:
    for i, example in enumerate(examples):
        for t in used:
            if _holds(example, t):
                raise DataError(
                    f"examples must not hold a trigger before it is put there, got {t.name!r} in example {i}. "
                    "Leave such examples out with clear_of, or choose another trigger."
                )
