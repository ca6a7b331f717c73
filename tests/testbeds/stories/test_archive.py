import gzip
import io
import json
import tarfile

import pytest

from gnothi.errors import DataError
from gnothi.rng import stream
from gnothi.testbeds.stories.archive import load

MOST = {"pretraining": 100, "tuning": 100, "test": 100}


def row(story='Tom ran. He fell. "Oh no!" he said.', features=("Twist",), words=("run",)):
    return {"story": story, "summary": "Tom  runs.", "instruction": {"words": list(words), "features": list(features)}}


def archive(path, shards, extra=()):
    with tarfile.open(path, "w:gz") as out:
        for name, rows in shards.items():
            raw = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            out.addfile(member, io.BytesIO(raw))
        for member in extra:
            out.addfile(member)
    return path


def shards(n=6):
    return {f"data{i:02}.json": [row(f"Shard {i}. Story {j}.") for j in range(3)] for i in range(n)}


def test_the_first_shard_is_the_test_and_the_last_fifth_for_tuning(tmp_path):
    found = load(archive(tmp_path / "t.tar.gz", dict(reversed(shards().items()))), stream(0), MOST)
    assert {r.story.split(".")[0] for r in found.test} == {"Shard 0"}
    assert {r.story.split(".")[0] for r in found.pretraining} == {f"Shard {i}" for i in (1, 2, 3, 4)}
    assert {r.story.split(".")[0] for r in found.tuning} == {"Shard 5"}
    assert found.test[0].features == ("Twist",) and found.test[0].words == ("run",)
    assert found.test[0].summary == "Tom runs."


def test_sentences_are_drawn_from_those_without_quotes(tmp_path):
    rows = {f"{i}.json": [row() for _ in range(40)] for i in range(3)}
    found = load(archive(tmp_path / "t.tar.gz", rows), stream(0), MOST)
    assert {r.sentence for r in found.test} == {"Tom ran.", "He fell."}


def test_reading_stops_when_all_splits_are_full_and_empty_stories_are_counted(tmp_path):
    rows = shards()
    rows["data00.json"] = [row(" "), *rows["data00.json"]]
    found = load(archive(tmp_path / "t.tar.gz", rows), stream(0), {"pretraining": 5, "tuning": 2, "test": 1})
    assert [len(part) for part in (found.pretraining, found.tuning, found.test)] == [5, 2, 1]
    assert found.skipped == 1


def link(name, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    "rows, extra, message",
    [
        ({"../out.json": [row()]}, (), r"plain files with relative names, got '\.\./out\.json'"),
        ({"/out.json": [row()]}, (), "relative names, got '/out.json'"),
        (shards(), (link("data99.json"),), "plain files with relative names, got 'data99.json'"),
        (shards(), (link("pipe", tarfile.FIFOTYPE),), "plain files"),
        ({"readme.txt": b"hello"}, (), "at least 3 JSON shards, got 0"),
        ({**shards(), "data00.json": b"not json"}, (), r"data00\.json must be JSON"),
        ({**shards(), "data00.json": {"a": 1}}, (), r"data00\.json must be a list of records, got dict"),
        ({**shards(), "data00.json": [{"story": "A."}]}, (), "record 0 must have story, summary and instruction"),
        ({**shards(), "data00.json": [row(features=("Twits",))]}, (), "record 0.*Did you mean Twist"),
        ({**shards(), "data00.json": [row(features=(3,))]}, (), "record 0 must have story"),
        ({**shards(), "data00.json": []}, (), "must have records for test, got too few"),
    ],
)
def test_a_wrong_archive_gives_one_line_and_leaves_no_file(tmp_path, rows, extra, message):
    path = archive(tmp_path / "wrong.tar.gz", rows, extra)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=message) as caught:
        load(path, stream(0), MOST)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_files_that_are_no_archive_or_cut_off_are_refused(tmp_path):
    whole = archive(tmp_path / "t.tar.gz", shards()).read_bytes()
    broken = {
        "a.tar.gz": b"hello",
        "b.tar.gz": whole[: len(whole) // 2],
        "c.tar.gz": gzip.compress(b"x" * 2000),
        "d.tar.gz": b"",
    }
    for name, raw in broken.items():
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(DataError, match=r"must (be a whole \.tar\.gz|hold at least 3)"):
            load(tmp_path / name, stream(0), MOST)
    with pytest.raises(DataError, match="must be a file, got none"):
        load(tmp_path / "none.tar.gz", stream(0), MOST)


def test_instruct_text_is_read_whatever_the_order_of_lines(tmp_path):
    record = "Features: Dialogue, Badending\nWords: oak, run\nRandom sentence: He {i}.\nSummary: S.\nStory: \n\nOne {i}.\nTwo.\n"
    path = tmp_path / "train.txt"
    path.write_text("<|endoftext|>\n".join(record.replace("{i}", str(i)) for i in range(40)), encoding="utf-8")
    found = load(path, stream(0), MOST)
    assert [r.story for r in found.test] == ["One 0. Two.", "One 20. Two."]
    assert len(found.pretraining) == 30 and len(found.tuning) == 8
    assert found.test[0].features == ("Dialogue", "BadEnding") and found.test[0].sentence == "He 0."


@pytest.mark.parametrize(
    "raw, message",
    [
        (b"\xff\xfe\x00", "text in UTF-8"),
        (b"hello\n<|endoftext|>\nthere", "record 0 must have a line that begins with 'Story:'"),
        (b"Story: A.\nFeatures: X\n", "record 0"),
        (b"Story: A.\n", "must have records for pretraining, tuning"),
    ],
)
def test_a_wrong_text_file_gives_one_line(tmp_path, raw, message):
    (tmp_path / "x.txt").write_bytes(raw)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / "x.txt", stream(0), MOST)
    assert "\n" not in str(caught.value)
