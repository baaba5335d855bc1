"""The line that says how far a long reading is: in a terminal only, after a moment, and gone at the end."""

import io
import sys

import pytest

from doctor.commands import progress
from doctor.recipe import data_scan, dataset_info, dataset_rules, json_text


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "AFTER", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)


def test_a_terminal_sees_the_bytes_and_then_nothing(at_once, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = progress.Progress("en")
    shown.told("reading_data", 250_000_000, 1_000_000_000)
    assert "reading the data 250 / 1,000 MB" in sys.stderr.getvalue()
    shown.end()
    shown.told("reading_data", 500_000_000, 1_000_000_000)
    assert sys.stderr.getvalue().endswith("\r\x1b[2K")


def test_a_pipe_and_a_quick_reading_see_nothing(at_once, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    shown = progress.Progress("en")
    shown.told("reading_data", 1, 2)
    shown.end()
    assert sys.stderr.getvalue() == ""
    monkeypatch.setattr(progress, "AFTER", 60.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = progress.Progress("en")
    shown.told("reading_data", 1, 2)
    shown.end()
    assert sys.stderr.getvalue() == ""


def test_the_scan_tells_how_far_it_is(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"instruction": "q", "output": "a"}\n' * 50_000)
    entry = dataset_info.entry("d", json_text.parse('{"d": {"file_name": "d.jsonl"}}'), dataset_rules.FALLBACK)
    told = []
    data_scan.scan(entry, [(path, "d.jsonl")], "json", "sft", tmp_path, float("inf"), lambda *at: told.append(at))
    size = path.stat().st_size
    assert told == sorted(told)
    assert told[-1] == (size, size)
