"""Reads the data of one entry as far as the time allows and sums up what the loader and the converter will make of it."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from doctor.recipe import conversion, csv_records, json_records, parquet_footer
from doctor.recipe.dataset_info import Entry

NOT_AS_NAMED = "not what its name says"  # kind of a BrokenFile, beside json_records' kinds
EXAMPLES = 5  # records named per kind of fault
MOST_COLUMNS = 200
ENDS = 512  # characters at each end by which a long text is compared
MOST_COMPARED = 500_000  # different records kept as hashes of 8 bytes, about 40 MB
MOST_ROLES = 40
LEAST, MOST = -(2**63), 2**64 - 1  # whole numbers that a column can hold
# Text that Arrow's reader of JSON lines takes for a time.
_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d(:\d\d(:\d\d)?)?Z?)?")
MEDIA_LOOKED_AT = 200  # files whose existence is asked for, per entry

_TYPES = {str: "text", bool: "true/false", int: "number", float: "number", list: "list", dict: "object"}


class Example(msgspec.Struct, frozen=True):
    """One record at fault: its number (1-based), file, line, and a short excerpt of what is wrong in it."""

    record: int
    file: str
    line: int
    text: str


class Fault(msgspec.Struct):
    """A kind of fault, how many records have it, and the first of them."""

    count: int = 0
    examples: list[Example] = []


class BrokenFile(msgspec.Struct, frozen=True):
    """Where a file stops being readable; `kind` is one of json_records' kinds."""

    file: str
    kind: str
    line: int
    column: int
    record: int
    text: str
    encoding: str | None = None


class Scan(msgspec.Struct):
    """What was read of an entry's data.

    `columns`: name -> number of records that have it (with a value other than null), `types`: path -> types seen,
    `complete`: every record was read. `faults`: kind -> records. `usable`: records that will be trained on.
    """

    read: int = 0
    usable: int = 0
    complete: bool = False
    bytes_read: int = 0
    bytes_total: int = 0
    rows: int | None = None  # by the file's own account, where it gives one
    columns: dict[str, int] = {}
    types: dict[str, list[str]] = {}
    mixed: dict[str, Example] = {}
    message_keys: dict[str, int] = {}
    roles: dict[str, int] = {}
    messages_column: str | None = None
    faults: dict[str, Fault] = {}
    empty_answers: int = 0
    missing_media: Fault = msgspec.field(default_factory=Fault)
    media_found_in: str | None = None  # a folder in which the first missing file does lie
    broken: BrokenFile | None = None
    file_columns: dict[str, list[str]] = {}  # file -> the columns that any of its records has, of JSON only
    duplicates: int = 0  # records whose content was seen before, of the first MOST_COMPARED different ones
    first_duplicate: Example | None = None
    numbers: list[str] = []  # columns of a Parquet file that hold numbers, or true and false
    dates: list[str] = []  # columns of JSON lines in which every text is a date: Arrow makes times of them
    huge: Fault = msgspec.field(default_factory=Fault)  # whole numbers that Arrow cannot hold, in a JSON list
    unread: str | None = None  # why the records of these files were not read


class _Rows(msgspec.Struct):
    """Consecutive records and where they stand."""

    records: list[Any]
    first: int
    position: Any  # index within the batch -> line
    bytes_read: int
    lines: bool | None = None  # of JSON: one record a line, which Arrow reads itself; else a list, which Python reads


def scan(
    entry: Entry,
    files: list[tuple[Path, str]],
    loader: str,
    stage: str,
    media: Path,
    until: float,
    tell: Callable[[int, int], None] | None = None,
) -> Scan:
    """Read `files` (path and name to show) until the monotonic clock passes `until`. Never raises for what a file holds.

    `tell` hears the bytes read and the bytes of all files, batch by batch.
    """
    result = Scan(bytes_total=sum(_size(path) for path, _ in files))
    judge = conversion.converter(entry, stage)
    observer = _Observer(result, entry, media)
    before = 0
    for path, shown in files:
        try:
            for rows in _rows(path, loader, result):
                number = rows.first
                observer.lines = rows.lines
                for index, record in enumerate(rows.records):
                    observer.look(record, rows, index, shown, judge)
                    number += 1
                result.read += len(rows.records)
                result.bytes_read = before + rows.bytes_read
                if tell:
                    tell(result.bytes_read, result.bytes_total)
                if time.monotonic() > until:
                    return result
        except json_records.BadData as bad:
            result.broken = BrokenFile(shown, bad.kind, bad.line, bad.column, bad.record, bad.text[:80], bad.encoding)
            return result
        except parquet_footer.NotParquet as why:
            result.broken = BrokenFile(shown, NOT_AS_NAMED, 1, 1, 0, str(why))
            return result
        except parquet_footer.Unreadable as why:
            result.unread = f"{shown}: {why}"
            return result
        except OSError as error:
            result.unread = f"{shown} cannot be read ({error.strerror})"
            return result
        before += _size(path)
        if loader == "json" and len(files) > 1:
            result.file_columns[shown] = sorted({name for shape in observer.key_shapes for name in shape})
            observer.key_shapes.clear()
    result.complete = result.unread is None
    result.dates = sorted(observer.dates)
    return result


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _rows(path: Path, loader: str, result: Scan) -> Iterator[_Rows]:
    if loader == "json":
        lines = not _is_list(path)
        for batch in json_records.read(path):
            yield _Rows(batch.records, batch.first, batch.line_of, batch.end, lines)
    elif loader == "csv":
        yield from _csv_rows(path)
    elif loader == "text":
        yield from _text_rows(path)
    elif loader == "parquet":
        footer = parquet_footer.read(path)
        result.rows = (result.rows or 0) + footer.rows
        result.columns |= {name: footer.rows for name in footer.columns}
        result.numbers += [name for name in footer.numbers if name not in result.numbers]
        result.unread = "records of parquet files are not read, only their columns"
    else:
        if loader == "arrow" and not _arrow_starts(path):
            raise parquet_footer.NotParquet("it does not begin as an Arrow file")
        result.unread = f"{loader} files are not read without pyarrow"


