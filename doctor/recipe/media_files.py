"""What the head of an image, video or audio file shows, without a decoder: that nothing can read it, and an image's size.

Only what no reader takes is called damaged: Pillow, PyAV and torchaudio know more formats than are named here.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

HEAD = 64
TAIL = 65536  # of a JPEG, whose last mark may have something behind it
MOST_PARTS = 10_000  # chunks of a PNG, boxes of an MP4, marks of a JPEG that are walked over
_PNG = b"\x89PNG\r\n\x1a\n"
# What neither Pillow nor FFmpeg reads, and what is found under such names.
_TEXT = (
    (b"version https://git-lfs", "is a git-lfs pointer"), (b"<!doctype", "is a web page"), (b"<html", "is a web page"),
    (b"<svg", "is an SVG"), (b"<?xml", "is XML"), (b'{"', "is JSON"), (b"%pdf", "is a PDF"), (b"pk\x03\x04", "is a zip"),
)  # fmt: skip
_IMAGES_OF_TEXT = (b"P", b"/*", b"%!PS", b"#define", b"SIMPLE", b"GIF8")  # formats that begin with text
_NO_IMAGE_BRANDS = (b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"qt  ", b"M4V ", b"M4A ")
_BLANKS = str.maketrans("\r\n\t", "   ")
_SIZE_MARKS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOFn: frame headers of a JPEG


def damage(path: Path, kind: str) -> str | None:
    """Why this file of `images`, `videos` or `audios` cannot be read; None where nothing speaks against it."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return _damage(file, size, kind)
    except OSError:
        return None


def _damage(file: BinaryIO, size: int, kind: str) -> str | None:
    head = file.read(HEAD)
    if not head:
        return "is empty"
    if not head.strip(b"\0") and not _anything(file):
        return "holds zeros only"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if told := next((why for word, why in _TEXT if start.startswith(word)), None):
        return told
    if kind == "images":
        if head.isascii() and head.decode().translate(_BLANKS).isprintable():
            return None if head.startswith(_IMAGES_OF_TEXT) else "is text"
        if head[4:8] == b"ftyp" and head[8:12] in _NO_IMAGE_BRANDS:
            return "is a video"
        cut = (
            _png_cut(file, size) if head.startswith(_PNG)
            else _jpeg_cut(file, size) if head.startswith(b"\xff\xd8\xff")
            else head.startswith(b"RIFF") and head[8:12] == b"WEBP" and struct.unpack("<I", head[4:8])[0] + 8 > size
        )  # fmt: skip
        return "is cut off" if cut else None
    if kind == "videos" and head[4:8] == b"ftyp":
        return None if _has_index(file, size) else "is cut off: it has no index (moov)"
    return None


def _anything(file: BinaryIO) -> bool:
    file.seek(0)
    return any(block.strip(b"\0") for block in iter(lambda: file.read(1 << 20), b""))


def _png_cut(file: BinaryIO, size: int) -> bool:
    """Whether a chunk of the picture itself goes on behind the end of the file."""
    at, drawn = len(_PNG), False
    for _ in range(MOST_PARTS):
        file.seek(at)
        chunk = file.read(8)
        if len(chunk) < 8:
            return not drawn  # the mark of the end alone is not missed
        length, name = struct.unpack(">I4s", chunk)
        drawn = drawn or name == b"IDAT"
        if name == b"IEND":
            return False
        if at + 8 + length > size:
            return True
        at += 12 + length
    return False


def _jpeg_cut(file: BinaryIO, size: int) -> bool:
    """Whether the mark of the end is missing: a decoder waits for more."""
    file.seek(max(0, size - TAIL))
    return b"\xff\xd9" not in file.read()


def _has_index(file: BinaryIO, size: int) -> bool:
    """Whether an MP4 has its `moov` box or fragments; it is written last, so a broken download lacks it."""
    at = 0
    for _ in range(MOST_PARTS):
        file.seek(at)
        box = file.read(16)
        if len(box) < 8:
            return False
        length, name = struct.unpack(">I4s", box[:8])
        if name in (b"moov", b"moof"):
            return True
        if length == 1 and len(box) == 16:
            length = struct.unpack(">Q", box[8:])[0]
        if length < 8 or at + length >= size:
            return False
        at += length
    return True


def pixels(path: Path) -> tuple[int, int] | None:
    """Width and height of a PNG or JPEG; None for others and for what cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(26)
            if head.startswith(_PNG) and len(head) == 26:
                wide, high = struct.unpack(">II", head[16:24])
                return wide, high
            return _jpeg_pixels(file) if head.startswith(b"\xff\xd8\xff") else None
    except OSError:
        return None


def _jpeg_pixels(file: BinaryIO) -> tuple[int, int] | None:
    at = 2
    for _ in range(MOST_PARTS):
        file.seek(at)
        mark = file.read(9)
        if len(mark) < 9 or mark[0] != 0xFF:
            return None
        if mark[1] in _SIZE_MARKS:
            high, wide = struct.unpack(">HH", mark[5:9])
            return wide, high
        at += 2 + struct.unpack(">H", mark[2:4])[0]
    return None
