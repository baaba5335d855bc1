"""Records of a JSON data file, streamed in bounded memory: a list of objects or one object after another (JSON lines).

LLaMA-Factory hands `.json` and `.jsonl` to `datasets`, which tells the two forms apart by content, not by name
(tried with datasets 3.1 and 4.0). Speed comes from decoding some megabytes at once: a likely end of a record is
searched backwards from the end of the buffer, and the decoder itself proves or refutes the guess. Only where that fails
are records delimited one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from doctor.recipe import json_faults
from doctor.recipe.json_faults import BadData

CHUNK = 256 << 10  # bytes read at once; more where a record is longer. Larger ones leave the processor's cache
LARGEST_RECORD = 128 << 20  # bytes; a record beyond this is not read

_STRUCTURE = re.compile(rb'["{}\[\]]')
_BLANK = b" \t\r\n"
_DECODER = msgspec.json.Decoder()
# What msgspec raises; invalid UTF-8 at the start of a name escapes as UnicodeDecodeError.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Lines:
    """Line numbers of byte offsets of a file, counted only when they are asked for: most records are never shown."""

    def __init__(self, path: Path, base: int = 0) -> None:
        """The line at `base` is the first."""
        self.path, self.base = path, base
        self.offset, self.line = base, 1

    def at(self, offset: int) -> int:
        """The 1-based line on which the byte at `offset` stands."""
        if offset < self.offset:
            self.offset, self.line = self.base, 1
        with self.path.open("rb") as file:
            file.seek(self.offset)
            while self.offset < offset:
                part = file.read(min(1 << 20, offset - self.offset))
                if not part:
                    break  # the file became shorter while it was read
                self.line += part.count(b"\n")
                self.offset += len(part)
        return self.line


class Batch:
    """Consecutive records, decoded. `first`: number of the first one (1-based); `start`, `end`: where they stand."""

    def __init__(self, records: list[Any], size: int, first: int, start: int, lines: Lines) -> None:
        self.records, self.first, self.start, self.lines = records, first, start, lines
        self.end = start + size
        self._starts: list[int] | None = None

    def line_of(self, index: int) -> int:
        """The 1-based line on which `records[index]` begins. The file is read there once more: few records are shown."""
        if self._starts is None:
            with self.lines.path.open("rb") as file:
                file.seek(self.start)
                self._starts = [start for start, _ in values(file.read(self.end - self.start))]
        return self.lines.at(self.start + (self._starts[index] if index < len(self._starts) else 0))


def string_end(raw: bytes, at: int) -> int:
    """Position after the string that opens at `at`; -1 when it does not close within `raw`."""
    at += 1
    while True:
        at = raw.find(b'"', at)
        if at < 0:
            return -1
        before = at - 1
        while raw[before] == 0x5C:  # backslash
            before -= 1
        if (at - before) % 2:
            return at + 1
        at += 1


def values(raw: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of each complete top-level object or array in `raw`; text between them is not looked at."""
    depth = start = at = 0
    while found := _STRUCTURE.search(raw, at):
        at = found.end()
        mark = found[0]
        if mark == b'"':
            at = string_end(raw, at - 1)
            if at < 0:
                return
        elif mark in b"{[":
            if depth == 0:
                start = at - 1
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                yield start, at
            elif depth < 0:
                return


def decode(raw: bytes) -> Any:
    """One value, also where only Python's own reader takes it (NaN, control characters, huge integers).

    Raises ValueError (json.JSONDecodeError, UnicodeDecodeError among them) and RecursionError.
    """
    try:
        return _DECODER.decode(raw)
    except UNDECODABLE:
        return json.loads(raw.decode("utf-8"), strict=False)


def read(path: Path) -> Iterator[Batch]:
    """The records of a file in batches. Raises BadData where the file ends being JSON, OSError when it cannot be read."""
    with path.open("rb") as file:
        head = file.read(CHUNK)
        yield from Reader(file, head, Lines(path)).batches()


class Bytes(Protocol):
    """A file as far as it is read here. Both read less than was asked for only at its end."""

    def read(self, size: int, /) -> bytes: ...

    def readinto(self, space: memoryview, /) -> int: ...


class Space:
    """Memory that a file is read into again and again: of new memory for each chunk every page would be a fault.

    `held[: end]` is what was read and not taken, after the bytes that stand `before` it.
    """

    def __init__(self, content: bytes, before: bytes = b"") -> None:
        self.first, self.end = len(before), len(before) + len(content)
        self.held = bytearray(before + content + bytes(max(0, CHUNK - len(content)) + CHUNK))
        self.view = memoryview(self.held)

    def fill(self, file: Bytes) -> bool:
        """Read a chunk, or as much as there is room for; whether that was the end of the file."""
        room = self.view[self.end : self.end + CHUNK]
        added = file.readinto(room) if room else 0
        self.end += added
        return added < len(room)

    def drop(self, count: int) -> None:
        """Take away the first `count` bytes after those that stand before them."""
        self.view[self.first : self.end - count] = self.view[self.first + count : self.end]
        self.end -= count

    def content(self) -> bytes:
        return bytes(self.view[self.first : self.end])


