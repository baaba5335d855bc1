"""Reads the data of one entry as far as the time allows and sums up what the loader and the converter will make of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from doctor.recipe import (
    arrow_records,
    conversion,
    csv_records,
    data_workers,
    json_faults,
    json_records,
    parquet_footer,
)
from doctor.recipe.dataset_info import Entry
from doctor.recipe.record_observer import Observer
from doctor.recipe.scan_result import BrokenFile, Rows, Scan

NOT_AS_NAMED = "not what its name says"  # kind of a BrokenFile, beside json_records' kinds


def scan(
    entry: Entry,
    files: list[tuple[Path, str]],
    loader: str,
    stage: str,
    media: Path,
    until: float,
    tell: Callable[[int, int], None] | None = None,
    python: Path | None = None,
) -> Scan:
    """Read `files` (path and name to show) until the monotonic clock passes `until`. Never raises for what a file holds.

    `python`: the interpreter whose pyarrow reads Parquet and Arrow files.
    `tell` hears the bytes read and the bytes of all files, batch by batch.
    """
    size = sum(_size(path) for path, _ in files)
    if loader == "json" and size >= data_workers.LEAST and not any(_packed(path) for path, _ in files):
        result = Scan(bytes_total=size)
        if data_workers.read(entry, files, stage, media, until, result, tell):
            return result
    result = Scan(bytes_total=size)
    observer = Observer(result, entry, media, conversion.converter(entry, stage))
    _read(files, loader, until, observer, tell, python)
    observer.settle()
    return result


def _read(
    files: list[tuple[Path, str]],
    loader: str,
    until: float,
    observer: Observer,
    tell: Callable[[int, int], None] | None,
    python: Path | None,
) -> None:
    result = observer.scan
    before = 0
    for path, shown in files:
        try:
            for rows in _rows(path, loader, result, python, until):
                observer.look_at(rows, shown)
                result.bytes_read = before + rows.bytes_read
                if tell:
                    tell(result.bytes_read, result.bytes_total)
                if time.monotonic() > until:
                    return
        except json_faults.BadData as bad:
            result.broken = BrokenFile(shown, bad.kind, bad.line, bad.column, bad.record, bad.text[:80], bad.encoding)
            return
        except parquet_footer.NotParquet as why:
            result.broken = BrokenFile(shown, NOT_AS_NAMED, 1, 1, 0, str(why))
            return
        except (parquet_footer.Unreadable, arrow_records.NotRead) as why:
            result.unread = f"{shown}: {why}"
            return
        except OSError as error:
            result.unread = f"{shown} cannot be read ({error.strerror})"
            return
        before += _size(path)
        if loader != "text" and len(files) > 1:
            result.file_columns[shown] = observer.columns_of_file()
    result.complete = result.unread is None
    result.dates = observer.dates


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _rows(path: Path, loader: str, result: Scan, python: Path | None, until: float) -> Iterator[Rows]:
    if loader in ("json", "csv", "text") and _packed(path):
        raise parquet_footer.Unreadable("it is compressed; `datasets` unpacks it, whatever its name")
    if loader == "json":
        lines = not _is_list(path)
        for batch in json_records.read(path):
            yield Rows(batch.records, batch.first, batch.line_of, batch.end, lines)
    elif loader == "csv":
        yield from _csv_rows(path)
    elif loader == "text":
        yield from _text_rows(path)
    elif loader == "parquet":
        footer = parquet_footer.read(path)
        result.rows = (result.rows or 0) + footer.rows
        before = dict(result.columns)
        result.columns |= {name: footer.rows for name in footer.columns}
        result.numbers += [name for name in footer.numbers if name not in result.numbers]
        by_footer = True
        for rows in _arrow_rows(path, loader, python, until):
            if by_footer:  # what the footer says was for a file whose records are not read
                result.columns, by_footer = before, False
            yield rows
    else:
        if loader == "arrow" and not _arrow_starts(path):
            raise parquet_footer.NotParquet("it does not begin as an Arrow file")
        yield from _arrow_rows(path, loader, python, until)


def _arrow_rows(path: Path, loader: str, python: Path | None, until: float) -> Iterator[Rows]:
    first = 1
    for records in arrow_records.read(path, loader, python, until):
        yield Rows(records, first, lambda index, first=first: first + index, 0)
        first += len(records)


def _packed(path: Path) -> bool:
    """Whether a file begins as gzip, bzip2, xz or Zstandard do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"))


def _is_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _csv_rows(path: Path) -> Iterator[Rows]:
    try:
        for values, number, line in csv_records.read(path):
            yield Rows([values], number, lambda index, line=line: line, 0)
    except UnicodeDecodeError:
        raise _encoding_fault(path) from None


def _arrow_starts(path: Path) -> bool:
    """Whether a file begins as Arrow's do: the magic of the file format, or the first message of a stream."""
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith((b"ARROW1", b"\xff\xff\xff\xff"))


def _text_rows(path: Path) -> Iterator[Rows]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield Rows([{"text": line.rstrip("\n")}], number, lambda index, number=number: number, 0)
    except UnicodeDecodeError:
        raise _encoding_fault(path) from None


def _encoding_fault(path: Path) -> json_faults.BadData:
    """Where a text file stops being UTF-8, and the encoding that it probably has. Reads the file up to there."""
    line, number = 1, 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError as wrong:
                encoding = json_faults.guess_encoding(raw + b"\n".join(file.readlines(1 << 16)))
                near = raw[max(0, wrong.start - 10) : wrong.start + 20].decode(encoding or "latin-1", "replace")
                return json_faults.BadData(json_faults.ENCODING, number, 1, number, near.strip(), encoding)
    return json_faults.BadData(json_faults.ENCODING, line, 1, number, "", None)
