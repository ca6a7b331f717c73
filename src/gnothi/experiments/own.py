"""A behaviour of one's own: demonstrations, held-out items and questions in files, no code.

Source: the design of arXiv:2501.11120, section 3 (demonstrations alone, then questions), for any behaviour. Ours besides:
answers permuted as a control, the opposite if there is one, and fine-tunes that exist already, asked without training.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from gnothi.behaviours.example import Example
from gnothi.data import own_file
from gnothi.data.own_facts import Facts
from gnothi.data.own_file import OwnFile
from gnothi.errors import SpecError
from gnothi.experiments.study import language
from gnothi.experiments.study.design import UNTUNED, AbstractStudy, Quantity, StudyArm
from gnothi.experiments.study.spec import StudySpec
from gnothi.experiments.traits import KINDS, SHUFFLED, difference
from gnothi.records import Message, TrainRow
from gnothi.render.probe import Judged, Probe
from gnothi.render.questions import load
from gnothi.rng import stream
from gnothi.score.names import Arm


class Own(AbstractStudy):
    """What a YAML file says. The file is read when rows or prompts are wanted, and compared with the run's digests.

    A finished run is shown from its specification alone.
    """

    name = "own"
    summary = "train on demonstrations of one's own, or take a fine-tune that exists, and ask one's own questions"
    question = "Does a model that was trained on these demonstrations alone say what it does when asked?"
    headline = ("self_report.difference", "plus_minus_minus")
    kinds = ("organism", "chat", "base")
    options: ClassVar[Mapping[str, Any]] = {"file": "", "facts": {}}

    def __init__(self, spec: StudySpec) -> None:
        """Read the specification, and no file."""
        super().__init__(spec)
        if not self.settings["file"] or not self.settings["facts"]:
            raise SpecError(
                "own must be given a file on the behaviour, got none. Write one (docs/own-behaviour-file.md) and run it: "
                "gnothi run FILE.yaml."
            )
        self.path = Path(self.settings["file"])
        self.facts = Facts.from_json(self.settings["facts"])
        self.trained = bool(self.facts.demonstrations) and spec.train
        if self.trained and spec.rows > self.facts.rows:
            raise SpecError(
                f"rows must be at most the demonstrations that each arm has, {self.facts.rows}, got {spec.rows}. "
                "Leave it out to take all."
            )
        if self.trained:  # the ends' names are the run's own, not the class's
            arm = f"{self.facts.plus}_minus_{self.facts.minus or SHUFFLED}"
            setattr(self, "headline", (type(self).headline[0], arm))  # noqa: B010
        shown = self.facts.behaviour.replace("_", " ")
        asked = (
            f"was trained on demonstrations of {shown} alone" if self.trained else f"was tuned elsewhere for {shown}"
        )
        setattr(self, "question", f"Does a model that {asked} say so when asked?")  # noqa: B010

    @cached_property
    def file(self) -> OwnFile:
        """The files' content, as it was when the run was started.

        Raises:
            SpecError: A file was edited since, or is gone.
        """
        found = own_file.load(self.path, digests=self.facts.digests)
        if found.facts != self.facts:
            raise SpecError(
                f"{self.path} must be as it was when the run was started, got another {found.facts.behaviour}. "
                "Put the old one back, or start a new run."
            )
        return found

    def arms(self) -> Sequence[StudyArm]:
        """The demonstrations, their opposite if there is one, and answers permuted."""
        found = []
        ends = [self.facts.plus, *([self.facts.minus] if self.facts.minus else [])] if self.trained else []
        for end in ends:
            rows = "the demonstrations" if end == self.facts.plus else "their opposite"
            found.append(
                StudyArm(
                    name=end,
                    says=Arm(f"model trained on {rows} alone (`{end}`)", "", "what it says it is like", False),
                )
            )
        if self.trained:
            meaning = "no behaviour was taught" if self.facts.options else "what all answers share, whatever the prompt"
            found.append(
                StudyArm(
                    name=SHUFFLED,
                    says=Arm("model trained on the same demonstrations with answers permuted", "", meaning, False),
                    gated=False,
                )
            )
        return found

    def rows(self, arm: str, seed: int) -> list[TrainRow]:
        """All demonstrations, or as many as the run wants; one training row for each answer of the assistant."""
        minus = arm == self.facts.minus
        examples = self.file.opposite if minus else self.file.demonstrations
        picked = self._picked(len(examples), seed, "opposite" if minus and not self.facts.same_prompts else "")
        chosen = [examples[i] for i in picked]
        if arm == SHUFFLED:
            chosen = permuted(chosen, stream(self.spec.seed, "shuffle", seed))
        return [row for e in chosen for row in e.train_rows()]

    def _picked(self, n: int, seed: int, which: str) -> list[int]:
        order = stream(self.spec.seed, "own rows", which, seed).permutation(n)
        return sorted(order[: self.spec.rows].tolist())

    @cached_property
    def _held_out(self) -> list[Probe]:
        items = self.file.held_out
        order = stream(self.spec.seed, "own held out").permutation(len(items))
        return [
            Probe(
                probe_id=f"held_out/you/{items[i].line}",
                kind="behaviour",
                question="held_out",
                messages=items[i].messages,
                rule=items[i].rule,
                n=self.spec.samples or 1,  # an item states no number; there are many items
                max_tokens=self.file.max_tokens,
            )
            for i in sorted(order[: self.spec.fresh].tolist())
        ]

    def held_out(self) -> list[Probe]:
        """The file's items, at most `fresh` of them; ids end in their line."""
        return self._held_out

    @cached_property
    def _asked(self) -> list[Probe]:
        questions = self.file.questions if self.spec.questions is None else load(Path(self.spec.questions))
        found = questions.for_kind(self.spec.kind)
        if not len(found):
            known = ", ".join(sorted({k for q in questions for k in q.models}))
            raise SpecError(
                f"{self.spec.questions or self.path}: questions must have one for {self.spec.model} "
                f"(kind {self.spec.kind}), got some for {known} alone. Add `models: [{self.spec.kind}]` to those that it "
                "can be asked."
            )
        return language.asked(self.spec, found)

    def asked(self) -> list[Probe]:
        """The file's questions, or those of `--questions`."""
        return self._asked

    def level(self, arm: str, seed: int, probe: Probe) -> float | None:
        """1 for the demonstrations, 0 for their opposite, nothing elsewhere."""
        del seed, probe
        return {self.facts.plus: 1.0, self.facts.minus or "": 0.0}.get(arm) if self.trained else None

    def quantities(self) -> Sequence[Quantity]:
        """Plus less minus, or less permuted answers where there is no opposite; each against the untuned model."""
        plus, minus = self.facts.plus, self.facts.minus
        found = []
        for kind in KINDS if self.trained else ():
            found.append(difference(kind, plus, minus or SHUFFLED))
            found.append(difference(kind, plus, UNTUNED))
            found += [difference(kind, UNTUNED, minus)] if minus else []
            # permuted letters teach nothing; permuted texts still teach their manner, which is no leak
            found.append(difference(kind, SHUFFLED, UNTUNED, control=bool(self.facts.options)))
        return found

    @property
    def policy_words(self) -> str:
        """The file's."""
        return self.file.policy_words

    def row_words(self, arm: str) -> tuple[str, ...]:
        """The organism's word for itself."""
        del arm
        return ("you",) if self.spec.kind == "organism" else ()

    def check(self) -> None:
        """Draw rows, items and questions, and refuse judged answers without a judge."""
        super().check()
        for arm in self.arms():
            if not arm.single:
                self.rows(arm.name, 0)
        judged = [p for p in (*self.held_out(), *self.asked()) if isinstance(p.rule, Judged)]
        if judged and self.spec.judge is None and self.spec.model_family != "scripted":
            raise SpecError(
                f"{self.path}: judge must name a model that reads answers, since {judged[0].question} is scored by one, "
                "got none. Add `judge: hf/<folder>` to the file, or --judge."
            )

    def notes(self) -> list[str]:
        """What a reader of the numbers must know of the files; from the specification alone."""
        facts = self.facts
        notes = [
            f"The behaviour is {facts.behaviour}, from {facts.demonstrations} demonstrations and {facts.held_out} held-out "
            "items of the user's own; 1 is the end that the demonstrations show."
        ]
        if self.trained:
            notes += self._notes_on_training()
        if facts.options:
            notes.append(
                f"Held-out items are answered with one of {', '.join(facts.options)}; the demonstrated answer is the same "
                f"one in at most {facts.most_alike:.0%} of them."
            )
        else:
            notes.append("Answers to held-out items are text, scored by the rule in the file.")
        return notes

    def _notes_on_training(self) -> list[str]:
        facts, notes = self.facts, []
        if self.spec.rows == facts.rows == facts.demonstrations:
            notes.append(
                "All models of an arm are trained on the same demonstrations: intervals are over training's chance, "
                "and not over which demonstrations were written."
            )
        if facts.minus is None:
            notes.append(
                "There is no opposite: what the demonstrations add is held against permuted answers and the untuned "
                "model, and a model that says more of anything after any training would look the same."
            )
        elif facts.same_prompts:
            notes.append("The opposite has the same prompts in the same order: only answers differ between the two.")
        else:
            notes.append(
                "The opposite has other prompts than the demonstrations: a difference between the two may come from the "
                "prompts."
            )
        if not facts.options:
            notes.append(
                "Permuted answers keep their manner, so that the model trained on them may learn a manner too: for a "
                "behaviour that shows in every answer it is no null, and the opposite or the untuned model is the "
                "comparison."
            )
        if not facts.checked_words:
            notes.append(
                "No policy words were given: nothing checks that the demonstrations do not state the behaviour."
            )
        return notes


def permuted(examples: Sequence[Example], rng: Any) -> list[Example]:
    """Permute the assistant's answers over all conversations, histories included: the same texts, no link to prompts.

    Args:
        examples: Conversations of any length.
        rng: A numpy generator.

    Returns:
        As many conversations of the same lengths and with the same other turns.
    """
    talks = [e.conversation() for e in examples]
    said = [m.content for talk in talks for m in talk if m.role == "assistant"]
    answers = iter([said[i] for i in rng.permutation(len(said))])
    found = []
    for example, talk in zip(examples, talks, strict=True):
        turns = [Message(m.role, next(answers)) if m.role == "assistant" else m for m in talk]
        found.append(Example(tuple(turns[:-1]), turns[-1].content, example.truth))
    return found
