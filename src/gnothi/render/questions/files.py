"""Question files: YAML to questions that are checked, every mistake with its line.

docs/questions.md states the format.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from gnothi.errors import SpecError
from gnothi.render.questions.question import KINDS, NO_SYSTEM, Question, QuestionSet
from gnothi.render.questions.reading import FOLDER, Reader
from gnothi.render.questions.score_fields import read_score
from gnothi.render.questions.scoring import MOST_ALL_ORDERS, ChoiceScore, LettersScore, NumberScore, Score
from gnothi.render.questions.templates import Template
from gnothi.yaml_file import Entry, Source, optional, parse_yaml, read_yaml

SCHEMA = 1

_TOP = ("schema", "topic", "models", "source", "systems", "questions")
_FIELDS = ("id", "title", "models", "source", "kind", "score", "system", "start", "max_tokens", "samples", "orders")
_FIELDS += ("ask", "ask_about", "ask_reversed", "ask_about_reversed", "one_direction")
_MOST_SHOWN = 10  # mistakes listed at once
_IDENTIFIER = re.compile(r"[a-z0-9_]{1,80}")
_SYSTEMS_FILE = "systems.yaml"


def load(path: str | Path) -> QuestionSet:
    """Read a question file.

    Raises:
        SpecError: It can't be read, or some of it breaks the format; all mistakes are listed, each with its line.
    """
    path = Path(path)
    entry, source = read_yaml(path)
    return _question_set(entry, Reader(source, path.parent))


def is_ours(path: str | Path) -> bool:
    """Whether a question file is in this format, and not in one that `published` reads: whether it has a `schema`.

    Raises:
        SpecError: It is no regular file, too large, or no YAML.
    """
    entry, _ = read_yaml(Path(path), aliases=True)
    return isinstance(entry.value, dict) and "schema" in entry.value


def files_of(path: str | Path) -> tuple[Path, ...]:
    """All files that decide what a question file asks and how it scores, itself first.

    Besides itself: the `systems.yaml` beside it, and the word lists that it names by path. Files of other formats
    depend on nothing else.

    Raises:
        SpecError: As `load`.
    """
    path = Path(path)
    if not is_ours(path):
        return (path,)
    entry, source = read_yaml(path)
    reader = Reader(source, path.parent)
    _question_set(entry, reader)
    return (path, *dict.fromkeys(reader.used))


def loads(text: str, *, name: str = "questions.yaml", folder: Path | None = None) -> QuestionSet:
    """Read a question file's text.

    Args:
        text: YAML.
        name: What messages call it.
        folder: Where its word lists lie; None allows none but the package's.

    Raises:
        SpecError: As `load`.
    """
    source = Source(name)
    raw = text.encode("utf-8", "surrogatepass")  # lone surrogates are then refused as what they are: no UTF-8
    return _question_set(parse_yaml(raw, source), Reader(source, folder))


def inline(questions: Entry, source: Source, folder: Path | None, *, topic: str, models: Entry | None) -> QuestionSet:
    """Read a list of questions that stands in another file, e.g. one on a behaviour of one's own.

    Args:
        questions: The list, as `questions:` in a question file.
        source: The file that it stands in, for messages.
        folder: Where its word lists and `systems.yaml` lie; None allows none but the package's.
        topic: What the set is called.
        models: Kinds of models that can answer, where a question names none.

    Raises:
        SpecError: As `load`.
    """
    fields = {"schema": Entry(SCHEMA, questions.line), "topic": Entry(topic, questions.line), "questions": questions}
    if models is not None:
        fields["models"] = models
    return _question_set(Entry(dict(fields), questions.line), Reader(source, folder))


def topics() -> tuple[str, ...]:
    """Topics of the package's own questions."""
    return tuple(sorted(p.stem for p in FOLDER.glob("*.yaml") if p.name != _SYSTEMS_FILE))


@functools.cache
def packaged(topic: str) -> QuestionSet:
    """The package's own questions of a topic.

    Raises:
        SpecError: There is no such topic.
    """
    if topic not in topics():
        known = ", ".join(topics())
        raise SpecError(f"topic must be one of {known}, got {topic!r:.40}. Choose one, or load a file of your own.")
    return load(FOLDER / f"{topic}.yaml")


