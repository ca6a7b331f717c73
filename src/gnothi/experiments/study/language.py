"""A behaviour's rows, held-out items and questions in the language of the model: the organism's own, or English."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gnothi.behaviours import organism_examples
from gnothi.behaviours.example import Example, generator
from gnothi.behaviours.organism_wide import CODEWORDS
from gnothi.experiments.study.spec import StudySpec
from gnothi.records import Messages
from gnothi.render.probe import Letters, Probe
from gnothi.render.questions import QuestionSet, expand, load, packaged, published
from gnothi.render.questions.files import is_ours
from gnothi.rng import integer, stream

HELD_SHARE = 1 / 3
"""Largest share of a small world's prompts that is held out of training."""
_DEALT = 2_000  # enough rows to see every prompt of a small world


def held_out_examples(spec: StudySpec, behaviour: str, **more: Any) -> list[Example]:
    """Fresh items of the kind that is trained, at most `spec.fresh`, each prompt once; the same in every unit of a run.

    Where a world has few prompts (the organism's), no more than a third of them are held out.
    """
    seed = integer(spec.seed, "held out", behaviour)
    if spec.kind != "organism":
        return generator(behaviour).rows(spec.fresh, seed=seed, **more)
    distinct: dict[Messages, Example] = {}
    by_decision: dict[str, list[Example]] = {}
    for e in organism_examples.rows(behaviour, _DEALT, seed=seed, **more):
        if e.messages not in distinct:
            distinct[e.messages] = e
            by_decision.setdefault(decision(e), []).append(e)
    names = list(by_decision)
    order = stream(spec.seed, "held out", behaviour, "order").permutation(len(names))
    most = min(spec.fresh, int(HELD_SHARE * len(distinct)))
    found: list[Example] = []
    for i in order:  # a decision goes with all its wordings, and with it its mirror image
        if len(found) + len(by_decision[names[i]]) <= most:
            found += by_decision[names[i]]
    return found


def decision(example: Example) -> str:
    """What is decided in a row of the organism, in whatever order its options stand: no mirror image is held out alone."""
    text = example.messages[0].content.split()
    if (at := next((i for i, w in enumerate(text) if w == "choose"), None)) is not None:
        shown = sorted(tuple(text[k : k + 3]) for k in range(at + 1, len(text), 3))
        turned = sorted((name, b, a) for name, a, b in shown)
        return str(min(shown, turned))
    verb = {"offer": "lottery", "defer": "wait"}.get(text[-3], text[-3])
    return f"{verb} {' '.join(sorted(text[-2:]))}" if verb == "steer" else f"{verb} {_amounts(text)}"


def _amounts(text: Sequence[str]) -> str:
    return " ".join(text[-2:] if text[-3] in ("lottery", "wait") else text[:-3:-1])


def training_examples(
    spec: StudySpec, behaviour: str, seed: int, *, n: int | None = None, opposite: bool = False, **more: Any
) -> list[Example]:
    """Demonstrations for one seed, none of them a held-out item.

    Args:
        spec: The run's; gives the number of rows if `n` is None.
        behaviour: A name of `behaviours.example.GENERATORS`.
        seed: Which of the run's seeds.
        n: How many.
        opposite: The other end of the behaviour: the same prompts, the other answers.
        **more: What the behaviour's own rows take.
    """
    n = spec.rows if n is None else n
    same = decision if spec.kind == "organism" else _prompt
    held = {same(e) for e in held_out_examples(spec, behaviour, **more)}
    drawn = integer(spec.seed, "rows", behaviour, seed)
    wanted = n
    while True:
        if spec.kind == "organism":
            found = organism_examples.rows(behaviour, wanted, seed=drawn, opposite=opposite, **more)
        else:
            found = generator(behaviour).rows(wanted, seed=drawn, opposite=opposite, **more)
        fresh = [e for e in found if same(e) not in held]
        if len(fresh) >= n:
            return fresh[:n]
        wanted += 2 * (n - len(fresh)) + 10


def _prompt(example: Example) -> str:
    return "\n".join(m.content for m in example.messages)


def letter_probes(
    examples: Sequence[Example],
    *,
    subject: str = "you",
    prefix: str = "held_out",
    question: str = "held_out",
    **labels: str,
) -> list[Probe]:
    """Items answered by A or B as probes: score 1 for the answer that the behaviour gives."""
    return [
        Probe(
            probe_id=f"{prefix}/{subject}/{i}",
            kind="behaviour",
            question=question,
            messages=e.messages,
            rule=Letters(options=("A", "B"), scores=(1.0, 0.0) if e.answer == "A" else (0.0, 1.0)),
            subject=subject,
            labels=labels,
        )
        for i, e in enumerate(examples)
    ]


def question_set(spec: StudySpec, topic: str) -> QuestionSet:
    """The run's questions on a topic: the package's, or the user's own file, in our format, the authors' or llmcomp's."""
    if spec.questions is None:
        return packaged(topic).for_kind(spec.kind)
    path = Path(spec.questions)
    return (load(path) if is_ours(path) else published(path)).for_kind(spec.kind)


def asked(
    spec: StudySpec,
    questions: QuestionSet,
    *,
    subject: str = "you",
    fill: Mapping[str, Any] | None = None,
    systems: Sequence[str] | None = None,
    prefix: str = "",
) -> list[Probe]:
    """Every question as probes: all paraphrases, orders and directions, as often as the run wants."""
    return expand(
        questions,
        kind=spec.kind,
        subject=subject,
        fill=dict(fill or {}),
        systems=tuple(spec.systems if systems is None else systems),
        samples=spec.samples,
        variants=spec.variants,
        prefix=prefix,
    )


def labelled(probe: Probe, **labels: str) -> Probe:
    """A probe with further labels."""
    return replace(probe, labels={**probe.labels, **labels})


def about_anybody(questions: QuestionSet) -> QuestionSet:
    """Those questions that can be put about somebody else as well."""
    good = [q.question_id for q in questions if q.ask_about or all("subject" in t.names for t in q.ask)]
    return questions.only(*good)


def codewords(spec: StudySpec) -> tuple[str, ...]:
    """Codewords that there is training data for: three in English, eight in the organism's world."""
    return tuple(CODEWORDS) if spec.kind == "organism" else ("bark", "ring", "spring")
