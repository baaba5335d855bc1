"""Data read in parts by several processes, and read by one: the same is said of it."""

import json
import os
import time

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doctor.recipe import data_parts, data_scan, data_worker, data_workers, dataset_info, dataset_rules, json_text
from doctor.recipe.scan_result import Scan
from tests.doctor.recipe.test_outlines import ENTRIES, records

GOOD = {"talk": [{"from": "user", "value": "q"}, {"from": "assistant", "value": "a"}], "system": "s"}


def entry_of(given_entry):
    info = json_text.parse(json.dumps({"d": {"file_name": "d.json", **given_entry}}))
    return dataset_info.entry("d", info, dataset_rules.FALLBACK)


def one_reader(paths, entry, stage="sft"):
    files = [(path, path.name) for path in paths]
    return data_scan.scan(entry, files, "json", stage, paths[0].parent, time.monotonic() + 60)


def in_parts(paths, entry, stage="sft"):
    """As the processes do it, in this one; None where the parts cannot be joined."""
    files = [(path, path.name) for path in paths]
    split = data_parts.split(paths)
    if split is None:
        return None, 0
    parts, lines = split
    until = time.monotonic() + 60
    task = data_worker.Task(entry, stage, str(paths[0].parent), [(str(p), s) for p, s in files], parts, lines, until)
    result = Scan(bytes_total=sum(path.stat().st_size for path in paths))
    join = data_workers.Join(result, entry, files, parts, until)
    try:
        for number, part in enumerate(parts):
            if not join.add(number, data_worker.read(task, part)):
                break
    except data_workers.CannotJoin:
        return None, len(parts)
    join.end()
    return result, len(parts)


def written(path, rows, form):
    if form == "lines":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text = json.dumps(rows, indent={"list": None, "indented": 2}[form], ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(data_parts, "SIZE", 150)
    monkeypatch.setattr(data_parts, "LOOKED_THROUGH", 50_000)
    monkeypatch.setattr(data_workers, "LEAST", 0)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(records, max_size=5),
    st.sampled_from(ENTRIES[:4]),
    st.sampled_from(["lines", "list", "indented"]),
    st.data(),
)
def test_parts_change_nothing(tmp_path, small, pool, entry, form, data):
    paths = []
    for number in range(data.draw(st.integers(1, 2))):
        order = data.draw(st.lists(st.sampled_from([GOOD, *pool]), min_size=3, max_size=20))
        paths.append(written(tmp_path / f"{number}.json", [GOOD, *order], form))
    damage = data.draw(
        st.none() | st.tuples(st.integers(0, 10_000), st.sampled_from([b"", b"\xff", b"]", b"{", b"\n", b"{},"]))
    )
    if damage:
        raw = paths[-1].read_bytes()
        at = damage[0] % len(raw)
        paths[-1].write_bytes(raw[:at] + (damage[1] + raw[at + 1 :] if damage[1] else b""))
    resolved = entry_of(entry)
    joined, _ = in_parts(paths, resolved)
    if joined is not None:
        with pytest.MonkeyPatch.context() as alone:
            alone.setattr(data_workers, "LEAST", 1 << 60)
            alone_read = one_reader(paths, resolved)
        if joined.broken:  # how much of the blanks before the fault was read depends on what is read at once
            joined.bytes_read = alone_read.bytes_read
        assert msgspec.to_builtins(joined) == msgspec.to_builtins(alone_read)


@pytest.mark.parametrize("form", ["lines", "list", "indented"])
def test_what_stands_in_later_parts_is_placed(tmp_path, small, form):
    odd = [
        {**GOOD, "talk": [{"from": "human", "value": "q"}]},
        {**GOOD, "system": 3},
        {**GOOD, "system": "t", "n": 2**70},
    ]
    rows = [{**GOOD, "system": str(n)} for n in range(40)]
    rows[20:23] = odd
    rows[30] = rows[5]
    path = written(tmp_path / "d.json", rows, form)
    found, parts = in_parts([path], entry_of(ENTRIES[0]))
    assert parts > 5
    assert (found.read, found.complete, found.duplicates, found.first_duplicate.record) == (40, True, 1, 31)
    assert found.faults["unknown role"].examples[0].record == 21
    assert found.mixed["system"].record == 22
    line = path.read_text(encoding="utf-8").splitlines().index(next(
        x for x in path.read_text(encoding="utf-8").splitlines() if "human" in x)) + 1  # fmt: skip
    assert found.faults["unknown role"].examples[0].line == (line if form != "indented" else line - 3)


@pytest.mark.parametrize("form", ["indented", "lines"])
def test_processes_read_what_one_reads(tmp_path, small, monkeypatch, form):
    monkeypatch.setattr(data_workers, "cores", lambda: 3)
    monkeypatch.setattr(data_parts, "SIZE", 20_000)
    rows = [{**GOOD, "system": str(n % 3500), "n": None if n % 7 else n} for n in range(4000)]
    rows[3000] = {**GOOD, "talk": []}
    path = written(tmp_path / "d.json", rows, form)
    told = []
    result = Scan(bytes_total=path.stat().st_size)
    done = data_workers.read(entry_of(ENTRIES[0]), [(path, "d.json")], "sft", tmp_path, time.monotonic() + 60, result,
                             lambda *at: told.append(at))  # fmt: skip
    assert done
    assert told == sorted(told)
    monkeypatch.setattr(data_workers, "LEAST", 1 << 60)
    alone = one_reader([path], entry_of(ENTRIES[0]))
    assert msgspec.to_builtins(result) == msgspec.to_builtins(alone)
    assert alone.duplicates == 428
    assert told[-1] == (path.stat().st_size - 2, path.stat().st_size) or told[-1][0] == alone.bytes_read


def test_when_the_time_is_over_what_was_read_is_told(tmp_path, small, monkeypatch):
    monkeypatch.setattr(data_workers, "cores", lambda: 2)
    path = written(tmp_path / "d.json", [GOOD] * 400, "lines")
    found = data_scan.scan(entry_of(ENTRIES[0]), [(path, "d.json")], "json", "sft", tmp_path, time.monotonic())
    assert 0 < found.read < 400
    assert not found.complete


def test_a_reader_that_dies_is_made_up_for(tmp_path, small, monkeypatch):
    monkeypatch.setattr(data_workers, "cores", lambda: 2)
    monkeypatch.setattr(data_workers, "_CHILD", "import os; os._exit(1)")
    path = written(tmp_path / "d.json", [GOOD] * 400, "lines")
    assert one_reader([path], entry_of(ENTRIES[0])).read == 400


def test_no_process_is_left(tmp_path, small, monkeypatch):
    import psutil

    monkeypatch.setattr(data_workers, "cores", lambda: 2)
    path = written(tmp_path / "d.json", [GOOD] * 400, "lines")
    one_reader([path], entry_of(ENTRIES[0]))
    assert not [c for c in psutil.Process(os.getpid()).children() if "data_worker" in " ".join(c.cmdline())]
