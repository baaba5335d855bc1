import os

import pytest

from doctor.recipe import source_cache


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "source.py"
    path.write_text("x = 1")
    return path


def test_read_once_until_the_source_changes(source):
    reads = []

    def read():
        reads.append(1)
        return {"n": len(reads)}

    assert source_cache.cached("t", [source], read, dict[str, int]) == {"n": 1}
    assert source_cache.cached("t", [source], read, dict[str, int]) == {"n": 1}
    source.write_text("x = 22")
    assert source_cache.cached("t", [source], read, dict[str, int]) == {"n": 2}


def test_a_damaged_cache_is_read_anew(source):
    source_cache.cached("t", [source], lambda: {"n": 1}, dict[str, int])
    for kept in source_cache.folder().iterdir():
        kept.write_bytes(b"\xff{")
    assert source_cache.cached("t", [source], lambda: {"n": 2}, dict[str, int]) == {"n": 2}


def test_works_without_a_place_to_write(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert source_cache.cached("t", [source], lambda: {"n": 3}, dict[str, int]) == {"n": 3}
    assert os.path.isfile(tmp_path / "file")
