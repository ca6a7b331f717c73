import hashlib
import json
import os

import pytest

from gnothi.errors import ModelError, StoreError
from gnothi.models.model_cache import cache_folder, new_folder, remembered_digest

pytestmark = pytest.mark.usefixtures("caches")


def test_a_digest_is_computed_again_only_where_the_file_changed(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(b"a" * 9_000_000)
    os.utime(path, ns=(10**18, 10**18))
    first = remembered_digest(path)
    assert first == hashlib.sha256(path.read_bytes()).hexdigest()
    book = cache_folder().parent / "digests.json"
    assert json.loads(book.read_text()) == {str(path): [9_000_000, 10**18, first]}
    path.write_bytes(b"b" * 9_000_000)
    assert remembered_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest() != first
    assert json.loads(book.read_text())[str(path)][2] == first  # written just now: not to be trusted by its time yet
    book.write_text("{")
    assert remembered_digest(path) != first


def test_a_folder_is_whole_or_not_there(tmp_path):
    with pytest.raises(ModelError), new_folder(tmp_path / "made") as temporary:
        (temporary / "x").write_text("1")
        raise ModelError("broken off")
    assert not list(tmp_path.iterdir())
    for text in "12":
        with new_folder(tmp_path / "made") as temporary:
            (temporary / "x").write_text(text)
    assert [p.name for p in tmp_path.iterdir()] == ["made"] and (tmp_path / "made" / "x").read_text() == "2"
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"must be writable, got .* Free space, or set GNOTHI_CACHE to another"),
        new_folder(tmp_path / "file" / "below"),
    ):
        pass
