"""Edits the recipe: a top-level YAML mapping, one key at a time, by the place of its value in the text.

The rest of the file stays byte for byte: comments, order, quoting, indentation, line endings. Every edit is proven
before it is returned: the new text, parsed as LLaMA-Factory parses it (yaml.safe_load), must be the intended mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from fixes.edit.text import Edit, Text, apply, decode, line_of
from fixes.errors import CannotEdit


@dataclass(frozen=True)
class Entry:
    """One `key: value` of the top level: character spans, and how the value is written."""

    key: str
    key_start: int
    key_end: int
    start: int
    end: int
    style: str | None  # quote character of a scalar, None for a plain one
    empty: bool  # nothing is written after the colon


@dataclass(frozen=True)
class Layout:
    """Where the entries of the top-level mapping are."""

    entries: tuple[Entry, ...]
    flow: bool
    column: int
    end: int  # of the mapping's last value; for a flow mapping the place of its closing brace
    closed: bool  # the document ends with an explicit "..."


def set_values(data: bytes, values: Mapping[str, Any], name: str = "the recipe") -> bytes:
    """Give keys new values; keys that are missing are added at the end. Raises CannotEdit."""
    source = decode(data, name)
    text = source.text
    for key, value in values.items():
        text = _set(text, key, value, source, name)
    return source.encode(text)


def unset(data: bytes, keys: list[str], name: str = "the recipe") -> bytes:
    """Remove keys with their lines; keys that are not there are passed over. Raises CannotEdit."""
    source = decode(data, name)
    text = source.text
    for key in keys:
        before = _parse(text, name)
        if key not in before:
            continue
        layout = _layout(text, name)
        edits = [_removal(text, layout, entry) for entry in layout.entries if entry.key == key]
        text = _proven(apply(text, edits), {k: v for k, v in before.items() if k != key}, key, name)
    return source.encode(text)


def rename(data: bytes, old: str, new: str, name: str = "the recipe") -> bytes:
    """Rename a key. Raises CannotEdit when the new name is there already with another value."""
    source = decode(data, name)
    before = _parse(source.text, name)
    if old not in before:
        return data
    if new in before:
        if before[new] != before[old]:
            raise CannotEdit(f"{name} has both {old} and {new}, with different values; remove one of them.")
        return unset(data, [old], name)
    edits = []
    for entry in _layout(source.text, name).entries:
        if entry.key == old:
            written = source.text[entry.key_start : entry.key_end]
            quote = written[0] if written[0] in "'\"" else ""
            edits.append(Edit(entry.key_start, entry.key_end, quote + new + quote if quote else _scalar(new)))
    intended = {new if k == old else k: v for k, v in before.items()}
    return source.encode(_proven(apply(source.text, edits), intended, old, name))


def _set(text: str, key: str, value: Any, source: Text, name: str) -> str:
    before = _parse(text, name)
    if key in before and _same(before[key], value):
        return text
    layout = _layout(text, name)
    written = [entry for entry in layout.entries if entry.key == key]
    edits = _replacement(text, written[-1], value) if written else [_addition(text, layout, key, value, source)]
    return _proven(apply(text, edits), {**before, key: value}, key, name)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _replacement(text: str, entry: Entry, value: Any) -> list[Edit]:
    new = _scalar(value)
    if isinstance(value, str) and entry.style == '"' and new[:1] not in "'\"":
        new = yaml.safe_dump(value, default_style='"', width=10**9, allow_unicode=True).rstrip("\n")
    elif isinstance(value, str) and entry.style == "'" and new[:1] not in "'\"":
        new = "'" + value.replace("'", "''") + "'"
    if entry.empty:
        return [Edit(entry.start, entry.start, " " + new)]
    colon = text.index(":", entry.key_end) + 1
    if "\n" not in text[colon : entry.start]:
        return [Edit(entry.start, entry.end, new)]
    # A block on the following lines: the new value goes behind the colon, before a comment there.
    comment_end = text.index("\n", colon)
    comment_end -= text[comment_end - 1] == "\r"
    return [Edit(colon, colon, " " + new), Edit(comment_end, entry.end, "")]


def _addition(text: str, layout: Layout, key: str, value: Any, source: Text) -> Edit:
    pair = f"{_scalar(key)}: {_scalar(value)}"
    if layout.flow:
        return Edit(layout.end, layout.end, (", " if layout.entries else "") + pair)
    line = " " * layout.column + pair
    if layout.closed:
        at = _line_end(text, layout.end)
        return Edit(at, at, line + source.newline)
    missing = "" if not text or text.endswith(("\n", "\r")) else source.newline
    return Edit(len(text), len(text), missing + line + source.newline)


def _removal(text: str, layout: Layout, entry: Entry) -> Edit:
    if not layout.flow:
        start = max(text.rfind("\n", 0, entry.key_start), text.rfind("\r", 0, entry.key_start)) + 1
        return Edit(start, _line_end(text, entry.end), "")
    position = layout.entries.index(entry)
    if position + 1 < len(layout.entries):
        return Edit(entry.key_start, layout.entries[position + 1].key_start, "")
    return Edit(layout.entries[position - 1].end if position else entry.key_start, entry.end, "")


def _line_end(text: str, index: int) -> int:
    """The index after the line break that ends the line of text[index - 1]."""
    if index and text[index - 1] == "\n":
        return index
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def _scalar(value: Any) -> str:
    """A value as YAML on one line, read back by YAML 1.1 rules as what it is (1e-5 becomes 1.0e-05)."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("...").rstrip("\n")


