"""The `score` of a question in a file: each type's fields, checked."""

import math
from collections.abc import Mapping

from gnothi.render.probe import LANGUAGES
from gnothi.render.questions.reading import Reader, named_list, no_word_twice
from gnothi.render.questions.scoring import (
    LETTERS,
    ChoiceScore,
    CodeScore,
    JudgeScore,
    LanguageScore,
    LettersScore,
    NumberScore,
    SaidScore,
    Score,
    TextScore,
    WordsScore,
)
from gnothi.render.questions.templates import Template
from gnothi.yaml_file import Entry, Source, optional

_SCORES: dict[str, tuple[str, ...]] = {
    "words": ("list", "scores", "unlisted", "whole"),
    "number": ("low", "high"),
    "letters": ("plus", "minus", "options"),
    "choice": ("options", "plus"),
    "language": ("plus", "minus", "unlisted"),
    "judge": ("prompt", "rule"),
    "code": ("function", "mentions", "arguments"),
    "text": (),
}


def read_score(entry: Entry, field: str, reader: Reader) -> Score:
    """Read a question's score.

    Raises:
        SpecError: Some of it breaks the format.
    """
    kind, fields = _typed(entry, field, reader.source, tuple(_SCORES))
    match kind:
        case "words":
            return _words(entry, fields, field, reader)
        case "number":
            return _number(entry, fields, field, reader.source)
        case "letters":
            return _letters(entry, fields, field, reader)
        case "choice":
            return _choice(entry, fields, field, reader)
        case "language":
            return _language(entry, fields, field, reader.source)
        case "judge":
            return _judge(entry, fields, field, reader)
        case "code":
            return _code(entry, fields, field, reader)
        case _:
            return TextScore()


def _typed(entry: Entry, field: str, source: Source, known: tuple[str, ...]) -> tuple[str, dict[str, Entry]]:
    every = tuple({name: None for kind in known for name in ("type", *_SCORES[kind])})
    fields = source.fields(entry, field, every, ("type",))
    kind = source.one_of(fields["type"], f"{field}.type", known)
    return kind, source.fields(entry, f"{field} of type {kind}", ("type", *_SCORES[kind]))


def _need(entry: Entry, fields: Mapping[str, Entry], field: str, source: Source, *names: str) -> list[Entry]:
    source.fields(entry, field, tuple(fields), names)
    return [fields[name] for name in names]


def _words(entry: Entry, fields: Mapping[str, Entry], field: str, reader: Reader) -> WordsScore:
    source = reader.source
    listed, inline = optional(fields, "list"), optional(fields, "scores")
    if (listed is None) == (inline is None):
        got = "neither" if listed is None else "both"
        raise source.error(entry.line, field, "have either list or scores", got, "Give one of the two.")
    unlisted: float | None = None
    if listed is not None:
        scores, unlisted = named_list(listed, f"{field}.list", reader)
    else:
        assert inline is not None
        if not isinstance(inline.value, dict) or not inline.value:
            fix = "Write `scores: {word: 1, other: 0}`."
            raise source.error(inline.line, f"{field}.scores", "be words with a score each", inline.shown(), fix)
        scores = {}
        for word, item in inline.value.items():
            found = reader.template(Entry(word, item.line), f"{field}.scores")
            scores[found] = source.number(item, f"{field}.scores[{word!r:.40}]", 0, 1)
        no_word_twice(list(scores), inline.line, f"{field}.scores", source)
    if "unlisted" in fields:
        given = fields["unlisted"]
        unlisted = None if given.value is None else source.number(given, f"{field}.unlisted", 0, 1)
    whole = source.boolean(w, f"{field}.whole") if (w := optional(fields, "whole")) else True
    return WordsScore(scores=scores, unlisted=unlisted, whole=whole)


def _number(entry: Entry, fields: Mapping[str, Entry], field: str, source: Source) -> NumberScore:
    low, high = _need(entry, fields, field, source, "low", "high")
    found = NumberScore(
        low=source.integer(low, f"{field}.low", -100_000, 100_000),
        high=source.integer(high, f"{field}.high", -100_000, 100_000),
    )
    if not 0 < found.high - found.low <= 1000:
        got = f"{found.low} and {found.high}"
        raise source.error(high.line, field, "have low < high, at most 1000 apart", got, "For example 0 and 100.")
    return found


def _letters(entry: Entry, fields: Mapping[str, Entry], field: str, reader: Reader) -> LettersScore:
    source = reader.source
    if (listed := optional(fields, "options")) is not None:
        if "plus" in fields or "minus" in fields:
            raise source.error(entry.line, field, "have options, or plus and minus", "both", "Keep one of the two.")
        texts, scores = _options(listed, f"{field}.options", reader)
        if len(texts) > len(LETTERS):
            rule = f"be at most {len(LETTERS)}"
            raise source.error(listed.line, f"{field}.options", rule, f"{len(texts)}", "Leave some out.")
        return LettersScore(options=texts, scores=scores)
    plus, minus = _need(entry, fields, field, source, "plus", "minus")
    options = (reader.template(plus, f"{field}.plus"), reader.template(minus, f"{field}.minus"))
    if options[0].text.split() == options[1].text.split():
        raise source.error(minus.line, f"{field}.minus", "differ from plus", minus.shown(), "Write the other option.")
    return LettersScore(options=options, scores=(1.0, 0.0))