def _is_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _csv_rows(path: Path) -> Iterator[_Rows]:
    try:
        for values, number, line in csv_records.read(path):
            yield _Rows([values], number, lambda index, line=line: line, 0)
    except UnicodeDecodeError:
        raise _encoding_fault(path) from None


def _arrow_starts(path: Path) -> bool:
    """Whether a file begins as Arrow's do: the magic of the file format, or the first message of a stream."""
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith((b"ARROW1", b"\xff\xff\xff\xff"))


def _text_rows(path: Path) -> Iterator[_Rows]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield _Rows([{"text": line.rstrip("\n")}], number, lambda index, number=number: number, 0)
    except UnicodeDecodeError:
        raise _encoding_fault(path) from None


def _encoding_fault(path: Path) -> json_records.BadData:
    """Where a text file stops being UTF-8, and the encoding that it probably has. Reads the file up to there."""
    line, number = 1, 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError as wrong:
                encoding = json_records.guess_encoding(raw + b"\n".join(file.readlines(1 << 16)))
                near = raw[max(0, wrong.start - 10) : wrong.start + 20].decode(encoding or "latin-1", "replace")
                return json_records.BadData(json_records.ENCODING, number, 1, number, near.strip(), encoding)
    return json_records.BadData(json_records.ENCODING, line, 1, number, "", None)


