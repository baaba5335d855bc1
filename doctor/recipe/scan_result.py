"""What reading the data of one entry gives: counts, faults with their first examples, where a file stops being readable."""

from __future__ import annotations

from typing import Any

import msgspec

EXAMPLES = 5  # records named per kind of fault


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
    first_empty: Example | None = None
    missing_media: Fault = msgspec.field(default_factory=Fault)
    media_given: dict[str, int] = {}  # column -> records that hold at least one, of those that were looked at
    media_found_in: str | None = None  # a folder in which the first missing file does lie
    damaged_media: dict[str, Fault] = {}  # images, videos or audios -> records with a file that no reader takes
    largest_image: tuple[int, int] | None = None  # width and height, of the PNG and JPEG files looked at
    marks: dict[str, Example] = {}  # images, videos or audios of no column -> the first record with their mark
    broken: BrokenFile | None = None
    file_columns: dict[str, list[str]] = {}  # file -> the columns that any of its records has
    duplicates: int = 0  # records whose content was seen before, of the first MOST_COMPARED different ones
    first_duplicate: Example | None = None
    numbers: list[str] = []  # columns of a Parquet file that hold numbers, or true and false
    dates: list[str] = []  # columns of JSON lines in which every text is a date: Arrow makes times of them
    huge: Fault = msgspec.field(default_factory=Fault)  # whole numbers that Arrow cannot hold, in a JSON list
    unread: str | None = None  # why the records of these files were not read


class Rows(msgspec.Struct):
    """Consecutive records and where they stand."""

    records: list[Any]
    first: int
    position: Any  # index within the batch -> line
    bytes_read: int
    lines: bool | None = None  # of JSON: one record a line, which Arrow reads itself; else a list, which Python reads


def add(fault: Fault, example: Example) -> None:
    """One record more at this fault; the first of them are kept as examples."""
    if len(fault.examples) < EXAMPLES:
        fault.examples = [*fault.examples, example]
    fault.count += 1