class Reader:
    """Takes the records from a file, of which `head` is read already."""

    def __init__(self, file: Bytes, head: bytes, lines: Lines) -> None:
        self.file = file
        self.buffer = head
        self.done = len(head) < CHUNK  # nothing more in the file
        self.line_numbers = lines
        self.number = 1  # of the next record
        self.consumed = 0
        self.closes = True  # whether a list must end with what is read
        self.separator: bytes | None = None

    def batches(self) -> Iterator[Batch]:
        marked = self.buffer.startswith(b"\xef\xbb\xbf")
        if self.buffer.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise BadData(json_faults.ENCODING, 1, 1, 1, "UTF-16", encoding="utf-16")
        if marked:
            self.drop(3)
        self.skip_blank()
        if not self.buffer:
            raise BadData(json_faults.EMPTY, 1, 1, 0, "")
        if self.buffer[:1] == b"[":
            if marked:
                raise BadData(json_faults.BYTE_ORDER_MARK, 1, 1, 1, "EF BB BF")
            self.drop(1)
            yield from self.list_batches()
        elif self.buffer[:1] == b"{":
            yield from self.stream_batches()
        else:
            raise json_faults.at_start(self.buffer) or self.bad_value(self.buffer, 0)

    # -- the buffer -------------------------------------------------------------------------------------------------
    @property
    def line(self) -> int:
        """The line on which the buffer begins."""
        return self.line_numbers.at(self.consumed)

    def more(self) -> bool:
        if self.done:
            return False
        wanted = max(CHUNK, len(self.buffer))  # grows with a long record, so that it is not searched again and again
        added = self.file.read(wanted)
        self.done = len(added) < wanted
        self.buffer += added
        return bool(added)

    def drop(self, count: int) -> None:
        self.consumed += count
        self.buffer = self.buffer[count:]

    def skip_blank(self) -> None:
        while True:
            blank = len(self.buffer) - len(self.buffer.lstrip(_BLANK))
            if blank:
                self.drop(blank)
            if self.buffer or not self.more():
                return

    def batch(self, records: list[Any], end: int) -> Batch:
        """Take `end` bytes from the buffer as these records."""
        made = Batch(records, end, self.number, self.consumed, self.line_numbers)
        self.number += len(records)
        self.drop(end)
        return made

    # -- a list of records ------------------------------------------------------------------------------------------
    def list_batches(self) -> Iterator[Batch]:
        self.skip_blank()
        if self.buffer[:1] == b"]":
            self.drop(1)
            self.after_the_list()
            return
        while True:
            if self.separator:
                yield from self.separated(self.separator)
            yield self.delimited()
            self.skip_blank()
            if not self.buffer:
                if not self.closes:
                    return
                raise BadData(json_faults.TRUNCATED, self.line, 1, self.number, "the list is never closed")
            mark = self.buffer[:1]
            if mark == b"]":
                self.drop(1)
                self.after_the_list()
                return
            if mark != b",":
                kind = json_faults.MISSING_COMMA if mark in b"{[" else json_faults.NOT_JSON
                raise BadData(kind, self.line, 1, self.number, json_faults.excerpt(self.buffer))
            self.drop(1)
            self.skip_blank()
            if self.buffer[:1] == b"]":
                raise BadData(json_faults.TRAILING_COMMA, self.line, 1, self.number, ",")
            while len(self.buffer) < CHUNK and self.more():
                pass

    def separated(self, separator: bytes) -> Iterator[Batch]:
        """Records up to the last place in what was read where the next one begins as the second one of the list did, for
        as long as that is a guess that the decoder proves. What is left begins with a record and stays in the buffer.

        As in `lines`, one space is used again. A list is made of it by a bracket before and one over the byte behind.
        """
        space = Space(self.buffer, before=b"[")
        gap = separator.index(b"{") - 1  # the comma and the blanks between two records
        while True:
            self.done = self.done or space.fill(self.file)
            at = space.held.rfind(separator, 1, space.end)
            if at < 0:
                break
            behind, space.held[at + 1] = space.held[at + 1], 0x5D
            try:
                records = _DECODER.decode(space.view[: at + 2])
            except UNDECODABLE:
                break
            finally:
                space.held[at + 1] = behind
            yield Batch(records, at, self.number, self.consumed, self.line_numbers)
            self.number += len(records)
            self.consumed += at + gap
            space.drop(at + gap)
        self.buffer = space.content()

    def delimited(self) -> Batch:
        """The complete records in the buffer, delimited one by one; reads on until there is at least one."""
        while True:
            records: list[Any] = []
            end = 0
            for start, stop in values(self.buffer):
                between = self.buffer[end:start].strip(_BLANK)
                if between != (b"," if records else b""):
                    if not records:
                        raise self.bad_value(self.buffer[end:start].lstrip(_BLANK), end)
                    break
                try:
                    records.append(decode(self.buffer[start:stop]))
                except (ValueError, RecursionError) as error:
                    if records:
                        break
                    raise self.bad_record(self.buffer[start:stop], start, error) from None
                if self.separator is None and (found := first_key(self.buffer, stop)):
                    self.separator = found
                end = stop
                if self.buffer[stop : stop + 64].lstrip(_BLANK)[:1] == b"]":
                    break
            if records:
                return self.batch(records, end)
            scalar = re.match(rb'\s*("(?:[^"\\]|\\.){0,4096}"|[-\w.+]+)\s*[,\]]', self.buffer[:8192])
            if scalar:
                try:
                    return self.batch([decode(scalar[1])], scalar.end(1))
                except ValueError as error:
                    raise self.bad_record(scalar[1], scalar.start(1), error) from None
            if len(self.buffer) > LARGEST_RECORD:
                raise BadData(json_faults.TOO_LARGE, self.line, 1, self.number, json_faults.excerpt(self.buffer))
            if not self.more():
                raise self.bad_value(self.buffer, 0)

    def after_the_list(self) -> None:
        self.skip_blank()
        if self.buffer:
            kind = json_faults.CONCATENATED if self.buffer[:1] == b"[" else json_faults.EXTRA_DATA
            raise BadData(kind, self.line, 1, self.number, json_faults.excerpt(self.buffer))

    # -- one object after another -----------------------------------------------------------------------------------
    def stream_batches(self) -> Iterator[Batch]:
        while self.buffer:
            yield from self.lines()
            if not self.buffer:
                return
            yield self.delimited_stream()
            self.skip_blank()
            while len(self.buffer) < CHUNK and self.more():
                pass

    def lines(self) -> Iterator[Batch]:
        """Complete lines, each one a record, for as long as they are; what is not stays in the buffer."""
        space = Space(self.buffer)
        while True:
            self.done = self.done or space.fill(self.file)
            end = space.end if self.done else space.held.rfind(b"\n", 0, space.end) + 1
            if not end:
                break  # the end of the file, or a line that is longer than the space
            try:
                records = _DECODER.decode_lines(space.view[:end])
            except UNDECODABLE:
                break
            if records:
                yield Batch(records, end, self.number, self.consumed, self.line_numbers)
            self.number += len(records)
            self.consumed += end
            space.drop(end)
        self.buffer = space.content()

    def delimited_stream(self) -> Batch:
        while True:
            records: list[Any] = []
            end = 0
            for start, stop in values(self.buffer):
                between = self.buffer[end:start].strip(_BLANK)
                try:
                    if between:
                        raise json.JSONDecodeError("text between records", between.decode(errors="replace"), 0)
                    records.append(decode(self.buffer[start:stop]))
                except (ValueError, RecursionError) as error:
                    if records:
                        break
                    raise self.bad_record(self.buffer[0 if between else start : stop], start, error) from None
                end = stop
            if records:
                return self.batch(records, end)
            if len(self.buffer) > LARGEST_RECORD:
                raise BadData(json_faults.TOO_LARGE, self.line, 1, self.number, json_faults.excerpt(self.buffer))
            if not self.more():
                raise self.bad_value(self.buffer, 0)

    # -- what is wrong ----------------------------------------------------------------------------------------------
    def bad_value(self, raw: bytes, at: int) -> BadData:
        """What is wrong with `raw`, which stands at `at` in the buffer and is no complete value."""
        if not raw.strip(_BLANK):
            line = self.line + self.buffer.count(b"\n")
            return BadData(json_faults.TRUNCATED, line, 1, self.number, "the list is never closed")
        return self.bad_record(raw, at, None)

    def bad_record(self, raw: bytes, at: int, error: Exception | None) -> BadData:
        line = self.line + self.buffer.count(b"\n", 0, at)
        return json_faults.in_value(raw, line, self.number, self.done, error)


def first_key(buffer: bytes, stop: int) -> bytes | None:
    """`}`, the separator and the first key of the next record: the bytes by which later records are found."""
    found = re.compile(rb'\s*,\s*\{\s*"[^"\\]{0,200}"').match(buffer, stop)
    return buffer[stop - 1 : found.end()] if found else None
