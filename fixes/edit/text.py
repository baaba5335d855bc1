"""Bytes of a text file to text and back, byte-order mark and line endings untouched."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from fixes.errors import CannotEdit


@dataclass(frozen=True)
class Text:
    """A decoded file: `mark` is its byte-order mark (or empty), `newline` the line ending that it uses most."""

    text: str
    mark: bytes
    newline: str

    def encode(self, text: str) -> bytes:
        return self.mark + text.encode("utf-8")


def decode(data: bytes, name: str) -> Text:
    """Raises CannotEdit for what is not UTF-8."""
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    try:
        text = data[len(mark) :].decode("utf-8")
    except UnicodeDecodeError as error:
        raise CannotEdit(f"{name} is not UTF-8 (byte {error.start + len(mark)}); convert it first.") from None
    crlf = text.count("\r\n")
    return Text(text, mark, "\r\n" if crlf * 2 > text.count("\n") else "\n")


@dataclass(frozen=True)
class Edit:
    """Replace text[start:end] by `new`."""

    start: int
    end: int
    new: str


def apply(text: str, edits: list[Edit]) -> str:
    """Carry out edits that do not overlap."""
    for edit in sorted(edits, key=lambda e: (e.start, e.end), reverse=True):
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text


def line_of(text: str, index: int) -> int:
    """1-based line number of a character."""
    return text.count("\n", 0, index) + 1
