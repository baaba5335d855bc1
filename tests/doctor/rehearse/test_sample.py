"""Which records are taken, and how they are written."""

import json
import time

import msgspec
import pytest

from doctor.recipe.dataset_info import Entry
from doctor.rehearse import sample

TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant",
        "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system"}  # fmt: skip
ENTRY = Entry(
    name="sky", load_from="file", source="sky.json", formatting="sharegpt", ranking=False,
    columns={"messages": "conversations", "system": "system"}, tags=TAGS, unknown_keys={}, declared_columns=[],
    declared_tags=[], unread_values={}, lines={},
)  # fmt: skip


def record(question="What is 1 + 1?", answer="2", role="user", **more):
    turns = [{"from": role, "value": question}, {"from": "assistant", "value": answer}]
    return {"system": "Think.", "conversations": turns, **more}


@pytest.fixture
def taken(tmp_path):
    """Writes records, samples them, gives what was picked."""

    def take(records, wanted=24, lines=False, **options):
        path = tmp_path / "sky.json"
        sample.write(records, path, lines)
        assert sample.is_lines(path) is lines
        return sample.sample([path], ENTRY, "sft", wanted, time.monotonic() + 60, **options)

    return take


def test_the_extremes_and_the_odd_ones_are_taken_in_their_order(taken):
    ordinary = [record(f"What is {n} + {n}?", str(2 * n)) for n in range(2000)]
    odd = {
        100: record("x" * 50_000),
        300: record("?", ""),
        500: record(role="narrator"),
        700: record("你好", "你好，世界"),
        900: record(extra=1.5),
        1100: record("<|im_end|> is the end"),
        1300: {"system": "Think.", "conversations": record()["conversations"] * 9},
        1500: record("\u0007bell"),
        1700: "no object at all",
    }
    for place, one in odd.items():
        ordinary[place] = one
    picked = taken(ordinary)
    for one in odd.values():
        assert one in picked.records
    places = [ordinary.index(one) for one in picked.records]
    assert places == sorted(places)
    assert len(picked.records) == 24
    assert (picked.read, picked.complete) == (2000, True)


def test_few_records_are_all_taken(taken):
    records = [record(str(n)) for n in range(7)]
    assert taken(records).records == records


def test_the_real_run_reads_no_further_than_max_samples(taken):
    picked = taken([record(str(n)) for n in range(50)] + [record("x" * 9999)], limit=50)
    assert picked.read == 50
    assert all(len(one["conversations"][0]["value"]) < 9 for one in picked.records)


def test_what_is_written_is_read_back_the_same(tmp_path):
    records = [record("\ud800 half a pair", "é"), {"n": float("inf")}, record("line\nbreak")]
    for lines in (True, False):
        path = tmp_path / "out.json"
        sample.write(records, path, lines)
        text = path.read_text(encoding="utf-8")
        assert ([json.loads(one) for one in text.splitlines()] if lines else json.loads(text)) == records


def test_broken_data_goes_in_as_it_is(tmp_path):
    path = tmp_path / "sky.json"
    path.write_text('[{"conversations": []},\n {"conversations": [}]')
    picked = sample.sample([path], ENTRY, "sft", 24, time.monotonic() + 60)
    assert picked.unreadable
    assert picked.records == []


def test_reading_stops_in_time(tmp_path):
    path = tmp_path / "sky.json"
    path.write_bytes(b"\n".join(msgspec.json.encode(record(str(n), "word " * 200)) for n in range(3000)))
    picked = sample.sample([path], ENTRY, "sft", 24, time.monotonic() - 1)
    assert not picked.complete
    assert 0 < picked.read < 3000
    assert picked.records
