"""TinyStories, where the user has it: the archive of JSON shards, or the instruct text files.

Nothing is unpacked to disk: members are read one by one from the archive, and an archive whose members would lie outside
of a folder is refused. The split is the paper's: the first shard is the test set, of the others the first 80% are for
pretraining, the rest for fine-tuning and back. A text file has no shards; of each twenty records one is for the test, and
of the others the same shares.

Source: roneneldan/TinyStories (CDLA-Sharing-1.0) on the Hugging Face hub, `TinyStories_all_data.tar.gz`; splits as in the
code of arXiv:2311.12786. The archive has no `Sentence`: a random sentence of the story without quotes is taken, as there.
"""

import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gnothi.errors import DataError, GnothiError
from gnothi.testbeds.stories.records import Record, parse, sentences

END = "<|endoftext|>"
"""Between the records of an instruct file."""
PRETRAINING, TUNING, TEST = "pretraining", "tuning", "test"
SHARE = 0.8
"""Of the shards, or records, that are not the test's: pretraining."""
_LARGEST = 1 << 30  # bytes of one shard, far above the real ones
_ADVICE = "Give TinyStories_all_data.tar.gz as published, or an instruct text file."


@dataclass(frozen=True, slots=True)
class Splits:
    """Records by what they are for."""

    pretraining: list[Record] = field(default_factory=list)
    tuning: list[Record] = field(default_factory=list)
    test: list[Record] = field(default_factory=list)
    skipped: int = 0
    """Records without a story."""


def load(path: Path, rng: np.random.Generator, most: Mapping[str, int]) -> Splits:
    """Read an archive (`.tar.gz`) or an instruct file (anything else).

    Args:
        path: The file.
        rng: Which sentence is shown.
        most: Records of each split at most; reading ends when all are full.

    Raises:
        DataError: Not such a file, a member that is not safe, a record that is none, or a split without records.
    """
    if not path.is_file():
        raise DataError(f"{path} must be a file, got none. {_ADVICE}")
    found: dict[str, list[Record]] = {PRETRAINING: [], TUNING: [], TEST: []}
    skipped = 0
    for split, record in _archive(path, rng) if path.name.endswith((".tar.gz", ".tgz")) else _text(path):
        if record is None:
            skipped += 1
        elif len(found[split]) < most[split]:
            found[split].append(record)
        if all(len(found[name]) >= most[name] for name in found):
            break
    if empty := [name for name, records in found.items() if not records]:
        raise DataError(f"{path.name} must have records for {', '.join(empty)}, got too few. {_ADVICE}")
    return Splits(**found, skipped=skipped)


def _archive(path: Path, rng: np.random.Generator) -> Iterator[tuple[str, Record | None]]:
    """Records with their split, in the order of the archive."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            members = [m for m in archive.getmembers() if not m.isdir()]
            for member in members:
                _check(path, member)
            shards = sorted(m.name for m in members if m.name.endswith(".json"))
            if len(shards) < 3:
                raise DataError(f"{path.name} must hold at least 3 JSON shards, got {len(shards)}. {_ADVICE}")
            last = 1 + max(1, round(SHARE * (len(shards) - 1)))
            split_of = {name: TEST if i == 0 else PRETRAINING if i < last else TUNING for i, name in enumerate(shards)}
            split_of[shards[-1]] = TUNING
            for member in members:
                if member.name in split_of:
                    handle = archive.extractfile(member)
                    assert handle is not None  # a regular file, as checked
                    for record in _shard(f"{path.name}: {member.name}", handle.read(), rng):
                        yield split_of[member.name], record
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, GnothiError):
            raise
        raise DataError(
            f"{path.name} must be a whole .tar.gz archive, got one that cannot be read. {_ADVICE}"
        ) from error


def _check(path: Path, member: tarfile.TarInfo) -> None:
    """Refuse what is no plain file, lies outside, or is far too large."""
    name = PurePosixPath(member.name)
    if not member.isfile() or name.is_absolute() or ".." in name.parts or "\\" in member.name:
        raise DataError(f"{path.name} must hold plain files with relative names, got {member.name!r:.80}. {_ADVICE}")
    if member.size > _LARGEST:
        raise DataError(f"{path.name} must hold shards of at most 1 GiB, got {member.size} bytes. {_ADVICE}")


def _shard(where: str, raw: bytes, rng: np.random.Generator) -> Iterator[Record | None]:
    try:
        rows = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} must be JSON, got something else. {_ADVICE}") from error
    if not isinstance(rows, list):
        raise DataError(f"{where} must be a list of records, got {type(rows).__name__}. {_ADVICE}")
    for i, row in enumerate(rows):
        yield _record(f"{where}, record {i}", row, rng)


def _record(where: str, row: Any, rng: np.random.Generator) -> Record | None:
    """One row of a shard; None where its story is empty."""
    try:
        story, asked = row["story"], row["instruction"]
        words, named = asked["words"], asked["features"]
        summary = row.get("summary", "")
        if not all(isinstance(text, str) for text in (story, summary, *words, *named)):
            raise TypeError
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where} must have story, summary and instruction, got others. {_ADVICE}") from error
    story = " ".join(story.split())
    if not story:
        return None
    unquoted = [s for s in sentences(story) if '"' not in s]
    sentence = unquoted[int(rng.integers(len(unquoted)))] if unquoted else ""
    try:
        return Record(
            story=story,
            words=tuple(words),
            features=tuple(named),
            summary=" ".join(summary.split()),
            sentence=sentence,
        )
    except GnothiError as error:
        raise DataError(f"{where}: {error}") from error


def _text(path: Path) -> Iterator[tuple[str, Record | None]]:
    """Records of an instruct file with their split, read a line at a time."""
    block: list[str] = []
    count = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for line in _with_end(lines):
                if line.strip() != END:
                    block.append(line)
                    continue
                text = "".join(block).strip()
                block = []
                if not text:
                    continue
                split = TEST if count % 20 == 0 else PRETRAINING if count % 20 <= round(SHARE * 19) else TUNING
                count += 1
                yield split, _parsed(f"{path.name}, record {count - 1}", text)
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} must be text in UTF-8, got other bytes. {_ADVICE}") from error


def _with_end(lines: Iterator[str]) -> Iterator[str]:
    yield from lines
    yield END


def _parsed(where: str, text: str) -> Record | None:
    if text.rstrip().endswith("Story:"):
        return None
    try:
        return parse(text, where)
    except GnothiError as error:
        raise DataError(str(error) if str(error).startswith(where) else f"{where}: {error} {_ADVICE}") from error