def _parse(text: str, name: str) -> dict[Any, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise CannotEdit(f"{name} is not valid YAML ({problem},{where}); correct it by hand first.") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CannotEdit(f"{name} holds a {type(value).__name__}, not a mapping of settings; it is not edited.")
    return value


def _proven(text: str, intended: dict[Any, Any], key: str, name: str) -> str:
    try:
        got = yaml.safe_load(text)
    except yaml.YAMLError:
        got = None
    got = {} if got is None else got
    # By repr: 1, 1.0 and True are equal in Python and three different things in a recipe.
    if not isinstance(got, dict) or {repr(k): repr(v) for k, v in got.items()} != {
        repr(k): repr(v) for k, v in intended.items()
    }:
        raise CannotEdit(f"{name} writes {key} in a way that cannot be edited safely; change it by hand.")
    return text


def _layout(text: str, name: str) -> Layout:
    """Find the top-level entries from the parser's events, whose marks are character places in the text."""
    events: list[Any] = list(yaml.parse(text, Loader=yaml.SafeLoader))
    top = next((e for e in events if isinstance(e, yaml.NodeEvent)), None)
    closed = any(isinstance(e, yaml.DocumentEndEvent) and e.explicit for e in events)
    if top is None or isinstance(top, yaml.ScalarEvent):
        return Layout((), False, 0, len(text), closed)
    if not isinstance(top, yaml.MappingStartEvent):
        raise CannotEdit(f"{name} does not hold a mapping of settings; it is not edited.")
    position, entries = events.index(top) + 1, []
    while not isinstance(events[position], yaml.MappingEndEvent):
        key, value = events[position], events[position + 1]
        if not isinstance(key, yaml.ScalarEvent):
            line = line_of(text, key.start_mark.index)
            raise CannotEdit(f"{name} line {line} has a key that is not plain text; change it by hand.")
        last = _last_event(events, position + 1)
        entries.append(_entry(text, key, value, events[position + 1 : last + 1]))
        position = last + 1
    flow = bool(top.flow_style)
    column = entries[0].key_start - text.rfind("\n", 0, entries[0].key_start) - 1 if entries else 0
    end = events[position].start_mark.index if flow else (entries[-1].end if entries else len(text))
    if flow and entries and text[entries[-1].end : end].strip():
        end = entries[-1].end  # a comma or comment before the closing brace: add before it
    return Layout(tuple(entries), flow, 0 if flow else column, end, closed)


def _last_event(events: list[Any], first: int) -> int:
    """Index of the event that ends the node starting at `first`."""
    depth = 0
    for index in range(first, len(events)):
        if isinstance(events[index], yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(events[index], yaml.CollectionEndEvent):
            depth -= 1
        if depth == 0:
            return index
    raise AssertionError("the parser's events are balanced")


def _entry(text: str, key: Any, value: Any, node: list[Any]) -> Entry:
    # The end mark of a block collection lies at the next token, after comments: its last leaf is where it ends.
    block = isinstance(value, yaml.CollectionStartEvent) and not value.flow_style
    leaf = next((e for e in reversed(node) if not isinstance(e, yaml.CollectionEndEvent) or _closes_flow(e)), value)
    end = (leaf if block else node[-1]).end_mark.index
    start = value.start_mark.index
    scalar = isinstance(value, yaml.ScalarEvent)
    empty = start == end
    end = start + len(text[start:end].rstrip()) if not empty else end
    return Entry(
        key=key.value,
        key_start=key.start_mark.index,
        key_end=key.end_mark.index,
        start=start,
        end=end,
        style=value.style if scalar and value.style in ("'", '"') else None,
        empty=empty,
    )


def _closes_flow(event: Any) -> bool:
    """A flow collection's end has a mark of its own; a block collection's has no width."""
    return bool(event.end_mark.index > event.start_mark.index)
