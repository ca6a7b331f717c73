"""What a question file's reader knows besides YAML: templates, lists of wordings, word lists."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from gnothi.render.questions.templates import Template, template
from gnothi.yaml_file import Entry, Source, optional, read_yaml

FOLDER = Path(__file__).parent
"""Where the package's own question files lie."""

_LIST_NAME = re.compile(r"[a-z0-9_]{1,60}")


@dataclass(frozen=True, slots=True)
class Reader:
    """A question file that is being read, and the folder that its word lists lie in."""

    source: Source
    folder: Path | None
    used: list[Path] = field(default_factory=list, compare=False)
    """Further files that were read for it, but for the package's own."""

    def template(
        self, entry: Entry, field: str, *, allowed: Callable[[Template], str | None] | None = None
    ) -> Template:
        """A text with slots; `allowed` says what is wrong with it."""
        text = self.source.text(entry, field)
        try:
            found = template(text)
        except ValueError as error:
            fix = "Write {name} for a placeholder, {{ and }} for braces."
            raise self.source.error(entry.line, field, "have well-formed placeholders", str(error), fix) from None
        if allowed and (wrong := allowed(found)):
            rule, _, fix = wrong.partition("|")
            raise self.source.error(entry.line, field, rule, f"{text!r:.60}", fix)
        return found

    def templates(
        self, entry: Entry | None, field: str, *, allowed: Callable[[Template], str | None] | None = None
    ) -> tuple[Template, ...]:
        """A list of texts with slots, no two the same; none where the field is left out."""
        if entry is None:
            return ()
        self.source.texts(entry, field)
        items = cast(list[Entry], entry.value)
        found = tuple(self.template(item, f"{field}[{i}]", allowed=allowed) for i, item in enumerate(items))
        seen: dict[str, int] = {}
        for i, (item, one) in enumerate(zip(items, found, strict=True)):
            if (first := seen.setdefault(" ".join(one.text.split()), i)) != i:
                got = f"the same as {field}[{first}]"
                raise self.source.error(item.line, f"{field}[{i}]", "be a wording of its own", got, "Leave it out.")
        return found


def no_word_twice(words: list[Template], line: int, field: str, source: Source) -> None:
    """Refuse a list in which a word stands twice, in whatever case."""
    seen = set()
    for word in words:
        plain = " ".join(word.text.casefold().split())
        if plain in seen:
            raise source.error(line, field, "list each word once", f"{plain!r:.60} again", "Keep one of them.")
        seen.add(plain)


def named_list(entry: Entry, field: str, reader: Reader) -> tuple[dict[Template, float], float | None]:
    """A word list by the package's name for it, or by a path inside the question file's folder."""
    name = reader.source.text(entry, field, most=200)
    if _LIST_NAME.fullmatch(name):
        path = FOLDER / "words" / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "no list"
            fix = "Choose one, or give a path that ends in .yaml."
            raise reader.source.error(entry.line, field, f"be one of {known}", f"{name!r:.60}", fix)
    else:
        folder = reader.folder.resolve() if reader.folder else None
        path = (folder / name).resolve() if folder and name.isprintable() else None
        if folder is None or path is None or not path.is_relative_to(folder) or Path(name).is_absolute():
            rule = "be a list's name, or a path inside the folder of the question file"
            raise reader.source.error(entry.line, field, rule, f"{name!r:.60}", "Put the list beside the questions.")
        if path.suffix not in (".yaml", ".yml"):
            raise reader.source.error(entry.line, field, "end in .yaml", f"{name!r:.60}", "Rename the list.")
        reader.used.append(path)
    return word_list(path)


def word_list(path: Path) -> tuple[dict[Template, float], float | None]:
    """Read a word list.

    Returns:
        Word -> 1, 0.5 or 0; and the score of words that are not in it, None if they have none.

    Raises:
        SpecError: Some of it breaks the format.
    """
    entry, source = read_yaml(path)
    fields = source.fields(entry, "the list", ("schema", "source", "unlisted", "plus", "neutral", "minus"))
    scores: dict[Template, float] = {}
    reader = Reader(source, None)
    for name, score in (("plus", 1.0), ("neutral", 0.5), ("minus", 0.0)):
        if (listed := optional(fields, name)) and listed.value != []:
            for word in reader.templates(listed, name):
                scores.setdefault(word, score)
                if scores[word] != score:
                    got = f"{word.text!r:.60} again"
                    raise source.error(listed.line, name, "hold words of its own", got, "Keep it in one list.")
    if not scores:
        raise source.error(entry.line, "the list", "hold words", "none", "Add `plus:` and `minus:` with words.")
    no_word_twice(list(scores), entry.line, "the list", source)
    given = optional(fields, "unlisted")
    return scores, None if given is None else source.number(given, "unlisted", 0, 1)