class _Observer:
    """Adds record after record to a Scan. Kept flat, because it runs once for each of millions of records."""

    def __init__(self, scan: Scan, entry: Entry, media: Path) -> None:
        self.scan = scan
        self.entry = entry
        self.media = media
        self.declared_messages = entry.columns.get("messages") if entry.formatting != "alpaca" else None
        self.answer = entry.columns.get("response") if entry.formatting == "alpaca" else None
        self.role_tag, self.content_tag = entry.tags.get("role_tag"), entry.tags.get("content_tag")
        self.seen: dict[str, set[type]] = {}
        self.shapes: set[tuple[Any, ...]] = set()
        self.roles: Counter[Any] = Counter()
        self.media_columns = [c for n in ("images", "videos", "audios") if (c := entry.columns.get(n))]
        self.media_asked = 0
        self.types_of: dict[str, str] = {}
        self.contents: set[int] = set()
        self.lines: bool | None = None
        self.dates: set[str] = set()  # columns in which every text so far is a date
        self.key_shapes: set[tuple[str, ...]] = set()  # keys of the records of one file, each order once

    def look(self, record: Any, rows: _Rows, index: int, shown: str, judge: conversion.Converter) -> None:
        if not isinstance(record, dict):
            self.fault(conversion.NOT_AN_OBJECT, repr(record)[:60], rows, index, shown)
            return
        try:
            content = _fingerprint(record)
        except RecursionError:  # nested too deep to be compared
            content = hash((shown, rows.first + index))
        if content in self.contents:
            self.scan.duplicates += 1
            if self.scan.first_duplicate is None:
                self.scan.first_duplicate = Example(rows.first + index, shown, rows.position(index), "seen before")
        elif len(self.contents) < MOST_COMPARED:
            self.contents.add(content)
        columns = self.scan.columns
        shape = tuple(record)
        if shape not in self.key_shapes and len(self.key_shapes) < 10_000:
            self.key_shapes.add(shape)
        for name, value in record.items():
            if value is None:
                columns.setdefault(name, 0) if len(columns) < MOST_COLUMNS else None
                continue
            kind = type(value)
            if name in columns:
                columns[name] += 1
                if name in self.dates and not (kind is str and _DATE.fullmatch(value)):
                    self.dates.discard(name)
            elif len(columns) < MOST_COLUMNS:
                columns[name] = 1
                if self.lines and kind is str and _DATE.fullmatch(value):
                    self.dates.add(name)
            if kind is int and self.lines is False and not LEAST <= value <= MOST:
                _add(self.scan.huge, Example(rows.first + index, shown, rows.position(index), f"{name}: {value}"[:60]))
            elif kind is list:
                self.look_into_list(name, value, rows, index, shown)
            elif kind is dict:
                self.look_into_object(name, value, rows, index, shown)
            self.type_seen(name, kind, rows, index, shown)
        found = judge(record)
        if found is None:
            self.scan.usable += 1
            if self.answer is not None and record.get(self.answer) == "":
                self.scan.empty_answers += 1
        else:
            self.fault(found[0], found[1], rows, index, shown)
        if self.media_columns and self.media_asked < MEDIA_LOOKED_AT:
            self.look_for_media(record, rows, index, shown)

    def type_seen(self, path: str, kind: type, rows: _Rows, index: int, shown: str) -> None:
        seen = self.seen.get(path)
        if seen is None:
            if len(self.seen) >= MOST_COLUMNS:
                return
            seen = self.seen[path] = set()
        if kind in seen:
            return
        seen.add(kind)
        name = _TYPES.get(kind, kind.__name__)
        named = self.scan.types.setdefault(path, [])
        if name not in named:
            named.append(name)
            if len(named) == 2:
                place = rows.position(index)
                self.scan.mixed[path] = Example(rows.first + index, shown, place, f"{name} after {named[0]}")

    def look_into_list(self, name: str, items: list[Any], rows: _Rows, index: int, shown: str) -> None:
        messages = False
        for item in items:
            kind = type(item)
            if kind is dict:
                messages = True
                shape = (name, *item, *map(type, item.values()))
                if shape not in self.shapes and len(self.shapes) < 10_000:
                    self.shapes.add(shape)
                    self.look_into_object(f"{name}[]", item, rows, index, shown)
            if item is not None:
                self.type_seen(f"{name}[]", kind, rows, index, shown)
        if messages:
            self.count_roles(name, items)

    def look_into_object(self, path: str, item: dict[str, Any], rows: _Rows, index: int, shown: str) -> None:
        for key, value in item.items():
            if value is not None:
                self.type_seen(f"{path}.{key}", type(value), rows, index, shown)

    def count_roles(self, name: str, items: list[Any]) -> None:
        """Keys and roles of the messages: of the declared column, or where the data lacks it of the likely one."""
        scan = self.scan
        if self.declared_messages in scan.columns and name != self.declared_messages:
            return
        scan.messages_column = scan.messages_column or name
        if scan.messages_column != name:
            return
        keys, roles = scan.message_keys, scan.roles
        for item in items:
            if not isinstance(item, dict):
                continue
            for key, value in item.items():
                keys[key] = keys.get(key, 0) + 1
                if isinstance(value, str) and len(value) <= 20 and (key == self.role_tag or key in _ROLE_KEYS):
                    word = f"{key}={value}"
                    if word in roles or len(roles) < MOST_ROLES:
                        roles[word] = roles.get(word, 0) + 1
        last = items[-1]
        if isinstance(last, dict) and self.content_tag and last.get(self.content_tag) == "":
            scan.empty_answers += 1

    def look_for_media(self, record: dict[str, Any], rows: _Rows, index: int, shown: str) -> None:
        for column in self.media_columns:
            listed = record.get(column)
            for item in listed if isinstance(listed, list) else [listed]:
                if not isinstance(item, str) or item.startswith(("http://", "https://", "data:")):
                    continue
                self.media_asked += 1
                if not os.path.isfile(self.media / item) and not os.path.isfile(item):
                    _add(self.scan.missing_media, Example(rows.first + index, shown, rows.position(index), item[:200]))
                    if self.scan.missing_media.count == 1:
                        near = (
                            Path(shown).parent,
                            Path(shown).parent / "images",
                            self.media.parent,
                            self.media / "images",
                        )
                        self.scan.media_found_in = next((str(p) for p in near if os.path.isfile(p / item)), None)

    def fault(self, kind: str, text: str, rows: _Rows, index: int, shown: str) -> None:
        fault = self.scan.faults.setdefault(kind, Fault(0, []))
        if len(fault.examples) < EXAMPLES:
            fault.examples.append(Example(rows.first + index, shown, rows.position(index), text))
        fault.count += 1


def _fingerprint(value: Any) -> int:
    """A hash of the content; the order of keys does not matter. Of a long text its length and its ends."""
    kind = type(value)
    if kind is str:
        return hash(value) if len(value) < 4 * ENDS else hash((len(value), value[:ENDS], value[-ENDS:]))
    if kind is dict:
        return hash(frozenset((key, _fingerprint(item)) for key, item in value.items()))
    if kind is list:
        return hash(tuple(map(_fingerprint, value)))
    return hash((kind, value))


_ROLE_KEYS = ("from", "role", "speaker", "sender", "author", "type", "user")


def _add(fault: Fault, example: Example) -> None:
    if len(fault.examples) < EXAMPLES:
        fault.examples = [*fault.examples, example]
    fault.count += 1