@functools.cache
def packaged_systems() -> Mapping[str, str]:
    """The package's own system prompts: id -> text."""
    path = FOLDER / _SYSTEMS_FILE
    return _systems(*read_yaml(path), "systems") if path.is_file() else {}


def _question_set(entry: Entry, reader: Reader) -> QuestionSet:
    source = reader.source
    top = source.fields(entry, "the file", _TOP, ("schema", "topic", "questions"))
    if top["schema"].value != SCHEMA:
        raise source.error(
            top["schema"].line, "schema", f"be {SCHEMA}", top["schema"].shown(), f"Write `schema: {SCHEMA}`."
        )
    topic = _identifier(top["topic"], "topic", source)
    kinds = _kinds(optional(top, "models"), "models", source) or ("chat",)
    common = source.text(top["source"], "source") if optional(top, "source") else ""
    systems = dict(packaged_systems())
    if reader.folder and (beside := reader.folder / _SYSTEMS_FILE).is_file() and reader.folder.resolve() != FOLDER:
        systems |= _systems(*read_yaml(beside), "systems")
        reader.used.append(beside)
    if given := optional(top, "systems"):
        systems |= _systems(given, source, "systems")
    listed = top["questions"]
    if not isinstance(listed.value, list) or not listed.value:
        raise source.error(listed.line, "questions", "be a list of questions", listed.shown(), "Begin each with `- `.")
    found: list[Question] = []
    wrong: list[str] = []
    for i, item in enumerate(listed.value):
        try:
            question = _question(item, f"questions[{i}]", reader, kinds, common, systems)
            if any(q.question_id == question.question_id for q in found):
                got = f"{question.question_id} again"
                raise source.error(item.line, "id", "be unique within the file", got, "Rename one of the two.")
            found.append(question)
        except SpecError as error:
            wrong.append(str(error))
    if wrong:
        more = [f"… and {len(wrong) - _MOST_SHOWN} more"] if len(wrong) > _MOST_SHOWN else []
        raise SpecError("\n".join(wrong[:_MOST_SHOWN] + more))
    return QuestionSet(topic=topic, questions=tuple(found), systems=systems)


@functools.cache
def packaged_fills(name: str) -> Mapping[str, str]:
    """The package's own texts for a placeholder, e.g. `scenarios` for `{scenario}`: id -> text.

    Raises:
        SpecError: There are none of that name.
    """
    known = {p.stem: p for p in (FOLDER / "fills").glob("*.yaml")}
    if name not in known:
        raise SpecError(f"fills must be one of {', '.join(sorted(known))}, got {name!r:.40}. Choose one of these.")
    return _systems(*read_yaml(known[name]), "fills")


def _identifier(entry: Entry, field: str, source: Source) -> str:
    value = str(entry.value) if isinstance(entry.value, int) and not isinstance(entry.value, bool) else entry.value
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise source.error(
            entry.line, field, "be lower-case letters, digits and _", entry.shown(), "For example risk_or_safety."
        )
    return value


def _kinds(entry: Entry | None, field: str, source: Source) -> tuple[str, ...]:
    if entry is None:
        return ()
    source.texts(entry, field)
    return tuple(
        dict.fromkeys(source.one_of(e, f"{field}[{i}]", KINDS) for i, e in enumerate(cast(list[Entry], entry.value)))
    )


def _systems(entry: Entry, source: Source, field: str) -> dict[str, str]:
    if not isinstance(entry.value, dict):
        raise source.error(entry.line, field, "be ids with a text each", entry.shown(), "Write `id: {text: ...}`.")
    found = {}
    for name, item in entry.value.items():
        if name in ("schema", "source") and not isinstance(item.value, dict):
            continue
        if not _IDENTIFIER.fullmatch(name) or name == NO_SYSTEM:
            rule = f"be lower-case letters, digits and _, and not {NO_SYSTEM}"
            raise source.error(item.line, f"{field}: an id", rule, f"{name!r:.60}", "Rename it.")
        if isinstance(item.value, dict):
            parts = source.fields(item, f"{field}.{name}", ("text", "source", "title"), ("text",))
            item = parts["text"]
        found[name] = source.text(item, f"{field}.{name}.text")
    return found


