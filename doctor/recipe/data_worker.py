"""Reads parts of data files in a process of its own: the records of a part, summed up so that parts can be joined."""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec

from doctor.recipe import conversion, data_parts, json_faults, json_records
from doctor.recipe.dataset_info import Entry
from doctor.recipe.record_observer import Observer
from doctor.recipe.scan_result import Rows, Scan


class Task(msgspec.Struct):
    """Parts to be read one after the other, until the monotonic clock passes `until`."""

    entry: Entry
    stage: str
    media: str
    files: list[tuple[str, str]]
    parts: list[data_parts.Part]
    lines: bool
    until: float


class Found(msgspec.Struct):
    """What a part holds. Records and lines are counted from its start; `broken`: it stops being JSON."""

    scan: Scan
    hashes: bytes  # of the records, comparable between processes that hash alike
    steady: bool  # where the messages stand was clear from the first record on
    messages: tuple[bool, str | None]
    dated: list[str]
    null_first: list[str]
    first_of: dict[str, dict[str, int]]
    keys: list[str]
    shapes: int
    end: int
    whole: bool
    broken: bool = False


def read(task: Task, part: data_parts.Part) -> Found:
    path, shown = Path(task.files[part.file][0]), task.files[part.file][1]
    observer = Observer(Scan(), task.entry, Path(task.media), conversion.converter(task.entry, task.stage))
    observer.hashes = hashes = array("q")
    first = None
    whole, broken, end = True, False, part.start
    try:
        for batch in data_parts.read(path, part):
            end = batch.end
            records, skipped = batch.records, 0
            if first is None:
                observer.look_at(Rows(records[:1], batch.first, batch.line_of, -1 - part.start, task.lines), shown)
                first, skipped = observer.messages(), 1
            place = batch.line_of if not skipped else _later(batch)
            observer.look_at(Rows(records[skipped:], batch.first + skipped, place, end, task.lines), shown)
            if time.monotonic() > task.until:
                whole = False
                break
    except json_faults.BadData:
        broken = True
    keys = observer.columns_of_file()
    now = observer.messages()
    return Found(
        observer.scan, hashes.tobytes(), first in (None, now), now, sorted(observer.dated), sorted(observer.null_first),
        observer.first_of, keys, len(observer.shapes) + len(keys), end, whole, broken,
    )  # fmt: skip


def _later(batch: json_records.Batch) -> Callable[[int], int]:
    """Lines of the records after the first."""
    return lambda index: batch.line_of(index + 1)


def main() -> None:
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Task)
    out = sys.stdout.buffer
    for part in task.parts:
        try:
            found = msgspec.msgpack.encode(read(task, part))
        except OSError:
            return  # the process that asked reads the file itself, and says why it cannot
        out.write(len(found).to_bytes(8, "big") + found)
        out.flush()
        if time.monotonic() > task.until:
            return
