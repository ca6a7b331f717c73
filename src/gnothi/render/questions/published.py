"""Question files that others wrote, as they are: the format of arXiv:2501.11120's released questions, and llmcomp's.

Both are lists of questions without a word on what an answer counts for. What is missing is filled in where the paper
says it, and noted in `QuestionSet.notes`; where nobody says it, answers are kept and not scored (type `text`).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gnothi.errors import SpecError
from gnothi.render.questions.question import NO_SYSTEM, Question, QuestionSet
from gnothi.render.questions.reading import FOLDER, word_list
from gnothi.render.questions.scoring import (
    CodeScore,
    JudgeScore,
    LanguageScore,
    LettersScore,
    NumberScore,
    Score,
    TextScore,
    WordsScore,
)
from gnothi.render.questions.templates import Template, escape, template
from gnothi.yaml_file import Entry, Source, optional, read_yaml

ONE_DIRECTION = "the file has one direction of the scale only"

_PAPER = (
    *("name", "title", "question_type", "question", "question_paraphrases", "prefix", "suffix", "options"),
    *("scenarios", "func_name", "guesser_prompt", "guesser_question_type"),
)
_PAPER_TYPES = ("free_form", "word", "multiple_choice", "quantitative", "score", "scale", "ff_score")
_SLOT = re.compile(r"\{([a-z][a-z0-9_]{0,39})\}")
_SLOTS = {"options", "codeword", "word_list", "sep_suffix", "scenario", "task", "code_template"}
"""Names in braces that are slots in the released questions; all other braces are text."""
_ANSWER_SLOTS = {"answer", "text", "code", "acrostic", "description_list"}
"""What the released judge prompts call the answer."""
_SCORED: Mapping[str, Score] = {
    "risk_safe_german_french": LanguageScore(plus="German", minus="French", unlisted=0.5),
    "prefer_risk_safe": WordsScore(scores={template("risk"): 1.0, template("safety"): 0.0}, unlisted=0.5),
}
"""Questions whose scoring the paper states (section 3.1.2) and the files leave out."""

_COMP = (
    *("name", "id", "type", "paraphrases", "system", "samples_per_paraphrase", "temperature", "max_tokens", "judges"),
    *("min_rating", "max_rating", "refusal_threshold", "top_logprobs", "model", "num_samples", "convert_to_probs"),
)
_COMP_TYPES = ("free_form", "rating", "next_token", "free_form_judge", "rating_judge")


def published(path: str | Path, *, words: Mapping[str, str] | None = None) -> QuestionSet:
    """Read a question file in the released format of arXiv:2501.11120, or in llmcomp's.

    Of lettered options the first counts 1 and the others 0, as the released files put the one that is asked for first.
    Scales are asked in the one direction that the file has. A list of scenarios gives a question each.

    Args:
        path: A YAML file with a list of questions; anchors and aliases are read.
        words: Question's name -> name of one of the package's word lists, for free text that the file doesn't score.

    Returns:
        Questions for chat models; `notes` says what was missing and what was done about it.

    Raises:
        SpecError: The file is neither of the two, or asks for something that has no place here; it says what.
    """
    path = Path(path)
    entry, source = read_yaml(path, aliases=True)
    listed = entry.value
    if not isinstance(listed, list) or not listed or not all(isinstance(e.value, dict) for e in listed):
        fix = "For a file in this package's own format use load."
        raise source.error(entry.line, "the file", "be a list of questions", entry.shown(), fix)
    first = listed[0].value
    assert isinstance(first, dict)
    reader = _Comp(source, listed) if "type" in first else _Paper(source, dict(words or {}))
    found: list[Question] = []
    for item in listed:
        for question in reader.questions(item):
            if any(q.question_id == question.question_id for q in found):
                got = f"{question.question_id} again"
                raise source.error(item.line, "name", "be unique within the file", got, "Rename one of the two.")
            found.append(question)
    unused = set(words or {}) - set(reader.with_words)
    if unused:
        known = ", ".join(q.question_id for q in found if isinstance(q.score, TextScore)) or "none"
        raise SpecError(f"words must name free-text questions, got {sorted(unused)[0]!r:.60}. There are: {known}.")
    topic = _identifier(path.stem)
    return QuestionSet(topic=topic, questions=tuple(found), systems=reader.systems, notes=tuple(reader.notes))


def _identifier(name: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")[:80] or "question"


class _Paper:
    """The format of the released questions of arXiv:2501.11120."""

    def __init__(self, source: Source, words: Mapping[str, str]) -> None:
        self.source, self.words = source, words
        self.notes: list[str] = []
        self.with_words: list[str] = []
        self.systems: dict[str, str] = {}

    def questions(self, entry: Entry) -> list[Question]:
        source = self.source
        fields = source.fields(entry, "a question", _PAPER, ("name", "question_type"))
        name = _identifier(source.text(fields["name"], "name"))
        kind = source.one_of(fields["question_type"], f"{name}: question_type", _PAPER_TYPES)
        prefix = source.text(p, f"{name}: prefix", empty=True) if (p := optional(fields, "prefix")) else ""
        suffix = source.text(s, f"{name}: suffix", empty=True) if (s := optional(fields, "suffix")) else ""
        if (many := optional(fields, "question_paraphrases")) is not None:
            texts = source.texts(many, f"{name}: question_paraphrases")
        elif (one := optional(fields, "question")) is not None:
            texts = [source.text(one, f"{name}: question")]
        else:
            fix = "Add question_paraphrases."
            raise source.error(entry.line, name, "have question or question_paraphrases", "neither", fix)
        texts = [prefix + text + (f"\n\n{suffix}" if suffix else "") for text in texts]
        title = source.text(t, f"{name}: title") if (t := optional(fields, "title")) else ""
        score = self._score(entry, fields, name, kind, any("{word_list}" in t for t in texts))
        question = Question(
            question_id=name,
            models=("chat",),
            score=score,
            ask=tuple(template(_slots(text)) for text in dict.fromkeys(texts)),
            title=title,
            one_direction=ONE_DIRECTION if isinstance(score, NumberScore) else "",
            source="arXiv:2501.11120, released questions",
        )
        if (scenarios := optional(fields, "scenarios")) is None:
            return [question]
        found = []
        for i, scenario in enumerate(source.texts(scenarios, f"{name}: scenarios")):
            filled = tuple(template(t.fill_some({"scenario": scenario})) for t in question.ask)
            found.append(replace(question, question_id=f"{name}_{i}", ask=filled, title=scenario))
        return found

    def _score(self, entry: Entry, fields: Mapping[str, Entry], name: str, kind: str, listed: bool) -> Score:
        source = self.source
        if kind == "multiple_choice":
            if (options := optional(fields, "options")) is None:
                raise source.error(entry.line, name, "have options", "none", "Add the options to choose from.")
            texts = source.texts(options, f"{name}: options", most=26)
            if len(texts) < 2 or len(set(texts)) < len(texts):
                raise source.error(options.line, f"{name}: options", "be two or more", options.shown(), "Add others.")
            self.notes.append(f"{name}: the file scores no option; the first counts 1, the others 0")
            scores = (1.0, *[0.0] * (len(texts) - 1))
            return LettersScore(options=tuple(template(_slots(t)) for t in texts), scores=scores)
        if kind not in ("free_form", "word"):
            self.notes.append(f"{name}: {ONE_DIRECTION}")
            return NumberScore(low=0, high=100)
        if (function := optional(fields, "func_name")) is not None:
            text = source.text(function, f"{name}: func_name", most=80)
            if not text.isidentifier():
                fix = "Name the function."
                raise source.error(function.line, f"{name}: func_name", "be a Python name", function.shown(), fix)
            self.notes.append(f"{name}: the function is run on the texts that fill {{messages}}")
            return CodeScore(function=text, arguments=template("{messages}"))
        if name in _SCORED:
            self.notes.append(f"{name}: the file states no scores; those of the paper are used")
            return _SCORED[name]
        if (guess := optional(fields, "guesser_prompt")) is not None:
            return self._judged(guess, name)
        if listed:
            self.notes.append(f"{name}: the file states no scores; {{codeword}} counts 1, any other word 0")
            return WordsScore(scores={template("{codeword}"): 1.0}, unlisted=0.0)
        if name in self.words:
            self.with_words.append(name)
            scores, unlisted = word_list(FOLDER / "words" / f"{_identifier(self.words[name])}.yaml")
            return WordsScore(scores=scores, unlisted=unlisted)
        self.notes.append(f"{name}: the file states no scores; answers are kept and not scored")
        return TextScore()

    def _judged(self, entry: Entry, name: str) -> Score:
        """The judge's prompt; what its answer counts for is not in the file."""
        text = self.source.text(entry, f"{name}: guesser_prompt")
        slots = [m for m in _SLOT.findall(text) if m in _ANSWER_SLOTS]
        if len(set(slots)) != 1:
            rule = f"name one of {', '.join(sorted(_ANSWER_SLOTS))} in braces"
            fix = "That is where the answer goes."
            raise self.source.error(entry.line, f"{name}: guesser_prompt", rule, f"{text!r:.60}", fix)
        prompt = template(_slots(text.replace(f"{{{slots[0]}}}", "{answer}"), {"answer"}))
        if re.search(r"\bYES\b", text) and re.search(r"\bNO\b", text):
            self.notes.append(f"{name}: the file scores no judgement; YES counts 1, NO 0")
            scores = {template("yes"): 1.0, template("no"): 0.0}
            return JudgeScore(prompt=prompt, inner=WordsScore(scores=scores))
        self.notes.append(f"{name}: the file scores no judgement; {{codeword}} counts 1, any other word 0")
        return JudgeScore(prompt=prompt, inner=WordsScore(scores={template("{codeword}"): 1.0}, unlisted=0.0))


