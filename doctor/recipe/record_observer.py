"""What is noted of each record: columns, types, roles, copies, faults. Kept flat: it runs once for each of millions."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from doctor.recipe import conversion, media_files
from doctor.recipe.dataset_info import Entry
from doctor.recipe.record_outline import LEAST, LONGEST_ROLE, MOST, ROLE_KEYS, Outlines, content
from doctor.recipe.scan_result import EXAMPLES, Example, Fault, Rows, Scan, add

MOST_COLUMNS = 200
MOST_COMPARED = 500_000  # different records kept as hashes of 8 bytes, about 40 MB
MOST_ROLES = 40
MOST_OUTLINES = 10_000
MOST_SHAPES = 10_000  # different keys of records, and of messages
# Text that Arrow's reader of JSON lines takes for a time.
_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d(:\d\d(:\d\d)?)?Z?)?")
MEDIA_LOOKED_AT = 200  # files whose existence is asked for, per entry
MARKS_LOOKED_AT = 200  # records of each file whose text is searched for marks of media

_TYPES = {str: "text", bool: "true/false", int: "number", float: "number", list: "list", dict: "object"}


class _Alike(msgspec.Struct):
    """What one record of an outline adds to the counts, and how many more there were."""

    columns: dict[str, int]
    message_keys: dict[str, int]
    roles: dict[str, int]
    empty_answers: int
    times: int = 0


class Observer:
    """Adds record after record to a Scan."""

    def __init__(self, scan: Scan, entry: Entry, media: Path, judge: conversion.Converter) -> None:
        self.scan = scan
        self.entry = entry
        self.media = media
        self.judge = judge
        self.declared_messages = entry.columns.get("messages") if entry.formatting != "alpaca" else None
        self.answer = entry.columns.get("response") if entry.formatting == "alpaca" else None
        self.role_tag, self.content_tag = entry.tags.get("role_tag"), entry.tags.get("content_tag")
        self.seen: dict[str, set[type]] = {}
        self.shapes: set[tuple[Any, ...]] = set()
        self.media_columns = [(kind, c) for kind in conversion.MARKS if (c := entry.columns.get(kind))]
        self.media_asked = 0
        self.media_seen: dict[str, str | None] = {}  # path of a file -> what is wrong with it
        self.marks = [(kind, mark) for kind, mark in conversion.MARKS.items() if not entry.columns.get(kind)]
        self.contents: set[int] = set()
        self.lines: bool | None = None
        self.dated: set[str] = set()  # columns of JSON lines in which every value so far is a date
        self.null_first: set[str] = set()  # columns whose first value is null, of which Arrow makes no times
        self.first_of: dict[str, dict[str, int]] = {}  # path -> type -> record that has it first
        self.hashes: array[int] | None = None  # of all records, where others will compare them
        self.key_shapes: set[tuple[str, ...]] = set()  # keys of the records of one file, each order once
        self.outlines = Outlines(entry)
        self.alike: dict[tuple[Any, ...], _Alike] = {}  # outlines of records that nothing is wrong with

    def look_at(self, rows: Rows, shown: str) -> None:
        """Note these records; those of a known outline are counted, no more."""
        self.lines = rows.lines
        for index, record in enumerate(rows.records):
            if type(record) is not dict:
                self.fault(conversion.NOT_AN_OBJECT, repr(record)[:60], rows, index, shown)
                continue
            if rows.first + index <= MARKS_LOOKED_AT and len(self.scan.marks) < len(self.marks):
                self.look_for_marks(record, rows, index, shown)
            known = self.outlines.of(record)
            if known is not None:
                compared = known[1]
            else:
                try:
                    compared = hash(content(record))
                except RecursionError:  # nested too deep to be compared
                    compared = hash((shown, rows.bytes_read, index))
            if self.hashes is not None:
                self.hashes.append(compared)
            if compared in self.contents:
                self.scan.duplicates += 1
                if self.scan.first_duplicate is None:
                    self.scan.first_duplicate = Example(rows.first + index, shown, rows.position(index), "seen before")
            elif len(self.contents) < MOST_COMPARED:
                self.contents.add(compared)
            outline = known[0] if known is not None and not self.dated else None
            if outline is None:
                self.look(record, rows, index, shown)
            elif (alike := self.alike.get(outline)) is not None:
                alike.times += 1
            elif len(self.alike) < MOST_OUTLINES:
                self.look_first(outline, record, rows, index, shown)
            else:
                self.look(record, rows, index, shown)
        self.scan.read += len(rows.records)

    def look_first(self, outline: tuple[Any, ...], record: Any, rows: Rows, index: int, shown: str) -> None:
        """Look at a record and keep what it added, for those of the same outline; not where anything is at fault."""
        scan, messages = self.scan, self.messages()
        before = _Alike(dict(scan.columns), dict(scan.message_keys), dict(scan.roles), scan.empty_answers)
        usable = scan.usable
        self.look(record, rows, index, shown)
        if self.messages() != messages:  # where the messages stand is known better now: what counts is another
            self.settle()
        elif scan.usable > usable:
            self.alike[outline] = _Alike(
                _gain(before.columns, scan.columns),
                _gain(before.message_keys, scan.message_keys),
                _gain(before.roles, scan.roles),
                scan.empty_answers - before.empty_answers,
            )

    def messages(self) -> tuple[bool, str | None]:
        return self.declared_messages in self.scan.columns, self.scan.messages_column

    @property
    def dates(self) -> list[str]:
        return sorted(self.dated - self.null_first)

    def columns_of_file(self) -> list[str]:
        """The columns of the records since this was last asked."""
        found = sorted({name for shape in self.key_shapes for name in shape})
        self.key_shapes.clear()
        self.settle()
        return found

    def settle(self) -> None:
        """Add what was only counted, and forget the outlines: at the end, and between files, whose keys are compared."""
        scan = self.scan
        for alike in self.alike.values():
            scan.usable += alike.times
            scan.empty_answers += alike.times * alike.empty_answers
            for total, gain in (
                (scan.columns, alike.columns), (scan.message_keys, alike.message_keys), (scan.roles, alike.roles),
            ):  # fmt: skip
                for name, count in gain.items():
                    total[name] += alike.times * count
        self.alike.clear()

    def look(self, record: dict[str, Any], rows: Rows, index: int, shown: str) -> None:
        columns, dated = self.scan.columns, self.dated
        shape = tuple(record)
        if shape not in self.key_shapes and len(self.key_shapes) < MOST_SHAPES:
            self.key_shapes.add(shape)
        for name, value in record.items():
            if value is None:
                if name not in columns and len(columns) < MOST_COLUMNS:
                    columns[name] = 0
                    self.null_first.add(name)
                continue
            kind = type(value)
            if name in columns or len(columns) < MOST_COLUMNS:
                before = columns.get(name, 0)
                columns[name] = before + 1
                if (not before and self.lines) or name in dated:
                    dated.add(name) if kind is str and _DATE.fullmatch(value) else dated.discard(name)
            if kind is int and self.lines is False and not LEAST <= value <= MOST:
                add(self.scan.huge, Example(rows.first + index, shown, rows.position(index), f"{name}: {value}"[:60]))
            elif kind is list:
                self.look_into_list(name, value, rows, index, shown)
            elif kind is dict:
                self.look_into_object(name, value, rows, index, shown)
            self.type_seen(name, kind, rows, index, shown)
        found = self.judge(record)
        if found is None:
            self.scan.usable += 1
            if self.answer is not None and record.get(self.answer) == "":
                self.says_nothing(self.answer, rows, index, shown)
        else:
            self.fault(found[0], found[1], rows, index, shown)
        if self.media_columns and self.media_asked < MEDIA_LOOKED_AT:
            self.look_for_media(record, rows, index, shown)

    def type_seen(self, path: str, kind: type, rows: Rows, index: int, shown: str) -> None:
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
            self.first_of.setdefault(path, {})[name] = rows.first + index
            if len(named) == 2:
                place = rows.position(index)
                self.scan.mixed[path] = Example(rows.first + index, shown, place, f"{name} after {named[0]}")

    def look_into_list(self, name: str, items: list[Any], rows: Rows, index: int, shown: str) -> None:
        messages = False
        for item in items:
            kind = type(item)
            if kind is dict:
                messages = True
                shape = (name, *item, *map(type, item.values()))
                if shape not in self.shapes and len(self.shapes) < MOST_SHAPES:
                    self.shapes.add(shape)
                    self.look_into_object(f"{name}[]", item, rows, index, shown)
            if item is not None:
                self.type_seen(f"{name}[]", kind, rows, index, shown)
        if messages:
            self.count_roles(name, items, rows, index, shown)

    def look_into_object(self, path: str, item: dict[str, Any], rows: Rows, index: int, shown: str) -> None:
        for key, value in item.items():
            if value is not None:
                self.type_seen(f"{path}.{key}", type(value), rows, index, shown)

    def count_roles(self, name: str, items: list[Any], rows: Rows, index: int, shown: str) -> None:
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
                if isinstance(value, str) and len(value) <= LONGEST_ROLE and (key == self.role_tag or key in ROLE_KEYS):
                    word = f"{key}={value}"
                    if word in roles or len(roles) < MOST_ROLES:
                        roles[word] = roles.get(word, 0) + 1
        last = items[-1]
        if isinstance(last, dict) and self.content_tag and last.get(self.content_tag) == "":
            self.says_nothing(self.content_tag, rows, index, shown)

    def says_nothing(self, key: str, rows: Rows, index: int, shown: str) -> None:
        self.scan.empty_answers += 1
        if self.scan.first_empty is None:
            self.scan.first_empty = Example(rows.first + index, shown, rows.position(index), f'"{key}" is empty')

    def look_for_media(self, record: dict[str, Any], rows: Rows, index: int, shown: str) -> None:
        for kind, column in self.media_columns:
            listed = record.get(column)
            if listed:
                self.scan.media_given[column] = self.scan.media_given.get(column, 0) + 1
            for item in listed if isinstance(listed, list) else [listed]:
                if type(item) in (int, float, bool):
                    place = Example(rows.first + index, shown, rows.position(index), f"{item} is a number, no path")
                    add(self.scan.damaged_media.setdefault(kind, Fault(0, [])), place)
                if not isinstance(item, str) or item.startswith(("http://", "https://", "data:")):
                    continue
                self.media_asked += 1
                file = next((p for p in (self.media / item, Path(item)) if os.path.isfile(p)), None)
                if file is not None:
                    self.look_into_media(
                        kind, file, Example(rows.first + index, shown, rows.position(index), item[:200])
                    )
                else:
                    add(self.scan.missing_media, Example(rows.first + index, shown, rows.position(index), item[:200]))
                    if self.scan.missing_media.count == 1:
                        near = (
                            Path(shown).parent,
                            Path(shown).parent / "images",
                            self.media.parent,
                            self.media / "images",
                        )
                        self.scan.media_found_in = next((str(p) for p in near if os.path.isfile(p / item)), None)

    def look_into_media(self, kind: str, file: Path, example: Example) -> None:
        """Each file once: many records may show the same picture."""
        scan, path = self.scan, str(file)
        if path not in self.media_seen:
            self.media_seen[path] = media_files.damage(file, kind)
            size = media_files.pixels(file) if kind == "images" else None
            if size and (
                scan.largest_image is None or size[0] * size[1] > scan.largest_image[0] * scan.largest_image[1]
            ):
                scan.largest_image = size
        if why := self.media_seen[path]:
            said = msgspec.structs.replace(example, text=f"{example.text} {why}")
            add(scan.damaged_media.setdefault(kind, Fault(0, [])), said)

    def look_for_marks(self, record: dict[str, Any], rows: Rows, index: int, shown: str) -> None:
        """Marks of media of which the entry names no column, the first of each kind."""
        texts = " ".join(self.texts(record))
        for kind, mark in self.marks:
            if kind not in self.scan.marks and mark in texts:
                self.scan.marks[kind] = Example(rows.first + index, shown, rows.position(index), mark)

    def texts(self, record: dict[str, Any]) -> Iterator[str]:
        columns = self.entry.columns
        messages = record.get(self.declared_messages) if self.declared_messages else None
        said = [turn.get(self.content_tag) for turn in messages if type(turn) is dict] if type(messages) is list else []
        said += [record.get(columns.get(key) or "") for key in ("prompt", "query", "response")]
        yield from (text for text in said if type(text) is str)

    def fault(self, kind: str, text: str, rows: Rows, index: int, shown: str) -> None:
        fault = self.scan.faults.setdefault(kind, Fault(0, []))
        if len(fault.examples) < EXAMPLES:
            fault.examples.append(Example(rows.first + index, shown, rows.position(index), text))
        fault.count += 1


def _gain(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: gain for name, count in after.items() if (gain := count - before.get(name, 0))}
