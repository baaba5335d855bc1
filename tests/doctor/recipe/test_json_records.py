import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doctor.recipe import json_faults, json_records

RECORD = '{"a": "x", "c": [{"from": "user", "value": "v"}]}'


def records(path):
    return [record for batch in json_records.read(path) for record in batch.records]


# Every form was given to datasets 3.1 and 4.0, which read or refuse it as here.
@pytest.mark.parametrize(
    ("content", "count"),
    [
        (f"[{RECORD}, {RECORD}]", 2),
        (f"{RECORD}\n{RECORD}\n", 2),
        (f"{RECORD}{RECORD}", 2),
        (json.dumps(json.loads(RECORD), indent=2) + "\n" + json.dumps(json.loads(RECORD), indent=2), 2),
        (f"{RECORD}\n\n\n{RECORD}\n", 2),
        ("\ufeff" + RECORD, 1),
        ('[{"a": NaN}, {"a": 1.0}]', 2),
        ('[{"a": "x\ty"}]', 1),
        ('["a", "b"]', 2),
        ("[]", 0),
    ],
)
def test_reads_what_datasets_reads(tmp_path, content, count):
    (tmp_path / "d.json").write_text(content, encoding="utf-8")
    assert len(records(tmp_path / "d.json")) == count


@pytest.mark.parametrize(
    ("content", "kind", "line", "record"),
    [
        (f"[{RECORD}][{RECORD}]", "several lists in one file", 1, 2),
        (f"[{RECORD},\n]", "trailing comma", 2, 2),
        (f"[{RECORD}\n{RECORD}]", "missing comma", 2, 2),
        (f"[{RECORD},\n{RECORD[:-5]}", "truncated", 2, 2),
        (f"{RECORD}\n{RECORD[:-5]}", "truncated", 2, 2),
        (f"[{RECORD}", "truncated", 1, 2),
        ("\ufeff[" + RECORD + "]", "byte order mark before a list", 1, 1),
        ("", "empty file", 1, 0),
        (" \n ", "empty file", 1, 0),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git-lfs pointer", 1, 1),
        ("<!DOCTYPE html><html>", "HTML page", 1, 1),
        ("[{'a': 1}]", "written by Python, not as JSON", 1, 1),
        ('[{"a": None}]', "written by Python, not as JSON", 1, 1),
        (f'[{RECORD}, {{"a": oops}}]', "not JSON", 1, 2),
    ],
)
def test_says_where_and_how_a_file_stops_being_json(tmp_path, content, kind, line, record):
    (tmp_path / "d.json").write_text(content, encoding="utf-8")
    with pytest.raises(json_faults.BadData) as caught:
        records(tmp_path / "d.json")
    assert (caught.value.kind, caught.value.line, caught.value.record) == (kind, line, record)


@pytest.mark.parametrize(
    ("text", "encoding", "guessed"),
    [
        ("请用中文回答这个问题，谢谢。", "gbk", "gb18030"),
        ("un café crème à côté", "latin-1", "cp1252"),
        ("数据", "utf-16", "utf-16"),
    ],
)
def test_another_encoding_is_guessed(tmp_path, text, encoding, guessed):
    (tmp_path / "d.json").write_bytes(f'[{{"a": "{text}"}}]'.encode(encoding))
    with pytest.raises(json_faults.BadData) as caught:
        records(tmp_path / "d.json")
    assert (caught.value.kind, caught.value.encoding) == ("not UTF-8", guessed)


_text = st.text(alphabet='ab"\\{}[],:\n\u4e2d ', max_size=30)
_nested = st.lists(st.just({"t": "x"}), max_size=3)
_records = st.lists(st.fixed_dictionaries({"t": _text}, optional={"n": _nested}), min_size=1, max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(_records, st.sampled_from(["list", "indented", "lines"]), st.integers(16, 300))
def test_any_chunk_size_gives_the_same_records_and_lines(tmp_path, monkeypatch, data, form, chunk):
    monkeypatch.setattr(json_records, "CHUNK", chunk)
    text = (
        "\n".join(map(json.dumps, data))
        if form == "lines"
        else json.dumps(data, indent=1 if form == "indented" else None)
    )
    path = tmp_path / "d.json"
    path.write_text(text)
    batches = list(json_records.read(path))
    assert [r for b in batches for r in b.records] == data
    assert [b.first for b in batches] == [1 + sum(len(e.records) for e in batches[:i]) for i in range(len(batches))]
    lines = [b.line_of(i) for b in batches for i in range(len(b.records))]
    if form == "lines":
        assert lines == list(range(1, len(data) + 1))
    assert lines == sorted(lines)
    assert batches[-1].line_of(len(batches[-1].records) - 1) <= text.count("\n") + 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=400)
@given(
    _records,
    st.integers(0, 2000),
    st.binary(max_size=4),
    st.integers(0, 5),
    st.booleans(),
    st.sampled_from([64, 4 << 20]),
)
def test_damaged_files_end_in_records_or_one_clear_error(
    tmp_path, monkeypatch, data, place, inserted, removed, lines, chunk
):
    monkeypatch.setattr(json_records, "CHUNK", chunk)
    raw = ("\n".join(map(json.dumps, data)) if lines else json.dumps(data)).encode()
    place %= len(raw) + 1
    path = tmp_path / "d.json"
    path.write_bytes(raw[:place] + inserted + raw[place + removed :])
    fault = None
    try:
        records(path)
    except json_faults.BadData as bad:
        fault = bad
    assert fault is None or (fault.line >= 1 and fault.kind)
