import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from gnothi.errors import DataError, StoreError
from gnothi.files import cannot_write, digest, file_digest, read_table, write_atomically, write_table
from gnothi.records import Estimate
from gnothi.store import RunFolder

SPEC = {"experiment": "preferences", "seed": 1, "model": "größe"}
ESTIMATE = Estimate(name="a.b", arm="tuned", value=0.5, low=0.1, high=0.9, n=3, n_points=30, method="t over units")


def make_unit(run, name="tuned-0", key="key", rows=({"x": 1, "text": "é"},)):
    with run.writing(name, key) as folder:
        write_table(folder / "choices.parquet", list(rows))
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights.bin").write_bytes(b"1234" * 100)
        (folder / "record.json").write_text(json.dumps({"arm": "tuned"}))


@pytest.fixture
def run(tmp_path):
    found = RunFolder.create(tmp_path / "run", SPEC)
    make_unit(found)
    found.finish([ESTIMATE], {"failed": []})
    return found


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_run_is_read_back_as_it_was_written(run):
    again = RunFolder.open(run.path)
    assert again.spec == SPEC and again.finished and again.units() == ["tuned-0"]
    assert again.estimates() == [ESTIMATE]
    assert again.table("tuned-0", "choices").to_dict("records") == [{"x": 1, "text": "é"}]
    assert again.has("tuned-0", "key") and not again.has("tuned-1", "key")
    assert again.read_unit("tuned-0")["arm"] == "tuned"


def test_a_unit_that_failed_leaves_nothing(tmp_path):
    run = RunFolder.create(tmp_path / "run", SPEC)
    with pytest.raises(ZeroDivisionError), run.writing("tuned-0", "key") as folder:
        (folder / "choices.parquet").write_text("half")
        raise ZeroDivisionError
    assert names(run.path) == ["spec.json", "units"]


def test_a_folder_is_opened_again_only_with_the_same_spec(tmp_path):
    RunFolder.create(tmp_path / "run", SPEC)
    assert RunFolder.create(tmp_path / "run", dict(SPEC)).spec == SPEC
    with pytest.raises(StoreError, match=r"another spec \(it differs in more, seed\).*gnothi resume"):
        RunFolder.create(tmp_path / "run", {**SPEC, "seed": 2, "more": None} | {"more": 1})


