"""Edits JSON by the places of its values in the text: one value changes, every other byte stays.

`scan` is a strict JSON reader that keeps offsets. Every edit is proven before it is returned: the new text, parsed by
Python's json as LLaMA-Factory and DeepSpeed parse it, must be the intended document.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fixes.edit.text import Edit, Text, apply, decode, line_of
from fixes.errors import CannotEdit

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_SCALAR = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|-?Infinity|NaN")


@dataclass
class Node:
    """A value's span text[start:end]; members (key, value) of an object, items of an array."""

    kind: str  # object | array | scalar
    start: int
    end: int = 0
    members: list[tuple[str, int, Node]] = field(default_factory=list)  # key, place of its opening quote, value
    items: list[Node] = field(default_factory=list)

    def member(self, key: str) -> Node | None:
        """The member in effect: of two with one name the last one counts, as in Python's json."""
        return next((node for name, _, node in reversed(self.members) if name == key), None)


def scan(text: str, name: str) -> Node:
    """Parse a whole document. Raises CannotEdit with the line of the first error."""
    start = _skip(text, 0)
    node = _value(text, start, name)
    if _skip(text, node.end) != len(text):
        raise _broken(text, _skip(text, node.end), name, "something follows the document")
    return node


def set_path(data: bytes, path: Sequence[str], value: Any, name: str) -> bytes:
    """Set one value; missing objects on the way are made. Path items index arrays by number. Raises CannotEdit."""
    source = decode(data, name)
    text = source.text
    root = scan(text, name)
    document = json.loads(text)
    intended = _with(copy.deepcopy(document), list(path), value, name)
    if json.dumps(intended) == json.dumps(document):
        return data
    return _proven(source, apply(text, [_edit(text, root, list(path), value, source, name)]), intended, path, name)


def unset_path(data: bytes, path: Sequence[str], name: str) -> bytes:
    """Remove one member of an object with its comma; unchanged where it is not there. Raises CannotEdit."""
    source = decode(data, name)
    node: Node | None = scan(source.text, name)
    intended = json.loads(source.text)
    parent = intended
    for part in path[:-1]:
        node = node.member(part) if node is not None and node.kind == "object" else None
        parent = parent.get(part) if isinstance(parent, dict) else None
    if node is None or not isinstance(parent, dict) or path[-1] not in parent:
        return data
    del parent[path[-1]]
    at = max(index for index, (key, _, _) in enumerate(node.members) if key == path[-1])
    _, start, value = node.members[at]
    if at + 1 < len(node.members):
        cut = Edit(start, node.members[at + 1][1], "")
    elif at:
        cut = Edit(node.members[at - 1][2].end, value.end, "")
    else:
        cut = Edit(node.start + 1, node.end - 1, "")
    return _proven(source, apply(source.text, [cut]), intended, path, name)


def _proven(source: Text, text: str, intended: Any, path: Sequence[str], name: str) -> bytes:
    try:
        proven = json.dumps(json.loads(text)) == json.dumps(intended)
    except ValueError:
        proven = False
    if not proven:
        raise CannotEdit(f"{name} writes {'.'.join(path)} in a way that cannot be edited safely; change it by hand.")
    return source.encode(text)


def set_dotted(data: bytes, values: Mapping[str, Any], name: str) -> bytes:
    """`set_path` for `{dotted.path: value}`; a dot inside a key is written `\\.`."""
    for dotted, value in values.items():
        data = set_path(data, split(dotted), value, name)
    return data


