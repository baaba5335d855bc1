"""Records of a CSV file as pandas makes them for `datasets`: a column of numbers alone is no text, NA and null are nothing.

pandas types a column by chunks of 10,000 rows; the first chunk decides what the column is in the table.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from doctor.recipe import json_faults

CHUNK = 10_000  # rows, as the loader reads them
MOST_TEXT = 32 << 20  # characters of a chunk; a larger one is typed by its beginning

# What pandas reads as a missing value (pandas._libs.parsers.STR_NA_VALUES).
MISSING = frozenset(("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
                     "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"))  # fmt: skip
_NUMBER = re.compile(r"\s*[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\s*")
_BOOLEAN = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}

Row = tuple[dict[str, Any], int, int]  # record, its number (1-based), its line


def read(path: Path) -> Iterator[Row]:
    """Raises json_faults.BadData, OSError, UnicodeDecodeError."""
    csv.field_size_limit(1 << 30)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines: list[str] = []
            reader = csv.reader(_kept(file, lines))
            header = next(reader, None)
            if header is None:
                raise json_faults.BadData(json_faults.EMPTY, 1, 1, 0, "")
            numeric: set[str] | None = None
            for chunk in _chunks(reader, header, lines):
                found = {name for name in header if _is_numeric(row[0].get(name) for row in chunk)}
                numeric = found if numeric is None else numeric & found
                for row in chunk:
                    for name in numeric:
                        row[0][name] = _number(row[0][name])
                yield from chunk
    except csv.Error as error:
        raise json_faults.BadData(json_faults.NOT_JSON, 1, 1, 0, str(error)) from None


def _kept(file: Iterable[str], lines: list[str]) -> Iterator[str]:
    """The lines of a file; those of the row that is being read are kept."""
    for line in file:
        lines.append(line)
        yield line


def _left_open(lines: list[str]) -> bool:
    """Whether the last row ends inside quotation marks: pandas refuses the file."""
    try:
        list(csv.reader(lines, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _chunks(reader: Any, header: list[str], lines: list[str]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    size, number = 0, 1
    last: list[str] = []
    lines.clear()
    for row in reader:
        last = lines.copy()
        lines.clear()
        if not row:
            continue
        if len(row) > len(header):
            text = f"{len(row)} fields where the header has {len(header)}"
            yield chunk
            raise json_faults.BadData(json_faults.NOT_JSON, reader.line_num, 1, number, text)
        values: dict[str, Any] = dict.fromkeys(header)  # a short row lacks its last columns
        values |= {name: None if cell in MISSING else cell for name, cell in zip(header, row, strict=False)}
        chunk.append((values, number, reader.line_num))
        number += 1
        size += sum(map(len, row))
        if len(chunk) >= CHUNK or size > MOST_TEXT:
            yield chunk
            chunk, size = [], 0
    yield chunk
    if _left_open(last):
        text = "a quotation mark that is never closed"
        raise json_faults.BadData(json_faults.NOT_JSON, reader.line_num - len(last) + 1, 1, number - 1, text)


def _is_numeric(cells: Iterator[Any]) -> bool:
    """Whether every cell that holds something is a number, or every one true or false."""
    kinds: set[type] = set()
    for cell in cells:
        if cell is None:
            continue
        if cell in _BOOLEAN:
            kinds.add(bool)
        elif _NUMBER.fullmatch(cell):
            kinds.add(float)
        else:
            return False
        if len(kinds) > 1:
            return False
    return bool(kinds)


def _number(cell: str | None) -> bool | int | float | None:
    if cell is None:
        return None
    if cell in _BOOLEAN:
        return _BOOLEAN[cell]
    return int(cell) if re.fullmatch(r"\s*[-+]?\d{1,18}\s*", cell) else float(cell)
