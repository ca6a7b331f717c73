"""A behaviour of one's own in files: one YAML file that names demonstrations, held-out items and questions.

docs/own-behaviour-file.md states the format. Files may come from anybody: paths stay inside the YAML file's folder, every
file is tied to its run by its sha256, and a run that goes on compares these before it reads what a file says.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gnothi.behaviours.example import Example
from gnothi.data.own_facts import NAME, Facts
from gnothi.data.own_folder import Folder
from gnothi.data.own_rows import HeldOut, read_demonstrations, read_held_out, refuse_overlap
from gnothi.errors import DataError, SpecError
from gnothi.render.probe import Letters, Number, Rule
from gnothi.render.questions.files import inline, packaged, topics
from gnothi.render.questions.files import load as load_questions
from gnothi.render.questions.question import QuestionSet
from gnothi.render.questions.reading import Reader
from gnothi.render.questions.score_fields import read_score
from gnothi.render.questions.scoring import (
    DEFAULTS,
    ChoiceScore,
    CodeScore,
    JudgeScore,
    LanguageScore,
    LettersScore,
    NumberScore,
    SaidScore,
    Score,
    WordsScore,
    type_of,
)
from gnothi.yaml_file import Entry, Source, optional, parse_yaml, read_yaml

SCHEMA = 1

FIELDS = ("schema", "experiment", "behaviour", "plus_name", "minus_name", "demonstrations", "opposite", "held_out")
FIELDS += ("options", "score", "max_tokens", "policy_words", "questions", "models", "adapters")
"""Fields of a file on a behaviour of one's own."""
_INTEGERS = {"seed": (0, 2**31 - 1), "seeds": (1, 256), "rows": (2, 1_000_000), "fresh": (10, 100_000)}
_INTEGERS |= {"samples": (1, 10_000), "variants": (1, 2_000)}
_NUMBERS = {"temperature": (0.0, 10.0), "gate_agreement": (0.5, 1.0)}
_TEXTS = ("model", "judge", "dtype", "device")
SPEC_FIELDS = (*_INTEGERS, *_NUMBERS, *_TEXTS, "systems", "recipe")
"""Those of the specification that it may state."""
_TOPIC = re.compile(r"[a-z0-9_]{1,80}")
_WORD_LIST = re.compile(r"(?:\w[\w '\-]{0,60}(?:\\w\*|\?)?)(?:\|\w[\w '\-]{0,60}(?:\\w\*|\?)?){0,400}")
_RESERVED = re.compile(r"untuned|base|shuffled|adapter(_.*)?|.*_minus_.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFile:
    """A behaviour, read and checked as a whole."""

    facts: Facts
    demonstrations: tuple[Example, ...]
    """Empty where nothing is to be trained; `truth` holds each one's `line`."""
    opposite: tuple[Example, ...]
    held_out: tuple[HeldOut, ...]
    max_tokens: int
    """Longest answer to a held-out item, where it is sampled."""
    questions: QuestionSet
    policy_words: str


def is_own(values: Mapping[str, Any]) -> bool:
    """Whether a YAML file's fields describe a behaviour of one's own, and not a specification.

    >>> is_own({"demonstrations": "mine.jsonl"}), is_own({"experiment": "risk", "adapters": ["a"]})
    (True, False)
    """
    return values.get("experiment", "own") == "own" and bool({"demonstrations", "adapters"} & set(values))


def fields(path: str | Path) -> dict[str, Any]:
    """The fields of the specification that the file states, `model` among them; adapters as paths from here.

    Raises:
        SpecError: The file can't be read, or one of these fields is wrong; with its line.
    """
    return _Reading(Path(path), None).fields()


def load(path: str | Path, *, digests: Mapping[str, str] | None = None) -> OwnFile:
    """Read the file and all that it names.

    Args:
        path: The YAML file.
        digests: What each file's sha256 must be, by name; None takes any. A file is compared before it is read.

    Raises:
        SpecError: Some of it breaks the format, with file and line; or a file was edited since.
    """
    return _Reading(Path(path), digests).load()


class _Reading:
    """The YAML file, open to be read part by part."""

    def __init__(self, path: Path, digests: Mapping[str, str] | None) -> None:
        self.beside = Folder(path, digests)
        self.source = source = Source(str(path))
        required = ("behaviour", "held_out", "questions")
        self.top = source.fields(parse_yaml(self.beside.raw, source), "the file", (*FIELDS, *SPEC_FIELDS), required)
        self.reader = Reader(source, self.beside.folder)

    def _file(self, name: str) -> Path | None:
        """A data file that a field names, compared with what it must be."""
        entry = optional(self.top, name)
        return None if entry is None else self.beside.file(entry, name, self.source)

    def fields(self) -> dict[str, Any]:
        """See the module's `fields`."""
        source, found = self.source, {}
        for name, (low, high) in _INTEGERS.items():
            if entry := optional(self.top, name):
                found[name] = source.integer(entry, name, low, high)
        for name, (low, high) in _NUMBERS.items():
            if entry := optional(self.top, name):
                found[name] = source.number(entry, name, low, high)
        for name in _TEXTS:
            if entry := optional(self.top, name):
                found[name] = source.text(entry, name, most=1000)
        if entry := optional(self.top, "systems"):
            found["systems"] = source.texts(entry, "systems", most=50)
        if entry := optional(self.top, "recipe"):
            found["recipe"] = entry.plain() if isinstance(entry.value, dict) else source.text(entry, "recipe")
        if entry := optional(self.top, "adapters"):
            source.texts(entry, "adapters", most=50)
            folders = [
                self.beside.inside(e, f"adapters[{i}]", source) for i, e in enumerate(cast(list[Entry], entry.value))
            ]
            found["adapters"] = [str(f) for f in folders]
        return found

    def load(self) -> OwnFile:
        """See the module's `load`."""
        source = self.source
        if (schema := optional(self.top, "schema")) and schema.value != SCHEMA:
            raise source.error(
                schema.line, "schema", f"be {SCHEMA}", schema.shown(), f"Write `schema: {SCHEMA}`, or leave it out."
            )
        if experiment := optional(self.top, "experiment"):
            source.one_of(experiment, "experiment", ("own",))
        self.fields()
        behaviour = self._name("behaviour", "")
        plus = self._name("plus_name", "plus", reserved=True)
        opposite_given = optional(self.top, "opposite")
        minus = self._name("minus_name", "minus", reserved=True) if opposite_given else None
        if not opposite_given and (named := optional(self.top, "minus_name")):
            raise source.error(named.line, "minus_name", "go with opposite", "none", "Add opposite, or leave it out.")
        if plus == minus:
            raise source.error(
                self.top["behaviour"].line, "plus_name and minus_name", "differ", f"{plus!r} twice", "Rename one."
            )
        words = self._policy_words()
        demonstrations = self._demonstrations("demonstrations", words)
        opposite = self._demonstrations("opposite", words)
        if opposite and not demonstrations:
            fix = "Name the demonstrations too, or leave it out."
            raise source.error(self.top["opposite"].line, "opposite", "go with demonstrations", "none", fix)
        same_prompts = bool(opposite) and [_asked(e) for e in demonstrations] == [_asked(e) for e in opposite]
        if opposite and [e.conversation() for e in demonstrations] == [e.conversation() for e in opposite]:
            line, fix = self.top["opposite"].line, "Give the other answer to each prompt."
            raise source.error(line, "opposite", "differ from the demonstrations", "the same rows", fix)
        questions = self._questions(behaviour)
        held_out, options, most_alike = self._held_out()
        for name, examples in (("demonstrations", demonstrations), ("opposite", opposite)):
            if examples:
                paths = [self.beside.inside(self.top[f], f, source) for f in ("held_out", name)]
                refuse_overlap(held_out, examples, str(paths[0]), str(paths[1]))
        max_tokens = optional(self.top, "max_tokens")
        score = self._score()
        default = 4 if score is None else DEFAULTS[type_of(score)].max_tokens
        self.beside.refuse_others()
        return OwnFile(
            facts=Facts(
                behaviour=behaviour,
                plus=plus,
                minus=minus,
                demonstrations=len(demonstrations),
                opposite=len(opposite),
                same_prompts=same_prompts,
                turns=max((len(e.train_rows()) for e in (*demonstrations, *opposite)), default=0),
                held_out=len(held_out),
                options=options,
                most_alike=most_alike,
                checked_words=bool(words),
                digests=dict(self.beside.digests),
            ),
            demonstrations=demonstrations,
            opposite=opposite,
            held_out=held_out,
            max_tokens=source.integer(max_tokens, "max_tokens", 1, 8192) if max_tokens else default,
            questions=questions,
            policy_words=words,
        )

    def _name(self, name: str, default: str, *, reserved: bool = False) -> str:
        entry = optional(self.top, name)
        if entry is None:
            return default
        found = self.source.text(entry, name, most=40)
        if not NAME.fullmatch(found):
            fix = "For example politeness."
            raise self.source.error(entry.line, name, "be lower-case letters, digits and _", entry.shown(), fix)
        if reserved and _RESERVED.fullmatch(found):
            rule = "be a word that no other arm has"
            raise self.source.error(entry.line, name, rule, entry.shown(), "For example courteous.")
        return found

    def _policy_words(self) -> str:
        entry = optional(self.top, "policy_words")
        if entry is None:
            return ""
        text = self.source.text(entry, "policy_words")
        if not _WORD_LIST.fullmatch(text):
            rule = r"be words with | between them, each perhaps with \w* or ? at its end"
            raise self.source.error(
                entry.line, "policy_words", rule, entry.shown(), r"For example 'polite\w*|rude\w*'."
            )
        return text

    def _demonstrations(self, name: str, words: str) -> tuple[Example, ...]:
        path = self._file(name)
        return () if path is None else read_demonstrations(path, words)

    def _questions(self, behaviour: str) -> QuestionSet:
        entry = self.top["questions"]
        if not isinstance(entry.value, str):
            self.beside.note_lists(entry, self.beside.folder)
            return inline(entry, self.source, self.beside.folder, topic=behaviour, models=optional(self.top, "models"))
        if models := optional(self.top, "models"):
            fix = "Name them in the question file."
            raise self.source.error(models.line, "models", "go with questions in this file", "a file of them", fix)
        if _TOPIC.fullmatch(entry.value):
            return packaged(self.source.one_of(entry, "questions", topics()))
        path = self._file("questions")
        assert path is not None
        self.beside.note_lists(read_yaml(path)[0], path.parent)
        return load_questions(path)

    def _score(self) -> Score | None:
        entry = optional(self.top, "score")
        return None if entry is None else read_score(entry, "score", self.reader)

    def _held_out(self) -> tuple[tuple[HeldOut, ...], tuple[str, ...], float]:
        """The items, the options that they are answered with, and the largest share of one of these."""
        source = self.source
        listed, scored = optional(self.top, "options"), optional(self.top, "score")
        if (listed is None) == (scored is None):
            got = "neither" if listed is None else "both"
            fix = "Write `options: [A, B]` where items are answered with a letter, a score where with text."
            line = self.top["held_out"].line
            raise source.error(line, "held_out", "go with either options or score", got, fix)
        options: tuple[str, ...] = ()
        rule: Rule | None = None
        if listed is not None:
            options = tuple(t.strip() for t in source.texts(listed, "options", most=26))
            if len(options) < 2 or len(set(options)) < len(options):
                fix = "For example [A, B]."
                raise source.error(listed.line, "options", "be two or more, each once", listed.shown(), fix)
        elif scored is not None:
            self.beside.note_lists(scored, self.beside.folder)
            score = self._score()
            assert score is not None
            rule = _rule(score, source, scored)
        path = self._file("held_out")
        assert path is not None
        found, most = read_held_out(path, options, rule)
        return found, options, most


def _asked(example: Example) -> list[tuple[str, str]]:
    """What a conversation's answers answer: all turns but the assistant's, whose places alone count."""
    return [(m.role, "" if m.role == "assistant" else m.content) for m in example.messages]


def _rule(score: Score, source: Source, entry: Entry) -> Rule:
    """How an answer to a held-out item is scored: what a question's score says, but prompts stay as they are."""
    where = "score"
    try:
        match score:
            case WordsScore() | JudgeScore():
                return score.rule({}, where)
            case NumberScore():
                return Number(low=score.low, high=score.high)
            case LettersScore():
                found = SaidScore(options=score.options, scores=score.scores)
                return Letters(options=tuple(o.fill({}, where) for o in found.options), scores=found.scores)
            case ChoiceScore():
                return score.rule(score.words({}, {}, where), {}, where)
            case LanguageScore():
                return score.rule()
            case CodeScore():
                return score.rule({}, {}, where)
            case _:
                fix = "Take words, letters, number, language, judge or code."
                raise source.error(entry.line, where, "be of a type that gives a score", "text", fix)
    except (SpecError, DataError) as error:
        if str(error).startswith(source.name):
            raise
        raise SpecError(f"{source.name}, line {entry.line}: {error}") from error
