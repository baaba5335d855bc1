"""What pandas makes of the cells of a CSV file, as seen on `datasets.load_dataset("csv")`."""

import gzip
import time

import pytest

from doctor.recipe import csv_records, data_scan, dataset_info, dataset_rules, json_faults, json_text


def column(tmp_path, *cells, name="a"):
    path = tmp_path / "d.csv"
    path.write_text(f"{name},b\n" + "".join(f"{cell},text\n" for cell in cells), encoding="utf-8")
    return [record[name] for record, _, _ in csv_records.read(path)]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (("x", "y"), ["x", "y"]),
        (("1", "2"), [1, 2]),
        (("1", "2.5", "3e2"), [1, 2.5, 300.0]),
        (("007", ""), [7, None]),
        (("1", "x"), ["1", "x"]),
        (("True", "false"), [True, False]),
        (("True", "1"), ["True", "1"]),
        (("NA", "x", "null", "None"), [None, "x", None, None]),
        (("", ""), [None, None]),
        (("1_000", "2"), ["1_000", "2"]),
    ],
)
def test_a_column_of_numbers_alone_is_no_text(tmp_path, cells, values):
    assert column(tmp_path, *cells) == values


def test_the_first_rows_decide_what_a_column_is(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_records, "CHUNK", 2)
    assert column(tmp_path, "x", "y", "1", "2") == ["x", "y", "1", "2"]
    assert column(tmp_path, "1", "2", "x", "3") == [1, 2, "x", "3"]  # which no column can hold


def test_rows_are_numbered_and_a_longer_one_is_told(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text('a,b\n"two\nlines",y\nz\n1,2,3\n')
    rows = csv_records.read(path)
    assert [next(rows), next(rows)] == [({"a": "two\nlines", "b": "y"}, 1, 3), ({"a": "z", "b": None}, 2, 4)]
    with pytest.raises(json_faults.BadData) as told:
        next(rows)
    assert (told.value.line, told.value.record) == (5, 3)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('x,"y\nz,w\n', 2), ('x,"y', 2), ('x,y\n"a\nb",c\nz,"w\n', 5), ('x,"two\nlines"\n', None),
        ('5" disk,y\n', None), ('x,"say ""hi"""\n', None), ('x,"y"', None), ('"a"b,c\n', None),
    ],
)  # fmt: skip
def test_a_quotation_mark_that_is_never_closed(tmp_path, rows, line):
    path = tmp_path / "d.csv"
    path.write_text(f"a,b\n{rows}", encoding="utf-8")
    if line is None:
        assert len(list(csv_records.read(path))) == 1
    else:
        with pytest.raises(json_faults.BadData) as bad:
            list(csv_records.read(path))
        assert bad.value.line == line


def test_a_file_that_is_compressed_is_not_read(tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(gzip.compress(b"instruction,input,output\na,,b\n"))
    entry = dataset_info.entry("sky", json_text.parse('{"sky": {"file_name": "d.csv"}}'), dataset_rules.FALLBACK)
    found = data_scan.scan(entry, [(path, path.name)], "csv", "sft", tmp_path, time.monotonic() + 60)
    assert found.broken is None
    assert "it is compressed" in (found.unread or "")
