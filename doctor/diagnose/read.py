"""Logs as they are: opens a path, a directory or standard input and yields blocks of UTF-8-like bytes.

Nothing is held: memory is a few blocks whatever the length. Blocks end anywhere, also within a line. Colours and
carriage returns stay in (lines.py takes them out of the few lines that matter); NUL bytes and UTF-16 are normalised
here, because a search for words needs it.
"""

from __future__ import annotations

import codecs
import gzip
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from doctor.diagnose import carried
from doctor.errors import BadInput

BLOCK = 1 << 18  # bytes; 256 KiB stays in the second-level cache while it is searched
MAX_FILES = (
    20000  # of one directory: a thousand nodes of 8 ranks, two streams each; the first rank to fail has the oldest log
)
MAX_DEPTH = 5  # torchrun: <log dir>/<run id>/attempt_0/<rank>/stdout.log
LOG_NAMES = re.compile(
    r"(?i)\.(?:log|out|err|txt)(?:[.-]?\d+)?(?:\.(?:gz|zst))?$|\.[oe]\d+$|^(?:stdout|stderr|nohup)\b"
)
NOT_LOGS = re.compile(
    r"(?i)^(?:requirements.*|merges|vocab|license|readme.*|added_tokens|top_level|entry_points)\.txt$"
)
MAGIC = {
    b"\x7fELF": "an ELF binary",
    b"PK\x03\x04": "a zip archive (or a torch checkpoint)",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"%PDF-": "a PDF document",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"SQLite format 3\x00": "an SQLite database",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x93NUMPY": "a NumPy array",
}
# Bytes that no text has in any encoding met in logs; bell, backspace, shift in and out and escape are a terminal's.
CONTROLS = bytes([*range(1, 7), *range(16, 27), *range(28, 32), 127])
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class UnreadableLog(BadInput):
    """No log could be read; the message is one sentence for the user."""


@dataclass
class Stream:
    """One log: its name, the rank or node its place tells, and a way to read it (possibly more than once).

    `notes` grows while the stream is read: what was odd about it, one sentence each.
    """

    name: str
    open: Callable[[], Iterator[bytes]]
    rank: int | None = None
    notes: list[str] = field(default_factory=list)


def streams(source: str | Path) -> list[Stream]:
    """The logs behind one source: "-" is standard input, a directory gives one stream for each log in it.

    Raises UnreadableLog when there is nothing to read.
    """
    if str(source) == "-":
        return [_stream("standard input", lambda: sys.stdin.buffer)]
    path = Path(source).expanduser()
    if path.is_dir():
        return _directory(path)
    if not path.exists():
        raise UnreadableLog(f"{path}: no such file or directory")
    if not path.is_file() and not path.is_fifo():
        raise UnreadableLog(f"{path}: is neither a file nor a directory")
    return [_file(path, None)]


def _file(path: Path, rank: int | None, name: str | None = None) -> Stream:
    def opener() -> BinaryIO:
        try:
            return open(path, "rb", buffering=0)
        except OSError as error:
            raise UnreadableLog(f"{path}: {error.strerror or error}") from error

    return _stream(name or path.name, opener, rank)


def _directory(root: Path) -> list[Stream]:
    """Logs of a directory, in the order of their ranks; of several torchrun attempts only the last one counts."""
    files = [p for p in _walk(root, MAX_DEPTH) if LOG_NAMES.search(p.name) and not NOT_LOGS.match(p.name)]
    if not files:
        raise UnreadableLog(f"{root}: holds no log (files named *.log, *.txt, *.out, *.err, stdout or stderr)")
    notes = []
    attempts = {a for p in files if (a := _attempt(p, root)) is not None}
    if len(attempts) > 1:
        last = max(attempts)
        files = [p for p in files if _attempt(p, root) in (None, last)]
        notes.append(f"{root.name} holds {len(attempts)} attempts; attempt {last}, the last one, is judged.")
    if len(files) > MAX_FILES:
        notes.append(f"{root.name} holds {len(files)} logs; the newest {MAX_FILES} were read.")
        files = sorted(files, key=lambda p: p.stat().st_mtime, reverse=True)[:MAX_FILES]
    files.sort(key=lambda p: (_rank(p, root) is None, _rank(p, root) or 0, str(p)))
    found = [_file(p, _rank(p, root), str(p.relative_to(root))) for p in files]
    found[0].notes.extend(notes)
    return found


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UnreadableLog(f"{folder}: {error.strerror or error}") from error
    for entry in entries:
        if entry.is_file():
            yield entry
        elif depth > 1 and entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
            yield from _walk(entry, depth - 1)


def _attempt(path: Path, root: Path) -> int | None:
    for part in path.relative_to(root).parts[:-1]:
        if match := re.fullmatch(r"attempt_(\d+)", part):
            return int(match[1])
    return None


