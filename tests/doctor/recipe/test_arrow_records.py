import sys
import time
from pathlib import Path

import pytest

from doctor.recipe import arrow_records, parquet_footer


def speaks(tmp_path, monkeypatch, *lines, seconds=0.0):
    """A child that says these lines and then sleeps."""
    child = tmp_path / "child.py"
    child.write_text(f"import time\nfor line in {lines!r}:\n    print(line, flush=True)\ntime.sleep({seconds})\n")
    monkeypatch.setattr(arrow_records, "_CHILD", child)
    return list(arrow_records.read(Path("a.arrow"), "arrow", Path(sys.executable), time.monotonic() + 5))


def test_records_and_their_end(tmp_path, monkeypatch):
    assert speaks(tmp_path, monkeypatch, '[{"a": 1}]', '[{"a": 2}]', '{"rows": 2}') == [[{"a": 1}], [{"a": 2}]]


def test_a_file_that_pyarrow_refuses(tmp_path, monkeypatch):
    with pytest.raises(parquet_footer.NotParquet, match="ArrowInvalid"):
        speaks(tmp_path, monkeypatch, '[{"a": 1}]', '{"broken": "ArrowInvalid: cut"}')


def test_a_child_that_says_nothing_has_not_read(tmp_path, monkeypatch):
    with pytest.raises(arrow_records.NotRead):
        speaks(tmp_path, monkeypatch)


def test_the_time_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    child = tmp_path / "child.py"
    child.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(arrow_records, "_CHILD", child)
    with pytest.raises(arrow_records.NotRead):
        list(arrow_records.read(Path("a.arrow"), "arrow", Path(sys.executable), 0.2))


def test_without_an_interpreter():
    with pytest.raises(arrow_records.NotRead):
        list(arrow_records.read(Path("a.arrow"), "arrow", None, 0.0))
