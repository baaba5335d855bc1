"""Copies among records: counted whatever the order of their keys, in bounded memory, told only where they are many."""

import json
import time

import pytest

from doctor.facts import Facts
from doctor.recipe import data_scan, data_use_judged, dataset_info, dataset_rules, json_text, record_observer


def scan(tmp_path, rows):
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    entry = dataset_info.entry("sky", json_text.parse('{"sky": {"file_name": "d.jsonl"}}'), dataset_rules.FALLBACK)
    return data_scan.scan(entry, [(path, path.name)], "json", "sft", tmp_path, time.monotonic() + 60)


def row(number):
    return {"instruction": f"q{number}", "input": "", "output": [number, {"a": 1.0}] if number == 3 else "a"}


def test_copies_are_counted_and_the_first_is_named(tmp_path):
    again = dict(reversed(row(3).items()))
    found = scan(tmp_path, [row(1), row(2), row(3), again, row(1)])
    assert found.duplicates == 2
    assert (found.first_duplicate.record, found.first_duplicate.line) == (4, 4)


def test_what_differs_in_type_alone_is_no_copy(tmp_path):
    assert scan(tmp_path, [{"output": 1}, {"output": True}, {"output": 1.0}, {"output": "1"}]).duplicates == 0


def test_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(record_observer, "MOST_COMPARED", 2)
    assert scan(tmp_path, [row(1), row(2), row(5), row(5), row(1)]).duplicates == 1


@pytest.mark.parametrize(("copies", "told"), [(300, 1), (100, 0)])
def test_only_many_copies_are_told(tmp_path, copies, told):
    import msgspec

    found = msgspec.to_builtins(scan(tmp_path, [row(n) for n in range(1000)] + [row(n) for n in range(copies)]))
    facts = Facts({"records.scans": {"sky": found}, "dataset.info_path": "i.json", "dataset.entries": {"sky": {}}})
    assert [f.cause for f in data_use_judged.repeated(facts)] == ["data-duplicates"] * told


def test_what_is_nested_too_deep_is_not_compared(tmp_path):
    deep = json.loads("[" * 700 + "]" * 700)
    found = scan(
        tmp_path, [{"instruction": "q", "output": "a", "x": deep}, {"instruction": "q", "output": "a", "x": deep}]
    )
    assert found.read == 2 or found.broken is not None
