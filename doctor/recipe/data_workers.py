"""Large JSON data read by several processes, each a part of the files at a time; what they found is joined in order.

What cannot be joined as one process would have counted it is not joined: then the caller reads everything itself. That
is so where a part did not begin with a record, where more columns or roles are in the data than are kept, and where the
messages stand elsewhere in some records.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from doctor.recipe import conversion, data_parts, json_faults, json_records, record_observer
from doctor.recipe.data_worker import Found, Task
from doctor.recipe.dataset_info import Entry
from doctor.recipe.scan_result import BrokenFile, Example, Fault, Scan, add

LEAST = 96 << 20  # bytes of data from which on it pays to start processes
MOST = 4  # processes; each takes about 40 MB
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from doctor.recipe import data_worker; data_worker.main()"


class CannotJoin(Exception):
    """What the parts hold does not add up to what one reader would have found."""


def cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux knows it
        return os.cpu_count() or 1


def read(
    entry: Entry,
    files: list[tuple[Path, str]],
    stage: str,
    media: Path,
    until: float,
    result: Scan,
    tell: Callable[[int, int], None] | None,
) -> bool:
    """Fill `result`; False where it was not to be had this way, and `result` is worth nothing."""
    workers = min(MOST, cores())
    looks_for_media = any(entry.columns.get(name) for name in conversion.MARKS)
    if workers < 2 or looks_for_media or result.bytes_total < LEAST:
        return False
    try:
        found = data_parts.split([path for path, _ in files])
    except OSError:
        return False
    if found is None or len(found[0]) < 2 * workers:
        return False
    parts, lines = found
    named = [(str(path), shown) for path, shown in files]
    tasks = [Task(entry, stage, str(media), named, parts[n::workers], lines, until) for n in range(workers)]
    running: list[subprocess.Popen[bytes]] = []
    try:
        seed = str(random.SystemRandom().randrange(1, 2**32))  # one for all: hashes of records are compared
        for task in tasks:
            running.append(_started(task, seed))
        join = Join(result, entry, files, parts, until)
        for number in range(len(parts)):
            if not join.add(number, _answer(running[number % workers].stdout)):
                break
            if tell:
                tell(result.bytes_read, result.bytes_total)
        join.end()
        return True
    except (CannotJoin, OSError):
        return False
    finally:
        for process in running:
            process.kill()
            process.communicate()


def _started(task: Task, seed: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert process.stdin
    with process.stdin:
        process.stdin.write(msgspec.msgpack.encode(task))
    process.stdin = None
    return process


def _answer(pipe: IO[bytes] | None) -> Found:
    assert pipe
    size = int.from_bytes(pipe.read(8), "big")
    answer = pipe.read(size)
    if not size or len(answer) < size:
        raise CannotJoin("a process ended early")
    return msgspec.msgpack.decode(answer, type=Found)


class Join:
    """Adds part after part to a Scan."""

    def __init__(
        self, scan: Scan, entry: Entry, files: list[tuple[Path, str]], parts: list[data_parts.Part], until: float
    ) -> None:
        self.scan, self.entry, self.files, self.parts, self.until = scan, entry, files, parts, until
        self.contents: set[int] = set()
        self.dated: set[str] = set()
        self.null_first: set[str] = set()
        self.keys: set[str] = set()
        self.messages: tuple[bool, str | None] | None = None
        self.shapes = 0
        self.before = 0  # records of this file in the parts before
        self.bytes_before = 0  # of the files before
        self.lines = [json_records.Lines(path) for path, _ in files]
        self.ended = False

    def add(self, number: int, found: Found) -> bool:
        """Whether the next part is wanted, too."""
        part, scan = self.parts[number], found.scan
        path, shown = self.files[part.file]
        if found.broken:
            self.broken(part, found)
        elif found.whole and part.end is not None and found.end != part.end:
            raise CannotJoin("the next part does not begin with a record")
        self.fits(found)
        self.copies(part, found)
        self.columns(found)
        self.types(part, found)
        for mine, theirs in ((self.scan.roles, scan.roles), (self.scan.message_keys, scan.message_keys)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        for kind, fault in scan.faults.items():
            self.fault(self.scan.faults.setdefault(kind, Fault(0, [])), fault, part)
        self.fault(self.scan.huge, scan.huge, part)
        for kind, first in scan.marks.items():
            if kind not in self.scan.marks and self.before + first.record <= record_observer.MARKS_LOOKED_AT:
                self.scan.marks[kind] = self.moved(first, part)
        self.scan.messages_column = found.messages[1] or self.scan.messages_column
        self.scan.read += scan.read
        self.scan.usable += scan.usable
        self.scan.empty_answers += scan.empty_answers
        if self.scan.first_empty is None and scan.first_empty:
            self.scan.first_empty = self.moved(scan.first_empty, part)
        if found.end > part.start:
            self.scan.bytes_read = self.bytes_before + found.end
        self.before += scan.read
        if found.broken or not found.whole:
            return False
        if part.end is None:
            if len(self.files) > 1:
                self.scan.file_columns[shown] = sorted(self.keys)
            self.keys.clear()
            self.before = 0
            self.bytes_before += path.stat().st_size
            self.ended = part is self.parts[-1]
        return time.monotonic() <= self.until or self.ended

    def end(self) -> None:
        if self.ended:
            self.scan.complete = True
            self.scan.dates = sorted(self.dated - self.null_first)

    def fits(self, found: Found) -> None:
        """Whether a reader that comes from the parts before would have counted the same."""
        if self.messages is not None and found.scan.read and not (found.steady and found.messages == self.messages):
            raise CannotJoin("the messages stand elsewhere")
        if found.scan.read:
            self.messages = found.messages
        self.shapes += found.shapes
        scan = found.scan
        if (
            self.shapes >= record_observer.MOST_SHAPES
            or len(self.scan.columns.keys() | scan.columns.keys()) >= record_observer.MOST_COLUMNS
            or len(self.scan.types.keys() | scan.types.keys()) >= record_observer.MOST_COLUMNS
            or len(self.scan.roles.keys() | scan.roles.keys()) >= record_observer.MOST_ROLES
            or conversion.NOT_AN_OBJECT in scan.faults
        ):
            raise CannotJoin("more than is kept")

    def copies(self, part: data_parts.Part, found: Found) -> None:
        hashes = array("q", found.hashes)
        mine = set(hashes)
        room = record_observer.MOST_COMPARED - len(self.contents) - len(mine)
        if len(mine) == len(hashes) and room >= 0 and self.contents.isdisjoint(mine):
            self.contents |= mine
            return
        for index, one in enumerate(hashes):
            if one in self.contents:
                self.scan.duplicates += 1
                if self.scan.first_duplicate is None:
                    self.scan.first_duplicate = self.example(part, index + 1, "seen before")
            elif len(self.contents) < record_observer.MOST_COMPARED:
                self.contents.add(one)

    def columns(self, found: Found) -> None:
        columns = self.scan.columns
        for name, count in found.scan.columns.items():
            if name not in columns and name in found.null_first:
                self.null_first.add(name)
            if count and not columns.get(name):
                if name in found.dated:
                    self.dated.add(name)
            elif count and name not in found.dated:
                self.dated.discard(name)
            columns[name] = columns.get(name, 0) + count
        self.keys.update(found.keys)

    def types(self, part: data_parts.Part, found: Found) -> None:
        for path, names in found.scan.types.items():
            named = self.scan.types.setdefault(path, [])
            for name in names:
                if name in named:
                    continue
                named.append(name)
                if len(named) == 2:
                    text = f"{name} after {named[0]}"
                    self.scan.mixed[path] = self.example(part, found.first_of[path][name], text)

    def fault(self, mine: Fault, theirs: Fault, part: data_parts.Part) -> None:
        for example in theirs.examples:
            if len(mine.examples) < record_observer.EXAMPLES:
                add(mine, self.moved(example, part))
                mine.count -= 1
        mine.count += theirs.count

    def moved(self, example: Example, part: data_parts.Part) -> Example:
        """What a reader of one part counted from its beginning, counted from the beginning of the data."""
        line = self.lines[part.file].at(part.start) - 1 + example.line
        return Example(self.before + example.record, example.file, line, example.text)

    def example(self, part: data_parts.Part, record: int, text: str) -> Example:
        """A record of a part by its number there; reads the part again to know the line."""
        path, shown = self.files[part.file]
        for batch in data_parts.read(path, part, lines_from=0):
            if record < batch.first + len(batch.records):
                return Example(self.before + record, shown, batch.line_of(record - batch.first), text)
        raise CannotJoin("the file has changed")

    def broken(self, part: data_parts.Part, found: Found) -> None:
        """Where a part stops being JSON the file may, or it was no part: reading on from its beginning tells."""
        path, shown = self.files[part.file]
        wanted = self.before + found.scan.read
        rest = msgspec.structs.replace(part, end=None)
        try:
            for batch in data_parts.read(path, rest, self.before + 1, 0):
                if part.end is not None and batch.end >= part.end:
                    break
        except json_faults.BadData as bad:
            if bad.record - 1 == wanted:
                self.scan.broken = BrokenFile(
                    shown, bad.kind, bad.line, bad.column, bad.record, bad.text[:80], bad.encoding
                )
                return
        raise CannotJoin("the next part does not begin with a record")