def _rank(path: Path, root: Path) -> int | None:
    """The rank that a place tells: torchrun's `<rank>/stderr.log`, or a name such as `rank3.log`, `rank_3.err`."""
    parent = path.relative_to(root).parts[-2:-1] or (root.name,)
    if re.fullmatch(r"\d{1,5}", parent[0]) and path.name.startswith(("stdout", "stderr")):
        return int(parent[0])
    match = re.search(r"(?i)rank[_-]?(\d{1,5})", path.name)
    return int(match[1]) if match else None


def _stream(name: str, opener: Callable[[], BinaryIO], rank: int | None = None) -> Stream:
    stream = Stream(name=name, open=lambda: iter(()), rank=rank)
    stream.open = lambda: _blocks(opener(), stream)
    return stream


def _blocks(handle: BinaryIO, stream: Stream) -> Iterator[bytes]:
    """Decompressed and decoded. Closes the handle."""
    try:
        head = _read(handle, BLOCK)
        if head.startswith(ZSTD):
            pieces = _zstd(head, handle, stream)
        elif head.startswith(GZIP):
            pieces = _gunzip(head, handle, stream)
        else:
            for magic, what in MAGIC.items():
                if head.startswith(magic):
                    raise UnreadableLog(f"{stream.name}: is {what}, not a text log")
            pieces = _plain(head, handle)
        yield from carried.as_written(_decoded(pieces, stream), stream.notes, stream.name)
    except OSError as error:
        raise UnreadableLog(f"{stream.name}: {error.strerror or error}") from error
    finally:
        if handle is not sys.stdin.buffer:
            handle.close()


def _read(handle: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes; an unbuffered pipe gives what is there, so a short read is no end of file."""
    first = handle.read(size) or b""
    while len(first) < 4 and (more := handle.read(size)):  # enough to see a magic number
        first += more
    return first


def _plain(head: bytes, handle: BinaryIO) -> Iterator[bytes]:
    while head:
        yield head
        head = handle.read(BLOCK) or b""


class _Joined:
    """A head that was read already, then the rest of the file (what GzipFile needs; stdin cannot seek)."""

    def __init__(self, head: bytes, handle: BinaryIO) -> None:
        self._head, self._handle = head, handle

    def read(self, size: int = -1) -> bytes:
        if self._head:
            size = len(self._head) if size < 0 else size
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        return self._handle.read(size) or b""


def _gunzip(head: bytes, handle: BinaryIO, stream: Stream) -> Iterator[bytes]:
    unzipped = gzip.GzipFile(fileobj=_Joined(head, handle), mode="rb")  # type: ignore[call-overload]
    try:
        while block := unzipped.read1(BLOCK):
            yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        stream.notes.append(
            f"{stream.name}: the gzip data ends early or is damaged ({error}); what came before was read."
        )


def _zstd(head: bytes, handle: BinaryIO, stream: Stream) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise UnreadableLog(
            f"{stream.name}: is compressed with zstd; install the Python package zstandard, "
            "or unpack it with `zstd -d` first"
        ) from error
    reader = zstandard.ZstdDecompressor().stream_reader(_Joined(head, handle), read_across_frames=True)  # type: ignore[arg-type]
    try:
        while block := reader.read(BLOCK):
            yield block
    except zstandard.ZstdError as error:
        stream.notes.append(f"{stream.name}: the zstd data is damaged ({error}); what came before was read.")


def _decoded(pieces: Iterator[bytes], stream: Stream) -> Iterator[bytes]:
    """UTF-16 becomes UTF-8, NUL bytes vanish (a log truncated while it was written has runs of them)."""
    first = next(pieces, b"")
    encoding = _utf16(first)
    if encoding is None:
        if _is_binary(first):
            raise UnreadableLog(f"{stream.name}: is binary data, not a text log")
        yield first.replace(b"\0", b"")
        for piece in pieces:
            yield piece if b"\0" not in piece else piece.replace(b"\0", b"")
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    yield decoder.decode(first).lstrip("\ufeff").encode("utf-8", "replace")
    for piece in pieces:
        yield decoder.decode(piece).encode("utf-8", "replace")
    yield decoder.decode(b"", True).encode("utf-8", "replace")


def _is_binary(first: bytes) -> bool:
    """Whether more than one byte in twenty is none of a text's: of random bytes it is one in twelve."""
    sample = first[:65536].replace(b"\0", b"")
    return len(sample) - len(sample.translate(None, CONTROLS)) > max(20, len(sample) / 20)


def _utf16(first: bytes) -> str | None:
    """PowerShell's `>` writes UTF-16 with a mark; some tools write it without. Text has its NULs on one side only."""
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    sample = first[:4096]
    if len(sample) < 8:
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > 0.7 * half and even < 0.05 * half:
        return "utf-16-le"
    if even > 0.7 * half and odd < 0.05 * half:
        return "utf-16-be"
    return None