def split(dotted: str) -> list[str]:
    return [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", dotted)]


def merge(data: bytes, path: Sequence[str], values: Mapping[str, Any], name: str) -> bytes:
    """Set every leaf of `values` below `path`, keeping what is beside them; a missing `path` is added whole."""
    text = decode(data, name).text
    scan(text, name)
    document = json.loads(text)
    for part in path:
        document = document.get(part) if isinstance(document, dict) else None
    if not isinstance(document, dict):
        return set_path(data, path, dict(values), name)
    for key, value in values.items():
        if isinstance(value, Mapping):
            data = merge(data, [*path, key], value, name)
        else:
            data = set_path(data, [*path, key], value, name)
    return data


def _with(document: Any, path: list[str], value: Any, name: str) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(document, dict):
        document[head] = _with(document.get(head, {}), rest, value, name)
    elif isinstance(document, list) and head.isdigit() and int(head) < len(document):
        document[int(head)] = _with(document[int(head)], rest, value, name)
    else:
        raise CannotEdit(f"{name} has no object at {head!r} to set a value in; change it by hand.")
    return document


def _edit(text: str, root: Node, path: list[str], value: Any, source: Text, name: str) -> Edit:
    node, depth = root, 0
    while depth < len(path):
        child = node.member(path[depth]) if node.kind == "object" else None
        if node.kind == "array":
            child = node.items[int(path[depth])]
        if child is None:
            break
        node, depth = child, depth + 1
    style = _Style(text, source)
    if depth == len(path):
        return Edit(node.start, node.end, style.dump(value, style.indent_of(node.start)))
    for part in reversed(path[depth + 1 :]):
        value = {part: value}
    return _insertion(text, node, path[depth], value, style)


def _insertion(text: str, node: Node, key: str, value: Any, style: _Style) -> Edit:
    """Add a member after the last one, written as its siblings are."""
    written = json.dumps(key, ensure_ascii=style.ascii) + style.colon
    if node.members:
        first, last = node.members[0][1], node.members[-1][2]
        between = _SPACE.match(text, node.start + 1)
        lead = between[0] if between else ""
        if "\n" in lead:
            return Edit(last.end, last.end, "," + lead + written + style.dump(value, style.indent_of(first)))
        return Edit(last.end, last.end, ", " + written + style.dump(value, None))
    if style.unit is None:
        return Edit(node.start + 1, node.end - 1, written + style.dump(value, None))
    outer = style.indent_of(node.start)
    inner = outer + style.unit
    body = f"{style.newline}{inner}{written}{style.dump(value, inner)}{style.newline}{outer}"
    return Edit(node.start + 1, node.end - 1, body)


class _Style:
    """How the file is written: indentation, colon, line ending, non-ASCII letters."""

    def __init__(self, text: str, source: Text) -> None:
        self.text = text
        self.newline = source.newline
        indented = re.search(r"[\[{][ \t]*\r?\n([ \t]+)\S", text)
        if indented:
            opening = self.indent_of(indented.start())
            self.unit: str | None = indented[1].removeprefix(opening) or "  "
        else:
            self.unit = "  " if "\n" in text.strip() or len(text.strip()) <= 2 else None
        colon = re.search(r'"(\s*:[ \t]*)', text)
        self.colon = colon[1] if colon else ": "
        self.ascii = bool(re.search(r"\\u[0-9a-fA-F]{4}", text))

    def indent_of(self, index: int) -> str:
        """The white space that begins the line of text[index]."""
        start = self.text.rfind("\n", 0, index) + 1
        found = re.compile(r"[ \t]*").match(self.text, start)
        return found[0] if found else ""

    def dump(self, value: Any, indent: str | None) -> str:
        """JSON of a value; `indent` is the indentation of the line it begins on, None for one line."""
        if indent is None or self.unit is None or not isinstance(value, (dict, list)) or not value:
            return json.dumps(value, ensure_ascii=self.ascii)
        return json.dumps(value, ensure_ascii=self.ascii, indent=self.unit).replace("\n", self.newline + indent)


def _skip(text: str, index: int) -> int:
    found = _SPACE.match(text, index)
    return found.end() if found else index


def _broken(text: str, index: int, name: str, what: str) -> CannotEdit:
    return CannotEdit(f"{name} is not valid JSON at line {line_of(text, index)}: {what}; repair it first.")


def _value(text: str, index: int, name: str) -> Node:
    if text.startswith("{", index):
        return _object(text, index, name)
    if text.startswith("[", index):
        return _array(text, index, name)
    found = _STRING.match(text, index) or _SCALAR.match(text, index)
    if not found:
        raise _broken(text, index, name, "a value was expected")
    return Node("scalar", index, found.end())


def _object(text: str, index: int, name: str) -> Node:
    node, at = Node("object", index), _skip(text, index + 1)
    while not text.startswith("}", at):
        key = _STRING.match(text, at)
        if not key:
            raise _broken(text, at, name, "a key in double quotes was expected")
        colon = _skip(text, key.end())
        if not text.startswith(":", colon):
            raise _broken(text, colon, name, "a colon was expected")
        child = _value(text, _skip(text, colon + 1), name)
        node.members.append((json.loads(key[0], strict=False), at, child))
        at = _next(text, child.end, "}", name)
    node.end = at + 1
    return node


def _array(text: str, index: int, name: str) -> Node:
    node, at = Node("array", index), _skip(text, index + 1)
    while not text.startswith("]", at):
        child = _value(text, at, name)
        node.items.append(child)
        at = _next(text, child.end, "]", name)
    node.end = at + 1
    return node


def _next(text: str, index: int, closing: str, name: str) -> int:
    """After a member or item: the place of the next one, or of the closing bracket."""
    at = _skip(text, index)
    if text.startswith(closing, at):
        return at
    if not text.startswith(",", at):
        raise _broken(text, at, name, f"a comma or {closing} was expected")
    after = _skip(text, at + 1)
    if text.startswith(closing, after):
        raise _broken(text, at, name, f"a comma stands before {closing}")
    return after
