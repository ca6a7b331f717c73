"""What stands under a folder of somebody's data: files by name, archives opened in place, nothing followed outside."""

import csv
import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gnothi.data.chat_jsonl import open_regular
from gnothi.errors import SpecError

MAX_FILES = 10_000
MAX_UNPACKED = 2_000_000_000
"""Bytes that one archive may unpack to; the largest published one is said to hold 250,000 rows."""
MAX_RATIO = 200
"""Most that a member may shrink: English JSON shrinks 3 to 30 times, a bomb thousands of times."""
MAX_TABLE = 10_000_000
ENDINGS = (".jsonl", ".csv", ".json")


@dataclass(frozen=True, slots=True)
class Found:
    """One file, or one member of an archive."""

    name: str
    """Path under the folder, with `/`; a member's is `archive.zip/member`."""
    path: Path
    """The file on disk; of a member, its archive."""
    member: str | None = None
    """Name inside the archive."""

    @property
    def ending(self) -> str:
        """`.jsonl`, `.csv` or `.json`."""
        return os.path.splitext(self.name)[1].lower()

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open it for reading.

        Raises:
            SpecError: It cannot be read, or the archive is damaged.
        """
        if self.member is None:
            with open_regular(self.path) as file:
                yield file
            return
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                yield file
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
            if isinstance(error, RecursionError):
                raise
            raise SpecError(f"{self.name} must be readable in its zip, got {error!s:.80}. Get it again.") from error


def find(directory: Path) -> tuple[list[Found], list[str]]:
    """List every file that might be read, by name.

    Args:
        directory: The folder; it may itself be reached by a link. Names that begin with a dot are passed over.

    Returns:
        Files in order of their names, and notes on what was left out: links that lead out of the folder.

    Raises:
        SpecError: No such folder, too many files, or an archive that is damaged, encrypted, or unpacks to too much.
    """
    if not directory.is_dir():
        raise SpecError(f"DIR must be a folder that exists, got {directory}. Check the path.")
    root = directory.resolve()
    found: list[Found] = []
    outside: list[str] = []
    for folder, folders, names in os.walk(directory):
        linked = [n for n in folders if os.path.islink(os.path.join(folder, n))]
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n not in linked)
        outside += [_under(directory, os.path.join(folder, n)) for n in linked]
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or not name.lower().endswith((*ENDINGS, ".zip")):
                continue
            under = _under(directory, path)
            if path.is_symlink() and not _inside(path, root):
                outside.append(under)
            elif name.lower().endswith(".zip"):
                found += _members(under, path)
            else:
                found.append(Found(under, path))
            if len(found) > MAX_FILES:
                raise SpecError(f"DIR must hold at most {MAX_FILES} files, got more. Name a folder further down.")
    named = ", ".join(_shown(name) for name in sorted(outside)[:5])
    notes = [f"not followed, since links may lead out of DIR: {named}"] if outside else []
    return sorted(found, key=lambda f: f.name), notes


def heading(file: Found) -> list[str]:
    """The cells of a CSV file's first line, whatever the file holds after it; what is no text becomes question marks."""
    with file.open() as stream:
        first = stream.readline(10_000)
    return [cell.strip().strip('"') for cell in first.decode("utf-8-sig", errors="replace").split(",")]


def table(file: Found) -> list[list[str]]:
    """The cells of a CSV file, without white space around them and without blank rows.

    Raises:
        SpecError: A file that is too large or no CSV in UTF-8.
    """
    with file.open() as stream:
        raw = stream.read(MAX_TABLE + 1)
    if len(raw) > MAX_TABLE:
        raise SpecError(f"{file.name} must have at most {MAX_TABLE} bytes, got more. Get the file again.")
    try:
        lines = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise SpecError(f"{file.name} must be CSV in UTF-8, got {error!s:.80}. Get the file again.") from error
    return [[cell.strip() for cell in row] for row in lines if any(cell.strip() for cell in row)]


def _members(under: str, path: Path) -> list[Found]:
    """Members of an archive that might be read, after a look at what it claims to unpack to."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            infos = [i for i in archive.infolist() if not i.is_dir()]
    except (zipfile.BadZipFile, EOFError, RuntimeError, OSError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"{under} must be a zip archive, got {error!s:.80}. Get it again.") from error
    if len(infos) > MAX_FILES or sum(i.file_size for i in infos) > MAX_UNPACKED:
        raise SpecError(
            f"{under} must unpack to at most {MAX_UNPACKED} bytes in {MAX_FILES} files, "
            f"got {sum(i.file_size for i in infos)} in {len(infos)}. Unpack what you trust of it beside it."
        )
    found = []
    for info in infos:
        name = info.filename
        if name.startswith("/") or ".." in re.split(r"[/\\]", name) or ":" in name or not name.isprintable():
            raise SpecError(f"{under} must hold plain relative names, got {name!r:.80}. Do not use this archive.")
        if not name.lower().endswith(ENDINGS) or re.search(r"(?:^|/)(?:\.|__MACOSX/)", name):
            continue
        if info.flag_bits & 1:
            raise SpecError(f"{under} must not be encrypted, got {name!r:.80}. Unpack it beside the archive.")
        if info.file_size > MAX_RATIO * max(info.compress_size, 1) and info.file_size > 1_000_000:
            raise SpecError(
                f"{under} must not shrink a file more than {MAX_RATIO} times, got {name!r:.80} with {info.file_size} "
                f"bytes in {info.compress_size}. Unpack it beside the archive if you trust it."
            )
        found.append(Found(f"{under}/{name}", path, name))
    if len({f.name for f in found}) < len(found):
        raise SpecError(f"{under} must name each file once, got one twice. Do not use this archive.")
    return found


def _shown(name: str) -> str:
    """A name that cannot move a terminal's cursor."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)


def _under(directory: Path, path: str | Path) -> str:
    return Path(path).relative_to(directory).as_posix()


def _inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # broken, or in a circle
        return False
