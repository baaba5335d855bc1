"""What is wrong with a data file that is not the JSON that `datasets` reads, and where: for people, so in their words."""

from __future__ import annotations

import json
import re

# Kinds of BadData
EMPTY = "empty file"
TRUNCATED = "truncated"
CONCATENATED = "several lists in one file"
TRAILING_COMMA = "trailing comma"
MISSING_COMMA = "missing comma"
EXTRA_DATA = "text after the end"
BYTE_ORDER_MARK = "byte order mark before a list"
LFS_POINTER = "git-lfs pointer"
HTML = "HTML page"
PYTHON = "written by Python, not as JSON"
NOT_JSON = "not JSON"
ENCODING = "not UTF-8"
TOO_LARGE = "record too large to read"

_PYTHON_TEXT = re.compile(r"'|(?:True|False|None)\b")


class BadData(Exception):
    """The file stops being readable JSON. `line` and `column` are 1-based, `record` is the number of the record at fault."""

    def __init__(self, kind: str, line: int, column: int, record: int, text: str, encoding: str | None = None) -> None:
        super().__init__(f"{kind} at line {line}, column {column}: {text}")
        self.kind, self.line, self.column, self.record, self.text = kind, line, column, record, text
        self.encoding = encoding


def at_start(head: bytes) -> BadData | None:
    """What a file is that begins as no JSON does; None where that is not clear from its beginning."""
    start = head[:200].lower()
    if start.startswith(b"version https://git-lfs"):
        return BadData(LFS_POINTER, 1, 1, 1, excerpt(head))
    if start.startswith((b"<!doctype", b"<html")):
        return BadData(HTML, 1, 1, 1, excerpt(head))
    return None


def in_value(raw: bytes, line: int, record: int, ended: bool, error: Exception | None) -> BadData:
    """What is wrong with `raw`, which begins on `line` and is no complete value.

    `ended`: the file ends with it. `error`: what the decoder said of a value whose end was found.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as wrong:
        cut = wrong.reason == "unexpected end of data" and wrong.end == len(raw) and ended
        if not cut:
            encoding = guess_encoding(raw)
            where = line + raw.count(b"\n", 0, wrong.start)
            shown = raw[max(0, wrong.start - 10) : wrong.start + 20].decode(encoding or "latin-1", "replace")
            return BadData(ENCODING, where, 1, record, shown, encoding)
        text = raw[: wrong.start].decode("utf-8")
    try:
        json.JSONDecoder(strict=False).raw_decode(text.lstrip())
    except json.JSONDecodeError as wrong:
        stripped = text.lstrip()
        line += text[: len(text) - len(stripped)].count("\n")
        cut = wrong.pos >= len(stripped.rstrip()) or wrong.msg.startswith("Unterminated string")
        kind = TRUNCATED if cut and error is None else NOT_JSON
        near = stripped[max(0, wrong.pos - 20) : wrong.pos + 30]
        if kind == NOT_JSON and _PYTHON_TEXT.match(stripped, wrong.pos):
            kind = PYTHON
        return BadData(kind, line + wrong.lineno - 1, wrong.colno, record, " ".join(near.split()))
    except (ValueError, RecursionError):
        pass  # too many digits or too deep: no position, named below
    return BadData(NOT_JSON, line, 1, record, excerpt(raw))


def excerpt(raw: bytes) -> str:
    return " ".join(raw[:80].decode("utf-8", "replace").split())


def guess_encoding(raw: bytes) -> str | None:
    """The encoding that decodes `raw` and gives mostly letters: gb18030 (GBK and GB2312 are parts of it), Big5, cp1252."""
    for encoding in ("gb18030", "big5", "shift_jis", "euc_kr", "cp1252"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError as wrong:
            if wrong.end < len(raw) - 4:  # a character cut off at the end of the sample says nothing
                continue
            text = raw[: wrong.start].decode(encoding)
        foreign = [c for c in text if ord(c) > 127]
        letters = sum(c.isalpha() or c in "，。、；：？！“”‘’（）《》—…·「」　" for c in foreign)
        if foreign and letters >= 0.9 * len(foreign):
            return encoding
    return None