def test_out_must_be_a_folder_that_is_new_or_empty(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    before = names(tmp_path)
    with pytest.raises(StoreError, match="must name a folder, got the file"):
        RunFolder.create(tmp_path / "file", SPEC)
    with pytest.raises(StoreError, match="with other files in it"):
        RunFolder.create(tmp_path / "full", SPEC)
    with pytest.raises(StoreError, match="Not a directory"):
        RunFolder.create(tmp_path / "file" / "below", SPEC)
    with pytest.raises(StoreError, match="File name too long"):
        RunFolder.create(tmp_path / ("x" * 300), SPEC)
    assert names(tmp_path) == before


@pytest.mark.parametrize("left", [(), (".spec.json.17.tmp",), ("spec.json",)])
def test_a_process_killed_while_it_made_the_folder_leaves_no_dead_end(tmp_path, left):
    path = tmp_path / "run"
    whole = RunFolder.create(path, SPEC).path / "spec.json"
    text = whole.read_text()
    shutil.rmtree(path)
    path.mkdir()
    for name in left:
        (path / name).write_text(text if name == "spec.json" else text[:20])
    run = RunFolder.create(path, SPEC)
    with run.lock():
        run.sweep()
    make_unit(run)
    assert run.units() == ["tuned-0"] and not list(path.glob(".*.tmp"))


def test_what_cannot_be_stored_is_refused_before_anything_is_written(tmp_path):
    for value in (float("nan"), "a\udcff"):
        with pytest.raises(DataError, match="finite numbers and valid Unicode"):
            RunFolder.create(tmp_path / "run", {**SPEC, "x": value})
    assert names(tmp_path) == []
    with pytest.raises(DataError, match="same columns in every row"):
        write_table(tmp_path / "t.parquet", [{"a": 1}, {"a": 1, "b": 2}])
    with pytest.raises(DataError, match="one type in each column"):
        write_table(tmp_path / "t.parquet", [{"a": 1}, {"a": "x"}])
    with pytest.raises(DataError, match="one type in each column"):
        write_table(tmp_path / "t.parquet", [{"a": "\ud800"}])


EDITS = {  # file, what is done to it, what is said, what mends it
    "spec edited": (
        "spec.json",
        lambda b: b.replace(b'"seed": 1', b'"seed": 2'),
        "edited by hand. Put the old one back",
    ),
    "spec cut": ("spec.json", lambda b: b[:40], "does not parse. Put the old one back"),
    "spec a list": ("spec.json", lambda b: b"[]", "does not parse"),
    "spec of the future": ("spec.json", lambda b: b.replace(b'version": 1', b'version": 9'), "schema version 1, got 9"),
    "unit edited": ("units/tuned-0/unit.json", lambda b: b.replace(b'"tuned"', b'"other"'), "edited by hand. Delete"),
    "unit a list": ("units/tuned-0/unit.json", lambda b: b"[]", "none that parses. Delete"),
    "unit cut": ("units/tuned-0/unit.json", lambda b: b[:30], "none that parses. Delete"),
    "table flipped": (
        "units/tuned-0/choices.parquet",
        lambda b: b[:99] + bytes([b[99] ^ 1]) + b[100:],
        "an altered file",
    ),
    "table cut": ("units/tuned-0/choices.parquet", lambda b: b[:50], "an altered file. Delete that unit's folder"),
    "adapter flipped": ("units/tuned-0/adapter/weights.bin", lambda b: b[:-1] + b"x", "an altered file"),
    "closing record edited": (
        "run.json",
        lambda b: b.replace(b'"failed": []', b'"failed": 0'),
        "by hand. Delete run.json",
    ),
    "closing record cut": ("run.json", lambda b: b[:10], "none that parses. Delete run.json"),
    "closing record a list": ("run.json", lambda b: b"[1]", "none that parses. Delete run.json"),
    "estimates flipped": ("estimates.parquet", lambda b: b[:99] + bytes([b[99] ^ 1]) + b[100:], "an altered file"),
    "estimates cut": ("estimates.parquet", lambda b: b[:99], "an altered file. Delete run.json"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_every_file_that_numbers_rest_on_is_checked(run, edit):
    name, change, said = edit
    path = run.path / name
    old = path.read_bytes()
    path.write_bytes(change(old))
    assert path.read_bytes() != old
    with pytest.raises(StoreError, match=said) as caught:
        RunFolder.open(run.path).estimates()
    assert name in str(caught.value) and "\n" not in str(caught.value)
    path.write_bytes(old)
    assert RunFolder.open(run.path).estimates() == [ESTIMATE]


def test_what_is_missing_or_was_put_there_is_named(run):
    shutil.copytree(run.path / "units/tuned-0", run.path / "units/tuned-9")
    with pytest.raises(StoreError, match=r"units/tuned-9 .*put there later. Take it out"):
        run.verify()
    shutil.rmtree(run.path / "units/tuned-9")
    (run.path / "units/tuned-0/choices.parquet").unlink()
    with pytest.raises(
        StoreError, match=r"choices.parquet .* got no such file. Delete that unit's folder and run.json"
    ):
        run.verify()
    shutil.rmtree(run.path / "units/tuned-0")
    with pytest.raises(StoreError, match=r"units/tuned-0 must be there.*Delete run.json and resume"):
        run.verify()
    (run.path / "estimates.parquet").unlink()
    with pytest.raises(StoreError, match=r"estimates.parquet .* no such file. Delete run.json and resume"):
        run.verify()
    (run.path / "run.json").unlink()
    with pytest.raises(StoreError, match=r"must be a finished run.*gnothi resume"):
        run.verify()


def test_a_unit_of_something_else_is_refused(run):
    with pytest.raises(StoreError, match="made from this run's spec, model and version"):
        run.has("tuned-0", "another key")
    for name in ("", "../x", ".hidden"):
        with pytest.raises(StoreError, match="plain word"):
            run.unit_path(name)


def test_a_link_in_a_run_folder_leads_nowhere(run, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".profile").write_text("mine")
    shutil.rmtree(run.path / "units")
    (run.path / "units").symlink_to(tmp_path / "home")
    with pytest.raises(StoreError, match="units must be a file or folder of the run itself, got a link"):
        RunFolder.open(run.path)
    with pytest.raises(StoreError, match="got a link"):
        RunFolder.create(run.path, SPEC)
    (run.path / ".lock").unlink(missing_ok=True)
    (run.path / ".lock").symlink_to(tmp_path / "home" / ".profile")
    with pytest.raises(StoreError, match="must be writable"), run.lock():
        pass
    assert (tmp_path / "home" / ".profile").read_text() == "mine"


def test_a_second_writer_is_refused_and_a_third_comes_in_when_the_first_is_gone(run, monkeypatch):
    monkeypatch.setattr("gnothi.store._WAIT", 0.1)
    other = RunFolder.open(run.path)
    with run.lock(), pytest.raises(StoreError, match="one process at a time"), other.lock():
        pass
    monkeypatch.setattr("gnothi.store._WAIT", 5.0)
    release = threading.Event()

    def first():
        with run.lock():
            release.wait(5)

    holder = threading.Thread(target=first)
    holder.start()
    threading.Timer(0.3, release.set).start()
    with other.lock():  # waits for it
        assert release.is_set()
    holder.join()


def test_two_estimates_of_one_name_and_arm_are_refused(tmp_path):
    run = RunFolder.create(tmp_path / "run", SPEC)
    with pytest.raises(StoreError, match=r"one row a \(name, arm\)"):
        run.finish([ESTIMATE, ESTIMATE], {})
    assert names(run.path) == ["spec.json", "units"]


def test_a_table_of_another_version_or_no_table_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    with pytest.raises(StoreError, match="must exist"):
        read_table(path)
    path.write_bytes(b"PAR1" + b"\0" * 50)
    with pytest.raises(StoreError, match="whole Parquet file"):
        read_table(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(StoreError, match="schema version 1, got none"):
        read_table(path)
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"gnothi_schema_version": "99"}), path)
    with pytest.raises(StoreError, match="schema version 1, got 99"):
        read_table(path)


LIMITED = """
import sys
from pathlib import Path
from gnothi.errors import GnothiError
from gnothi.files import write_atomically, write_table
from gnothi.store import RunFolder
folder, what = Path(sys.argv[1]), sys.argv[2]
try:
    if what == "run":
        RunFolder.create(folder / "new" , {"experiment": "x" * 9000})
    run = RunFolder.create(folder / "run", {"experiment": "x"})
    if what == "unit":
        with run.writing("tuned-0", "key") as unit:
            write_table(unit / "choices.parquet", [{"x": i * 0.1} for i in range(9000)])
    if what == "record":
        with run.writing("tuned-0", "key") as unit:
            (unit / "record.json").write_text("[" + "1," * 9000)
    if what == "tensors":
        import numpy as np
        from safetensors.numpy import save_file
        with run.writing("tuned-0", "key") as unit:
            save_file({"x": np.zeros(90000)}, unit / "adapter.safetensors")
    if what == "page":
        write_atomically(folder / "run" / "report.html", "x" * 9000)
except GnothiError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("what", ["run", "unit", "record", "tensors", "page"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, what):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    command = [sys.executable, "-c", LIMITED, str(tmp_path), what]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "must be writable, got File too large. Free space" in done.stderr
    left = [n for n in names(tmp_path) if n not in ("run", "run/spec.json", "run/units")]
    assert not left


def test_writing_atomically_replaces_and_says_which_file(tmp_path):
    write_atomically(tmp_path / "a", "one")
    write_atomically(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two" and names(tmp_path) == ["a"]
    with pytest.raises(StoreError, match=r"b/a must be writable, got No such file or directory"):
        write_atomically(tmp_path / "b" / "a", "x")
    assert "got No space left on device." in str(cannot_write(tmp_path, OSError("Detail: [errno 28] whatever")))
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1}) != digest({"a": 2})
    assert file_digest(tmp_path / "a") == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"


def test_sweeping_takes_temporaries_and_nothing_else(run):
    os.makedirs(run.path / "units" / ".tuned-1.abc" / "adapter")
    (run.path / ".estimates.parquet.9.tmp").write_text("x")
    (run.path / ".figures.tmp").mkdir()
    before = run.verify()
    with run.lock():
        run.sweep()
    assert run.verify() == before
    assert not [n for n in names(run.path) if "/." in n or n.endswith(".tmp")]
