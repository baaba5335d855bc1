"""A large data file in parts that can be read side by side: where they begin, and the records of one of them.

A part begins where a record seems to begin. Whether one does is known once the part before it was read: its records end
exactly there, or the guess was wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from doctor.recipe import json_records

SIZE = 16 << 20  # bytes of a part
LOOKED_THROUGH = 4 << 20  # bytes after it in which the next record must begin


class Part(msgspec.Struct, frozen=True):
    """Bytes of a file from `start` to `end` (None: to the end of the file); `inside`: they begin in a list, whose records
    are parted by `mark`."""

    file: int
    start: int
    end: int | None
    inside: bool
    mark: bytes | None = None


def split(files: Sequence[Path]) -> tuple[list[Part], bool] | None:
    """The parts of these JSON files in order, and whether all are lines; None where files of both forms are mixed."""
    parts: list[Part] = []
    forms = set()
    for number, path in enumerate(files):
        with path.open("rb") as file:
            head = file.read(json_records.CHUNK)
            size = file.seek(0, 2)
            forms.add(not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["))
            start, inside, mark = 0, False, _mark(head)
            while mark and size - start > 2 * SIZE:
                file.seek(start + SIZE)
                at = file.read(LOOKED_THROUGH).find(mark)
                if at < 0:
                    break
                end = start + SIZE + at + 1
                parts.append(Part(number, start, end, inside, mark))
                inside = mark != b"\n"
                start = end + (mark.index(b"{", 1) - 1 if inside else 0)
            parts.append(Part(number, start, None, inside, mark))
    return (parts, forms == {True}) if len(forms) == 1 else None


def _mark(head: bytes) -> bytes | None:
    """The bytes with which a record ends and the next one begins; None where they do not show at the beginning."""
    text = head.lstrip(b" \t\r\n")
    first = next(json_records.values(text[1:] if text.startswith(b"[") else text), None)
    if first is None:
        return None
    if text.startswith(b"["):
        return json_records.first_key(text[1:], first[1])
    # Objects that span lines have line ends inside.
    whole = first[0] == 0 and text[first[1] :].lstrip(b" \t\r").startswith(b"\n") and b"\n" not in text[: first[1]]
    return b"\n" if whole else None


def read(path: Path, part: Part, number: int = 1, lines_from: int | None = None) -> Iterator[json_records.Batch]:
    """The records of a part, as json_records.read gives them. Lines are counted from `lines_from`, else from its start."""
    with path.open("rb") as whole:
        whole.seek(part.start)
        file = whole if part.end is None else _Bytes(whole, part.end - part.start)
        lines = json_records.Lines(path, part.start if lines_from is None else lines_from)
        reader = json_records.Reader(file, file.read(json_records.CHUNK), lines)
        reader.consumed, reader.number, reader.closes = part.start, number, part.end is None
        if part.inside:
            reader.separator = part.mark
            yield from reader.list_batches()
        else:
            yield from reader.stream_batches() if part.start else reader.batches()


class _Bytes:
    """A file that ends before it does."""

    def __init__(self, file: json_records.Bytes, left: int) -> None:
        self.file, self.left = file, left

    def read(self, size: int) -> bytes:
        got = self.file.read(min(size, self.left))
        self.left -= len(got)
        return got

    def readinto(self, space: memoryview) -> int:
        count = self.file.readinto(space[: self.left])
        self.left -= count
        return count
