"""The folder of a file on a behaviour of one's own: what it names lies inside, and each file has its sha256 noted."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from gnothi.data.chat_jsonl import open_regular
from gnothi.errors import SpecError
from gnothi.files import file_digest
from gnothi.yaml_file import MOST_BYTES, Entry, Source


class Folder:
    """A YAML file's bytes, and the files that it names.

    Where digests are stated, every file is compared with its own before it is opened for reading: a run folder that
    came from somebody else learns and shows nothing of other files.
    """

    def __init__(self, path: Path, stated: Mapping[str, str] | None) -> None:
        """Read the YAML file's bytes.

        Args:
            path: The YAML file.
            stated: Path inside its folder -> sha256 that the file must have; None takes any.

        Raises:
            SpecError: It can't be read, or is not what was stated.
        """
        with open_regular(path) as file:
            self.raw = file.read(MOST_BYTES + 1)
        self.path, self.folder, self.stated = path, path.parent.resolve(), stated
        self.digests: dict[str, str] = {}
        self._note(path.name, hashlib.sha256(self.raw).hexdigest(), str(path))

    def inside(self, entry: Entry, field: str, source: Source) -> Path:
        """A path that the file states, as it can be opened from here.

        Raises:
            SpecError: It is absolute or leads out of the folder, be it by a link.
        """
        text = source.text(entry, field, most=300)
        found = None
        if text.isprintable() and not Path(text).is_absolute():
            try:
                found = (self.folder / text).resolve()
            except (OSError, RuntimeError):  # a loop of links
                found = None
        if found is None or not found.is_relative_to(self.folder):
            rule = "be a path inside the folder of this file"
            raise source.error(entry.line, field, rule, entry.shown(), "Put what it names beside this file.")
        return self.path.parent / text

    def file(self, entry: Entry, field: str, source: Source) -> Path:
        """A file that the file names, with its digest noted.

        Raises:
            SpecError: It lies elsewhere, is not there, or is not what was stated.
        """
        path = self.inside(entry, field, source)
        if not path.is_file():
            raise source.error(entry.line, field, "name a file that exists", entry.shown(), "Check the path.")
        self._note_file(path)
        return path

    def note_lists(self, entry: Entry, folder: Path) -> None:
        """Note word lists and system prompts that questions or a score take from files in a folder.

        Raises:
            SpecError: System prompts that lie elsewhere.
        """
        names = [n for n in _values(entry, "list") if n.endswith((".yaml", ".yml")) and n.isprintable()]
        for name in (*names, "systems.yaml"):
            path = folder / name
            if not path.is_file():
                continue
            if path.resolve().is_relative_to(self.folder):
                self._note_file(path)
            elif name == "systems.yaml":  # word lists are refused where questions are read, with their line
                raise SpecError(
                    f"{path} must lie inside the folder of {self.path}, got a link out of it. Put the file itself there."
                )

    def refuse_others(self) -> None:
        """Refuse a file that was stated and is no longer named.

        Raises:
            SpecError: There is one.
        """
        if self.stated is not None and set(self.stated) != set(self.digests):
            raise _edited(str(self.path))

    def _note_file(self, path: Path) -> None:
        open_regular(path).close()
        self._note(path.resolve().relative_to(self.folder).as_posix(), file_digest(path), str(path))

    def _note(self, name: str, digest: str, shown: str) -> None:
        if self.stated is not None and self.stated.get(name) != digest:
            raise _edited(shown)
        self.digests[name] = digest


def _edited(shown: str) -> SpecError:
    return SpecError(
        f"{shown} must be as it was when the run was started, got a file edited since. "
        "Put the old one back, or start a new run."
    )


def _values(entry: Entry, name: str) -> Iterator[str]:
    """Every text that stands under a field of this name, at any depth."""
    if isinstance(entry.value, dict):
        for key, value in entry.value.items():
            if key == name and isinstance(value.value, str):
                yield value.value
            yield from _values(value, name)
    elif isinstance(entry.value, list):
        for value in entry.value:
            yield from _values(value, name)
