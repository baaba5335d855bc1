from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixes.edit import json_text
from fixes.errors import CannotEdit

KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=6)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), KEYS)
DOCUMENTS = st.dictionaries(
    KEYS,
    st.recursive(LEAVES, lambda x: st.one_of(st.lists(x, max_size=3), st.dictionaries(KEYS, x, max_size=3))),
    max_size=5,
)
INDENTS = st.sampled_from([None, 2, 4, "\t"])


@given(DOCUMENTS, INDENTS, st.booleans(), st.booleans(), LEAVES, st.data())
def test_set_path(doc: dict, indent: object, ascii_only: bool, crlf: bool, value: object, data: st.DataObject) -> None:
    text = json.dumps(doc, indent=indent, ensure_ascii=ascii_only)  # type: ignore[arg-type]
    text = text.replace("\n", "\r\n") if crlf else text
    path, place = [], doc
    while isinstance(place, dict) and place and data.draw(st.booleans()):
        path.append(data.draw(st.sampled_from(sorted(place))))
        place = place[path[-1]]
    if isinstance(place, dict):
        path.append(data.draw(KEYS))
    if not path:
        return
    after = json_text.set_path(text.encode(), path, value, "x").decode()
    expected = json.loads(json.dumps(doc))
    inner = expected
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    assert json.loads(after) == expected
    _prefix_and_suffix_are_kept(text, after)
    assert ("\r\n" in after) == ("\r\n" in text) or "\n" not in text


def _prefix_and_suffix_are_kept(before: str, after: str) -> None:
    """One span differs: what precedes and follows it is untouched, and no line outside it moved."""
    start = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    rest = min(len(before), len(after)) - start
    end = next((i for i in range(rest) if before[-1 - i] != after[-1 - i]), rest)
    assert before[:start] + after[start : len(after) - end] + before[len(before) - end :] == after


@pytest.mark.parametrize(
    ("before", "values", "after"),
    [
        ('{"a": {"b": 1}}', {"a.b": 2}, '{"a": {"b": 2}}'),
        ('{\n  "a": 1\n}\n', {"b": {"c": 2}}, '{\n  "a": 1,\n  "b": {\n    "c": 2\n  }\n}\n'),
        ('{\n    "z": {\n        "s": 3\n    }\n}\n', {"z.o.d": "cpu"},
         '{\n    "z": {\n        "s": 3,\n        "o": {\n            "d": "cpu"\n        }\n    }\n}\n'),
        ('{\r\n\t"a" : 1\r\n}', {"b": 2}, '{\r\n\t"a" : 1,\r\n\t"b" : 2\r\n}'),
        ("{}", {"a.b": 1}, '{\n  "a": {\n    "b": 1\n  }\n}'),
        ('{"a": [1, {"b": 2}]}', {"a.1.b": 3}, '{"a": [1, {"b": 3}]}'),
        ('{"a.b": 1}', {"a\\.b": 2}, '{"a.b": 2}'),
        ('{"a": 1, "a": 2}', {"a": 3}, '{"a": 1, "a": 3}'),
        ('{"a": "\\u4e2d"}', {"b": "文"}, '{"a": "\\u4e2d", "b": "\\u6587"}'),
        ('{"a": "中"}', {"a": "文"}, '{"a": "文"}'),
    ],
)  # fmt: skip
def test_smallest_edit(before: str, values: dict[str, object], after: str) -> None:
    assert json_text.set_dotted(before.encode(), values, "x").decode() == after


def test_same_value_changes_nothing() -> None:
    assert json_text.set_dotted(b'{"a":1.0}', {"a": 1.0}, "x") == b'{"a":1.0}'


def test_merge_keeps_siblings_and_adds_missing_entry() -> None:
    before = b'{\n  "s": {\n    "file_name": "x",\n    "columns": {\n      "a": "b"\n    }\n  }\n}\n'
    after = json_text.merge(before, ["s"], {"file_name": "y", "columns": {"c": "d"}}, "x")
    assert json.loads(after) == {"s": {"file_name": "y", "columns": {"a": "b", "c": "d"}}}
    added = json_text.merge(before, ["t"], {"file_name": "z"}, "x")
    assert added.startswith(before[:-3])
    assert json.loads(added)["t"] == {"file_name": "z"}


@pytest.mark.parametrize(
    ("text", "line"), [("{\n'a': 1}", 2), ('{"a": 1,\n}', 1), ('{"a": 1}\nx', 2), ('{"a"\n 1}', 2), ("", 1)]
)
def test_invalid_json_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(CannotEdit, match=f"line {line}"):
        json_text.set_path(text.encode(), ["a"], 1, "x")


def test_no_object_on_the_way() -> None:
    with pytest.raises(CannotEdit, match="by hand"):
        json_text.set_dotted(b'{"a": 1}', {"a.b": 1}, "x")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"z": {"a": 1, "b": 2, "c": 3}}', '{"z": {"a": 1, "c": 3}}'),
        ('{\r\n  "z": {\r\n    "a": 1,\r\n    "b": 2\r\n  }\r\n}', '{\r\n  "z": {\r\n    "a": 1\r\n  }\r\n}'),
        ('{"z": {"b": 2, "a": 1}}', '{"z": {"a": 1}}'),
        ('{"z": { "b": {"x": [1]} }}', '{"z": {}}'),
        ('{"z": {"a": 1}}', '{"z": {"a": 1}}'),
        ('{"y": {"b": 1}, "z": [1]}', '{"y": {"b": 1}, "z": [1]}'),
    ],
)
def test_a_member_goes_with_its_comma(before: str, after: str) -> None:
    assert json_text.unset_path(before.encode(), ["z", "b"], "f.json") == after.encode()


def test_a_key_written_twice_is_not_taken_out() -> None:
    with pytest.raises(CannotEdit, match=r"z\.b"):
        json_text.unset_path(b'{"z": {"b": 1, "b": 2}}', ["z", "b"], "f.json")