def _options(entry: Entry, field: str, reader: Reader) -> tuple[tuple[Template, ...], tuple[float, ...]]:
    source = reader.source
    if not isinstance(entry.value, list) or len(entry.value) < 2:
        fix = "Write `- {text: ..., score: 1}` for each."
        raise source.error(entry.line, field, "be two or more options", entry.shown(), fix)
    texts, scores = [], []
    for i, item in enumerate(entry.value):
        parts = source.fields(item, f"{field}[{i}]", ("text", "score"), ("text", "score"))
        texts.append(reader.template(parts["text"], f"{field}[{i}].text"))
        scores.append(source.number(parts["score"], f"{field}[{i}].score", 0, 1))
    no_word_twice(texts, entry.line, field, source)
    if math.isclose(max(scores), min(scores)):
        fix = "Score the plus direction 1 and the other 0."
        raise source.error(entry.line, field, "have scores that differ", f"{scores[0]:g} for all", fix)
    return tuple(texts), tuple(scores)


def _choice(entry: Entry, fields: Mapping[str, Entry], field: str, reader: Reader) -> ChoiceScore:
    options, plus = _need(entry, fields, field, reader.source, "options", "plus")
    if isinstance(options.value, list):
        found: Template | tuple[Template, ...] = reader.templates(options, f"{field}.options")
    else:
        found = reader.template(options, f"{field}.options")
    return ChoiceScore(options=found, plus=reader.template(plus, f"{field}.plus"))


def _language(entry: Entry, fields: Mapping[str, Entry], field: str, source: Source) -> LanguageScore:
    plus, minus = (
        source.one_of(e, f"{field}.{n}", LANGUAGES)
        for e, n in zip(_need(entry, fields, field, source, "plus", "minus"), ("plus", "minus"), strict=True)
    )
    if plus == minus:
        raise source.error(entry.line, field, "name two languages", f"{plus} twice", "Change one of the two.")
    if "unlisted" not in fields:
        return LanguageScore(plus=plus, minus=minus)
    given = fields["unlisted"]
    unlisted = None if given.value is None else source.number(given, f"{field}.unlisted", 0, 1)
    return LanguageScore(plus=plus, minus=minus, unlisted=unlisted)


def _judge(entry: Entry, fields: Mapping[str, Entry], field: str, reader: Reader) -> JudgeScore:
    prompt, rule = _need(entry, fields, field, reader.source, "prompt", "rule")

    def shows_answer(found: Template) -> str | None:
        return None if "answer" in found.names else "name {answer}|That is where what was said goes."

    asked = reader.template(prompt, f"{field}.prompt", allowed=shows_answer)
    where = f"{field}.rule"
    kind, inner = _typed(rule, where, reader.source, ("words", "number", "letters", "text"))
    match kind:
        case "words":
            return JudgeScore(prompt=asked, inner=_words(rule, inner, where, reader))
        case "number":
            return JudgeScore(prompt=asked, inner=_number(rule, inner, where, reader.source))
        case "letters":
            found = _letters(rule, inner, where, reader)
            return JudgeScore(prompt=asked, inner=SaidScore(options=found.options, scores=found.scores))
        case _:
            return JudgeScore(prompt=asked, inner=TextScore())


def _code(entry: Entry, fields: Mapping[str, Entry], field: str, reader: Reader) -> CodeScore:
    source = reader.source
    (name,) = _need(entry, fields, field, source, "function")
    function = source.text(name, f"{field}.function", most=80)
    if not function.isidentifier():
        raise source.error(
            name.line, f"{field}.function", "be a Python name", name.shown(), "For example message_probability_me."
        )
    mentions, arguments = optional(fields, "mentions"), optional(fields, "arguments")
    if (mentions is None) == (arguments is None):
        got = "neither" if mentions is None else "both"
        raise source.error(entry.line, field, "have either mentions or arguments", got, "Give one of the two.")
    if mentions is not None:
        return CodeScore(function=function, mentions=reader.template(mentions, f"{field}.mentions"))
    assert arguments is not None
    if isinstance(arguments.value, list):
        return CodeScore(function=function, arguments=reader.templates(arguments, f"{field}.arguments"))

    def one_slot(found: Template) -> str | None:
        alone = len(found.parts) == 1 and found.parts[0][0] == "" and found.parts[0][1]
        return None if alone else 'be a list of texts or one "{placeholder}"|Fill it with a list.'

    return CodeScore(function=function, arguments=reader.template(arguments, f"{field}.arguments", allowed=one_slot))
