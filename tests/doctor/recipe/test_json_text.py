import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doctor.recipe import json_text


@pytest.mark.parametrize(
    ("text", "value", "kinds"),
    [
        ('{"a": 1,\n}', {"a": 1}, [("trailing comma", 1, 8)]),
        ('{"a": 1 "b": 2}', {"a": 1, "b": 2}, [("missing comma", 1, 8)]),
        ("{'a': 1}", {"a": 1}, [("single quotes", 1, 2)]),
        ('// note\n{"a": 1}', {"a": 1}, [("comment", 1, 1)]),
        ('\ufeff{"a": 1}', {"a": 1}, [("byte order mark", 1, 1)]),
        ('{"a": True}', {"a": True}, [("Python literal", 1, 7)]),
        ('{"a"：1，"b":2}', {"a": 1, "b": 2}, [("full-width punctuation", 1, 5), ("full-width punctuation", 1, 7)]),
        ('{"a": "x\ty"}', {"a": "x\ty"}, [("control character in a string", 1, 9)]),
        ('{"a": [1, {"b":', {"a": None}, [("truncated", 1, 16)]),
        ('{"a": 1} {"b": 2}', {"a": 1}, [("text after the end", 1, 10)]),
        ('{"a": 1, "a": 2}', {"a": 2}, [("duplicate key", 1, 10)]),
        ("", None, [("truncated", 1, 1)]),
        ('{"a": 1}', {"a": 1}, []),
    ],
)
def test_every_fault_is_named_and_what_was_meant_is_read(text, value, kinds):
    document = json_text.parse(text)
    assert document.value == value
    assert [(p.kind, p.line, p.column) for p in document.problems] == kinds


def test_entries_before_and_after_a_fault_are_kept_with_their_lines():
    document = json_text.parse('{\n "a": {"x": 1,},\n "b": {\n  "y": 2\n }\n}')
    assert document.value == {"a": {"x": 1}, "b": {"y": 2}}
    assert document.lines == {("a",): 2, ("a", "x"): 2, ("b",): 3, ("b", "y"): 4}


def test_a_duplicate_key_alone_does_not_make_the_file_unreadable():
    assert json_text.parse('{"a": 1, "a": 2}').error is None


def test_nesting_without_end_is_a_problem_not_a_crash():
    assert json_text.parse("[" * 100_000).error is not None


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(_values, st.sampled_from([None, 2]))
def test_valid_json_is_read_as_json_does(value, indent):
    text = json.dumps(value, indent=indent)
    document = json_text.parse(text)
    assert document.problems == ()
    assert document.value == json.loads(text)


@settings(max_examples=400)
@given(_values, st.integers(0, 400), st.text(alphabet="{}[]\",:'\\/#*,，：“” \n\x00aT1", max_size=3), st.integers(0, 3))
def test_fatal_exactly_where_python_refuses(value, place, inserted, removed):
    text = json.dumps(value, ensure_ascii=False)
    place = place % (len(text) + 1)
    text = text[:place] + inserted + text[place + removed :]
    document = json_text.parse(text)
    try:
        json.loads(text)
        assert document.error is None
    except ValueError:
        assert document.error is not None
