from __future__ import annotations

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixes.edit import json_repair
from fixes.errors import CannotEdit
from tests.fixes.edit.test_json_text import DOCUMENTS

ENTRY = '  "entry-%d": {\n    "file_name": "f%d.json",\n    "columns": {\n      "messages": "conversations"\n    }\n  }'


def test_trailing_comma_at_the_end_of_many_entries() -> None:
    entries = ",\n".join(ENTRY % (i, i) for i in range(95))
    text = "{\n" + entries + ",\n}\n"
    after, said = json_repair.repair(text.encode(), "dataset_info.json")
    assert after.decode() == "{\n" + entries + "\n}\n"
    assert len(said) == 1
    assert "line 571: trailing comma" in said[0]
    assert len(json.loads(after)) == 95


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a": 1,}', '{"a": 1}'),
        ('{"a": [1, 2, ], }', '{"a": [1, 2 ] }'),
        ('{"a": 1 // one\n}', '{"a": 1 \n}'),
        ('{"a": 1, // last\r\n}', '{"a": 1 \r\n}'),
        ('{/* a\nb */"a": 1}', '{\n"a": 1}'),
        ('{"u": "http://x", "c": "/* no */"}', '{"u": "http://x", "c": "/* no */"}'),
        ('{\n  "a": 1\n  "b": 2\n}', '{\n  "a": 1,\n  "b": 2\n}'),
        ('{\n  "a": {"x": 1}\n  "b": 2\n}', '{\n  "a": {"x": 1},\n  "b": 2\n}'),
        ('[\n  {"a": 1}\n  {"b": 2}\n]', '[\n  {"a": 1},\n  {"b": 2}\n]'),
        ("{'a': 'it\\'s \"x\"', \"b\": None}", '{"a": "it\'s \\"x\\"", "b": null}'),
        ("[True, False, 'None', {'a': 'b, c'},]", '[true, false, "None", {"a": "b, c"}]'),
        ('{"a"：1，"b": “二”，}', '{"a":1,"b": "二"}'),
        ('{"a": "x，\'y\'", # one\n"b": 1}', '{"a": "x，\'y\'", \n"b": 1}'),
    ],
)
def test_one_reading(before: str, after: str) -> None:
    repaired, _ = json_repair.repair(before.encode(), "x")
    assert repaired.decode() == after
    json.loads(repaired)


def test_byte_order_mark_goes() -> None:
    after, said = json_repair.repair(codecs.BOM_UTF8 + b'{"a": 1}', "x")
    assert after == b'{"a": 1}'
    assert said == ["byte-order mark removed"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{\n'a': 'it's'}", 2),
        ("{\n'a': u'b'}", 2),
        ("{\n'a': '\\x00'}", 2),
        ('{"a": 1,, "b": 2}', 1),
        ('{"a": 1', 1),
        ('{\n"a": 1 "b": 2}', 2),
        ('{\n"a" 1\n}', 2),
        ('{"a": "x\ny"}', 1),
        ('{\n"a": Yes}', 2),
        ('{\n"a": (1, 2)}', 2),
        ('{"a": 1}\n}', 2),
        ('{"a": 012}', 1),
    ],
)
def test_ambiguous_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(CannotEdit, match=f"line {line}"):
        json_repair.repair(text.encode(), "x")


@given(DOCUMENTS, st.sampled_from([2, 4]), st.data())
def test_damage_with_one_reading_is_undone(document: dict, indent: int, data: st.DataObject) -> None:
    """Trailing commas and comments put into a good document come out again; every other byte stays."""
    lines = json.dumps(document, indent=indent, ensure_ascii=False).split("\n")
    damaged = []
    for place, line in enumerate(lines):
        closes_next = place + 1 < len(lines) and lines[place + 1].lstrip()[:1] in ("}", "]")
        ends_value = line.strip()[-1:] not in ("{", "[", ",", "")
        damaged.append(line + "," if closes_next and ends_value and data.draw(st.booleans()) else line)
    after, _ = json_repair.repair("\n".join(damaged).encode(), "x")
    assert after.decode() == "\n".join(lines)