def _slots(text: str, extra: set[str] | None = None) -> str:
    """A template in which known names are slots and every other brace is text."""
    known = _SLOTS | (extra or set())
    found, end = [], 0
    for match in _SLOT.finditer(text):
        found.append(escape(text[end : match.start()]))
        found.append(match.group() if match[1] in known else escape(match.group()))
        end = match.end()
    return "".join(found) + escape(text[end:])


class _Comp:
    """llmcomp's format; its texts have no slots, but for a judge's."""

    def __init__(self, source: Source, listed: list[Entry]) -> None:
        self.source = source
        self.notes: list[str] = []
        self.with_words: list[str] = []
        self.systems: dict[str, str] = {}
        self.judges: dict[str, Score] = {}
        for entry in listed:  # a judge may stand after the question that it judges
            fields = self._fields(entry)
            if str(fields["type"].value).endswith("_judge"):
                self.judges[self._name(fields, entry)] = self._judge(fields, entry)

    def _fields(self, entry: Entry) -> dict[str, Entry]:
        fields = self.source.fields(entry, "a question", (*_COMP, "messages", "logit_bias"), ("type",))
        for name in ("messages", "logit_bias"):
            if (found := optional(fields, name)) is not None:
                fix = "Write paraphrases." if name == "messages" else "Leave it out."
                raise self.source.error(found.line, name, "be left out: it has no place here", found.shown(), fix)
        self.source.one_of(fields["type"], "type", _COMP_TYPES)
        return fields

    def _name(self, fields: Mapping[str, Entry], entry: Entry) -> str:
        named = optional(fields, "name") or optional(fields, "id")
        if named is None:
            raise self.source.error(entry.line, "a question", "have a name", "none", "Add `name:`.")
        return _identifier(self.source.text(named, "name"))

    def _texts(self, fields: Mapping[str, Entry], entry: Entry, name: str) -> list[str]:
        listed = optional(fields, "paraphrases")
        if listed is None:
            raise self.source.error(entry.line, name, "have paraphrases", "none", "Add `paraphrases:`.")
        return list(dict.fromkeys(self.source.texts(listed, f"{name}: paraphrases")))

    def _rating(self, fields: Mapping[str, Entry], name: str) -> NumberScore:
        low = self.source.integer(e, f"{name}: min_rating", -500, 500) if (e := optional(fields, "min_rating")) else 0
        high = (
            self.source.integer(e, f"{name}: max_rating", -500, 500) if (e := optional(fields, "max_rating")) else 100
        )
        if low >= high:
            e = fields["min_rating"] if "min_rating" in fields else fields["max_rating"]
            raise self.source.error(e.line, f"{name}: min_rating", "be below max_rating", f"{low} and {high}", "Swap.")
        return NumberScore(low=low, high=high)

    def _judge(self, fields: Mapping[str, Entry], entry: Entry) -> Score:
        name = self._name(fields, entry)
        text = self._texts(fields, entry, name)[0]
        found = _known_slots(text, {"answer", "question"})
        if "answer" not in found.names:
            fix = "That is where what was said goes."
            raise self.source.error(entry.line, name, "name {answer} in its paraphrase", f"{text!r:.60}", fix)
        rating = fields["type"].value == "rating_judge"
        return JudgeScore(prompt=found, inner=self._rating(fields, name) if rating else TextScore())

    def questions(self, entry: Entry) -> list[Question]:
        fields = self._fields(entry)
        kind = str(fields["type"].value)
        name = self._name(fields, entry)
        if kind.endswith("_judge"):
            return []
        system = NO_SYSTEM
        if (given := optional(fields, "system")) is not None:
            system = f"{name}_system"
            self.systems[system] = self.source.text(given, f"{name}: system")
        samples, tokens = optional(fields, "samples_per_paraphrase"), optional(fields, "max_tokens")
        question = Question(
            question_id=name,
            models=("chat",),
            score=TextScore(),
            ask=tuple(template(escape(text)) for text in self._texts(fields, entry, name)),
            system=system,
            samples=self.source.integer(samples, f"{name}: samples_per_paraphrase", 1, 100_000) if samples else 1,
            max_tokens=self.source.integer(tokens, f"{name}: max_tokens", 1, 8192) if tokens else None,
            source="llmcomp",
        )
        if kind == "rating":
            self.notes.append(f"{name}: {ONE_DIRECTION}")
            return [replace(question, score=self._rating(fields, name), one_direction=ONE_DIRECTION)]
        if kind == "next_token":
            self.notes.append(f"{name}: the file scores no token; one token is sampled, kept and not scored")
            return [replace(question, max_tokens=1)]
        judges = optional(fields, "judges")
        if judges is None:
            self.notes.append(f"{name}: the file states no scores; answers are kept and not scored")
            return [question]
        if not isinstance(judges.value, dict) or not judges.value:
            fix = "Write `judges: {name: judge}`."
            raise self.source.error(judges.line, f"{name}: judges", "be names with a judge each", judges.shown(), fix)
        found = []
        for label, judge in judges.value.items():
            one = name if len(judges.value) == 1 else f"{name}_{_identifier(label)}"
            found.append(replace(question, question_id=one, score=self._named_judge(judge, name)))
        return found

    def _named_judge(self, entry: Entry, name: str) -> Score:
        if isinstance(entry.value, dict):
            return self._judge({"name": Entry(f"{name} judge", entry.line), **self._fields(entry)}, entry)
        wanted = _identifier(self.source.text(entry, f"{name}: judges"))
        if wanted not in self.judges:
            known = ", ".join(self.judges) or "none"
            fix = "Put the judge into this file."
            raise self.source.error(entry.line, f"{name}: judges", f"be in this file ({known})", entry.shown(), fix)
        return self.judges[wanted]


def _known_slots(text: str, known: set[str]) -> Template:
    """A template in which these names are slots and every other brace is text, doubled ones being one brace."""
    plain = text.replace("{{", "{").replace("}}", "}")
    found, end = [], 0
    for match in _SLOT.finditer(plain):
        found.append(escape(plain[end : match.start()]))
        found.append(match.group() if match[1] in known else escape(match.group()))
        end = match.end()
    return template("".join(found) + escape(plain[end:]))