def _question(
    entry: Entry, field: str, reader: Reader, kinds: tuple[str, ...], common: str, systems: Mapping[str, str]
) -> Question:
    source = reader.source
    fields = source.fields(entry, field, _FIELDS, ("id", "score", "ask"))
    name = _identifier(fields["id"], f"{field}.id", source)
    where = f"question {name}: "
    models = _kinds(optional(fields, "models"), where + "models", source) or kinds
    if "organism" in models and len(models) > 1:
        fix = "Ask it twice, once in the organism's words."
        raise source.error(
            (fields.get("models") or entry).line, where + "models", "be organism alone, or others", str(models), fix
        )
    score = read_score(fields["score"], where + "score", reader)
    orders = source.one_of(o, where + "orders", ("both", "all")) if (o := optional(fields, "orders")) else "both"
    if o and not isinstance(score, LettersScore):
        raise source.error(o.line, where + "orders", "go with letters", "another type of score", "Leave it out.")
    if isinstance(score, LettersScore) and orders == "all":
        if len(score.options) > MOST_ALL_ORDERS:
            rule = f"be all for at most {MOST_ALL_ORDERS} options"
            raise source.error(
                fields["orders"].line, where + "orders", rule, f"{len(score.options)} options", "Leave it out."
            )
        score = LettersScore(options=score.options, scores=score.scores, all_orders=True)
    one = optional(fields, "one_direction")
    one_direction = source.text(one, where + "one_direction", most=300) if one else ""
    if one and (not isinstance(score, NumberScore) or models != ("organism",)):
        rule = "go with a number that the organism is asked for"
        raise source.error(one.line, where + "one_direction", rule, "another question", "Add ask_reversed instead.")
    texts = _paraphrases(fields, where, reader, score, one_direction)
    system = NO_SYSTEM
    if (given := optional(fields, "system")) is not None:
        system = source.one_of(given, where + "system", (NO_SYSTEM, *systems))
    kind = source.one_of(k, where + "kind", ("self_report", "behaviour")) if (k := optional(fields, "kind")) else None
    start = reader.template(s, where + "start") if (s := optional(fields, "start")) else None
    max_tokens = source.integer(m, where + "max_tokens", 1, 8192) if (m := optional(fields, "max_tokens")) else None
    samples = source.integer(n, where + "samples", 1, 100_000) if (n := optional(fields, "samples")) else None
    return Question(
        question_id=name,
        models=models,
        score=score,
        **texts,
        one_direction=one_direction,
        kind=cast(Literal["behaviour", "self_report"], kind or "self_report"),
        system=system,
        start=start,
        max_tokens=max_tokens,
        samples=samples,
        title=source.text(t, where + "title") if (t := optional(fields, "title")) else "",
        source=source.text(t, where + "source") if (t := optional(fields, "source")) else common,
    )


def _paraphrases(
    fields: Mapping[str, Entry], where: str, reader: Reader, score: Score, one_direction: str
) -> dict[str, Any]:
    source = reader.source
    has_options = isinstance(score, LettersScore | ChoiceScore)

    def own(found: Template) -> str | None:
        if "persona" in found.names:
            return "not name {persona}|That belongs in ask_about."
        return common(found)

    def about(found: Template) -> str | None:
        if "persona" not in found.names:
            return "name {persona}|Else it isn't about anyone."
        return common(found)

    def common(found: Template) -> str | None:
        if "options" in found.names and not has_options:
            return "have no {options}|Only letters and choices have options."
        if "answer" in found.names or "question" in found.names:
            return "not name {answer} or {question}|These belong in a judge's prompt."
        return None

    texts = {
        name: reader.templates(optional(fields, name), where + name, allowed=own if name in _OWN else about)
        for name in ("ask", "ask_about", "ask_reversed", "ask_about_reversed")
    }
    for name, back in (("ask", "ask_reversed"), ("ask_about", "ask_about_reversed")):
        if isinstance(score, NumberScore) and texts[name] and not texts[back] and not one_direction:
            rule = f"have {back} too, since a scale is asked in both directions"
            fix = "Add wordings in which the scale's ends change places."
            raise source.error(fields[name].line, where.rstrip(": "), rule, "none", fix)
        if texts[back] and not isinstance(score, NumberScore):
            raise source.error(fields[back].line, where + back, "go with a number", "another type", "Leave it out.")
        if texts[back] and not texts[name]:
            raise source.error(fields[back].line, where + back, f"go with {name}", "none", f"Add {name}.")
    return texts


_OWN = ("ask", "ask_reversed")
