"""Column names and number of rows of a Parquet file, from its footer, without pyarrow.

Footer: https://github.com/apache/parquet-format (FileMetaData in the Thrift compact protocol, its length and `PAR1`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

LARGEST_FOOTER = 16 << 20  # bytes


class Unreadable(Exception):
    """Not a Parquet file whose footer this reader understands; the message says why."""


class NotParquet(Unreadable):
    """It has no footer: pyarrow will not read it either."""


class Footer(msgspec.Struct, frozen=True):
    """Top-level columns in order, the number of rows, and the columns that hold numbers or true and false.

    `inner`: column -> names of the fields within it; a column of plain values has none.
    """

    columns: tuple[str, ...]
    rows: int
    numbers: tuple[str, ...] = ()
    inner: dict[str, list[str]] = {}


def read(path: Path) -> Footer:
    """Raises NotParquet, Unreadable, OSError."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < 12:
            raise NotParquet("too short for a Parquet file")
        file.seek(size - 8)
        tail = file.read(8)
        if tail[4:] != b"PAR1":
            raise NotParquet("no Parquet footer: the file is cut off or of another kind")
        length = int.from_bytes(tail[:4], "little")
        if length > min(size - 12, LARGEST_FOOTER):
            raise NotParquet("its footer is longer than the file")
        file.seek(size - 8 - length)
        raw = file.read(length)
    try:
        metadata = _Compact(raw).struct(0)
        elements = metadata[2]
        top = _top_level(elements)
        numbers = tuple(name for name, (numeric, _) in top.items() if numeric)
        return Footer(tuple(top), int(metadata[3]), numbers, {name: fields for name, (_, fields) in top.items()})
    except (IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Unreadable(f"its footer cannot be read ({type(error).__name__})") from None


_UNKNOWN = 11  # of the union LogicalType
_NUMBERS = range(6)  # physical types BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE


def _top_level(elements: list[dict[int, Any]]) -> dict[str, tuple[bool, list[str]]]:
    """Children of the root, whether they hold numbers, and the fields below them. Fields of SchemaElement: 1 the physical
    type, 4 the name, 5 the number of children."""
    names: dict[str, tuple[bool, list[str]]] = {}
    at = 1
    for _ in range(elements[0].get(5, 0)):
        logical = elements[at].get(10)  # a column of nothing but null is written as numbers of an unknown type
        unknown = isinstance(logical, dict) and _UNKNOWN in logical
        numeric = not elements[at].get(5) and elements[at].get(1) in _NUMBERS and not unknown
        top, fields, pending = elements[at][4].decode("utf-8"), list[str](), 1
        while pending:
            pending += elements[at].get(5, 0) - 1
            at += 1
            if pending:
                fields.append(elements[at][4].decode("utf-8"))
        names[top] = (numeric, fields)
    return names


class _Compact:
    """The part of Thrift's compact protocol that FileMetaData uses. Raises IndexError on a cut, ValueError on nonsense."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.raw[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 70:
                raise ValueError("varint")

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def value(self, kind: int, depth: int) -> Any:
        if depth > 30:
            raise ValueError("depth")
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            self.at += 1
            return self.raw[self.at - 1]
        if kind in (4, 5, 6):
            return self.zigzag()
        if kind == 7:
            self.at += 8
            return None
        if kind == 8:
            length = self.varint()
            if self.at + length > len(self.raw):
                raise IndexError
            self.at += length
            return self.raw[self.at - length : self.at]
        if kind in (9, 10):
            head = self.raw[self.at]
            self.at += 1
            count = head >> 4 if head >> 4 != 15 else self.varint()
            if count > len(self.raw):
                raise ValueError("list")
            return [self.item(head & 15, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError("type")

    def item(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # booleans in a list take a byte of their own
            self.at += 1
            return self.raw[self.at - 1] == 1
        return self.value(kind, depth)

    def struct(self, depth: int) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while True:
            head = self.raw[self.at]
            self.at += 1
            if head == 0:
                return fields
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            fields[number] = self.value(head & 15, depth)
